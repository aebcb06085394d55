"""Rows under a presence profile: closed form, counting by simulation, coverage, and a store with
counted predictions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.findings import analyse
from harness.analysis.results import read
from harness.analysis.statistics import EXPECTED, RowSamples, weighted
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import estimate
from harness.protocol.combinations import lattice
from harness.reporting.answer import answer
from harness.reporting.sections.presence import expected_table
from harness.study.presence import presence
from harness.tracking.mlflow.row_facts import read_rows
from tests.support.handmade import LADDER, N, ladder, planned, write_trial

NAMES = ("a", "b")
LATTICE = lattice(NAMES)


def weights(a: float, b: float) -> Any:
    """(C,) of a, b and ab, present independently."""
    found = presence({"a": a, "b": b}, NAMES)
    assert found is not None
    return np.array(found.probabilities)


def test_a_profile_of_even_chances_is_the_average() -> None:
    noise = np.random.default_rng(0)
    rows = [RowSamples(x, (0, 1), noise.normal(size=(3, 2, 50))) for x in "xy"]
    (found,) = weighted(rows, weights(0.5, 0.5), EXPECTED, True)
    plain = estimate((rows[0].values - rows[1].values).mean(0))
    assert found.value == pytest.approx(plain.value)
    assert (found.low, found.high) == pytest.approx(plain.interval())


def test_the_interval_is_that_of_the_weighted_samples() -> None:
    """Of v = (.9 * .4 a + .1 * .6 b + .9 * .6 ab) / (1 - .1 * .4), sample by sample, in groups."""
    noise = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), [3, 5, 2, 7, 4, 4, 6, 1, 8, 5, 3, 2])
    rows = [
        RowSamples(x, (0, 1, 2), noise.normal(size=(3, 3, len(groups))), groups=groups)
        for x in "xy"
    ]
    (found,) = weighted(rows, weights(0.9, 0.6), EXPECTED, True, "y")
    gap = rows[0].values - rows[1].values
    by_hand = (0.36 * gap[0] + 0.06 * gap[1] + 0.54 * gap[2]) / 0.96
    expected = estimate(by_hand, Groups.of(groups))
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx(expected.interval())
    assert found.p_baseline == pytest.approx(expected.p_value())


def test_combinations_of_other_samples_weigh_with_their_chance() -> None:
    """A combination that only one group has, and that is rarely met, hardly rests on that group."""
    groups = np.repeat(np.arange(4), 5)
    counted = np.ones((3, 20), dtype=bool)
    counted[1] = groups == 0
    row = RowSamples("x", (0,), np.zeros((3, 1, 20)), counted, groups)
    rare, plain = row.grouping(weights(0.99, 0.5)), row.grouping(np.ones(3, dtype=bool))
    assert plain.share == pytest.approx([(0.25 + 1 + 0.25) / 3, *[0.5 / 3] * 3])
    share = 0.01 * 0.5 / (1 - 0.01 * 0.5)
    assert rare.share[0] == pytest.approx(0.25 * (1 - share) + share)


def test_counting_by_simulation() -> None:
    """Sensors that fail one by one, a prediction each time: the share of right ones that comes out,
    of the times that something was there.
    """
    noise = np.random.default_rng(2)
    right = noise.random((3, 2, 400)) < np.array([0.5, 0.7, 0.9])[:, None, None]
    rows = [RowSamples("x", (0, 1), 100.0 * right), RowSamples("y", (0, 1), 0.0 * right)]
    (found,) = weighted(rows, weights(0.7, 0.4), EXPECTED, True)
    there = noise.random((400_000, 2)) < [0.7, 0.4]
    some = there.any(1)
    place = (there @ np.array([1, 2]) - 1)[some]
    drawn = right[place, noise.integers(2, size=some.sum()), noise.integers(400, size=some.sum())]
    assert found.value == pytest.approx(100 * drawn.mean(), abs=0.4)


def test_simulated_coverage() -> None:
    """Three seeds, ten unequal groups, a very uneven profile; the truth is a difference of 0."""
    noise, hits, runs = np.random.default_rng(3), 0, 400
    number = np.repeat(np.arange(10), [2, 3, 4, 5, 6, 8, 10, 12, 16, 24])
    for _ in range(runs):
        rows = [
            RowSamples(
                x,
                (0, 1, 2),
                0.3 * noise.normal(size=(3, 3, 1))
                + noise.normal(size=(3, 1, 10))[..., number]
                + noise.normal(size=(3, 3, len(number))),
                groups=number,
            )
            for x in "xy"
        ]
        (found,) = weighted(rows, weights(0.95, 0.3), EXPECTED, True)
        hits += found.low <= 0 <= found.high
    assert 92.0 <= 100 * hits / runs <= 98.5


# ---------------------------------------------------------------------- from a store


def test_a_profile_leads_the_answer(tmp_path: Path) -> None:
    """hemis is 15 of 60 better on all combinations; the profile has no thumb at all."""
    chances = "report.presence={thumb: 0, spectrum: 0.5, profile: 0.9}"
    plan, store = planned(tmp_path, "seeds=[0,1,2]", "methods=[sf_md,hemis]", chances)
    for label, start in (("sf_md", 24), ("hemis", 39)):
        for seed in (0, 1, 2):
            write_trial(plan, store, label, seed, ladder(start))
    findings = analyse(read(plan, store))
    of = findings.expected
    assert of is not None and of.ranking is not None
    # spectrum alone .5 * .1, profile alone .5 * .9, both .5 * .9; nothing .5 * .1
    steps = [LADDER[1], LADDER[2], LADDER[5]]
    gained = (0.05 * steps[0] + 0.45 * steps[1] + 0.45 * steps[2]) / 0.95
    assert of.values["hemis"].mean == pytest.approx(100 * (39 + gained) / N)
    assert of.profile.nothing == pytest.approx(0.05)
    assert of.ranking.leader == "hemis"
    text = answer(findings)
    assert text[0].startswith("hemis is the best of 2 rows:")
    assert (
        "expected under the presence profile (thumb 0 %, spectrum 50 %, profile 90 % of the time,"
        " independently)"
    ) in text[0]
    assert text[2].startswith("Left out: nothing at all is present 5 % of the time")
    assert "accuracy averaged over the 7 combinations" in text[3]
    baseline, hemis = expected_table(findings)
    assert (baseline["label"], hemis["label"]) == ("sf_md", "hemis")
    assert hemis["minus_baseline_value"] == pytest.approx(25.0)
    metrics = {facts.label: facts.metrics for facts in read_rows(findings)}
    assert metrics["hemis"]["presence/accuracy"] == pytest.approx(of.values["hemis"].mean)
    assert metrics["hemis"]["presence/minus_baseline"] == pytest.approx(25.0)
    assert "presence/minus_baseline" not in metrics["sf_md"]


def test_without_a_profile_nothing_is_said_of_one(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1]", "methods=[sf_md,hemis]")
    for label, start in (("sf_md", 24), ("hemis", 39)):
        for seed in (0, 1):
            write_trial(plan, store, label, seed, ladder(start))
    findings = analyse(read(plan, store))
    assert findings.expected is None and expected_table(findings) == []
    assert "presence" not in " ".join(answer(findings))
    assert not [name for one in read_rows(findings) for name in one.metrics if "presence/" in name]
