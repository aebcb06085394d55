"""The store: whole or not there, one holder at a time, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.store import (
    Store,
    exclusive,
    file_sha256,
    only_holder,
    read_json,
    write_atomically,
    write_json,
)
from harness.store.checkpoint import CheckpointFile

HOLD = """
import sys, time
from pathlib import Path
from harness.store import exclusive
with exclusive(Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(60)
"""
SECOND = """
import sys
from pathlib import Path
from harness.store import only_holder
with only_holder(Path(sys.argv[1]), 'busy'):
    pass
"""


CELL = {"value": 50.0, "n": 2, "collapsed": False}
RECORD: dict[str, Any] = {
    "format": 1,
    "trial_id": "a",
    "spec": {"dataset": {}, "seed": 0},
    "cells": {"val": {"x": CELL}, "test": {"x": CELL}},
    "counts": {"val": 2},
    "parameters": {"training": 1, "inference": 1},
    "environment": {"device": "cpu", "device_name": "x", "torch": "2"},
    "combinations": ["x"],
    "remarks": [],
    "metric": "accuracy",
    **dict.fromkeys(("train_seconds", "seconds", "val_mean", "peak_memory_bytes"), 1.0),
    **dict.fromkeys(("epochs", "selected_epoch", "starved_encoder_batches"), 1),
}


def finished(store: Store, trial_id: str, code: str = "abc") -> None:
    trial = store.trial(trial_id)
    trial.save_spec(RECORD["spec"], "x")
    trial.save_history([{"step": 0, "time": 1.0, "values": {"val/accuracy_mean": 50.0}}])
    for name in ("weights.pt", "scores.npz"):
        write_atomically(trial / name, lambda stream: stream.write(b"12345"))
    files = trial.describe_files("weights.pt", "scores.npz")
    trial.save_record("record.json", RECORD | {"code": code, "files": files})


def test_states(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.state("a", "abc") == "new"
    write_json(store.trial("a") / "spec.json", {})
    assert store.state("a", "abc") == "started"
    finished(store, "a")
    assert (store.state("a", "abc"), store.state("a", "other")) == ("done", "stale")
    write_json(store.trial("b") / "failure.json", {"reason": "x"})
    assert store.state("b", "abc") == "failed"


def test_a_record_with_missing_or_short_files_is_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, "a")
    (store.trial("a") / "weights.pt").write_bytes(b"123")
    assert store.trial("a").record() is None
    (store.trial("a") / "weights.pt").unlink()
    assert store.trial("a").record() is None


def test_a_changed_file_of_the_same_size_is_told_by_its_hash(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, "a")
    (store.trial("a") / "weights.pt").write_bytes(b"12346")
    record = store.trial("a").record()
    assert record is not None
    assert store.trial("a").corrupted(record) == ["weights.pt"]


def test_half_a_json_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1')
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "absent.json") is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(target, {"a": float("nan")})
    assert read_json(target) == {"a": 1}


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert (
        file_sha256(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_set_aside_keeps_everything(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, "a")
    store.set_aside("a")
    finished(store, "a")
    store.set_aside("a")
    assert store.state("a", "abc") == "new"
    assert len(list((tmp_path / "superseded").glob("a-*/record.json"))) == 2


def test_a_checkpoint_of_other_code_is_ignored(tmp_path: Path) -> None:
    CheckpointFile(tmp_path / "c.pt", "old").save({"x": 1})
    assert CheckpointFile(tmp_path / "c.pt", "old").load() == {"x": 1}
    assert CheckpointFile(tmp_path / "c.pt", "new").load() is None
    assert CheckpointFile(tmp_path / "absent.pt", "new").load() is None


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    waited: list[bool] = []

    def kill() -> None:
        waited.append(True)
        holder.kill()

    with exclusive(path, kill):
        assert waited == [True]
    holder.communicate()


def test_a_second_driver_is_told_who_holds_the_study(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with only_holder(path, "study 'x' is being run by another process"):
        second = subprocess.run(
            [sys.executable, "-c", SECOND, str(path)], capture_output=True, text=True, check=False
        )
        assert f"UserError: busy (process {os.getpid()})" in second.stderr
    with only_holder(path, "free again"):
        pass


# ---------------------------------------------------------------------- what is read back


def changed_digit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def test_an_epoch_whose_value_is_changed_is_no_epoch(tmp_path: Path) -> None:
    """JSON as well formed as before: nothing that mirrors the curve may show it."""
    trial = Store(tmp_path).trial("a")
    epochs = [{"step": n, "time": 5.0 + n, "values": {"loss": n / 8}} for n in range(4)]
    epochs[3]["values"] = {"loss": float("nan")}
    trial.save_history(epochs)
    assert str(trial.history()) == str(epochs)
    changed_digit(trial / "metrics.jsonl", '"loss": 0.25', '"loss": 0.75')
    assert trial.history() == epochs[:2]


def test_epochs_written_before_each_had_a_checksum_are_read(tmp_path: Path) -> None:
    trial = Store(tmp_path).trial("a")
    trial.path.mkdir()
    (trial / "metrics.jsonl").write_text('{"step": 0, "time": 1.0, "values": {"loss": 1.5}}\n')
    assert trial.history() == [{"step": 0, "time": 1.0, "values": {"loss": 1.5}}]


def test_a_reason_that_is_changed_is_not_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    trial = store.trial("a")
    trial.save_spec({}, "x")
    trial.save_failure({"trial_id": "a", "reason": "out of memory"})
    failure = trial.failure()
    assert failure is not None and failure["reason"] == "out of memory"
    assert store.state("a", "code") == "failed"
    changed_digit(trial / "failure.json", "out of memory", "not separable")
    assert trial.failure() is None and store.state("a", "code") == "started"
