"""What the driver costs as a study grows: trials that take no time of this machine, on 64 GPUs.

    python -m tests.benchmarks.driver_scaling [TRIALS ...]

The trials are simulated: an executor with a clock of its own, 64 rooms in it, and trials of a
minute with 30 epochs, each of which ends with a real record in the store. What the driver does
between (next trial, progress, plan, states) is timed and moves that clock, for a room stands empty
meanwhile. Then MLflow and the report take what the store has. Ray and Tune are not in it.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from harness.reporting.publish import make_report
from harness.schedule.driver import Driver
from harness.schedule.executor import Executor, Observer, TrialSource
from harness.schedule.on_ray.source import payload
from harness.store import Json, Store, write_atomically
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.tracking.mlflow.tracker import MLflowTracker
from harness.training.spec import Job, Outcome
from harness.training.trial import run_trial
from tests.benchmarks._paired import print_table

GPUS, EPOCHS, SECONDS = 64, 30, 60.0
SIZES = (250, 500, 1000, 2000)
METHODS = ("sf_md", "hemis", "dmrnet", "lcr")
RECIPE = ("dataset.limit=64", f"train.epochs={EPOCHS}", "train.batch_size=32", "backbone.width=4")
HEAD = (
    *("trials", "plan and states, ms a trial", "driver, CPU ms a trial", "MLflow, CPU ms a trial"),
    *("memory, MB", "report, CPU s", "GPUs at work, %"),
)


class Template:
    """A trial that was trained, whose files stand for those of every other trial."""

    def __init__(self, job: Job) -> None:
        assert run_trial(job).status == "done"
        self.files = Store(Path(job.store)).trial(job.spec.id)
        record = self.files.record()
        assert record is not None
        self.record: Json = record
        self.history = self.files.history()

    def finish(self, trial: PlannedTrial) -> None:
        """Write what a trial leaves, with scores of its own, so that there are differences."""
        found = Store(Path(trial.job.store)).trial(trial.id)
        found.path.mkdir(parents=True)
        found.save_spec(asdict(trial.job.spec), trial.job.label)
        found.save_history(self.history)
        os.link(self.files / "weights.pt", found / "weights.pt")
        noise = np.random.default_rng(int(trial.id[:8], 16))
        arrays = self.files.scores()
        arrays["test"] = arrays["test"] + noise.normal(0, 1, arrays["test"].shape).astype("f4")
        write_atomically(found / "scores.npz", lambda stream: np.savez(stream, **arrays))
        files = found.describe_files("scores.npz", "weights.pt")
        own = {"trial_id": trial.id, "spec": asdict(trial.job.spec), "files": files}
        own |= {"code": trial.job.code()}
        held = {k: v for k, v in self.record.items() if k not in ("sha256", "curve_sha256")}
        found.save_record("record.json", held | own)


class Simulated(Executor):
    """Trials that end by a clock of this executor's own; see the module's docstring."""

    where = "in a simulation"

    def __init__(self, plan: Plan, template: Template) -> None:
        super().__init__(plan.study.resources, plan.study.folder)
        self.template = template
        self.now = self.busy = self.cpu = 0.0
        self.lengths: dict[str, float] = {}

    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        """Run what the source hands out, 64 at once."""
        events: list[tuple[float, int, int, PlannedTrial]] = []
        outcomes, number, length = [], 0, np.random.default_rng(0)
        while True:
            while len(events) < GPUS:
                with self._timed():
                    trial = source.next(observer)
                    if trial is None:
                        break
                    payload(trial, "code")
                    observer.started(trial)
                seconds = SECONDS * float(length.uniform(0.7, 1.3))
                self.busy += seconds
                number += 1
                heapq.heappush(events, (self.now + seconds / EPOCHS, number, 1, trial))
                self.lengths[trial.id] = seconds
            if not events:
                return outcomes
            at, order, epoch, trial = heapq.heappop(events)
            self.now = max(self.now, at)
            seconds = self.lengths[trial.id]
            with self._timed():
                observer.epoch(trial, epoch - 1, EPOCHS, 50.0)
            if epoch < EPOCHS:
                heapq.heappush(events, (at + seconds / EPOCHS, order, epoch + 1, trial))
                continue
            self.template.finish(trial)
            outcome = Outcome(trial.id, "done", seconds=seconds)
            with self._timed():
                observer.finished(trial, outcome)
                source.ended(trial)
            outcomes.append(outcome)

    @property
    def utilisation(self) -> float:
        """The share of the rooms' time in which a trial was in them."""
        return self.busy / (GPUS * self.now)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """What the driver does: its CPU time, and the clock's while rooms wait for it."""
        started = time.process_time()
        try:
            yield
        finally:
            took = time.process_time() - started
            self.cpu += took
            self.now += took


def measured(trials: int, output: Path) -> list[str]:
    """A row of the table: a study of so many trials."""
    seeds = f"seeds=[{','.join(map(str, range(trials // len(METHODS))))}]"
    given = [f"methods=[{','.join(METHODS)}]", seeds, f"output={output}", *RECIPE]
    template = Template(Plan(load_study([*given, f"output={output / 'template'}"])).trials[0].job)
    with contextlib.redirect_stdout(io.StringIO()):
        started = time.process_time()
        plan = Plan(load_study(given))
        store = Store.below(plan.study.output)
        states = plan.states(store)
        planned = time.process_time() - started
        driver, simulated = Driver(plan, store, given), Simulated(plan, template)
        driver.executor = simulated
        driver.run_plan(plan, states)
        tracker = MLflowTracker(plan)
        tracker.open()
        started = time.process_time()
        for trial in plan.trials:
            tracker.mirror_trial(trial)
        tracked = time.process_time() - started
        started = time.process_time()
        make_report([plan], store).write()
        reported = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = [1000 * seconds / trials for seconds in (planned, simulated.cpu, tracked)]
    texts = [f"{found:.2f}" if found < 10 else f"{found:.0f}" for found in each]
    share = f"{100 * simulated.utilisation:.1f}"
    return [str(trials), *texts, f"{memory:.0f}", f"{reported:.1f}", share]


def main(sizes: Sequence[int] = SIZES) -> None:
    """Print the table, each size in a process of its own, for memory is a process's largest."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, "-m", __spec__.name, str(size), output]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(done.stdout.split())
    print_table("The driver of a study on 64 simulated GPUs, trials of a minute", HEAD, rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(*measured(int(sys.argv[1]), Path(sys.argv[2])))
    else:
        main([int(size) for size in sys.argv[1:]] or SIZES)
