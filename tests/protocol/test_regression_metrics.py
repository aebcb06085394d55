"""Metrics of regression against numpy, scipy, torchmetrics and the literature's definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchmetrics.functional import (
    mean_absolute_error,
    mean_squared_error,
    pearson_corrcoef,
)

from harness.analysis.statistics.influence import sample_values
from harness.dataset import Split
from harness.errors import TrialFailure
from harness.protocol.cells import score_cells
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS, Undefined, collapsed, of_task

NAMES = [metric.name for metric in of_task("regression")]
LATTICE = lattice(["a", "b"])


def opinions(n: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels from -3 to 3, many of them 0, and predictions (n, 1) that are about right."""
    noise = torch.Generator().manual_seed(seed)
    target = (torch.randn(n, generator=noise) * 1.5).round().clamp(-3, 3)
    predicted = 0.7 * target + 0.8 * torch.randn(n, generator=noise)
    return predicted[:, None], target


def test_the_primary_metric_is_the_mean_absolute_error_and_lower_is_better() -> None:
    assert NAMES[0] == "mae" and not METRICS["mae"].higher_is_better
    assert (
        METRICS["mae"].axis == "mae (label units)" and METRICS["correlation"].axis == "correlation"
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mae", mean_absolute_error),
        ("rmse", lambda x, y: mean_squared_error(x, y, squared=False)),
        ("correlation", pearson_corrcoef),
    ],
)
def test_torchmetrics_agrees(name: str, other: Callable[[Tensor, Tensor], Tensor]) -> None:
    predicted, target = opinions()
    found = METRICS[name].compute(predicted, target)
    assert found == pytest.approx(float(other(predicted[:, 0].double(), target.double())), rel=1e-9)


def test_scipy_agrees_on_the_correlation() -> None:
    predicted, target = opinions(seed=3)
    expected = stats.pearsonr(predicted[:, 0].numpy().astype(float), target.numpy()).statistic
    assert METRICS["correlation"].compute(predicted, target) == pytest.approx(expected, rel=1e-9)


def test_two_class_accuracies_as_the_literature_computes_them() -> None:
    predicted, target = opinions()
    x, y = predicted[:, 0].numpy(), target.numpy()
    kept = y != 0
    assert 0 < kept.sum() < len(y)
    nonnegative = 100 * np.mean((x >= 0) == (y >= 0))
    positive = 100 * np.mean((x[kept] > 0) == (y[kept] > 0))
    assert METRICS["accuracy_nonnegative"].compute(predicted, target) == pytest.approx(nonnegative)
    assert METRICS["accuracy_positive"].compute(predicted, target) == pytest.approx(positive)
    assert abs(nonnegative - positive) > 1


@pytest.mark.parametrize("name", NAMES)
def test_values_per_sample_have_the_metric_as_mean_and_its_jackknife_variance(name: str) -> None:
    predicted, target = opinions(600)
    chosen = METRICS[name]
    assert chosen.influence is not None
    values = chosen.influence(predicted, target)
    assert values.mean() == pytest.approx(chosen.compute(predicted, target), rel=1e-9)
    n, keep = len(target), ~torch.eye(len(target), dtype=torch.bool)
    left_out = np.array([chosen.compute(predicted[k], target[k]) for k in keep])
    jackknife = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    assert values.var(ddof=1) / n == pytest.approx(jackknife, rel=0.02)


def test_a_correlation_varies_as_its_textbook_variance_says() -> None:
    """Of normal variables it is (1 - r^2)^2 / n (Fisher, 1915)."""
    noise = torch.Generator().manual_seed(1)
    y = torch.randn(20000, generator=noise)
    x = 0.6 * y + 0.8 * torch.randn(20000, generator=noise)
    chosen = METRICS["correlation"]
    assert chosen.influence is not None
    r = chosen.compute(x[:, None], y)
    assert chosen.influence(x[:, None], y).var() == pytest.approx((1 - r**2) ** 2, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_lack_a_modality_keep_the_mean_of_the_values(name: str) -> None:
    predicted, target = opinions(60)
    available = torch.ones(60, 2, dtype=torch.bool)
    available[:20, 0], available[50:, 1] = False, False
    split = Split({}, target, available)
    scores = predicted.expand(3, 60, 1)
    cells = score_cells(METRICS[name], scores, split, LATTICE)
    values = sample_values(METRICS[name], scores, split, LATTICE)
    for at, combination in enumerate(LATTICE):
        assert values[at].mean() == pytest.approx(cells[combination.name].value, rel=1e-9)
    assert [cell.n for cell in cells.values()] == [40, 50, 30]


@pytest.mark.parametrize(
    ("name", "labels", "predictions", "why"),
    [
        ("correlation", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0], "the label is the same"),
        ("correlation", [1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "the prediction is the same"),
        ("correlation", [1.0], [5.0], "is the same"),
        ("accuracy_nonnegative", [0.0, 1.0, 2.0], [1.0, 1.0, -1.0], "labels below 0 and others"),
        ("accuracy_positive", [0.0, -1.0], [1.0, -1.0], "labels below and above 0"),
    ],
)
def test_what_samples_do_not_define_is_said(
    name: str, labels: list[float], predictions: list[float], why: str
) -> None:
    predicted, target = torch.tensor(predictions)[:, None], torch.tensor(labels)
    with pytest.raises(Undefined, match=why):
        METRICS[name].compute(predicted, target)
    split = Split({}, target, torch.ones(len(target), 2, dtype=torch.bool))
    scores = predicted.expand(3, -1, 1)
    cells = score_cells(METRICS[name], scores, split, LATTICE, strict=False)
    assert all(np.isnan(cell.value) for cell in cells.values())
    with pytest.raises(TrialFailure, match="is not defined for a"):
        score_cells(METRICS[name], scores, split, LATTICE)


def test_perfect_predictions_have_no_error_and_no_spread() -> None:
    target = torch.tensor([-1.0, 0.0, 2.0])
    for name, value in (("mae", 0.0), ("rmse", 0.0), ("correlation", 1.0)):
        chosen = METRICS[name]
        assert chosen.influence is not None
        assert chosen.compute(target[:, None], target) == pytest.approx(value)
        assert chosen.influence(target[:, None], target) == pytest.approx(np.full(3, value))


def test_a_model_collapsed_where_it_predicts_one_number() -> None:
    assert collapsed(torch.full((4, 1), 2.5))
    assert not collapsed(torch.tensor([[2.5], [2.5], [2.6]]))
