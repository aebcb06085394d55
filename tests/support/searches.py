"""What tests of the search share: a tiny search, and running it in this process.

Called by tests of searches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.schedule.local import LocalExecutor
from harness.search.feed import SearchFeed
from harness.search.plan import SearchPlan
from harness.study.config import ResourcesConfig, load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.spec import Outcome

TINY = (
    "dataset.limit=40",
    "train.epochs=1",
    "train.batch_size=20",
    "backbone.width=2",
    "seeds=[0]",
    "search.seeds=[100,101]",
)
GRID = (
    "methods=[dmrnet]",
    "search.space.dmrnet.alpha=[1e-4,1e-3]",
    "search.space.dmrnet.beta=[0.3,0.7]",
)
VARIED = ("train.epochs=6", "dataset.limit=96", "backbone.width=4")
"""Enough for points to differ."""

LEARNED = (
    "methods=[dmrnet]",
    "search.trials=14",
    "search.parallel=3",
    "search.seeds=[100]",
    *VARIED,
)
BIASED = '''
import torch

from harness.protocol.hyperparameters import Range
from methods.sf_md import SFMD


class Biased(SFMD):
    """Prefers class 3, as much as ``bias`` says."""

    hyperparameters = {"bias": Range(1e3, 0.0, 1e3), "more": Range(0.0, 0.0, 1.0)}

    def fuse(self, features, present, noise=None):
        output = super().fuse(features, present, noise)
        output.logits = output.logits + (self.bias + self.more) * torch.eye(10)[3]
        return output
'''
"""A method whose own values lose: with them every sample is said to be of one class."""

MakePlan = Callable[..., SearchPlan]


def search_below(folder: Path, *arguments: str) -> SearchPlan:
    """The search of a tiny quick start that writes below a folder."""
    study = load_study(
        [*TINY, "executor=local", "tracking.enabled=false", f"output={folder}", *arguments]
    )
    return SearchPlan(Plan(study))


class Silent:
    """Watches a search and keeps what was started."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, trial: PlannedTrial) -> None:
        self.names.append(trial.job.name)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None: ...

    def interrupted(self, trial: PlannedTrial, reason: str) -> None: ...

    def warned(self, sentence: str) -> None: ...

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None: ...


def done(search: SearchPlan, rerun: str | None = None) -> list[str]:
    """Search to the end; the names of the trials that were run."""
    watch = Silent()
    executor = LocalExecutor(ResourcesConfig(), search.plan.study.folder)
    executor.run_source(SearchFeed(search, rerun), watch)
    return watch.names
