"""One output folder with trained trials and one MLflow database for all tests of tracking.

Each study is its own experiment.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.protocol.combinations import lattice
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.tracking.mlflow.database import connect
from harness.tracking.mlflow.tracker import MLflowTracker
from harness.training.trial import run_trial

TINY = "methods: [sf_md]\ndataset: {name: digits, limit: 60}\ntrain: {epochs: 2, batch_size: 4}\n"


class Mirror:
    """A tiny study, its tracker, its files, and what an MLflow user sees of it."""

    def __init__(self, output: Path, name: str, *arguments: str) -> None:
        file = output.parent / f"{name}.yaml"
        file.write_text(TINY)
        self.arguments = [f"study={file}", f"output={output}", *arguments]
        self.output = output
        self.study = load_study(self.arguments)
        self.plan = Plan(self.study)
        self.tracker = MLflowTracker(self.plan)
        self.store = self.tracker.store

    @property
    def trial(self) -> PlannedTrial:
        """The only trial."""
        (trial,) = self.plan.trials
        return trial

    def train(self) -> None:
        for trial in self.plan.trials:
            run_trial(trial.job)

    def mirror(self) -> None:
        for trial in self.plan.trials:
            self.tracker.mirror_trial(trial)

    def files(self, trial: PlannedTrial) -> Path:
        return self.output / "store" / trial.id

    def read(self, trial: PlannedTrial, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.files(trial) / name).read_text())
        return content

    def history(self, trial: PlannedTrial) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in (self.files(trial) / "metrics.jsonl").read_text().splitlines()
        ]

    def cells(self, trial: PlannedTrial) -> tuple[dict[str, float], list[str]]:
        """Accuracy per combination by plain numpy, and combinations with one predicted class."""
        arrays = np.load(self.files(trial) / "scores.npz")
        names = [combination.key for combination in lattice(("thumb", "spectrum", "profile"))]
        predictions = dict(zip(names, arrays["test"].argmax(2), strict=True))
        accuracy = {
            name: 100.0 * float((p == arrays["test_target"]).mean())
            for name, p in predictions.items()
        }
        return accuracy, [name for name, p in predictions.items() if len(set(p.tolist())) == 1]

    # -------------------------------------------------------------- MLflow's side

    @property
    def client(self) -> Any:
        return connect(self.tracker.uri)

    @property
    def experiment(self) -> Any:
        return self.client.get_experiment_by_name(self.study.name)

    def runs(self, kind: str = "trial") -> list[Any]:
        return list(
            self.client.search_runs([self.experiment.experiment_id], f"tags.kind = '{kind}'")
        )

    def run(self, trial: PlannedTrial | None = None) -> Any:
        """The one active run of a trial."""
        wanted = (trial or self.trial).id
        (run,) = (run for run in self.runs() if run.data.tags["trial_id"] == wanted)
        return run

    def curve(self, run: Any, name: str) -> list[tuple[int, int, float]]:
        """Every stored point: step, timestamp, value."""
        return [
            (p.step, p.timestamp, p.value)
            for p in self.client.get_metric_history(run.info.run_id, name)
        ]

    def rows(self) -> dict[str, int]:
        """How much the database holds, counted by sqlite itself."""
        tables = ("experiments", "runs", "metrics", "latest_metrics", "params", "tags")
        with closing(sqlite3.connect(self.output / "mlflow.db")) as database:
            return {
                table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in tables
            }


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder in which a kill has left a database of zero bytes."""
    folder = tmp_path_factory.mktemp("tracking") / "my runs"
    folder.mkdir()
    (folder / "mlflow.db").touch()
    return folder


@pytest.fixture(scope="session")
def study(output: Path) -> Callable[..., Mirror]:
    """Makes a study: name, arguments."""
    return lambda name, *arguments: Mirror(output, name, *arguments)


@pytest.fixture(scope="session")
def mirrored(study: Callable[..., Mirror]) -> Mirror:
    """Two methods, trained and mirrored."""
    both = study("two_methods", "methods=[sf_md,dmrnet]")
    both.train()
    both.mirror()
    return both
