"""Evaluation of all combinations: one forward pass for each, against encoding once.

    python -m tests.benchmarks.evaluation

naive: a plain forward pass for each combination. once: encode once, a call of ``fuse`` for each
(what a CPU does). shared: encode once, one call for all (what a GPU does).
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method import Method
from harness.training.fusion import Fusion
from tests.benchmarks._models import METHODS_HERE, Setting, casia, difference, digits, model_of
from tests.benchmarks._paired import DEVICE, flops, one_thread, print_table, timed

HEAD = (
    "method",
    "naive / once, operations",
    "naive / once",
    "naive / shared",
    "once / shared",
    "largest difference of shared scores",
)


class Ways:
    """The three ways on one batch; each returns scores (C, B, K)."""

    def __init__(self, model: Method, setting: Setting) -> None:
        self.model = model.eval()
        self.inputs, _ = setting.split.batch(torch.arange(len(setting.split)))
        self.rows = len(setting.split)

    @torch.no_grad()
    def naive(self) -> Tensor:
        masks = Fusion(self.model, DEVICE).masks
        return torch.stack(
            [self.model(self.inputs, mask.expand(self.rows, -1)).logits for mask in masks]
        )

    def once(self) -> Tensor:
        return self._cached(0)

    def shared(self) -> Tensor:
        return self._cached(1 << 40)

    @torch.no_grad()
    def _cached(self, at_once: int) -> Tensor:
        fusion = Fusion(self.model, DEVICE, at_once)
        cache = self.model.prepare(self.model.encode_all(self.inputs))
        calls = fusion.calls(cache, self.rows)
        return torch.cat([fusion.logits(cache, call, self.rows) for call in calls])


def measured(named: str, setting: Setting, rounds: int) -> list[str]:
    """A row of the table."""
    ways = Ways(model_of(named, setting), setting)
    found = timed({"naive": ways.naive, "once": ways.once, "shared": ways.shared}, rounds)
    return [
        named,
        f"{flops(ways.naive) / flops(ways.once):.2f}",
        f"{found.ratio('naive', 'once'):.2f}",
        f"{found.ratio('naive', 'shared'):.2f}",
        f"{found.ratio('once', 'shared'):.2f}",
        difference(ways.once(), ways.shared()),
    ]


def main(rounds: int = 5) -> None:
    """Print one table for each setting."""
    with one_thread():
        for setting in (casia(8), digits(64)):
            rows = [measured(named, setting, rounds) for named in METHODS_HERE]
            print_table(f"Evaluation of 7 combinations; {setting.name}", HEAD, rows)


if __name__ == "__main__":
    main()
