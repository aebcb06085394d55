"""A source of trials as Ray Tune's search algorithm: Tune asks it for a trial whenever it has room.

schedule/ray.py uses it; Ray is imported when the algorithm is built.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.schedule.executor import Observer, TrialSource
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome


class SourceObserver:
    """An observer that also tells the source when a trial has ended."""

    def __init__(self, observer: Observer, source: TrialSource) -> None:
        self.observer, self.source = observer, source

    def started(self, trial: PlannedTrial) -> None:
        self.observer.started(trial)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        self.observer.epoch(trial, epoch, epochs, value)

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        self.observer.interrupted(trial, reason)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.observer.finished(trial, outcome)
        self.source.ended(trial)


def payload(trial: PlannedTrial) -> dict[str, str]:
    """A trial as a worker gets it."""
    # As text, so that Tune finds nothing in it to resolve as a search space.
    return {"id": trial.id, "job": json.dumps(asdict(trial.job))}


def searcher(
    source: TrialSource,
    observer: Observer,
    handed: dict[str, PlannedTrial],
    callback: Any,
    resources: ResourcesConfig,
) -> Any:
    """Tune's ``Searcher`` over a source; ``handed`` receives by id the trials that it handed out.

    Built here, so that importing this module does not import Ray.
    """
    from ray.tune.search import Searcher

    class FromSource(Searcher):
        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its searcher with the experiment, which is never restored.
            return dict, ()

        def suggest(self, trial_id: str) -> Any:
            while callback.errored:
                callback.lost(handed[callback.errored.pop()], resources)
            trial = source.next(observer)
            if trial is None:
                return Searcher.FINISHED if source.over else None
            handed[trial.id] = trial
            return {"trial": payload(trial)}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            """The callback has told the source."""

        def save(self, checkpoint_path: str) -> None:
            # Nothing of it is restored, but Tune moves the file.
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError("a source is resumed from what the store and journal hold")

    return FromSource()
