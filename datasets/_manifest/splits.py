"""Which samples of a manifest each split has. Called by datasets/manifest.py.

Validation is taken from train where there is none; quick trials have a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datasets._manifest.sheet import Row, Sheet
from harness.errors import UserError
from harness.protocol.combinations import lattice


@dataclass(frozen=True)
class Splits:
    """Rows per split in the file's order, and what was decided about them."""

    rows: dict[str, list[Row]]
    remarks: tuple[str, ...]


def splits(
    sheet: Sheet, share: float, seed: int, limit: int | None, classes: bool = True
) -> Splits:
    """The manifest's splits; val, if there is none, is a seeded share of train.

    It is stratified where labels are ``classes``, and has whole groups where the manifest has
    groups. UserError without test.
    """
    alike = sheet.dense or not classes
    rows = {name: sheet.of(name) for name in ("train", "val", "test")}
    for name in ("train", "test"):
        if not rows[name]:
            raise UserError(
                f"{sheet.path.name} has no row whose split is {name}; mark the samples that are to"
                f" be the {name} split"
            )
    remarks = []
    if not rows["val"]:
        share_of = _whole_groups if sheet.grouped else _stratified
        taken = {id(row) for row in share_of(rows["train"], alike, share, seed)}
        rows["val"] = [row for row in rows["train"] if id(row) in taken]
        rows["train"] = [row for row in rows["train"] if id(row) not in taken]
        how = "at random" if alike else "class by class"
        told = f"there is no val split: {len(rows['val'])} samples of train became val"
        if sheet.grouped:
            remarks.append(f"{told}, whole groups, {how} as well as they allow, seed {seed}")
        else:
            remarks.append(
                f"{told}, {how}, seed {seed}; samples of one person or scene may now be on both"
                " sides, so name a val split of your own, or name the persons or scenes in a"
                " column group, if there are such"
            )
    if min(map(len, rows.values())) == 0:
        what = "groups" if sheet.grouped else "samples"
        raise UserError(
            f"{sheet.path.name} has too few {what} in train to take a val split from; mark some"
            " rows as val"
        )
    limited = {name: _limited(found, alike, limit) for name, found in rows.items()}
    return Splits(limited, tuple(remarks))


def require_both(sheet: Sheet, found: Splits, index: Mapping[str, int]) -> None:
    """UserError unless every combination in val and in test comes with live samples and attacks:
    error rates need both.
    """
    for split in ("val", "test"):
        for combination in lattice(sheet.modalities):
            places = [place for place, shown in enumerate(combination.mask) if shown]
            rows = [row for row in found.rows[split] if all(row.files[place] for place in places)]
            if rows and len({index[row.label] for row in rows}) < 2:
                raise UserError(
                    f"{sheet.path.name}: the {len(rows)} samples of {split} that have"
                    f" {combination.name} are all '{rows[0].label}', and error rates need live"
                    " samples and attacks; add some of the other"
                )


def _order(rows: Sequence[Row], alike: bool, seed: int) -> list[tuple[int, int, Row]]:
    """(rank within its class, size of the class, row), shuffled.

    Label maps, and numbers, are all of one class (``alike``).
    """
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    seen: dict[str, int] = {}
    ranked = []
    for row in shuffled:
        label = "" if alike else row.label
        ranked.append((seen.get(label, 0), label, row))
        seen[label] = seen.get(label, 0) + 1
    return [(rank, seen[label], row) for rank, label, row in ranked]


def _stratified(rows: Sequence[Row], alike: bool, share: float, seed: int) -> list[Row]:
    """A share of each class, at least one sample of it and never its last one."""
    return [
        row
        for rank, size, row in _order(rows, alike, seed)
        if rank < min(size - 1, max(1, round(size * share)))
    ]


def _whole_groups(rows: Sequence[Row], alike: bool, share: float, seed: int) -> list[Row]:
    """Whole groups that have about a share of each class, and never the last samples of one.

    Groups are offered from the largest to the smallest, equal ones in random order, and taken
    where that brings the classes nearer to their shares; the first that may be taken is, where
    none is near.
    """
    classes = sorted({"" if alike else row.label for row in rows})
    names = list(dict.fromkeys(row.group for row in rows))
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)  # (groups, classes)
    place = {name: at for at, name in enumerate(names)}
    column = {name: at for at, name in enumerate(classes)}
    for row in rows:
        counts[place[row.group], column["" if alike else row.label]] += 1
    total = counts.sum(0)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = sorted(shuffled.tolist(), key=lambda at: -int(counts[at].sum()))
    wanted = np.maximum(1, np.rint(total * share))
    taken = np.zeros(len(classes), dtype=np.int64)
    chosen: list[int] = []
    for at in order:
        after = taken + counts[at]
        distance = ((wanted - taken) ** 2 / total).sum()
        distance_after = ((wanted - after) ** 2 / total).sum()
        leaves_some = (after < total).all()
        if distance_after < distance and leaves_some:
            taken = after
            chosen.append(at)
    if not chosen:
        # The smallest group without which train still has every class.
        chosen = [at for at in reversed(order) if (counts[at] < total).all()][:1]
    own = {names[at] for at in chosen}
    return [row for row in rows if row.group in own]


def _limited(rows: list[Row], alike: bool, limit: int | None) -> list[Row]:
    """At most ``limit`` rows, the classes as even as they can be, in the file's order."""
    if limit is None or len(rows) <= limit:
        return rows
    by_rank = sorted(_order(rows, alike, 0), key=lambda item: item[0])
    chosen = {id(row) for _, _, row in by_rank[:limit]}
    return [row for row in rows if id(row) in chosen]
