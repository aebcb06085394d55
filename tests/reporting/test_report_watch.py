"""python -m harness.report --watch: the report follows a store that grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.report import main
from harness.reporting.publish import RELOAD_SECONDS, follow, make_report
from harness.reporting.sections.runs import TrackedRuns
from harness.store import write_json
from harness.study.plan import Plan
from tests.support.handmade import ladder, planned, trial_of, write_trial

RELOAD = '<meta http-equiv="refresh"'
ARGUMENTS = ["seeds=[0]", "methods=[sf_md,hemis,dmrnet]", "dataset.limit=60"]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_the_report_grows_with_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = planned(tmp_path, *ARGUMENTS)
    page = tmp_path / "quickstart" / "report.html"

    def write(plans: Sequence[Plan]) -> Path:
        return make_report(plans, store, ARGUMENTS).write(RELOAD_SECONDS).page

    watching = threading.Thread(target=follow, args=([plan], store, write, 0.02), daemon=True)
    watching.start()
    time.sleep(0.2)
    assert not page.exists()
    write_trial(plan, store, "sf_md", 0, ladder(30))
    until(lambda: page.exists() and "1 of 3 planned trials are in the table" in page.read_text())
    assert RELOAD in page.read_text()
    written = page.stat().st_mtime_ns
    time.sleep(0.3)
    assert page.stat().st_mtime_ns == written  # nothing new, nothing written
    write_trial(plan, store, "hemis", 0, ladder(33))
    until(lambda: "2 of 3 planned trials are in the table" in page.read_text())
    # A trial that failed is not waited for.
    failed = store.trial(trial_of(plan, "dmrnet", 0).id)
    write_json(failed / "spec.json", {})
    write_json(failed / "failure.json", {"reason": "no memory"})
    watching.join(60)
    assert not watching.is_alive()
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "no trial of 3 is finished yet",
        "1 of 3 trials, 2 to come",
        "2 of 3 trials, 1 to come",
    ]


def test_a_study_that_is_over_is_reported_at_once(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, *ARGUMENTS)
    for label in ("sf_md", "hemis", "dmrnet"):
        write_trial(plan, store, label, 0, ladder(30))
    assert main([*ARGUMENTS, f"output={tmp_path}", "--watch"]) == 0
    # Nothing more will come: the page no longer reloads itself.
    assert RELOAD not in (tmp_path / "quickstart" / "report.html").read_text()


def test_runs_that_are_mirrored_meanwhile_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = planned(tmp_path, *ARGUMENTS)
    for label in ("sf_md", "hemis", "dmrnet"):
        write_trial(plan, store, label, 0, ladder(30))
    mirrored: list[TrackedRuns] = []
    monkeypatch.setattr("harness.report.tracked_runs", lambda _: mirrored[-1] if mirrored else None)
    runs = TrackedRuns("MLflow", "On a server.", {"sf_md": "#/runs/1"}, {})
    monkeypatch.setattr("harness.report.follow", lambda *_: mirrored.append(runs))
    assert main([*ARGUMENTS, f"output={tmp_path}", "--watch"]) == 0
    assert "## Runs in MLflow" in (tmp_path / "quickstart" / "report.md").read_text()
