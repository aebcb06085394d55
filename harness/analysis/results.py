"""From the store to the long table: one reading of a study's trials.

A trial without a valid record is a hole, listed and never guessed. comparison.py makes methods x
combinations of the table, verification.py asks whether the store is what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis.comparison import Comparison, comparison, unseen_combinations
from harness.analysis.evidence import secondary_cells
from harness.analysis.verification import unusable_record
from harness.dataset import DataSpec
from harness.protocol.cells import as_json
from harness.protocol.metrics import Metric, metric
from harness.store import Json, Store, TrialDirectory, canonical_json
from harness.study.plan import Plan, PlannedTrial

TABLE_SPLITS = ("val", "test", "test_last_epoch")
Block = tuple[Metric, str, Mapping[str, Json]]
"""A metric, a split, and the cells by combination."""

COLUMNS = (
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
    "metric",
    "value",
    "higher_is_better",
    "n",
    "collapsed",
    "status",
)
"""Of the long table, in the order in which report.csv has them."""


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
        cells = self.record["cells"]["test"]
        return [name for name in self.record["combinations"] if cells[name]["collapsed"]]


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
        blocks = {}
        for name, done in trials.items():
            blocks[name] = [*_recorded(done.record), *self._secondary(done)]
        return self._frame(blocks)

    def _frame(self, blocks: Mapping[str, Sequence[Block]]) -> pd.DataFrame:
        """The long table of these blocks, by trial."""
        rows: list[dict[str, Any]] = []
        for done in self.finished:
            rows += _table_rows(self.plan, done, blocks[done.trial.id])
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _secondary(self, done: Finished) -> list[Block]:
        """The secondary metrics of a trial, from its evidence."""
        found = secondary_cells(
            self.plan.spec, self.store.trial(done.trial.id), done.record, self.plan.combinations
        )
        return [(other, split, as_json(cells)) for other, split, cells in found]

    @property
    def baseline(self) -> str | None:
        """The label of the first row that is a baseline."""
        baselines = (row.label for row in self.plan.rows if row.method_class.role == "baseline")
        return next(baselines, None)

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
    """The primary metric's cells of each split, as the trial recorded them."""
    return [(metric(record["metric"]), split, record["cells"][split]) for split in TABLE_SPLITS]


def _table_rows(plan: Plan, done: Finished, blocks: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """A trial's rows of the long table.

    A trial that is one combination's model has the rows of that combination alone.
    """
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
    """Why a trial has no valid record, in words."""
    failure = trial.failure()
    if state == "failed" and failure is not None:
        return str(failure["reason"])
    damage = unusable_record(trial)
    if damage is not None:
        return f"{damage}; the next run repeats it"
    if state == "validated":
        return "trained and validated, not evaluated on test yet"
    if state == "started":
        return f"unfinished: {len(trial.history())} of {epochs} epochs"
    return "not run yet"
