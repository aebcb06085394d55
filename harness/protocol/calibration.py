"""Does a model know when it is wrong? Calibration error and risk-coverage from confidences. n
predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from harness.protocol.segmentation import histogram

Array = np.ndarray[Any, np.dtype[Any]]

COVERAGES = np.round(np.arange(0.05, 1.001, 0.05), 2)
"""Where risk-coverage curves are given: the share of predictions that is kept, the most confident
ones.
"""


@dataclass(frozen=True)
class Reliability:
    """Of one combination, in percent; predictions of a segmentation are pixels.

    ``calibration_error``: expected calibration error, 15 bins of equal width (Guo et al., 2017, eq.
    3). ``aurc``: area under the risk-coverage curve, the mean error rate of the k most confident
    over all k (Geifman and El-Yaniv, 2017); ``excess`` is what it is above that of the best
    possible order of the same predictions. ``risk``: the error rate at each of ``COVERAGES``.
    """

    calibration_error: float
    aurc: float
    excess: float
    risk: tuple[float, ...]


def from_scores(scores: Tensor, target: Tensor) -> Reliability:
    """Of class scores (n, K) and targets (n,).

    The confidence is the largest softmax probability, in double precision.
    """
    confidence, predicted = scores.double().softmax(1).max(1)
    correct = predicted == target
    bins = (
        histogram(confidence[None].float(), correct[None], torch.ones_like(correct)[None])[0]
        .double()
        .numpy()
    )
    distinct, place = np.unique(-confidence.numpy(), return_inverse=True)
    count = np.bincount(place, minlength=len(distinct)).astype(float)
    return _reliability(
        bins,
        count,
        np.bincount(place, weights=(~correct).double().numpy(), minlength=len(distinct)),
    )


def from_histograms(histograms: Array) -> Reliability:
    """Of calibration histograms (images, bins, 3), pooled: predictions, the sum of their
    confidence, the correct ones.

    Predictions of one bin count as equally confident.
    """
    bins = histograms.astype(float).sum(0)
    falling = bins[::-1][bins[::-1, 0] > 0]
    return _reliability(bins, falling[:, 0], falling[:, 0] - falling[:, 2])


def _reliability(bins: Array, count: Array, errors: Array) -> Reliability:
    found = area(count, errors)
    return Reliability(
        calibration_error(bins),
        100 * found,
        100 * (found - _least_area(count.sum(), errors.sum())),
        tuple((100 * risk(count, errors, COVERAGES)).tolist()),
    )


def calibration_error(bins: Array) -> float:
    """sum_b |correct_b - confidence_b| / n in percent, of bins (b, 3): predictions, the sum of
    their confidence, correct ones.
    """
    return float(100 * np.abs(bins[:, 2] - bins[:, 1]).sum() / bins[:, 0].sum())


def area(count: Array, errors: Array) -> float:
    """The area under the risk-coverage curve of predictions in groups of equal confidence, most
    confident first.

    Within a group any order is as likely as another, and the expected area has a closed form: of m
    predictions with e errors after M with E, sum_j (E + j e / m) / (M + j) = e + (E - M e / m) (H(M
    + m) - H(M)), H the harmonic numbers.
    """
    kept, wrong = np.cumsum(count) - count, np.cumsum(errors) - errors
    harmonic = special.digamma(kept + count + 1) - special.digamma(kept + 1)
    return float((errors + (wrong - kept * errors / count) * harmonic).sum() / count.sum())


def _least_area(total: float, wrong: float) -> float:
    """When every error comes after every correct prediction."""
    groups = np.array([[total - wrong, 0.0], [wrong, wrong]])
    there = groups[groups[:, 0] > 0]
    return area(there[:, 0], there[:, 1])


def risk(count: Array, errors: Array, coverages: Array) -> Array:
    """The error rate of the most confident predictions at each coverage in (0, 1], of groups as for
    ``area``.
    """
    share = np.concatenate([[0.0], np.cumsum(count)]) / count.sum()
    wrong = np.concatenate([[0.0], np.cumsum(errors)]) / count.sum()
    return np.asarray(np.interp(coverages, share, wrong) / coverages)
