"""Run a study: plan its trials, execute what the store does not hold yet, track and report.

python -m harness.run [study=NAME] [key=value ...] [--dry-run]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.cli import flags, guarded, settings_help
from harness.errors import DONE

if TYPE_CHECKING:
    from harness.schedule.executor import Executor
    from harness.store import Store
    from harness.study.config import Study
    from harness.study.plan import Plan

HELP = """usage: python -m harness.run [study=NAME] [key=value ...] [--dry-run] [--help]

Runs every trial of a study that its store does not hold yet, mirrors the store to MLflow and \
writes the report.
No study means study=quickstart. `python -m harness.show studies` lists them. --dry-run prints the \
plan and how long it will take here, and stops.

exit codes: 0 all done; 1 some trials failed, or Ray could not be kept alive; 2 bad configuration; \
129, 130 and 143 interrupted, by SIGHUP, Ctrl-C and SIGTERM

keys [default]:"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--dry-run", "--help", "-h"))
    if options & {"--help", "-h"}:
        print(f"{HELP}\n{settings_help()}")
        return DONE
    # Imported here, so that --help is quick; and Ray starts while the rest is imported.
    from harness.schedule.registry import executor_of
    from harness.store import Store
    from harness.study.config import load_study

    study = load_study(settings)
    store = Store.below(study.output)
    executor = executor_of(study)
    try:
        if "--dry-run" not in options and expects_trials(study, store):
            executor.start()
        return planned(study, store, settings, executor, dry="--dry-run" in options)
    finally:
        executor.close()


def expects_trials(study: Study, store: Store) -> bool:
    """Whether a study has trials to run, as far as can be said before it is planned.

    It has if none were planned before, or one of these has neither a record nor a failure.
    """
    from harness.schedule.driver import PLAN
    from harness.store import read_json

    try:
        before = (read_json(study.folder / PLAN) or {})["trials"]
        trials = [store.trial(trial["trial_id"]) for trial in before]
    except (KeyError, TypeError):  # there is none, or it is not what was written
        return True
    # Whether a record is whole is the plan's question: reading thousands takes long.
    return any(
        not (trial / "record.json").is_file() and trial.failure() is None for trial in trials
    )


def planned(
    study: Study, store: Store, settings: Sequence[str], executor: Executor, dry: bool
) -> int:
    """Plan a study, say what there is to do, and do it unless it is ``dry``; the exit code."""
    from harness.analysis.rounds.looks import with_rounds
    from harness.reporting.sections.rounds import plan_lines
    from harness.schedule.driver import describe
    from harness.search.journal import with_winners
    from harness.search.results import progress_lines
    from harness.session import Session
    from harness.study.plan import Plan

    plan = with_rounds(with_winners(Plan(study)), store)
    states = plan.states(store)
    more = [*plan_lines(plan), *progress_lines(plan)]
    print(describe(plan, states, more), flush=True)
    if dry:
        for line in timed(plan, store, states):
            print(line, flush=True)
        return DONE
    if not plan.to_run(states):
        # Other studies have left nothing to run; a search starts what it needs.
        executor.close()
    return Session(plan, store, settings, executor).run(states)


def timed(plan: Plan, store: Store, states: Mapping[str, str]) -> list[str]:
    """How long what is left of a study will take here, in lines; seconds for each new method."""
    from harness.schedule.forecast import forecast_lines
    from harness.search.results import trials_ahead

    todo = [*trials_ahead(plan), *plan.to_run(states)]
    needed = [*plan.stages, *plan.trials]
    return forecast_lines(plan, store, todo, needed, partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
