"""The command in processes of its own: killed and repeated, and what it says of mistakes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support.processes import run as run_command

STUDY = ("study=quickstart", "methods=[sf_md]", "seeds=[0]", "train.epochs=1")


def evidence(output: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(output.rglob("corrupted/*.npz")):
        with np.load(path) as arrays:
            found[path.name] = arrays["scores"].tobytes() + str(arrays["facts"]).encode()
    return found


@pytest.mark.slow
@pytest.mark.long
def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same(tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("killed", "undisturbed")]
    for output in outputs:
        arguments = [*STUDY, f"output={output}", "tracking.enabled=false"]
        for trial in Plan(load_study(arguments)).trials:
            assert run_trial(trial.job).status == "done"
    first, second = ([*STUDY, f"output={out}", "tracking.enabled=false"] for out in outputs)
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.robust", *first], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(outputs[0].rglob("corrupted/*.npz"))) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = evidence(outputs[0])
    assert 20 <= len(before) < 106
    written = {path: path.stat().st_mtime_ns for path in outputs[0].rglob("corrupted/*.npz")}
    done = run_command(*first, module="harness.robust")
    assert done.returncode == 0, done.stderr
    assert f"{106 - len(before)} of 106 to do" in done.stdout
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    assert run_command(*second, module="harness.robust").returncode == 0
    assert evidence(outputs[0]) == evidence(outputs[1])
    assert len(evidence(outputs[1])) == 106


def test_nothing_finished_is_one_sentence(tmp_path: Path) -> None:
    done = run_command(*STUDY, f"output={tmp_path}", module="harness.robust")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: study 'quickstart' has no finished trial below {tmp_path}; run it first\n"
    )
