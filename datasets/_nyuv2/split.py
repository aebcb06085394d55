"""Which of NYUv2's training images select weights. Called by datasets/nyuv2.py.

The published lists if they are there, else a rule that keeps scenes whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from harness.errors import UserError, shown

LISTS = "nyud"
"""Folder below the root with the published train.txt and val.txt."""

FCN_OFFSET = 5000
SHARE = 0.2
"""Of the training images, at most this share becomes val where no list says which."""

OFFICIAL = {"train": 795, "test": 654}
OFFICIAL_STARTS = {"train": (3, 4, 5, 6, 7, 8), "test": (1, 2, 9, 14, 15, 16)}
IMAGES = 1449


@dataclass(frozen=True)
class Selection:
    """Original ids of train and val.

    ``told``: where they come from, in a sentence; ``note``: the same in short, for reports.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    told: str
    note: str


def selection(root: Path, ids: Sequence[int], scenes: Mapping[int, str]) -> Selection:
    """What becomes train and val of the training images ``ids``.

    ``scenes`` maps id -> scene where that is known.
    """
    folder = root / LISTS
    if (folder / "val.txt").is_file():
        return _published(folder, ids)
    groups = _groups(ids, scenes)
    val = (
        _taken(groups)
        if len(groups) > 1
        else set(list(ids)[len(ids) - max(1, int(SHARE * len(ids))) :])
    )
    train = tuple(i for i in ids if i not in val)
    kept = (
        "by scene name"
        if scenes
        else "runs of neighbouring ids, which are frames of the same scenes"
    )
    told = (
        f"there is no {LISTS}/val.txt below the root, so val is {len(val)} of the {len(ids)}"
        f" training images, whole scenes ({kept}); the published 381/414 lists (train.txt and"
        " val.txt of data/nyud in the FCN repository) are used from there"
    )
    return Selection(
        train,
        tuple(sorted(val)),
        told,
        f"val: {len(val)} training images, whole scenes by rule (no published list)",
    )


def _groups(ids: Sequence[int], scenes: Mapping[int, str]) -> list[list[int]]:
    """Ids that belong together, in the order of their first id."""
    if scenes:
        together: dict[str, list[int]] = {}
        for i in ids:
            together.setdefault(scenes[i], []).append(i)
        return list(together.values())
    # The official split separates scenes: a gap in the training ids is a border between them.
    return [
        [i for _, i in run]
        for _, run in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0])
    ]


def _taken(groups: Sequence[Sequence[int]]) -> set[int]:
    """The ids of groups spread over the ids, at least the smallest group.

    A group is taken when val is then at most SHARE of what has been seen.
    """
    val: set[int] = set()
    seen = 0
    for group in groups:
        seen += len(group)
        if len(val) + len(group) <= SHARE * seen:
            val |= set(group)
    smallest = min(groups, key=len)
    return val or set(smallest)


def _published(folder: Path, ids: Sequence[int]) -> Selection:
    found = {name: _original(read_ids(folder / f"{name}.txt")) for name in ("train", "val")}
    both = set(found["train"]) & set(found["val"])
    wrong = sorted(both | (set(found["train"]) | set(found["val"])) ^ set(ids))
    if wrong:
        raise UserError(
            f"{folder}/train.txt and val.txt do not divide the {len(ids)} training images:"
            f" {len(wrong)} ids are in both, in neither or not for training: {shown(wrong)}; use"
            f" the lists that belong to this copy, or take the folder {LISTS} away"
        )
    told = f"val is the list {LISTS}/val.txt: {len(found['train'])} train, {len(found['val'])} val"
    return Selection(
        found["train"],
        found["val"],
        told,
        f"val: the published list of {len(found['val'])} training images",
    )


def _original(ids: tuple[int, ...]) -> tuple[int, ...]:
    """Ids of the published lists count from 5001."""
    return tuple(
        sorted(i - FCN_OFFSET for i in ids) if ids and min(ids) > FCN_OFFSET else sorted(ids)
    )


def read_ids(path: Path) -> tuple[int, ...]:
    """The numbers of a list with one per line.

    UserError for a line that is none, a number that comes twice, or no file.
    """
    if not path.is_file():
        raise UserError(f"the list {path} is not there; restore it")
    lines = path.read_text(encoding="utf-8-sig").split()
    odd = [line for line in lines if not line.isdecimal()]
    if odd or not lines:
        raise UserError(
            f"{path} has {len(odd)} of {len(lines)} lines that are not a number: {shown(odd)}; one"
            " number per line"
        )
    ids = tuple(int(line) for line in lines)
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise UserError(
            f"{path} names {len(twice)} images twice: {shown(twice)}; take the doubles out"
        )
    return ids


def check_ids(ids: Mapping[str, Sequence[int]], counting: str) -> None:
    """Refuse original ids that cannot be: outside 1..1449, or in both splits.

    ``counting`` names how the copy counts.
    """
    outside = [i for part in ids.values() for i in part if not 1 <= i <= IMAGES]
    if outside:
        raise UserError(
            f"{len(outside)} image numbers lie outside the {IMAGES} of the dataset (original,"
            f" 1-based: {shown(outside)}): {counting}, and these names do not; names and folders"
            " come from different programs, prepare the copy with one of them"
        )
    both = sorted(set(ids["train"]) & set(ids["test"]))
    if both:
        raise UserError(
            f"{len(both)} images are for training and for test: {shown(both)}; restore the official"
            " lists"
        )


def check_official(ids: Mapping[str, Sequence[int]]) -> None:
    """Refuse a copy that is not the official 795 training and 654 test images."""
    found = {name: len(part) for name, part in ids.items()}
    way_out = (
        "restore the copy, or set dataset.options.counts=any to use it as it is (not comparable"
        " with published results)"
    )
    if found != OFFICIAL:
        raise UserError(
            f"this copy has {found['train']} training and {found['test']} test images, the official"
            f" split 795 and 654; {way_out}"
        )
    for name, start in OFFICIAL_STARTS.items():
        if tuple(ids[name][:6]) != start:
            raise UserError(
                f"the first {name} images are {shown(ids[name][:6])} (original, 1-based),"
                f" officially they are {shown(start)}; the names are shifted or the lists are"
                f" others; {way_out}"
            )
