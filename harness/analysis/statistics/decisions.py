"""What decides between rows: the seed variance pooled over rows, and comparisons with the best.

R rows, S seeds. With few seeds a variance over S - 1 degrees of freedom, and a correction for all
R (R - 1) / 2 pairs, leave almost nothing to be found. Both have a remedy: rows are trained alike,
so that their variances over seeds may be one, and who asks for the best row compares each with the
best, not each with each. What both do to false differences and to power is simulated side by side
in tests/benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.statistics.intervals import SIGNIFICANCE_LEVEL, Estimate

Array = np.ndarray[Any, np.dtype[Any]]

OUTLYING = 0.1
"""The p value of its F test below which a pair's variance is taken as above the pooled one.

A test of all rows at once (Bartlett's) was simulated too: it lets more false differences through.
"""

ROUNDING = 1e-12
"""Of the largest value: residuals below are none."""


@dataclass(frozen=True)
class Pool:
    """The variance of a difference of two rows' values with one seed, from all rows."""

    variance: float
    freedom: float


def pooled_over_rows(means: Array) -> Pool | None:
    """The variance that rows have in common, from each trial's value (R, S); NaN where a row lacks
    a seed.

    From the residuals of rows x seeds, on (R - 1) (S - 1) degrees of freedom where every row has
    every seed. None for fewer than three rows or two seeds, and where nothing varies.
    """
    rows, seeds = means.shape
    if rows < 3 or seeds < 2:
        return None
    residuals, freedom = _residuals(means)
    if freedom < 1 or not residuals.any():
        return None
    # Twice: a difference has the variances of two rows.
    return Pool(2 * float((residuals**2).sum()) / freedom, float(freedom))


def _residuals(means: Array) -> tuple[Array, int]:
    """What is left of values (R, S) beside rows and seeds, and its degrees of freedom."""
    rows, seeds = means.shape
    there = ~np.isnan(means)
    if there.all():
        residuals = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
        return residuals, (rows - 1) * (seeds - 1)
    # Least squares: an effect of each row and of each seed.
    row, seed = np.nonzero(there)
    values, trial = means[there], np.arange(len(row))
    design = np.zeros((len(values), rows + seeds))
    design[trial, row] = 1
    design[trial, rows + seed] = 1
    effects, _, rank, _ = np.linalg.lstsq(design, values)
    residuals = values - design @ effects
    # Of values that are fitted exactly, rounding is left.
    residuals[np.abs(residuals) < ROUNDING * np.abs(values).max()] = 0
    return residuals, len(values) - int(rank)


def with_pool(found: Estimate, pool: Pool | None) -> Estimate:
    """An estimate whose V1 is the larger of its own and the pooled one.

    Its own, on its own degrees of freedom, where it is significantly larger.
    """
    if pool is None or found.seeds < 2:
        return found
    pooled = pool.variance / found.seeds
    p_value = stats.f.sf(found.from_seeds / pooled, found.seeds - 1, pool.freedom)
    if p_value < OUTLYING:
        return found
    return replace(found, from_seeds=max(found.from_seeds, pooled), seed_freedom=pool.freedom)


def best_level(rows: int, share: float = 1.0) -> float:
    """The two-sided level of one comparison with the best of R rows, at a look that has this share
    of the 5 %.

    alpha / (R - 1) each: with the true best row there are R - 1 comparisons, and one that falsely
    beats it must be among them (Hsu, Multiple Comparisons, 1996, chapter 4, with Bonferroni's bound
    for Dunnett's quantile). Hsu's are one-sided; both sides count here, so that one of two equally
    good rows is called the best in 5 % of studies, not in 10 %.
    """
    return SIGNIFICANCE_LEVEL * share / max(rows - 1, 1)


def compared_with_the_best(
    order: Sequence[str], beaten: Mapping[str, set[str]]
) -> tuple[tuple[str, ...], str | None]:
    """The rows among which the best is, with 95 % confidence, and the one that is, if one is left.

    ``beaten``: row -> the rows that it is better than at ``best_level``.
    """
    losers = set().union(*beaten.values())
    may_be = tuple(row for row in order if row not in losers)
    return may_be, may_be[0] if len(order) > 1 and len(may_be) == 1 else None
