"""One execution of a study: search, train what is missing, measure, report, mirror.

harness/run.py calls it. The driver runs the trials; what comes before and after them is composed
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.results import read
from harness.analysis.rounds.looks import with_rounds
from harness.errors import DONE, SOME_FAILED
from harness.paper.representations import measure_all, unmeasured
from harness.reporting.publish import make_report, show_report
from harness.reporting.sections.rounds import look_lines
from harness.schedule.driver import Driver, Stopped
from harness.schedule.executor import Executor
from harness.search.feed import SearchFeed
from harness.search.journal import is_over, with_winners
from harness.search.plan import SearchPlan, search_plan
from harness.search.results import find_searches, outcome_lines
from harness.store import Store, only_holder
from harness.study.plan import Plan
from harness.tracking.background import BackgroundTracker
from harness.tracking.mirror import mirror_or_warn
from harness.tracking.registry import tracked_runs, tracker_of
from harness.tracking.tracker import Tracker


class Session:
    """One execution of a study by one process; ``executor``: see ``Driver``."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        arguments: Sequence[str],
        executor: Executor | None = None,
    ) -> None:
        self.plan, self.store, self.arguments = plan, store, arguments
        self.driver = Driver(plan, store, arguments, executor)

    def run(self, states: Mapping[str, str]) -> int:
        """Do what is left of the study, whose trials have these states; the exit code."""
        study = self.plan.study
        with only_holder(
            study.folder / "lock", f"study '{study.name}' is being run by another process"
        ):
            try:
                if self._searches():
                    self._search()
                    self.plan = with_rounds(self.plan, self.store)
                    states = self.plan.states(self.store)
                tracker = self._train(states)
                if study.views:
                    self._measure_views()
            except Stopped as stopped:
                return stopped.code
            failed = publish(self.plan, self.store, self.arguments, tracker)
            return SOME_FAILED if failed else DONE

    def _searches(self) -> bool:
        """Whether the search is not over, or ``rerun`` may ask for more of it."""
        search = search_plan(self.plan)
        return search is not None and (self.plan.study.rerun is not None or not is_over(search))

    def _search(self) -> None:
        """Search, and go on with the rows that it found."""
        search = SearchPlan(Plan(self.plan.study))
        feed = SearchFeed(search, self.plan.study.rerun)
        if not feed.over:
            self.driver.prepare(self.plan.dataset)
            self.driver.run_source(feed, feed.remaining)
        for sentence in outcome_lines(find_searches(search.plan, self.store)):
            print(f"search: {sentence}", flush=True)
        self.plan = with_winners(search.plan)

    def _train(self, states: Mapping[str, str]) -> Tracker | None:
        """Run the trials that are left, round by round where seeds come in rounds.

        Returns the tracker that the study is still to be mirrored to.
        """
        mirrored = self._run_plan(states)
        while self._goes_on():
            mirrored = self._run_plan(self.plan.states(self.store)) and mirrored
        if not self.plan.study.tracking.enabled or not mirrored:
            return None
        tracker = tracker_of(self.plan)
        return None if tracker.up_to_date() else tracker

    def _run_plan(self, states: Mapping[str, str]) -> bool:
        """Run the trials of the plan that are left; whether what there was to mirror is."""
        if not self.plan.study.tracking.enabled:
            self.driver.run_plan(self.plan, states)
            return True
        background = BackgroundTracker(tracker_of(self.plan))
        self.driver.run_plan(self.plan, states, [background.beside])
        return not background.broken

    def _goes_on(self) -> bool:
        """Look at the results where seeds come in rounds; whether another round follows."""
        before = self.plan
        self.plan = with_rounds(before, self.store)
        for line in look_lines(self.plan, since=before):
            print(line, flush=True)
        if self.plan.rounds is None or before.rounds is None or self.plan.rounds.ending:
            return False
        # The same seeds again: some of their trials have failed.
        return self.plan.rounds.seeds != before.rounds.seeds

    def _measure_views(self) -> None:
        """Measure the representations of finished trials, where they are not there yet."""
        results = read(self.plan, self.store)
        if unmeasured(results):
            self.driver.prepare(self.plan.dataset)
            measure_all(results, lambda text: print(text, flush=True))


def publish(
    plan: Plan, store: Store, arguments: Sequence[str] = (), tracker: Tracker | None = None
) -> list[str]:
    """Write the report, print the table and, if asked, mirror the study.

    Returns one sentence per failed or damaged trial. A tracker that cannot be reached is a warning:
    the report is there all the same.
    """
    report = make_report([plan], store, arguments, tracked_runs(plan)).write()
    show_report(report)
    if tracker is not None:
        mirror_or_warn(tracker, report)
    return report.wrong
