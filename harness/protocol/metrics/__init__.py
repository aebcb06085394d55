"""Metrics as data: each is defined once, in the file of its task; others ask for it by name.

torchmetrics does the arithmetic of counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import unknown
from harness.protocol.metrics import anti_spoofing, classification, regression, segmentation
from harness.protocol.metrics.definition import Metric, Undefined

__all__ = ["METRICS", "Metric", "Undefined", "collapsed", "metric", "of_task", "secondary"]

METRICS = {
    metric.name: metric
    for metric in (
        *classification.METRICS,
        *anti_spoofing.METRICS,
        *segmentation.METRICS,
        *regression.METRICS,
    )
}


def metric(name: str) -> Metric:
    """The metric called ``name``; UserError naming the nearest one."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def of_task(task: str) -> tuple[Metric, ...]:
    """The metrics of a task, its usual primary one first: it selects weights and fills tables."""
    return tuple(metric for metric in METRICS.values() if metric.task == task)


def secondary(task: str, primary: str) -> tuple[Metric, ...]:
    """The metrics that are reported beside the primary one of a dataset."""
    return tuple(metric for metric in of_task(task) if metric.name != primary)


def collapsed(evidence: Tensor) -> bool:
    """Whether one class is predicted for all of several samples, or for all pixels of a
    segmentation; of a regression (n, 1), one value for all.
    """
    if evidence.dim() == 3:
        predicted = evidence.sum((0, 1))
        return int(predicted.sum()) > 1 and int((predicted > 0).sum()) == 1
    predicted = evidence if evidence.shape[1] == 1 else evidence.argmax(1)
    return len(evidence) > 1 and int(torch.unique(predicted).numel()) == 1
