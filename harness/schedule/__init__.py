"""Who runs trials: ``ray`` (Ray Tune, on this machine or a cluster) or ``local`` (in this process).
Both call ``run_trial``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from harness.store import Store
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome
from harness.training.trial import record_failure


class Observer(Protocol):
    """Told, in the driver, what happens to trials."""

    def started(self, trial: PlannedTrial) -> None: ...

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None: ...

    def interrupted(self, trial: PlannedTrial, reason: str) -> None: ...

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None: ...


class Feed(Protocol):
    """Hands out trials as long as the ends of others make it ask for more."""

    @property
    def over(self) -> bool: ...

    def next(self, observer: Observer) -> PlannedTrial | None: ...

    def ended(self, trial: PlannedTrial) -> None: ...


Executor = Callable[[Sequence[PlannedTrial], ResourcesConfig, Path, Observer], list[Outcome]]
"""(trials, resources, the study's folder, observer) -> outcomes; KeyboardInterrupt stops it
cleanly.
"""


FeedExecutor = Callable[[Feed, ResourcesConfig, Path, Observer], list[Outcome]]
"""The same for a feed."""


def waves(trials: Sequence[PlannedTrial]) -> list[list[PlannedTrial]]:
    """The trials in the order of their needs: those that need no other trial, then those that do."""
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
            outcome = record_failure(
                Store(Path(trial.job.store)).trial(trial.id), trial.job, reason
            )
            observer.finished(trial, outcome)
            failed.append(outcome)
        else:
            runnable.append(trial)
    return runnable, failed


def unmet(trial: PlannedTrial) -> str:
    store = Store(Path(trial.job.store))
    for name, needed in trial.job.spec.needs.items():
        if store.trial(needed).selection() is None:
            failure = store.trial(needed).failure() or {"reason": "it has no record"}
            return f"its {name} (trial {needed}) failed: {failure['reason']}"
    return ""


def executor(name: str) -> Executor:
    """The executor called ``name``; Ray is imported only here, when it is needed."""
    if name == "local":
        from harness.schedule.local import run_all

        return run_all
    from harness.schedule.ray import run_all as run_with_ray

    return run_with_ray


def feed_executor(name: str) -> FeedExecutor:
    """The executor called ``name`` for a feed."""
    if name == "local":
        from harness.schedule.local import run_feed

        return run_feed
    from harness.search.ray_searcher import run_feed as run_with_ray

    return run_with_ray
