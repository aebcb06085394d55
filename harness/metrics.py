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


def acer(scores: Tensor, target: Tensor) -> float:
    """Average classification error rate of anti-spoofing at argmax, in percent; class 1 is live, class 0 an attack.

    ACER = (APCER + BPCER) / 2 with APCER the attacks taken for live over all attacks (pooled over attack types, not the worst
    type of ISO 30107-3) and BPCER the live samples rejected over all live ones. One class predicted for everything gives 50.
    ValueError when one of the two classes has no sample.

    >>> acer(torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1, 1, 0]))
    25.0
    """
    from torchmetrics.functional.classification import binary_stat_scores

    tp, fp, tn, fn, _ = binary_stat_scores(scores.argmax(1), target).tolist()
    if tp + fn == 0 or fp + tn == 0:
        raise ValueError("ACER needs live samples and attacks, and one of them is missing from the split")
    return float(50.0 * (fp / (fp + tn) + fn / (fn + tp)))


METRICS = {
    "acer": Metric("acer", "%", False, "mean of attacks accepted and live samples rejected, at argmax, in percent", acer),
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
