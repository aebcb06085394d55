"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

import harness.metrics
from harness.errors import UserError
from harness.metrics import accuracy, collapsed, metric


@pytest.mark.parametrize("classes", [2, 7, 40])
@pytest.mark.parametrize("samples", [1, 2, 57, 1000])
def test_accuracy_equals_scikit_learns(classes: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    scores = torch.randn(samples, classes, generator=generator)
    target = torch.randint(classes, (samples,), generator=generator)
    assert accuracy(scores, target) == pytest.approx(100 * accuracy_score(target, scores.argmax(1)), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_accuracy_of_a_collapsed_model_is_the_share_of_its_class(share: float) -> None:
    target = (torch.arange(200) < 200 * share).long()
    scores = torch.tensor([[0.0, 1.0]]).expand(200, 2)
    assert accuracy(scores, target) == 100 * share
    assert collapsed(scores)


def test_ties_go_to_the_lower_class() -> None:
    assert accuracy(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])) == 50.0


def test_classes_that_never_occur_do_not_matter() -> None:
    scores = torch.eye(10)[torch.tensor([3, 3, 5])]
    assert accuracy(scores, torch.tensor([3, 5, 5])) == pytest.approx(200 / 3, abs=1e-12)


def test_accuracy_does_not_depend_on_the_order_of_samples() -> None:
    scores, target = torch.randn(333, 3), torch.randint(3, (333,))
    order = torch.from_numpy(np.random.default_rng(0).permutation(333))
    assert accuracy(scores, target) == accuracy(scores[order], target[order])


def test_collapsed_needs_several_samples_and_one_class() -> None:
    scores = torch.tensor([[2.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
    assert collapsed(scores[:2])
    assert not collapsed(scores)
    assert not collapsed(scores[:1])
    assert not collapsed(scores[:0])


def test_worst_follows_the_metrics_direction() -> None:
    values = {"a": 10.0, "b": 30.0}
    assert metric("accuracy").worst(values) == 10.0
    assert harness.metrics.Metric("ACER", "%", False, "", accuracy).worst(values) == 30.0


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UserError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        metric("acuracy")


def test_the_docstrings_examples_hold() -> None:
    assert doctest.testmod(harness.metrics).failed == 0
