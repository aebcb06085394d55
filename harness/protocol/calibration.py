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
        # Negative, as ``unique`` sorts and the most confident group comes first.
        distinct, group = np.unique(-confidence, return_inverse=True)
        edges = torch.linspace(0, 1, BINS + 1)[1:-1]
        # In float32, as the histograms of segmentations are binned.
        bins = torch.bucketize(largest.float(), edges, right=True).numpy()
        return cls(
            _one_each(np.ones(len(wrong)), group, len(distinct)),
            _one_each(wrong, group, len(distinct)),
            _one_each(1 - wrong - confidence, bins, BINS),
        )

    @classmethod
    def of_histograms(cls, histograms: Array) -> Predictions:
        """Of calibration histograms (n, BINS, 3): predictions, the sum of their confidence, the
        correct ones.

        Predictions of one bin count as equally confident.
        """
        by_falling_confidence = histograms[:, ::-1].astype(float)
        used = by_falling_confidence[..., 0].sum(0) > 0
        count, correct = by_falling_confidence[:, used, 0], by_falling_confidence[:, used, 2]
        gaps = histograms[..., 2].astype(float) - histograms[..., 1]
        return cls(
            kept=sparse.csr_array(count),
            wrong=sparse.csr_array(count - correct),
            gaps=sparse.csr_array(gaps),
        )

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
        # Of each bin |accuracy - mean confidence|, weighted by its share of the predictions.
        calibration_error = np.abs(self.gaps.sum(0)).sum()
        return Reliability(
            calibration_error=float(100 * calibration_error / count.sum()),
            aurc=100 * aurc,
            excess=100 * (aurc - _least_area(count.sum(), errors.sum())),
            risk=tuple((100 * risk(count, errors, COVERAGES)).tolist()),
        )

    def sample_values(self) -> tuple[Array, Array, Array]:
        """Values (n,) in percent whose means are calibration error, area and excess, and whose
        spread is their sampling noise: the measures' influence functions (Hampel, JASA 69, 1974).
        """
        count, errors = self.count, self.errors
        total = count.sum()
        # The sum of the bins' |gaps|: each sample counts with the sign of its bin.
        signs = np.sign(self.gaps.sum(0))
        calibration = self._spread(self.gaps @ signs)
        right_value, wrong_value = area_values(count, errors)
        of_area = self.kept @ right_value + self.wrong @ (wrong_value - right_value)
        areas = self._spread(of_area)
        # The least area is r + (1 - r) log(1 - r) of many predictions with the error rate r, and
        # follows it with the derivative -log(1 - r).
        least, error_rate = _least_area(total, errors.sum()), errors.sum() / total
        slope = -np.log(max(1 - error_rate, 1 / total))
        error_rates = self._spread(self.wrong.sum(1))
        excess = areas - 100 * least - slope * (error_rates - 100 * error_rate)
        return calibration, areas, excess

    def _spread(self, sums: Array) -> Array:
        """From sums (n,) over each sample's predictions to values (n,) in percent with the mean of
        all predictions, a ratio of two sums: linearised, where samples have unlike sizes.
        """
        total = self.sizes.sum()
        mean = sums.sum() / total
        deviations = sums - mean * self.sizes
        return np.asarray(100 * (mean + len(sums) / total * deviations))


def _one_each(values: Array, columns: Array, width: int) -> Any:
    """A matrix (n, width) with one entry in each row."""
    row_starts = np.arange(len(values) + 1)
    return sparse.csr_array((values, columns, row_starts), shape=(len(values), width))


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
    kept, wrong = _before(count), _before(errors)  # M and E
    harmonic = _power_sums(1, kept + count) - _power_sums(1, kept)
    sums = errors + (wrong - kept * errors / count) * harmonic
    return float(sums.sum() / count.sum())


def _before(numbers: Array) -> Array:
    """The sum of what comes before each group."""
    return np.asarray(np.cumsum(numbers) - numbers)


def area_values(count: Array, errors: Array) -> tuple[Array, Array]:
    """What a correct prediction and an error of each group (g,) count for in the area: means over
    all predictions are the area, and its change when predictions are drawn again is theirs.

    With R(k) the error rate of the k most confident, an error indicator e at rank i counts for R(i)
    + sum_{k >= i} (e - R(k)) / k; within a group of equal confidence that is averaged over i.
    """
    kept, wrong = _before(count), _before(errors)
    top, total = kept + count, count.sum()
    rate = errors / count
    # R(k) = rate + lag / k within the group, where kept < k <= top.
    lag = wrong - kept * rate
    # sum 1 / k and sum 1 / k^2 over the group.
    first = _power_sums(1, top) - _power_sums(1, kept)
    second = _power_sums(2, top) - _power_sums(2, kept)
    # sum R(k) / k over the group, and over all later ones.
    own = rate * first + lag * second
    later = own[::-1].cumsum()[::-1] - own
    # Averages over the ranks i of the group, of k >= i inside it: of sum 1 / k, of sum R(k) / k,
    # and of R(i) itself.
    inverse = 1 - kept * first / count
    passed = later + rate * inverse + lag * (first - kept * second) / count
    at_rank = rate + lag * first / count
    right = at_rank - passed
    per_error = _power_sums(1, total) - _power_sums(1, top) + inverse
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
    terms = np.arange(1, TABLED + 1, dtype=float) ** -power
    return np.concatenate([[0.0], np.cumsum(terms)])


def _least_area(total: float, wrong: float) -> float:
    """When every error comes after every correct prediction."""
    counts_and_errors = np.array([[total - wrong, 0.0], [wrong, wrong]])
    count, errors = counts_and_errors[counts_and_errors[:, 0] > 0].T
    return area(count, errors)


def risk(count: Array, errors: Array, coverages: Array) -> Array:
    """The error rate of the most confident predictions at each coverage in (0, 1], of groups as for
    ``area``.
    """
    share = np.concatenate([[0.0], np.cumsum(count)]) / count.sum()
    wrong = np.concatenate([[0.0], np.cumsum(errors)]) / count.sum()
    return np.asarray(np.interp(coverages, share, wrong) / coverages)
