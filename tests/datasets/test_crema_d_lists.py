"""CREMA-D's ids, published lists, protocols and known bad clips."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from datasets.crema_d import EMOTIONS, by_actor, label, oddities, read_list
from harness.errors import UserError
from tests.support.clips import published
from tests.support.crema import INDEX, KNOWN_BAD, TWICE, ids, opened, write_copy, write_list

# ---------------------------------------------------------------------- acceptance check 2


def test_acceptance_2_labels_are_the_acted_emotions_in_the_published_order() -> None:
    assert list(EMOTIONS) == sorted(INDEX, key=lambda emotion: INDEX[emotion])
    assert [label(f"1001_IEO_{emotion}_HI") for emotion in INDEX] == list(INDEX.values())
    assert all(label(name) == INDEX[name[9:12]] for name in KNOWN_BAD + TWICE)


@pytest.mark.parametrize(
    "name",
    ["1001_IEO_ANG", "1001_IEO_JOY_HI", "1001_IEO_ANG_hi", "x1001_IEO_ANG_HI", "101_IEO_ANG_HI"],
)
def test_what_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no id of CREMA-D"):
        label(name)


def test_acceptance_2_actor_protocol_shares_no_actor_and_keeps_every_clip() -> None:
    names = ids(range(1001, 1092))
    splits = by_actor(names, ("val", "test"))
    actors = {split: {name[:4] for name in found} for split, found in splits.items()}
    assert {split: len(found) for split, found in actors.items()} == {
        "train": 71,
        "val": 10,
        "test": 10,
    }
    assert not (
        actors["train"] & actors["val"]
        or actors["train"] & actors["test"]
        or actors["val"] & actors["test"]
    )
    assert sorted(name for found in splits.values() for name in found) == sorted(names)
    assert by_actor(names[::-1], ("val", "test"))["test"] == splits["test"][::-1]


def test_acceptance_2_bad_clips_and_same_sounds_are_named_with_their_split() -> None:
    where = {"train": [*KNOWN_BAD, *TWICE[:3], *TWICE[4:]], "test": [TWICE[3]]}
    text = "\n".join(oddities(where))
    assert all(name in text for name in KNOWN_BAD + TWICE)
    assert "1013_WSI_DIS_XX (train) = 1013_WSI_SAD_XX (test)" in text
    assert list(oddities({"train": ["1001_IEO_ANG_HI", TWICE[0]], "test": []})) == []


LISTS = {name: published(f"CREMAD/{name}.csv") for name in ("train", "test")}


@pytest.mark.skipif(
    None in LISTS.values(),
    reason="HARNESS_ACCEPTANCE names no folder with CREMAD/train.csv and test.csv",
)
def test_acceptance_2_the_published_lists() -> None:
    train, test = (read_list(path) for path in LISTS.values() if path is not None)
    assert (len(train), len(test), len({*train, *test})) == (6698, 744, 7442)
    found = [Counter(name[9:12] for name in names) for names in (train, test)]
    assert found[0] == {"ANG": 1166, "HAP": 1148, "DIS": 1142, "FEA": 1138, "SAD": 1131, "NEU": 973}
    assert found[1] == {"SAD": 140, "FEA": 133, "DIS": 129, "HAP": 123, "NEU": 114, "ANG": 105}
    text = "\n".join(oddities(by_actor(train, ("val",)) | {"test": test}))
    assert all(name in text for name in KNOWN_BAD + TWICE)
    splits = by_actor([*train, *test], ("val", "test"))
    assert (
        len(
            {name[:4] for name in splits["test"]}
            - {name[:4] for name in splits["train"] + splits["val"]}
        )
        == 10
    )


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("mark_first", [b"", b"\xef\xbb\xbf"])
def test_lists_of_any_line_end_with_or_without_mark_and_final_newline(
    tmp_path: Path, end: bytes, mark_first: bytes
) -> None:
    names = ids(range(1001, 1003))
    path = tmp_path / "train.csv"
    path.write_bytes(mark_first + end.join(f"{name},{name[9:12]}".encode() for name in names))
    assert read_list(path) == names
    path.write_bytes(path.read_bytes() + end + end)
    assert read_list(path) == names


WRONG = {
    "line 2: 1001_IEO_ANG_HI is listed as HAP and its id says ANG": (
        "1001_IEO_SAD_HI,SAD\n1001_IEO_ANG_HI,HAP\n"
    ),
    "line 3: 1001_IEO_SAD_HI is listed twice, first in line 1": (
        "1001_IEO_SAD_HI,SAD\n\n1001_IEO_SAD_HI,SAD\n"
    ),
    "line 1: 'video' is no id of CREMA-D": "video,label\n1001_IEO_SAD_HI,SAD\n",
}


@pytest.mark.parametrize("sentence", list(WRONG))
def test_a_wrong_list_is_named_by_file_and_line(tmp_path: Path, sentence: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(WRONG[sentence])
    with pytest.raises(UserError, match=rf"train\.csv, {sentence}"):
        read_list(path)


def test_missing_and_overlapping_lists_are_sentences_and_actor_needs_none(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    names = ids(range(1001, 1005))
    write_copy(root, names[:18], names[18:])
    write_list(root / "test.csv", names[17:])
    with pytest.raises(UserError, match=r"1 clips are in train\.csv and in test\.csv"):
        opened(root, prepared=False).counts()
    (root / "test.csv").unlink()
    with pytest.raises(UserError, match=r"GeWu-Lab/OGM-GE_CVPR2022.*dataset\.protocol=actor"):
        opened(root, prepared=False).counts()
    assert opened(root, prepared=False, protocol="actor").counts() == {
        "train": 12,
        "val": 6,
        "test": 6,
    }


def test_lists_may_lie_where_the_repository_has_them(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    names = ids(range(1001, 1005))
    write_copy(root, names[:18], names[18:])
    (root / "data" / "CREMAD").mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        shutil.move(root / name, root / "data" / "CREMAD" / name)
    assert opened(root, prepared=False).counts()["test"] == 6
