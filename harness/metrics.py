"""Metrics as data: definition, unit and direction, with torchmetrics as the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import unknown


@dataclass(frozen=True)
class Metric:
    """One number from (n, K) float32 scores and (n,) targets."""

    name: str
    unit: str
    higher_is_better: bool
    definition: str
    compute: Callable[[Tensor, Tensor], float]

    def worst(self, values: Mapping[str, float]) -> float:
        """The worst of several values in this metric's direction."""
        return min(values.values()) if self.higher_is_better else max(values.values())


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Share of samples whose largest score is the target's, in percent (micro average; ties go to the lower class).

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    75.0
    """
    from torchmetrics.functional.classification import multiclass_stat_scores

    counts = multiclass_stat_scores(scores.argmax(1), target, num_classes=scores.shape[1], average="micro")
    # Integer counts, divided once in double precision: the value does not depend on batch or order.
    return 100.0 * int(counts[0]) / len(target)


METRICS = {
    "accuracy": Metric("accuracy", "%", True, "correct argmax predictions / all samples, in percent", accuracy),
}


def metric(name: str) -> Metric:
    """The metric called ``name``; UserError naming the nearest one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def collapsed(scores: Tensor) -> bool:
    """Whether one class is predicted for all of several samples."""
    return len(scores) > 1 and int(torch.unique(scores.argmax(1)).numel()) == 1
