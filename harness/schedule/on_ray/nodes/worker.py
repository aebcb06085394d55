"""What a worker of Ray executes once its node may train: one trial, and what it says of it.

nodes/checks.py calls it; what it says is heard by the listener in schedule/on_ray/tune.py.
"""

from __future__ import annotations

import faulthandler
import gc
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from harness.schedule.on_ray.nodes import STACK
from harness.schedule.on_ray.source import job_of
from harness.store import Store, TrialDirectory
from harness.training.heartbeat import heard_by
from harness.training.loop import EpochReport
from harness.training.trial import run_trial

BEAT_SECONDS = 5.0
"""A worker says at most so often that it is at work."""

REPORT_SECONDS = 0.5
"""Epochs that follow each other faster are not all told: a worker waits for Tune at each report."""


def run_in_worker(trial: Mapping[str, str]) -> None:
    """What a worker executes: one trial, reporting its epochs, and that it is at work.

    The last epoch is always reported.
    """
    import ray
    from ray import tune

    _spare_imports()
    job = job_of(trial)
    said = time.monotonic()
    reported = -math.inf

    def report(epoch: EpochReport) -> None:
        nonlocal reported
        last = epoch.epoch + 1 == epoch.epochs
        if not last and time.monotonic() - reported < REPORT_SECONDS:
            return
        reported = time.monotonic()
        tune.report({"epoch": epoch.epoch, "epochs": epoch.epochs, "value": epoch.value})

    def at_work() -> None:
        nonlocal said
        if time.monotonic() - said >= BEAT_SECONDS:
            said = time.monotonic()
            tune.report({"beat": True})

    tune.report({"worker": [os.getpid(), ray.get_runtime_context().get_node_id()]})
    with heard_by(at_work), _stack_on_request(Store(Path(job.store)).trial(job.spec.id)):
        outcome = run_trial(job, report)
    tune.report({"outcome": asdict(outcome)})


def _spare_imports() -> None:
    """Keep what this process has imported out of the garbage collections behind every trial.

    They look at everything that a process holds: torch and Ray are a third of a second each time.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@contextmanager
def _stack_on_request(trial: TrialDirectory) -> Iterator[None]:
    """Let the signal STACK write into the trial's log where each thread is, whatever it does."""
    trial.path.mkdir(parents=True, exist_ok=True)
    with (trial / "log.txt").open("a", encoding="utf-8") as log:
        faulthandler.register(STACK, log, all_threads=True)
        try:
            yield
        finally:
            faulthandler.unregister(STACK)
