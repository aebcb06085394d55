"""Trials evaluated under corruptions in one process, and several at once: seconds of the clock.

    python -m tests.benchmarks.bad_sensors [KEY=VALUE ...]

The command runs as a user runs it, report included, both ways in turn on the same trained models,
whose evidence is removed in between. Models are trained for one epoch: evaluating them takes as
long as if they were trained to the end.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.robust.evidence import FOLDER
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.benchmarks._paired import Timed, print_table

STUDY = ("methods=[sf_md,hemis,lcr,dmrnet,shaspec]", "seeds=[0,1,2,3,4]", "train.epochs=1")
WAYS = {"one process": ["executor=local"], "several": ["executor=ray"]}
HEAD = ("trials", "one process, s", "several, s", "times as fast", "each round")


def measured(output: Path, given: Sequence[str], rounds: int) -> list[str]:
    """A row of the table."""
    arguments = [*given, f"output={output}", "tracking.enabled=false"]
    trials = Plan(load_study(arguments)).trials
    for trial in trials:
        assert run_trial(trial.job).status == "done"
    found = Timed({name: [] for name in WAYS})
    for _ in range(rounds):
        for name, way in WAYS.items():
            for folder in output.rglob(FOLDER):
                shutil.rmtree(folder)
            started = time.monotonic()
            command = [sys.executable, "-m", "harness.robust", *arguments, *way]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found.seconds[name].append(time.monotonic() - started)
    one, several = found.seconds.values()
    each = [f"{a:.0f} / {b:.0f}" for a, b in zip(one, several, strict=True)]
    return [
        str(len(trials)),
        *(f"{found.median(name):.1f}" for name in WAYS),
        f"{found.ratio(*WAYS):.2f}",
        ", ".join(each),
    ]


def main(given: Sequence[str] = STUDY, rounds: int = 3) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        row = measured(Path(folder) / "runs", given, rounds)
    print_table("Evaluating with bad sensors", HEAD, [row])


if __name__ == "__main__":
    main(sys.argv[1:] or STUDY)
