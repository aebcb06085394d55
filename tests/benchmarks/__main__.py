"""All benchmarks, one table each: ``python -m tests.benchmarks [NAME ...]``.

On two busy cores this takes about an hour; a name runs one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import (
    bad_sensors,
    driver_scaling,
    evaluation,
    gpu_step,
    input_path,
    present_only,
    quick_start,
    step,
    trial_start,
)
from tests.benchmarks._paired import machine

BENCHMARKS: dict[str, Callable[[], None]] = {
    "input_path": input_path.main,
    "trial_start": trial_start.main,
    "quick_start": quick_start.main,
    "driver_scaling": driver_scaling.main,
    "step": step.main,
    "present_only": present_only.main,
    "evaluation": evaluation.main,
    "gpu_step": gpu_step.main,
    "bad_sensors": bad_sensors.main,
}


def main(names: list[str]) -> None:
    """Print the machine's name and the tables of the named benchmarks, or of all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    print(machine())
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
