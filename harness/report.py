"""The report of a study again, or of several together, from the store alone, at any time.

python -m harness.report [study=NAME|study=A,B] [key=value ...] [--track] [--watch]
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.results import Results, read, verify
from harness.cli import flags, guarded
from harness.errors import DONE, SOME_FAILED, UserError
from harness.reporting.console import show
from harness.reporting.contents import contents
from harness.reporting.document import Document
from harness.reporting.findings import Findings, find
from harness.reporting.heatmap import heatmap
from harness.reporting.html import html
from harness.reporting.latex import latex
from harness.reporting.markdown import markdown
from harness.reporting.sections.background import ABSENT_DATA
from harness.reporting.sections.comparison import HEATMAP
from harness.reporting.sections.runs import TrackedRuns, runs
from harness.search.journal import is_over, with_winners
from harness.search.plan import search_plan
from harness.search.results import search_problems
from harness.search.stored_plan import plan_of
from harness.store import Store, write_atomically
from harness.study.config import DEFAULT_STUDY
from harness.study.merged_plan import load_studies
from harness.study.plan import Plan
from harness.study.recorded_data import Recorded
from harness.tracking.mirror import mirror
from harness.tracking.registry import tracked_runs, tracker_of
from harness.tracking.tracker import Tracker

WATCH_SECONDS, RELOAD_SECONDS = 5.0, 10

HELP = f"""usage: python -m harness.report [study=NAME|study=A,B] [key=value ...] [--track] [--watch] [--help]

Shows the table methods x combinations of a study's finished trials and writes report.html (one page that needs nothing
else), report.md, report.tex, report.csv and heatmap.png to <output>/<study>/. Nothing is trained. No study means
study={DEFAULT_STUDY}; give the same key=value arguments as to python -m harness.run, whose --help lists them. Data that are not on
this machine are not needed: what the store recorded about them is enough.

study=A,B makes one report of several studies in <output>/A+B/. Their rows are ranked together where all but method,
hyperparameters and seed is the same; other studies stand apart, and the report says why.

  --track   mirror the whole study to MLflow again
  --watch   while the study runs, write the report again whenever a trial ends; the page reloads itself, until the study ends
  --help    this text

exit codes: 0 report written, 1 written, but a trial has failed or is damaged, 2 bad configuration, nothing to report, or
(with --track) no MLflow"""


@dataclass(frozen=True)
class ReportFiles:
    """What a report left behind, and what it found.

    ``problems`` has one sentence per damaged trial; ``document`` is what the files say.
    """

    markdown: Path
    csv: Path
    heatmap: Path
    html: Path
    latex: Path
    problems: list[str]
    findings: Findings
    document: Document

    @property
    def results(self) -> Results:
        """What the store held."""
        return self.findings.results

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [self.markdown, self.csv, self.heatmap, self.html, self.latex]

    @property
    def wrong(self) -> list[str]:
        """One sentence per trial that failed or is damaged."""
        failed = [
            f"{hole.name}: {hole.reason}" for hole in self.results.holes if hole.state == "failed"
        ]
        return [*failed, *self.problems, *search_problems(self.findings.searches)]


def write_report(
    plan: Plan,
    store: Store,
    arguments: Sequence[str] = (),
    tracked: TrackedRuns | None = None,
    refresh: int | None = None,
) -> ReportFiles:
    """Check the store and write the report in all its forms; the same store gives the same bytes.

    ``tracked`` is where the runs are. With ``refresh`` the page loads itself again after so many
    seconds.
    """
    return _write_files(*find_all(plan, store), arguments, tracked, refresh)


def find_all(plan: Plan, store: Store) -> tuple[Findings, list[str]]:
    """What there is to say, and what is damaged."""
    return find(read(plan, store)), verify(plan, store)


def _write_files(
    findings: Findings,
    problems: list[str],
    arguments: Sequence[str],
    tracked: TrackedRuns | None,
    refresh: int | None = None,
) -> ReportFiles:
    results, folder = findings.results, findings.results.plan.study.folder
    links = [runs(results, tracked)] if tracked is not None else []
    document = contents(findings, problems, arguments, *links)
    return ReportFiles(
        markdown=write(folder / "report.md", markdown(document).encode()),
        csv=write(
            folder / "report.csv",
            results.long_table.to_csv(index=False, lineterminator="\n").encode(),
        ),
        heatmap=write(folder / HEATMAP, heatmap(results)),
        html=write(folder / "report.html", html(document, refresh).encode()),
        latex=write(folder / "report.tex", latex(document).encode()),
        problems=problems,
        findings=findings,
        document=document,
    )


def write(path: Path, content: bytes) -> Path:
    """Write one file of a report, whole or not at all."""
    write_atomically(path, lambda stream: stream.write(content))
    return path


def mirror_report(tracker: Tracker, files: ReportFiles, arguments: Sequence[str] = ()) -> None:
    """Mirror the whole study, with its report written again; TrackingError if that is refused."""

    def again(tracked: TrackedRuns | None) -> tuple[list[Path], Document]:
        written = _write_files(files.findings, files.problems, arguments, tracked)
        return written.paths, written.document

    mirror(tracker, files.findings, files.problems, again)


def write_and_show(plan: Plan, store: Store, arguments: Sequence[str]) -> ReportFiles:
    """Write the report and print its table, where its files are, and what is damaged."""
    files = write_report(plan, store, arguments, tracked_runs(plan))
    show(files.findings, f"{plan.study.output}/store")
    if isinstance(plan.dataset, Recorded):
        print(f"note: {ABSENT_DATA}")
    others = ", ".join(path.name for path in files.paths if path != files.html)
    print(f"report: {short(files.html)}, {others}", flush=True)
    for problem in files.problems:
        print(f"error: {problem}", file=sys.stderr)
    return files


def watch(
    plan: Plan, store: Store, arguments: Sequence[str] = (), seconds: float = WATCH_SECONDS
) -> None:
    """Write the report whenever the store has changed, until every trial is finished or has failed."""
    follow(
        [plan],
        store,
        lambda: (
            write_report(
                with_winners(plan), store, arguments, tracked_runs(plan), RELOAD_SECONDS
            ).html
        ),
        seconds,
    )


def follow(
    plans: Sequence[Plan], store: Store, write: Callable[[], Path], seconds: float = WATCH_SECONDS
) -> None:
    """Call ``write``, which returns the page, whenever some of the plans' trials have ended, until
    all have and none is sought.
    """
    seen: object = None
    while True:
        plans = [with_winners(plan) for plan in plans]
        results = [read(plan, store) for plan in plans]
        finished = [(done.trial.id, done.status) for found in results for done in found.finished]
        waiting = sum(hole.state != "failed" for found in results for hole in found.holes)
        searching = any(
            search is not None and not is_over(search) for search in map(search_plan, plans)
        )
        if not waiting and not searching:
            return
        size = sum(plan.size for plan in plans)
        if (finished, waiting) != seen and finished:
            print(
                f"{len(finished)} of {size} trials, {waiting} to come: {short(write())}", flush=True
            )
        elif (finished, waiting) != seen:
            print(f"no trial of {size} is finished yet", flush=True)
        seen = finished, waiting
        time.sleep(seconds)


def short(path: Path) -> Path:
    """A path as seen from where the command was given."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--track", "--watch", "--help", "-h"))
    if options & {"--help", "-h"}:
        print(HELP)
        return DONE
    studies = load_studies(settings)
    if len(studies) > 1:
        from harness.reporting.combined_files import report_together

        return report_together(studies, settings, options)
    study = studies[0]
    store = Store.below(study.output)
    plan = plan_of(study, store)
    if "--watch" in options:
        watch(plan, store, settings)
    if not read(plan, store).finished:
        command = shlex.join(["python", "-m", "harness.run", *settings])
        raise UserError(
            f"study '{study.name}' has no finished trial below {study.output}; run it first: {command}"
        )
    files = write_and_show(plan, store, settings)
    if "--track" in options:
        mirror_report(tracker_of(plan), files, settings)
    return SOME_FAILED if files.wrong else DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
