"""How long a study will take on this machine: the last lines of `harness.run --dry-run`.

A trial takes what finished trials of its kind took, as the store says, else what a probe measures
(probe.py). How many run at once, what starts before them and what follows them is added. Nothing is
written below the output.
"""

from __future__ import annotations

import heapq
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from harness.dataset import Dataset
from harness.errors import UserError
from harness.schedule.executor import waves
from harness.schedule.probe import Measured, measure
from harness.store import Json, Store, canonical_json
from harness.study.config import ResourcesConfig
from harness.study.plan import Plan, PlannedTrial
from harness.training.executed_code import environment
from harness.training.recipe import TrainConfig
from harness.training.spec import Job

RAY, END = 4.0, 1.8
"""What comes before the first trial with Ray, and behind the last, in units of the time in which a
new Python imports what a worker imports. Both are imports and processes that start, so that a slow
or busy machine needs longer for all of it.
"""

RAY_WAITS = 4.0
"""Seconds in which Ray waits for its own servers, whatever the machine is. All three were fitted to
runs on two cores that did nothing else.
"""

IMPORTS = "import harness.schedule.on_ray.nodes.worker"
MACHINE = ("device", "device_name", "cpus", "platform")
"""What of a record's environment must be this machine's for its seconds to say something here."""

LEAST_TO_PREPARE = 64
Say = Callable[[str], None]


@dataclass
class _Costs:
    """Seconds of each job, None where they are not known; kinds from the store and probed ones."""

    seconds: list[float | None] = field(default_factory=list)
    stretch: float | None = None
    """Seconds of the clock for one of work, as the probe found it."""
    known: int = 0
    probed: int = 0
    problems: list[str] = field(default_factory=list)


def forecast_lines(
    plan: Plan, store: Store, todo: Sequence[PlannedTrial], needed: Sequence[PlannedTrial], say: Say
) -> list[str]:
    """How long these trials will take, with all that belongs to them, in lines.

    Args:
        todo: the trials to run.
        needed: trials that they may need, to be run or not.
        say: hears how far the probe is, which takes seconds for each kind of trial that is new.
    """
    if not todo:
        return []
    say("  measuring ...")
    asked_gpu = todo[0].job.device == "cuda"
    device = "cuda" if asked_gpu and torch.cuda.is_available() else "cpu"
    jobs = [replace(trial.job, device=device) for trial in todo]
    others = {trial.id: replace(trial.job, device=device) for trial in [*needed, *todo]}
    at_once = slots(plan.study.resources, device, plan.study.executor)
    imported = _imports()
    costs = _costs(plan.dataset, store, jobs, others, at_once, say)
    unit = imported.clock if costs.stretch is None else imported.work * costs.stretch
    of = {
        trial.id: cost for trial, cost in zip(todo, costs.seconds, strict=True) if cost is not None
    }
    # Points of a search stand here under one id, as often as they will be trained.
    seconds = [cost for cost in costs.seconds if cost is not None]
    if not seconds:
        return [f"  time: not known: {'; '.join(costs.problems)}"]
    work = sum(
        makespan([of[trial.id] for trial in wave if trial.id in of], at_once)
        for wave in waves(todo)
    )
    before = RAY_WAITS + unit * RAY if plan.study.executor == "ray" else 0.0
    prepare = _preparation(plan.dataset, jobs[0])
    wall = before + prepare + work + unit * END
    parts = [f"{len(seconds)} trials of {_range(seconds)}, {at_once} at once: {spoken(work)}"]
    if prepare:
        parts.insert(0, f"the data: {spoken(prepare)}")
    parts.append(f"start, report and tracking: {spoken(before + unit * END)}")
    lines = [f"  time: about {spoken(wall)} on this machine ({'; '.join(parts)})"]
    if asked_gpu and device == "cpu":
        lines[0] = lines[0].replace("on this machine", "on this machine's CPU")
        lines.append("        a GPU was not measured, because there is none here")
    elif asked_gpu:
        share = plan.study.resources.gpus or 1.0
        lines.append(f"        {sum(seconds) * share / 3600:.3g} GPU hours")
    lines.append(f"        from {_sources(costs)}")
    if costs.problems:
        left = len(todo) - len(seconds)
        lines.append(f"        {left} more trials are not counted: {'; '.join(costs.problems)}")
    if plan.study.resources.address is not None:
        lines.append("        the cluster's other machines are not counted")
    if plan.decided_by_cluster:
        lines.append("        if it has GPUs, trials train there: none was measured")
    return lines


def _sources(costs: _Costs) -> str:
    kinds = []
    if costs.known:
        kinds.append(f"finished trials of {costs.known} kinds")
    if costs.probed:
        kinds.append(f"a probe of {costs.probed} kinds, some twenty steps each")
    return " and ".join(kinds)


# ---------------------------------------------------------------------- what a trial takes


def _costs(
    dataset: Dataset,
    store: Store,
    jobs: Sequence[Job],
    others: Mapping[str, Job],
    at_once: int,
    say: Say,
) -> _Costs:
    past, counts = _past(store, jobs[0].device), dataset.counts()
    kinds = {kind(asdict(job.spec)): job for job in jobs}
    new = {name: job for name, job in kinds.items() if name not in past}
    found = _probed(new, others, at_once, say)
    # Of all of them: how busy the machine is changes from second to second.
    clock, work = (sum(getattr(one, name) for one in found.values()) for name in ("clock", "work"))
    stretch = max(1.0, clock / work) if work else 1.0
    costs = _Costs(known=len(kinds) - len(new), probed=len(new))
    costs.stretch = stretch if work else None
    for name, measured in found.items():
        if measured.problem:
            costs.problems.append(f"{new[name].label} could not be tried ({measured.problem})")
    for job in jobs:
        name = kind(asdict(job.spec))
        whole: float | None = past.get(name)
        if whole is None and not found[name].problem:
            whole = found[name].seconds(counts, TrainConfig(**job.spec.train), stretch)
        costs.seconds.append(None if whole is None else whole * _left(store, job))
    return costs


def _left(store: Store, job: Job) -> float:
    """The share of a trial that an interrupted start of it has left; 1 for one that runs again."""
    trial = store.trial(job.spec.id)
    if trial.record() is not None or trial.failure() is not None:
        return 1.0
    return 1 - min(1.0, len(trial.history()) / TrainConfig(**job.spec.train).epochs)


def kind(spec: Json) -> str:
    """What two trials have in common that take equally long: all but their random streams, and the
    one combination that each is trained on.
    """
    same = {key: spec[key] for key in ("backbone", "method", "variant", "hparams", "missing")}
    same |= {"dataset": spec["dataset"], "evaluation": spec["evaluation"]}
    train = spec["train"] | {"combination": spec["train"]["combination"] is not None}
    return canonical_json(same | {"train": train})


def _past(store: Store, device: str) -> dict[str, float]:
    """Seconds of finished trials of each kind, the median, on a machine like this one."""
    here = environment(device)
    found: dict[str, list[float]] = {}
    for trial_id in store.ids():
        trial = store.trial(trial_id)
        record = trial.record()
        if record is None or trial.origin() is not None:
            continue
        if any(record["environment"].get(key) != here[key] for key in MACHINE):
            continue
        # One that was interrupted has trained in several processes.
        seconds = max(record["seconds"], record["train_seconds"])
        found.setdefault(kind(record["spec"]), []).append(float(seconds))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _probed(
    new: Mapping[str, Job], others: Mapping[str, Job], at_once: int, say: Say
) -> dict[str, Measured]:
    """A probe of each kind, as many beside each other as trials will be."""
    if not new:
        return {}
    found: dict[str, Measured] = {}
    processes = ProcessPoolExecutor(min(at_once, len(new)), get_context("spawn"))
    try:
        asked = {}
        for name, job in new.items():
            needed = [(need, others[trial_id]) for need, trial_id in job.spec.needs.items()]
            asked[processes.submit(measure, job, needed)] = name
        for answer in as_completed(asked):
            name = asked[answer]
            found[name] = answer.result()
            say(f"        {len(found)} of {len(new)}: {new[name].label}")
    finally:
        # After Ctrl-C nothing more is begun.
        processes.shutdown(cancel_futures=True)
    return found


# ---------------------------------------------------------------------- what all trials take


def slots(resources: ResourcesConfig, device: str, executor: str) -> int:
    """How many trials run at once on this machine, at least one."""
    if executor != "ray":
        return 1
    rooms = [(os.cpu_count() or 1) / resources.cpus]
    if device == "cuda":
        # How many share a GPU under `auto` is measured when the study runs: one each is the least.
        rooms.append(torch.cuda.device_count() / (resources.gpus or 1.0))
    if resources.max_concurrent is not None:
        rooms.append(resources.max_concurrent)
    return max(1, math.floor(min(rooms) + 1e-9))


def makespan(seconds: Sequence[float], at_once: int) -> float:
    """When the last of these trials ends, each begun in turn as soon as there is room.

    >>> makespan([3.0, 1.0, 1.0, 4.0], 2)
    6.0
    """
    ends = [0.0] * at_once
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


@dataclass(frozen=True)
class _Imported:
    clock: float
    work: float


def _imports() -> _Imported:
    """Seconds in which a new Python imports what a worker imports: of the clock, and of a CPU."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Imported(time.monotonic() - started, work)


def _preparation(dataset: Dataset, job: Job) -> float:
    """Seconds of decoding the data, by a part of them; 0 where they are prepared."""
    try:
        dataset.load("train")
    except UserError:
        pass
    else:
        return 0.0
    with TemporaryDirectory(prefix="harness-probe-") as folder:
        facts = job.spec.dataset | {"limit": min(LEAST_TO_PREPARE, job.spec.dataset["limit"] or 64)}
        some = replace(job, spec=replace(job.spec, dataset=facts), cache=str(Path(folder)))
        part = some.open_dataset()
        started = time.monotonic()
        part.prepare(lambda name, done, total: None)
        took = time.monotonic() - started
        return took * sum(dataset.counts().values()) / sum(part.counts().values())


# ---------------------------------------------------------------------- words


def spoken(seconds: float) -> str:
    """A duration as people say it.

    >>> spoken(48.3), spoken(400), spoken(9000), spoken(500_000)
    ('48 s', '7 min', '2.5 h', '5.8 days')
    """
    for unit, name in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.2g} {name}"
    return f"{seconds / 60:.0f} min" if seconds >= 180 else f"{seconds:.0f} s"


def _range(seconds: Sequence[float]) -> str:
    least, most = min(seconds), max(seconds)
    return spoken(most) if spoken(least) == spoken(most) else f"{spoken(least)} to {spoken(most)}"
