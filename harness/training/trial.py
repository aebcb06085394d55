"""Executing one trial: trained once, evaluated on all combinations, recorded.

Every executor calls ``run_trial``, in its own process or in a worker.
"""

from __future__ import annotations

import gc
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from harness.errors import TrialFailure
from harness.method import Method
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.store import CheckpointFile, Store, TrialDirectory, write_json
from harness.training.conclude import Run, conclude
from harness.training.fusion import NotSeparable
from harness.training.loop import EpochReport, Fit, Trainer
from harness.training.recipe import MissingConfig, TrainConfig
from harness.training.spec import Job, Outcome


def run_trial(job: Job, on_epoch: Callable[[EpochReport], None] = lambda report: None) -> Outcome:
    """Train, evaluate and record one trial.

    Resume it where an earlier process stopped; return at once when it is done.

    Without ``job.test`` it is done with its part on val. What was trained for that is not trained
    again for the rest.

    A failure of the trial itself (a loss that is not finite, an exception in a method, no memory)
    is recorded and returned. Whatever kills the process leaves the last epoch's checkpoint.
    """
    store = Store(Path(job.store))
    trial = store.trial(job.spec.id)
    started = time.perf_counter()
    with (
        store.locked(
            job.spec.id, lambda: _log().info("waiting for another process that runs this trial")
        ),
        _logging(trial),
    ):
        if trial.finished(job.test) is not None:
            return Outcome(job.spec.id, "done")
        write_json(trial / "spec.json", asdict(job.spec) | {"label": job.label})
        try:
            with deterministic(job.device):
                _run(job, trial, on_epoch)
            return Outcome(job.spec.id, "done", seconds=time.perf_counter() - started)
        except (Exception, torch.cuda.OutOfMemoryError) as error:
            return _failed(job, trial, error, time.perf_counter() - started)
        finally:
            _release_memory()


def _run(job: Job, trial: TrialDirectory, on_epoch: Callable[[EpochReport], None]) -> None:
    _log().info("%s, trial %s, process %d", job.name, job.spec.id, os.getpid())
    run = Run(job, trial, job.open_dataset(), *_build(job))
    for name, needed in job.spec.needs.items():
        run.model.adopt(name, Store(Path(job.store)).trial(needed).weights())
    conclude(run, _fit(run, on_epoch))


def _build(job: Job) -> tuple[Method, torch.device, list[str]]:
    spec, device = job.spec, torch.device(job.device)
    options = {key: value for key, value in spec.backbone.items() if key != "name"} | job.local
    backbone = job.backbone_class()(job.open_dataset().spec, options)
    with Streams(spec.seed).initialising("model"):
        model = job.method_class()(backbone, spec.variant, spec.hparams)
    return model.to(device), device, backbone.remarks()


def _fit(run: Run, on_epoch: Callable[[EpochReport], None]) -> Fit:
    spec, trial = run.job.spec, run.trial

    def progressed(report: EpochReport) -> None:
        # After the checkpoint: a line that a tracker has seen is never produced again with another
        # time.
        trial.save_history(report.history)
        _log().info(
            "epoch %d/%d, val %s %.3f", report.epoch + 1, report.epochs, report.metric, report.value
        )
        on_epoch(report)

    trainer = Trainer(
        model=run.model,
        train=run.dataset.load("train").to(run.device),
        val=run.dataset.load("val").to(run.device),
        metric=metric(run.dataset.spec.metric),
        recipe=TrainConfig(**spec.train),
        missing=MissingConfig(**spec.missing),
        evaluation=run.evaluation,
        streams=Streams(spec.seed),
        device=run.device,
        checkpoints=CheckpointFile(trial / "checkpoint.pt", run.job.code()),
        on_epoch=progressed,
    )
    return trainer.fit()


def record_failure(trial: TrialDirectory, job: Job, reason: str, seconds: float = 0.0) -> Outcome:
    """Write why a trial failed, and what it was."""
    write_json(
        trial / "failure.json",
        {"trial_id": job.spec.id, "label": job.label, "spec": asdict(job.spec), "reason": reason},
    )
    return Outcome(job.spec.id, "failed", reason, seconds)


def _failed(job: Job, trial: TrialDirectory, error: BaseException, seconds: float) -> Outcome:
    expected = isinstance(error, TrialFailure | NotSeparable)
    reason = str(error) if expected else f"{type(error).__name__}: {error}".splitlines()[0]
    _log().error(
        "failed: %s\n%s", reason, "" if expected else "".join(traceback.format_exception(error))
    )
    return record_failure(trial, job, reason, seconds)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """One torch thread on a CPU, deterministic algorithms everywhere.

    The process's settings are restored afterwards.
    """
    threads, algorithms = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device == "cpu":
        torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(algorithms)


def _release_memory() -> None:
    """Leave a reused worker as it was found."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _log() -> logging.Logger:
    return logging.getLogger("harness.training.trial")


@contextmanager
def _logging(trial: TrialDirectory) -> Iterator[None]:
    """Send this trial's log lines to its own ``log.txt``."""
    trial.path.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(trial / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = _log()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
