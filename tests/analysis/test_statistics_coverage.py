"""Coverage of the 95 % intervals on synthetic tables of right and wrong predictions with known
truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from harness.analysis.statistics.bootstrap import estimate_resampled, resampled, worst
from harness.analysis.statistics.intervals import Estimate, estimate

Array = np.ndarray[Any, np.dtype[Any]]

SAMPLES, DIFFICULTY = 200, math.sqrt(0.5)
STUDIES, STUDIES_OF_WORST = 1000, 400
NOISE = {"seeds": (0.3, 0.2), "both": (0.1, 0.8), "samples": (0.02, 1.0)}
"""Spread of the seeds, and of what a row makes of a sample beside its difficulty for all, in units
of the latent noise.
"""

LEVELS = {"clear": (-0.5, 0.3, 0.6), "near": (0.2, 0.2, 0.5)}


class Row:
    """Predictions are right where level + seed + sample + noise > 0, all normal: every truth is a
    normal probability.
    """

    def __init__(self, levels: tuple[float, ...], of_seeds: float, of_samples: float) -> None:
        self.levels, self.of_seeds, self.of_samples = np.array(levels), of_seeds, of_samples

    def seeds(self, noise: np.random.Generator, count: int) -> Array:
        shared, own = noise.normal(size=count), noise.normal(size=(len(self.levels), count))
        return np.asarray(self.levels[:, None] + self.of_seeds * (shared + own) / math.sqrt(2))

    def draw(self, noise: np.random.Generator, count: int, difficulty: Array) -> Array:
        of_seeds = self.seeds(noise, count)[:, :, None]
        latent = of_seeds + difficulty + self.of_samples * noise.normal(size=SAMPLES)
        return np.asarray(100.0 * (latent + noise.normal(size=(*of_seeds.shape[:2], SAMPLES)) > 0))

    def truth(self) -> tuple[float, float]:
        """The average and the worst over the population of seeds and samples."""
        spread = math.sqrt(1 + DIFFICULTY**2 + self.of_samples**2)
        expected = 100 * ndtr(self.seeds(np.random.default_rng(99), 200_000) / spread)
        return float(expected.mean()), float(expected.min(0).mean())


def simulate(noise: np.random.Generator, rows: tuple[Row, Row], seeds: int) -> Iterator[Estimate]:
    """The estimates of one study: average, then worst, which is slower."""
    difficulty = DIFFICULTY * noise.normal(size=SAMPLES)
    first, second = (row.draw(noise, seeds, difficulty) for row in rows)
    yield estimate((first - second).mean(0))
    points = worst(first.mean(2), True) - worst(second.mean(2), True)
    again = resampled(np.stack([first, second]), 200, seed=int(noise.integers(2**31)))
    yield estimate_resampled(points, worst(again[:, 0], True) - worst(again[:, 1], True), SAMPLES)


def covered(rows: tuple[Row, Row], seeds: int, seed: int) -> tuple[float, float]:
    """How often in percent the intervals hold the true average and worst, of ``STUDIES`` and a part
    of them.
    """
    truths = (
        (0.0, 0.0) if rows[0] is rows[1] else np.subtract(rows[0].truth(), rows[1].truth()).tolist()
    )
    held: tuple[list[bool], list[bool]] = [], []
    noise = np.random.default_rng(seed)
    for study in range(STUDIES):
        for truth, kept, found in zip(truths, held, simulate(noise, rows, seeds), strict=False):
            low, high = found.interval()
            kept.append(low <= truth <= high)
            if study >= STUDIES_OF_WORST:
                break
    return 100 * float(np.mean(held[0])), 100 * float(np.mean(held[1]))


def check(rates: tuple[float, float]) -> None:
    """93 to 97 %, give or take two standard errors of the simulation at 96 %."""
    for rate, studies in zip(rates, (STUDIES, STUDIES_OF_WORST), strict=True):
        slack = 2 * 100 * math.sqrt(0.96 * 0.04 / studies)
        assert 93 - slack <= rate <= 97 + slack, rates


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("regime", NOISE)
def test_coverage_of_equal_rows(regime: str, levels: str, seeds: int) -> None:
    row = Row(LEVELS[levels], *NOISE[regime])
    rates = covered((row, row), seeds, 11)
    print(f"{seeds} seeds, {regime}, {levels}: average {rates[0]:.1f}, worst {rates[1]:.1f}")
    check(rates)
    # Equal rows are told apart at most as often as is nominal, give or take two standard errors.
    assert rates[0] >= 95 - 2 * 100 * math.sqrt(0.95 * 0.05 / STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
def test_coverage_of_a_true_difference(seeds: int) -> None:
    """Rows of other levels and other noise."""
    rows = Row((-0.2, 0.4, 0.5), *NOISE["both"]), Row((0.1, 0.3, 0.9), *NOISE["samples"])
    assert min(np.abs(np.subtract(rows[0].truth(), rows[1].truth()))) > 2
    check(covered(rows, seeds, 12))


@pytest.mark.slow
def test_a_worst_case_among_ties_is_not_calibrated_and_says_so() -> None:
    rows = (
        Row((-0.5, 0.3, 0.4, 0.6, 0.7, 0.9, 1.2), *NOISE["samples"]),
        Row((0.2,) * 7, *NOISE["samples"]),
    )
    truth, noise = (
        float(np.subtract(rows[0].truth(), rows[1].truth())[1]),
        np.random.default_rng(13),
    )
    found = [list(simulate(noise, rows, 5))[1] for _ in range(STUDIES_OF_WORST)]
    halves = np.array([one.interval()[1] - one.corrected for one in found])
    plain, corrected = (
        float((np.abs(np.array(centres) - truth) <= halves).mean())
        for centres in ([one.value for one in found], [one.corrected for one in found])
    )
    print(
        f"ties against a clear worst, 5 seeds, samples: {100 * corrected:.1f}, uncorrected"
        f" {100 * plain:.1f}"
    )
    assert plain < 0.88 < corrected < 0.95
    assert np.mean([one.biased for one in found]) > 0.8
