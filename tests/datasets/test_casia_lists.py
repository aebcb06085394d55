"""The lists of CASIA-SURF: oddities in circulation are understood, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets._casia.lists import Sample, read_list
from datasets._casia.protocols import leave_one_out, limited, read_lists, splits, unlike_published
from harness.errors import UserError

REAL = "Training/real_part/CLKJ_AS0005/real.rssdk"
FAKE = "Training/fake_part/CLKJ_AS0005/04_en_b.rssdk"


def triple(place: str, number: int) -> str:
    return f"{place}/color/{number}.jpg {place}/depth/{number}.jpg {place}/ir/{number}.jpg"


GOOD = [f"{triple(REAL, 1)} 1", f"{triple(FAKE, 101)} 0", f"{triple(REAL, 11)} 1"]


def written(folder: Path, text: str | bytes, name: str = "train_list.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_list_as_it_is_distributed(tmp_path: Path) -> None:
    listing = read_list(written(tmp_path, "\n".join(GOOD) + "\n"), "train")
    assert [sample.label for sample in listing.samples] == [1, 0, 1]
    assert listing.samples[1] == Sample(
        (f"{FAKE}/color/101.jpg", f"{FAKE}/depth/101.jpg", f"{FAKE}/ir/101.jpg"),
        0,
        "CLKJ_AS0005",
        "04_en_b.rssdk",
    )
    assert listing.remarks == ()


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(
            GOOD
        ),  # no final newline: a reader that drops the last character loses the last label
        "\r\n".join(GOOD) + "\r\n",
        "\ufeff" + "\n".join(GOOD) + "\n\n",
        " \n".join(GOOD) + " \n",
        "\n".join(GOOD).replace(" ", "\t"),
        "\n".join(f"{line}.0" for line in GOOD),
    ],
    ids=["no final newline", "CRLF", "byte-order mark", "trailing space", "tabs", "float labels"],
)
def test_oddities_that_change_nothing(text: str, tmp_path: Path) -> None:
    plain = read_list(written(tmp_path, "\n".join(GOOD) + "\n", "plain.txt"), "train")
    assert read_list(written(tmp_path, text), "train") == plain


def test_files_are_told_by_name_where_the_order_is_another(tmp_path: Path) -> None:
    color, depth, ir, label = GOOD[1].split()
    listing = read_list(
        written(tmp_path, f"{GOOD[0]}\n{color} {ir} {depth} {label}\n{GOOD[2]}\n"), "train"
    )
    assert listing.samples[1].files == (color, depth, ir)
    assert (
        len(listing.remarks) == 1
        and "line 2" in listing.remarks[0]
        and "order" in listing.remarks[0]
    )


def block(number: int, archive: str = "Val") -> str:
    stem = f"{archive}/{number // 1000:04}/{number:06}"
    return f"{stem}-color.jpg {stem}-depth.jpg {stem}-ir.jpg"


def test_val_and_test_lines(tmp_path: Path) -> None:
    val = read_list(written(tmp_path, f"{block(9607)} 0\n{block(3)} 1"), "val")
    assert [(sample.files[2], sample.label) for sample in val.samples] == [
        ("Val/0009/009607-ir.jpg", 0),
        ("Val/0000/000003-ir.jpg", 1),
    ]
    test = read_list(written(tmp_path, f"{block(57709, 'Testing')} 0\n"), "test")
    assert test.samples[0].files[0] == "Testing/0057/057709-color.jpg"


MISTAKES = {
    "public list": (
        "val",
        f"{block(1)} \n{block(2)} \n",
        ["2 lines without a label", "on request", "leave_out_4"],
    ),
    "labels 1 and 2": (
        "train",
        f"{triple(FAKE, 1)} 1\n{triple(REAL, 2)} 2\n{triple(REAL, 3)} 2",
        ["2 lines", "line 2 (2)", "1 for live"],
    ),
    "labels -1 and 1": (
        "val",
        f"{block(1)} -1\n{block(2)} 1\n",
        ["1 line with a label", "line 1 (-1)"],
    ),
    "swapped": (
        "train",
        f"{triple(REAL, 1)} 0\n{triple(FAKE, 2)} 1\n",
        ["2 lines", "contradicts", "real_part is 1"],
    ),
    "comma": (
        "train",
        "rgb,depth,ir,label\na,b,c,0\n",
        ["2 lines", "separated by one space", "rgb,depth,ir,label"],
    ),
    "two fields": ("train", f"{GOOD[0]}\n{REAL}/color/1.jpg 1\n", ["1 line", "line 2"]),
    "five fields": ("train", f"{GOOD[0]} 0\n", ["1 line", "four fields"]),
    "prefix": (
        "train",
        "".join(f"{line.replace('Training/', 'train/Training/')}\n" for line in GOOD),
        ["3 lines", "something before Training/", "train/Training/", "take it out"],
    ),
    "absolute": (
        "train",
        GOOD[0].replace("Training", "/data/Training") + "\n",
        ["leaves the root", "relative"],
    ),
    "parent": (
        "train",
        f"{GOOD[0]}\n" + GOOD[1].replace("fake_part", "fake_part/../.."),
        ["line 2", "leaves the root"],
    ),
    "drive": ("val", block(1).replace("Val", "C:/Val") + " 1", ["leaves the root"]),
    "other names": ("train", "a/b/1.jpg a/c/1.jpg a/d/1.jpg 1\n", ["neither Training/"]),
    "other archive": ("val", f"{block(1, 'Testing')} 1\n", ["another archive", "changed names"]),
    "two samples": (
        "val",
        f"{block(1).rsplit(' ', 1)[0]} {block(2).rsplit(' ', 1)[1]} 1\n",
        ["same sample", "line 1"],
    ),
    "color twice": (
        "val",
        f"{block(1).replace('depth', 'color')} 1\n",
        ["one color, one depth and one ir"],
    ),
    "duplicates": (
        "train",
        "\n".join([*GOOD, GOOD[0]]),
        ["1 sample listed more than once", "line 1", "line 4"],
    ),
    "duplicates, two labels": (
        "val",
        f"{block(1)} 1\n{block(2)} 0\n{block(1)} 0\n",
        ["1 sample listed more than once", "line 3"],
    ),
    "empty": ("train", "\n\n", ["is empty"]),
    "not text": ("train", b"\xff\xd8\xff\xe0", ["not a text file"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name: str, tmp_path: Path) -> None:
    split, text, parts = MISTAKES[name]
    with pytest.raises(UserError) as caught:
        read_list(written(tmp_path, text), split)
    message = str(caught.value)
    assert "\n" not in message and "train_list.txt" in message
    assert all(part in message for part in parts), message


def test_the_first_three_of_many_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"9 lines without a label: line 1 .*, line 2 .*, line 3 .* and 6 more;"
    ):
        read_list(written(tmp_path, "".join(f"{block(number)} \n" for number in range(9))), "val")


# ---------------------------------------------------------------------- protocols


def people(number: int) -> list[Sample]:
    """Per subject: two live samples, and one of each attack of the training archive."""
    samples = []
    for person in range(number):
        subject = f"CLKJ_BS{person:04}"
        for frame, session in enumerate(
            ["real.rssdk", "real.rssdk", "04_en_b.rssdk", "05_enm_s.rssdk", "06_enm_b.rssdk"]
        ):
            place = f"Training/{'real' if frame < 2 else 'fake'}_part/{subject}/{session}"
            color, depth, ir = triple(place, frame).split()
            samples.append(Sample((color, depth, ir), int(frame < 2), subject, session))
    return samples


def test_leave_one_out_shares_neither_subject_nor_attack() -> None:
    samples, tested = people(60), list[Sample]()
    for held_out, others in (("04", {"05", "06"}), ("05", {"04", "06"}), ("06", {"04", "05"})):
        found = leave_one_out(samples, held_out)
        subjects = [
            {sample.subject for sample in found[split]} for split in ("train", "val", "test")
        ]
        assert [len(names) for names in subjects] == [30, 10, 20] and len(
            set.union(*subjects)
        ) == 60
        attacks = [
            {sample.session[:2] for sample in found[split] if not sample.label}
            for split in ("train", "val", "test")
        ]
        assert attacks == [others, others, {held_out}]
        # 2 live samples and 2 (test: 1) attacks per subject: nothing else is left out.
        assert [len(found[split]) for split in ("train", "val", "test")] == [30 * 4, 10 * 4, 20 * 3]
        tested += [sample for sample in found["test"] if sample.label]
    assert sorted(s.files for s in tested) == sorted(s.files for s in samples if s.label)


def test_a_split_without_attacks_is_refused() -> None:
    live = tuple(sample for sample in people(6) if sample.label)
    with pytest.raises(UserError, match="train has no attacks"):
        splits({"train": live}, "leave_out_5")


def test_published_counts() -> None:
    live, attack = (Sample(("a", "b", "c"), label) for label in (1, 0))
    assert unlike_published({"train": (live,) * 8942 + (attack,) * 20324}) == []
    assert unlike_published({"test": (live,) * 17458 + (attack,) * 40252}) == []
    [sentence] = unlike_published({"val": (live,) * 2994 + (attack,) * 6613})
    assert "9,607" in sentence and "9,608" in sentence and "swapped" not in sentence
    [sentence] = unlike_published({"val": (live,) * 6614 + (attack,) * 2994})
    assert "6,614 of them live" in sentence and "swapped" in sentence


@pytest.mark.parametrize(
    ("limit", "live"), [(1, 0), (2, 1), (10, 4), (25, 10), (99, 40), (100, 40), (None, 40)]
)
def test_a_limit_keeps_the_proportion_and_the_order(limit: int | None, live: int) -> None:
    samples = people(20)
    chosen = limited(samples, limit)
    assert len(chosen) == min(limit or 100, 100) and sum(sample.label for sample in chosen) == live
    places = [samples.index(sample) for sample in chosen]
    assert places == sorted(set(places))


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(UserError, match=r"train_list\.txt does not exist; dataset\.root must be"):
        read_lists(root, "paper")
    written(root, "\n".join(GOOD))
    written(root, f"{block(1)} \n", "val_public_list.txt")
    with pytest.raises(
        UserError,
        match=(
            r"val_private_list\.txt and test_private_list\.txt are not in .*organisers .* on"
            r" request"
        ),
    ):
        read_lists(root, "paper")
    assert len(read_lists(root, "leave_out_6")[0]["train"]) == 3
    with pytest.raises(UserError, match=f"; {root} has one"):
        read_lists(tmp_path, "paper")
