"""Real driver processes for tests: start, watch their store, end them.

Called by tests of schedule, search and commands.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan

# Ray's workers are nice by default: beside another test process they would hardly run.
os.environ.setdefault("RAY_worker_niceness", "0")


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """``python -m harness.run`` in a process of its own, output piped together.

    ``environment``: variables beside those of this process.
    """
    command = [sys.executable, "-m", "harness.run", *arguments]
    # A test run in the background of a script ignores Ctrl-C, and so would its children.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=listen,
        env=os.environ | dict(environment or {}),
    )


def run(
    *arguments: str, module: str = "harness.run", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | dict(environment or {}),
    )


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300
) -> None:
    """Wait for a condition; fail when the process ends or time runs out first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(
                f"the driver ended early ({process.returncode}):\n{process.communicate()[0]}"
            )
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"nothing happened in {seconds} s:\n{process.communicate()[0]}")
        time.sleep(0.05)


def results(*arguments: str) -> dict[str, Any]:
    """Trial id -> everything of its record that interruptions must not change.

    Weights and scores by their hash.
    """
    study = load_study(list(arguments))
    store = Store.below(study.output)
    found = {}
    for trial in Plan(study).trials:
        record = store.trial(trial.id).record()
        assert record is not None, f"{trial.job.name} has no record"
        curves = [(line["step"], line["values"]) for line in store.trial(trial.id).history()]
        found[trial.id] = (record["files"], record["cells"], record["selected_epoch"], curves)
    return found


def epochs(store: Path) -> dict[str, int]:
    """Trial id -> finished epochs."""
    return {
        path.parent.name: len(path.read_text().splitlines())
        for path in store.glob("store/*/metrics.jsonl")
    }


def workers(store: Path) -> dict[str, int]:
    """Trial id -> the process that ran it last, from its log."""
    found = {}
    for path in store.glob("store/*/log.txt"):
        pids = re.findall(r"process (\d+)$", path.read_text(), re.MULTILINE)
        if pids:
            found[path.parent.name] = int(pids[-1])
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
