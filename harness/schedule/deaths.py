"""Trials that the driver's own process died in, which only ``executor=local`` can bring about.

A method that ends the process (``os._exit``, no memory) takes the driver with it. The next start
finds the mark that the trial left, says so, and gives the trial up when it happens again and again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.schedule.executor import Observer
from harness.store import Store, lock_at_once, read_json, writing
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome
from harness.training.trial import record_failure

MOST_DEATHS = 3
"""So often a process may die in a trial that finishes no epoch meanwhile."""


@contextmanager
def marked(trial: PlannedTrial, observer: Observer) -> Iterator[Outcome | None]:
    """Mark a trial as running; its recorded failure instead where it is given up.

    The mark stays behind when this process dies. A trial that another process runs has its mark.
    """
    store = Store(Path(trial.job.store))
    path = store.root / "locks" / f"{trial.id}.running"
    with lock_at_once(path) as mark:
        if mark is None:
            yield None
            return
        left = read_json(path)
        epochs = len(store.trial(trial.id).history())
        deaths = 0
        if left is not None:
            deaths = 1 if epochs > left["epochs"] else left["deaths"] + 1
        if deaths >= MOST_DEATHS:
            outcome = record_failure(store.trial(trial.id), trial.job, _reason(deaths))
            path.unlink()
            yield outcome
            return
        if deaths:
            observer.interrupted(trial, _note(deaths, epochs))
        with writing(path):
            mark.seek(0)
            mark.truncate()
            mark.write(json.dumps({"epochs": epochs, "deaths": deaths}))
            mark.flush()
        try:
            yield None
        finally:
            path.unlink(missing_ok=True)


def _note(deaths: int, epochs: int) -> str:
    left = MOST_DEATHS - deaths
    return (
        f"the process that ran it died in it (its code ended the process, a kill, or no memory?);"
        f" it goes on from epoch {epochs}, and is given up when that happens {left} more"
        f" time{'s' if left > 1 else ''} before its next epoch"
    )


def _reason(deaths: int) -> str:
    return (
        f"the process that ran it died in it {deaths} times in one epoch (its code ended the"
        " process, a kill, or out of memory?); rerun=failed tries again"
    )
