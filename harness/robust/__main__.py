"""Evaluate trained models with bad sensors: one modality corrupted at a time, nothing trained.

python -m harness.robust [study=NAME] [key=value ...] [--dry-run]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cli import flags, guarded
from harness.errors import DONE, SOME_FAILED, UserError

HELP = """usage: python -m harness.robust [study=NAME] [key=value ...] [--dry-run] [--help]

Corrupts each modality in turn, in every way that its kind of sensor goes bad, at five severities, \
and
evaluates every finished trial of a study again on the combinations that contain it, from its \
stored
weights. Nothing is trained, and the trials stay as they are: what is found lies beside them in the
store, the report gets a section, and MLflow is brought up to it. As many trials at once as this
machine trains at once (resources.*); executor=local: one after the other. Killed, the same command
goes on. Needs the data; give the same key=value arguments as to python -m harness.run. No study
means study=quickstart.

  --dry-run   say how many evaluations are left and how long they take, and stop
  --help      this text

exit codes: 0 all done, 1 some trials could not be evaluated, 2 bad configuration or nothing to
evaluate, 130 interrupted"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--dry-run", "--help", "-h"))
    if options & {"--help", "-h"}:
        print(HELP)
        return DONE
    # Imported here, so that --help is quick and torch finds one thread.
    from harness.analysis.results import read
    from harness.analysis.rounds.looks import with_rounds
    from harness.reporting.publish import make_report, short
    from harness.reporting.sections.bad_sensors import console_lines
    from harness.robust.progress import steps_view
    from harness.robust.work import description, steps_of, work_of
    from harness.robust.workers import run, workers_for
    from harness.schedule.progress import preparation_view
    from harness.search.journal import with_winners
    from harness.store import Store
    from harness.study.config import load_study
    from harness.study.plan import Plan
    from harness.tracking.mirror import mirror_or_warn
    from harness.tracking.registry import tracked_runs, tracker_of

    study = load_study(settings)
    store = Store.below(study.output)
    plan = with_rounds(with_winners(Plan(study)), store)
    results = read(plan, store)
    if not results.finished:
        raise UserError(
            f"study '{plan.study.name}' has no finished trial below {plan.study.output}; run it"
            " first"
        )
    if "--dry-run" not in options:
        with preparation_view() as progress:
            plan.dataset.prepare(progress)
    work = work_of(results)
    workers = workers_for(work)
    for line in description(work, workers):
        print(line, flush=True)
    if "--dry-run" in options:
        return DONE
    with steps_view(steps_of(work)) as steps:
        found = run(work, steps, workers)
    if found.equal:
        print(
            f"check: without corruption {found.equal} trials give their stored scores, bit for bit"
        )
    for trial_id, difference in found.unequal.items():
        print(
            f"note: trial {trial_id} without corruption differs from its stored evidence by up to"
            f" {difference:.2g}: made on another machine, or by other versions"
        )
    report = make_report([plan], results.store, settings, tracked_runs(plan)).write()
    for line in console_lines(report.groups[0].findings, report.groups[0].corrupted):
        print(line)
    print(f"report: {short(report.page)}", flush=True)
    tracker = tracker_of(plan)
    if study.tracking.enabled and (found.conditions or not tracker.up_to_date()):
        mirror_or_warn(tracker, report)
    for sentence in found.failed:
        print(f"error: {sentence}", file=sys.stderr)
    return SOME_FAILED if found.failed else DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
