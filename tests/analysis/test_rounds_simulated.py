"""Rounds of seeds in many simulated studies: what they say falsely, what intervals cover.

The tables are made by tests/benchmarks/simulated_seeds.py, whose estimates are first compared with
those of studies here.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.statistics import RowSamples, averaged
from harness.analysis.statistics.groups import Groups
from tests.benchmarks import simulated_seeds
from tests.benchmarks.simulated_seeds import TEST_SETS, Studies, quantile, simulated
from tests.benchmarks.simulated_statistics import sizes

SLACK = 3
"""Standard errors of a simulated rate that it may be beside its limit."""


@pytest.mark.parametrize("test_set", ["30 equal", "10 unequal"])
@pytest.mark.parametrize("counts", [(3, 3, 3, 3), (5, 8, 3, 8), (6, 6, 3, 3)])
def test_simulated_studies_are_decided_by_the_estimates_of_real_ones(
    test_set: str, counts: tuple[int, ...]
) -> None:
    number = int(test_set.split()[0])
    of_sample = np.repeat(np.arange(number), sizes(number, test_set.split()[1]))
    of = Studies(np.array([1.0, 0.5, 0.0, 2.0]), Groups.of(of_sample), 3, np.random.default_rng(1))
    have = np.array([counts] * 3)
    best = of.best(have)
    gap = of.lead(best, have)
    for study in range(3):
        rows = [
            RowSamples(f"r{row}", tuple(range(n)), of.values[study, row, :n][None, :, of_sample])
            for row, n in enumerate(counts)
        ]
        rows = [RowSamples(row.label, row.seeds, row.values, None, of_sample) for row in rows]
        top = max(rows, key=lambda row: float(row.values.mean()))
        assert top.label == f"r{best[study]}"
        for one in averaged(rows, True):
            if top.label not in (one.first, one.second):
                continue
            other = int((one.second if one.first == top.label else one.first)[1:])
            sign = 1 if one.first == top.label else -1
            found = one.estimate
            assert sign * found.value == pytest.approx(gap.value[study, other])
            assert found.from_seeds == pytest.approx(gap.from_seeds[study, other])
            assert found.from_samples == pytest.approx(gap.from_samples[study, other])
            assert found.seed_freedom == pytest.approx(gap.seed_freedom[study, other])
            low, high = found.interval(0.003)
            assert (high - low) / 2 == pytest.approx(gap.half(0.003)[study, other])
    assert quantile(10, 0.05) == pytest.approx(2.228139, abs=1e-5)


def at_most(limit: float, studies: int) -> float:
    """The largest simulated rate in % that a true one of ``limit`` % may well have."""
    return limit + SLACK * 100 * float(np.sqrt(limit / 100 * (1 - limit / 100) / studies))


def test_rounds_in_few_studies() -> None:
    studies = 100
    found = simulated(3, "10 unequal", "2", studies)
    assert found["square"]["trials"] < 95 < found["fixed"]["trials"] == 100
    assert found["square"]["found"] > 90
    assert found["square"]["false"] <= at_most(5, studies)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 8, 15])
@pytest.mark.parametrize("test_set", list(TEST_SETS)[:2])
def test_looking_several_times_says_no_more_that_is_false(rows: int, test_set: str) -> None:
    """At every lead, the difference that matters included, where both statements are false."""
    studies = 500
    for kind in simulated_seeds.LEADS:
        found = simulated(rows, test_set, kind, studies)["square"]
        assert found["false"] <= at_most(5, studies), kind
        assert 93 <= found["covered"] <= 97.5, kind
        assert found["trials"] <= 100, kind


@pytest.mark.slow
def test_five_percent_at_each_look_would_say_too_much() -> None:
    """Without a part of the 5 % for each look the simulation sees false statements."""
    designs = ("square", simulated_seeds.NONE_SPENT)
    found = simulated(3, "30 equal", "1", 1000, 1.0, designs)
    assert found[simulated_seeds.NONE_SPENT]["false"] > 1.5 * found["square"]["false"]
