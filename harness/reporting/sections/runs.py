"""The report's section that leads to a tracker: the run of each row and of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.analysis.results import Results
from harness.reporting.document import Link, Section, section, table

Address = str | Link


@dataclass(frozen=True)
class TrackedRuns:
    """Where a tracker shows a study.

    ``tracker`` is what it is called, ``opened`` says how it is opened; addresses are by row label
    and by trial id.
    """

    tracker: str
    opened: str
    rows: Mapping[str, Address]
    trials: Mapping[str, Address]


def runs(results: Results, tracked: TrackedRuns | None) -> Section | None:
    """Where the runs of rows and trials are; no section where nothing is tracked."""
    if tracked is None:
        return None
    lines = [
        [row.label, "mean over seeds", tracked.rows[row.label]]
        for row in results.plan.rows
        if row.label in tracked.rows
    ]
    for done in results.finished:
        address = tracked.trials.get(done.trial.id)
        if address is not None:
            lines.append([done.trial.row.label, done.trial.job.name, address])
    title = f"Runs in {tracked.tracker}"
    header = ["method", "run", f"address in {tracked.tracker}"]
    return section(title, tracked.opened, table(header, lines, title))
