"""What a trial costs beside its training: in a process of its own, and in one that is warm.

    python -m tests.benchmarks.trial_start

A trial of one epoch on 64 digits, whose training is a few hundredths of a second: what is left is
starting up, building, evaluating, writing and, in a process of its own, importing.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.spec import Job
from harness.training.trial import run_trial
from tests.benchmarks._paired import print_table

ARGUMENTS = ("methods=[sf_md]", "dataset.limit=64", "train.epochs=1", "train.batch_size=32")
COLD = """
import sys
from tests.benchmarks.trial_start import job
from harness.training.trial import run_trial
assert run_trial(job(sys.argv[1], int(sys.argv[2]))).status == "done"
"""


def job(output: str, seed: int) -> Job:
    """The trial of a seed."""
    return Plan(load_study([*ARGUMENTS, f"output={output}", f"seeds=[{seed}]"])).trials[0].job


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(rounds: int = 5) -> None:
    """Print the table: CPU seconds, medians over rounds."""
    seconds: dict[str, list[float]] = {"own process": [], "warm": [], "of it training": []}
    with tempfile.TemporaryDirectory() as output:
        run_trial(job(output, 0))
        for seed in range(1, 2 * rounds, 2):
            before = _children()
            subprocess.run([sys.executable, "-c", COLD, output, str(seed)], check=True)
            seconds["own process"].append(_children() - before)
            planned = job(output, seed + 1)
            started = time.process_time()
            assert run_trial(planned).status == "done"
            seconds["warm"].append(time.process_time() - started)
            record = Store(Path(planned.store)).trial(planned.spec.id).record()
            assert record is not None
            seconds["of it training"].append(float(record["train_seconds"]))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = statistics.median(
        a / b for a, b in zip(seconds["own process"], seconds["warm"], strict=True)
    )
    print_table(
        "The start of a trial; CPU seconds, of training seconds of the clock",
        (*middle, "own process / warm"),
        [[*(f"{value:.2f}" for value in middle.values()), f"{ratio:.0f}"]],
    )


if __name__ == "__main__":
    main()
