"""One execution of a study by one driver: what is to do, doing it, tracking it, reporting it."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis.results import read
from harness.cli import DONE, INTERRUPTED, SOME_FAILED
from harness.report import publish
from harness.schedule import executor, feed_executor
from harness.schedule.progress import ProgressView, preparation_view, progress_view
from harness.search.feed import Feed
from harness.search.journal import is_over, told, with_winners
from harness.search.plan import SearchPlan, search_plan
from harness.search.results import find_searches, outcome_lines
from harness.store import Store, only_holder, write_json
from harness.study.plan import Plan, PlannedTrial
from harness.study.recorded_data import remember
from harness.tracking.mlflow.tracker import BackgroundTracker, Tracker
from harness.training.spec import Outcome
from harness.views import measure_all, unmeasured


def describe(plan: Plan, states: dict[str, str]) -> str:
    """What there is to do: trials by state, combinations, resources."""
    study, spec = plan.study, plan.spec
    found = Counter(states.values())
    todo = plan.to_run(states)
    resources = study.resources
    where = (
        "in this process"
        if study.executor == "local"
        else f"Ray, {resources.address or 'this machine'}"
    )
    synthetic = " (synthetic)" if spec.synthetic else ""
    trials = f"{plan.size} trials" + (
        f" and {len(plan.stages)} that they need" if plan.stages else ""
    )
    counts = ", ".join(f"{name} {n}" for name, n in plan.dataset.counts().items())
    before = (
        f" ({sum(states[t.id] in {'started', 'validated'} for t in todo)} of them started before)"
    )
    return "\n".join(
        [
            f"study {study.name}: {len(plan.rows)} rows, {len(study.seeds)} seeds, {trials} on {spec.name}{synthetic}",
            f"  data: {counts}; {spec.task}, {len(spec.classes)} classes; metric: {spec.metric}",
            f"  modalities: {', '.join(f'{m.name} ' + 'x'.join(map(str, m.shape)) for m in spec.modalities)}",
            f"  rows: {', '.join(row.label for row in plan.rows)}; seeds: {', '.join(map(str, study.seeds))}",
            f"  combinations: {', '.join(c.name for c in plan.combinations)}",
            f"  trials: {found['done']} done, {found['stale']} stale, {found['failed']} failed, {len(todo)} to run"
            + (before if found["started"] or found["validated"] else ""),
            *_search_lines(plan),
            f"  executor: {where}; {resources.cpus_per_trial:g} CPU and {resources.gpus_per_trial:g} GPU per trial",
            f"  output: {study.folder}",
        ]
    )


def _search_lines(plan: Plan) -> list[str]:
    """The search: what, how many points and seeds, how far it is."""
    search = search_plan(plan)
    if search is None:
        return []
    over = sum(min(len(points), subject.points) for subject, points in told(search).items())
    head, *rest = search.lines
    points = sum(subject.points for subject in search.subjects)
    return [
        f"  search: {head}",
        *(f"          {line}" for line in rest),
        f"          points: {over} of {points} are told",
    ]


class Session:
    """One execution of a study by one driver."""

    def __init__(self, plan: Plan, store: Store, arguments: Sequence[str]) -> None:
        self.plan, self.store, self.arguments = plan, store, arguments
        self.tracker = Tracker(plan.study, plan) if plan.study.tracking.enabled else None
        self.prepared = False

    def run(self, states: dict[str, str]) -> int:
        """Execute, track and report; the exit code."""
        study = self.plan.study
        with only_holder(
            study.folder / "lock", f"study '{study.name}' is being run by another process"
        ):
            if self._searches():
                if not self._search():
                    return INTERRUPTED
                states = self.plan.states(self.store)
            self._write_plan()
            remember(self.store, self.plan.dataset)
            todo = self._to_run(states)
            if todo and not (self._prepared() and self._execute(todo)):
                return INTERRUPTED
            if self.tracker is not None and self.tracker.up_to_date():
                self.tracker = None
            if study.views:
                self._measure_views()
            failed = publish(self.plan, self.store, self.arguments, self.tracker)
            return SOME_FAILED if failed else DONE

    def _searches(self) -> bool:
        """Whether the study has a search that is not over, or of which ``rerun`` may ask for more."""
        search = search_plan(self.plan)
        return search is not None and (self.plan.study.rerun is not None or not is_over(search))

    def _search(self) -> bool:
        """Search, and go on with the rows that it found; False when the user stopped it."""
        study, search = self.plan.study, SearchPlan(Plan(self.plan.study))
        feed = Feed(search, study.rerun)
        if not feed.over:
            if not self._prepared():
                return False
            run = feed_executor(study.executor)
            if not self._watched(
                feed.remaining, lambda watch: run(feed, study.resources, study.folder, watch), None
            ):
                return False
        for sentence in outcome_lines(find_searches(search.plan, self.store)):
            print(f"search: {sentence}", flush=True)
        self.plan = with_winners(search.plan)
        self.tracker = Tracker(study, self.plan) if study.tracking.enabled else None
        return True

    def _prepared(self) -> bool:
        """Let the dataset decode what trials read, and say what it found; False when the user
        stopped it.
        """
        if self.prepared:
            return True
        try:
            with preparation_view() as progress:
                found = self.plan.dataset.prepare(progress)
        except KeyboardInterrupt:
            print(self._how_to_go_on(), flush=True)
            return False
        for sentence in found:
            print(f"data: {sentence}", flush=True)
        self.prepared = True
        return True

    def _measure_views(self) -> None:
        results = read(self.plan, self.store)
        if unmeasured(results) and self._prepared():
            measure_all(results, lambda text: print(text, flush=True))

    def _to_run(self, states: dict[str, str]) -> list[PlannedTrial]:
        """The trials to run, what they replace set aside."""
        todo = self.plan.to_run(states)
        for trial in todo:
            if states[trial.id] in {"failed", "stale"}:
                self.store.set_aside(trial.id)
        return todo

    def _write_plan(self) -> None:
        trials = [
            {"trial_id": t.id, "label": t.row.label, "seed": t.seed}
            for t in [*self.plan.stages, *self.plan.trials]
        ]
        write_json(
            self.plan.study.folder / "plan.json", {"study": self.plan.study.name, "trials": trials}
        )

    def _execute(self, todo: list[PlannedTrial]) -> bool:
        """Run the trials; False when the user stopped it."""
        study = self.plan.study
        run = executor(study.executor)
        return self._watched(
            len(todo), lambda watch: run(todo, study.resources, study.folder, watch), self.tracker
        )

    def _watched(
        self, trials: int, work: Callable[[Watch], list[Outcome]], tracker: Tracker | None
    ) -> bool:
        """Do the work and show how far it is; False when the user stopped it."""
        started = time.monotonic()
        with progress_view(trials, self.plan.study.train.epochs, self.plan.spec.metric) as view:
            background = BackgroundTracker(tracker, view.note) if tracker is not None else None
            try:
                outcomes = work(Watch(view, background))
            except KeyboardInterrupt:
                view.note(self._how_to_go_on())
                return False
            finally:
                wall = time.monotonic() - started
                if background is not None and not background.close():
                    self.tracker = None
        print(_overhead(wall, outcomes), flush=True)
        return True

    def _how_to_go_on(self) -> str:
        command = shlex.join(["python", "-m", "harness.run", *self.arguments])
        return f"interrupted; finished trials and the last epoch of running ones are kept. To go on: {command}"


@dataclass
class Watch:
    """Passes what happens on to the view and to the tracker."""

    view: ProgressView
    tracker: BackgroundTracker | None

    def started(self, trial: PlannedTrial) -> None:
        self.view.started(trial)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        self.view.epoch(trial, epoch, epochs, value)
        if self.tracker is not None:
            self.tracker.trial_changed(trial)

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        self.view.interrupted(trial, reason)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.view.finished(trial, outcome)
        if self.tracker is not None:
            self.tracker.trial_finished(trial)


def _overhead(wall: float, outcomes: list[Outcome]) -> str:
    """Wall time against the trials' own time."""
    own = sum(outcome.seconds for outcome in outcomes)
    ratio = f" ({own / wall:.2f} trials at work on average)" if wall > 0 else ""
    return f"executed {len(outcomes)} trials: {wall:.1f} s wall time, {own:.1f} s in the trials themselves{ratio}"
