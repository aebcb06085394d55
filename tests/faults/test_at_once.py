"""Two drivers at once, a clock that goes backwards, and data that change in mid-study."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import run
from harness.cli import guarded
from harness.store import Store
from harness.training.trial import run_trial
from tests.support.faults import (
    TINY,
    command,
    exit_code,
    in_background,
    method_file,
    stopped_after,
    study_file,
    trials,
)
from tests.support.media import array, classification
from tests.training.test_trial import directory, planned, results

UNTIL = "import time\n        while self.at == 1 and not ({}): time.sleep(0.05)"
WAITED_FOR = "any('waiting for another' in open(p).read() for p in __import__('glob').glob({!r}))"


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)


def test_a_second_driver_of_a_study_is_refused_and_the_first_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    go = tmp_path / "go"
    slow = method_file(tmp_path, "Slow", UNTIL.format(f"os.path.exists({str(go)!r})"))
    output, methods = tmp_path / "runs", f"methods=[{slow}]"
    child = in_background(output, methods)
    wait_for(output, "store/*/metrics.jsonl")
    assert command(output, methods) == 2
    assert f"run by another process (process {child}); wait for it" in capfd.readouterr().err
    go.touch()
    assert exit_code(child) == 0
    assert command(output, methods) == 0
    assert trials(output, methods)["slow"].record() is not None


@pytest.mark.slow
@pytest.mark.long
def test_two_studies_on_one_store_train_a_shared_trial_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = str(tmp_path / "runs/store/*/log.txt")
    shared = method_file(tmp_path, "Slow", UNTIL.format(WAITED_FOR.format(logs)))
    first = study_file(tmp_path, "first", f"[{shared}]")
    second = study_file(tmp_path, "second", f"[{shared}, sf_md]")
    output, alone = tmp_path / "runs", tmp_path / "alone"
    child = in_background(output, first)
    wait_for(output, "store/*/metrics.jsonl")
    assert command(output, second) == 0
    assert exit_code(child) == 0
    found = trials(output, second)
    log = (found["slow"] / "log.txt").read_text()
    assert "waiting for another process that runs this trial" in log
    assert log.count("epoch 1/3") == 1
    assert command(alone, second) == 0
    for name in ("first", "second"):
        assert (output / name / "report.csv").is_file()
    assert (output / "second/report.csv").read_bytes() == (alone / "second/report.csv").read_bytes()


@pytest.mark.parametrize("shift", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_no_result_and_no_decision_depends_on_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    """The clock jumps by years in mid-trial, and every file of the store has another time."""
    whole = planned(tmp_path / "whole", "sf_md", "train.epochs=3")
    assert run_trial(whole.job).status == "done"
    trial = planned(tmp_path / "moved", "sf_md", "train.epochs=3")
    stopped_after(trial, 1)
    for path in directory(trial).path.rglob("*"):
        os.utime(path, (1.0, time.time() - shift))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    epochs: list[int] = []
    assert run_trial(trial.job, lambda told: epochs.append(told.epoch)).status == "done"
    assert epochs == [1, 2], "it did not go on from its checkpoint"
    assert results(trial) == results(whole)
    times = [line["time"] for line in directory(trial).history()]
    assert (times[-1] < times[0]) == (shift < 0)
    store = Store(Path(trial.job.store))
    assert store.state(trial.id, trial.job.code()) == "done"
    # Set aside twice within a second that has been there before: nothing is overwritten.
    for _ in range(2):
        store.set_aside(trial.id)
        directory(trial).path.mkdir()
    assert len(list(store.root.glob("superseded/*"))) == 2


# ---------------------------------------------------------------------- data


def settings(folder: Path, manifest: Path, *methods: str) -> list[str]:
    return [
        *(word for word in TINY if not word.startswith("dataset.limit")),
        "study=own_data",
        "backbone.width=4",
        f"dataset.manifest={manifest}",
        f"output={folder / 'runs'}",
        f"methods=[{','.join(methods)}]",
    ]


def spoiling(folder: Path, action: str) -> Path:
    """A method that does something to the data in the first step of its first trial."""
    once = f"open({str(folder / 'spoilt')!r}, 'x')"
    return method_file(
        folder, "Spoils", f"if not os.path.exists({str(folder / 'spoilt')!r}): {once}; {action}"
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_data_file_that_changes_in_mid_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trials read what was decoded before the first of them: all of a run are on the same data."""
    manifest = classification(tmp_path)
    file, other = tmp_path / "vec/train1.npy", tmp_path / "other.npy"
    whole = file.read_bytes()
    array(other, np.full(5, 3.0, np.float32))
    method = str(spoiling(tmp_path, f"os.replace({str(other)!r}, {str(file)!r})"))
    assert guarded(run.main, settings(tmp_path, manifest, method, "sf_md")) == 0
    assert file.read_bytes() != whole
    before = values(tmp_path)
    capsys.readouterr()
    # Other data are other trials: nothing is mixed with what was trained before.
    assert guarded(run.main, settings(tmp_path, manifest, method, "sf_md")) == 0
    assert "0 done, 0 stale, 0 failed, 2 to run" in capsys.readouterr().out
    file.write_bytes(whole)
    assert guarded(run.main, settings(tmp_path, manifest, method, "sf_md")) == 0
    assert "2 done, 0 stale, 0 failed, 0 to run" in capsys.readouterr().out
    assert values(tmp_path) == before


def test_a_data_file_that_vanishes_in_mid_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial that runs has its data; those behind it fail, and the file is named."""
    manifest = classification(tmp_path)
    file = tmp_path / "vec/train1.npy"
    whole = file.read_bytes()
    method = str(spoiling(tmp_path, f"os.unlink({str(file)!r})"))
    assert guarded(run.main, settings(tmp_path, manifest, method, "sf_md")) == 1
    assert "sf_md seed 0: FAILED: manifest.csv: 1 file cannot be found" in capsys.readouterr().out
    assert guarded(run.main, settings(tmp_path, manifest, method, "sf_md")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "vec/train1.npy" in error and "put the files there" in error
    file.write_bytes(whole)
    again = settings(tmp_path, manifest, method, "sf_md")
    assert guarded(run.main, [*again, "rerun=failed"]) == 0
    assert "1 done, 0 stale, 1 failed, 1 to run" in capsys.readouterr().out


def values(folder: Path) -> list[Any]:
    """The cells of the trials of spoils and sf_md, as the last report has them."""
    plan = json.loads((folder / "runs/own_data/plan.json").read_text())
    found = [folder / "runs/store" / trial["trial_id"] for trial in plan["trials"]]
    return [json.loads((path / "record.json").read_text())["cells"] for path in found]
