"""What the numbers of a study say, computed once from one reading of the store.

Reports and trackers show it; what a paper or a search adds is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.comparison import Comparison
from harness.analysis.dependence import Dependence, dependence
from harness.analysis.in_use.presence import Expected, expected
from harness.analysis.in_use.reliability import RowReliability, reliability
from harness.analysis.ranking import Ranking, Unranked, ranking
from harness.analysis.results import Results
from harness.analysis.robustness import (
    RowRobustness,
    hurting,
    row_robustness,
)
from harness.analysis.statistics import (
    AVERAGE,
    SIGNIFICANCE_LEVEL,
    TOO_FEW_GROUPS,
    WORST,
    Difference,
    RowSamples,
    calibration,
    differences,
    present,
    row_samples,
)

SUMMARIES = (AVERAGE, WORST)

FAMILIES = 3
"""Of comparisons beside the average: worst cases, numbers of present modalities, combinations."""


@dataclass(frozen=True)
class RowDifference:
    """A row against another: ``value`` is row minus other in the metric's unit, the interval
    likewise.

    ``p`` is adjusted: over the pairs with the baseline where the other row is the baseline, else
    over all pairs. ``verdict`` is ``better``, ``worse`` or empty where it is not below 0.05.
    """

    label: str
    other: str
    value: float
    low: float
    high: float
    difference: Difference
    p: float

    @property
    def verdict(self) -> str:
        """What may be said about the row."""
        found = self.difference.better_at(self.p)
        return "" if found is None else "better" if found == self.label else "worse"


@dataclass(frozen=True)
class Findings:
    """What there is to say.

    ``rankings`` has ``average`` and ``worst``, or nothing, and then ``unranked`` says why.
    """

    results: Results
    comparison: Comparison
    rankings: Mapping[str, Ranking]
    unranked: str
    differences: Sequence[Difference]
    samples: Mapping[str, RowSamples]
    robustness: Mapping[str, RowRobustness]
    reliability: Mapping[str, RowReliability]
    hurting: Mapping[str, Sequence[Difference]]
    dependence: Dependence
    expected: Expected | None = None
    """The rows under the study's presence profile; None where it gives none."""

    @cached_property
    def ranked(self) -> list[str]:
        """The rows that are compared, in the study's order: reference rows never are."""
        return [row.label for row in self.results.plan.rows if not row.method_class.per_combination]

    @property
    def leader(self) -> str | None:
        """The row to be emphasised: the best with 95 % confidence, by calibrated intervals over
        several seeds.
        """
        found = self.rankings.get(AVERAGE)
        return found.leader if found is not None and not self.reserve else None

    @property
    def reserve(self) -> str:
        """What must be said of every interval with this many seeds and groups of samples.

        Empty where they are calibrated.
        """
        if self.dependence.too_few:
            return TOO_FEW_GROUPS
        return calibration(self.seeds).note

    @cached_property
    def seeds(self) -> int:
        """The fewest seeds that two compared rows have in common.

        Those of the study where nothing is compared.
        """
        return min(
            (one.estimate.seeds for one in self.differences),
            default=len(self.results.plan.study.seeds),
        )

    @cached_property
    def best(self) -> str | None:
        """The row with the best average, whether or not it is told apart from others."""
        sign = 1 if self.comparison.metric.higher_is_better else -1
        means = {label: sign * self.comparison.average[label].mean for label in self.ranked}
        there = {label: mean for label, mean in means.items() if math.isfinite(mean)}
        return max(there, key=lambda label: there[label]) if there else None

    @cached_property
    def baseline(self) -> str | None:
        """The first row that is a baseline."""
        return self.results.baseline

    def elsewhere(self) -> list[RowDifference]:
        """Where rows are told apart from the baseline while the average does not tell them.

        In the worst case, with a number of modalities present, or with a single combination: three
        families of comparisons, each at a third of the level, so that all together name a false one
        in 5 % of studies. Rows in the study's order.
        """
        other = self.baseline
        if other is None:
            return []
        silent = [one.label for one in self.against(other) if not one.verdict]
        summaries = list(dict.fromkeys(one.summary for one in self.differences))
        found = [
            one
            for summary in summaries
            if summary != AVERAGE
            for one in self.against(other, summary)
            if one.label in silent
            and one.difference.better_at(one.p, SIGNIFICANCE_LEVEL / FAMILIES) is not None
            and not one.difference.estimate.biased
        ]
        place = {label: at for at, label in enumerate(self.ranked)}
        return sorted(found, key=lambda one: place[one.label])

    def value(self, label: str, summary: str) -> float:
        """The mean over seeds of a row's value in a summary."""
        comparison, row = self.comparison, self.samples[label]
        if summary in SUMMARIES:
            return (comparison.average if summary == AVERAGE else comparison.worst)[label].mean
        if (label, summary) in comparison.cells:
            return comparison.cells[label, summary].mean
        sizes = [combination.size for combination in self.results.plan.combinations]
        chosen = np.array([present(size) == summary for size in sizes])
        return float(np.nanmean(row.values[chosen]))

    def against(self, other: str, summary: str = AVERAGE) -> list[RowDifference]:
        """All rows against one, best first by the difference."""
        found = [
            _turned(one, other, one.p_baseline if other == self.baseline else one.p_adjusted)
            for one in (*self.differences, *(self.expected.differences if self.expected else ()))
            if one.summary == summary and other in (one.first, one.second)
        ]
        sign = -1 if self.comparison.metric.higher_is_better else 1
        return sorted(found, key=lambda one: sign * one.value)


def analyse(results: Results) -> Findings:
    """All findings of a study. Nothing is trained, and no data are read."""
    samples = row_samples(results)
    pairs = differences(results, rows=samples)
    rankings, unranked = _rankings(results, pairs)
    combinations, higher = results.plan.combinations, results.metric.higher_is_better
    comparison = results.comparison()
    return Findings(
        results=results,
        comparison=comparison,
        rankings=rankings,
        unranked=unranked,
        differences=pairs,
        samples=samples,
        robustness=row_robustness(results),
        reliability=reliability(results),
        hurting={label: hurting(row, combinations, higher) for label, row in samples.items()},
        dependence=dependence(results, samples),
        expected=expected(results, samples, comparison, bool(rankings)),
    )


def _rankings(results: Results, found: Sequence[Difference]) -> tuple[dict[str, Ranking], str]:
    try:
        return {summary: ranking(results, summary, found) for summary in SUMMARIES}, ""
    except Unranked as error:
        return {}, str(error)


def _turned(one: Difference, other: str, p: float) -> RowDifference:
    """The difference seen from the row that is not ``other``."""
    if one.second == other:
        return RowDifference(one.first, other, one.value, one.low, one.high, one, p)
    return RowDifference(one.second, other, -one.value, -one.high, -one.low, one, p)
