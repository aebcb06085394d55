"""What a worker of Ray executes once its node may train: one trial, and what it says of it.

nodes/checks.py calls it; what it says is heard by the listener in schedule/on_ray/tune.py.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from harness.schedule.on_ray.source import job_of
from harness.store import Store, TrialDirectory
from harness.training.heartbeat import heard_by
from harness.training.loop import EpochReport
from harness.training.trial import run_trial

BEAT_SECONDS = 5.0
"""A worker says at most so often that it is at work."""

STACK = signal.SIGUSR1


def run_in_worker(trial: Mapping[str, str]) -> None:
    """What a worker executes: one trial, reporting each epoch, and that it is at work."""
    import ray
    from ray import tune

    job = job_of(trial)
    said = time.monotonic()

    def report(epoch: EpochReport) -> None:
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
