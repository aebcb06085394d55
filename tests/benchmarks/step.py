"""A training step of each method: where its time goes, and what the optimiser's form saves.

    python -m tests.benchmarks.step

The optimiser's forms: a loop over the parameters in Python, lists of tensors (``foreach``, what a
CPU does; the same bits), one kernel (``fused``, what a GPU does).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from harness.method import EpochContext, TrainBatch
from harness.protocol.seeds import Noise
from tests.benchmarks._models import METHODS_HERE, Setting, casia, digits, trainer_of
from tests.benchmarks._paired import DEVICE, now, one_thread, print_table

PARTS = ("batch", "encode", "fuse", "loss", "backward", "SGD")
HEAD = ("method", "ms", *(f"{part}, %" for part in PARTS), "SGD: loop / foreach", "loop / fused")
PHASE = (50, 100)


def measured(named: str, setting: Setting, rounds: int) -> list[str]:
    """A row of the table."""
    trainer = trainer_of(named, setting)
    model, parameters = trainer.model.train(), list(trainer.model.parameters())
    forms = {
        name: torch.optim.SGD(
            parameters, lr=1e-6, momentum=0.9, nesterov=True, weight_decay=5e-4, **form
        )
        for name, form in {
            "loop": {"foreach": False},
            "foreach": {"foreach": True},
            "fused": {"fused": True},
        }.items()
    }
    model.begin_epoch(EpochContext(*PHASE, model.combinations))
    noise = Noise(trainer.streams.generator("noise", device=DEVICE))
    index = torch.arange(len(setting.split))
    present = trainer._draw_masks(0)
    shown, where = present.to(DEVICE), index.to(DEVICE)
    seconds: dict[str, list[float]] = {name: [] for name in (*PARTS[:-1], *forms)}

    def clocked(name: str, function: Callable[[], Any]) -> Any:
        started = now()
        result = function()
        seconds[name].append(now() - started)
        return result

    for _ in range(rounds + 1):
        inputs, target = clocked("batch", lambda: setting.split.batch(index))
        features = clocked("encode", lambda inputs=inputs: model.prepare(model.encode_all(inputs)))
        batch = TrainBatch(
            inputs, target, torch.ones_like(shown), shown, where, features, PHASE, noise
        )
        output = clocked("fuse", lambda f=features: model.combine(f, shown, noise))
        loss = clocked(
            "loss",
            lambda o=output, b=batch: torch.stack(list(model.loss(o, b).values())).sum(),
        )
        model.zero_grad(set_to_none=True)
        clocked("backward", loss.backward)
        for name, form in forms.items():
            clocked(name, form.step)
    middle = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    used = [middle[part] for part in PARTS[:-1]]
    used.append(middle["fused" if DEVICE.type == "cuda" else "foreach"])
    return [
        named,
        f"{1000 * sum(used):.1f}",
        *(f"{100 * part / sum(used):.0f}" for part in used),
        f"{middle['loop'] / middle['foreach']:.2f}",
        f"{middle['loop'] / middle['fused']:.2f}",
    ]


def main(rounds: int = 9) -> None:
    """Print one table for each setting."""
    with one_thread():
        for setting in (digits(64), casia(8)):
            rows = [measured(named, setting, rounds) for named in METHODS_HERE]
            print_table(f"A training step; {setting.name}", HEAD, rows)


if __name__ == "__main__":
    main()
