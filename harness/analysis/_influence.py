"""One value per sample whose mean is a metric and whose spread is the metric's sampling noise. C
combinations, N samples.

A metric that is a mean keeps its terms. Others are linearised: classes of a rate are centred (the
ratio's influence function), and the mean IoU has the pseudo-values of the jackknife that leaves one
image out, recentred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.dataset import Split
from harness.errors import UserError
from harness.protocol.combinations import Combination
from harness.protocol.metrics import METRICS, Metric, Undefined, min_acer_threshold

Array = np.ndarray[Any, np.dtype[Any]]
Influence = Callable[[Tensor, Tensor], Array]


def sample_values(
    metric: Metric,
    scores: Tensor,
    split: Split,
    combinations: Sequence[Combination],
    val: tuple[Tensor, Split] | None = None,
) -> Array:
    """Values (C, N) float64 whose mean over n is the metric of each combination; a combination that
    no sample has is NaN.

    A sample that lacks a modality of a combination has the combination's metric as its value, and
    the others are spread by N / n, so that the mean stays and the spread is that of n samples.
    UserError for a metric whose noise is not known sample by sample.
    """
    values = np.full(scores.shape[:2], np.nan)
    for position, combination in enumerate(combinations):
        has = split.available[:, torch.tensor(combination.mask)].all(1)
        if not bool(has.any()):
            continue
        tuning = None
        if val is not None:
            val_has = val[1].available[:, torch.tensor(combination.mask)].all(1)
            tuning = val[0][position][val_has], _targets(val[1], val_has)
        values[position] = _spread(
            _influence(metric, tuning)(scores[position][has], _targets(split, has)), has.numpy()
        )
    return values


def _targets(split: Split, has: Tensor) -> Tensor:
    target = split.target.cpu()
    return target[has] if len(target) else target


def _spread(values: Array, has: Array) -> Array:
    """The values (n,) of the samples that count, as values (N,) of all of them."""
    mean = values.mean()
    everywhere = np.full(len(has), mean)
    everywhere[has] += len(has) / len(values) * (values - mean)
    return everywhere


def _influence(metric: Metric, tuning: tuple[Tensor, Tensor] | None) -> Influence:
    if metric.name == "acer_val_threshold" and tuning is not None:
        return _rates({0: 0.5, 1: 0.5}, min_acer_threshold(*tuning))
    if metric.name not in _INFLUENCES:
        raise UserError(
            f"the sampling noise of {metric.name} is not known sample by sample, so no interval can be given; "
            f"choose a primary metric among {', '.join(_INFLUENCES)}"
        )
    return _INFLUENCES[metric.name]


# ---------------------------------------------------------------------- classification


def _hits(scores: Tensor, target: Tensor) -> Array:
    return np.asarray(100.0 * (scores.argmax(1) == target).double().numpy())


def _hits_macro(scores: Tensor, target: Tensor) -> Array:
    present = torch.unique(target).tolist()
    return _class_wise(
        _hits(scores, target), target.numpy(), {label: 1 / len(present) for label in present}
    )


def _class_wise(values: Array, target: Array, weights: dict[int, float]) -> Array:
    """sum_k w_k mean_k as a mean over all samples: the total, plus w_k N / N_k times the deviation
    within the own class.
    """
    members = {label: target == label for label in weights}
    if not all(member.any() for member in members.values()):
        raise Undefined("a class has no sample")
    total = sum(weight * values[members[label]].mean() for label, weight in weights.items())
    influence = np.full(len(values), total, dtype=float)
    for label, weight in weights.items():
        inside = values[members[label]]
        influence[members[label]] += weight * len(values) / len(inside) * (inside - inside.mean())
    return influence


def _rates(weights: dict[int, float], threshold: float = 0.0) -> Influence:
    """Error rates of attacks (0) and live samples (1), weighted; accepted where the margin is above
    the threshold.
    """

    def influence(scores: Tensor, target: Tensor) -> Array:
        accepted = scores[:, 1].double() - scores[:, 0].double() > threshold
        wrong = 100.0 * (accepted != (target == 1)).double().numpy()
        return _class_wise(wrong, target.numpy(), weights)

    return influence


# ---------------------------------------------------------------------- segmentation: (n, K, K) counts of each image


def _jackknife(metric: str) -> Influence:
    """Pseudo-values n theta - (n - 1) theta_(-i), shifted so that their mean is theta."""

    def influence(counts: Tensor, target: Tensor) -> Array:
        whole = METRICS[metric].compute(counts, target)
        if len(counts) < 2:
            return np.full(len(counts), whole)
        without = counts.sum(0, dtype=torch.int64) - counts.long()
        pseudo = len(counts) * whole - (len(counts) - 1) * _each_mean_iou(
            without.numpy(), metric == "miou_all"
        )
        return np.asarray(pseudo - pseudo.mean() + whole)

    return influence


def _each_mean_iou(matrices: Array, all_classes: bool) -> Array:
    """The mean IoU (n,) in percent of matrices (n, K, K); see ``metrics.miou`` and
    ``metrics.miou_all``.
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


_INFLUENCES: dict[str, Influence] = {
    "accuracy": _hits,
    "accuracy_macro": _hits_macro,
    "acer": _rates({0: 0.5, 1: 0.5}),
    "apcer": _rates({0: 1.0}),
    "bpcer": _rates({1: 1.0}),
    "acer_val_threshold": lambda scores, target: _rates(
        {0: 0.5, 1: 0.5}, min_acer_threshold(scores, target)
    )(scores, target),
    "miou": _jackknife("miou"),
    "miou_all": _jackknife("miou_all"),
    "pixel_accuracy": _pixels,
}
