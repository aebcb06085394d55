"""What dies, stops or hangs under a driver, for real: it says so and goes on to the same results.

Beside test_ray.py, where workers and drivers are killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness import PROJECT
from tests.support.processes import alive, epochs, results, run, start, wait_until, workers
from tests.support.ray_processes import members, part, ray_leader

STUDY = (
    *("methods=[sf_md]", "seeds=[0,1]", "train.epochs=20", "backbone.width=8"),
    "tracking.enabled=false",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the same study gives in one process without a fault."""
    arguments = (*STUDY, f"output={tmp_path_factory.mktemp('quiet')}", "executor=local")
    # Fixtures of a module come before the one that lets commands find this checkout.
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "harness.run", *arguments]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    return results(*arguments)


def started(output: Path, *more: str) -> subprocess.Popen[str]:
    """A driver whose trials are in the middle."""
    driver = start(*STUDY, *more, f"output={output}")
    wait_until(lambda: any(n >= 3 for n in epochs(output).values()), driver)
    return driver


def kill_raylet(leader: int) -> None:
    os.kill(part(leader, "raylet/raylet"), signal.SIGKILL)


def kill_gcs(leader: int) -> None:
    os.kill(part(leader, "gcs/gcs_server"), signal.SIGKILL)


def kill_all(leader: int) -> None:
    for process in members(leader):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (kill_raylet, "Ray's raylet died (SIGKILL); Ray is started again (1 of 3) and"),
        (kill_gcs, "Ray's gcs_server died (SIGKILL); Ray is started again (1 of 3) and"),
        (kill_all, "died; Ray is started again (1 of 3) and"),
    ],
)
def test_ray_killed_in_mid_trial_is_started_again_and_the_table_is_the_same(
    tmp_path: Path, fault: Callable[[int], None], sentence: str, undisturbed: dict[str, Any]
) -> None:
    output = tmp_path / "killed"
    driver = started(output)
    leader = ray_leader(driver.pid)
    fault(leader)
    killed = time.monotonic()
    wait_until(lambda: not members(leader), driver, seconds=60)
    # A minute is what is promised; the old session is gone before the new one begins.
    assert time.monotonic() - killed < 60
    text = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, text
    (line,) = [line for line in text.splitlines() if "Ray is started again" in line]
    assert sentence in line and "go on from the last epoch; what Ray says is in" in line
    log = Path(line.rpartition(" ")[2])
    assert log == output / "quickstart" / "ray.log" and log.is_file()
    assert "Traceback" not in text and "raylet.cc" not in text and "\x1b" not in text
    assert results(*STUDY, f"output={output}") == undisturbed


@pytest.mark.slow
@pytest.mark.long
def test_ray_that_dies_again_and_again_ends_the_command_with_the_way_on(tmp_path: Path) -> None:
    driver = started(tmp_path, "train.epochs=4000")
    deaths = 0
    while driver.poll() is None and deaths < 10:
        leader = ray_leader(driver.pid)
        kill_all(leader)
        deaths += 1
        wait_until_over = time.monotonic() + 120
        while driver.poll() is None and ray_leader(driver.pid) in (leader, 0):
            assert time.monotonic() < wait_until_over
            time.sleep(0.05)
    text = driver.communicate(timeout=60)[0]
    assert driver.returncode == 1 and deaths == 4, text
    assert "4 times without a finished trial between" in text
    assert "To go on: python -m harness.run" in text.splitlines()[-1]
    assert "Traceback" not in text


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_of_ray_outlives_a_killed_driver(tmp_path: Path, stopped: bool) -> None:
    driver = started(tmp_path, "train.epochs=4000")
    leader, pids = ray_leader(driver.pid), list(workers(tmp_path).values())
    if stopped:
        os.kill(leader, signal.SIGSTOP)
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 30
    while members(leader) or any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "Ray outlived its driver by 30 s"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.long
def test_a_driver_and_a_worker_that_are_stopped_and_continued_are_no_stalled_trials(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    output = tmp_path / "stopped"
    driver = started(output, "resources.stall_minutes=0.5")
    os.kill(driver.pid, signal.SIGSTOP)
    time.sleep(40)
    os.kill(driver.pid, signal.SIGCONT)
    worker = next(pid for pid in workers(output).values() if alive(pid))
    os.kill(worker, signal.SIGSTOP)
    time.sleep(8)
    os.kill(worker, signal.SIGCONT)
    text = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, text
    assert "no progress" not in text and "started again" not in text and "died" not in text
    assert results(*STUDY, f"output={output}") == undisturbed


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_sighup_end_a_run_like_ctrl_c(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    driver = started(tmp_path, "train.epochs=400")
    leader, pids = ray_leader(driver.pid), list(workers(tmp_path).values())
    kept = epochs(tmp_path)
    driver.send_signal(number)
    text = driver.communicate(timeout=60)[0]
    assert driver.returncode == code, text
    assert "To go on: python -m harness.run" in text.splitlines()[-1]
    assert "Traceback" not in text and "***" not in text
    assert not members(leader) and not any(alive(pid) for pid in pids)
    checkpoints = {path.parent.name for path in tmp_path.glob("store/*/checkpoint.pt")}
    assert checkpoints >= kept.keys()


def test_sigterm_in_the_middle_of_a_trial_in_process(tmp_path: Path) -> None:
    arguments = (*STUDY, "train.epochs=4000", "executor=local", f"output={tmp_path}")
    driver = start(*arguments)
    wait_until(lambda: any(n >= 2 for n in epochs(tmp_path).values()), driver)
    driver.terminate()
    text = driver.communicate(timeout=60)[0]
    assert driver.returncode == 143, text
    assert "To go on: python -m harness.run" in text.splitlines()[-1] and "Traceback" not in text


HANGING = """
import ctypes, time
from methods.sf_md import SFMD

class Hanging(SFMD):
    def begin_epoch(self, context):
        super().begin_epoch(context)
        if context.epoch == 1:
            {hang}
"""
HOLDS_THE_LOCK = "ctypes.PyDLL(None).sleep(100000)"
IN_PYTHON = """
            while True:
                try:
                    time.sleep(1000)
                except Exception:
                    pass
"""
OUTSIDE_PYTHON = """
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)
"""


def hanging(tmp_path: Path, hang: str) -> tuple[str, ...]:
    """The arguments of a study with a method that hangs, and one that does not."""
    method = tmp_path / "hanging.py"
    method.write_text(HANGING.format(hang=hang.strip()))
    return (
        *("dataset.limit=64", "train.epochs=3", "backbone.width=4", "tracking.enabled=false"),
        *(f"methods=[{method},sf_md]", "seeds=[0]", f"output={tmp_path}"),
        "resources.stall_minutes=0.25",
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_method_that_hangs_is_ended_tried_again_alone_and_failed(tmp_path: Path) -> None:
    """It holds Python's lock: nothing in its own process could end it."""
    arguments = hanging(tmp_path, HOLDS_THE_LOCK)
    answer = run(*arguments)
    text = answer.stdout + answer.stderr
    assert answer.returncode == 1, text
    assert re.search(r"hanging.*no progress for [\d.]+ minutes; it was ended, and is tried", text)
    assert re.search(r"hanging.*FAILED: no progress for [\d.]+ minutes, also when it ran", text)
    assert text.count("done in") == 1 and "Traceback" not in text
    failure = next(tmp_path.glob("store/*/failure.json"))
    # The stack of the hanging thread, twice.
    assert (failure.parent / "log.txt").read_text().count("in begin_epoch") == 2


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("hang", [IN_PYTHON, OUTSIDE_PYTHON])
def test_a_method_that_hangs_in_process(tmp_path: Path, hang: str) -> None:
    arguments = (*hanging(tmp_path, hang), "executor=local")
    answer = run(*arguments)
    text = answer.stdout + answer.stderr
    assert answer.returncode == 1, text
    assert re.search(r"hanging.*no progress for [\d.]+ minutes", text) and "Traceback" not in text
    failure = next(tmp_path.glob("store/*/failure.json"))
    assert "in begin_epoch" in (failure.parent / "log.txt").read_text()
    if hang == IN_PYTHON:
        assert re.search(r"FAILED: no progress for [\d.]+ minutes, twice", text)
        assert text.count("done in") == 1
        return
    assert "cannot be interrupted" in failure.read_text()
    again = run(*arguments)
    assert again.returncode == 1 and again.stdout.count("done in") == 1
