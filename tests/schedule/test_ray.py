"""Executor ray: the same numbers as in process, quiet, resumable whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import alive, epochs, results, run, start, wait_until, workers

TINY = (
    "dataset.limit=64",
    "train.epochs=2",
    "seeds=[0,1]",
    "backbone.width=4",
    "tracking.enabled=false",
)
LONG = ("methods=[sf_md,dmrnet]", "seeds=[0,1]", "train.epochs=60", "backbone.width=8")


def test_ray_gives_what_the_process_itself_gives(tmp_path: Path) -> None:
    ray, local = (
        (*TINY, f"output={tmp_path / 'ray'}"),
        (*TINY, f"output={tmp_path / 'local'}", "executor=local"),
    )
    first = run(*ray)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stderr == ""
    assert "\x1b" not in first.stdout and "raylet" not in first.stdout
    assert run(*local).returncode == 0
    assert results(*ray) == results(*local)
    tables = [
        (tmp_path / name / "quickstart" / "report.csv").read_bytes() for name in ("ray", "local")
    ]
    assert tables[0] == tables[1]


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    answer = run(*TINY, f"output={tmp_path}", "resources.address=127.0.0.1:1")
    assert answer.returncode == 2
    assert "resources.address=127.0.0.1:1" in answer.stderr and "Traceback" not in answer.stderr


def test_more_than_any_machine_has(tmp_path: Path) -> None:
    answer = run(*TINY, f"output={tmp_path}", "resources.cpus_per_trial=4000")
    assert answer.returncode == 2
    assert "resources.cpus_per_trial=4000" in answer.stderr


@pytest.mark.slow
def test_one_or_two_at_a_time_give_identical_tables(tmp_path: Path) -> None:
    tables = []
    for count in (1, 2):
        arguments = (*TINY, f"output={tmp_path / str(count)}", f"resources.max_concurrent={count}")
        assert run(*arguments).returncode == 0
        tables.append(
            (
                results(*arguments),
                (tmp_path / str(count) / "quickstart" / "report.csv").read_bytes(),
            )
        )
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_a_second_start_goes_on(tmp_path: Path) -> None:
    arguments = (*LONG, "tracking.enabled=false", f"output={tmp_path}")
    driver = start(*arguments)
    wait_until(lambda: any(n >= 5 for n in epochs(tmp_path).values()), driver)
    pids = list(workers(tmp_path).values())
    driver.send_signal(signal.SIGINT)
    text = driver.communicate(timeout=120)[0]
    assert driver.returncode == 130
    assert "To go on: python -m harness.run" in text and "Traceback" not in text
    assert not any(alive(pid) for pid in pids)
    # One may have been stopped before its first epoch.
    begun = list(tmp_path.glob("store/*/spec.json"))
    again = run(*arguments)
    assert again.returncode == 0 and f"({len(begun)} of them started before)" in again.stdout


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    arguments = (*LONG, "tracking.enabled=false", f"output={tmp_path / 'killed'}")
    driver = start(*arguments)
    wait_until(lambda: sum(n >= 10 for n in epochs(tmp_path / "killed").values()) >= 1, driver)
    trial, pid = next(
        (t, p)
        for t, p in workers(tmp_path / "killed").items()
        if epochs(tmp_path / "killed").get(t, 0) >= 10
    )
    os.kill(pid, signal.SIGKILL)
    text = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, text
    assert "its worker died; it goes on from its last epoch" in text
    log = (tmp_path / "killed" / "store" / trial / "log.txt").read_text()
    # Each epoch was trained once, but for the one that the kill cut off before its checkpoint.
    assert log.count("process ") == 2 and 60 <= log.count(", val accuracy") <= 62
    quiet = (*LONG, "tracking.enabled=false", f"output={tmp_path / 'quiet'}", "executor=local")
    assert run(*quiet).returncode == 0
    assert results(*arguments) == results(*quiet)


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = (*LONG, f"output={tmp_path / 'killed'}")
    driver = start(*arguments)
    wait_until(lambda: len(list((tmp_path / "killed").glob("store/*/record.json"))) >= 1, driver)
    wait_until(lambda: len(epochs(tmp_path / "killed")) >= 3, driver)
    pids = list(workers(tmp_path / "killed").values())
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its driver by 30 s"
        time.sleep(0.1)
    finished = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("store/*/record.json")
    }
    second = run(*arguments)
    assert second.returncode == 0, second.stdout + second.stderr
    assert (
        f"{len(finished)} done" in second.stdout and f"{4 - len(finished)} to run" in second.stdout
    )
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    quiet = (*LONG, "tracking.enabled=false", f"output={tmp_path / 'quiet'}", "executor=local")
    assert run(*quiet).returncode == 0
    assert results(*arguments) == results(*quiet)
    assert tracked(tmp_path / "killed") == dict.fromkeys(results(*arguments), 1)
    third = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "harness.run", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert third.returncode == 0 and "4 done, 0 stale, 0 failed, 0 to run" in third.stdout
    imported = {line.rpartition("|")[2].strip() for line in third.stderr.splitlines()}
    assert "torch" in imported and "ray" not in imported


def tracked(output: Path) -> dict[str, int]:
    """Trial id -> how many MLflow runs it has."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    counts: dict[str, int] = {}
    for experiment in client.search_experiments():
        for found in client.search_runs(
            [experiment.experiment_id], filter_string="tags.kind = 'trial'"
        ):
            assert found.info.status == "FINISHED"
            counts[found.data.tags["trial_id"]] = counts.get(found.data.tags["trial_id"], 0) + 1
    return counts
