"""All pairs of rows, by each summary of their combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from harness.analysis.results import Results
from harness.analysis.statistics.bootstrap import estimate_resampled, resampled, worst
from harness.analysis.statistics.decisions import Pool, pooled_over_rows, with_pool
from harness.analysis.statistics.difference import (
    AVERAGE,
    WORST,
    Difference,
    adjusted,
    difference_of,
    present,
)
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import estimate
from harness.analysis.statistics.samples import RowSamples, row_samples
from harness.protocol.combinations import Combination

Array = np.ndarray[Any, np.dtype[Any]]


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
    scored = _scored(rows)
    places = np.arange(len(scored))
    single = [_Mean(lattice[at].name, places == at) for at in np.flatnonzero(scored).tolist()]

    def compared(means: Sequence[_Mean]) -> list[Difference]:
        return [one for mean in means for one in _compared(rows, mean, higher_is_better)]

    # Each family is corrected for itself: averages, worst cases, the means over each number of
    # present modalities together, and the single combinations together.
    families = [
        compared([_Mean(AVERAGE, scored)]),
        _worst_compared(rows, scored, higher_is_better),
        compared(_of_sizes(lattice, scored)),
        compared(single),
    ]
    return [one for family in families for one in adjusted(family, baseline, share)]


def averaged(
    rows: Sequence[RowSamples], higher_is_better: bool, share: float = 1.0
) -> list[Difference]:
    """All pairs of rows by the average over the combinations alone."""
    if not rows:
        return []
    mean = _Mean(AVERAGE, _scored(rows))
    return adjusted(_compared(rows, mean, higher_is_better), None, share)


def _scored(rows: Sequence[RowSamples]) -> Array:
    """The combinations (C,) bool that samples have; the values of others are NaN."""
    unscored = [np.isnan(row.values).any((1, 2)) for row in rows]
    return np.asarray(~np.any(unscored, 0))


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
        # Without those of weight 0: they may be NaN, and 0 times NaN is NaN.
        on = self.weights > 0
        if self.weights.dtype == bool:
            return np.asarray(values[on].mean(0))
        weights = self.weights[on] / self.weights[on].sum()
        return np.tensordot(weights, values[on], 1)


def _of_sizes(lattice: Sequence[Combination], scored: Array) -> list[_Mean]:
    """The means over the combinations of each size that has several."""
    sizes = np.array([combination.size for combination in lattice])
    chosen = [(size, scored & (sizes == size)) for size in np.unique(sizes).tolist()]
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
    # Rounds give some rows more seeds than others, and then the seeds of one are among those of the
    # next. Where they are not (failed trials may do that), nothing is pooled.
    nested = sorted((sorted(row.seeds) for row in rows), key=len)
    if any(not set(few) <= set(more) for few, more in pairwise(nested)):
        return None
    order = nested[-1]
    means = np.full((len(rows), len(order)), np.nan)
    for at, (row, one) in enumerate(zip(rows, values, strict=True)):
        means[at, [order.index(seed) for seed in row.seeds]] = one
    return pooled_over_rows(means)


def _compared(rows: Sequence[RowSamples], mean: _Mean, higher_is_better: bool) -> list[Difference]:
    """All pairs by one mean, not yet adjusted for each other."""
    values = {row.label: mean.of(row.values) for row in rows}  # (S, N) each
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
    rows: Sequence[RowSamples], scored: Array, higher_is_better: bool
) -> list[Difference]:
    """All pairs by each trial's worst combination, not yet adjusted for each other."""
    places = np.arange(len(scored))
    single = [rows[0].grouping(places == at) for at in np.flatnonzero(scored)]
    values = _worst_of(rows, scored, single, higher_is_better)
    pool = _pool(rows, [values[row.label][0] for row in rows])
    # Any combination may be the worst one: the fewest degrees of freedom of all count.
    freedom = min(groups.freedom for groups in single)
    samples = rows[0].values.shape[2]
    found = []
    for first, second, seeds in _pairs(rows):
        gap = values[first.label][:, first.at(seeds)] - values[second.label][:, second.at(seeds)]
        measured, replicates = gap[0], gap[1:]
        of_pair = with_pool(estimate_resampled(measured, replicates, samples, freedom), pool)
        found.append(difference_of(first.label, second.label, WORST, of_pair, higher_is_better))
    return found


def _worst_of(
    rows: Sequence[RowSamples], scored: Array, single: Sequence[Groups], higher_is_better: bool
) -> dict[str, Array]:
    """Each trial's worst combination (1 + B, S) by row: first as it is, then on resampled groups of
    samples, the same for all rows.

    ``single`` are the groups that each combination rests on.
    """
    # All trials of all rows side by side, so that one drawing of samples serves them all: (C, T, N)
    # with T trials.
    values = np.concatenate([row.values[scored] for row in rows], 1)
    drawable = [groups.drawable(one) for groups, one in zip(single, values, strict=True)]
    measured = values.mean(2)[None]
    means = np.concatenate([measured, resampled(np.stack(drawable))])  # (1 + B, C, T)
    ends = np.cumsum([len(row.seeds) for row in rows])[:-1]
    parts = np.split(worst(means, higher_is_better), ends, axis=1)
    return {row.label: part for row, part in zip(rows, parts, strict=True)}
