"""One finished trial evaluated under the conditions that it lacks; what a worker executes.

workers.py calls it, in its own process or in others.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from harness.data.raw import Raw
from harness.dataset import Dataset
from harness.errors import DiskError, TrialFailure, UserError, one_line
from harness.protocol.combinations import Combination
from harness.robust.catalogue import CLEAN, Condition
from harness.robust.evaluation import Inputs, evaluate
from harness.robust.evidence import SPLIT, code_of, facts_of, keep, missing
from harness.store import Json, Store, TrialDirectory
from harness.training.spec import Job
from harness.training.trained_model import trained
from harness.training.trial import deterministic

FULL = "full"
"""What a worker says instead of a method of Listener, with a sentence: nothing can be written."""

CHANGED = "files of the harness were changed while trials are evaluated; start again"


@dataclass(frozen=True)
class Task:
    """A finished trial to be evaluated; plain data, so that it can be sent to another process.

    ``code`` is the hash of the code that evaluates it, as the command found it.
    """

    job: Job
    record: Json
    code: str


class Listener(Protocol):
    """Hears what happens to trials while they are evaluated."""

    def began(self, name: str) -> None:
        """A trial is taken up."""

    def step(self) -> None:
        """One batch under one condition is done."""

    def said(self, sentence: str) -> None:
        """Something that the user should know meanwhile."""

    def kept(self) -> None:
        """The evidence of one condition is in the store."""

    def compared(self, trial_id: str, difference: float) -> None:
        """How far scores without corruption are from those in the store, at most."""

    def ended(self, name: str, failure: str) -> None:
        """A trial is evaluated, or could not be evaluated to its end, for this reason."""


def raws_of(dataset: Dataset) -> dict[str, Raw]:
    """The raw values of every modality of the test split."""
    return {name: dataset.raw(SPLIT, name) for name in dataset.spec.names}


def evaluate_trial(
    task: Task, inputs: Inputs, wanted: Sequence[Condition], listener: Listener
) -> None:
    """Evaluate what is left of a trial, each condition written as soon as it is known.

    DiskError where nothing can be written: the next trial would meet it too.
    """
    job, store = task.job, Store(Path(task.job.store))
    waiting = partial(listener.said, f"{job.name}: waiting for another process that uses it")
    failure = ""
    with store.locked(job.spec.id, waiting), deterministic(job.device):
        try:
            _evaluate(task, store, inputs, wanted, listener)
        except DiskError:
            raise
        except (TrialFailure, UserError, RuntimeError) as error:
            failure = one_line(error)
        except Exception as error:  # a method's own code may raise anything
            failure = f"{type(error).__name__}: {one_line(error)}"
    listener.ended(job.name, failure)


def _evaluate(
    task: Task, store: Store, inputs: Inputs, wanted: Sequence[Condition], listener: Listener
) -> None:
    job, trial = task.job, store.trial(task.job.spec.id)
    if code_of(job) != task.code:
        raise UserError(CHANGED)
    # Asked again: another process may have done some of it meanwhile.
    todo = missing(trial, task.record, wanted, task.code)
    listener.began(job.name)
    # A cluster's driver may have no GPU; numbers of another device differ by rounding.
    device = torch.device(job.device if torch.cuda.is_available() else "cpu")
    model = trained(job, store).to(device)

    def write(condition: Condition, scores: Tensor, seconds: float) -> None:
        if condition == CLEAN:
            listener.compared(job.spec.id, _difference(trial, scores, model.combinations))
        keep(trial, facts_of(task.record, condition, task.code), scores, seconds)
        listener.kept()

    batch_size, precision = int(job.spec.evaluation["batch_size"]), job.spec.evaluated_in
    evaluate(model, inputs, todo, batch_size, device, write, listener.step, precision)


def _difference(
    trial: TrialDirectory, scores: Tensor, combinations: Sequence[Combination]
) -> float:
    """The largest difference from the stored evidence, over the samples that count."""
    arrays = {name: torch.from_numpy(array) for name, array in trial.scores().items()}
    largest = 0.0
    for position, combination in enumerate(combinations):
        has = arrays[f"{SPLIT}_available"][:, torch.tensor(combination.mask)].all(1)
        gaps = (scores[position][has] - arrays[SPLIT][position][has]).abs()
        if gaps.numel():
            largest = max(largest, float(gaps.max()))
    return largest


# ---------------------------------------------------------------------- a worker


def evaluate_tasks(
    link: Connection, number: int, wanted: Sequence[Condition], inputs_kept: int
) -> None:
    """What a worker executes: evaluate each task that it is sent, until there are no more.

    Args:
        link: to the process that started this one; this one ends when that is gone.
        number: of this worker; on a machine with several GPUs it says which one it has.
        wanted: every condition, the clean one first.
        inputs_kept: bytes of corrupted inputs that stay in memory for the next trial.
    """
    # By an exception, so that no half-written file is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    listener, inputs = _Remote(link), None
    while True:
        try:
            task: Task = link.recv()
        except (EOFError, OSError):
            return
        try:
            inputs = inputs or _inputs(task.job, number, inputs_kept)
        except (UserError, RuntimeError, OSError) as error:
            listener.ended(task.job.name, f"its data cannot be read: {one_line(error)}")
            continue
        try:
            evaluate_trial(task, inputs, wanted, listener)
        except DiskError as error:
            listener.say(FULL, str(error))
            return


def _inputs(job: Job, number: int, kept: int) -> Inputs:
    if job.device == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    dataset = job.open_dataset()
    return Inputs(dataset.load(SPLIT), raws_of(dataset), kept)


class _Remote:
    """A Listener in another process: each call is sent there."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    def say(self, word: str, *facts: object) -> None:
        """Send a call; where nobody hears it any more, this process ends."""
        try:
            self._link.send((word, *facts))
        except OSError:
            sys.exit(1)

    def began(self, name: str) -> None:
        self.say("began", name)

    def step(self) -> None:
        self.say("step")

    def said(self, sentence: str) -> None:
        self.say("said", sentence)

    def kept(self) -> None:
        self.say("kept")

    def compared(self, trial_id: str, difference: float) -> None:
        self.say("compared", trial_id, difference)

    def ended(self, name: str, failure: str) -> None:
        self.say("ended", name, failure)
