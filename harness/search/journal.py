"""The Optuna studies of a search in one journal file.

The driver alone writes it; the report and optuna-dashboard read it.

Optuna is imported when it is first needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from harness.errors import UserError, one_line
from harness.protocol.metrics import Metric, metric
from harness.search.plan import SearchPlan, Subject, search_plan
from harness.store import writing
from harness.study.plan import Plan
from harness.study.rows import Row
from harness.study.search_space import Axis, Point

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

REASON, TRIALS, SEEDS = "reason", "trial_ids", "by_seed"
"""Attributes of a point: why it failed; the ids of its trials in the store and their values, seed
by seed.
"""


@dataclass(frozen=True)
class EvaluatedPoint:
    """A point that is over: its number, hyperparameters and value.

    The value is None for a point that failed, for that reason.
    """

    number: int
    point: Point
    value: float | None
    reason: str = ""


@contextmanager
def quietly() -> Iterator[None]:
    """Optuna without its lines of log and its warnings about what is experimental."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with catch_warnings():
        simplefilter("ignore")
        yield


def writable(path: Path) -> Any:
    """The journal as Optuna's storage, for the one process that holds the study.

    What a killed process left half-done is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its lock is a link beside the file, which a killed process leaves behind.
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if path.is_file():
        whole = path.read_bytes().rpartition(b"\n")
        if whole[2]:
            with path.open("rb+") as stream:
                stream.truncate(len(whole[0]) + len(whole[1]))
    return _storage(path)


def _storage(path: Path) -> Any:
    """The journal as Optuna's storage; UserError when a line of it is damaged."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    class Backend(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with writing(path):
                super().append_logs(logs)

    _check_lines(path)
    try:
        return JournalStorage(Backend(str(path)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # Lines that are JSON, and not what Optuna wrote.
        raise _damaged(
            path, f"cannot be read ({type(error).__name__}: {one_line(error)})"
        ) from error


def _check_lines(path: Path) -> None:
    """UserError for a line that is no JSON object, but for an unfinished one at the end."""
    if not path.is_file():
        return
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            right = isinstance(json.loads(line), dict)
        except (ValueError, RecursionError):
            right = False
        if not right:
            raise _damaged(path, f"is damaged in line {number}")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} {what}; move it away and run the study again: the search begins anew, and takes"
        " the values of all trials that the store still has"
    )


def open_study(search: SearchPlan, subject: Subject, storage: Any) -> Study:
    """The Optuna study of one searched row, made if need be."""
    import optuna

    name, higher = search.name(subject), metric(search.plan.spec.metric).higher_is_better
    with quietly():
        # Asked first: an attempt to create what is there would be one more line of the journal at
        # every start.
        if name in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=name, storage=storage)
        else:
            study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize" if higher else "minimize"
            )
        if study.metric_names is None:
            study.set_metric_names(
                [f"{search.plan.spec.metric} on val, mean over combinations and tuning seeds"]
            )
        return study


def delete_study(search: SearchPlan, subject: Subject, storage: Any) -> None:
    """Forget what was told of one searched row.

    The store keeps its trials, and a new study is told of them again.
    """
    import optuna

    with quietly():
        if search.name(subject) in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=search.name(subject), storage=storage)


def suggested(trial: Trial, axes: Sequence[Axis]) -> Point:
    """A point from the sampler, or the one that was enqueued."""
    return {axis.name: _suggested(trial, axis) for axis in axes}


def _suggested(trial: Trial, axis: Axis) -> Any:
    if axis.values:
        return trial.suggest_categorical(axis.name, list(axis.values))
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log)


def sample(study: Study, sampler: str, seed: int, axes: Sequence[Axis]) -> Point:
    """What a sampler suggests after the points of a study, which are neither changed nor added to.

    Each point has a sampler of its own, so that the point depends on the seed and on the history
    alone.
    """
    import optuna
    from optuna.samplers import RandomSampler, TPESampler

    with quietly():
        new = (
            TPESampler(seed=seed, multivariate=True, constant_liar=True)
            if sampler == "tpe"
            else RandomSampler(seed=seed)
        )
        copy = optuna.create_study(sampler=new, direction=study.direction)
        copy.add_trials(study.get_trials())
        return suggested(copy.ask(), axes)


# ---------------------------------------------------------------------- reading


def evaluated_points(search: SearchPlan) -> dict[Subject, list[EvaluatedPoint]]:
    """The points of each searched row that are over, in the order of their numbers."""
    found: dict[Subject, list[EvaluatedPoint]] = {subject: [] for subject in search.subjects}
    for subject, study in studies(search):
        over = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        for trial in over:
            _check_point(search, subject, trial)
        found[subject] = [_evaluated(trial) for trial in over]
    return found


def _check_point(search: SearchPlan, subject: Subject, trial: FrozenTrial) -> None:
    """UserError for a point that is not what was told of it.

    Its value is the mean of its seeds, and its hyperparameters give the ids of its trials.
    """
    seeds, told = trial.user_attrs.get(SEEDS), trial.user_attrs.get(TRIALS)
    right = trial.value is None or seeds is None or trial.value == sum(seeds) / len(seeds)
    if right and told is not None and trial.value is not None:
        right = told == [planned.id for planned in search.trials_of(subject, dict(trial.params))]
    if not right:
        raise _damaged(search.journal, f"contradicts itself in point {trial.number}")


def is_over(search: SearchPlan) -> bool:
    """Whether every point of every searched row is told."""
    return all(
        len(points) >= subject.points for subject, points in evaluated_points(search).items()
    )


def studies(search: SearchPlan) -> list[tuple[Subject, Study]]:
    """The Optuna studies that the journal holds of this search."""
    if not search.journal.is_file():
        return []
    import optuna

    with quietly():
        storage = _storage(search.journal)
        there = set(optuna.get_all_study_names(storage))
        names = [(subject, search.name(subject)) for subject in search.subjects]
        return [
            (subject, optuna.load_study(study_name=name, storage=storage))
            for subject, name in names
            if name in there
        ]


def importances(study: Study) -> dict[str, dict[str, float]]:
    """Importance of each hyperparameter by two of Optuna's estimates, as shares of one.

    Estimates that Optuna cannot compute are left out.
    """
    from optuna.importance import (
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    found: dict[str, dict[str, float]] = {}
    for name, evaluator in (
        ("fANOVA", FanovaImportanceEvaluator(seed=0)),
        ("PED-ANOVA", PedAnovaImportanceEvaluator()),
    ):
        # Too few points, or points that are all equal.
        with quietly(), suppress(ValueError, RuntimeError):
            shares = {
                axis: float(share)
                for axis, share in get_param_importances(study, evaluator=evaluator).items()
            }
            found |= {name: shares} if all(map(math.isfinite, shares.values())) and shares else {}
    return found


def _evaluated(trial: FrozenTrial) -> EvaluatedPoint:
    return EvaluatedPoint(
        trial.number, dict(trial.params), trial.value, str(trial.user_attrs.get(REASON, ""))
    )


def best(points: Sequence[EvaluatedPoint], chosen: Metric) -> EvaluatedPoint | None:
    """The point with the best value, the earliest of equals; None when every point failed."""
    pick: Callable[..., EvaluatedPoint] = max if chosen.higher_is_better else min
    there = sorted(
        (point for point in points if point.value is not None), key=lambda point: point.number
    )
    return pick(there, key=lambda point: point.value) if there else None


def winners(search: SearchPlan) -> list[Row]:
    """The winner of each searched row whose search is over, as a row.

    A winner that the study has already stays what it is called, and is not among them.
    """
    chosen_by, rows = metric(search.plan.spec.metric), list[Row]()
    for subject, points in evaluated_points(search).items():
        if len(points) >= subject.points:
            point = best(points[: subject.points], chosen_by)
            rows += [subject.winner(point.point)] if point is not None else []
    labels = {row.label for row in rows}
    known = [(row.kind, row.hparams) for row in search.plan.rows if row.label not in labels]
    return [row for row in rows if (row.kind, row.hparams) not in known]


def with_winners(plan: Plan) -> Plan:
    """The plan with the rows that its search has found; the same plan when there are none.

    Needs the data.
    """
    search = search_plan(plan)
    found = winners(search) if search is not None and search.journal.is_file() else []
    return Plan(plan.study, found, plan.dataset) if found else plan
