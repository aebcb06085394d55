"""A whole study mirrored at once: every trial, the comparison, the report that leads to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.analysis.results import dataset_name
from harness.reporting.document import Document
from harness.reporting.findings import Findings
from harness.reporting.sections.runs import TrackedRuns
from harness.tracking.registry import tracked_runs
from harness.tracking.tracker import Tracker

WriteReport = Callable[[TrackedRuns | None], tuple[Sequence[Path], Document]]
"""Writes the report with the section that leads to the runs; its files, and what they say."""


def mirror(
    tracker: Tracker, findings: Findings, problems: Sequence[str], write: WriteReport
) -> None:
    """Mirror all trials, then the comparison, then the report, which is written again between.

    Prints how to look at it. TrackingError when the tracker refuses.
    """
    plan, results = tracker.plan, findings.results
    for planned in [*plan.stages, *plan.trials]:
        tracker.mirror_trial(planned)
    tracker.mirror_comparison(findings, problems)
    # Only now is it known where the runs are.
    paths, document = write(tracked_runs(plan))
    finished = len(results.finished)
    tags = {"dataset": dataset_name(plan.spec), "trials": f"{finished} of {plan.size}"}
    tracker.mirror_study(paths, {"trials_finished": finished}, tags, document)
    for line in tracker.how_to_open():
        print(line, flush=True)
