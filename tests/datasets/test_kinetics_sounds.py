"""Kinetics-Sounds: class lists, pairing by id, folder names, published lists, splits by video."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets._media.kinetics_classes import CLASSES, class_of, spoken
from datasets._synthetic import mark
from datasets.kinetics_sounds import KineticsSounds, read_list, start_second, truncated, youtube_id
from datasets.samples import kinetics_sounds
from harness.errors import UserError
from harness.testing import check_dataset
from tests.support.clips import (
    accuracies_by_hand,
    heard,
    opened_as,
    published,
    seen,
    write_grey,
    write_number,
)

LETTERS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
TWO = ("bowling", "tapping pen")


def videos(count: int, letters: str = LETTERS) -> list[str]:
    """Names YTID_START_END whose ids begin with each of the letters in turn."""
    return [f"{letters[n % len(letters)]}{n:010d}_{n:06d}_{n + 10:06d}" for n in range(count)]


def write_part(
    root: Path, audio: str, visual: str, names: Sequence[str], first: int = 0
) -> dict[str, int]:
    """Clips of two classes in turn.

    The n-th has n in its sound and in the middle one of its three frames.
    """
    numbers = {name: first + n for n, name in enumerate(names)}
    for n, name in enumerate(names):
        folder = TWO[n % 2].replace(" ", "_")
        write_number(root / "audio" / audio / folder / f"{name}.wav", numbers[name])
        write_grey(root / "visual" / visual / folder / name, [0, numbers[name], 100])
    return numbers


def write_copy(root: Path, train: Sequence[str], test: Sequence[str]) -> dict[str, int]:
    """A copy in DMRNet's layout; returns name -> number."""
    numbers = write_part(root, "train", "train_img/Image-01-FPS", train)
    return numbers | write_part(root, "test", "val_img/Image-01-FPS", test, first=len(train))


opened = partial(opened_as, KineticsSounds)


def remarks(dataset: KineticsSounds) -> str:
    return "\n".join(dataset._found.remarks)


def names_of(dataset: KineticsSounds, split: str) -> list[str]:
    return [clip.id.partition("/")[2] for clip in dataset._found.splits[split]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "kinetics_sounds"
    mark(root, "a test")
    kinetics_sounds.write(root, seed=1, share=0.6)
    return root


def test_the_sample_conforms_and_leaves_out_the_video_of_two_frames_with_its_sound(
    sample: Path,
) -> None:
    dataset = opened(sample)
    check_dataset(dataset)
    assert dataset.spec.synthetic and dataset.counts()["test"] == 40
    assert sum(dataset.counts().values()) == 8 * (14 + 5) - 1
    assert "train: 1 videos have fewer than 3 frames (left out with their sound)" in remarks(
        dataset
    )


def test_sound_and_sight_of_the_sample_tell_the_class_and_together_best(sample: Path) -> None:
    sound, sight, both = accuracies_by_hand(opened(sample, options={"size": 16, "seconds": 1.0}))
    assert min(sound, sight) > 0.35 and max(sound, sight) + 0.04 < both < 0.95


# ---------------------------------------------------------------------- classes


def test_the_known_class_lists_and_how_they_differ() -> None:
    assert {name: len(set(classes)) for name, classes in CLASSES.items()} == {
        "ks31": 31,
        "ks32": 32,
        "ks33": 33,
        "lll34": 34,
    }
    ks31 = set(CLASSES["ks31"])
    assert set(CLASSES["ks32"]) - ks31 == {"strumming guitar"} and ks31 < set(CLASSES["ks32"])
    assert set(CLASSES["ks33"]) - ks31 == {"tying tie", "finger snapping"} and ks31 < set(
        CLASSES["ks33"]
    )
    assert all(
        sum(name.startswith("playing ") for name in classes) == 15 for classes in CLASSES.values()
    )
    # DMRNet's indices.
    ks33 = CLASSES["ks33"]
    published_at = {
        0: "blowing nose",
        5: "singing",
        7: "tying tie",
        9: "dribbling basketball",
        13: "stomping grapes",
        16: "tickling",
    }
    published_at |= {
        17: "finger snapping",
        18: "playing accordion",
        23: "playing guitar",
        32: "playing xylophone",
    }
    assert {n: ks33[n] for n in published_at} == published_at


def test_folders_are_classes_with_blanks_or_underscores_and_older_names() -> None:
    index = {name: n for n, name in enumerate(CLASSES["lll34"])}
    assert (
        class_of("Playing_Bass_Guitar", index)
        == class_of("playing bass guitar", index)
        == index["playing bass guitar"]
    )
    assert class_of("mowing_lawn", index) == index["mowing the lawn by pushing lawnmower"]
    assert class_of("riding_a_bike", index) is None and spoken("tying_tie") == "tying tie"


def test_an_own_class_list_comes_from_the_root(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    write_copy(root, videos(40), videos(20, "x"))
    (root / "classes.txt").write_text("tapping_pen,bowling,\nsinging\n")
    dataset = opened(root, options={"classes": "file"})
    assert dataset.spec.classes == ("tapping pen", "bowling", "singing")
    assert dataset.load("test").target.tolist() == [0] * 10 + [1] * 10
    (root / "classes.txt").write_text("bowling, bowling")
    with pytest.raises(UserError, match="names 2 classes, 1 of them different"):
        opened(root, prepared=False, options={"classes": "file"}).counts()
    with pytest.raises(UserError, match=r"needs classes\.txt"):
        KineticsSounds(options={"classes": "file"}).spec.classes  # noqa: B018


# ---------------------------------------------------------------------- pairing


def test_sound_and_frames_are_paired_by_id_after_a_skipped_video(tmp_path: Path) -> None:
    """Pairing by position would shift every clip after the skipped one."""
    root = tmp_path / "copy"
    numbers = write_copy(root, videos(40), videos(20, "x"))
    short, silent, unseen = videos(40)[4], videos(40)[6], videos(40)[9]
    (root / "visual/train_img/Image-01-FPS/bowling" / short / "00058.jpg").unlink()
    (root / "audio/train/bowling" / f"{silent}.wav").unlink()
    shutil.rmtree(root / "visual/train_img/Image-01-FPS/tapping_pen" / unseen)
    dataset = opened(root)
    there = [name for split in ("train", "val", "test") for name in names_of(dataset, split)]
    assert set(numbers) - set(there) == {short, silent, unseen}
    for split in ("train", "val", "test"):
        own, loaded = [numbers[name] for name in names_of(dataset, split)], dataset.load(split)
        assert heard(loaded) == own and seen(loaded) == own
        wanted = [CLASSES["ks33"].index(TWO[n % 2]) for n in own]
        assert loaded.target.tolist() == wanted
    for name, why in (
        (short, "fewer than 3 frames"),
        (silent, "frames and no sound"),
        (unseen, "sound and no frames"),
    ):
        assert any(name in line and why in line for line in remarks(dataset).splitlines())


LAYOUTS = [
    ("train", "train_img/Image-01-FPS", "test", "val_img/Image-01-FPS", "."),
    ("train", "train_img", "val", "test_img", "kinect_sound"),
]


@pytest.mark.parametrize(("a", "b", "c", "d", "prefix"), LAYOUTS)
def test_both_sides_may_name_their_parts_differently(
    tmp_path: Path, a: str, b: str, c: str, d: str, prefix: str
) -> None:
    root = tmp_path / "copy"
    write_part(root / prefix, a, b, videos(30))
    write_part(root / prefix, c, d, videos(10, "x"))
    counts = opened(root, prepared=False).counts()
    assert counts["test"] == 10 and counts["train"] + counts["val"] == 30


def test_stereo_sound_unknown_folders_and_ids_that_begin_with_dashes(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    names = ["-abcdefghij_000001_000011", "_bcdefghijk_000002_000012", "--_________"]
    write_copy(root, [*videos(30), *names], videos(10, "x"))
    write_number(root / "audio/train/bowling" / f"{names[0]}.wav", 30, channels=2)
    write_number(root / "audio/train/riding a bike/aaaaaaaaaaa_000000_000010.wav", 1)
    dataset = opened(root)
    there = [name for split in ("train", "val") for name in names_of(dataset, split)]
    assert set(names) < set(there)
    assert [youtube_id(name) for name in names] == [name[:11] for name in names]
    assert [start_second(name) for name in names] == [1, 2, None] and start_second(
        "-abcdefghij_7"
    ) == 7
    assert "riding a bike" in remarks(dataset)
    own = next(split for split in ("train", "val") if names[0] in names_of(dataset, split))
    assert heard(dataset.load(own))[names_of(dataset, own).index(names[0])] == 30


def test_no_video_is_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    twice = [
        f"{name[:11]}_{start:06d}_{start + 10:06d}" for name in videos(60) for start in (0, 200)
    ]
    test = [*videos(9, "x"), f"{twice[0][:11]}_000400_000410"]
    write_copy(root, twice, test)
    dataset = opened(root, prepared=False)
    ids = {
        split: {youtube_id(name) for name in names_of(dataset, split)}
        for split in ("train", "val", "test")
    }
    assert not (ids["train"] & ids["val"] or ids["train"] & ids["test"] or ids["val"] & ids["test"])
    assert 1 <= len(ids["val"]) <= 16 and dataset.counts()["test"] == 10
    assert sum(dataset.counts().values()) == 128
    assert "2 clips of train are left out, because test has the same videos" in remarks(dataset)


# ---------------------------------------------------------------------- acceptance check 3: lists


def write_lists(root: Path, train: Sequence[str], test: Sequence[str]) -> None:
    """In the form of the published ones: label by class, CRLF, start seconds padded in train
    alone.
    """
    rows = [f"{name},10,{n % 2}" for n, name in enumerate(train)]
    (root / "my_train.txt").write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    rows = [f"{youtube_id(name)}_{start_second(name)},10,{n % 2}" for n, name in enumerate(test)]
    (root / "my_test.txt").write_bytes("".join(f"{row}\r\n" for row in rows).encode())


def test_acceptance_3_lists_select_clips_by_id_and_start(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    train, test = videos(40), videos(20, "xy")
    write_copy(root, train, test)
    write_lists(root, train[:30], test[:10])
    dataset = opened(root, prepared=False)
    there = [*names_of(dataset, "train"), *names_of(dataset, "val")]
    assert set(there) == set(train[:30]) and set(names_of(dataset, "test")) == set(test[:10])
    assert "keeps 30 of 40 clips and names 30" in remarks(dataset)
    (root / "my_train.txt").write_text("\n".join(f"{name},10,0" for name in train))
    assert "1 of its labels stand for clips of several classes: 0" in remarks(
        opened(root, prepared=False)
    )
    (root / "my_train.txt").write_text("nonsense,10\n")
    with pytest.raises(UserError, match=r"my_train\.txt, line 1: 'nonsense,10'"):
        opened(root, prepared=False).counts()


def test_acceptance_3_a_list_cut_short_is_noticed_and_a_whole_or_small_one_is_not() -> None:
    cut = LETTERS[: LETTERS.index("i")]
    assert len(cut) == 46
    assert "no id of 92 begins with a letter from i to z" in truncated("list", videos(92, cut))[0]
    assert truncated("list", videos(128)) == [] and truncated("list", videos(10, cut)) == []
    assert truncated("list", [*videos(92, cut), "zzzzzzzzzzz_000000_000010"]) == []


def test_acceptance_3_a_copy_made_from_a_list_cut_short_is_noticed(tmp_path: Path) -> None:
    cut = LETTERS[: LETTERS.index("i")]
    write_copy(tmp_path / "copy", videos(92, cut), videos(10, "x"))
    assert "the clips of train: no id of 92" in remarks(opened(tmp_path / "copy", prepared=False))


LISTS = [published("KineticSound/my_train.txt"), published("KineticSound/my_test.txt")]


@pytest.mark.skipif(
    None in LISTS,
    reason="HARNESS_ACCEPTANCE names no folder with KineticSound/my_train.txt and my_test.txt",
)
def test_acceptance_3_the_published_lists() -> None:
    train, test = (read_list(path) for path in LISTS if path is not None)
    assert (len(train), len(test)) == (14_799, 2_597)
    assert set(train.values()) == set(test.values()) == set(range(31))
    assert (
        len(truncated("train", [name for name, _ in train])) == 1
        and truncated("test", [name for name, _ in test]) == []
    )
    assert not {name for name, _ in train} & {name for name, _ in test}
    assert any(name.startswith("-") for name, _ in train)


# ---------------------------------------------------------------------- the way in


def test_description_without_data_has_the_published_shapes(tmp_path: Path) -> None:
    shapes = {"A": (1, 257, 1004), "B": (1, 257, 188), "C": (1, 257, 188), "D": (1, 129, 626)}
    for name, shape in shapes.items():
        spec = KineticsSounds(cache=tmp_path, options={"frontend": name}).spec
        assert [modality.shape for modality in spec.modalities] == [shape, (3, 224, 224)] and len(
            spec.classes
        ) == 33
    for ask in (KineticsSounds(cache=tmp_path).fingerprint, KineticsSounds(cache=tmp_path).counts):
        with pytest.raises(
            UserError, match=r"KINETICS_SOUNDS_ROOT.*python -m datasets\.sample kinetics_sounds DIR"
        ):
            ask()


def test_a_folder_that_is_something_else_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder audio"):
        opened(tmp_path, prepared=False).counts()
    (tmp_path / "audio").mkdir()
    with pytest.raises(UserError, match="none of the folders"):
        opened(tmp_path, prepared=False).counts()
    write_copy(tmp_path / "copy", videos(30), videos(10, "x"))
    for folder in ("bowling", "tapping_pen"):
        for path in (tmp_path / "copy").rglob(folder):
            path.rename(path.with_name(f"other {folder}"))
    with pytest.raises(UserError, match="no clip with sound and frames of the class list ks33"):
        opened(tmp_path / "copy", prepared=False).counts()


def test_evaluation_draws_nothing_at_random(sample: Path) -> None:
    dataset = opened(sample)
    for split in ("val", "test"):
        loaded = dataset.load(split)
        assert loaded.draw(torch.Generator()) is None
        first, second = (loaded.batch(torch.arange(5))[0] for _ in range(2))
        assert all(np.array_equal(first[name], second[name]) for name in first)
