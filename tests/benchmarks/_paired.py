"""Two or more ways of doing the same, timed in turn in one run; called by every benchmark here.

Times are of this process' CPU, so that other processes of the machine count for less; on a GPU they
are of the clock, after it has finished. Ratios are medians over rounds of the ratio in each round.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Timed:
    """Seconds of each way in each round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds, the median over rounds."""
        return statistics.median(self.seconds[name])

    def ratio(self, slower: str, faster: str) -> float:
        """How many times as long ``slower`` takes, the median over rounds of the ratio in each."""
        pairs = zip(self.seconds[slower], self.seconds[faster], strict=True)
        return statistics.median(a / b for a, b in pairs)


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> Timed:
    """Every way once in each round, after one round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = now()
            way()
            if number:
                seconds[name].append(now() - started)
    return Timed(seconds)


def now() -> float:
    """Seconds of CPU time, or of the clock where a GPU works."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions, as they are dispatched.

    Attention that a CPU computes in one fused operator is not among them.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        function()
    return int(counter.get_total_flops())


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, on standard output."""
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def machine() -> str:
    """The device, its cores or memory, and torch's version, in a sentence."""
    if DEVICE.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"CPU {name}, 1 thread, torch {torch.__version__}"


@contextmanager
def one_thread() -> Any:
    """As a trial runs: one thread, deterministic algorithms."""
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(algorithms)
