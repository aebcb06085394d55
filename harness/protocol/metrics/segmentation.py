"""Metrics of segmentation, the primary one first; evidence is (n, K, K) confusion counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.protocol.metrics.definition import Array, Compute, Influence, Metric, Undefined


def miou(counts: Tensor, _target: Tensor) -> float:
    """Mean intersection over union, in percent: one confusion matrix over all images, mean over the
    classes that occur in targets.

    IoU = TP / (targets + predictions - TP) per class; pixels that are void in the target are in no
    count (ESANet's definition). Undefined when no pixel has a class.

    >>> miou(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    75.0
    """
    iou, pixels = _iou(counts)
    return 100.0 * float(iou[pixels > 0].mean())


def miou_all(counts: Tensor, _target: Tensor) -> float:
    """As ``miou``, but the mean is over all K classes, 0 for a class in neither targets nor
    predictions, in percent.

    >>> miou_all(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    50.0
    """
    return 100.0 * float(_iou(counts)[0].mean())


def pixel_accuracy(counts: Tensor, _target: Tensor) -> float:
    """Correct pixels over all pixels that are not void, in percent; Undefined when there is none.

    >>> pixel_accuracy(torch.tensor([[[2, 0, 0], [0, 1, 1], [0, 0, 0]]]), torch.empty(0))
    75.0
    """
    matrix = _pooled(counts)
    return 100.0 * int(matrix.diagonal().sum()) / int(matrix.sum())


def _iou(counts: Tensor) -> tuple[Tensor, Tensor]:
    """IoU (K,) float64, 0 for 0/0, and the pixels (K,) of each class in the targets."""
    matrix = _pooled(counts)
    hits, pixels = matrix.diagonal(), matrix.sum(1)
    union = pixels + matrix.sum(0) - hits
    return hits.double() / union.clamp_min(1), pixels


def _pooled(counts: Tensor) -> Tensor:
    """One (K, K) int64 matrix over the images."""
    matrix = counts.sum(0, dtype=torch.int64)
    if not bool(matrix.any()):
        raise Undefined("it needs a pixel that is not void, and there is none")
    return matrix


def _jackknife(compute: Compute, all_classes: bool) -> Influence:
    """Pseudo-values n theta - (n - 1) theta_(-i), shifted so that their mean is theta."""

    def influence(counts: Tensor, target: Tensor) -> Array:
        whole = compute(counts, target)
        if len(counts) < 2:
            return np.full(len(counts), whole)
        without = counts.sum(0, dtype=torch.int64) - counts.long()
        pseudo = len(counts) * whole - (len(counts) - 1) * _each_mean_iou(
            without.numpy(), all_classes
        )
        return np.asarray(pseudo - pseudo.mean() + whole)

    return influence


def _each_mean_iou(matrices: Array, all_classes: bool) -> Array:
    """The mean IoU (n,) in percent of matrices (n, K, K).

    See ``metrics.miou`` and ``metrics.miou_all``.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    pixels = matrices.sum(2)
    iou = hits / np.maximum(pixels + matrices.sum(1) - hits, 1)
    counted = np.ones_like(iou) if all_classes else pixels > 0
    return np.asarray(100.0 * (iou * counted).sum(1) / np.maximum(counted.sum(1), 1))


def _pixels(counts: Tensor, _target: Tensor) -> Array:
    """A ratio of sums, correct over all pixels: theta + n (correct_i - theta all_i) / all."""
    right = counts.diagonal(dim1=1, dim2=2).sum(1).double().numpy()
    every = counts.sum((1, 2)).double().numpy()
    share = right.sum() / every.sum()
    return np.asarray(100.0 * (share + len(every) * (right - share * every) / every.sum()))


METRICS = (
    Metric(
        "miou",
        "segmentation",
        higher_is_better=True,
        definition=(
            "mean IoU over the classes in the targets, one confusion matrix over all images, in "
            "percent"
        ),
        compute=miou,
        influence=_jackknife(miou, all_classes=False),
        evidence="counts",
    ),
    Metric(
        "miou_all",
        "segmentation",
        higher_is_better=True,
        definition="mean IoU over all classes, 0 for a class that never occurs, in percent",
        compute=miou_all,
        influence=_jackknife(miou_all, all_classes=True),
        evidence="counts",
    ),
    Metric(
        "pixel_accuracy",
        "segmentation",
        higher_is_better=True,
        definition="correct pixels / pixels that are not void, in percent",
        compute=pixel_accuracy,
        influence=_pixels,
        evidence="counts",
    ),
)
