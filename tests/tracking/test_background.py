"""Mirroring beside the trials: what is merged, what waits, and what bad servers do."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from harness.study.plan import PlannedTrial
from harness.tracking.background import BackgroundTracker
from harness.tracking.mirror import mirror
from harness.tracking.mlflow.tracker import MLflowTracker
from tests.support.reports import write_report


class Counting(MLflowTracker):
    """A tracker that also notes what it was asked for, and when."""

    def mirror_trial(self, trial: PlannedTrial) -> None:
        super().mirror_trial(trial)
        self.calls = [*getattr(self, "calls", []), (trial.seed, time.monotonic())]


def refuse(sentence: str) -> None:
    raise AssertionError(sentence)


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def test_repeated_requests_are_merged_and_finished_trials_go_first(
    study: Any, mirrored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackgroundTracker, "interval", 2.0)
    pair = study("background", "seeds=[0,1]")
    pair.train()
    tracker = Counting(pair.plan)
    background = BackgroundTracker(tracker, refuse)
    first, second = pair.plan.trials
    background.trial_changed(first)
    wait_for(lambda: getattr(tracker, "calls", []))
    for _ in range(50):
        background.trial_changed(first)
    background.trial_finished(second)
    wait_for(lambda: len(tracker.calls) == 3)
    assert background.close()
    assert [seed for seed, _ in tracker.calls] == [0, 1, 0]
    assert tracker.calls[2][1] - tracker.calls[0][1] > 1.9
    assert {run.data.tags["status"] for run in pair.runs()} == {"done"} and len(pair.runs()) == 2


def test_closing_mirrors_what_still_waits(study: Any, mirrored: Any) -> None:
    waiting = study("closing", "seeds=[0,1]")
    background = BackgroundTracker(waiting.tracker, refuse)
    for trial in waiting.plan.trials:
        background.trial_changed(trial)
    wait_for(lambda: len(background._mirrored) == 2)
    waiting.train()
    for trial in waiting.plan.trials:
        background.trial_changed(trial)
    started = time.monotonic()
    assert background.close() and time.monotonic() - started < background.interval
    assert [run.info.status for run in waiting.runs()] == ["FINISHED", "FINISHED"]
    background.trial_finished(waiting.plan.trials[0])  # too late: ignored
    assert background.close()


def test_nothing_to_do_starts_no_thread(study: Any) -> None:
    background = BackgroundTracker(study("idle").tracker, refuse)
    assert background.close() and background._thread is None


def test_a_dead_server_is_told_once_and_stops_nothing(study: Any) -> None:
    down = study("down", f"tracking.uri=http://me:secret@127.0.0.1:{free_port()}", "seeds=[0,1]")
    down.train()
    said: list[str] = []
    background = BackgroundTracker(down.tracker, said.append)
    started = time.monotonic()
    for trial in down.plan.trials:
        background.trial_changed(trial)
        background.trial_finished(trial)
    assert time.monotonic() - started < 2
    assert not background.close()
    assert time.monotonic() - started < 20
    background.trial_finished(down.plan.trials[0])
    assert not background.close()
    (sentence,) = said
    assert (
        "`python -m harness.report study=down --track`" in sentence
        and "Connection refused" in sentence
    )
    assert "secret" not in sentence and "\n" not in sentence


def test_a_silent_server_does_not_delay_the_end(study: Any, silent_server: str) -> None:
    silent = study("silent", f"tracking.uri={silent_server}")
    silent.train()
    said: list[str] = []
    background = BackgroundTracker(silent.tracker, said.append)
    background.trial_finished(silent.trial)
    started = time.monotonic()
    assert not background.close(timeout=1.0)
    assert time.monotonic() - started < 5
    assert len(said) == 1 and "nothing was mirrored for 1 s" in said[0] and "--track" in said[0]


class Slow(MLflowTracker):
    """A tracker of a busy machine."""

    def mirror_trial(self, trial: PlannedTrial) -> None:
        time.sleep(0.4)
        super().mirror_trial(trial)


def test_a_slow_tracker_that_gets_on_is_waited_for(study: Any, mirrored: Any) -> None:
    """Five trials need longer than may pass without any."""
    busy = study("busy", "seeds=[0,1,2,3,4]")
    busy.train()
    background = BackgroundTracker(Slow(busy.plan), refuse)
    for trial in busy.plan.trials:
        background.trial_finished(trial)
    wait_for(lambda: background._mirrored)
    started = time.monotonic()
    assert background.close(timeout=1.5)
    assert time.monotonic() - started > 1.5
    assert len(busy.runs()) == 5


def test_an_unreadable_store_and_a_broken_warning_do_not_raise(study: Any) -> None:
    broken = study("unreadable", "seeds=[9]")
    broken.train()
    curve = broken.files(broken.trial) / "metrics.jsonl"
    curve.unlink()
    curve.mkdir()
    background = BackgroundTracker(broken.tracker, refuse)
    background.trial_finished(broken.trial)
    assert not background.close()


@pytest.mark.slow
def test_a_real_server_shows_the_same_and_opens_with_the_command(
    study: Any, mirrored: Any, tmp_path: Path
) -> None:
    port = free_port()
    command = shlex.split(mirrored.tracker.command())
    program = str(Path(sys.executable).parent / command[0])
    process = subprocess.Popen(
        [program, *command[1:], "--port", str(port), "--workers", "1"],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        uri = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{uri}/health"), 120)
        served = study("served", f"tracking.uri={uri}", "methods=[sf_md,dmrnet]")
        served.train()
        for _ in range(2):
            served.mirror()
            mirror(served.tracker, write_report(served.plan, served.store))
        for trial in served.plan.trials:
            here, there = mirrored.run(trial), served.run(trial)
            assert there.data.params == here.data.params
            assert there.data.metrics == here.data.metrics
            below = {"mlflow.parentRunId": there.data.tags["mlflow.parentRunId"]}
            assert there.data.tags == here.data.tags | {"study": "served"} | below
            assert (there.info.status, there.info.start_time, there.info.end_time) == (
                "FINISHED",
                here.info.start_time,
                here.info.end_time,
            )
            assert served.curve(there, "train/loss") == mirrored.curve(here, "train/loss")
            assert [file.path for file in served.client.list_artifacts(there.info.run_id)] == [
                "model",
                "record.json",
            ]
            sent = Path(
                served.client.download_artifacts(
                    there.info.run_id, "model/weights.pt", str(tmp_path)
                )
            )
            assert sent.read_bytes() == (served.files(trial) / "weights.pt").read_bytes()
        assert [len(served.runs(kind)) for kind in ("study", "row")] == [1, 2]
        (summary,) = served.runs("study")
        report = Path(
            served.client.download_artifacts(summary.info.run_id, "report.md", str(tmp_path))
        ).read_text()
        assert (
            f"({uri}/#/experiments/{there.info.experiment_id}/runs/{there.info.run_id})" in report
        )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
