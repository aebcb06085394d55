"""What may be claimed: paired differences of rows with their uncertainty, from the store alone.

Every pair of rows is compared on the same seeds and the same test samples, averaged over the
combinations, on each combination, and on each trial's worst combination. Combinations of one test
set are not independent data sets: none of them counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch

from harness.analysis._bootstrap import estimate_resampled, resampled, worst
from harness.analysis._decisions import (
    Pool,
    pooled_over_rows,
    with_pool,
)
from harness.analysis._groups import Groups
from harness.analysis._influence import sample_values
from harness.analysis._intervals import (
    SIGNIFICANCE_LEVEL,
    Calibration,
    Estimate,
    calibration,
    coverage,
    estimate,
)
from harness.analysis._multiple_comparisons import (
    datasets_needed,
    holm,
    rank_test,
)
from harness.analysis.evidence import Evidence, stored_evidence
from harness.analysis.results import Finished, Results
from harness.protocol.combinations import Combination
from harness.store import EVIDENCE, file_sha256

__all__ = [
    "AVERAGE",
    "EXPECTED",
    "SIGNIFICANCE_LEVEL",
    "WORST",
    "Calibration",
    "Difference",
    "Estimate",
    "RowSamples",
    "adjusted",
    "averaged",
    "calibration",
    "coverage",
    "datasets_needed",
    "difference_of",
    "differences",
    "estimate",
    "holm",
    "intact",
    "paired",
    "present",
    "rank_test",
    "row_samples",
    "sample_values",
    "weighted",
]

Array = np.ndarray[Any, np.dtype[Any]]

AVERAGE, WORST, EXPECTED = "average", "worst", "expected in use"
"""Summaries beside the single combinations, which go by their names."""

NEAR_TIES = (
    "not calibrated here: one row has several combinations that are about equally bad, and the"
    " other has not; the worst of several noisy values looks worse than it is, and correcting for"
    " it leaves 89 to 95 % coverage"
)


TOO_FEW_GROUPS = (
    "nothing is claimed: the test samples come from too few groups to say anything about others"
)


@dataclass(frozen=True)
class RowSamples:
    """A row's values (C, S, N) per sample: each mean over n is the metric of one combination of one
    seed's trial.
    """

    label: str
    seeds: tuple[int, ...]
    values: Array
    counted: Array | None = None
    """(C, N) bool: the samples that each combination is scored on; None for all."""
    groups: Array | None = None
    """(N,) int: the number of each sample's group; None where groups are not known."""

    def grouping(self, weights: Array) -> Groups:
        """The groups that a mean over combinations with these weights (C,) rests on; bool for a
        plain mean over some.
        """
        if self.counted is not None:
            on = weights > 0
            return Groups.resting_on(self.counted[on], self.groups, weights[on].astype(float))
        if self.groups is None:
            return Groups.independent(self.values.shape[2])
        return Groups.of(self.groups)

    def on(self, seeds: Sequence[int]) -> Array:
        """The values of some seeds, in their order."""
        return self.values[:, self.at(seeds)]

    def at(self, seeds: Sequence[int]) -> list[int]:
        """Where some seeds are."""
        return [self.seeds.index(seed) for seed in seeds]


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` in the metric's unit, with a 95 % interval and two-sided p value.

    ``summary`` is ``average``, ``worst``, ``n present`` or a combination's name. ``p_adjusted`` is
    Holm's over all pairs of the same summary, the numbers of present modalities taken together and
    the single combinations too; ``p_baseline`` is Holm's over the pairs with the baseline alone,
    NaN for others. The interval belongs to this pair alone.

    ``share`` is the part of the 5 % that this look at the results has: both adjusted p values are
    divided by it, so that 0.05 decides as ever.
    """

    first: str
    second: str
    summary: str
    estimate: Estimate
    higher_is_better: bool
    low: float
    high: float
    p: float
    p_adjusted: float
    p_baseline: float = math.nan
    share: float = 1.0

    @property
    def value(self) -> float:
        """The difference of the metric's means."""
        return self.estimate.value

    @property
    def detectable(self) -> float:
        """The true difference that would be found in 80 % of such studies, unadjusted."""
        return self.estimate.detectable()

    @property
    def seeds_needed(self) -> float:
        """The seeds that this much power takes if the difference is what it seems (see
        ``Estimate.seeds_needed``).
        """
        return self.estimate.seeds_needed()

    @property
    def significant(self) -> bool:
        """Whether the adjusted p value is below 0.05, and there are groups enough for a claim."""
        return self.better is not None

    @property
    def better(self) -> str | None:
        """The row that is significantly better, if one is."""
        return self.better_at(self.p_adjusted)

    def better_at(self, p: float, level: float = SIGNIFICANCE_LEVEL) -> str | None:
        """The row that is better where ``p`` decides, if one is."""
        if not p < level or self.estimate.too_few_groups:
            return None
        return self.first if (self.estimate.corrected > 0) == self.higher_is_better else self.second

    @property
    def note(self) -> str:
        """What must stand beside it: too few seeds, or a worst case that cannot be told from
        others; else empty.
        """
        if self.estimate.too_few_groups:
            return TOO_FEW_GROUPS
        return calibration(self.estimate.seeds).note or (NEAR_TIES if self.estimate.biased else "")


# ---------------------------------------------------------------------- samples


def row_samples(results: Results, split: str = "test") -> dict[str, RowSamples]:
    """The rows that can be compared, by label: those with a finished trial whose evidence is what
    was recorded.

    Reference rows with one model per combination are left out: they are never ranked.
    """
    found = {}
    for row in results.plan.rows:
        usable = [
            done
            for done in results.of(row.label)
            if not row.method_class.per_combination and intact(results, done)
        ]
        if usable:
            found[row.label] = _row(results, row.label, usable, split)
    # All rows have the same samples; trials of an older version did not record their groups.
    known = next((row.groups for row in found.values() if row.groups is not None), None)
    return {label: replace(row, groups=known) for label, row in found.items()}


def _row(results: Results, label: str, usable: Sequence[Finished], split: str) -> RowSamples:
    evidence = [stored_evidence(results.store.trial(done.trial.id)) for done in usable]
    masks = torch.tensor([combination.mask for combination in results.plan.combinations])
    has = evidence[0].splits[split].available
    counted = torch.stack([has[:, mask].all(1) for mask in masks]).numpy()
    known = [one.groups[split].numpy() for one in evidence if split in one.groups]
    return RowSamples(
        label,
        tuple(done.trial.seed for done in usable),
        np.stack([_values(results, one, split) for one in evidence], 1),
        None if counted.all() else counted,
        known[0] if known else None,
    )


def intact(results: Results, done: Finished) -> bool:
    """Whether a trial's evidence is what was recorded."""
    return file_sha256(results.store.trial(done.trial.id) / EVIDENCE) == str(
        done.record["files"][EVIDENCE]["sha256"]
    )


def _values(results: Results, evidence: Evidence, split: str) -> Array:
    val = evidence.scores["val"], evidence.splits["val"]
    return sample_values(
        results.metric,
        evidence.scores[split],
        evidence.splits[split],
        results.plan.combinations,
        val,
    )


# ---------------------------------------------------------------------- differences


def differences(
    results: Results, split: str = "test", rows: dict[str, RowSamples] | None = None
) -> list[Difference]:
    """All pairs of rows, in the study's order, each on the seeds that both have: average, worst,
    then each combination.

    Pairs without a common seed are left out. ``rows`` saves reading the store again.
    """
    samples = row_samples(results, split) if rows is None else rows
    return paired(
        list(samples.values()),
        results.plan.combinations,
        results.metric.higher_is_better,
        results.baseline,
        results.plan.share,
    )


def present(count: int) -> str:
    """The summary over the combinations with so many modalities."""
    return f"{count} present"


def paired(
    rows: Sequence[RowSamples],
    lattice: Sequence[Combination],
    higher_is_better: bool,
    baseline: str | None = None,
    share: float = 1.0,
) -> list[Difference]:
    """``differences`` of given samples, all of the same test set."""
    if not rows:
        return []
    there = _scored(rows)
    families = [
        [_Mean(AVERAGE, there)],
        _of_sizes(lattice, there),
        [
            _Mean(lattice[at].name, np.arange(len(there)) == at)
            for at in np.flatnonzero(there).tolist()
        ],
    ]
    found = [
        [one for mean in family for one in _compared(rows, mean, higher_is_better)]
        for family in families
    ]
    found.insert(1, _worst_compared(rows, there, higher_is_better))
    return [one for family in found for one in adjusted(family, baseline, share)]


def averaged(
    rows: Sequence[RowSamples], higher_is_better: bool, share: float = 1.0
) -> list[Difference]:
    """All pairs of rows by the average over the combinations alone."""
    if not rows:
        return []
    mean = _Mean(AVERAGE, _scored(rows))
    return adjusted(_compared(rows, mean, higher_is_better), None, share)


def _scored(rows: Sequence[RowSamples]) -> Array:
    """The combinations (C,) bool that samples have."""
    return np.asarray(~np.any([np.isnan(row.values).any((1, 2)) for row in rows], 0))


def weighted(
    rows: Sequence[RowSamples],
    weights: Array,
    summary: str,
    higher_is_better: bool,
    baseline: str | None = None,
    share: float = 1.0,
) -> list[Difference]:
    """All pairs of rows by the mean over combinations with these weights (C,), 0 for those that no
    sample has.
    """
    found = _compared(rows, _Mean(summary, weights), higher_is_better)
    return adjusted(found, baseline, share)


@dataclass(frozen=True)
class _Mean:
    """A mean over combinations with weights (C,), bool for a plain mean over some, which rows are
    compared by.
    """

    summary: str
    weights: Array

    def of(self, values: Array) -> Array:
        """(C, ...) -> (...)."""
        on = self.weights > 0
        if self.weights.dtype == bool:
            return np.asarray(values[on].mean(0))
        return np.tensordot(self.weights[on] / self.weights[on].sum(), values[on], 1)


def _of_sizes(lattice: Sequence[Combination], there: Array) -> list[_Mean]:
    """The means over the combinations of each size that has several."""
    sizes = np.array([combination.size for combination in lattice])
    chosen = [(size, there & (sizes == size)) for size in np.unique(sizes).tolist()]
    return [_Mean(present(size), over) for size, over in chosen if over.sum() > 1]


def _pairs(rows: Sequence[RowSamples]) -> list[tuple[RowSamples, RowSamples, list[int]]]:
    """All pairs of rows with the seeds that both have, where there are any."""
    found = []
    for first, second in combinations(rows, 2):
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        if seeds:
            found.append((first, second, seeds))
    return found


def _pool(rows: Sequence[RowSamples], values: Sequence[Array]) -> Pool | None:
    """The seed variance of all rows, from each one's values (S,), where all have the same seeds, or
    each those of a row that has more.
    """
    nested = sorted((sorted(row.seeds) for row in rows), key=len)
    if any(not set(few) <= set(more) for few, more in pairwise(nested)):
        return None
    order = nested[-1]
    means = np.full((len(rows), len(order)), np.nan)
    for at, (row, one) in enumerate(zip(rows, values, strict=True)):
        means[at, [order.index(seed) for seed in row.seeds]] = one
    return pooled_over_rows(means)


def _compared(rows: Sequence[RowSamples], mean: _Mean, higher_is_better: bool) -> list[Difference]:
    values = {row.label: mean.of(row.values) for row in rows}
    pool = _pool(rows, [values[row.label].mean(1) for row in rows])
    groups = rows[0].grouping(mean.weights)
    found = []
    for first, second, seeds in _pairs(rows):
        gap = values[first.label][first.at(seeds)] - values[second.label][second.at(seeds)]
        of_pair = with_pool(estimate(gap, groups), pool)
        found.append(
            difference_of(first.label, second.label, mean.summary, of_pair, higher_is_better)
        )
    return found


def _worst_compared(
    rows: Sequence[RowSamples], there: Array, higher_is_better: bool
) -> list[Difference]:
    single = [rows[0].grouping(np.arange(len(there)) == i) for i in np.flatnonzero(there)]
    values = _worst_of(rows, there, single, higher_is_better)
    pool = _pool(rows, [values[row.label][0] for row in rows])
    freedom = min(groups.freedom for groups in single)
    found = []
    for first, second, seeds in _pairs(rows):
        pair = first.label, second.label
        gap = values[pair[0]][:, first.at(seeds)] - values[pair[1]][:, second.at(seeds)]
        of_pair = estimate_resampled(gap[0], gap[1:], first.values.shape[2], freedom)
        found.append(difference_of(*pair, WORST, with_pool(of_pair, pool), higher_is_better))
    return found


def _worst_of(
    rows: Sequence[RowSamples], there: Array, single: Sequence[Groups], higher_is_better: bool
) -> dict[str, Array]:
    """Each trial's worst combination (1 + B, S) by row: first as it is, then on resampled groups of
    samples, the same for all rows.

    ``single`` are the groups that each combination rests on.
    """
    values = np.concatenate([row.values[there] for row in rows], 1)
    drawable = [groups.drawable(one) for groups, one in zip(single, values, strict=True)]
    means = np.concatenate([values.mean(2)[None], resampled(np.stack(drawable))])
    parts = np.split(
        worst(means, higher_is_better), np.cumsum([len(row.seeds) for row in rows])[:-1], axis=1
    )
    return {row.label: part for row, part in zip(rows, parts, strict=True)}


def difference_of(
    first: str, second: str, summary: str, found: Estimate, higher_is_better: bool
) -> Difference:
    """One difference, not yet adjusted for others."""
    p_value = found.p_value()
    return Difference(
        first, second, summary, found, higher_is_better, *found.interval(), p_value, p_value
    )


def adjusted(
    differences: Iterable[Difference], baseline: str | None = None, share: float = 1.0
) -> list[Difference]:
    """A family of differences with Holm's correction over all, and over those with the baseline.

    ``share`` is the part of the 5 % that this look at the results has.
    """
    family = list(differences)
    of_baseline = [at for at, one in enumerate(family) if baseline in (one.first, one.second)]
    with_baseline = dict(zip(of_baseline, holm([family[at].p for at in of_baseline]), strict=True))
    return [
        replace(
            one,
            p_adjusted=min(1.0, p / share),
            p_baseline=min(1.0, with_baseline[at] / share) if at in with_baseline else math.nan,
            share=share,
        )
        for at, (one, p) in enumerate(zip(family, holm([one.p for one in family]), strict=True))
    ]
