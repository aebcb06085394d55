"""Intervals, tests, power and seeds needed against scipy, textbook formulas and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from harness.analysis.statistics.bootstrap import estimate_resampled, resampled, two_level, worst
from harness.analysis.statistics.intervals import Estimate, calibration, coverage, estimate, power

Array = np.ndarray[Any, np.dtype[Any]]


def crossed(
    seeds: int, samples: int, of_seeds: float, of_samples: float, rest: float = 1.0, seed: int = 0
) -> Array:
    noise = np.random.default_rng(seed)
    table = of_seeds * noise.normal(size=(seeds, 1)) + of_samples * noise.normal(size=samples)
    return np.asarray(table + rest * noise.normal(size=(seeds, samples)))


def test_the_parts_of_the_variance_by_hand() -> None:
    # means of seeds 1, 2, 3 +- 0; of samples 0, 4; interaction +-1 alternating by (-1, 0, 1) x (-1,
    # 1)
    table = np.array([[-1.0 + 1, 3.0 - 1], [0.0, 4.0], [1.0 - 1, 5.0 + 1]])
    found = estimate(table)
    assert found.value == pytest.approx(2.0)
    # MS_seed = 2 * ((1-2)^2 + 0 + (3-2)^2) / 2 = 2, MS_sample = 3 * (2^2 + 2^2) / 1 = 24, MS_rest =
    # 4 * 1 / 2 = 2
    assert found.from_seeds == pytest.approx(2 / 6)
    assert found.from_samples == pytest.approx((24 - 2) / 6)
    assert found.variance == pytest.approx((2 + 24 - 2) / 6)


def test_a_negative_part_of_the_samples_is_none() -> None:
    found = estimate(np.array([[1.0, -1.0], [-1.0, 1.0]]) + np.array([[3.0], [5.0]]))
    assert found.from_samples == 0 and found.from_seeds == pytest.approx(1.0)


def test_seed_noise_alone_is_the_t_test_over_seeds() -> None:
    means = np.array([1.0, 2.5, 0.3, 1.9])
    found = estimate(np.repeat(means[:, None], 50, 1))
    reference = stats.ttest_1samp(means, 0.0)
    assert found.p_value() == pytest.approx(reference.pvalue, rel=1e-6)
    assert found.interval() == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_one_seed_is_the_t_test_over_samples() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 60)
    found, reference = estimate(values[None]), stats.ttest_1samp(values, 0.0)
    assert found.p_value() == pytest.approx(reference.pvalue, rel=1e-6)
    assert found.interval() == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert calibration(1).note.startswith("test-sample noise only")


def test_sample_noise_alone_is_the_t_test_over_samples() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, 60)
    found, reference = estimate(np.repeat(values[None], 3, 0)), stats.ttest_1samp(values, 0.0)
    assert found.p_value() == pytest.approx(reference.pvalue, rel=1e-6)


def test_the_critical_value_is_cochran_and_cox() -> None:
    found = Estimate(0.0, 3.0, 1.0, seeds=3, samples=101)
    critical = (3 * stats.t.ppf(0.975, 2) + 1 * stats.t.ppf(0.975, 100)) / 4
    assert found.interval() == pytest.approx((-2 * critical, 2 * critical))


def test_p_is_below_the_level_where_the_interval_excludes_zero() -> None:
    both = set()
    for seed in range(60):
        found = estimate(crossed(3, 40, 0.3, 1.0, seed=seed) + 0.4)
        low, high = found.interval()
        assert (found.p_value() < 0.05) == (low > 0 or high < 0)
        both.add(low > 0)
        edge = abs(found.value) / math.sqrt(found.variance)
        p, share = found.p_value(), found.from_seeds / found.variance
        assert edge == pytest.approx(
            share * stats.t.isf(p / 2, 2) + (1 - share) * stats.t.isf(p / 2, 39), rel=1e-6
        )
    assert both == {True, False}


def test_no_difference_and_no_noise() -> None:
    same = estimate(np.zeros((3, 10)))
    assert (same.p_value(), same.interval(), same.detectable()) == (1.0, (0.0, 0.0), 0.0)
    assert estimate(np.ones((3, 10))).p_value() == 0.0


def noncentral(difference: float, seeds: int, level: float = 0.05) -> float:
    critical = stats.t.ppf(1 - level / 2, seeds - 1)
    lower = (
        stats.nct.cdf(-critical, seeds - 1, difference) if difference < 5 else 0.0
    )  # scipy: NaN where it is nothing
    return float(stats.nct.sf(critical, seeds - 1, difference) + lower)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_with_seed_noise_alone_is_that_of_the_t_test(seeds: int) -> None:
    for difference in (0.5, 2.0, 4.0, 6.0):
        assert power(difference, 1.0, seeds - 1, 500) == pytest.approx(
            noncentral(difference, seeds), abs=2e-3
        )
    needed = optimize.brentq(lambda d: noncentral(d, seeds) - 0.8, 0, 12)
    assert Estimate(0.0, 4.0, 0.0, seeds, 500).detectable() == pytest.approx(2 * needed, rel=5e-3)


def test_power_with_sample_noise_alone_is_that_of_the_normal_test() -> None:
    # (1.96 + 0.84)^2 = 7.85, the constant of every sample size table
    assert Estimate(0.0, 0.0, 1.0, 1, 10**6).detectable() == pytest.approx(
        math.sqrt(7.849), rel=1e-3
    )
    assert Estimate(0.0, 0.0, 1.0, 5, 10**6).detectable() == pytest.approx(
        math.sqrt(7.849), rel=1e-3
    )


def test_seeds_needed_is_the_sample_size_of_the_t_test() -> None:
    # difference d, variance 1 between seeds: n of the paired t test with 80 % power, by search over
    # the noncentral t
    for difference in (0.6, 1.0, 2.0):
        expected = next(n for n in range(2, 100) if noncentral(difference * math.sqrt(n), n) >= 0.8)
        assert Estimate(difference, 1 / 3, 0.0, seeds=3, samples=500).seeds_needed() == expected
    assert (
        next(n for n in range(2, 100) if noncentral(math.sqrt(n), n) >= 0.8) == 10
    )  # Cohen's tables: d = 1, n = 10
    # At a smaller level, as comparisons with the best of three rows have it.
    beyond = next(n for n in range(2, 100) if noncentral(math.sqrt(n), n, 0.025) >= 0.8)
    estimated = Estimate(1.0, 1 / 3, 0.0, seeds=3, samples=500)
    assert beyond > 10 and estimated.seeds_needed(0.025) == beyond


def test_no_number_of_seeds_helps_where_the_test_set_is_too_small() -> None:
    assert Estimate(2.7, 1.0, 1.0, seeds=3, samples=10**6).seeds_needed() == math.inf
    assert Estimate(2.9, 1.0, 1.0, seeds=3, samples=10**6).seeds_needed() < 100
    assert math.isnan(Estimate(2.9, 0.0, 1.0, seeds=1, samples=100).seeds_needed())


@pytest.mark.parametrize(
    ("seeds", "share"), [(2, 0.3), (3, 0.1), (3, 0.4), (3, 0.9), (5, 0.5), (10, 0.7)]
)
def test_coverage_by_quadrature_is_what_a_simulation_finds(seeds: int, share: float) -> None:
    noise, draws, samples = np.random.default_rng(seeds), 200_000, 1000
    value = noise.normal(size=draws)
    first = share * noise.chisquare(seeds - 1, draws) / (seeds - 1)
    second = (1 - share) * noise.chisquare(samples - 1, draws) / (samples - 1)
    critical = (
        first * stats.t.ppf(0.975, seeds - 1) + second * stats.t.ppf(0.975, samples - 1)
    ) / (first + second)
    simulated = float((np.abs(value) <= critical * np.sqrt(first + second)).mean())
    assert coverage(share, seeds, samples) == pytest.approx(simulated, abs=0.002)


def test_what_is_calibrated() -> None:
    assert [calibration(seeds).calibrated for seeds in (1, 2, 3, 5, 10)] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert (
        min(calibration(seeds).lowest for seeds in (3, 5, 10)) > 94.98
    )  # false differences not above the nominal rate
    assert calibration(3).highest == pytest.approx(97.1, abs=0.1) and calibration(5).highest < 96.5
    assert (
        calibration(2).note.startswith("not calibrated here: with 2 seeds")
        and calibration(3).note == ""
    )


def test_resampling_gives_the_same_parts_for_a_mean() -> None:
    for of_seeds, of_samples in ((0.5, 0.2), (0.02, 1.0), (0.1, 1.0)):
        table = crossed(4, 300, of_seeds, of_samples, seed=7)
        closed = estimate(table)
        again = estimate_resampled(table.mean(1), resampled(table, 4000), 300)
        assert again.value == pytest.approx(closed.value)
        assert again.from_seeds == pytest.approx(closed.from_seeds)
        assert again.from_samples == pytest.approx(closed.from_samples, rel=0.1, abs=2e-4)
        assert again.bias == pytest.approx(0, abs=4 * math.sqrt(closed.variance / 4000))


def test_the_two_level_bootstrap_agrees_once_it_is_widened() -> None:
    seeds, samples = 5, 400
    table = crossed(seeds, samples, 0.4, 3.0, rest=0.5, seed=3)
    closed = estimate(table)
    drawn = two_level(resampled(table, 8000))
    # Drawing S of S seeds has (S - 1) / S of their variance.
    expected = closed.from_seeds * (seeds - 1) / seeds + closed.from_samples
    assert drawn.var() == pytest.approx(expected, rel=0.06)
    assert drawn.mean() == pytest.approx(closed.value, abs=5 * math.sqrt(closed.variance / 8000))


def test_resampled_means_are_bootstrap_means() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 50))
    means = resampled(values, 5000)
    assert means.shape == (5000, 2, 3)
    assert means.std(0) == pytest.approx(values.std(2) / math.sqrt(50), rel=0.06)
    reference = stats.bootstrap(
        (values[0, 0],), np.mean, n_resamples=5000, random_state=1, method="percentile"
    ).standard_error
    assert means[:, 0, 0].std() == pytest.approx(reference, rel=0.06)
    assert (resampled(values, 10) == resampled(values, 10)).all()


def test_the_worst_combination_follows_the_direction() -> None:
    values = np.array([[70.0, 60.0], [65.0, 80.0]])
    assert worst(values, True).tolist() == [65.0, 60.0] and worst(values, False).tolist() == [
        70.0,
        80.0,
    ]


@pytest.mark.parametrize(("share", "freedom"), [(0.5, 2.0), (0.2, 4.4), (0.8, 11.0), (0.0, 3.0)])
def test_power_with_few_groups_is_what_a_simulation_finds(share: float, freedom: float) -> None:
    """Both variances estimated: V1 on 2 degrees of freedom, V2 on those of few groups."""
    noise, draws = np.random.default_rng(3), 200_000
    for difference in (0.0, 3.0, 8.0):
        value = difference + noise.normal(size=draws)
        first = share * noise.chisquare(2, draws) / 2
        second = (1 - share) * noise.chisquare(freedom, draws) / freedom
        quantiles = stats.t.ppf(0.975, 2), stats.t.ppf(0.975, freedom)
        critical = (first * quantiles[0] + second * quantiles[1]) / (first + second)
        found = float((np.abs(value) > critical * np.sqrt(first + second)).mean())
        assert power(difference, share, 2, freedom) == pytest.approx(found, abs=0.006)
