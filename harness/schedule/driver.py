"""The driver of a study: prepares its data, runs what is to be run, and shows how far it is.

It knows trials, the store and executors, and nothing of searches, reports or trackers: who else
wants to hear of trials is a companion that harness/session.py hands in.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial

from harness.dataset import SPLITS, Dataset
from harness.errors import SOME_FAILED, DiskError, UserError, interruption_code
from harness.errors.credentials import masked
from harness.schedule.executor import Executor, ExecutorLost, Observer, TrialSource
from harness.schedule.progress import preparation_view, progress_view
from harness.schedule.registry import executor_of
from harness.store import Store, write_json
from harness.study.arithmetic import arithmetic_lines
from harness.study.config import AUTO
from harness.study.plan import Plan, PlannedTrial
from harness.study.recorded_data import remember
from harness.training.spec import HALTED, Outcome
from harness.training.trial import restore_spec

PLAN = "plan.json"
"""The trials of a study, in its folder."""

CHANGED = (
    "the data changed while they were being prepared, so that the planned trials are not trials on"
    " them; start again"
)

Companion = Callable[[Callable[[str], None]], AbstractContextManager[Observer]]
"""Observes trials beside the progress view while the context is open.

It is called with a function that says one sentence without disturbing the view.
"""


class Stopped(Exception):
    """The work ended before it was done, and the user has been told why and how to go on.

    Finished epochs are kept. ``code`` is the command's exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Driver:
    """Executes trials of one study; its methods raise Stopped when they are ended early.

    ``executor`` is the study's where it has been started already.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        arguments: Sequence[str],
        executor: Executor | None = None,
    ) -> None:
        self.study, self.store, self.arguments = plan.study, store, arguments
        self.metric = plan.spec.metric
        self.executor = executor or executor_of(plan.study)
        self._prepared = False

    def prepare(self, dataset: Dataset) -> None:
        """Let the dataset decode what trials read, once, and print what it found.

        UserError when the data are no longer those that the trials were planned for.
        """
        if self._prepared:
            return
        try:
            planned = dataset.fingerprint()
            with preparation_view() as progress:
                sentences = dataset.prepare(progress)
            if dataset.fingerprint() != planned:
                raise UserError(CHANGED)
            sentences += dataset.group_sentences()
        except KeyboardInterrupt as interrupt:
            raise self._stopped(partial(print, flush=True), "interrupted", interrupt) from None
        for sentence in sentences:
            print(f"data: {sentence}", flush=True)
        _require_samples(dataset)
        self._prepared = True

    def run_plan(
        self, plan: Plan, states: Mapping[str, str], companions: Sequence[Companion] = ()
    ) -> None:
        """Write down the plan and run its trials that the store does not hold yet.

        ``states`` are the plan's; failed and stale trials that run again are set aside before.
        """
        self._write_plan(plan)
        for trial in [*plan.stages, *plan.trials]:
            if states.get(trial.id) in {"done", "stale"} and restore_spec(trial.job):
                print(f"trial {trial.id}: its spec.json was damaged, and is written again")
        todo = plan.to_run(states)
        for trial in todo:
            if states[trial.id] in {"failed", "stale"}:
                self.store.set_aside(trial.id)
        if todo:
            self.prepare(plan.dataset)
        # Behind the preparation, which knows what cannot be read.
        remember(self.store, plan.dataset)
        if todo:
            name = plan.rounds.name if plan.rounds is not None else ""
            self._watched(
                len(todo), lambda observer: self.executor.run(todo, observer), companions, name
            )

    def run_source(self, source: TrialSource, trials: int) -> None:
        """Run what a source hands out, about so many trials."""
        self._watched(trials, lambda observer: self.executor.run_source(source, observer), ())

    def _write_plan(self, plan: Plan) -> None:
        trials = [
            {"trial_id": trial.id, "label": trial.row.label, "seed": trial.seed}
            for trial in [*plan.stages, *plan.trials]
        ]
        path = self.study.folder / PLAN
        write_json(path, {"study": self.study.name, "trials": trials})

    def _watched(
        self,
        trials: int,
        work: Callable[[Observer], list[Outcome]],
        companions: Sequence[Companion],
        name: str = "",
    ) -> None:
        """Do the work, show how far it is, and print what it took.

        ``name`` is what the view calls it, if anything.
        """
        started = time.monotonic()
        with (
            progress_view(trials, self.study.train.epochs, self.metric, name) as view,
            ExitStack() as stack,
        ):
            others = [stack.enter_context(companion(view.note)) for companion in companions]
            try:
                outcomes = work(Observers([view, *others]))
            except KeyboardInterrupt as interrupt:
                raise self._stopped(view.note, "interrupted", interrupt) from None
            except ExecutorLost as lost:
                raise self._stopped(view.note, str(lost)) from None
            wall = time.monotonic() - started
        print(_overhead(wall, outcomes), flush=True)

    def _stopped(
        self, say: Callable[[str], None], why: str, interrupt: KeyboardInterrupt | None = None
    ) -> Stopped:
        """Say why the work ended and how to go on; what to raise."""
        command = masked(shlex.join(["python", "-m", "harness.run", *self.arguments]))
        # A terminal that was closed takes no sentence.
        with suppress(OSError):
            say(
                f"{why}; finished trials and the last epoch of running ones are kept. "
                f"To go on: {command}"
            )
        return Stopped(interruption_code(interrupt) if interrupt else SOME_FAILED)


class Observers:
    """Passes what happens on to several observers, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def started(self, trial: PlannedTrial) -> None:
        for observer in self.observers:
            observer.started(trial)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        for observer in self.observers:
            observer.epoch(trial, epoch, epochs, value)

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        for observer in self.observers:
            observer.interrupted(trial, reason)

    def warned(self, sentence: str) -> None:
        for observer in self.observers:
            observer.warned(sentence)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        """DiskError, which ends the work, when the trial could not write what it had to."""
        if outcome.status == HALTED:
            raise DiskError(outcome.reason)
        for observer in self.observers:
            observer.finished(trial, outcome)


def _require_samples(dataset: Dataset) -> None:
    """UserError where a split of the prepared data has no sample, before any trial starts."""
    counts = dataset.counts()
    empty = [name for name in SPLITS if not counts[name]]
    if empty:
        raise UserError(
            f"dataset {dataset.name} has no sample left in {' and '.join(empty)}: all of them were"
            " left out, as said above; repair or restore their files"
        )


def describe(plan: Plan, states: Mapping[str, str], search: Sequence[str] = ()) -> str:
    """What there is to do: trials by state, combinations, resources; ``search``: lines about it."""
    study, spec = plan.study, plan.spec
    synthetic = " (synthetic)" if spec.synthetic else ""
    counts = ", ".join(f"{name} {n}" for name, n in plan.dataset.counts().items())
    modalities = ", ".join(f"{m.name} {'x'.join(map(str, m.shape))}" for m in spec.modalities)
    rows, seeds = ", ".join(row.label for row in plan.rows), ", ".join(map(str, study.seeds))
    arithmetic = arithmetic_lines(study, plan.rows, plan.device)
    lines = [
        f"study {study.name}: {len(plan.rows)} rows, {len(study.seeds)} seeds, "
        f"{_trials(plan)} on {spec.name}{synthetic}",
        f"  data: {counts}; {spec.task}, {spec.predicted}; metric: {spec.metric}",
        f"  modalities: {modalities}",
        f"  rows: {rows}; seeds: {seeds}",
        *(f"  {sentence}" for sentence in plan.left_out),
        f"  combinations: {', '.join(c.name for c in plan.combinations)}",
        f"  trials: {_states(plan, states)}",
        *search,
        *(f"  precision: {line}" for line in arithmetic),
        f"  executor: {executor_of(study).where}; {_per_trial(plan)} per trial",
        *_without_graphs(plan),
        f"  output: {study.folder}",
    ]
    return "\n".join(lines)


def _without_graphs(plan: Plan) -> list[str]:
    """A line where CUDA graphs are asked for and cannot be."""
    on_cpu = plan.device == "cpu" and not plan.decided_by_cluster
    if not (plan.study.resources.cuda_graph and on_cpu):
        return []
    return ["  resources.cuda_graph: trials train on a CPU, which has no graphs: by plain steps"]


def _per_trial(plan: Plan) -> str:
    resources = plan.study.resources
    if plan.decided_by_cluster:
        return (
            f"{resources.cpus:g} CPU, and where the cluster has GPUs a share of one, which a probe"
            " decides,"
        )
    if resources.gpus_per_trial == AUTO and plan.device == "cuda":
        return f"{resources.cpus:g} CPU and a share of a GPU, which a probe decides,"
    return f"{resources.cpus:g} CPU and {resources.gpus:g} GPU"


def _trials(plan: Plan) -> str:
    needed = f" and {len(plan.stages)} that they need" if plan.stages else ""
    return f"{plan.size} trials{needed}"


def _states(plan: Plan, states: Mapping[str, str]) -> str:
    """How many trials are in which state, and how many of those to run were started before."""
    count, todo = Counter(states.values()), plan.to_run(states)
    text = (
        f"{count['done']} done, {count['stale']} stale, {count['failed']} failed, "
        f"{len(todo)} to run"
    )
    if not (count["started"] or count["validated"]):
        return text
    before = sum(states[trial.id] in {"started", "validated"} for trial in todo)
    return f"{text} ({before} of them started before)"


def _overhead(wall: float, outcomes: Sequence[Outcome]) -> str:
    """Wall time against the trials' own time."""
    own = sum(outcome.seconds for outcome in outcomes)
    ratio = f" ({own / wall:.2f} trials at work on average)" if wall > 0 else ""
    return (
        f"executed {len(outcomes)} trials: {wall:.1f} s wall time, "
        f"{own:.1f} s in the trials themselves{ratio}"
    )
