"""Robustness views by hand, by search over orders of arrival, and from a store with counted
predictions.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.analysis import robustness
from harness.analysis.evidence import Evidence
from harness.analysis.results import read
from harness.analysis.statistics import RowSamples
from harness.analysis.statistics.groups import Groups
from harness.analysis.statistics.intervals import estimate
from harness.dataset import Split
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS
from tests.support.handmade import LADDER, N, ladder, planned, write_trial

TWO, THREE = lattice(["a", "b"]), lattice(["a", "b", "c"])
VALUES = np.array([50.0, 40.0, 60.0, 70.0, 65.0, 58.0, 80.0])  # a, b, c, ab, ac, bc, abc
NAN = float("nan")


def test_by_number_of_present_modalities() -> None:
    assert robustness.by_present(VALUES, THREE) == {1: 50.0, 2: pytest.approx(193 / 3), 3: 80.0}
    assert robustness.by_present(np.array([50.0, NAN, NAN]), TWO) == {1: 50.0}


def test_the_expectation_by_enumerating_who_is_present() -> None:
    worth = {combination.mask: value for combination, value in zip(THREE, VALUES, strict=True)}
    for p in (0.1, 0.5, 0.8):
        total = shown = 0.0
        for mask in itertools.product([False, True], repeat=3):
            chance = math.prod(p if present else 1 - p for present in mask)
            if any(mask):
                total, shown = total + chance, shown + chance * worth[mask]
        assert total == pytest.approx(1 - (1 - p) ** 3)
        assert robustness.expectation(VALUES, THREE, p) == pytest.approx(shown / total)


def test_the_expectation_at_its_ends() -> None:
    # p = 1/2 makes all combinations equally likely
    assert robustness.expectation(VALUES, THREE, 0.5) == pytest.approx(VALUES.mean())
    assert robustness.expectation(VALUES, THREE, 1.0) == 80.0
    assert robustness.expectation(VALUES, THREE, 1e-9) == pytest.approx(50.0)
    for wrong in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            robustness.expectation(VALUES, THREE, wrong)


def test_the_expectation_without_a_combination() -> None:
    # a: 0.2 * 0.8, ab: 0.2 * 0.2; b does not exist
    assert robustness.expectation(np.array([50.0, NAN, 75.0]), TWO, 0.2) == pytest.approx(
        (0.16 * 50 + 0.04 * 75) / 0.2
    )
    assert math.isnan(robustness.expectation(np.array([50.0, 60.0, NAN]), TWO, 1.0))


def test_steps_that_hurt() -> None:
    values = np.array([[50.0, 60.0, 55.0], [50.0, 52.0, 55.0], [50.0, 61.0, 56.0]])
    with_b, with_a = robustness.steps(values, TWO, higher_is_better=True)
    assert (with_b.smaller, with_b.larger, with_b.modality, with_b.hurt, with_b.violation) == (
        "a",
        "a+b",
        "b",
        0,
        False,
    )
    assert with_b.gain == pytest.approx(16 / 3)
    assert (with_a.smaller, with_a.modality, with_a.hurt, with_a.seeds, with_a.violation) == (
        "b",
        "a",
        2,
        3,
        True,
    )
    assert with_a.gain == pytest.approx((-5 + 3 - 5) / 3)
    errors = robustness.steps(100 - values, TWO, higher_is_better=False)
    assert [step.gain for step in errors] == pytest.approx([with_b.gain, with_a.gain])
    assert [
        (s.smaller, s.larger)
        for s in robustness.steps(values[:, [0, 1, 2]] * [1, NAN, 1], TWO, True)
    ] == [("a", "a+b")]
    assert len(robustness.steps(VALUES[None], THREE, True)) == 9  # V * (2^(V-1) - 1)


def test_shapley_by_all_orders_of_arrival() -> None:
    worth = {frozenset(c.members): float(v) for c, v in zip(THREE, VALUES, strict=True)} | {
        frozenset(): 25.0
    }
    expected = dict.fromkeys("abc", 0.0)
    for order in itertools.permutations("abc"):
        for position, modality in enumerate(order):
            before = frozenset(order[:position])
            expected[modality] += (worth[before | {modality}] - worth[before]) / 6
    found = robustness.shapley(VALUES, THREE, blind=25.0)
    assert found == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(80 - 25)
    lower = robustness.shapley(VALUES, THREE, blind=10.0)
    assert [lower[m] - found[m] for m in "abc"] == pytest.approx([5.0] * 3)


def test_shapley_of_the_glove_game() -> None:
    # one left glove (a), two right ones (b, c); a pair is worth 1: 2/3, 1/6, 1/6
    assert robustness.shapley(np.array([0.0, 0, 0, 1, 1, 0, 1]), THREE, 0.0) == pytest.approx(
        {"a": 2 / 3, "b": 1 / 6, "c": 1 / 6}
    )


def test_the_pareto_front() -> None:
    points = {
        "a": (1.0, 70.0),
        "b": (2.0, 60.0),
        "c": (3.0, 80.0),
        "d": (3.0, 80.0),
        "e": (3.0, 79.0),
        "f": (9.0, 81.0),
    }
    assert robustness.pareto(points, higher_is_better=True) == ["a", "c", "d", "f"]
    assert robustness.pareto(points, higher_is_better=False) == ["a", "b"]


def test_which_steps_hurt_for_sure() -> None:
    noise = np.random.default_rng(0)
    right = np.array([0.5, 0.8, 0.5])[:, None, None]
    row = RowSamples("x", (0, 1, 2), 100.0 * (noise.random((3, 3, 400)) < right))
    with_b, with_a = robustness.hurting(row, TWO, higher_is_better=True)
    assert (with_a.first, with_a.second, with_a.summary, with_a.better) == ("a+b", "b", "+a", "b")
    assert with_b.better is None
    assert with_a.value == pytest.approx((row.values[2] - row.values[1]).mean())


# ---------------------------------------------------------------------- a model that sees nothing


def evidence(val: list[int], test: list[int], classes: int) -> Evidence:
    splits = {
        name: Split({}, torch.tensor(y), torch.ones(len(y), 2, dtype=torch.bool))
        for name, y in (("val", val), ("test", test))
    }
    return Evidence(
        {name: torch.randn(3, len(split.target), classes) for name, split in splits.items()}, splits
    )


def test_blind_is_the_most_frequent_class_of_val() -> None:
    found = evidence([0, 2, 2, 1, 2], [2, 2, 0, 0, 0, 1, 1, 1], 3)
    assert robustness.blind_value(METRICS["accuracy"], found) == 25.0
    assert robustness.blind_value(METRICS["accuracy_macro"], found) == pytest.approx(100 / 3)
    faces = evidence([1, 1, 0], [0, 0, 0, 1], 2)
    assert (
        robustness.blind_value(METRICS["acer"], faces)
        == robustness.blind_value(METRICS["acer_val_threshold"], faces)
        == 50.0
    )
    assert robustness.blind_value(METRICS["tpr_at_fpr_1e-2"], faces) == 0.0


def test_blind_of_a_segmentation() -> None:
    val = torch.tensor([[[5, 5], [0, 1]]], dtype=torch.int32)  # class 0 has 10 of 11 pixels
    test = torch.tensor([[[0, 3], [2, 4]], [[1, 0], [0, 0]]], dtype=torch.int32)  # 4 and 6 pixels
    everything = Split({}, torch.empty(0), torch.ones(2, 2, dtype=torch.bool))
    found = Evidence(
        {"val": val[None].repeat(3, 1, 1, 1), "test": test[None].repeat(3, 1, 1, 1)},
        {"val": everything},
    )
    assert robustness.blind_value(METRICS["miou"], found) == pytest.approx((40 + 0) / 2)
    assert robustness.blind_value(METRICS["pixel_accuracy"], found) == pytest.approx(40)


# ---------------------------------------------------------------------- from a store


def test_views_of_counted_predictions(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0,1]")
    for seed, start in ((0, 12), (1, 18)):
        write_trial(plan, store, "sf_md", seed, ladder(start))
    found = robustness.row_robustness(read(plan, store))
    assert list(found) == ["sf_md"]
    view = found["sf_md"]
    cell = [100 * (15 + step) / N for step in LADDER]
    assert (view.mean, view.worst, view.seeds) == (
        pytest.approx(np.mean(cell)),
        pytest.approx(cell[0]),
        2,
    )
    assert view.by_present == pytest.approx(
        {1: np.mean(cell[:3]), 2: np.mean(cell[3:6]), 3: cell[6]}
    )
    assert view.expectation[-1] == pytest.approx(cell[6]) and len(view.expectation) == len(
        robustness.PROBABILITIES
    )
    assert view.violations == [] and view.hurt_share == 0 and len(view.steps) == 9
    targets = {split: plan.dataset.load(split).target for split in ("val", "test")}
    answer = int(torch.bincount(targets["val"]).argmax())
    assert view.blind == pytest.approx(100 * int((targets["test"] == answer).sum()) / N)
    assert sum(view.shapley.values()) == pytest.approx(cell[6] - view.blind)


def test_the_interval_of_a_shapley_value_is_that_of_its_weighted_sum() -> None:
    """Two modalities: phi_a = v(a) / 2 + (v(ab) - v(b)) / 2 - blind / 2, sample by sample."""
    values = np.random.default_rng(0).normal(50, 10, size=(3, 4, 60))
    groups = np.repeat(np.arange(12), 5)
    row = RowSamples("x", (0, 1, 2, 3), values, groups=groups)
    found = robustness.shapley_estimates(row, TWO, blind=20.0)
    by_hand = (values[0] + values[2] - values[1] - 20.0) / 2
    expected = estimate(by_hand, Groups.of(groups))
    assert found["a"].value == pytest.approx(by_hand.mean())
    assert found["a"].interval() == pytest.approx(expected.interval())
    assert found["a"].value + found["b"].value == pytest.approx(values[2].mean() - 20.0)
