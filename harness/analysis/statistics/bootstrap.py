"""Resampling seeds and samples, both rows of a pair alike.

B replicates, C combinations, S seeds, N samples.

Summaries that are means have a closed-form interval (see intervals.py). The percentile
interval of the bootstrap would not be calibrated: S seeds drawn with replacement have (S - 1) / S
of the variance, and normal instead of t tails; 74 % instead of 95 % at 3 seeds. The worst
combination is no mean. Its V2 is resampled, and its V1 is the variance over seeds, with n - 1 and
the t quantile: the widening by sqrt(S / (S - 1)) and t, of that part alone that the seeds are
responsible for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.analysis.statistics.intervals import Estimate

Array = np.ndarray[Any, np.dtype[Any]]

REPLICATES = 1000
AT_ONCE = 1 << 24
"""Entries of the largest array of sample counts, unless one replicate alone has more."""


def resampled(values: Array, replicates: int = REPLICATES, seed: int = 0) -> Array:
    """Means (B, ...) of values (..., N) over samples drawn with replacement.

    The same draws for the same N, B and seed.
    """
    *shape, samples = values.shape
    columns = values.reshape(-1, samples).T
    generator = np.random.default_rng(seed)
    chunk = max(1, AT_ONCE // samples)
    uniform = np.full(samples, 1 / samples)
    means = []
    for start in range(0, replicates, chunk):
        # How often each sample is drawn, (chunk, N): a mean is a product with these counts.
        counts = generator.multinomial(samples, uniform, min(chunk, replicates - start))
        means.append(counts.astype(float) @ columns / samples)
    return np.concatenate(means).reshape(replicates, *shape)


def worst(values: Array, higher_is_better: bool) -> Array:
    """The worst over the combinations, the last axis but one: (..., C, S) -> (..., S)."""
    return np.asarray(values.min(-2) if higher_is_better else values.max(-2))


def estimate_resampled(
    differences: Array, replicates: Array, samples: int, freedom: float = math.nan
) -> Estimate:
    """The estimate from each seed's difference (S,) and its values (B, S) on resampled samples, the
    same for all seeds.

    The variance that seeds share is V2: of the mean over seeds, less what would be there if each
    seed had samples of its own. The worst of several noisy values is too low, more so where several
    are near the worst: resampling shows by how much (``bias``).
    """
    seeds, value = len(differences), float(differences.mean())
    bias = float(replicates.mean()) - value
    # A seed's variance over samples is c + r, c of it in common with the other seeds.
    together = float(replicates.mean(1).var(ddof=1))  # c + r / S
    if seeds < 2:
        return Estimate(value, 0.0, together, seeds, samples, bias, freedom)
    apart = float(replicates.var(0, ddof=1).mean()) / seeds  # (c + r) / S
    rest = max(seeds * apart - together, 0.0) / (seeds - 1)  # r / S
    in_common = max(together - rest, 0.0)
    from_seeds = float(differences.var(ddof=1)) / seeds
    return Estimate(value, from_seeds, in_common, seeds, samples, bias, freedom)


def two_level(replicates: Array, seed: int = 0) -> Array:
    """The paired two-level bootstrap (B,): seeds drawn with replacement too, from values (B, S) on
    resampled samples.
    """
    seeds = replicates.shape[1]
    drawn = np.random.default_rng((seed, 1)).integers(seeds, size=replicates.shape)
    return np.asarray(np.take_along_axis(replicates, drawn, 1).mean(1))
