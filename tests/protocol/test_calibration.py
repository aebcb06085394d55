"""Calibration error and risk-coverage against plain loops, scikit-learn-free hand examples and
torchmetrics.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from harness.protocol.calibration import (
    COVERAGES,
    area,
    calibration_error,
    from_histograms,
    from_scores,
    risk,
)
from harness.protocol.segmentation import histogram


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    noise = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(500, 4, generator=noise)
    target = torch.randint(4, (500,), generator=noise)
    reference = multiclass_calibration_error(
        scores.softmax(1), target, num_classes=4, n_bins=15, norm="l1"
    )
    assert from_scores(scores, target).calibration_error == pytest.approx(
        100 * float(reference), abs=1e-4
    )


def test_the_calibration_error_by_hand() -> None:
    # two bins: 4 predictions of 0.9 with 3 right, 6 of 0.5 with 3 right
    assert calibration_error(np.array([[4, 3.6, 3], [6, 3.0, 3]])) == pytest.approx(100 * 0.6 / 10)


def test_the_area_by_hand() -> None:
    # right, wrong, right, wrong: 0, 1/2, 1/3, 1/2
    assert area(np.ones(4), np.array([0, 1, 0, 1])) == pytest.approx(
        (0 + 1 / 2 + 1 / 3 + 1 / 2) / 4
    )


def test_the_area_of_ties_is_the_mean_over_their_orders() -> None:
    errors = ([0, 1], [1, 0, 0, 1], [1])
    areas = []
    for orders in itertools.product(*(list(itertools.permutations(group)) for group in errors)):
        wrong = np.concatenate(orders)
        areas.append(np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)))
    assert area(np.array([2, 4, 1]), np.array([1, 2, 1])) == pytest.approx(np.mean(areas))


def test_risk_coverage_of_scores_by_sorting() -> None:
    noise = torch.Generator().manual_seed(1)
    scores, target = torch.randn(200, 5, generator=noise), torch.randint(5, (200,), generator=noise)
    found = from_scores(scores, target)
    order = scores.double().softmax(1).amax(1).sort(descending=True).indices
    wrong = (scores.argmax(1) != target)[order].double().numpy()
    rates = np.cumsum(wrong) / np.arange(1, 201)
    assert found.aurc == pytest.approx(100 * rates.mean())
    best = np.sort(wrong)
    assert found.excess == pytest.approx(
        100 * (rates.mean() - (np.cumsum(best) / np.arange(1, 201)).mean())
    )
    assert found.risk == pytest.approx([100 * rates[round(200 * c) - 1] for c in COVERAGES])
    assert found.risk[-1] == pytest.approx(100 * wrong.mean())


def test_a_perfect_order_has_no_excess() -> None:
    scores = torch.tensor([[9.0, 0.0], [8.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert from_scores(scores, torch.tensor([0, 0, 1, 1])).excess == pytest.approx(0)
    assert from_scores(scores, torch.tensor([1, 1, 0, 0])).excess > 10
    assert from_scores(scores, torch.tensor([0, 0, 0, 0])).aurc == 0
    assert from_scores(scores, torch.tensor([1, 1, 1, 1])).excess == pytest.approx(0)


def test_histograms_of_images_are_pooled() -> None:
    noise = torch.Generator().manual_seed(2)
    confidence = torch.rand(3, 40, generator=noise)
    correct = torch.rand(3, 40, generator=noise) < confidence
    valid = torch.rand(3, 40, generator=noise) < 0.8
    found = from_histograms(histogram(confidence, correct, valid).numpy())
    flat, right = confidence[valid].numpy(), correct[valid].numpy()
    bins = np.minimum((flat * 15).astype(int), 14)
    gaps = [abs(right[bins == b].sum() - flat[bins == b].sum()) for b in range(15)]
    assert found.calibration_error == pytest.approx(100 * sum(gaps) / len(flat), abs=1e-4)
    members = [right[bins == b] for b in range(14, -1, -1) if (bins == b).any()]
    count, errors = np.array([len(m) for m in members]), np.array([(~m).sum() for m in members])
    assert found.aurc == pytest.approx(100 * area(count, errors))
    assert found.risk[-1] == pytest.approx(100 * (~right).mean())


def test_risk_within_a_tie_is_that_of_a_random_order() -> None:
    # 4 sure ones without an error, then 4 alike with 2: at 3/4 of all, 1 of 6 is wrong on average
    assert risk(np.array([4, 4]), np.array([0, 2]), np.array([0.5, 0.75, 1.0])) == pytest.approx(
        [0, 1 / 6, 2 / 8]
    )
