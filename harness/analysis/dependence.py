"""Which test samples belong together, and how much that matters for what can be claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from harness.analysis.results import Results
from harness.analysis.statistics import RowSamples
from harness.analysis.statistics.groups import Groups
from harness.store import Json


@dataclass(frozen=True)
class Dependence:
    """The groups of the test samples.

    Attributes:
        samples: of test.
        groups: how many there are; None where they were not recorded.
        are: what they are, in the plural.
        also_in_train: how many of them have samples in train too.
        too_few: whether they are too few for any claim about others.
        effects: of each pair of rows, the variance of the difference of averages over groups
            over what it would be if samples were independent (the design effect).
    """

    samples: int
    groups: int | None
    are: str
    also_in_train: int
    too_few: bool
    effects: tuple[float, ...]

    @property
    def effect(self) -> float:
        """The median over the pairs; NaN without any."""
        return median(self.effects) if self.effects else math.nan


def dependence(results: Results, rows: Mapping[str, RowSamples]) -> Dependence:
    """The groups of a study's test samples."""
    samples = results.plan.dataset.counts().get("test", 0)
    known = [row for row in rows.values() if row.groups is not None]
    if not known:
        return Dependence(samples, None, "groups", 0, False, ())
    recorded = [one.record["groups"] for one in results.finished if one.record.get("groups")]
    facts: Json = recorded[0] if recorded else {"are": "groups", "also_in_train": {}}
    there = ~np.any([np.isnan(row.values).any((1, 2)) for row in known], 0)
    groups = known[0].grouping(there)
    return Dependence(
        samples,
        len(groups.share),
        str(facts["are"]) or "groups",
        int(facts["also_in_train"].get("test", 0)),
        groups.too_few,
        tuple(_effects(list(known), there, groups)),
    )


def _effects(rows: list[RowSamples], there: np.ndarray, groups: Groups) -> list[float]:
    alone = Groups.independent(rows[0].values.shape[2])
    means = {row.label: row.values[there].mean((0, 1)) for row in rows}
    found = []
    for first, second in combinations(rows, 2):
        gap = means[first.label] - means[second.label]
        independent = alone.variance(alone.deviations(gap))
        if independent > 0:
            found.append(groups.variance(groups.deviations(gap)) / independent)
    return found
