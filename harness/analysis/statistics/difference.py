"""One difference of two rows: its estimate, its corrected p values, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.analysis.statistics.intervals import SIGNIFICANCE_LEVEL, Estimate, calibration
from harness.analysis.statistics.multiple_comparisons import holm

AVERAGE, WORST, EXPECTED = "average", "worst", "expected in use"
"""Summaries beside the single combinations, which go by their names."""

NEAR_TIES = (
    "not calibrated here: one row has several combinations that are about equally bad, and the"
    " other has not; the worst of several noisy values looks worse than it is, and correcting for"
    " it leaves 89 to 95 % coverage"
)

TOO_FEW_GROUPS = (
    "nothing is claimed: the test samples come from too few groups to say anything about others"
)


def present(count: int) -> str:
    """The summary over the combinations with so many modalities."""
    return f"{count} present"


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` in the metric's unit, with a 95 % interval and two-sided p value.

    ``summary`` is ``average``, ``worst``, ``n present`` or a combination's name. ``p_adjusted`` is
    Holm's over all pairs of the same summary, the numbers of present modalities taken together and
    the single combinations too; ``p_baseline`` is Holm's over the pairs with the baseline alone,
    NaN for others. The interval belongs to this pair alone.

    ``share`` is the part of the 5 % that this look at the results has: both adjusted p values are
    divided by it, so that 0.05 decides as ever.
    """

    first: str
    second: str
    summary: str
    estimate: Estimate
    higher_is_better: bool
    low: float
    high: float
    p: float
    p_adjusted: float
    p_baseline: float = math.nan
    share: float = 1.0

    @property
    def value(self) -> float:
        """The difference of the metric's means."""
        return self.estimate.value

    @property
    def detectable(self) -> float:
        """The true difference that would be found in 80 % of such studies, unadjusted."""
        return self.estimate.detectable()

    @property
    def seeds_needed(self) -> float:
        """The seeds that this much power takes if the difference is what it seems (see
        ``Estimate.seeds_needed``).
        """
        return self.estimate.seeds_needed()

    @property
    def significant(self) -> bool:
        """Whether the adjusted p value is below 0.05, and there are groups enough for a claim."""
        return self.better is not None

    @property
    def better(self) -> str | None:
        """The row that is significantly better, if one is."""
        return self.better_at(self.p_adjusted)

    def better_at(self, p: float, level: float = SIGNIFICANCE_LEVEL) -> str | None:
        """The row that is better where ``p`` decides, if one is."""
        # Not p >= level: a p value that is NaN decides nothing.
        if not p < level or self.estimate.too_few_groups:
            return None
        first_is_better = (self.estimate.corrected > 0) == self.higher_is_better
        return self.first if first_is_better else self.second

    @property
    def note(self) -> str:
        """What must stand beside it: too few seeds, or a worst case that cannot be told from
        others; else empty.
        """
        if self.estimate.too_few_groups:
            return TOO_FEW_GROUPS
        too_few_seeds = calibration(self.estimate.seeds).note
        if too_few_seeds:
            return too_few_seeds
        return NEAR_TIES if self.estimate.biased else ""


def difference_of(
    first: str, second: str, summary: str, found: Estimate, higher_is_better: bool
) -> Difference:
    """One difference, not yet adjusted for others."""
    p_value = found.p_value()
    return Difference(
        first, second, summary, found, higher_is_better, *found.interval(), p_value, p_value
    )


def adjusted(
    differences: Iterable[Difference], baseline: str | None = None, share: float = 1.0
) -> list[Difference]:
    """A family of differences with Holm's correction over all, and over those with the baseline.

    ``share`` is the part of the 5 % that this look at the results has.
    """
    family = list(differences)
    over_all = holm([one.p for one in family])
    of_baseline = [at for at, one in enumerate(family) if baseline in (one.first, one.second)]
    over_baseline = holm([family[at].p for at in of_baseline])
    against_baseline = dict(zip(of_baseline, over_baseline, strict=True))
    found = []
    for at, one in enumerate(family):
        # p / share is below 0.05 exactly where p is below the share of it.
        p_baseline = math.nan
        if at in against_baseline:
            p_baseline = min(1.0, against_baseline[at] / share)
        p_adjusted = min(1.0, over_all[at] / share)
        found.append(replace(one, p_adjusted=p_adjusted, p_baseline=p_baseline, share=share))
    return found
