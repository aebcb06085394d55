"""Everything that a report says about a study's results, computed once from one reading of the
store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from harness.analysis.results import Comparison, Results
from harness.analysis.robustness import Reliability, View, hurting, reliability, views
from harness.analysis.statistics import (
    AVERAGE,
    WORST,
    Difference,
    Ranking,
    RowSamples,
    Unranked,
    calibration,
    differences,
    estimate,
    ranking,
    row_samples,
)
from harness.paper import published_numbers as reference
from harness.paper.claims import Claim, claims
from harness.paper.published_numbers import Beside, Interval
from harness.search.results import SearchResult, find_searches
from harness.views import Array, histograms, mean_variances, views_table

SUMMARIES = (AVERAGE, WORST)


@dataclass(frozen=True)
class Against:
    """A row against another: ``value`` is row minus other in the metric's unit, the interval
    likewise.

    ``verdict`` is ``better``, ``worse`` or empty where the adjusted p value is not below 0.05.
    """

    label: str
    other: str
    value: float
    low: float
    high: float
    difference: Difference

    @property
    def verdict(self) -> str:
        """What may be said about the row."""
        found = self.difference.better
        return "" if found is None else "better" if found == self.label else "worse"


@dataclass(frozen=True)
class Findings:
    """What there is to say. ``rankings`` has ``average`` and ``worst``, or nothing, and then
    ``unranked`` says why.
    """

    results: Results
    comparison: Comparison
    rankings: Mapping[str, Ranking]
    unranked: str
    differences: Sequence[Difference]
    views: Mapping[str, View]
    reliability: Mapping[str, Mapping[str, Reliability]]
    hurting: Mapping[str, Sequence[Difference]]
    published: Sequence[Beside]
    reservations: Sequence[str]
    viewed: pd.DataFrame
    distances: Mapping[str, Array]
    claims: Sequence[Claim]
    searches: Sequence[SearchResult] = ()

    @cached_property
    def ranked(self) -> list[str]:
        """The rows that are compared, in the study's order: reference rows never are."""
        return [row.label for row in self.results.plan.rows if not row.method_class.per_combination]

    @property
    def leader(self) -> str | None:
        """The row to be emphasised: significantly better than every other, by calibrated intervals
        over several seeds.
        """
        found = self.rankings.get(AVERAGE)
        return found.leader if found is not None and not self.reserve else None

    @property
    def reserve(self) -> str:
        """What must be said of every interval with this many seeds; empty where they are
        calibrated.
        """
        return calibration(self.seeds).note

    @cached_property
    def seeds(self) -> int:
        """The fewest seeds that two compared rows have in common; those of the study where nothing
        is compared.
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
        return next(
            (row.label for row in self.results.plan.rows if row.method_class.role == "baseline"),
            None,
        )

    def against(self, other: str, summary: str = AVERAGE) -> list[Against]:
        """All rows against one, best first by the difference."""
        found = [
            _turned(one, other)
            for one in self.differences
            if one.summary == summary and other in (one.first, one.second)
        ]
        sign = -1 if self.comparison.metric.higher_is_better else 1
        return sorted(found, key=lambda one: sign * one.value)


def find(results: Results) -> Findings:
    """All findings of a study. Nothing is trained, and no data are read."""
    samples = row_samples(results)
    found = differences(results, rows=samples)
    rankings, unranked = _rankings(results, found)
    viewed, seen = views_table(results), views(results)
    combinations, higher = results.plan.combinations, results.metric.higher_is_better
    return Findings(
        results=results,
        comparison=results.comparison(),
        rankings=rankings,
        unranked=unranked,
        differences=found,
        views=seen,
        reliability=reliability(results),
        hurting={label: hurting(row, combinations, higher) for label, row in samples.items()},
        published=_published(results, samples, viewed),
        reservations=reference.reservations(results.plan)
        if results.plan.study.published_table
        else [],
        viewed=viewed,
        distances=histograms(results),
        claims=claims(
            results, viewed, found, next((view.blind for view in seen.values()), math.nan)
        ),
        searches=[
            found
            for member in results.plan.members
            for found in find_searches(member, results.store)
        ],
    )


def _rankings(results: Results, found: Sequence[Difference]) -> tuple[dict[str, Ranking], str]:
    try:
        return {summary: ranking(results, summary, found) for summary in SUMMARIES}, ""
    except Unranked as error:
        return {}, str(error)


def _turned(one: Difference, other: str) -> Against:
    """The difference seen from the row that is not ``other``."""
    if one.second == other:
        return Against(one.first, other, one.value, one.low, one.high, one)
    return Against(one.second, other, -one.value, -one.high, -one.low, one)


def _published(
    results: Results, samples: Mapping[str, RowSamples], viewed: pd.DataFrame
) -> list[Beside]:
    number = results.plan.study.published_table
    if number is None:
        return []
    cells = reference.published(number, results.plan.spec.name)
    return reference.beside(
        cells, results.comparison(), _intervals(results, samples), mean_variances(viewed)
    )


def _intervals(
    results: Results, samples: Mapping[str, RowSamples]
) -> dict[tuple[str, str], Interval | None]:
    """The 95 % interval of each row's mean, by (label, combination or average)."""
    found: dict[tuple[str, str], Interval | None] = {}
    for label, row in samples.items():
        there = ~np.asarray(np.isnan(row.values).any((1, 2)))
        found[label, AVERAGE] = (
            estimate(row.values[there].mean(0)).interval() if there.any() else None
        )
        for at, combination in enumerate(results.plan.combinations):
            found[label, combination.name] = (
                estimate(row.values[at]).interval() if there[at] else None
            )
    return found
