"""The store mirrored to MLflow: one run per trial, one per row, one of the study.

Trials' runs lie below their row's, so that the page of runs opens with the methods. Everything is
read from the store, points carry the times of the store, and runs are found by their tags before
they are created: to mirror again adds nothing. MLflow is imported when it is first needed.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness.analysis.findings import Findings
from harness.errors.credentials import masked, without_credentials
from harness.protocol.metrics import metric
from harness.reporting.document import Document
from harness.reporting.sections.runs import TrackedRuns
from harness.robust.evidence import FOLDER as CORRUPTED
from harness.robust.evidence import code_of
from harness.robust.findings import BadSensors
from harness.store import exclusive, read_json, write_json
from harness.study.plan import Plan, PlannedTrial
from harness.tracking.mlflow.addresses import LOCAL, Addresses
from harness.tracking.mlflow.artifacts import TABLES, log_dataset, log_report, log_trial
from harness.tracking.mlflow.bad_sensor_facts import trial_bad_sensors
from harness.tracking.mlflow.comparison import mirror_comparison
from harness.tracking.mlflow.database import (
    connect,
    ensure_database,
    ensure_usable,
    is_database,
    sqlite_file,
    sqlite_uri,
)
from harness.tracking.mlflow.notes import NOTE, trial_note
from harness.tracking.mlflow.row_facts import COLOUR, colour
from harness.tracking.mlflow.runs import find_experiment, mirror_study_run, mirror_trial_run
from harness.tracking.mlflow.saved_views import METHODS
from harness.tracking.mlflow.trial_facts import TrialFacts, milliseconds, read_facts
from harness.tracking.tracker import Tracker, TrackingError

LONGEST_REASON = 300
LAYOUT = "2"
"""What a complete mirror holds; databases that an older version filled are filled up."""


class MLflowTracker(Tracker):
    """Mirrors one study to MLflow, from any thread or process of this machine."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._output = Path(plan.study.output).resolve()
        self._opened: tuple[Any, str] | None = None

    @property
    def uri(self) -> str:
        """The tracking URI: the study's, or the database of its output folder."""
        return self.study.tracking.uri or sqlite_uri(self._output / "mlflow.db")

    def command(self) -> str:
        """The one command that opens the UI."""
        if self.server is not None:
            return f"python -m webbrowser {shlex.quote(self.server)}"
        return f"mlflow ui --backend-store-uri {shlex.quote(masked(self.uri))}"

    @property
    def server(self) -> str | None:
        """The address of the tracking server, without credentials; None for a database."""
        is_server = self.uri.startswith(("http://", "https://"))
        return without_credentials(self.uri) if is_server else None

    def page(self) -> str:
        """The page that answers the study's question, once the UI is open."""
        where = self.addresses()
        return (
            f"{(self.server or LOCAL).rstrip('/')}/{where.runs(METHODS)}"
            if where is not None
            else self.server or LOCAL
        )

    def open(self) -> None:
        """Import MLflow, make its database and find the experiment: ten seconds at first."""
        with self._connected():
            pass

    def mirror_trial(self, trial: PlannedTrial, corrupted: BadSensors | None = None) -> None:
        """Bring MLflow up to what the store knows of a trial.

        A trial appears with its first finished epoch.
        """
        facts = read_facts(self.study.name, trial, self.store)
        if facts is None:
            return
        tags = facts.tags | {COLOUR: colour(self.plan, trial.row.label)}
        shown = None
        if facts.record and corrupted is not None:
            chosen = metric(facts.record["metric"])
            shown = trial_bad_sensors(chosen, corrupted, trial.row.label, trial.seed)
            tags |= shown.tags
        if facts.record:
            tags[NOTE] = trial_note(trial, facts.record, shown.note if shown is not None else "")
        facts = replace(facts, tags=tags)
        with self._connected() as (client, experiment):
            finish = partial(self._finish, client, trial, facts)
            offset = self._folder / f"{trial.id}.json"
            mirror_trial_run(client, experiment, facts, shown, offset, self._complete, finish)

    def mirror_comparison(
        self,
        findings: Findings,
        problems: Sequence[str] = (),
        corrupted: BadSensors | None = None,
    ) -> None:
        """Bring the rows' runs (tag ``kind=row``), descriptions and saved views up to date."""
        with self._connected() as (client, experiment):
            where = mirror_comparison(
                client, experiment, findings, problems, corrupted, self._ended
            )
        write_json(self._folder / "runs.json", asdict(where))

    def mirror_study(
        self,
        artifacts: Sequence[Path],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        document: Document | None = None,
    ) -> None:
        """Bring the study's own run (tag ``kind=study``) up to date and replace its report files.

        Of a ``document`` the figures and tables are added.
        """
        with self._connected() as (client, experiment):
            run = mirror_study_run(client, experiment, self.study.name, self._ended, metrics, tags)
            found = log_report(client, run, artifacts, document)
            client.set_tag(run, TABLES, found)
        write_json(self._folder / "study.json", self._state())

    def addresses(self) -> Addresses | None:
        """Where the study's runs are, as far as this machine has mirrored them; asks the disk."""
        found = read_json(self._folder / "runs.json")
        return Addresses(**found) if found is not None else None

    def runs(self) -> TrackedRuns | None:
        """The runs' addresses: links to a server; for a database what follows the server's."""
        where = self.addresses()
        return where.tracked(self.server) if where is not None else None

    def how_to_open(self) -> list[str]:
        """The command that opens the UI, and the page that answers the study's question."""
        return [f"compare in the browser: {self.command()}", f"then open: {self.page()}"]

    def up_to_date(self) -> bool:
        """Whether the whole study, as the store has it now, was mirrored before; asks the disk."""
        return read_json(self._folder / "study.json") == self._state()

    def explain(self, error: Exception) -> str:
        """One sentence: what is wrong with tracking, that nothing is lost, and how to replay."""
        return (
            f"MLflow at {masked(self.uri)} is not up to date ({_reason(error)}); "
            "the results are safe in the store, and "
            f"`python -m harness.report study={self.study.name} --track` "
            "(with this run's other arguments) mirrors them later"
        )

    def _finish(self, client: Any, trial: PlannedTrial, facts: TrialFacts, run: Any) -> None:
        """What a finished trial's run has beside points."""
        data = self.plan.spec
        log_dataset(client, run.info.run_id, trial, data, self._counts)
        weights = "link" if is_database(self.uri) else "copy"
        log_trial(
            client,
            run,
            trial,
            self.store.trial(trial.id),
            facts.record,
            data,
            weights if self.study.tracking.weights else None,
        )

    @cached_property
    def _counts(self) -> Mapping[str, int]:
        return self.plan.dataset.counts()

    @property
    def _complete(self) -> str:
        return f"{LAYOUT}, with weights" if self.study.tracking.weights else LAYOUT

    @property
    def _ended(self) -> int:
        """When the last epoch of all trials ended, in milliseconds."""
        lines = (
            line for trial in self.plan.trials for line in self.store.trial(trial.id).history()[-1:]
        )
        return milliseconds(max((line["time"] for line in lines), default=0))

    def _state(self) -> dict[str, str]:
        """What of each trial is there to be mirrored: when its record or failure was written, and
        its last evaluation under corruptions; and which code made the latter today.
        """
        found = {"layout": self._complete}
        for trial in [*self.plan.stages, *self.plan.trials]:
            for name in ("record.json", "failure.json"):
                path = self.store.trial(trial.id) / name
                found[f"{trial.row.label}/{trial.id}/{name}"] = (
                    str(path.stat().st_mtime_ns) if path.is_file() else ""
                )
            corrupted = self.store.trial(trial.id) / CORRUPTED
            if corrupted.is_dir():
                found[f"{trial.row.label}/{trial.id}/{CORRUPTED}"] = (
                    f"{corrupted.stat().st_mtime_ns}, {code_of(trial.job)}"
                )
        return found

    @property
    def _folder(self) -> Path:
        """Where the offsets of this URI lie; losing them costs time, nothing else.

        A name made of a password would tell it to whoever tries passwords.
        """
        address = without_credentials(self.uri).encode()
        return self.study.folder / "tracking" / hashlib.sha256(address).hexdigest()[:12]

    @contextmanager
    def _connected(self) -> Iterator[tuple[Any, str]]:
        """The client and the experiment's id, one caller at a time.

        MLflow cannot find or create a run in one step.
        """
        try:
            with exclusive(self._folder / "lock"):
                self._opened = self._opened or self._open()
                yield self._opened
        except Exception as error:
            raise TrackingError(self.explain(error)) from error

    def _open(self) -> tuple[Any, str]:
        artifacts = self._output / "mlartifacts"
        file = sqlite_file(self.uri)
        if file is not None:
            ensure = ensure_usable if self.study.tracking.uri else ensure_database
            ensure(file, artifacts)
        client = connect(self.uri)
        # A server knows where artifacts belong; without one MLflow would put them into the current
        # folder.
        location = (artifacts / self.study.name).as_uri() if is_database(self.uri) else None
        return client, find_experiment(client, self.study.name, location)


def _reason(error: Exception) -> str:
    """The first line of what lies at the bottom of an error; of a failed request only its cause."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = masked(str(error)).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    cause = re.search(r"Caused by \w+\(.*?: (.*)\)\)$", text)
    return (cause[1].strip("\"'") if cause else text)[:LONGEST_REASON]
