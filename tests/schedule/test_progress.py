"""Progress: plain lines say what happened; the time left is epochs left at the speed seen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.schedule.progress import LiveProgress, PlainProgress, ProgressView
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.spec import Outcome


@pytest.fixture
def trials(tmp_path: Path) -> list[PlannedTrial]:
    return Plan(load_study(["methods=[sf_md,hemis]", "seeds=[0]", f"output={tmp_path}"])).trials


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("harness.schedule.progress.time.monotonic", lambda: now[0])
    return now


def test_time_left_is_epochs_left_over_epochs_per_second(
    trials: list[PlannedTrial], clock: list[float]
) -> None:
    view = ProgressView(trials=2, epochs=10, metric="accuracy")
    view.started(trials[0])
    for epoch in range(6):
        view.epoch(trials[0], epoch, 10, 50.0)
        clock[0] += 2.0
    # The first report starts the clock's subject: 5 epochs were seen in 10 s from the second one
    # on; 14 of 20 are left.
    assert view.remaining() == pytest.approx(14 / (5 / 10))


def test_a_resumed_trial_s_old_epochs_say_nothing_about_speed(
    trials: list[PlannedTrial], clock: list[float]
) -> None:
    view = ProgressView(trials=1, epochs=10, metric="accuracy")
    view.started(trials[0])
    view.epoch(trials[0], 7, 10, 50.0)
    assert view.remaining() is None


def test_plain_lines(
    trials: list[PlannedTrial], clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with PlainProgress(trials=2, epochs=10, metric="accuracy") as view:
        view.started(trials[0])
        view.epoch(trials[0], 0, 10, 50.0)
        clock[0] += 11.0
        view.epoch(trials[0], 1, 10, 51.25)
        view.finished(trials[0], Outcome(trials[0].id, "done", seconds=12.3))
        view.started(trials[1])
        view.finished(trials[1], Outcome(trials[1].id, "failed", "a reason"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"[0/2] start sf_md seed 0 (trial {trials[0].id})"
    assert lines[1].startswith("[0/2] sf_md seed 0: epoch 2/10, val accuracy 51.25")
    assert lines[2].startswith("[1/2] sf_md seed 0: done in 12.3 s, last val accuracy 51.25")
    assert lines[4].startswith("[2/2] hemis seed 0: FAILED: a reason")


def test_the_live_view_shows_running_trials(trials: list[PlannedTrial]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveProgress(2, 10, "accuracy", console) as view:
        view.started(trials[0])
        view.epoch(trials[0], 3, 10, 61.5)
        text = Console(width=100, record=True, file=io.StringIO())
        text.print(view._view())  # type: ignore[attr-defined]
    shown = text.export_text()
    assert (
        "0 of 2 trials over" in shown
        and "sf_md seed 0" in shown
        and "4/10" in shown
        and "61.50" in shown
    )
