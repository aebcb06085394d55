"""The report of a study again, or of several in one, from the store alone, at any time.

python -m harness.report [study=NAME|study=A,B] [key=value ...] [--track] [--watch]
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.analysis.results import read
from harness.analysis.rounds.looks import with_rounds
from harness.cli import flags, guarded
from harness.errors import DONE, SOME_FAILED, UserError
from harness.errors.credentials import masked
from harness.reporting.publish import RELOAD_SECONDS, follow, make_report, show_report
from harness.reporting.write import Report
from harness.search.stored_plan import plan_of
from harness.store import Store
from harness.study.merged_plan import load_studies
from harness.study.plan import Plan
from harness.study.settings import DEFAULT_STUDY, Study
from harness.tracking.mirror import mirror
from harness.tracking.registry import tracked_runs, tracker_of

HELP = f"""usage: python -m harness.report [study=NAME|study=A,B] [key=value ...]
       [--track] [--watch] [--help]

Shows the table methods x combinations of a study's finished trials and writes report.html (one page
that needs nothing else), report.md, report.tex, report.csv and heatmap.png to <output>/<study>/.
Nothing is trained. No study means study={DEFAULT_STUDY}; give the same key=value arguments as to
python -m harness.run, whose --help lists them. Data that are not on this machine are not needed:
what the store recorded about them is enough.

study=A,B makes one report of several studies in <output>/A+B/. Their rows are ranked together where
all but method, hyperparameters and seed is the same; other studies stand apart, and the report says
why.

  --track   mirror the whole study to MLflow again
  --watch   while the study runs, write the report again whenever a trial ends; the page reloads
            itself, until the study ends
  --help    this text

exit codes: 0 report written, 1 written, but a trial has failed or is damaged, 2 bad configuration,
nothing to report, or (with --track) no MLflow"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--track", "--watch", "--help", "-h"))
    if options & {"--help", "-h"}:
        print(HELP)
        return DONE
    studies = load_studies(settings)
    _check(studies, "--track" in options)
    store = Store.below(studies[0].output)
    plans = [with_rounds(plan_of(study, store), store) for study in studies]
    alone = plans[0] if len(plans) == 1 else None

    def make(current: Sequence[Plan]) -> Report:
        # Asked anew each time: the study that is watched may be mirrored meanwhile.
        tracked = tracked_runs(alone) if alone is not None else None
        return make_report(current, store, settings, tracked)

    def write(current: Sequence[Plan]) -> Path:
        return make(current).write(RELOAD_SECONDS).page

    if "--watch" in options:
        follow(plans, store, write)
    if alone is not None and not read(alone, store).finished:
        command = masked(shlex.join(["python", "-m", "harness.run", *settings]))
        where = f"below {alone.study.output}"
        raise UserError(
            f"study '{alone.study.name}' has no finished trial {where}; run it first: {command}"
        )
    report = make(plans).write()
    show_report(report)
    if alone is not None and "--track" in options:
        mirror(tracker_of(alone), report)
    return SOME_FAILED if report.wrong else DONE


def _check(studies: Sequence[Study], track: bool) -> None:
    """UserError for what several studies cannot have in one report."""
    if len(studies) > 1 and track:
        raise UserError("--track mirrors one study; give it with one study at a time")
    if len({study.output for study in studies}) > 1:
        raise UserError(
            "the studies have different output folders; export from one with harness.share and "
            "import into the other"
        )


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
