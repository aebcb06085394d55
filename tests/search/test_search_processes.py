"""Real drivers: SIGKILL in mid-search, twice; optuna-dashboard on the journal that one has left."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.search.journal import studies, winners, with_winners
from harness.search.plan import SearchPlan
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.processes import alive, epochs, run, start, wait_until, workers

EPOCHS = 12
STUDY = (
    *(
        "methods=[dmrnet]",
        "seeds=[0]",
        "search.seeds=[100,101]",
        "search.parallel=2",
        "tracking.enabled=false",
    ),
    *(
        "search.space.dmrnet.alpha=[1e-4,1e-3]",
        "search.space.dmrnet.beta=[0.3,0.7]",
        f"train.epochs={EPOCHS}",
        "backbone.width=6",
    ),
)
TOLD = 6
"""Optuna's number for the journal's line that a trial has a new state."""


def journal(search: SearchPlan) -> list[tuple[Any, ...]]:
    """Everything of the points but times."""
    ((_, study),) = studies(search)
    return [
        (trial.number, trial.state.name, trial.params, trial.value, trial.user_attrs)
        for trial in study.trials
    ]


def parts(output: Path) -> dict[Path, int]:
    """The parts on val that the store has, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in output.glob("store/*/selection.json")}


def killed(arguments: tuple[str, ...], output: Path, reached: Callable[[], bool]) -> None:
    """Start a driver, and end it and nothing else with SIGKILL when it has reached something."""
    driver = start(*arguments)
    wait_until(reached, driver)
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers(output).values()):
        assert time.monotonic() < deadline, "a worker outlived its driver by a minute"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_driver_that_is_killed_twice_in_mid_search(tmp_path: Path) -> None:
    quiet = (*STUDY, "executor=local", f"output={tmp_path / 'quiet'}")
    assert run(*quiet).returncode == 0
    output = tmp_path / "killed"
    arguments = (*STUDY, f"output={output}")
    kept: dict[Path, int] = {}
    for done in (1, 4):
        killed(
            arguments,
            output,
            lambda done=done: (
                len(parts(output)) >= done and max(epochs(output).values(), default=0) > 3
            ),
        )  # type: ignore[misc]
        left = parts(output)
        assert done <= len(left) < 8 and kept.items() <= left.items()
        kept = left
    search = SearchPlan(Plan(load_study(list(arguments))))
    assert "RUNNING" in [state for _, state, *_ in journal(search)]
    last = run(*arguments)
    assert last.returncode == 0, last.stdout + last.stderr
    # Nothing is trained or evaluated twice: each epoch once, but for those that a kill cut off
    # before their checkpoint.
    assert kept.items() <= parts(output).items() and len(parts(output)) == 8
    lines = [path.read_text().count(", val accuracy") for path in output.glob("store/*/log.txt")]
    trials = 8 + len(with_winners(search.plan).trials)
    assert len(lines) == trials and trials * EPOCHS <= sum(lines) <= trials * EPOCHS + 2 * 4
    # Every point is told once, and nothing is left.
    told = [
        line
        for line in map(json.loads, search.journal.read_text().splitlines())
        if line["op_code"] == TOLD
    ]
    assert (
        len({line["trial_id"] for line in told if line["state"] == 1})
        == len([t for t in told if t["state"] == 1])
        == 4
    )
    undisturbed = SearchPlan(Plan(load_study(list(quiet))))
    assert journal(search) == journal(undisturbed)
    assert [state for _, state, *_ in journal(search)] == ["COMPLETE"] * 4
    assert winners(search) == winners(undisturbed)
    tables = [
        (folder / "quickstart" / "report.csv").read_bytes()
        for folder in (output, tmp_path / "quiet")
    ]
    assert tables[0] == tables[1]


def answer(url: str, process: subprocess.Popen[bytes]) -> Any:
    """What a server says, as soon as it is up."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)


@pytest.mark.slow
def test_the_dashboard_opens_the_journal(tmp_path: Path) -> None:
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed")
    arguments = (
        *STUDY,
        "executor=local",
        f"output={tmp_path}",
        "train.epochs=1",
        "dataset.limit=40",
    )
    assert run(*arguments).returncode == 0
    search = SearchPlan(Plan(load_study(list(arguments))))
    before = search.journal.read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    dashboard = subprocess.Popen(
        [sys.executable, "-c", code, str(search.journal), "--port", str(port)],
        stdout=subprocess.PIPE,
    )
    try:
        (summary,) = answer(f"http://127.0.0.1:{port}/api/studies", dashboard)["study_summaries"]
        assert summary["study_name"] == search.name(search.subjects[0])
        detail = answer(
            f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}?after=0", dashboard
        )
    finally:
        dashboard.terminate()
        dashboard.communicate(timeout=30)
    found = {trial["number"]: (trial["state"], trial["values"]) for trial in detail["trials"]}
    assert found == {number: ("Complete", [value]) for number, _, _, value, _ in journal(search)}
    assert search.journal.read_bytes() == before
