"""A whole study mirrored at once: every trial, the comparison, the report that leads to them."""

from __future__ import annotations

import sys

from harness.analysis.results import dataset_name
from harness.errors import UserError
from harness.reporting.write import Report
from harness.robust.findings import current_bad_sensors
from harness.tracking.registry import tracked_runs
from harness.tracking.tracker import Tracker


def mirror(tracker: Tracker, report: Report) -> None:
    """Mirror all trials, then the comparison, then the report of this one study, written again.

    Prints how to look at it. TrackingError when the tracker refuses.
    """
    (group,) = report.groups
    plan, results = tracker.plan, group.results
    corrupted = current_bad_sensors(group.findings, group.corrupted)
    for planned in [*plan.stages, *plan.trials]:
        tracker.mirror_trial(planned, corrupted)
    tracker.mirror_comparison(group.findings, group.problems, corrupted)
    # Only now is it known where the runs are.
    again = report.tracked(tracked_runs(plan)).write()
    finished = len(results.finished)
    tags = {"dataset": dataset_name(plan.spec), "trials": f"{finished} of {plan.size}"}
    tracker.mirror_study(again.paths, {"trials_finished": finished}, tags, again.document)
    for line in tracker.how_to_open():
        print(line, flush=True)


def mirror_or_warn(tracker: Tracker, report: Report) -> None:
    """Mirror a study whose report is there: a tracker that cannot be reached is a warning."""
    try:
        mirror(tracker, report)
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)
