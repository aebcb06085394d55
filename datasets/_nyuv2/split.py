"""Which of NYUv2's training images select weights. Called by datasets/nyuv2.py.

The published lists if they are there, else a rule that keeps scenes whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets._files import is_number, text_of
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

    ``origin``: where they come from, in a sentence; ``note``: the same in short, for reports.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    origin: str
    note: str


def selection(root: Path, ids: Sequence[int], scenes: Mapping[int, str]) -> Selection:
    """What becomes train and val of the training images ``ids``.

    ``scenes`` maps id -> scene where that is known.
    """
    folder = root / LISTS
    if (folder / "val.txt").is_file():
        return _published(folder, ids)
    groups = scene_runs(ids, scenes)
    last = ids[len(ids) - max(1, int(SHARE * len(ids))) :]
    val = _taken(groups) if len(groups) > 1 else set(last)
    train = tuple(i for i in ids if i not in val)
    kept = "runs of neighbouring ids, which are frames of the same scenes"
    if scenes:
        kept = "by scene name"
    origin = (
        f"there is no {LISTS}/val.txt below the root, so val is {len(val)} of the {len(ids)}"
        f" training images, whole scenes ({kept}); the published 381/414 lists (train.txt and"
        " val.txt of data/nyud in the FCN repository) are used from there"
    )
    note = f"val: {len(val)} training images, whole scenes by rule (no published list)"
    return Selection(train, tuple(sorted(val)), origin, note)


def scene_runs(ids: Sequence[int], scenes: Mapping[int, str]) -> list[list[int]]:
    """Ids of one side of the official split that belong together, in the order of their first id.

    Those of one scene; where scenes are not known, runs of neighbouring ids.
    """
    if scenes:
        by_scene: dict[str, list[int]] = {}
        for i in ids:
            by_scene.setdefault(scenes[i], []).append(i)
        return list(by_scene.values())
    # The official split separates scenes: a gap in the ids of one side is a border between them.
    runs: list[list[int]] = []
    for i in ids:
        if not runs or runs[-1][-1] + 1 != i:
            runs.append([])
        runs[-1].append(i)
    return runs


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
    train, val = found["train"], found["val"]
    origin = f"val is the list {LISTS}/val.txt: {len(train)} train, {len(val)} val"
    return Selection(train, val, origin, f"val: the published list of {len(val)} training images")


def _original(ids: tuple[int, ...]) -> tuple[int, ...]:
    """Ids of the published lists count from 5001."""
    offset = FCN_OFFSET if ids and min(ids) > FCN_OFFSET else 0
    return tuple(sorted(i - offset for i in ids))


def read_ids(path: Path) -> tuple[int, ...]:
    """The numbers of a list with one per line.

    UserError for a line that is none, a number that comes twice, or no file.
    """
    if not path.is_file():
        raise UserError(f"the list {path} is not there; restore it")
    lines = text_of(path, "restore the list").split()
    odd = [line for line in lines if not is_number(line)]
    if odd or not lines:
        raise UserError(
            f"{path} has {len(odd)} of {len(lines)} lines that are not a number: {shown(odd)}; one"
            " number per line"
        )
    ids = tuple(int(line) for line in lines)
    twice = sorted(i for i, times in Counter(ids).items() if times > 1)
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
