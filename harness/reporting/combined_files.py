"""One report of several studies: its files, its console output, and following studies that still
run.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.analysis.results import read, verify
from harness.errors import DONE, SOME_FAILED, UserError
from harness.report import RELOAD_SECONDS, follow, short, write
from harness.reporting.combined import Part, numbered, together
from harness.reporting.console import show
from harness.reporting.findings import find
from harness.reporting.heatmap import heatmap
from harness.reporting.html import html
from harness.reporting.latex import latex
from harness.reporting.markdown import markdown
from harness.reporting.sections.comparison import HEATMAP
from harness.search.results import search_problems
from harness.search.stored_plan import plan_of
from harness.store import Store
from harness.study.config import Study
from harness.study.merged_plan import JOINED, Group, grouped


@dataclass(frozen=True)
class Together:
    """A report of several studies: its groups and its files, the page first."""

    parts: Sequence[Part]
    paths: Sequence[Path]

    @property
    def wrong(self) -> list[str]:
        """One sentence per trial that failed or is damaged."""
        holes = [hole for part in self.parts for hole in part.findings.results.holes]
        failed = [f"{hole.name}: {hole.reason}" for hole in holes if hole.state == "failed"]
        searches = [
            sentence for part in self.parts for sentence in search_problems(part.findings.searches)
        ]
        return [*failed, *(problem for part in self.parts for problem in part.problems), *searches]


def report_together(
    studies: Sequence[Study], arguments: Sequence[str], options: Collection[str]
) -> int:
    """The report command for several studies; returns its exit code."""
    if "--track" in options:
        raise UserError("--track mirrors one study; give it with one study at a time")
    if len({study.output for study in studies}) > 1:
        raise UserError(
            "the studies have different output folders; export from one with harness.share and import into the other"
        )
    store = Store.below(studies[0].output)
    folder = Path(studies[0].output).resolve() / JOINED.join(study.name for study in studies)
    groups = grouped([plan_of(study, store) for study in studies])
    if "--watch" in options:
        plans = [group.plan for group in groups]
        follow(
            plans,
            store,
            lambda: write_together(groups, store, folder, arguments, RELOAD_SECONDS).paths[0],
        )
    found = write_together(groups, store, folder, arguments)
    for at, part in enumerate(found.parts, 1):
        if len(found.parts) > 1:
            print(
                f"{'' if at == 1 else chr(10)}group {at} of {len(found.parts)}, not ranked with the others"
            )
        show(part.findings, f"{studies[0].output}/store")
    others = ", ".join(path.name for path in found.paths[1:])
    print(f"report: {short(found.paths[0])}, {others}", flush=True)
    for part in found.parts:
        for problem in part.problems:
            print(f"error: {problem}", file=sys.stderr)
    return SOME_FAILED if found.wrong else DONE


def write_together(
    groups: Sequence[Group],
    store: Store,
    folder: Path,
    arguments: Sequence[str] = (),
    refresh: int | None = None,
) -> Together:
    """Check the store and write one report of all groups in all forms; the same store gives the
    same bytes.

    UserError when no study has a finished trial. Studies that have none are named and left out.
    """
    parts, empty = _parts(groups, store)
    if not parts:
        raise UserError(
            f"none of {', '.join(empty)} has a finished trial below {store.root.parent}; run them first"
        )
    document = together(folder.name, parts, empty, arguments)
    pictures = {
        numbered(HEATMAP, at): heatmap(part.findings.results) for at, part in enumerate(parts, 1)
    }
    files = {
        "report.html": html(document, refresh).encode(),
        "report.md": markdown(document).encode(),
        "report.csv": _table(parts).to_csv(index=False, lineterminator="\n").encode(),
        **pictures,
        "report.tex": latex(document).encode(),
    }
    return Together(parts, [write(folder / name, content) for name, content in files.items()])


def _parts(groups: Sequence[Group], store: Store) -> tuple[list[Part], list[str]]:
    """The groups with what was found in them, and the names of studies without a finished trial,
    which are left out.
    """
    parts, empty = [], []
    for group in groups:
        there = [plan for plan in group.plans if read(plan, store).finished]
        empty += [plan.study.name for plan in group.plans if plan not in there]
        if there:
            kept = Group(tuple(there))
            parts.append(Part(kept, find(read(kept.plan, store)), verify(kept.plan, store)))
    return parts, empty


def _table(parts: Sequence[Part]) -> pd.DataFrame:
    """The long table; with several groups, the group in front."""
    tables = [part.findings.results.long_table for part in parts]
    if len(tables) == 1:
        return tables[0]
    for part, table in zip(parts, tables, strict=True):
        table.insert(0, "group", part.name)
    return pd.concat(tables, ignore_index=True)
