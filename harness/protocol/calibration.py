"""Does a model know when it is wrong? Calibration error and risk-coverage from confidences.

n samples; predictions are theirs, or of a segmentation the pixels of n images. g groups of equally
confident predictions, most confident first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from scipy import sparse, special
from torch import Tensor

from harness.protocol.segmentation import BINS

Array = np.ndarray[Any, np.dtype[Any]]

COVERAGES = np.round(np.arange(0.05, 1.001, 0.05), 2)
"""Where risk-coverage curves are given: the share of predictions that is kept, the most confident
ones.
"""

TABLED = 1 << 20
"""Predictions up to which sums of 1 / k are looked up; the special functions are slower."""


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


@dataclass(frozen=True)
class Predictions:
    """The predictions of n samples by their confidence, as sparse matrices.

    Attributes:
        kept: (n, g) predictions of each sample in each group of equal confidence.
        wrong: (n, g) those of them that are errors.
        gaps: (n, BINS) correct predictions less the sum of confidences, in each bin.
    """

    kept: Any
    wrong: Any
    gaps: Any

    @cached_property
    def sizes(self) -> Array:
        """(n,) predictions of each sample."""
        return np.asarray(self.kept.sum(1))

    @classmethod
    def of_scores(cls, scores: Tensor, target: Tensor) -> Predictions:
        """Of class scores (n, K) and targets (n,).

        The confidence is the largest softmax probability, in double precision.
        """
        largest, predicted = scores.double().softmax(1).max(1)
        confidence, wrong = largest.numpy(), (predicted != target).double().numpy()
        distinct, place = np.unique(-confidence, return_inverse=True)
        edges = torch.linspace(0, 1, BINS + 1)[1:-1]
        bins = torch.bucketize(largest.float(), edges, right=True).numpy()
        return cls(
            _one_each(np.ones(len(wrong)), place, len(distinct)),
            _one_each(wrong, place, len(distinct)),
            _one_each(1 - wrong - confidence, bins, BINS),
        )

    @classmethod
    def of_histograms(cls, histograms: Array) -> Predictions:
        """Of calibration histograms (n, BINS, 3): predictions, the sum of their confidence, the
        correct ones.

        Predictions of one bin count as equally confident.
        """
        falling = histograms[:, ::-1].astype(float)
        there = falling[..., 0].sum(0) > 0
        count, correct = falling[:, there, 0], falling[:, there, 2]
        gaps = histograms[..., 2].astype(float) - histograms[..., 1]
        return cls(*map(sparse.csr_array, (count, count - correct, gaps)))

    @cached_property
    def count(self) -> Array:
        """(g,) predictions of each group of equal confidence."""
        return np.asarray(self.kept.sum(0))

    @cached_property
    def errors(self) -> Array:
        """(g,) errors of each group of equal confidence."""
        return np.asarray(self.wrong.sum(0))

    def reliability(self) -> Reliability:
        """What they say of all samples together."""
        count, errors = self.count, self.errors
        aurc = area(count, errors)
        return Reliability(
            float(100 * np.abs(self.gaps.sum(0)).sum() / count.sum()),
            100 * aurc,
            100 * (aurc - _least_area(count.sum(), errors.sum())),
            tuple((100 * risk(count, errors, COVERAGES)).tolist()),
        )

    def sample_values(self) -> tuple[Array, Array, Array]:
        """Values (n,) in percent whose means are calibration error, area and excess, and whose
        spread is their sampling noise: the measures' influence functions (Hampel, JASA 69, 1974).
        """
        count, errors = self.count, self.errors
        total, wrong = count.sum(), self.wrong.sum(1)
        signs = np.sign(self.gaps.sum(0))
        right_value, wrong_value = area_values(count, errors)
        least = _least_area(total, errors.sum())
        share = errors.sum() / total
        # The least area is share + (1 - share) log(1 - share) of many predictions.
        slope = -np.log(max(1 - share, 1 / total))
        of_area = self.kept @ right_value + self.wrong @ (wrong_value - right_value)
        calibration = self._spread(self.gaps @ signs)
        areas = self._spread(of_area)
        return calibration, areas, areas - 100 * least - slope * (self._spread(wrong) - 100 * share)

    def _spread(self, sums: Array) -> Array:
        """From sums over each sample's predictions to values in percent with the mean of all
        predictions.
        """
        total = self.sizes.sum()
        mean = sums.sum() / total
        return np.asarray(100 * (mean + len(sums) / total * (sums - mean * self.sizes)))


def _one_each(values: Array, columns: Array, width: int) -> Any:
    """A matrix with one entry in each row."""
    rows = np.arange(len(values) + 1)
    return sparse.csr_array((values, columns, rows), shape=(len(values), width))


def from_scores(scores: Tensor, target: Tensor) -> Reliability:
    """Of class scores (n, K) and targets (n,)."""
    return Predictions.of_scores(scores, target).reliability()


def from_histograms(histograms: Array) -> Reliability:
    """Of calibration histograms (images, BINS, 3), pooled."""
    return Predictions.of_histograms(histograms).reliability()


def area(count: Array, errors: Array) -> float:
    """The area under the risk-coverage curve of predictions in groups of equal confidence, most
    confident first.

    Within a group any order is as likely as another, and the expected area has a closed form: of m
    predictions with e errors after M with E, sum_j (E + j e / m) / (M + j) = e + (E - M e / m) (H(M
    + m) - H(M)), H the harmonic numbers.
    """
    kept, wrong = np.cumsum(count) - count, np.cumsum(errors) - errors
    harmonic = _power_sums(1, kept + count) - _power_sums(1, kept)
    return float((errors + (wrong - kept * errors / count) * harmonic).sum() / count.sum())


def area_values(count: Array, errors: Array) -> tuple[Array, Array]:
    """What a correct prediction and an error of each group (g,) count for in the area: means over
    all predictions are the area, and its change when predictions are drawn again is theirs.

    With R(k) the error rate of the k most confident, an error indicator e at rank i counts for R(i)
    + sum_{k >= i} (e - R(k)) / k; within a group of equal confidence that is averaged over i.
    """
    kept, wrong = np.cumsum(count) - count, np.cumsum(errors) - errors
    top, total = kept + count, count.sum()
    rate = errors / count
    # R(k) = rate + lag / k within the group.
    lag = wrong - kept * rate
    first = _power_sums(1, top) - _power_sums(1, kept)
    second = _power_sums(2, top) - _power_sums(2, kept)
    own = rate * first + lag * second
    later = own[::-1].cumsum()[::-1] - own
    mean_rank = 1 - kept * first / count
    per_error = _power_sums(1, total) - _power_sums(1, top) + mean_rank
    passed = later + rate * mean_rank + lag * (first - kept * second) / count
    right = rate + lag * first / count - passed
    return right, right + per_error


def _power_sums(power: int, upto: Array | float) -> Array:
    """sum_{l <= k} l^-power, power 1 or 2, of each k in ``upto``."""
    k = np.asarray(upto)
    if k.size and k.max() <= TABLED and np.array_equal(k, np.round(k)):
        return np.asarray(_tabled(power)[k.astype(int)])
    if power == 1:
        return np.asarray(special.digamma(k + 1) + np.euler_gamma)
    return np.asarray(np.pi**2 / 6 - special.zeta(2, k + 1))


@lru_cache(maxsize=2)
def _tabled(power: int) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.arange(1, TABLED + 1, dtype=float) ** -power)])


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
