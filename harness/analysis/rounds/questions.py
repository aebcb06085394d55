"""The question of one row: by how much is it behind the best one?

All functions take numbers or arrays, so that the simulation in tests/benchmarks/simulated_seeds.py
asks what studies ask. A lead is the best row's value less the row's, positive where it is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from harness.analysis.statistics.intervals import SIGNIFICANCE_LEVEL, Estimate

Array = np.ndarray[Any, np.dtype[Any]]

LARGEST_FACTOR = 1e6
"""By which a test set is imagined to grow, at most."""


def above(low: Any, difference: float) -> Any:
    """Whether a lead is shown to be the difference that matters, or more."""
    return low >= difference


def within(low: Any, high: Any, difference: float) -> Any:
    """Whether a lead is shown to be no more than the difference that matters, to either side."""
    return (high <= difference) & (low >= -difference)


def seeds_help(lead: Any, of_seeds: Any, of_samples: Any, beaten: Any, difference: float) -> Any:
    """Whether more seeds may close what is open.

    Args:
        lead: as it seems.
        of_seeds: how far it may still move: half of its 95 % interval over seeds.
        of_samples: half of the interval at the look's level that the test samples alone leave,
            with as many seeds as one likes.
        beaten: whether the row is already shown to be worse.
        difference: the one that matters.

    A row that could still be best is also in question until it is shown to be worse.
    """
    farthest, nearest = lead + of_seeds, lead - of_seeds
    may_be_above = farthest - of_samples >= difference
    low = np.maximum(nearest, of_samples - difference)
    may_be_within = low <= np.minimum(farthest, difference - of_samples)
    return may_be_above | may_be_within | (np.logical_not(beaten) & (farthest - of_samples > 0))


def over_seeds(found: Estimate) -> float:
    """Half of the 95 % interval that the seeds alone leave."""
    quantile = -float(special.stdtrit(found.seed_freedom, SIGNIFICANCE_LEVEL / 2))
    return quantile * math.sqrt(found.from_seeds)


def over_samples(found: Estimate, level: float) -> float:
    """Half of the interval at a level that the test samples alone leave."""
    if found.too_few_groups or math.isinf(found.from_samples):
        return math.inf
    return -float(special.stdtrit(found.freedom, level / 2)) * math.sqrt(found.from_samples)


def times_as_large(
    found: Estimate, lead: float, difference: float, most: int, level: float
) -> float | None:
    """By how much the test set would have to be larger to close the question with ``most`` seeds,
    if the lead is what it seems; None where no size would do.
    """
    room = abs(lead) - difference if abs(lead) > difference else difference - abs(lead)
    if found.too_few_groups or not math.isfinite(found.variance) or room <= 0:
        return None
    seeds = replace(
        found,
        from_seeds=found.from_seeds * found.seeds / most,
        seed_freedom=found.seed_freedom * (most - 1) / (found.seeds - 1),
        seeds=most,
    )

    def fits(factor: float) -> bool:
        larger = replace(
            seeds, from_samples=found.from_samples / factor, freedom=found.freedom * factor
        )
        low, high = larger.interval(level)
        return (high - low) / 2 <= room

    return _least(fits)


def _least(fits: Callable[[float], bool]) -> float | None:
    """The least factor that fits, to a thousandth; None where the largest does not."""
    low, high = 1.0, LARGEST_FACTOR
    if fits(low):
        return low
    if not fits(high):
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
