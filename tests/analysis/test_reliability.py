"""Intervals of calibration errors and risk-coverage areas: counted predictions, bootstraps of whole
groups, simulated coverage.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.analysis.in_use.reliability import (
    Bounded,
    _calibration,
    _Cell,
    _folded,
    reliability,
)
from harness.analysis.results import read
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import estimate
from harness.protocol.calibration import Predictions, from_scores
from tests.benchmarks.simulated_reliability import CASES, covered
from tests.support.handmade import LADDER, N, ladder, planned, write_trial

Array = np.ndarray[Any, np.dtype[Any]]


def test_reliability_of_counted_predictions(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0,1]")
    for seed, start in ((0, 12), (1, 18)):
        write_trial(plan, store, "sf_md", seed, ladder(start))
    found = reliability(read(plan, store))["sf_md"]
    # scores are one-hot: every confidence is e / (e + 9), and all predictions tie
    confidence = math.e / (math.e + 9)
    for name, step in zip(found.cells, LADDER, strict=True):
        right = [(start + step) / N for start in (12, 18)]
        error = 100 * np.mean([abs(r - confidence) for r in right])
        assert found.cells[name].calibration_error == pytest.approx(error, abs=1e-4)
        assert found.calibration[name].value == pytest.approx(error, abs=1e-4)
        assert found.cells[name].aurc == pytest.approx(100 * (1 - np.mean(right)))
        assert found.area[name].value == pytest.approx(100 * (1 - np.mean(right)))
        assert found.cells[name].risk == pytest.approx([100 * (1 - np.mean(right))] * 20)
    assert found.mean is not None and found.minus_baseline is None
    errors = [one.calibration_error for one in found.cells.values()]
    assert found.mean.calibration.value == pytest.approx(np.mean(errors))


def test_the_interval_of_ties_is_that_of_the_error_rate(tmp_path: Path) -> None:
    """Where all predictions tie, the area is the error rate, and each sample counts for itself;
    so groups of samples widen its interval as they widen the accuracy's.
    """
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0,1]")
    people = (np.arange(N) // 6).tolist()
    starts = {"sf_md": (12, 18), "hemis": (24, 33)}
    for label, of_seeds in starts.items():
        for seed, start in enumerate(of_seeds):
            write_trial(plan, store, label, seed, ladder(start), groups=people)
    found = reliability(read(plan, store))
    groups = Groups.of(np.array(people))

    def errors(label: str) -> Array:
        """(C, S, N) in percent."""
        counts = np.array(LADDER)[:, None] + starts[label]
        return 100.0 * (np.arange(N) >= counts[..., None])

    for label, row in found.items():
        expected = estimate(errors(label)[0], groups)
        low, high = expected.interval()
        assert row.area["thumb"].low == pytest.approx(max(low, 0))
        assert row.area["thumb"].high == pytest.approx(min(high, 100))
    gap = estimate((errors("hemis") - errors("sf_md")).mean(0), groups)
    less = found["hemis"].minus_baseline
    assert less is not None and found["sf_md"].minus_baseline is None
    assert less.area.value == pytest.approx(gap.value)
    assert (less.area.low, less.area.high) == pytest.approx(gap.interval())


def test_what_noise_adds_is_the_mean_of_absolute_values() -> None:
    gaps, spread = np.array([0.0, 0.01, -0.03, 0.2]), np.array([0.02, 0.02, 0.02, 0.0])
    drawn = gaps + spread * np.random.default_rng(0).normal(size=(400_000, 4))
    expected = 100 * (np.abs(drawn).mean(0) - np.abs(gaps)).sum()
    assert _folded(np.abs(gaps), spread) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("people", [None, 40])
def test_spread_and_gain_are_those_of_a_bootstrap(people: int | None) -> None:
    """1,200 predictions, or 40 people with 5 to 60 of them, drawn with replacement."""
    noise = np.random.default_rng(1)
    number = np.arange(1200)
    if people is not None:
        number = np.repeat(np.arange(people), noise.integers(5, 61, people))
    n = len(number)
    hard = 0.8 * noise.normal(size=number.max() + 1)[number] * (people is not None)
    confident = 1.5 + noise.normal(size=n)
    right = noise.random(n) < 1 / (1 + np.exp(-0.6 * confident - hard))
    # Two classes: the confidence is that of the larger score.
    scores = torch.from_numpy(np.stack([np.abs(confident), np.zeros(n)], 1))
    target = torch.from_numpy((~right).astype(int))
    groups = Groups.of(number)
    cell = _Cell.of(Predictions.of_scores(scores, target), np.ones(n, dtype=bool), groups)
    members = [np.flatnonzero(number == g) for g in range(number.max() + 1)]
    drawn = []
    for _ in range(300):
        chosen = np.concatenate(
            [members[g] for g in noise.integers(len(members), size=len(members))]
        )
        one = from_scores(scores[chosen], target[chosen])
        drawn.append((one.calibration_error, one.aurc, one.excess))
    found = np.array(drawn)
    spreads = [estimate(values[None], groups).variance ** 0.5 for values in cell.values]
    # The absolute values of a calibration error spread less than the gaps they are of.
    assert 0.75 * spreads[0] < found[:, 0].std() < 1.1 * spreads[0]
    assert found[:, 1:].std(0) == pytest.approx(spreads[1:], rel=0.15)
    gained = found[:, 0].mean() - cell.reliability.calibration_error
    assert gained == pytest.approx(cell.gain[0], rel=0.35, abs=0.1)
    assert cell.gain[1] > cell.gain[0]


def test_a_difference_gains_least_where_the_first_does() -> None:
    values = np.random.default_rng(0).normal(10, 1, size=(1, 500))
    groups = Groups.independent(500)
    plain = estimate(values, groups).interval()
    found = _calibration(values, np.array([0.5, 2.0]), groups)
    assert found == Bounded(
        pytest.approx(values.mean()), pytest.approx(plain[0] - 2.0), pytest.approx(plain[1] - 0.5)
    )


QUICK = "overconfident, much so"


@pytest.mark.parametrize(
    "name",
    [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_simulated_coverage(name: str) -> None:
    """At least 95 %, less the simulation's own noise of 60 test sets."""
    assert min(covered(CASES[name], runs=60, people=30, frames=12, seeds=3)) >= 90.0
