"""What a search found: its journal for what was told, the store for the seeds behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from harness.protocol.metrics import Metric, metric
from harness.search.journal import (
    EvaluatedPoint,
    best,
    evaluated_points,
    importances,
    is_over,
    studies,
)
from harness.search.plan import SearchPlan, Subject, search_plan
from harness.store import Store
from harness.study.plan import Plan, PlannedTrial
from harness.study.search_space import Point

AGREEMENT = 1e-9


@dataclass(frozen=True)
class PointResult:
    """A point that is over, with its value on val for each tuning seed.

    NaN where the store has the seed's trial no more.
    """

    evaluated: EvaluatedPoint
    seeds: tuple[float, ...]

    @property
    def point(self) -> Point:
        """Its values."""
        return self.evaluated.point

    @property
    def mean(self) -> float:
        """What was told; NaN when it failed."""
        return math.nan if self.evaluated.value is None else self.evaluated.value

    @property
    def std(self) -> float:
        """Over the tuning seeds, with n - 1; NaN for a single one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else math.nan


@dataclass(frozen=True)
class SeedNoise:
    """What tuning seeds alone do to points.

    ``detectable`` is the least difference of two points' means that is significant at 5 % (least
    significant difference, not corrected for the number of points); ``p`` is that of the F test
    that all points are equal.
    """

    detectable: float
    p: float


@dataclass(frozen=True)
class SearchResult:
    """The search of one row; ``importance`` is empty where Optuna cannot tell."""

    search: SearchPlan
    subject: Subject
    points: tuple[PointResult, ...]
    importance: Mapping[str, Mapping[str, float]]

    @property
    def metric(self) -> Metric:
        """What was searched for."""
        return metric(self.search.plan.spec.metric)

    @property
    def over(self) -> bool:
        """Whether every point is told."""
        return len(self.points) >= self.subject.points

    @property
    def best(self) -> PointResult | None:
        """The best point so far; None when there is none."""
        found = best([scored.evaluated for scored in self.points], self.metric)
        return next((scored for scored in self.points if scored.evaluated is found), None)

    @property
    def row(self) -> str | None:
        """The label of the row with the winner's values.

        None before the search is over, and when every point failed.
        """
        if not self.over or self.best is None:
            return None
        winner = self.subject.winner(self.best.point)
        same = [
            row.label
            for row in self.search.plan.rows
            if (row.kind, row.hparams) == (winner.kind, winner.hparams)
        ]
        return same[0] if same else winner.label

    def label(self, point: PointResult) -> str:
        """The label of the row with the values of a point."""
        return self.subject.at(point.point).label

    @property
    def own(self) -> PointResult | None:
        """The point with the study's own values; None when it is no point, or not over."""
        return next((scored for scored in self.points if scored.point == self.subject.own), None)

    @property
    def failed(self) -> list[EvaluatedPoint]:
        """The points that failed."""
        return [scored.evaluated for scored in self.points if scored.evaluated.value is None]

    @property
    def loss(self) -> float:
        """How much worse than the best point the study's own values are, on val.

        NaN where one of them is missing.
        """
        if self.best is None or self.own is None:
            return math.nan
        return (1 if self.metric.higher_is_better else -1) * (self.best.mean - self.own.mean)

    @property
    def so_far(self) -> list[float]:
        """The best value after each point."""
        better = np.fmax if self.metric.higher_is_better else np.fmin
        values: list[float] = better.accumulate([scored.mean for scored in self.points]).tolist()
        return values

    @property
    def noise(self) -> SeedNoise | None:
        """The noise of the better half of the points, as collapsed models scatter otherwise.

        ``p`` is that of all points.

        None without at least two points that have two seeds each.
        """
        order = sorted(
            self.points, key=lambda scored: scored.mean, reverse=self.metric.higher_is_better
        )
        values = np.array([scored.seeds for scored in order if scored.evaluated.value is not None])
        if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
            return None
        return SeedNoise(
            noise(values[: max(2, (len(values) + 1) // 2)]).detectable, noise(values).p
        )


def noise(values: NDArray[np.float64]) -> SeedNoise:
    """The noise of values, points x seeds, where every point has the same seeds.

    It is what is left when the means of points and of seeds are taken away.
    """
    points, seeds = values.shape
    means = values.mean(1)
    left = values - means[:, None] - values.mean(0) + values.mean()
    degrees = (points - 1) * (seeds - 1)
    variance = float((left**2).sum() / degrees)
    detectable = float(t_distribution.ppf(0.975, degrees)) * math.sqrt(2 * variance / seeds)
    between = seeds * float(means.var(ddof=1))
    p = (
        float(f_distribution.sf(between / variance, points - 1, degrees))
        if variance
        else float(between == 0)
    )
    return SeedNoise(detectable, p)


def find_searches(plan: Plan, store: Store) -> list[SearchResult]:
    """What the searches of a study have found so far; nothing for a study without a search."""
    search = search_plan(plan)
    if search is None:
        return []
    optuna_studies = dict(studies(search))
    results = []
    for subject, points in evaluated_points(search).items():
        scored = tuple(_scored(search, subject, point, store) for point in points)
        study = optuna_studies.get(subject)
        importance = importances(study) if study is not None else {}
        results.append(SearchResult(search, subject, scored, importance))
    return results


def _scored(
    search: SearchPlan, subject: Subject, point: EvaluatedPoint, store: Store
) -> PointResult:
    records = [
        store.trial(trial.id).selection() for trial in search.trials_of(subject, point.point)
    ]
    return PointResult(
        point,
        tuple(math.nan if record is None else float(record["val_mean"]) for record in records),
    )


def search_problems(found: Sequence[SearchResult]) -> list[str]:
    """One sentence per point that failed, or of which the store and the journal disagree."""
    sentences = []
    for result in found:
        for scored in result.points:
            name = f"point {scored.evaluated.number} of the search, {result.label(scored)}"
            trained = float(np.mean(scored.seeds))
            if scored.evaluated.value is None:
                sentences.append(f"{name}, failed: {scored.evaluated.reason}")
            elif abs(trained - scored.mean) > AGREEMENT:
                sentences.append(
                    f"{name}: {scored.mean:.6g} was told, and the store's trials have "
                    f"{trained:.6g}; rerun=stale searches again what other code has trained"
                )
    return sentences


def outcome_lines(found: Sequence[SearchResult]) -> list[str]:
    """What each search found, in a line."""
    lines = []
    for result in found:
        label, best = result.subject.row.label, result.best
        count = len(result.points)
        if best is None:
            lines.append(f"{label}: every one of {count} points failed")
            continue
        value = f"val {result.metric.name} {best.mean:.4g}"
        line = f"{label}: the best of {count} points is {result.label(best)}, {value}"
        if not math.isnan(result.loss):
            line += f"; the study's own values lose {result.loss:.4g}"
        lines.append(line)
    return lines


def progress_lines(plan: Plan) -> list[str]:
    """What is searched, and how many points are over, for the description of a study."""
    search = search_plan(plan)
    if search is None:
        return []
    head, *rest = search.lines
    planned = sum(subject.points for subject in search.subjects)
    over = 0
    for subject, points in evaluated_points(search).items():
        over += min(len(points), subject.points)
    return [
        f"  search: {head}",
        *(f"          {line}" for line in rest),
        f"          points: {over} of {planned} are told",
    ]


def trials_ahead(plan: Plan) -> list[PlannedTrial]:
    """What a search still has to run, its winners on the study's seeds among it, each trial with
    the study's own values: which ones it will have is not known yet.

    Empty where there is no search, or it is over.
    """
    search = search_plan(plan)
    if search is None or is_over(search):
        return []
    over, found = evaluated_points(search), dict[str, PlannedTrial]()
    repeated: list[PlannedTrial] = []
    for subject in search.subjects:
        for seed in search.config.seeds:
            *stages, trial = search.plan.tuning(subject.row, seed)
            found |= {stage.id: stage for stage in stages}
            repeated += [trial] * max(0, subject.points - len(over.get(subject, ())))
        for seed in plan.study.seeds:
            repeated.append(search.plan.tuning(subject.row, seed)[-1])
    return [*found.values(), *repeated]
