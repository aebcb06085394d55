"""From the store to the long table, and from the long table to methods x combinations.

A collapsed model's score counts like any other; a trial without a valid record is a hole, listed
and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis.evidence import different_cells, secondary_cells
from harness.dataset import DataSpec
from harness.protocol.cells import as_json
from harness.protocol.metrics import Metric, metric
from harness.store import (
    CURVE_FILE,
    SPEC_FILE,
    Json,
    Store,
    TrialDirectory,
    canonical_json,
    read_json,
)
from harness.store.record import fault
from harness.study.plan import Plan, PlannedTrial

TABLE_SPLITS = ("val", "test", "test_last_epoch")
Block = tuple[Metric, str, Mapping[str, Json]]
"""A metric, a split, and the cells by combination."""

COLUMNS = (
    *(
        "dataset",
        "method",
        "variant",
        "hparams",
        "label",
        "seed",
        "trial_id",
        "split",
        "combination",
        "n_present",
    ),
    *("metric", "value", "higher_is_better", "n", "collapsed", "status"),
)


@dataclass(frozen=True)
class Finished:
    """A trial with a valid record.

    ``status`` is done, or stale when other code than today's made it.
    """

    trial: PlannedTrial
    record: Json
    status: str

    @property
    def collapsed(self) -> list[str]:
        """The combinations for which the selected model predicts one class for all test samples."""
        return [
            name
            for name in self.record["combinations"]
            if self.record["cells"]["test"][name]["collapsed"]
        ]


@dataclass(frozen=True)
class Hole:
    """A planned trial without a valid record: its state in the store (failed, validated, started,
    new) and why.
    """

    name: str
    label: str
    seed: int
    trial_id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Results:
    """One reading of a study's store, trials in the order of the study's rows, then of its
    seeds.
    """

    plan: Plan
    store: Store
    finished: tuple[Finished, ...]
    holes: tuple[Hole, ...]

    @property
    def metric(self) -> Metric:
        """The dataset's primary metric."""
        return metric(self.plan.spec.metric)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The primary metric's part of the long table, from the records.

        What comparisons are made of.
        """
        return self._frame({done.trial.id: _recorded(done.record) for done in self.finished})

    @cached_property
    def long_table(self) -> pd.DataFrame:
        """``table`` with each trial's secondary metrics of val and test, computed from the evidence
        in the store.

        A trial whose evidence is not what was recorded has none; ``verify`` says so.
        """
        trials = {done.trial.id: done for done in self.finished}
        return self._frame(
            {
                name: [*_recorded(done.record), *self._secondary(done)]
                for name, done in trials.items()
            }
        )

    def _frame(self, blocks: Mapping[str, Sequence[Block]]) -> pd.DataFrame:
        rows = [
            row
            for done in self.finished
            for row in _table_rows(self.plan, done, blocks[done.trial.id])
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _secondary(self, done: Finished) -> list[Block]:
        found = secondary_cells(
            self.plan.spec, self.store.trial(done.trial.id), done.record, self.plan.combinations
        )
        return [(other, split, as_json(cells)) for other, split, cells in found]

    @property
    def baseline(self) -> str | None:
        """The label of the first row that is a baseline."""
        return next(
            (row.label for row in self.plan.rows if row.method_class.role == "baseline"), None
        )

    def comparison(self, split: str = "test") -> Comparison:
        """All rows x all combinations on one split."""
        labels = [row.label for row in self.plan.rows]
        combinations = [combination.name for combination in self.plan.combinations]
        return comparison(
            self.table, self.metric, labels, combinations, len(self.plan.study.seeds), split
        )

    def unseen(self, split: str) -> tuple[str, ...]:
        """The combinations that no sample of a split has."""
        names = [combination.name for combination in self.plan.combinations]
        return unseen_combinations(self.table[self.table["split"] == split], names)

    def of(self, label: str) -> list[Finished]:
        """The finished trials of one row."""
        return [done for done in self.finished if done.trial.row.label == label]


def read(plan: Plan, store: Store) -> Results:
    """Read the store once, so that table and holes tell of the same moment even while the study
    runs.
    """
    order = {row.label: position for position, row in enumerate(plan.rows)}
    finished, missing = [], []
    for trial in sorted(plan.trials, key=lambda t: order[t.row.label]):
        state = store.state(trial.id, trial.job.code())
        record = store.trial(trial.id).record() if state in {"done", "stale"} else None
        if record is None:
            reason = _why_missing(store.trial(trial.id), state, plan.study.train.epochs)
            missing.append(
                Hole(trial.job.name, trial.row.label, trial.seed, trial.id, state, reason)
            )
        else:
            finished.append(Finished(trial, record, state))
    return Results(plan, store, tuple(finished), tuple(missing))


def long_table(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per finished trial x split (val, test, test_last_epoch) x combination x metric, with
    the columns ``COLUMNS``.

    The last epoch has the primary metric only: its evidence is not kept.
    """
    return read(plan, store).long_table


def holes(plan: Plan, store: Store) -> list[Hole]:
    """The planned trials that the long table lacks, each with its reason."""
    return list(read(plan, store).holes)


def dataset_name(spec: DataSpec) -> str:
    """The dataset's name as it stands beside any result: synthetic data say so."""
    return f"{spec.name} (synthetic)" if spec.synthetic else spec.name


def _recorded(record: Json) -> list[Block]:
    return [(metric(record["metric"]), split, record["cells"][split]) for split in TABLE_SPLITS]


def _table_rows(plan: Plan, done: Finished, blocks: Iterable[Block]) -> Iterator[dict[str, Any]]:
    trial = done.trial
    common = {
        "dataset": dataset_name(plan.spec),
        "method": trial.row.method,
        "variant": trial.row.variant,
        "hparams": canonical_json(trial.row.hparams),
        "label": trial.row.label,
        "seed": trial.seed,
        "trial_id": trial.id,
        "status": done.status,
    }
    # Looked up once: the registry asks every installed package for its entry points.
    alone = trial.row.method_class.per_combination
    for shown, split, cells in blocks:
        named = {"metric": shown.name, "higher_is_better": shown.higher_is_better}
        for combination in plan.combinations:
            if alone and combination.name != trial.only:
                continue
            place = {"split": split, "combination": combination.name, "n_present": combination.size}
            yield common | named | place | cells[combination.name]


def _why_missing(trial: TrialDirectory, state: str, epochs: int) -> str:
    failure = trial.failure()
    if state == "failed" and failure is not None:
        return str(failure["reason"])
    damage = unusable_record(trial)
    if damage is not None:
        return f"{damage}; the next run repeats it"
    if state == "validated":
        return "trained and validated, not evaluated on test yet"
    return (
        f"unfinished: {len(trial.history())} of {epochs} epochs"
        if state == "started"
        else "not run yet"
    )


def unusable_record(trial: TrialDirectory) -> str | None:
    """Why a trial that has a ``record.json`` has no valid record.

    None when it has a valid one, or none at all.
    """
    if trial.record() is not None or not (trial / "record.json").is_file():
        return None
    record = read_json(trial / "record.json")
    why = fault(record)
    if record is None or why:
        return f"record.json {why}"
    wrong = [
        name
        for name, facts in record["files"].items()
        if not (trial / name).is_file() or (trial / name).stat().st_size != facts["bytes"]
    ]
    return f"{' and '.join(wrong)} missing, or not of the recorded size"


# ---------------------------------------------------------------------- methods x combinations


@dataclass(frozen=True)
class Summary:
    """One value over seeds, from unrounded values.

    ``mean`` is NaN without a seed, ``std`` (n - 1) is NaN with fewer than two; ``collapsed`` counts
    the seeds whose model collapsed.
    """

    mean: float
    std: float
    seeds: int
    collapsed: int


@dataclass(frozen=True)
class Comparison:
    """Methods x combinations on one split, rows in the study's order and combinations in the
    lattice's.

    ``average`` is the mean over the combinations of each trial, ``worst`` its worst combination in
    the metric's direction; both are then summarised over the ``planned`` seeds that are there.
    ``unseen`` are the combinations that no sample of the split has: they are part of neither.
    """

    metric: Metric
    labels: tuple[str, ...]
    combinations: tuple[str, ...]
    planned: int
    cells: Mapping[tuple[str, str], Summary]
    average: Mapping[str, Summary]
    worst: Mapping[str, Summary]
    unseen: tuple[str, ...] = ()

    def row(self, label: str) -> list[Summary]:
        """A row's cells, then its average and its worst."""
        return [
            *(self.cells[label, name] for name in self.combinations),
            self.average[label],
            self.worst[label],
        ]


def comparison(
    table: pd.DataFrame,
    metric: Metric,
    labels: Sequence[str],
    combinations: Sequence[str],
    planned: int,
    split: str = "test",
) -> Comparison:
    """Summaries over seeds of one split of a long table.

    ``planned`` is how many seeds each row should have.
    """
    chosen = table[(table["split"] == split) & (table["metric"] == metric.name)]
    cells: dict[tuple[str, str], Summary] = {}
    average, worst = {}, {}
    for label in labels:
        of_row = chosen[chosen["label"] == label]
        # seeds x combinations; reindexed, so that a row without any finished trial has its columns
        # too.
        values = of_row.pivot(index="seed", columns="combination", values="value").reindex(
            columns=list(combinations)
        )
        flags = of_row.pivot(index="seed", columns="combination", values="collapsed").reindex(
            columns=list(combinations)
        )
        for name in combinations:
            cells[label, name] = _summary(values[name], flags[name])
        # Combinations that no sample has are no part of an average; a seed that lacks another one
        # is no part of it either.
        whole = values.dropna(axis=1, how="all").dropna(axis=0)
        any_flag = flags.loc[whole.index].eq(True).any(axis=1)
        average[label] = _summary(whole.mean(axis=1), any_flag)
        worst[label] = _summary(
            whole.min(axis=1) if metric.higher_is_better else whole.max(axis=1), any_flag
        )
    unseen = unseen_combinations(chosen, combinations)
    return Comparison(
        metric, tuple(labels), tuple(combinations), planned, cells, average, worst, unseen
    )


def unseen_combinations(table: pd.DataFrame, combinations: Sequence[str]) -> tuple[str, ...]:
    """The combinations that finished trials were asked for, and that no sample has."""
    most = table.groupby("combination")["n"].max()
    return tuple(name for name in combinations if name in most.index and most[name] == 0)


def _summary(values: pd.Series[Any], collapsed: pd.Series[Any]) -> Summary:
    there = values.dropna().astype(float)
    return Summary(
        float(there.mean()), float(there.std(ddof=1)), len(there), int(collapsed.eq(True).sum())
    )


# ---------------------------------------------------------------------- is the store what it was?


def verify(plan: Plan, store: Store) -> list[str]:
    """One sentence per damaged trial of the plan.

    Every recorded file must have its recorded sha256, and the scores of val and test must give the
    recorded cells again, digit for digit (the last epoch's scores are not kept). The curve and the
    spec must be what they were too, although no result depends on them.
    """
    by_id = {trial.id: trial for trial in [*plan.stages, *plan.trials]}
    found = []
    for trial_id, planned in by_id.items():
        trial = store.trial(trial_id)
        damage = _damage(trial, plan) or _noted(trial)
        if damage is not None:
            found.append(f"trial {trial_id} ({planned.job.name}) is damaged: {damage}")
    return found


def _damage(trial: TrialDirectory, plan: Plan) -> str | None:
    record = trial.record()
    if record is None:
        damage = unusable_record(trial)
    elif record["trial_id"] != trial.path.name:
        damage = f"its record belongs to trial {record['trial_id']}"
    elif changed := trial.corrupted(record):
        damage = f"{' and '.join(changed)} changed after the record was written (sha256)"
    else:
        damage = different_cells(trial, record, plan.combinations)
    if damage is None:
        return None
    return f"{damage}; remove store/{trial.path.name} and run the study again"


def _noted(trial: TrialDirectory) -> str | None:
    """What is damaged of a finished trial without touching its results."""
    record = trial.record()
    notes = [] if record is None else trial.damaged_notes(record)
    if not notes:
        return None
    ways = {
        SPEC_FILE: "the next run writes spec.json again",
        CURVE_FILE: f"to have the curve again, remove store/{trial.path.name} and run the study",
    }
    out = "; ".join(ways[name] for name in notes)
    changed = f"{' and '.join(notes)} changed or gone since the end"
    return f"{changed}, its results do not depend on that; {out}"
