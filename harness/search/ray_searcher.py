"""A search on Ray Tune: a Searcher that hands out what a feed has, while Tune places trials and
replaces dead workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.schedule import Feed, Observer
from harness.schedule.ray import cluster, listener, payload, tuner
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome


def run_feed(
    feed: Feed, resources: ResourcesConfig, folder: Path, observer: Observer
) -> list[Outcome]:
    """Run what a search asks for until it has what it wants; UserError when the cluster cannot be
    reached or is too small.
    """
    with cluster(resources, folder) as storage:
        handed: dict[str, PlannedTrial] = {}
        callback = listener(handed, _Passing(observer, feed))
        searcher = _searcher(feed, observer, handed, callback, resources)
        # How many points there will be is the feed's business; -1 is Tune's word for that.
        tuner(
            resources, storage / "search", callback, {}, search_alg=searcher, num_samples=-1
        ).fit()
        if not feed.over:
            # Tune answers Ctrl-C by stopping its trials and returning as if it were over.
            raise KeyboardInterrupt
        return list(callback.outcomes.values())


class _Passing:
    """An observer that also tells the feed when a trial has ended."""

    def __init__(self, observer: Observer, feed: Feed) -> None:
        self.observer, self.feed = observer, feed

    def started(self, trial: PlannedTrial) -> None:
        self.observer.started(trial)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        self.observer.epoch(trial, epoch, epochs, value)

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        self.observer.interrupted(trial, reason)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.observer.finished(trial, outcome)
        self.feed.ended(trial)


def _searcher(
    feed: Feed,
    observer: Observer,
    handed: dict[str, PlannedTrial],
    callback: Any,
    resources: ResourcesConfig,
) -> Any:
    """Tune's view of the feed (built here, so that importing this module does not import Ray)."""
    from ray.tune.search import Searcher

    class FromFeed(Searcher):
        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its searcher with the experiment, which is never restored.
            return dict, ()

        def suggest(self, trial_id: str) -> Any:
            while callback.errored:
                callback.lost(handed[callback.errored.pop()], resources)
            trial = feed.next(observer)
            if trial is None:
                return Searcher.FINISHED if feed.over else None
            handed[trial.id] = trial
            return {"trial": payload(trial)}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            """The callback has told the feed."""

        def save(self, checkpoint_path: str) -> None:
            # Nothing of it is restored, but Tune moves the file.
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError("a search is resumed from its journal")

    return FromFeed()
