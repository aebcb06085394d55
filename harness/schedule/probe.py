"""What a trial takes on this machine, measured on a short one of its kind; see forecast.py.

The short trial is a real one, in a folder of its own that is removed: about twenty steps on a part
of the data, then its evaluation, its checkpoints and its record.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.store import Store
from harness.training.loop import EpochReport
from harness.training.recipe import TrainConfig
from harness.training.spec import Job
from harness.training.trial import run_trial

EPOCHS, STEPS_PER_EPOCH = 4, 5
SMALL_BATCH, SMALL_EPOCHS = 4, 2
"""Of the very short trial that warms up, and says how large batches can be in the time."""

SECONDS = 4.0
"""What the steps may take; a batch is made smaller for it, and its time taken in proportion."""


@dataclass(frozen=True)
class Measured:
    """Seconds of a trial's parts; ``problem`` is a sentence where they could not be measured.

    ``trained`` and ``evaluated`` are of one sample, on all combinations. On a CPU these are seconds
    of its time, which say more on a busy machine. ``saving`` and ``beside``, of the clock, are what
    writing an epoch takes, and what a trial takes besides. The epochs that were measured took so
    many seconds of the ``clock`` for so many of ``work``.
    """

    trained: float = 0.0
    evaluated: float = 0.0
    saving: float = 0.0
    beside: float = 0.0
    clock: float = 0.0
    work: float = 0.0
    problem: str = ""

    def seconds(self, counts: Mapping[str, int], recipe: TrainConfig, stretch: float) -> float:
        """What a trial with so many samples and this recipe takes, where a second takes so long."""
        epoch = samples_per_epoch(counts["train"], recipe) * self.trained
        epoch += counts["val"] * self.evaluated
        work = recipe.epochs * epoch + _evaluated_at_the_end(counts) * self.evaluated
        return stretch * work + recipe.epochs * self.saving + self.beside


def _evaluated_at_the_end(counts: Mapping[str, int]) -> int:
    """Samples behind the last epoch: test with its weights, val and test with the selected ones."""
    return counts["val"] + 2 * counts["test"]


def samples_per_epoch(samples: int, recipe: TrainConfig) -> int:
    """How many samples an epoch trains on: an incomplete batch may be left out."""
    rest = samples % recipe.batch_size
    left_out = samples > recipe.batch_size and (recipe.drop_last or rest < 2)
    return samples - rest if left_out else samples


def measure(job: Job, needed: Sequence[tuple[str, Job]]) -> Measured:
    """Run a short trial of a job's kind; ``needed`` are the jobs that it needs, by their names."""
    with TemporaryDirectory(prefix="harness-probe-") as folder:
        try:
            warm_up = _Short(Path(folder), SMALL_BATCH, steps=2, epochs=SMALL_EPOCHS)
            small = _measured(warm_up, job, needed)
            steps = EPOCHS * STEPS_PER_EPOCH
            affordable = int(SECONDS / max(steps * small.trained, 1e-9))
            batch = min(int(job.spec.train["batch_size"]), affordable)
            # A batch that is hardly larger would say nothing new.
            if batch < 2 * SMALL_BATCH:
                return small
            short = _Short(Path(folder), batch, STEPS_PER_EPOCH, EPOCHS)
            found = _measured(short, job, needed)
            clock, work = small.clock + found.clock, small.work + found.work
            return replace(found, clock=clock, work=work)
        except Exception as error:  # a method's own code may raise anything
            return Measured(problem=str(error) or type(error).__name__)


@dataclass(frozen=True)
class _Short:
    """How trials are made short, and where they lie."""

    folder: Path
    batch: int
    steps: int
    epochs: int

    def job(self, job: Job, needs: Mapping[str, str]) -> Job:
        """The short form of a job, which needs these trials."""
        spec, limit = job.spec, self.batch * self.steps
        given = spec.dataset["limit"]
        short = replace(
            spec,
            dataset=spec.dataset | {"limit": limit if given is None else min(limit, given)},
            train=spec.train | {"batch_size": self.batch, "epochs": self.epochs},
            needs=dict(needs),
        )
        store, cache = str(self.folder / "store"), str(self.folder / "cache")
        return replace(job, spec=short, test=True, store=store, cache=cache)


def _measured(short: _Short, job: Job, needed: Sequence[tuple[str, Job]]) -> Measured:
    stages = {name: short.job(stage, {}) for name, stage in needed}
    own = short.job(job, {name: stage.spec.id for name, stage in stages.items()})
    own.open_dataset().prepare(lambda name, done, total: None)
    for stage in stages.values():
        _Run(stage)
    run = _Run(own)
    record = Store(Path(own.store)).trial(own.spec.id).record()
    assert record is not None
    counts, took = record["counts"], record["test_evaluation"]
    epochs_clock, epochs_work = run.between_ends(run.clock), run.between_ends(run.work)
    # Of whole epochs without their writing: what waits for the disk is not stretched.
    clock, work = sum(epochs_clock) - sum(run.saved[1:]), sum(epochs_work)
    # The record has the clock's seconds; work is taken as the same part of them as of epochs'.
    evaluated_clock = (took["encode_seconds"] + took["fuse_seconds"]) / took["samples"]
    evaluated = evaluated_clock * min(1.0, work / clock)
    # An epoch trains, and evaluates val.
    trained = max(0.0, statistics.median(epochs_work) - counts["val"] * evaluated)
    trained /= samples_per_epoch(counts["train"], TrainConfig(**own.spec.train))
    at_the_end = _evaluated_at_the_end(counts) * evaluated_clock
    beside = run.seconds - len(run.clock) * statistics.median(epochs_clock) - at_the_end
    return Measured(
        trained,
        evaluated,
        saving=statistics.median(run.saved),
        beside=max(0.0, beside),
        clock=clock,
        work=work,
    )


class _Run:
    """A trial that has run: its seconds, and at each epoch's end the clock, the work so far, and
    what saving it took.

    Work is the time of this process on a CPU; a GPU's is told by the clock alone.
    """

    def __init__(self, job: Job) -> None:
        self._worked = time.perf_counter if job.device == "cuda" else time.process_time
        self.clock: list[float] = []
        self.work: list[float] = []
        self.saved: list[float] = []
        started = time.perf_counter()
        outcome = run_trial(job, self._epoch)
        if outcome.status != "done":
            raise RuntimeError(outcome.reason)
        self.seconds = time.perf_counter() - started

    def _epoch(self, report: EpochReport) -> None:
        self.clock.append(time.perf_counter())
        self.work.append(self._worked())
        # Its line says when the epoch was over; it has been saved since.
        self.saved.append(max(0.0, time.time() - report.history[-1]["time"]))

    @staticmethod
    def between_ends(ends: Sequence[float]) -> list[float]:
        """From each epoch's end to the next: all epochs but the first, which warms up."""
        return [after - before for before, after in itertools.pairwise(ends)]
