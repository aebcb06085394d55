"""Trials evaluated one after the other in this process, or several at once in processes of their
own, as many as ``harness.run`` trains at once on this machine.

A trial is one process's at a time, and each condition's evidence is written whole: how many work
changes no bit of it. Workers end with this process, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from harness.errors import DiskError
from harness.robust.catalogue import Condition
from harness.robust.evaluation import INPUTS_KEPT
from harness.robust.evidence import code_of
from harness.robust.progress import Steps
from harness.robust.trial_evaluation import FULL, Task, evaluate_tasks, evaluate_trial
from harness.robust.work import Work
from harness.schedule.forecast import slots
from harness.schedule.on_ray.executor import RESOURCES
from harness.schedule.packing import settled
from harness.store import read_json
from harness.study.config import AUTO, ResourcesConfig, Study

END_SECONDS = 10.0
"""How long a worker may take to end when it is asked to."""


@dataclass
class Evaluated:
    """What became of evaluations; hears of them, and shows steps.

    Attributes:
        steps: what the user sees of it.
        conditions: how many were evaluated now.
        equal: how many clean evaluations gave the stored evidence again, bit for bit.
        unequal: trial id -> the largest difference of a score where one did not.
        failed: one sentence per trial that could not be evaluated to its end.
    """

    steps: Steps
    conditions: int = 0
    equal: int = 0
    unequal: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def began(self, name: str) -> None:
        """A trial is taken up."""
        self.steps.begin(name)

    def step(self) -> None:
        """One batch under one condition is done."""
        self.steps.step()

    def said(self, sentence: str) -> None:
        """Something that the user should know meanwhile."""
        self.steps.say(sentence)

    def kept(self) -> None:
        """The evidence of one condition is in the store."""
        self.conditions += 1

    def compared(self, trial_id: str, difference: float) -> None:
        """How far scores without corruption are from those in the store, at most."""
        if difference:
            self.unequal[trial_id] = difference
        else:
            self.equal += 1

    def ended(self, name: str, failure: str) -> None:
        """A trial is evaluated, or could not be evaluated to its end, for this reason."""
        self.steps.end(name)
        if failure:
            self.failed.append(f"{name}: {failure}")


def workers_for(work: Work) -> int:
    """How many trials are evaluated at once on this machine: as many as it trains, if there are.

    On a cluster, too, only the machine that the command runs on evaluates.
    """
    study = work.results.plan.study
    on_gpu = any(done.trial.job.device == "cuda" for done, _ in work.left)
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    trials = sum(bool(todo) for _, todo in work.left)
    return max(1, min(trials, slots(_resources(study), device, study.executor)))


def _resources(study: Study) -> ResourcesConfig:
    """The study's resources; how many share a GPU under ``auto`` is what its training found."""
    found = (read_json(study.folder / RESOURCES) or {}).get("trials_per_gpu")
    gpus = torch.cuda.device_count()
    if study.resources.gpus_per_trial != AUTO or not found or not gpus:
        return study.resources
    return settled(study.resources, int(found), os.cpu_count() or 1, gpus)


def run(work: Work, steps: Steps, workers: int = 1) -> Evaluated:
    """Evaluate what is left, so many trials at once; one in this process.

    DiskError where nothing can be written; KeyboardInterrupt leaves no worker behind.
    """
    found = Evaluated(steps)
    tasks = [
        Task(done.trial.job, done.record, code_of(done.trial.job))
        for done, todo in work.left
        if todo
    ]
    if workers > 1:
        _Pool(work.wanted, workers, found).run(tasks)
    else:
        for task in tasks:
            evaluate_trial(task, work.inputs, work.wanted, found)
    return found


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    number: int
    task: Task


class _Pool:
    """Hands tasks to so many processes; one that dies is replaced as long as there are tasks."""

    def __init__(self, wanted: Sequence[Condition], workers: int, found: Evaluated) -> None:
        self.wanted, self.found = wanted, found
        self.processes = multiprocessing.get_context("spawn")
        self.free = deque(range(workers))
        self.limit = INPUTS_KEPT // workers
        self.busy: dict[Connection, _Worker] = {}

    def run(self, tasks: Sequence[Task]) -> None:
        """Until every task has ended."""
        waiting = deque(tasks)
        try:
            while waiting or self.busy:
                while waiting and self.free:
                    self._start(self.free.popleft(), waiting.popleft())
                for link in wait(list(self.busy)):
                    assert isinstance(link, Connection)
                    self._hear(self.busy[link], waiting)
        finally:
            # All are asked before one is waited for.
            for worker in self.busy.values():
                worker.process.terminate()
            for worker in self.busy.values():
                _end(worker)

    def _start(self, number: int, task: Task) -> None:
        """A new worker, which begins with this task."""
        ours, theirs = self.processes.Pipe()
        process = self.processes.Process(
            target=evaluate_tasks, args=(theirs, number, self.wanted, self.limit), daemon=True
        )
        with _without_ctrl_c():
            process.start()
        theirs.close()
        self.busy[ours] = _Worker(process, ours, number, task)
        _tell(ours, task)

    def _hear(self, worker: _Worker, waiting: deque[Task]) -> None:
        try:
            word, *facts = worker.link.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        if word == FULL:
            raise DiskError(*facts)
        getattr(self.found, word)(*facts)
        if word != "ended":
            return
        if waiting:
            worker.task = waiting.popleft()
            _tell(worker.link, worker.task)
        else:
            self._leave(worker)

    def _lost(self, worker: _Worker) -> None:
        self._leave(worker)
        code = worker.process.exitcode
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        self.found.ended(
            worker.task.job.name,
            f"its worker died ({how}; killed, out of memory, or ended by the method's code?); what"
            " it had evaluated is kept, and the same command goes on with the rest",
        )

    def _leave(self, worker: _Worker) -> None:
        del self.busy[worker.link]
        self.free.append(worker.number)
        _end(worker)


def _end(worker: _Worker) -> None:
    """A worker whose connection is closed ends by itself, unless it cannot."""
    worker.link.close()
    worker.process.join(END_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _tell(link: Connection, task: Task) -> None:
    # A worker that has died meanwhile is noticed when it is heard.
    with suppress(OSError):
        link.send(task)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is started inside never hears Ctrl-C, which a terminal sends to all: this process ends
    it. What arrives meanwhile is heard afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
