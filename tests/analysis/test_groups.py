"""Groups of dependent test samples: variance against matrix algebra, simulated coverage."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from harness.analysis import statistics
from harness.analysis.statistics import AVERAGE, WORST, RowSamples
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.influence import sample_values
from harness.analysis.statistics.intervals import estimate
from harness.dataset import Split
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS

Array = np.ndarray[Any, np.dtype[Any]]


def numbers(sizes: list[int]) -> Array:
    return np.repeat(np.arange(len(sizes)), sizes)


def cr2(values: Array, number: Array) -> tuple[float, float]:
    """Bell and McCaffrey's variance of a mean and its degrees of freedom, by their matrices.

    X = 1, working model independent: A_g = (I - H_gg)^(-1/2), and the degrees of freedom from the
    matrix of the quadratic form.
    """
    n = len(values)
    residual_maker = np.eye(n) - np.full((n, n), 1 / n)
    form = np.zeros((n, n))
    for group in range(number.max() + 1):
        inside = number == group
        eigen, vectors = np.linalg.eigh(residual_maker[np.ix_(inside, inside)])
        adjust = vectors @ np.diag(eigen**-0.5) @ vectors.T
        weight = adjust.sum(0) / n @ residual_maker[inside]
        form += np.outer(weight, weight)
    return float(values @ form @ values), float(np.trace(form) ** 2 / np.trace(form @ form))


@pytest.mark.parametrize("sizes", [[4, 4, 4], [1, 2, 9, 3], [20, 2, 2, 2, 2, 1]])
def test_the_variance_of_one_seed_is_cr2(sizes: list[int]) -> None:
    number = numbers(sizes)
    values = np.random.default_rng(3).normal(size=len(number)) + 0.5 * number
    found = estimate(values[None], Groups.of(number))
    variance, freedom = cr2(values, number)
    assert found.from_samples == pytest.approx(variance)
    assert found.freedom == pytest.approx(freedom)


def test_equal_groups_are_the_t_test_of_their_means() -> None:
    values = np.random.default_rng(0).normal(size=(6, 5)) + np.arange(6)[:, None]
    found = estimate(values.reshape(1, -1), Groups.of(numbers([5] * 6)))
    reference = stats.ttest_1samp(values.mean(1), 0.0)
    assert found.interval() == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.p_value() == pytest.approx(reference.pvalue)


def test_groups_of_one_sample_change_nothing() -> None:
    values = np.random.default_rng(1).normal(size=(3, 40))
    shuffled = np.random.default_rng(2).permutation(40)
    alone, named = estimate(values), estimate(values, Groups.of(shuffled))
    assert named.interval() == pytest.approx(alone.interval())
    assert (alone.freedom, named.freedom) == (pytest.approx(39), pytest.approx(39))


def test_the_seeds_own_noise_is_taken_out_of_what_groups_share() -> None:
    """With groups of one size, V1 and V2 are those of the analysis of variance of group means."""
    values = np.random.default_rng(5).normal(size=(4, 8, 3)) + np.arange(8)[None, :, None]
    by_group, plain = estimate(values.reshape(4, 24), Groups.of(numbers([3] * 8))), values.mean(2)
    rest = plain - plain.mean(0) - plain.mean(1, keepdims=True) + plain.mean()
    ms_group, ms_rest = 4 * plain.mean(0).var(ddof=1), (rest**2).sum() / (3 * 7)
    assert by_group.from_samples == pytest.approx((ms_group - ms_rest) / (4 * 8))
    assert by_group.from_seeds == pytest.approx(plain.mean(1).var(ddof=1) / 4)


def test_one_group_says_nothing_of_others() -> None:
    found = estimate(np.random.default_rng(0).normal(size=(3, 12)) + 9, Groups.of(numbers([12])))
    assert found.interval() == (-np.inf, np.inf) and found.p_value() == 1.0
    assert found.too_few_groups and found.detectable() == np.inf


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [([9, 9], True), ([50, 2, 2], True), ([9, 9, 9], False), ([9, 5, 3, 6], False)],
)
def test_too_few_groups_make_no_claim(sizes: list[int], refused: bool) -> None:
    number = numbers(sizes)
    values = np.random.default_rng(0).normal(size=(3, len(number))) * 0.01
    found = statistics.difference_of(
        "x", "y", AVERAGE, estimate(values + 9, Groups.of(number)), True
    )
    assert found.estimate.too_few_groups == refused
    assert found.better == (None if refused else "x")
    assert ("nothing is claimed" in found.note) == refused


def test_drawn_groups_have_the_same_variance() -> None:
    number = numbers([1, 2, 9, 3, 5])
    values = np.random.default_rng(3).normal(size=len(number)) + number
    drawable = Groups.of(number).drawable(values)
    draws = np.random.default_rng(0).integers(5, size=(200_000, 5))
    assert drawable.mean() == pytest.approx(values.mean(), abs=0.5)
    spread = (drawable[draws].mean(1)).var()
    sums = drawable - drawable.mean()
    assert spread == pytest.approx((sums**2).sum() / 25, rel=0.02)
    assert (sums**2).sum() / 25 == pytest.approx(cr2(values, number)[0], rel=0.15)


# ------------------------------------------------------------------------- pairs of rows in groups


def grouped_rows(number: Array, spread: float, seed: int) -> list[RowSamples]:
    """Two equally good rows, each of which finds some groups harder."""
    noise = np.random.default_rng(seed)
    group = spread * noise.normal(size=(2, 3, 1, number.max() + 1))
    values = group[..., number] + noise.normal(size=(2, 3, 3, len(number)))
    return [
        RowSamples(name, (0, 1, 2), one, groups=number)
        for name, one in zip("xy", values, strict=True)
    ]


def test_worst_case_and_average_know_groups() -> None:
    number = numbers([40] * 6)
    for summary in (AVERAGE, WORST):
        rejected = {True: 0, False: 0}
        for seed, known in itertools.product(range(40), (True, False)):
            rows = grouped_rows(number, 1.0, seed)
            if not known:
                rows = [RowSamples(row.label, row.seeds, row.values) for row in rows]
            (found,) = [
                one
                for one in statistics.paired(rows, lattice(["a", "b"]), True)
                if one.summary == summary
            ]
            rejected[known] += found.p < 0.05
        # 5 % of 40 with groups; most of them where samples are taken as independent
        assert rejected[True] <= 6 and rejected[False] >= 16


def test_samples_that_lack_modalities_count_for_no_group() -> None:
    """A group without any sample of a combination is none of its groups."""
    number = numbers([5, 5, 5, 5])
    counted = np.ones((3, 20), dtype=bool)
    counted[1, number == 3] = False  # nobody of the last group has b
    row = RowSamples("x", (0,), np.zeros((3, 1, 20)), counted, number)
    assert row.grouping(np.array([True, False, False])).freedom == pytest.approx(3)
    only_b = row.grouping(np.array([False, True, False]))
    assert only_b.share.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert only_b.freedom == pytest.approx(2)


@pytest.mark.parametrize("groups", [4, 10, 30])
@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("seeds", [1, 3])
def test_simulated_coverage(groups: int, unequal: bool, seeds: int) -> None:
    """93 to 97 %, and a little for the simulation's own noise, dominated by groups."""
    noise = np.random.default_rng(groups + seeds)
    places = stats.norm.ppf((np.arange(groups) + 0.5) / groups)
    sizes = np.maximum(1, np.round(8 * np.exp(places if unequal else 0 * places))).astype(int)
    number = numbers(sizes.tolist())
    of, hits, runs = Groups.of(number), 0, 1500
    for _ in range(runs):
        shared = noise.normal(size=groups)[number] + 0.5 * noise.normal(size=len(number))
        own = 0.1 * noise.normal(size=(seeds, 1)) * (seeds > 1)
        found = estimate(shared + own + 0.5 * noise.normal(size=(seeds, len(number))), of)
        low, high = found.interval()
        hits += low <= 0 <= high
    assert 92.0 <= 100 * hits / runs <= 97.9


# --------------------------------------------------------------- metrics that are no plain means


def sampled_coverage(metric: str, draw: Any, runs: int = 600) -> float:
    """In how many percent of test sets of 12 groups the interval of one model's metric holds what
    it is in the mean over test sets.
    """
    noise = np.random.default_rng(1)
    values, intervals = [], []
    everything = lattice(["a"])
    for _ in range(runs):
        scores, target, number = draw(noise)
        split = Split({}, target, torch.ones(len(number), 1, dtype=torch.bool))
        of_samples = sample_values(METRICS[metric], scores[None], split, everything)
        values.append(float(of_samples.mean()))
        intervals.append(estimate(of_samples, Groups.of(number)).interval())
    truth = float(np.mean(values))
    return 100 * float(np.mean([low <= truth <= high for low, high in intervals]))


def faces(noise: Any) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """12 subjects with 4 to 30 frames, a third of them live; each is easy or hard to tell."""
    sizes = noise.integers(4, 31, size=12)
    number = numbers(sizes.tolist())
    target = torch.from_numpy((noise.random(len(number)) < 1 / 3).astype(np.int64))
    wrong = noise.random(len(number)) < noise.beta(2, 6, size=12)[number]
    accepted = torch.from_numpy(wrong) ^ (target == 1)
    return torch.stack([~accepted, accepted], 1).float(), target, number


def rooms(noise: Any) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """12 rooms of 2 to 8 pictures of 200 pixels, confusion counts of 3 classes."""
    sizes = noise.integers(2, 9, size=12)
    number = numbers(sizes.tolist())
    counts = np.zeros((len(number), 3, 3), dtype=np.int32)
    right = noise.beta(8, 3, size=12)[number]
    for image, share in enumerate(right):
        for label, pixels in enumerate(noise.multinomial(200, [0.5, 0.3, 0.2])):
            others = np.full(3, (1 - share) / 2)
            others[label] = share
            counts[image, label] = noise.multinomial(pixels, others)
    return torch.from_numpy(counts), torch.empty(0), number


@pytest.mark.parametrize(("metric", "draw"), [("acer", faces), ("miou", rooms)])
def test_simulated_coverage_of_other_metrics(metric: str, draw: Any) -> None:
    assert 92.0 <= sampled_coverage(metric, draw) <= 98.0
