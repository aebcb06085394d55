"""Nobody reads what a command prints, or it is asked to end twice: its work is not lost."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import TINY
from tests.support.processes import epochs, start, wait_until

SMALL = (*TINY, "methods=[sf_md]")


def in_a_shell(output: Path, ending: str) -> subprocess.CompletedProcess[str]:
    """``python -m harness.run`` with what a shell writes behind it; the shell's own output."""
    command = shlex.join([sys.executable, "-m", "harness.run", *SMALL, f"output={output}"])
    return subprocess.run(
        ["bash", "-c", f"{command} {ending}"], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    "ending",
    [
        "2>/dev/null | head -1 > /dev/null; echo ${PIPESTATUS[0]}",
        pytest.param(">&- 2>&-; echo $?", marks=pytest.mark.slow),
    ],
)
def test_a_study_that_nobody_reads_goes_on_to_its_end(tmp_path: Path, ending: str) -> None:
    done = in_a_shell(tmp_path, ending)
    assert done.stdout == "0\n" and done.stderr == ""
    assert (tmp_path / "quickstart" / "report.csv").is_file()


@pytest.mark.slow
def test_a_signal_that_is_repeated_at_once_is_one_request(tmp_path: Path) -> None:
    driver = start(*SMALL, "train.epochs=500", f"output={tmp_path}")
    wait_until(lambda: any(n >= 2 for n in epochs(tmp_path).values()), driver)
    for _ in range(3):
        driver.send_signal(signal.SIGTERM)
    text = driver.communicate(timeout=120)[0]
    assert driver.returncode == 143, text
    assert "To go on: python -m harness.run" in text and "Traceback" not in text
