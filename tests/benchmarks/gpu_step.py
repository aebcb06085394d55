"""A training step by precision, and on a GPU replayed from a CUDA graph, by how many trials share
the device, and evaluation.

    python -m tests.benchmarks.gpu_step

Without a GPU it measures the precisions on the CPU, and says that it does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import partial

import torch

from harness.schedule.packing import fastest, probe
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.cuda_graph import Recorder, on_gpu
from harness.training.evaluation import predict
from harness.training.recipe import PRECISIONS
from tests.benchmarks._models import METHODS_HERE, Setting, casia, digits, trainer_of
from tests.benchmarks._paired import DEVICE, one_thread, print_table, timed

ON_CPU = ("sf_md", "dmrnet", "mmformer")
GPU_STEPS = 40
"""Of an epoch on a GPU, whose graph is recorded anew in each."""

GPU_ROUNDS = 2
EVALUATED = 1024
Way = tuple[str, str, Recorder | None]
PLAIN: tuple[Way, ...] = tuple((name, name, None) for name in PRECISIONS)
REPLAYED: tuple[Way, ...] = tuple((f"{name}, graph", name, on_gpu) for name in PRECISIONS)
"""The name of a way of taking a step, its precision, and what makes it a replayed one."""

PACKED = ("precision", "trials at once: what they get done, times what one does", "fastest")
EVALUATION = ("method", *(f"samples a second, {name}" for name in PRECISIONS))
NO_GPU = (
    "This machine has no GPU: the precisions are measured on its CPU, which has no TF32; CUDA"
    " graphs, evaluation on a GPU, and how many trials should share one, are not measured."
)


def head(ways: Sequence[Way]) -> tuple[str, ...]:
    """The columns of the first table: a rate, and what it is multiplied by."""
    return (
        "method",
        "samples a second, float32",
        *(f"times, {name}" for name, _, _ in ways[1:]),
        "plain steps",
    )


def measured(
    named: str, setting: Setting, rounds: int, steps: int = 1, ways: Sequence[Way] = PLAIN
) -> list[str]:
    """A row: a step of the loop in each way, in turn, and why one could not be replayed."""
    trainers = {}
    for name, precision, record in ways:
        trainers[name] = trainer_of(named, setting, precision=precision)
        trainers[name].record = record
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    rehearsed = {
        name: partial(_kept, partial(trainer.rehearse, steps), seconds[name])
        for name, trainer in trainers.items()
    }
    # A rehearsal is twice the steps and an evaluation; what it returns is a step alone.
    found = timed(rehearsed, rounds)
    found.seconds = {name: values[1:] for name, values in seconds.items()}
    first = ways[0][0]
    rate = len(setting.split) / found.median(first)
    ratios = [f"{found.ratio(first, name):.2f}" for name, _, _ in ways[1:]]
    refused = [remark for trainer in trainers.values() for remark in trainer.remarks]
    return [named, f"{rate:.0f}", *ratios, "; ".join(dict.fromkeys(refused)) or "–"]


def _kept(way: partial[float], into: list[float]) -> None:
    into.append(way())


def evaluated(named: str, setting: Setting, rounds: int) -> list[str]:
    """A row: samples a second, each on all combinations, by precision."""
    model = trainer_of(named, setting).model
    split = setting.split.select(torch.arange(EVALUATED) % len(setting.split))
    ways = {name: partial(predict, model, split, 256, DEVICE, name) for name in PRECISIONS}
    found = timed(ways, rounds)
    return [named, *(f"{EVALUATED / found.median(name):.0f}" for name in PRECISIONS)]


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
    with one_thread():
        if DEVICE.type == "cuda":
            _on_gpu()
            return
        for setting in (digits(64), casia(8)):
            rows = [measured(named, setting, rounds) for named in ON_CPU]
            print_table(f"A step by precision; {setting.name}", head(PLAIN), rows)
    print(f"\n{NO_GPU}", flush=True)


def _on_gpu() -> None:
    setting, ways = casia(64), (*PLAIN, *REPLAYED)
    steps = [measured(named, setting, GPU_ROUNDS, GPU_STEPS, ways) for named in METHODS_HERE]
    print_table(f"A step by precision and graph; {setting.name}", head(ways), steps)
    scored = [evaluated(named, setting, GPU_ROUNDS) for named in METHODS_HERE]
    print_table(f"All combinations; {setting.name}", EVALUATION, scored)
    print_table("Trials that share a GPU; digits", PACKED, [packed(name) for name in PRECISIONS])


if __name__ == "__main__":
    main()
