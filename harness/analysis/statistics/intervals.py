"""Intervals for a mean over crossed seeds and samples: d[s, n] = mu + seed_s + sample_n + rest_sn,
S seeds, N samples.

The variance of the mean has two parts. V1 = MS_seed / (S N), the variance of the seeds' means over
S, holds all that differs from seed to seed, on S - 1 degrees of freedom. V2 = (MS_sample - MS_rest)
/ (S N) is what the seeds have in common because they are tested on the same samples, on N - 1. V1 +
V2 is the unbiased two-way random-effects estimate.

Samples that belong together (frames of a person, pictures of a scene) are no independent draws.
Then V2 is of groups: their sums of deviations, each over 1 - h with h the group's share of the
samples (CR2; Bell and McCaffrey, Survey Methodology 28, 2002), on Satterthwaite's degrees of
freedom for independent samples of equal variance. With equal groups this is the analysis of
variance of the group means on G - 1. Each sample a group of its own gives the formulas above.
Simulated coverage of this interval, of the plain one over group means and of a bootstrap-t over
groups: tests/benchmarks/README.md.

The critical value is the mean of both t quantiles, weighted by V1 and V2 (Cochran and Cox,
Experimental Designs, 1950, for the problem of two variances). Satterthwaite's single number of
degrees of freedom covers only 92 % at 3 seeds when a tenth of the variance is V2: an estimate on 2
degrees of freedom is often near zero, and then claims many. The weighted quantile covers at least
95 % from 3 seeds on, whatever the mixture (``coverage``, by quadrature).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from harness.analysis.statistics.groups import Groups, too_few

Array = np.ndarray[Any, np.dtype[Any]]

SIGNIFICANCE_LEVEL = 0.05
"""1 - coverage of every interval, and the nominal rate of false differences."""

POWER = 0.8
"""How often a difference is found that counts as detectable."""

MANY_SEEDS = 10_000
"""Seeds with which a question is not decidable if it is not decided by them."""

SMALLEST = -200.0
"""The natural logarithm of the smallest p value that is told from 0; the quantiles of scipy fail
below 1e-200.
"""

MUCH_BIAS = 0.25
"""The bias, in standard errors, above which a worst case is not calibrated: 89 % by simulation
where it is half of one.
"""


@dataclass(frozen=True)
class Estimate:
    """A mean difference with both parts of its variance (``from_seeds`` is V1, 0 with one seed;
    ``from_samples`` is V2).

    ``freedom`` are the degrees of freedom of V2, ``samples`` - 1 where samples are independent;
    ``seed_freedom`` those of V1, ``seeds`` - 1 unless V1 is pooled over rows.
    ``bias`` is what the value is expected to be off by: 0 for means. Interval and test are about
    the value less the bias.
    """

    value: float
    from_seeds: float
    from_samples: float
    seeds: int
    samples: int
    bias: float = 0.0
    freedom: float = math.nan
    seed_freedom: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.freedom):
            object.__setattr__(self, "freedom", float(max(self.samples - 1, 1)))
        if math.isnan(self.seed_freedom):
            object.__setattr__(self, "seed_freedom", float(self.seeds - 1))

    @property
    def pooled(self) -> bool:
        """Whether the variance over seeds is that of all rows."""
        return self.seed_freedom > self.seeds - 1

    @property
    def too_few_groups(self) -> bool:
        """Whether the test samples are of too few groups for any claim about others."""
        return too_few(self.freedom, self.samples)

    @property
    def corrected(self) -> float:
        """The value less its bias."""
        return self.value - self.bias

    @property
    def variance(self) -> float:
        """Of the mean over seeds and samples; with one seed of the mean over samples alone."""
        return self.from_seeds + self.from_samples

    @property
    def biased(self) -> bool:
        """Whether the bias is too large to be corrected reliably."""
        return abs(self.bias) > MUCH_BIAS * math.sqrt(self.variance)

    def interval(self, level: float = SIGNIFICANCE_LEVEL) -> tuple[float, float]:
        """The interval at a two-sided level: by default, of 95 %."""
        if math.isinf(self.variance):
            return -math.inf, math.inf
        half = self._critical(level) * math.sqrt(self.variance)
        return self.corrected - half, self.corrected + half

    def p_value(self) -> float:
        """Two-sided: the level whose interval ends at zero."""
        if self.corrected == 0 or math.isinf(self.variance):
            return 1.0
        if self.variance == 0:
            return 0.0
        target = abs(self.corrected) / math.sqrt(self.variance)

        def excess(log_level: float) -> float:
            return self._critical(math.exp(log_level)) - target

        if excess(SMALLEST) <= 0:
            return 0.0
        return math.exp(optimize.brentq(excess, SMALLEST, 0.0, xtol=1e-10))

    def detectable(self, level: float = SIGNIFICANCE_LEVEL) -> float:
        """The smallest true difference that is found at this level in 80 % of such studies.

        At the default, that the interval excludes zero for.
        """
        standard_error = math.sqrt(self.variance)
        if standard_error == 0 or math.isinf(standard_error):
            return standard_error
        share = self.from_seeds / self.variance

        def power_above_goal(difference: float) -> float:
            return power(difference, share, self.seed_freedom, self.freedom, level) - POWER

        return standard_error * float(optimize.brentq(power_above_goal, 0.0, 1e7))

    def seeds_needed(self, level: float = SIGNIFICANCE_LEVEL) -> float:
        """The fewest seeds with 80 % power, at this level, for a true difference of the size found.

        V1 shrinks with the seeds and V2 does not: infinity where no number of seeds would do, the
        test set being too small; NaN with one seed, which says nothing about seeds.
        """
        if self.seeds < 2:
            return math.nan
        if math.isinf(self.variance) or not self._enough(MANY_SEEDS, level):
            return math.inf
        # Doubled until they are enough, then halved in between: ``low`` seeds are too few.
        low, high = 1, 2
        while not self._enough(high, level):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._enough(middle, level) else (middle, high)
        return float(high)

    def _enough(self, seeds: int, level: float) -> bool:
        """Whether so many seeds would have the power for a difference of the size found."""
        from_seeds = self.from_seeds * self.seeds / seeds
        variance = from_seeds + self.from_samples
        if variance == 0:
            return self.corrected != 0
        # Pooled degrees of freedom grow with the seeds as own ones do.
        freedom_per_seed = self.seed_freedom / (self.seeds - 1)
        seed_freedom = freedom_per_seed * (seeds - 1)
        size = abs(self.corrected) / math.sqrt(variance)
        share = from_seeds / variance
        return power(size, share, seed_freedom, self.freedom, level) >= POWER

    def _critical(self, level: float) -> float:
        """What the half width of the interval is in standard errors: the mean of both t quantiles
        of level / 2, weighted by V1 and V2.
        """
        of_samples = -float(special.stdtrit(self.freedom, level / 2))
        if self.seeds < 2 or self.from_seeds == 0:
            return of_samples
        of_seeds = -float(special.stdtrit(self.seed_freedom, level / 2))
        share = self.from_seeds / self.variance
        return share * of_seeds + (1 - share) * of_samples


def estimate(differences: Array, groups: Groups | None = None) -> Estimate:
    """The estimate from paired differences (S, N), of samples in groups or independent ones."""
    seeds, samples = differences.shape
    groups = groups or Groups.independent(samples)
    seed_means = differences.mean(1)
    value = float(seed_means.mean())
    sums = groups.deviations(differences)  # (S, G)
    # The variance of the seeds' mean over samples: what they have in common, and 1 / S of the rest.
    from_samples = groups.variance(sums.mean(0))
    if seeds < 2:
        return Estimate(value, 0.0, from_samples, seeds, samples, freedom=groups.freedom)
    if math.isfinite(from_samples):
        rests = sums - sums.mean(0)
        rest = sum(groups.variance(one) for one in rests) / (seeds * (seeds - 1))
        from_samples = max(from_samples - rest, 0.0)
    from_seeds = float(seed_means.var(ddof=1)) / seeds
    return Estimate(value, from_seeds, from_samples, seeds, samples, freedom=groups.freedom)


# ------------------------------------------------------ what the intervals are worth, by quadrature


KNOWN = 200
"""Degrees of freedom from which an estimated variance is taken as known."""

POINTS, FEW_POINTS = 1000, 50
"""Equally likely values of a variance: of one alone, and of each of two."""


@lru_cache(maxsize=64)
def _chi2_over_df(df: float, points: int) -> Array:
    """Equally likely values of an estimated variance over the true one, on ``df`` degrees of
    freedom.
    """
    chances = (np.arange(points) + 0.5) / points
    return np.asarray(stats.chi2.ppf(chances, df) / df)


def power(
    difference: float,
    share: float,
    seed_freedom: float,
    freedom: float,
    level: float = SIGNIFICANCE_LEVEL,
) -> float:
    """How often a true difference in units of its standard error is found at a level.

    ``share`` is the true V1 / (V1 + V2), ``seed_freedom`` the degrees of freedom of V1 (0: one
    seed), ``freedom`` those of V2, which is taken as known where they are many.
    """
    half = _half_widths(share, seed_freedom, freedom, level)
    above, below = special.ndtr(difference - half), special.ndtr(-difference - half)
    return float((above + below).mean())


@lru_cache(maxsize=256)
def _half_widths(share: float, seed_freedom: float, freedom: float, level: float) -> Array:
    """Equally likely half widths of the interval, in true standard errors."""
    v2_varies = freedom < KNOWN and share < 1
    points = FEW_POINTS if v2_varies else POINTS
    if seed_freedom <= 0:
        share = 0.0
    # V1 (points, 1) or (1, 1) and V2 (points,) or (1,) as they are estimated: all pairs of values.
    v1, v2 = np.zeros((1, 1)), np.ones(1)
    if share > 0:
        v1 = share * _chi2_over_df(seed_freedom, points)[:, None]
    if v2_varies:
        v2 = _chi2_over_df(freedom, points)
    v2 = (1 - share) * v2
    of_seeds = -special.stdtrit(seed_freedom, level / 2) if seed_freedom > 0 else 0.0
    of_samples = -special.stdtrit(freedom, level / 2)
    # The weighted quantile times the standard error, sqrt(V1 + V2).
    half = (v1 * of_seeds + v2 * of_samples) / np.sqrt(v1 + v2)
    return np.asarray(half.ravel())


def coverage(share: float, seeds: int, freedom: float = 999.0) -> float:
    """How often the 95 % interval holds the truth when ``share`` of the variance comes from the
    seeds.
    """
    return 1 - power(0.0, share, seeds - 1, freedom)


@dataclass(frozen=True)
class Calibration:
    """The least and the largest coverage in percent over all mixtures of seed and sample noise."""

    seeds: int
    lowest: float
    highest: float

    @property
    def calibrated(self) -> bool:
        """Whether the coverage is 93 to 97 %, in whole percent."""
        return round(self.lowest) >= 93 and round(self.highest) <= 97

    @property
    def note(self) -> str:
        """What to print beside the intervals; empty where they are calibrated."""
        if self.seeds < 2:
            return "test-sample noise only: one seed says nothing about other seeds"
        if self.calibrated:
            return ""
        span = f"{self.lowest:.0f} to {self.highest:.0f} %"
        return (
            f"not calibrated here: with {self.seeds} seeds the 95 % intervals cover {span}; use 3"
            " seeds or more"
        )


@cache
def calibration(seeds: int) -> Calibration:
    """What the intervals cover with this many seeds."""
    shares = (0.0,) if seeds < 2 else (0.0, *np.linspace(0.02, 1, 50).tolist())
    covered = [100 * coverage(share, seeds) for share in shares]
    return Calibration(seeds, min(covered), max(covered))
