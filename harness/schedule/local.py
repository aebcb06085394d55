"""Trials one after the other in this process: for debugging and fast tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from harness.errors import UserError
from harness.schedule import Feed, Observer, waves, without_blocked
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.loop import EpochReport
from harness.training.spec import Outcome
from harness.training.trial import run_trial


def run_all(
    trials: Sequence[PlannedTrial], resources: ResourcesConfig, folder: Path, observer: Observer
) -> list[Outcome]:
    """Run every trial; UserError when GPUs are asked for and there is none."""
    _check_device(resources)
    outcomes: list[Outcome] = []
    for wave in waves(trials):
        runnable, failed = without_blocked(wave, observer)
        outcomes += failed + [_run(trial, observer) for trial in runnable]
    return outcomes


def run_feed(
    feed: Feed, resources: ResourcesConfig, folder: Path, observer: Observer
) -> list[Outcome]:
    """Run what a search asks for until it has what it wants; UserError as above."""
    _check_device(resources)
    outcomes: list[Outcome] = []
    while (trial := feed.next(observer)) is not None:
        outcomes.append(_run(trial, observer))
        feed.ended(trial)
    return outcomes


def _check_device(resources: ResourcesConfig) -> None:
    if resources.gpus_per_trial > 0 and not torch.cuda.is_available():
        raise UserError(
            f"resources.gpus_per_trial={resources.gpus_per_trial:g} and this machine has no GPU; set it to 0 to train on the CPU"
        )


def _run(trial: PlannedTrial, observer: Observer) -> Outcome:
    observer.started(trial)
    outcome = run_trial(trial.job, partial(_epoch, trial, observer))
    observer.finished(trial, outcome)
    return outcome


def _epoch(trial: PlannedTrial, observer: Observer, report: EpochReport) -> None:
    observer.epoch(trial, report.epoch, report.epochs, report.value)
