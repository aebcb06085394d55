"""Rows in their order, with what is a tie and which may be the best.

Called by analysis/findings.py and the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.analysis.results import Results
from harness.analysis.statistics import (
    AVERAGE,
    SIGNIFICANCE_LEVEL,
    Difference,
    differences,
    intact,
)
from harness.analysis.statistics.decisions import best_level, compared_with_the_best
from harness.analysis.statistics.multiple_comparisons import letters, unpaired
from harness.errors import UserError, shown


class Unranked(UserError):
    """A table with holes is not ranked; the sentence lists them."""


@dataclass(frozen=True)
class Place:
    """A row in a ranking: it shares a letter with the rows that it is not significantly different
    from.

    ``first`` to ``last`` are the ranks it may have: one more than the rows significantly better
    than it, to R less those worse.
    """

    label: str
    mean: float
    letters: str
    first: int
    last: int


@dataclass(frozen=True)
class Ranking:
    """Rows by their mean, best first, with what is a tie.

    ``best`` are the rows among which the best one is, with 95 % confidence (comparisons with the
    best). ``leader`` is the one that is left, if one is; without it nothing is to be emphasised.
    """

    summary: str
    places: tuple[Place, ...]
    best: tuple[str, ...]
    leader: str | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def level(self) -> float:
        """The level at which a row is compared with the best."""
        return best_level(len(self.places), share_of(self.differences))

    @cached_property
    def detectable(self) -> float:
        """The median over the pairs of the difference from the best that is found in 80 % of such
        studies.
        """
        return _median_detectable(self.differences, self.level)

    @cached_property
    def detectable_pair(self) -> float:
        """The same of any pair among all of them."""
        count = max(len(self.differences), 1)
        level = SIGNIFICANCE_LEVEL * share_of(self.differences) / count
        return _median_detectable(self.differences, level)


def ranking(
    results: Results, summary: str = AVERAGE, found: Sequence[Difference] | None = None
) -> Ranking:
    """The rows on test by ``average`` or ``worst``.

    ``found`` saves computing the differences again.

    Unranked (a UserError) when a trial of a ranked row is missing or damaged.
    """
    _require_whole(results)
    if found is None:
        found = differences(results)
    chosen = [one for one in found if one.summary == summary]
    comparison = results.comparison()
    means = comparison.average if summary == AVERAGE else comparison.worst
    labels = [row.label for row in results.plan.rows if not row.method_class.per_combination]
    if apart := unpaired(labels, [(one.first, one.second) for one in chosen]):
        raise Unranked(
            f"rows without a common seed are not ranked: {', '.join(apart[:3])}; run them with the"
            " same seeds"
        )
    return ranked(
        {label: means[label].mean for label in labels},
        chosen,
        summary,
        results.metric.higher_is_better,
    )


def _require_whole(results: Results) -> None:
    reference = {row.label for row in results.plan.rows if row.method_class.per_combination}
    lacking = [hole for hole in results.holes if hole.label not in reference]
    missing = [f"{hole.name} ({hole.reason})" for hole in lacking]
    damaged = [
        f"{done.trial.job.name} (scores.npz changed after the record was written)"
        for done in results.finished
        if done.trial.row.label not in reference and not intact(results, done)
    ]
    holes = [*missing, *damaged]
    if holes:
        # Trials that failed are not run again unless that is asked for.
        failed = any(hole.state == "failed" for hole in lacking)
        way_out = ", with rerun=failed, or without the rows that failed" if failed else ""
        raise Unranked(
            f"a table with holes is not ranked; missing: {shown(holes)}; run the study again to"
            f" fill them{way_out}"
        )


def ranked(
    means: dict[str, float], found: Sequence[Difference], summary: str, higher_is_better: bool
) -> Ranking:
    """The ranking of rows with these means and differences."""
    order = sorted(means, key=lambda label: -means[label] if higher_is_better else means[label])
    apart = [frozenset((one.first, one.second)) for one in found if one.significant]
    group = letters(order, apart)
    wins = dict.fromkeys(order, 0)
    losses = dict.fromkeys(order, 0)
    for one in found:
        if one.better is not None:
            wins[one.better] += 1
            losses[_worse(one, one.better)] += 1
    places = [
        Place(
            label=label,
            mean=means[label],
            letters=group[label],
            first=1 + losses[label],
            last=len(order) - wins[label],
        )
        for label in order
    ]
    # Which may be the best is another question, with fewer comparisons and a level of its own.
    level = best_level(len(order), share_of(found))
    beaten: dict[str, set[str]] = {label: set() for label in order}
    for one in found:
        better = one.better_at(one.p, level)
        if better is not None:
            beaten[better].add(_worse(one, better))
    best, leader = compared_with_the_best(order, beaten)
    return Ranking(
        summary=summary,
        places=tuple(places),
        best=best,
        leader=leader,
        differences=tuple(found),
        notes=tuple(dict.fromkeys(one.note for one in found if one.note)),
    )


def _worse(one: Difference, better: str) -> str:
    """The other row of a pair."""
    return one.second if better == one.first else one.first


def share_of(found: Sequence[Difference]) -> float:
    """The part of the 5 % that a look with these differences has."""
    return min((one.share for one in found), default=1.0)


def _median_detectable(found: Sequence[Difference], level: float) -> float:
    if not found:
        return math.nan
    return float(np.median([one.estimate.detectable(level) for one in found]))
