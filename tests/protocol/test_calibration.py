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
    Predictions,
    area,
    area_values,
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
    bins = np.zeros((1, 15, 3))
    bins[0, 13], bins[0, 7] = (4, 3.6, 3), (6, 3.0, 3)
    assert from_histograms(bins).calibration_error == pytest.approx(100 * 0.6 / 10)


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


# ---------------------------------------------------------------------- values per sample


def measures(predictions: Predictions) -> list[float]:
    found = predictions.reliability()
    return [found.calibration_error, found.aurc, found.excess]


def scored(n: int, decimals: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with ties where they have few decimals, and targets."""
    noise = np.random.default_rng(3)
    scores = np.round(noise.normal(size=(n, 3)), decimals) * 2
    return torch.from_numpy(scores), torch.from_numpy(noise.integers(0, 3, n))


@pytest.mark.parametrize("decimals", [1, 9])
def test_values_of_samples_are_those_of_a_jackknife(decimals: int) -> None:
    """Their mean is the measure; leaving a sample out changes the measure by what it counts for."""
    scores, target = scored(400, decimals)
    whole = Predictions.of_scores(scores, target)
    values = np.stack(whole.sample_values())
    assert values.mean(1) == pytest.approx(measures(whole))
    left_out = np.array(
        [
            measures(Predictions.of_scores(scores[others], target[others]))
            for others in (np.arange(400) != i for i in range(400))
        ]
    )
    pseudo = 400 * np.array(measures(whole)) - 399 * left_out
    # A bin whose gap is near 0 changes its sign without one of its samples.
    for found, expected, least in zip(values, pseudo.T, (0.9, 0.99, 0.99), strict=True):
        assert np.corrcoef(found, expected)[0, 1] > least
        assert found.std() == pytest.approx(expected.std(), rel=0.03 if least > 0.9 else 0.1)


def test_values_of_images_are_those_of_a_jackknife() -> None:
    """Images of very unequal numbers of pixels."""
    noise = torch.Generator().manual_seed(5)
    shape = (60, 200)
    valid = torch.rand(shape, generator=noise) < torch.rand(60, 1, generator=noise)
    confidence = torch.rand(shape, generator=noise) ** 0.5
    right = torch.rand(shape, generator=noise) < 0.6 + 0.3 * torch.rand(60, 1, generator=noise)
    images = histogram(confidence, right, valid).numpy()
    whole = Predictions.of_histograms(images)
    values = np.stack(whole.sample_values())
    assert values.mean(1) == pytest.approx(measures(whole))
    left_out = np.array(
        [measures(Predictions.of_histograms(np.delete(images, i, 0))) for i in range(60)]
    )
    pseudo = 60 * np.array(measures(whole)) - 59 * left_out
    for found, expected in zip(values, pseudo.T, strict=True):
        assert np.corrcoef(found, expected)[0, 1] > 0.999
        assert found.std() == pytest.approx(expected.std(), rel=0.03)


def test_values_of_the_area_by_hand() -> None:
    # right, then wrong: R = 0, 1/2. The error counts for R(2) + (1 - 1/2) / 2 = 3/4, the right one
    # for 0 + 0 / 1 + (0 - 1/2) / 2 = -1/4; their mean is the area, 1/4
    right, wrong = area_values(np.ones(2), np.array([0.0, 1.0]))
    assert (right[0], wrong[1]) == (pytest.approx(-1 / 4), pytest.approx(3 / 4))


def test_looked_up_sums_are_the_special_functions() -> None:
    """Many pixels: the same values as of few, to what a share of many can differ."""
    count, errors = np.array([5e8, 3e8, 2e8]), np.array([1e7, 3e7, 6e7])
    many = area_values(count, errors)
    few = area_values(count / 1e4, errors / 1e4)
    assert np.stack(few) == pytest.approx(np.stack(many), abs=1e-4)
    assert area(count, errors) == pytest.approx(area(count / 1e4, errors / 1e4), abs=1e-5)
