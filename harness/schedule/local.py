"""Executor ``local``: trials one after the other in this process, for debugging and fast tests."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from harness.errors import UserError
from harness.schedule.alarm import Alarm, Stalled, alarm_for_trials
from harness.schedule.deaths import marked
from harness.schedule.executor import Executor, Observer, TrialSource
from harness.store import Store
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.loop import EpochReport
from harness.training.spec import Outcome
from harness.training.split_cache import CACHE
from harness.training.trial import record_failure, run_trial


class LocalExecutor(Executor):
    """Runs trials in this process; UserError when GPUs are asked for and there is none."""

    where = "in this process"

    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        """Run what the source hands out, one trial at a time."""
        _check_device(self.resources)
        outcomes: list[Outcome] = []
        try:
            with alarm_for_trials(self.resources.stall_minutes) as alarm:
                while (trial := source.next(observer)) is not None:
                    outcomes.append(_run(trial, observer, alarm))
                    source.ended(trial)
        finally:
            # What follows in this process, such as a report, may need the device's memory.
            CACHE.clear()
        return outcomes


def _check_device(resources: ResourcesConfig) -> None:
    if resources.gpus > 0 and not torch.cuda.is_available():
        raise UserError(
            f"resources.gpus_per_trial={resources.gpus_per_trial:g} and this machine has no GPU; "
            "set it to 0 to train on the CPU"
        )


def _run(trial: PlannedTrial, observer: Observer, alarm: Alarm) -> Outcome:
    """Run a trial, unless this process died in it too often."""
    observer.started(trial)
    with marked(trial, observer) as given_up:
        outcome = given_up or _tried_twice(trial, observer, alarm)
    observer.finished(trial, outcome)
    return outcome


def _tried_twice(trial: PlannedTrial, observer: Observer, alarm: Alarm) -> Outcome:
    """Run a trial, once more when it makes no progress."""
    epoch = partial(_epoch, trial, observer)
    try:
        with alarm.over(trial):
            return run_trial(trial.job, epoch)
    except Stalled as first:
        observer.interrupted(trial, f"{first}; it was ended, and is tried once more")
    try:
        with alarm.over(trial):
            return run_trial(trial.job, epoch)
    except Stalled as second:
        reason = f"{second}, twice; its log.txt says where it stood"
        directory = Store(Path(trial.job.store)).trial(trial.id)
        return record_failure(directory, trial.job, reason)


def _epoch(trial: PlannedTrial, observer: Observer, report: EpochReport) -> None:
    observer.epoch(trial, report.epoch, report.epochs, report.value)
