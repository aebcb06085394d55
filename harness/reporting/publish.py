"""Making, showing and following reports; the commands report and run call it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.analysis.results import read
from harness.analysis.rounds.looks import with_rounds
from harness.errors import UserError
from harness.reporting.console import show
from harness.reporting.document import Table
from harness.reporting.sections.background import ABSENT_DATA
from harness.reporting.sections.runs import TrackedRuns
from harness.reporting.sections.study_groups import missingness
from harness.reporting.study_group import gather
from harness.reporting.text import pipe_table
from harness.reporting.write import Report
from harness.search.journal import is_over, with_winners
from harness.search.plan import search_plan
from harness.store import Store
from harness.study.merged_plan import JOINED, Group, grouped
from harness.study.plan import Plan
from harness.study.recorded_data import Recorded

WATCH_SECONDS, RELOAD_SECONDS = 5.0, 10


def make_report(
    plans: Sequence[Plan],
    store: Store,
    arguments: Sequence[str] = (),
    tracked: TrackedRuns | None = None,
) -> Report:
    """Read and check the store, and gather the report of one study or of several.

    Of several studies, those without a finished trial are named and left out; UserError when none
    has one. ``tracked`` is where a tracker shows the study.
    """
    groups = grouped(plans)
    empty: list[str] = []
    if len(plans) > 1:
        groups, empty = _with_results(groups, store)
        if not groups:
            raise UserError(
                f"none of {', '.join(empty)} has a finished trial below {store.root.parent}; "
                "run them first"
            )
    name = JOINED.join(plan.study.name for plan in plans)
    folder = plans[0].study.folder.parent / name
    gathered = [gather(group, store, tracked, arguments) for group in groups]
    return Report(folder, gathered, arguments, empty)


def _with_results(groups: Sequence[Group], store: Store) -> tuple[list[Group], list[str]]:
    """The groups of the studies that have a finished trial, and the names of those that have
    none.
    """
    kept, empty = [], []
    for group in groups:
        finished = [plan for plan in group.plans if read(plan, store).finished]
        empty += [plan.study.name for plan in group.plans if plan not in finished]
        if finished:
            kept.append(Group(tuple(finished)))
    return kept, empty


def show_report(report: Report) -> None:
    """Print each group's table, what it means, where the files are, and what is damaged."""
    count = len(report.groups)
    for number, group in enumerate(report.groups, 1):
        if count > 1:
            gap = "" if number == 1 else "\n"
            print(f"{gap}group {number} of {count}, not ranked with the others")
        show(group.findings, f"{group.plan.study.output}/store")
        if isinstance(group.plan.dataset, Recorded):
            print(f"note: {ABSENT_DATA}")
    _show_sweep(report)
    others = ", ".join(path.name for path in report.paths if path != report.page)
    print(f"report: {short(report.page)}, {others}", flush=True)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)


def _show_sweep(report: Report) -> None:
    """Print the values of the curve over what is missing in training, where there is one."""
    swept = missingness(report.groups)
    for block in swept.blocks if swept is not None else ():
        if isinstance(block, Table):
            print("\n".join(["", f"{block.caption}:", *pipe_table(block.header, block.rows)]))


def follow(
    plans: Sequence[Plan],
    store: Store,
    write: Callable[[Sequence[Plan]], Path],
    seconds: float = WATCH_SECONDS,
) -> None:
    """Call ``write``, which returns the page, whenever some of the plans' trials have ended.

    Returns when all have, and no search goes on.
    """
    seen: object = None
    while True:
        plans = [with_rounds(with_winners(plan), store) for plan in plans]
        merged = [group.plan for group in grouped(plans)]
        results = [read(plan, store) for plan in merged]
        finished = [(done.trial.id, done.status) for part in results for done in part.finished]
        waiting = sum(hole.state != "failed" for part in results for hole in part.holes)
        searches = [search for search in map(search_plan, plans) if search is not None]
        if not waiting and all(map(is_over, searches)):
            return
        size = sum(plan.size for plan in merged)
        if (finished, waiting) != seen and finished:
            progress = f"{len(finished)} of {size} trials, {waiting} to come"
            print(f"{progress}: {short(write(plans))}", flush=True)
        elif (finished, waiting) != seen:
            print(f"no trial of {size} is finished yet", flush=True)
        seen = finished, waiting
        time.sleep(seconds)


def short(path: Path) -> Path:
    """A path as seen from where the command was given."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
