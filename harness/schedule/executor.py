"""What an executor is, what it is given (trials, or a source of them) and who observes it.

Executors implement ``Executor`` (schedule/local.py, schedule/on_ray/executor.py) and are listed by
name in schedule/registry.py; schedule/driver.py calls them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.store import Store
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome
from harness.training.trial import record_failure


class ExecutorLost(Exception):
    """What trials run on died and cannot be started again: a sentence that says what."""


class Observer(Protocol):
    """Hears, in the driver's process, what happens to trials."""

    def started(self, trial: PlannedTrial) -> None:
        """A worker took the trial."""

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        """The trial finished an epoch (0-based) with this value on val."""

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        """The trial's worker died; the trial is started again."""

    def warned(self, sentence: str) -> None:
        """Something happened to what all trials run on; they go on."""

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        """The trial is done or has failed."""


class TrialSource(Protocol):
    """Hands out trials; which ones may depend on how earlier ones ended."""

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""

    def next(self, observer: Observer) -> PlannedTrial | None:
        """A trial to run now; None when there is none before another ends, or at all."""

    def ended(self, trial: PlannedTrial) -> None:
        """A trial that was handed out is done or has failed, as the store says."""


class Executor(ABC):
    """Runs trials for one study: an executor defines ``where`` and ``run_source``."""

    def __init__(self, resources: ResourcesConfig, folder: Path) -> None:
        self.resources = resources
        self.folder = folder
        """The study's folder below the output."""

    def start(self) -> None:  # noqa: B027
        """Begin to start what trials run on, where that takes long: some are expected."""

    def close(self) -> None:  # noqa: B027
        """End what ``start`` has begun and no trial has used."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Where trials run, for the line that describes a study before it starts."""

    @abstractmethod
    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        """Run what the source hands out until it is over.

        KeyboardInterrupt when the user stopped it; UserError when the resources cannot be had;
        ExecutorLost when they died and cannot be had again.
        """

    def run(self, trials: Sequence[PlannedTrial], observer: Observer) -> list[Outcome]:
        """Run a fixed list of trials, those that others need first; raises as above."""
        source = TrialList(trials)
        outcomes = self.run_source(source, observer)
        return [*source.blocked, *outcomes]


class TrialList:
    """A fixed list of trials as a source; the second wave waits for the end of the first."""

    def __init__(self, trials: Sequence[PlannedTrial]) -> None:
        self.blocked: list[Outcome] = []
        self._waves = waves(trials)
        self._waiting: list[PlannedTrial] = []
        self._running: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether every trial has ended."""
        return not (self._waves or self._waiting or self._running)

    def next(self, observer: Observer) -> PlannedTrial | None:
        """The next trial; None while the next wave waits for the last one, and at the end."""
        while self._waves and not self._waiting and not self._running:
            self._waiting, blocked = without_blocked(self._waves.pop(0), observer)
            self.blocked += blocked
        if not self._waiting:
            return None
        trial = self._waiting.pop(0)
        self._running.add(trial.id)
        return trial

    def ended(self, trial: PlannedTrial) -> None:
        """The trial is done or has failed."""
        self._running.discard(trial.id)


def waves(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """The trials that need no other trial, then those that do; no wave is empty."""
    first = [trial for trial in trials if not trial.job.spec.needs]
    second = [trial for trial in trials if trial.job.spec.needs]
    return [wave for wave in (first, second) if wave]


def without_blocked(
    wave: Sequence[PlannedTrial], observer: Observer
) -> tuple[list[PlannedTrial], list[Outcome]]:
    """The trials that can run, and the recorded failures of those whose needs are not there."""
    runnable, failed = [], []
    for trial in wave:
        reason = unmet(trial)
        if reason:
            failed.append(record_blocked(trial, reason, observer))
        else:
            runnable.append(trial)
    return runnable, failed


def unmet(trial: PlannedTrial) -> str:
    """Why a trial that it needs is not there, in a sentence; empty when all are."""
    store = Store(Path(trial.job.store))
    for name, needed in trial.job.spec.needs.items():
        if store.trial(needed).selection() is None:
            failure = store.trial(needed).failure() or {"reason": "it has no record"}
            return f"its {name} (trial {needed}) failed: {failure['reason']}"
    return ""


def record_blocked(trial: PlannedTrial, reason: str, observer: Observer) -> Outcome:
    """Record that a trial failed before it could start, and tell the observer."""
    outcome = record_failure(Store(Path(trial.job.store)).trial(trial.id), trial.job, reason)
    observer.finished(trial, outcome)
    return outcome
