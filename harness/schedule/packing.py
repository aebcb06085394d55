"""How many trials share a GPU where ``resources.gpus_per_trial=auto``: what a short probe measures,
and what follows from it.

The probe trains the first trial for a few steps in one process, then in two at once, then in four,
and so on, as long as they fit and more get done together. schedule/on_ray/gpus.py calls it: on one
machine in the process that Ray runs in, on a cluster in a task on a node with a GPU. Workers are
processes of their own, as trials are.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from harness.errors import one_line
from harness.store import Store
from harness.study.config import AUTO, ResourcesConfig
from harness.training.spec import Job
from harness.training.trial import deterministic, prepared, trainer_of

STEPS = 20
MOST = 16
"""Trials that share a GPU at most."""

FILLED = 0.8
"""Share of a GPU's memory that trials may take: other methods need more than the probed one."""

GAIN = 1.1
"""Twice as many trials must get at least so many times as much done."""

CONTEXT_BYTES = 600 << 20
"""What a process takes of a GPU beside its tensors."""

PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Packing:
    """What the probe found.

    Attributes:
        memory: bytes that one trial takes.
        total: bytes that the device has.
        seconds: number of trials at once -> seconds of a step of each.
    """

    memory: int
    total: int
    seconds: Mapping[int, float]


def most_that_fit(memory: int, total: int, cores: int) -> int:
    """How many trials fit a GPU and its share of the cores, at least 1."""
    return max(1, min(MOST, cores, int(FILLED * total / max(1, memory))))


def fastest(seconds: Mapping[int, float]) -> int:
    """The number of trials at once that gets most done, by seconds of a step of each.

    A larger number only where it gets GAIN times as much done as the chosen smaller one.
    """
    chosen, *larger = sorted(seconds)
    for count in larger:
        if count / seconds[count] >= GAIN * chosen / seconds[chosen]:
            chosen = count
    return chosen


def settled(resources: ResourcesConfig, trials: int, cpus: float, gpus: float) -> ResourcesConfig:
    """The resources with numbers: so many trials share each of a machine's GPUs."""
    per_trial = min(1.0, cpus / (gpus * trials)) if gpus else 1.0
    return replace(
        resources,
        gpus_per_trial=1.0 / trials,
        cpus_per_trial=(
            max(0.01, int(100 * per_trial) / 100)
            if resources.cpus_per_trial == AUTO
            else resources.cpus_per_trial
        ),
    )


def sentence(measured: Packing, trials: int) -> str:
    """What was chosen and why, for the user."""
    alone = 1.0 / measured.seconds[1]
    rates = ", ".join(
        f"{count}: {count / seconds / alone:.2f}" for count, seconds in measured.seconds.items()
    )
    return (
        f"{trials} trial{'s share' if trials > 1 else ' has'} a GPU: one takes"
        f" {measured.memory / 2**30:.1f} of {measured.total / 2**30:.1f} GiB and"
        f" {1000 * measured.seconds[1]:.1f} ms a step; done by so many at once, times what one"
        f" does: {rates}"
    )


def probe(job: Job, cores: int, steps: int = STEPS, most: int = MOST) -> Packing:
    """Train a trial for a few steps, alone and packed, on its device.

    ``cores`` is how many trials the cores of one GPU hold. RuntimeError when it cannot be trained
    alone.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(job, steps))]
        seconds = {1: _together(workers)[0]}
        memory, total = _ask(workers[0], "memory")
        fits = min(most, most_that_fit(memory, total, cores))
        while 2 * len(workers) <= fits:
            before = len(workers)
            try:
                workers += [stack.enter_context(_worker(job, steps)) for _ in range(before)]
                took = _together(workers)
            except RuntimeError:  # so many do not fit, whatever was expected
                break
            seconds[len(workers)] = sum(took) / len(took)
            if fastest(seconds) != len(workers):
                break
    return Packing(memory, total, seconds)


def choose(
    resources: ResourcesConfig,
    job: Job,
    cpus: float,
    gpus: float,
    measure: Callable[[Job, int], Packing] = probe,
) -> tuple[ResourcesConfig, str, dict[str, Any]]:
    """The resources for a machine's CPUs and GPUs, a sentence on them, and what to write down.

    One trial a GPU where the probe fails, which the sentence says. ``measure`` is the probe, given
    the job and how many trials the cores of one GPU hold.
    """
    held = int(cpus / max(1.0, gpus) / resources.cpus)
    try:
        measured = measure(job, held)
    except Exception as error:
        said = f"1 trial has a GPU: the probe of how many can share one failed ({one_line(error)})"
        return settled(resources, 1, cpus, gpus), said, {"trials_per_gpu": 1, "failed": said}
    trials = fastest(measured.seconds)
    facts = {
        "trials_per_gpu": trials,
        "memory_bytes": measured.memory,
        "total_bytes": measured.total,
        "seconds_per_step": {str(count): value for count, value in measured.seconds.items()},
    }
    return settled(resources, trials, cpus, gpus), sentence(measured, trials), facts


# ---------------------------------------------------------------------- the processes


@contextmanager
def _worker(job: Job, steps: int) -> Iterator[Connection]:
    """A process that trains ``steps`` steps whenever it is told to; it ends with the context."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_work, args=(theirs, job, steps), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        process.join()


def _together(workers: Sequence[Connection]) -> list[float]:
    """Seconds of a step of each worker, while all train."""
    for worker in workers:
        worker.send("steps")
    return [float(_answer(worker)) for worker in workers]


def _ask(worker: Connection, what: str) -> Any:
    worker.send(what)
    return _answer(worker)


def _answer(worker: Connection) -> Any:
    try:
        if not worker.poll(PATIENCE_SECONDS):
            raise RuntimeError(f"a trial did not take its steps within {PATIENCE_SECONDS:g} s")
        word, value = worker.recv()
    except (EOFError, OSError) as error:
        raise RuntimeError("the process of a trial died") from error
    if word == "failed":
        raise RuntimeError(value)
    return value


class _Nothing:
    def save(self, state: dict[str, Any]) -> None: ...

    def load(self) -> None: ...


def _work(link: Connection, job: Job, steps: int) -> None:
    """What a worker does until it is killed."""
    try:
        trial = Store(Path(job.store)).trial(job.spec.id)
        with deterministic(job.device):
            run = prepared(job, trial)
            trainer = trainer_of(run, _Nothing(), lambda report: None)
            if job.test:
                # It stays on the device beside the others from the first trial on.
                run.split("test")
            while True:
                if link.recv() == "memory":
                    link.send(("memory", _memory(trainer.device)))
                else:
                    link.send(("seconds", trainer.rehearse(steps)))
    except EOFError:
        return
    except Exception as error:
        link.send(("failed", one_line(error)))


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes that this process took at most, and that the device has."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return torch.cuda.max_memory_reserved(device) + CONTEXT_BYTES, total
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
