"""What a study's search consists of, known before anything is searched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.errors import UserError, unknown
from harness.study.plan import Plan, PlannedTrial
from harness.study.rows import Row, short
from harness.study.search_space import (
    DEFAULT_TRIALS,
    Point,
    SearchConfig,
    Space,
    declared_axes,
    given_axes,
)
from harness.study.settings import Study

JOURNAL, SEARCHED = "search.journal", "[searched]"


@dataclass(frozen=True, eq=False)
class Subject:
    """One searched row: where it is searched, and how many points it gets."""

    row: Row
    space: Space
    points: int

    @property
    def own(self) -> Point:
        """The searched hyperparameters as the study has them without the search."""
        return self.space.restricted(self.row.hparams)

    @property
    def listed(self) -> bool:
        """Whether the points are listed beforehand, none of them learned from another."""
        return self.space.size is not None

    def at(self, point: Point, label: str | None = None) -> Row:
        """The row with the values of a point, called after them."""
        declared = self.row.method_class.hyperparameters
        values = ",".join(
            f"{name}={short(value, declared[name].log)}" for name, value in point.items()
        )
        return replace(
            self.row, label=label or f"{self.row.label}[{values}]", hparams=self.row.hparams | point
        )

    def winner(self, point: Point) -> Row:
        """The row that is trained again on the study's own seeds."""
        return self.at(point, f"{self.row.label}{SEARCHED}")


class SearchPlan:
    """The search of a plan. Subjects and points need no data; trials and names do."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config: SearchConfig = plan.study.search
        self.subjects = _subjects(plan)

    @property
    def journal(self) -> Path:
        """The file of the Optuna studies."""
        return self.plan.study.folder / JOURNAL

    @property
    def trials(self) -> int:
        """How many trials the search has, without those that they need."""
        return sum(subject.points for subject in self.subjects) * len(self.config.seeds)

    def listed(self, subject: Subject) -> list[Point]:
        """The points that do not depend on results.

        All of a space of lists, else the study's own values.
        """
        if subject.listed:
            return subject.space.points(subject.points, subject.own, self.config.sampler_seed)
        return [subject.own] if subject.space.has(subject.own) else []

    def trials_of(self, subject: Subject, point: Point) -> list[PlannedTrial]:
        """A point's trials, one per tuning seed."""
        return [self.plan.tuning(subject.at(point), seed)[-1] for seed in self.config.seeds]

    def stages_of(self, subject: Subject, point: Point) -> list[PlannedTrial]:
        """The trials that a point's trials need."""
        return [
            stage
            for seed in self.config.seeds
            for stage in self.plan.tuning(subject.at(point), seed)[:-1]
        ]

    def name(self, subject: Subject) -> str:
        """The Optuna study's name: the study's, the row's, and a hash of what decides the values.

        The number of points is not in it: a search can be continued with more.
        """
        learned = not subject.listed and self.config.sampler == "tpe"
        facts = {
            "axes": [asdict(axis) | {"values": list(axis.values)} for axis in subject.space.axes],
            "sampler": None if subject.listed else self.config.sampler,
            "seed": self.config.sampler_seed,
            "parallel": self.config.parallel if learned else None,
            "trials": [trial.id for trial in self.trials_of(subject, subject.own)],
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return f"{self.plan.study.name}/{subject.row.label} {digest[:8]}"

    @cached_property
    def lines(self) -> list[str]:
        """What is searched, one line per method, and the budget."""
        seeds = self.config.seeds
        found = [f"{subject.row.label} over {self.describe(subject)}" for subject in self.subjects]
        listed = ", ".join(map(str, seeds))
        total = f"{self.trials} trials: {len(seeds)} seeds per point ({listed}), val only"
        return [*found, total]

    def describe(self, subject: Subject) -> str:
        """``alpha 0.0001, 0.001 x beta 0.3, 0.5: 4 points, the whole grid``."""
        axes = " x ".join(axis.describe() for axis in subject.space.axes)
        return f"{axes}: {subject.points} points, {self.choice(subject)}"

    def choice(self, subject: Subject) -> str:
        """How the points are chosen."""
        if not subject.listed:
            return (
                f"{self.config.sampler} in groups of {self.config.parallel}"
                if self.config.sampler == "tpe"
                else "at random"
            )
        return (
            "the whole grid"
            if subject.points == subject.space.size
            else f"drawn from a grid of {subject.space.size}"
        )


def search_plan(plan: Plan) -> SearchPlan | None:
    """The plan's search; None when the study has none.

    UserError when it asks for what its methods do not have.
    """
    return SearchPlan(plan) if plan.study.search.wanted else None


def _subjects(plan: Plan) -> list[Subject]:
    study, found = plan.study, dict[tuple[str, str], Row]()
    for row in plan.rows:
        found.setdefault(row.kind, row)
    spaces = {
        row.label: _space(study, row)
        for row in found.values()
        if not row.method_class.per_combination
    }
    _check_names(study, list(found.values()), spaces)
    chosen = (
        study.search.methods
        or list(study.search.space)
        or [label for label, space in spaces.items() if space.axes]
    )
    rows = [row for row in found.values() if row.label in chosen or row.method in chosen]
    if not any(spaces[row.label].axes for row in rows):
        raise UserError(
            "search: no method of this study has a hyperparameter to search; "
            "name values in search.space.<method>"
        )
    for row in rows:
        if study.search.sampler == "grid" and spaces[row.label].size is None:
            raise UserError(
                "search.sampler=grid needs lists of values, "
                f"and {row.label} is searched over an interval"
            )
    return [Subject(row, spaces[row.label], _budget(study, spaces[row.label])) for row in rows]


def _space(study: Study, row: Row) -> Space:
    declared = row.method_class.hyperparameters
    given = study.search.space.get(row.method)
    return Space(
        tuple(declared_axes(declared) if given is None else given_axes(row.method, declared, given))
    )


def _check_names(study: Study, rows: Sequence[Row], spaces: dict[str, Space]) -> None:
    for method in study.search.space:
        if method not in {row.method for row in rows}:
            raise unknown("method in search.space", method, {row.method for row in rows})
    for label in study.search.methods:
        if label not in spaces:
            raise unknown("row in search.methods", label, spaces)
        if not spaces[label].axes:
            raise UserError(
                f"search.methods: {label} declares no range to search; "
                f"name values in search.space.{label.partition(':')[0]}"
            )


def _budget(study: Study, space: Space) -> int:
    asked = study.search.trials
    if space.size is None:
        return asked or DEFAULT_TRIALS
    return min(space.size, asked or space.size)
