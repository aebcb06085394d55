"""Metrics of classification, the primary one first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.protocol.metrics.definition import Array, Metric, class_wise


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Share of samples whose largest score is the target's, in percent (micro average; ties go to
    the lower class).

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]),
    ... torch.tensor([0, 1, 1, 0]))
    75.0
    """
    from torchmetrics.functional.classification import multiclass_stat_scores

    counts = multiclass_stat_scores(
        scores.argmax(1), target, num_classes=scores.shape[1], average="micro"
    )
    # Integer counts, divided once in double precision: the value does not depend on batch or order.
    return 100.0 * int(counts[0]) / len(target)


def accuracy_macro(scores: Tensor, target: Tensor) -> float:
    """Accuracy within each class that has samples, averaged over these classes, in percent.

    >>> accuracy_macro(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]),
    ... torch.tensor([0, 0, 1, 0]))
    33.33333333333333
    """
    from torchmetrics.functional.classification import multiclass_stat_scores

    counts = multiclass_stat_scores(
        scores.argmax(1), target, num_classes=scores.shape[1], average="none"
    ).double()
    hits, support = counts[:, 0], counts[:, 4]
    return 100.0 * float((hits / support)[support > 0].mean())


def _hits(scores: Tensor, target: Tensor) -> Array:
    return np.asarray(100.0 * (scores.argmax(1) == target).double().numpy())


def _hits_macro(scores: Tensor, target: Tensor) -> Array:
    present = torch.unique(target).tolist()
    return class_wise(
        _hits(scores, target), target.numpy(), {label: 1 / len(present) for label in present}
    )


METRICS = (
    Metric(
        "accuracy",
        "classification",
        higher_is_better=True,
        definition="correct argmax predictions / all samples, in percent",
        compute=accuracy,
        influence=_hits,
    ),
    Metric(
        "accuracy_macro",
        "classification",
        higher_is_better=True,
        definition="accuracy within each class, averaged over the classes, in percent",
        compute=accuracy_macro,
        influence=_hits_macro,
    ),
)
