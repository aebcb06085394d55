"""Several studies in one report: which of their rows may be ranked together, and the plan that has
them all.

Rows are compared where everything of a trial's identity but method, hyperparameters and seed is the
same; studies that differ in anything else form groups of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store import Json, canonical_json
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.study.recorded_data import described
from harness.study.rows import Row
from harness.study.settings import Study
from harness.training.executed_code import source_hash
from harness.training.missing import recorded
from harness.training.recipe import evaluation_facts

SEPARATOR = ","
JOINED = "+"
Key = tuple[str, str, str, str]
"""What makes two rows one: method, variant, hyperparameters, and the hash of a file method."""


def study_words(arguments: Sequence[str]) -> list[str]:
    """The names or files in the last ``study=a,b`` of a command line; none without one."""
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("study=")]
    if not given or Path(given[-1]).is_file():
        return given[-1:]
    return given[-1].split(SEPARATOR)


def load_studies(arguments: Sequence[str]) -> list[Study]:
    """The studies that ``study=a,b key=value ...`` describes, the other arguments given to each.

    Without a comma, one study.
    """
    names = study_words(arguments)
    others = [argument for argument in arguments if not argument.startswith("study=")]
    studies = (
        [load_study([f"study={name}", *others]) for name in names]
        if names
        else [load_study(others)]
    )
    for name, count in Counter(study.name for study in studies).items():
        if count > 1:
            raise UserError(
                f"study={SEPARATOR.join(names)} names {count} studies that are called '{name}';"
                " name each once, or rename a file"
            )
    return studies


# ---------------------------------------------------------------------- groups


@dataclass(frozen=True)
class Group:
    """Studies whose rows are compared with each other."""

    plans: tuple[Plan, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The studies' names."""
        return tuple(plan.study.name for plan in self.plans)

    @cached_property
    def plan(self) -> Plan:
        """All rows and trials; the only study's own plan where there is one alone."""
        return self.plans[0] if len(self.plans) == 1 else MergedPlan(self.plans)


def grouped(plans: Sequence[Plan]) -> list[Group]:
    """The studies in groups of equal terms, in the order given."""
    found: dict[str, list[Plan]] = {}
    for plan in plans:
        found.setdefault(canonical_json(terms(plan)), []).append(plan)
    return [Group(tuple(members)) for members in found.values()]


def terms(plan: Plan) -> Json:
    """Everything that decides a trial's result but method, hyperparameters and seed."""
    study = plan.study
    return {
        "dataset": described(plan.dataset)["facts"],
        "backbone": plan.backbone,
        "train": asdict(study.train),
        "missing": recorded(study.missing),
        "evaluation": evaluation_facts(study.evaluation, study.train),
    }


def unlike(first: Plan, second: Plan) -> list[str]:
    """The terms in which two studies differ: ``train.lr (0.05, 0.02)``."""
    one, other = dict(_leaves(terms(first))), dict(_leaves(terms(second)))
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    # Another dataset differs in everything that describes data; its name says it.
    if "dataset.name" in keys:
        keys = [key for key in keys if key == "dataset.name" or not key.startswith("dataset.")]
    if "backbone.name" in keys:
        keys = [key for key in keys if key == "backbone.name" or not key.startswith("backbone.")]
    return [f"{key} ({one.get(key, 'not there')}, {other.get(key, 'not there')})" for key in keys]


def _leaves(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in body.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# ---------------------------------------------------------------------- one plan of several


class MergedPlan(Plan):
    """The rows of several studies on equal terms, each once, under labels that tell them apart.

    A row that several studies have keeps the first one's label and has the seeds of all. Seeds are
    those of any study, ascending where the studies do not agree.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        first = plans[0]
        self.members = tuple(plans)
        self.study = _merged_study([plan.study for plan in plans])
        self.dataset, self.backbone, self.paths = first.dataset, first.backbone, first.paths
        self.presence = first.presence
        for plan in plans[1:]:
            if plan.presence != first.presence:
                raise UserError(
                    f"{first.study.name} and {plan.study.name} are ranked together and have"
                    " different report.presence; give one to all on the command line, or make a"
                    " report of each"
                )
        self.of: dict[Key, tuple[Row, list[str]]] = {}
        """Each row under its own label, and the studies that have it."""
        for plan in plans:
            for row in plan.rows:
                self.of.setdefault(_key(row), (row, []))[1].append(plan.study.name)
        self.left_out = list(dict.fromkeys(line for plan in plans for line in plan.left_out))
        self._labelled = _labels(self.of)
        self.rows = list(self._labelled.values())

    @property
    def size(self) -> int:
        return len(self.trials)

    @cached_property
    def trials(self) -> list[PlannedTrial]:
        return list(self._once().values())

    @cached_property
    def stages(self) -> list[PlannedTrial]:
        own = {trial.id for trial in self.trials}
        found = {stage.id: stage for plan in self.members for stage in plan.stages}
        return [stage for stage in found.values() if stage.id not in own]

    def _once(self) -> dict[tuple[int, int, str], PlannedTrial]:
        """Each planned trial of the rows once, seed by seed and in the order of the rows."""
        order = {key: position for position, key in enumerate(self._labelled)}
        found: dict[tuple[int, int, str], PlannedTrial] = {}
        for plan in self.members:
            for trial in plan.trials:
                key = _key(trial.row)
                place = self.study.seeds.index(trial.seed), order[key], trial.only or ""
                found.setdefault(place, _renamed(trial, self._labelled[key]))
        return {place: found[place] for place in sorted(found, key=lambda place: place[:2])}

    def shared(self) -> list[Row]:
        """The rows that more than one of the studies has."""
        return [self._labelled[key] for key, (_, studies) in self.of.items() if len(studies) > 1]

    def studies_of(self, row: Row) -> list[str]:
        """The studies that have a row of this plan."""
        return self.of[_key(row)][1]


def _key(row: Row) -> Key:
    return (
        row.method,
        row.variant,
        canonical_json(row.hparams),
        source_hash(Path(row.file)) if row.file else "",
    )


def _labels(rows: Mapping[Key, tuple[Row, list[str]]]) -> dict[Key, Row]:
    """The rows with labels of their own: one that several rows have gets the name of the study that
    it comes from.
    """
    count = Counter(row.label for row, _ in rows.values())
    return {
        key: replace(row, label=f"{row.label} ({studies[0]})") if count[row.label] > 1 else row
        for key, (row, studies) in rows.items()
    }


def _renamed(trial: PlannedTrial, row: Row) -> PlannedTrial:
    return replace(trial, row=row, job=replace(trial.job, label=row.label))


def _merged_study(studies: Sequence[Study]) -> Study:
    seeds = [study.seeds for study in studies]
    tables = {study.published_table for study in studies if study.published_table is not None}
    return replace(
        studies[0],
        name=JOINED.join(study.name for study in studies),
        description=combined_description(studies),
        seeds=(
            seeds[0]
            if all(each == seeds[0] for each in seeds)
            else sorted({seed for each in seeds for seed in each})
        ),
        published_table=tables.pop() if len(tables) == 1 else None,
        seed_rounds=None,
        search=type(studies[0].search)(),
    )


def combined_description(studies: Sequence[Study]) -> str:
    """What each study asks, in one paragraph."""
    asked = [
        f"{study.name}: {' '.join(study.description.split()) or 'no description.'}"
        for study in studies
    ]
    return " ".join(["Several studies in one report.", *asked])
