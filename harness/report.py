"""The report of a study again, from the store alone, at any time.

python -m harness.report [study=NAME] [key=value ...] [--track]
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli import DONE, SOME_FAILED, flags, guarded
from harness.config import DEFAULT_STUDY, load_study
from harness.errors import UserError
from harness.plan import Plan
from harness.plots import heatmap
from harness.render.console import show
from harness.render.markdown import HEATMAP, markdown
from harness.results import Results, dataset_name, read, verify
from harness.store import Store, write_atomically
from harness.tracking import Tracker

NOT_IN_MLFLOW = r"[^\w\-. :/]"

HELP = f"""usage: python -m harness.report [study=NAME] [key=value ...] [--track] [--help]

Shows the table methods x combinations of a study's finished trials and writes report.md, report.csv and heatmap.png to
<output>/<study>/. Nothing is trained. No study means study={DEFAULT_STUDY}; give the same key=value arguments as to
python -m harness.run, whose --help lists them.

  --track   mirror the whole study to MLflow again
  --help    this text

exit codes: 0 report written, 1 written, but a trial has failed or is damaged, 2 bad configuration, nothing to report, or
(with --track) no MLflow"""


@dataclass(frozen=True)
class ReportFiles:
    """What a report left behind, and what it found.

    ``headline`` holds each row's average over the combinations (mean over seeds), rows without a finished trial left out;
    ``problems`` has one sentence per damaged trial.
    """

    markdown: Path
    csv: Path
    heatmap: Path
    headline: dict[str, float]
    problems: list[str]
    results: Results

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [self.markdown, self.csv, self.heatmap]

    @property
    def wrong(self) -> list[str]:
        """One sentence per trial that failed or is damaged."""
        failed = [f"{hole.name}: {hole.reason}" for hole in self.results.holes if hole.state == "failed"]
        return [*failed, *self.problems]


def write_report(plan: Plan, store: Store, arguments: Sequence[str] = ()) -> ReportFiles:
    """Check the store and write report.md, report.csv (the long table) and heatmap.png; the same store gives the same bytes."""
    results, problems = read(plan, store), verify(plan, store)
    folder = plan.study.folder
    headline = {label: summary.mean for label, summary in results.comparison().average.items() if summary.seeds}
    return ReportFiles(
        _write(folder / "report.md", markdown(results, problems, arguments).encode()),
        _write(folder / "report.csv", results.long_table.to_csv(index=False, lineterminator="\n").encode()),
        _write(folder / HEATMAP, heatmap(results)),
        headline,
        problems,
        results,
    )


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, lambda stream: stream.write(content))
    return path


def publish(plan: Plan, store: Store, arguments: Sequence[str] = (), tracker: Tracker | None = None) -> list[str]:
    """Write the report, print the table and, if asked, mirror the study to MLflow; one sentence per failed or damaged trial.

    A tracking server that cannot be reached is a warning: the report is there all the same.
    """
    files = _write_and_show(plan, store, arguments)
    if tracker is not None:
        try:
            mirror(tracker, files)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
    return files.wrong


def mirror(tracker: Tracker, files: ReportFiles) -> None:
    """Replay all trials to MLflow, then the study with its report and headline numbers; UserError when MLflow refuses."""
    plan = tracker.plan
    for planned in [*plan.stages, *plan.trials]:
        tracker.mirror_trial(planned)
    metrics = {metric_name(files.results.metric.name, label): value for label, value in files.headline.items()}
    tags = {"dataset": dataset_name(plan.spec), "trials": f"{len(files.results.finished)} of {plan.size}"}
    tracker.mirror_study(files.paths, metrics, tags)
    print(f"compare in the browser: {tracker.command()}", flush=True)


def metric_name(metric: str, label: str) -> str:
    """A row's average as MLflow allows it to be called.

    >>> metric_name("accuracy", "dmrnet[alpha=1e-3]")
    'test/accuracy_mean/dmrnet_alpha_1e-3'
    """
    return f"test/{metric}_mean/{re.sub(NOT_IN_MLFLOW, '_', label).strip('_')}"


def _write_and_show(plan: Plan, store: Store, arguments: Sequence[str]) -> ReportFiles:
    files = write_report(plan, store, arguments)
    show(files.results, f"{plan.study.output}/store")
    print(f"report: {_short(files.markdown)}, {files.csv.name}, {files.heatmap.name}", flush=True)
    for problem in files.problems:
        print(f"error: {problem}", file=sys.stderr)
    return files


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--track", "--help", "-h"))
    if options & {"--help", "-h"}:
        print(HELP)
        return DONE
    study = load_study(settings)
    plan, store = Plan(study), Store.below(study.output)
    if not read(plan, store).finished:
        command = shlex.join(["python", "-m", "harness.run", *settings])
        raise UserError(f"study '{study.name}' has no finished trial below {study.output}; run it first: {command}")
    files = _write_and_show(plan, store, settings)
    if "--track" in options:
        mirror(Tracker(study, plan), files)
    return SOME_FAILED if files.wrong else DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
