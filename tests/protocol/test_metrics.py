"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import doctest
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, jaccard_score
from torch import Tensor

from harness.dataset import TASKS
from harness.errors import UserError
from harness.protocol.cells import score_cells
from harness.protocol.combinations import lattice
from harness.protocol.metrics import (
    METRICS,
    Metric,
    Undefined,
    anti_spoofing,
    classification,
    collapsed,
    metric,
    of_task,
    secondary,
    segmentation,
)
from harness.protocol.metrics.classification import accuracy, accuracy_macro
from harness.protocol.metrics.segmentation import miou, miou_all, pixel_accuracy


@pytest.mark.parametrize("classes", [2, 7, 40])
@pytest.mark.parametrize("samples", [1, 2, 57, 1000])
def test_accuracy_equals_scikit_learns(classes: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    scores = torch.randn(samples, classes, generator=generator)
    target = torch.randint(classes, (samples,), generator=generator)
    assert accuracy(scores, target) == pytest.approx(
        100 * accuracy_score(target, scores.argmax(1)), abs=1e-12
    )


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


@pytest.mark.parametrize("samples", [2, 57, 1000])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_macro_accuracy_equals_scikit_learns(samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    scores = torch.randn(samples, 7, generator=generator)
    target = torch.randint(1, 6, (samples,), generator=generator)  # two classes never occur
    assert accuracy_macro(scores, target) == pytest.approx(
        100 * balanced_accuracy_score(target, scores.argmax(1)), abs=1e-10
    )


def test_collapsed_needs_several_samples_and_one_class() -> None:
    scores = torch.tensor([[2.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
    assert collapsed(scores[:2])
    assert not collapsed(scores)
    assert not collapsed(scores[:1])
    assert not collapsed(scores[:0])


def test_worst_follows_the_metrics_direction() -> None:
    values = {"a": 10.0, "b": 30.0}
    assert metric("accuracy").worst(values) == 10.0
    assert Metric("ACER", "anti_spoofing", False, "", accuracy).worst(values) == 30.0


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UserError, match="unknown metric 'acuracy'; did you mean 'accuracy'"):
        metric("acuracy")


def test_the_docstrings_examples_hold() -> None:
    results = [doctest.testmod(module) for module in (anti_spoofing, classification, segmentation)]
    assert [result.failed for result in results] == [0, 0, 0]
    assert all(result.attempted for result in results)


# ---------------------------------------------------------------------- segmentation


NOTHING = torch.empty(0)
VOID = 255


def counts_of(target: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """(n, K, K) by scikit-learn, void left out."""
    pairs = [(t[t != VOID], p[t != VOID]) for t, p in zip(target, predicted, strict=True)]
    return torch.tensor(np.stack([confusion_matrix(t, p, labels=range(classes)) for t, p in pairs]))


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize(
    "case", ["random", "absent from targets", "absent from both", "one class predicted", "perfect"]
)
def test_miou_equals_scikit_learns(classes: int, case: str) -> None:
    generator = torch.Generator().manual_seed(classes)
    target = torch.randint(classes - ("absent" in case), (4, 300), generator=generator)
    predicted = torch.randint(classes - ("both" in case), (4, 300), generator=generator)
    predicted = torch.where(torch.rand(4, 300, generator=generator) < 0.4, target, predicted)
    predicted = {"one class predicted": torch.zeros_like(target), "perfect": target}.get(
        case, predicted
    )
    target[torch.rand(4, 300, generator=generator) < 0.2] = VOID
    counts = counts_of(target, predicted, classes)
    wanted, found = target[target != VOID], predicted[target != VOID]
    there = sorted(set(wanted.tolist()))
    assert miou(counts, NOTHING) == pytest.approx(
        100 * jaccard_score(wanted, found, labels=there, average="macro"), abs=1e-9
    )
    everything = jaccard_score(
        wanted, found, labels=range(classes), average="macro", zero_division=0
    )
    assert miou_all(counts, NOTHING) == pytest.approx(100 * everything, abs=1e-9)
    assert pixel_accuracy(counts, NOTHING) == pytest.approx(
        100 * accuracy_score(wanted, found), abs=1e-9
    )


def test_a_class_that_only_predictions_have_counts_in_one_of_the_definitions() -> None:
    """Targets 0, 0, 1, void, 1 and predictions 0, 0, 1, 1, 2: IoU 1, 1/2 and 0.

    ESANet's mean is over the first two.
    """
    target, predicted = torch.tensor([[0, 0, 1, VOID, 1]]), torch.tensor([[0, 0, 1, 1, 2]])
    counts = counts_of(target, predicted, 3)
    assert (miou(counts, NOTHING), miou_all(counts, NOTHING), pixel_accuracy(counts, NOTHING)) == (
        75.0,
        50.0,
        75.0,
    )


def test_miou_is_of_the_pooled_counts_not_the_mean_over_images() -> None:
    counts = torch.tensor([[[10, 0], [0, 0]], [[0, 0], [90, 0]]], dtype=torch.int32)
    # Class 0: 10 of 100; class 1: 0 of 90. The images' own values are 100 and 0.
    assert miou(counts, NOTHING) == 5.0


def test_pooled_counts_may_exceed_32_bits() -> None:
    counts = torch.full((3, 2, 2), 2**31 - 1, dtype=torch.int32)
    assert miou(counts, NOTHING) == pytest.approx(100 / 3)


@pytest.mark.parametrize("name", [metric.name for metric in of_task("segmentation")])
def test_void_alone_defines_no_segmentation_metric(name: str) -> None:
    with pytest.raises(Undefined, match="a pixel that is not void"):
        metric(name).compute(torch.zeros(2, 3, 3, dtype=torch.int32), NOTHING)


def test_a_segmentation_collapses_with_all_its_pixels() -> None:
    counts = torch.tensor([[[0, 5], [0, 9]], [[0, 1], [0, 0]]])
    assert collapsed(counts)
    counts[1, 0, 0] = 1
    assert not collapsed(counts)
    assert not collapsed(torch.zeros(2, 3, 3))


# ---------------------------------------------------------------------- the lists


def test_every_task_has_a_primary_metric_and_others() -> None:
    assert [of_task(task)[0].name for task in TASKS] == ["accuracy", "acer", "miou", "mae"]
    assert {metric.task for metric in METRICS.values()} == set(TASKS)
    assert [m.name for m in secondary("segmentation", "miou_all")] == ["miou", "pixel_accuracy"]
    assert all(name == one.name and one.definition for name, one in METRICS.items())


@dataclass
class Labels:
    """Targets, and samples that have everything."""

    target: Tensor
    available: Tensor


@pytest.mark.parametrize(("evidence", "handed"), [("scores", 4), ("counts", 0)])
def test_what_a_metric_needs_decides_whether_it_gets_targets(evidence: Any, handed: int) -> None:
    asked = Metric(
        "asked",
        "classification",
        higher_is_better=True,
        definition="how many targets it was given",
        compute=lambda _, target: float(len(target)),
        evidence=evidence,
    )
    labels = Labels(torch.arange(4), torch.ones(4, 2, dtype=torch.bool))
    cells = score_cells(asked, torch.randn(3, 4, 4, 2), labels, lattice(("a", "b")))
    assert [cell.value for cell in cells.values()] == [handed] * 3
    assert [cell.n for cell in cells.values()] == [4] * 3
