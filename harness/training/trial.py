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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from harness.errors import FULL, DiskError, TrialFailure, UserError, one_line, unwritable
from harness.method import Method
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.store import SPEC_FILE, Store, TrialDirectory, read_json, writing
from harness.store.checkpoint import CheckpointFile
from harness.training.conclude import Run, conclude
from harness.training.cuda_graph import on_gpu
from harness.training.fusion import NotSeparable
from harness.training.heartbeat import beat
from harness.training.loop import Checkpoints, EpochReport, Fit, Trainer
from harness.training.precision import computing_in
from harness.training.recipe import MissingConfig, TrainConfig
from harness.training.spec import HALTED, Job, Outcome
from harness.training.split_cache import CACHE

NO_MEMORY = "DefaultCPUAllocator"
"""Stands in torch's words for memory that the CPU does not have: an ordinary RuntimeError."""


def run_trial(job: Job, on_epoch: Callable[[EpochReport], None] = lambda report: None) -> Outcome:
    """Train, evaluate and record one trial.

    Resume it where an earlier process stopped; return at once when it is done.

    Without ``job.test`` it is done with its part on val. What was trained for that is not trained
    again for the rest.

    A failure of the trial itself is recorded and returned: a loss that is not finite, no memory,
    and whatever a method raises, ``sys.exit`` included. Whatever kills the process leaves the last
    epoch's checkpoint, and what ``on_epoch`` raises is the caller's. A disk that cannot be written
    to is no failure of the trial: it is ``halted``, and goes on when it is run again.
    """
    try:
        return _held(job, on_epoch)
    except DiskError as error:
        return Outcome(job.spec.id, HALTED, str(error))


def _held(job: Job, on_epoch: Callable[[EpochReport], None]) -> Outcome:
    """The trial while no other process can touch it; DiskError when the disk is full."""
    store = Store(Path(job.store))
    trial = store.trial(job.spec.id)
    started = time.perf_counter()
    with (
        # First, so that it is written down for what a process waits.
        _logging(trial),
        store.locked(
            job.spec.id,
            lambda: _log().info("waiting for another process that runs this trial"),
            beat,
        ),
    ):
        if trial.finished(job.test) is not None:
            return Outcome(job.spec.id, "done")
        trial.save_spec(asdict(job.spec), job.label)
        try:
            with deterministic(job.device):
                _run(job, trial, _Told(on_epoch))
            return Outcome(job.spec.id, "done", seconds=time.perf_counter() - started)
        except _Stopped as stop:
            raise stop.error from None
        except (KeyboardInterrupt, DiskError):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise unwritable(Path(os.fsdecode(error.filename or trial.path)), error) from error
            return _failed(job, trial, error, time.perf_counter() - started)
        finally:
            _release_memory()


class _Stopped(BaseException):
    """What the caller raised when it was told of an epoch: no fault of the method."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True)
class _Told:
    """Tells the caller of epochs, and marks what it raises: Ray ends a worker by SystemExit."""

    on_epoch: Callable[[EpochReport], None]

    def __call__(self, report: EpochReport) -> None:
        try:
            self.on_epoch(report)
        except BaseException as error:
            raise _Stopped(error) from error


def _run(job: Job, trial: TrialDirectory, on_epoch: Callable[[EpochReport], None]) -> None:
    _log().info("%s, trial %s, process %d", job.name, job.spec.id, os.getpid())
    run = prepared(job, trial)
    conclude(run, _fit(run, on_epoch))


def prepared(job: Job, trial: TrialDirectory) -> Run:
    """A trial's data, and its model with what it needs of others, before any training."""
    run = Run(job, trial, job.open_dataset(), *_build(job))
    for name, needed in job.spec.needs.items():
        run.model.adopt(name, Store(Path(job.store)).trial(needed).weights())
    return run


def _build(job: Job) -> tuple[Method, torch.device, list[str]]:
    spec, device = job.spec, torch.device(job.device)
    options = {key: value for key, value in spec.backbone.items() if key != "name"} | job.local
    backbone = job.backbone_class()(job.open_dataset().spec, options)
    with Streams(spec.seed).initialising("model"):
        model = job.method_class()(backbone, spec.variant, spec.hparams)
    return model.to(device), device, backbone.remarks()


def _fit(run: Run, on_epoch: Callable[[EpochReport], None]) -> Fit:
    trial = run.trial

    def progressed(report: EpochReport) -> None:
        # After the checkpoint: a line that a tracker has seen is never produced again with another
        # time.
        trial.save_history(report.history)
        _log().info(
            "epoch %d/%d, val %s %.3f", report.epoch + 1, report.epochs, report.metric, report.value
        )
        on_epoch(report)

    file = CheckpointFile(trial / "checkpoint.pt", run.job.code(), _log().warning)
    return trainer_of(run, file, progressed).fit()


def trainer_of(
    run: Run, checkpoints: Checkpoints, on_epoch: Callable[[EpochReport], None]
) -> Trainer:
    """What trains a prepared trial."""
    spec = run.job.spec
    return Trainer(
        model=run.model,
        train=run.split("train"),
        val=run.split("val"),
        metric=metric(run.dataset.spec.metric),
        recipe=TrainConfig(**spec.train),
        missing=MissingConfig(**spec.missing),
        evaluation=run.evaluation,
        streams=Streams(spec.seed),
        device=run.device,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
        record=on_gpu if run.job.cuda_graph and run.device.type == "cuda" else None,
    )


def restore_spec(job: Job) -> bool:
    """Write the ``spec.json`` of a finished trial again where it is damaged; whether it was."""
    trial, spec = Store(Path(job.store)).trial(job.spec.id), asdict(job.spec)
    held = read_json(trial / SPEC_FILE) or {}
    if held == spec | {"label": held.get("label")}:
        return False
    trial.save_spec(spec, job.label)
    return True


def record_failure(trial: TrialDirectory, job: Job, reason: str, seconds: float = 0.0) -> Outcome:
    """Write why a trial failed, and what it was."""
    trial.save_failure(
        {"trial_id": job.spec.id, "label": job.label, "spec": asdict(job.spec), "reason": reason}
    )
    return Outcome(job.spec.id, "failed", reason, seconds)


def _failed(job: Job, trial: TrialDirectory, error: BaseException, seconds: float) -> Outcome:
    expected = isinstance(error, TrialFailure | NotSeparable | UserError)
    reason = one_line(error) if expected else _reason(error)
    log = "" if expected else "".join(traceback.format_exception(error))
    # The frames of the error hold the tensors that there was no room for.
    traceback.clear_frames(error.__traceback__)
    if _out_of_memory(error):
        CACHE.clear()
    gc.collect()
    # Half characters, which a method's texts may have, are no text to whoever reads the log.
    _log().error("failed: %s\n%s", reason, log.encode(errors="backslashreplace").decode())
    return record_failure(trial, job, reason, seconds)


def _reason(error: BaseException) -> str:
    """Why an error that nobody expected ended the trial, in one line."""
    said = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
    if isinstance(error, SystemExit):
        return f"its code ended the process (sys.exit, {said})"
    if _out_of_memory(error):
        return (
            f"out of memory ({said}); a smaller train.batch_size or evaluation.batch_size needs"
            " less, and fewer trials at once (resources.max_concurrent) leave more for each"
        )
    return said


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in one_line(error)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """One torch thread on a CPU, deterministic algorithms everywhere.

    The process's settings are restored afterwards.
    """
    threads, algorithms = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device == "cpu":
        torch.set_num_threads(1)
    # What torch.use_deterministic_algorithms(True) sets, which imports torch's compiler first: more
    # than a second of every process that trains.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    try:
        with computing_in("float32"):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(algorithms)


def _release_memory() -> None:
    """Leave a reused worker as it was found, but for the splits that split_cache.py keeps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _log() -> logging.Logger:
    return logging.getLogger("harness.training.trial")


class _LogFile(logging.FileHandler):
    """A log that is left incomplete where there is no room: what is missed is said elsewhere."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the standard library would print a traceback per line."""


@contextmanager
def _logging(trial: TrialDirectory) -> Iterator[None]:
    """Send this trial's log lines to its own ``log.txt``."""
    with writing(trial / "log.txt"):
        trial.path.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(trial / "log.txt", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = _log()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()
