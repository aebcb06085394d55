"""A training epoch that encodes every modality, against one that encodes only those shown.

python -m tests.benchmarks.present_only
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.benchmarks._models import METHODS_HERE, casia, trainer_of
from tests.benchmarks._paired import flops, one_thread, print_table, timed

HEAD = ("method", "dense / present, operations", "dense / present")
SAMPLES = 14
"""Seven combinations, each expected twice."""


def ways(named: str) -> dict[str, Callable[[], object]]:
    """One step under each policy."""
    setting = casia(SAMPLES)
    return {
        policy: partial(trainer_of(named, setting, encode=policy)._train_epoch, 50)
        for policy in ("dense", "present")
    }


def operations_ratio(named: str) -> float:
    """How many times as many operations a dense step has."""
    counts = {name: flops(way) for name, way in ways(named).items()}
    return counts["dense"] / counts["present"]


def measured(named: str, rounds: int) -> list[str]:
    """A row of the table."""
    found = timed(ways(named), rounds)
    return [named, f"{operations_ratio(named):.2f}", f"{found.ratio('dense', 'present'):.2f}"]


def main(rounds: int = 3) -> None:
    """Print the table."""
    with one_thread():
        rows = [measured(named, rounds) for named in METHODS_HERE]
        print_table("train.encode=dense against present; resnet mid128, one step", HEAD, rows)


if __name__ == "__main__":
    main()
