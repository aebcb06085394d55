"""Test samples that belong together: sums over groups, their variance, and what it rests on.

N samples in G groups. Samples of one group (frames of a person, windows of a recording) are not
independent; groups are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

WHOLE = 1 - 1e-9
"""The share of a group that holds all samples, but for rounding."""

LEAST_FREEDOM = 1.9
"""Degrees of freedom below which nothing is claimed: two groups, three very unequal ones, or one
that holds nearly all samples. Intervals hold there, and are several times wider.
"""


def too_few(freedom: float, samples: int) -> bool:
    """Whether groups with these degrees of freedom are too few for any claim about others."""
    return freedom < min(LEAST_FREEDOM, samples - 1)


@dataclass(frozen=True)
class Groups:
    """The group of each sample, and how much of a value each group is responsible for.

    Attributes:
        number: (N,) int, from 0; with none empty.
        share: (G,) the parts of all samples, which add up to 1. Where a value is over some samples
            only, those of them.
    """

    number: Array
    share: Array

    @classmethod
    def independent(cls, samples: int, weight: Array | None = None) -> Groups:
        """Each sample a group of its own."""
        return cls.of(np.arange(samples), weight)

    @classmethod
    def of(cls, number: Array, weight: Array | None = None) -> Groups:
        """Groups with these numbers (N,); ``weight`` (N,) is each sample's part in a value."""
        sizes = np.bincount(number, weight).astype(float)
        return cls(number, sizes / sizes.sum())

    @classmethod
    def resting_on(
        cls, counted: Array, number: Array | None, weights: Array | None = None
    ) -> Groups:
        """Those of a mean over combinations (C,) that are each scored on some samples, (C, N) bool.

        Without ``number`` (N,) each sample is a group of its own; ``weights`` (C,) of the mean.
        """
        scored = counted.astype(float)
        of_combinations = np.ones(len(counted)) if weights is None else weights
        weight = of_combinations @ (scored / scored.sum(1, keepdims=True))  # (N,)
        return cls.independent(len(weight), weight) if number is None else cls.of(number, weight)

    def deviations(self, values: Array) -> Array:
        """The sums over groups (..., G) of the deviations of values (..., N) from their mean, over
        N.

        They add up to 0; a mean of the values is off by as much as its groups are.
        """
        samples, count = values.shape[-1], len(self.share)
        deviations = (values - values.mean(-1, keepdims=True)) / samples
        if count == samples:
            # Each group is one sample: they are put in the order of the groups.
            return np.asarray(deviations[..., np.argsort(self.number)])
        flat = deviations.reshape(-1, samples)
        sums = np.stack([np.bincount(self.number, row, count) for row in flat])
        return np.asarray(sums.reshape(*values.shape[:-1], count))

    def drawable(self, values: Array) -> Array:
        """Values (..., G) for (..., N) whose mean is the same and, over groups drawn with
        replacement, has the variance of ``variance``.
        """
        count = len(self.share)
        off = count * np.sqrt(self.widening) * self.deviations(values)
        return np.asarray(values.mean(-1, keepdims=True) + off)

    @cached_property
    def widening(self) -> Array:
        """By what (G,) squared sums are multiplied: 1 / (1 - share), because the mean that they
        deviate from has followed them.
        """
        return np.asarray(1 / np.maximum(1 - self.share, 1 - WHOLE))

    def variance(self, sums: Array) -> float:
        """The variance of a mean from the sums (G,) of its deviations (CR2).

        Infinite where one group holds all samples: nothing is known of others.
        """
        if self.share.max() > WHOLE:
            return np.inf
        return float((self.widening * sums**2).sum())

    @property
    def too_few(self) -> bool:
        """Whether they are too few for any claim about others."""
        return too_few(self.freedom, len(self.number))

    @cached_property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of that variance, if samples were independent.

        G - 1 for groups of equal size. 1 / sum_gh c_g c_h S_gh^2 with S = diag(h) - h h', h the
        shares and c the widening.
        """
        if self.share.max() > WHOLE:
            return 0.0
        h, c = self.share, self.widening
        # On the diagonal S_gg = (1 - h_g) h_g, which c_g makes h_g; elsewhere S_gh^2 = h_g^2 h_h^2,
        # which is summed over all g and h less g = h.
        crossed = c * h**2
        return float(1 / ((h**2).sum() + crossed.sum() ** 2 - (crossed**2).sum()))
