"""A training step by precision, and on a GPU by how many trials share it.

    python -m tests.benchmarks.gpu_step

Without a GPU it measures the precisions on the CPU, and says that it does.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial

from harness.schedule.packing import fastest, probe
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.recipe import PRECISIONS
from tests.benchmarks._models import Setting, casia, digits, trainer_of
from tests.benchmarks._paired import DEVICE, one_thread, print_table, timed

METHODS_HERE = ("sf_md", "dmrnet", "mmformer")
EPOCH = 50
HEAD = ("method", "samples a second, float32", *(f"float32 / {name}" for name in PRECISIONS[1:]))
PACKED = ("precision", "trials at once: what they get done, times what one does", "fastest")
NO_GPU = (
    "This machine has no GPU: the precisions are measured on its CPU, which has no TF32, and how"
    " many trials should share a GPU is not measured."
)


def measured(named: str, setting: Setting, rounds: int) -> list[str]:
    """A row: one step of the loop in each precision, in turn."""
    trainers = {name: trainer_of(named, setting, precision=name) for name in PRECISIONS}
    ways = {name: partial(trainer.rehearse, 1) for name, trainer in trainers.items()}
    # A rehearsal is two steps and an evaluation; what it returns is the step alone.
    seconds = {name: [] for name in ways}
    found = timed({name: partial(_kept, way, seconds[name]) for name, way in ways.items()}, rounds)
    found.seconds = {name: values[1:] for name, values in seconds.items()}
    rate = len(setting.split) / found.median("float32")
    ratios = [f"{found.ratio('float32', name):.2f}" for name in PRECISIONS[1:]]
    return [named, f"{rate:.0f}", *ratios]


def _kept(way: partial[float], into: list[float]) -> None:
    into.append(way())


def packed(precision: str) -> list[str]:
    """A row: trials of the quick start that share a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["methods=[sf_md]", f"output={folder}", "resources.gpus_per_trial=1"]
        plan = Plan(load_study([*arguments, f"train.precision={precision}"]))
        found = probe(plan.trials[0].job, os.cpu_count() or 1)
    alone = 1 / found.seconds[1]
    rates = [f"{count}: {count / took / alone:.2f}" for count, took in found.seconds.items()]
    return [precision, ", ".join(rates), str(fastest(found.seconds))]


def main(rounds: int = 7) -> None:
    """Print the tables that this machine allows."""
    on_gpu = DEVICE.type == "cuda"
    with one_thread():
        for setting in (digits(64), casia(64 if on_gpu else 8)):
            rows = [measured(named, setting, rounds) for named in METHODS_HERE]
            print_table(f"A step by precision; {setting.name}", HEAD, rows)
    if not on_gpu:
        print(f"\n{NO_GPU}", flush=True)
        return
    print_table("Trials that share a GPU; digits", PACKED, [packed(name) for name in PRECISIONS])


if __name__ == "__main__":
    main()
