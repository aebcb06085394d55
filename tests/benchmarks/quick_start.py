"""Where the quick start's time goes, from the command to its end; seconds of the clock.

    python -m tests.benchmarks.quick_start [KEY=VALUE ...]

The command runs as a user runs it, once to warm the machine's caches and once for the table. Its
lines say when it has planned, trained and reported; the store's logs say when each trial began.
"""

from __future__ import annotations

import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.store import Store
from tests.benchmarks._paired import print_table

BEGAN = re.compile(r"^(\S+ \S+) INFO .*, process (\d+)$")
SEEN = {
    "planned": "  output: ",
    "executed": "executed ",
    "reported": "report: ",
    "all": "then open",
}
"""How the lines begin by which a run says how far it is."""


@dataclass
class Ran:
    """A trial that has run: its process, when it began (seconds since 1970), what it took."""

    process: int
    began: float
    seconds: float
    training: float

    @property
    def ended(self) -> float:
        return self.began + self.seconds


def trials(output: Path) -> list[Ran]:
    """What the store says of its trials, in the order in which they began."""
    store, found = Store.below(output), list[Ran]()
    for trial_id in store.ids():
        trial = store.trial(trial_id)
        record, log = trial.record(), (trial / "log.txt").read_text(encoding="utf-8")
        began = BEGAN.match(log.splitlines()[0])
        assert record is not None and began is not None
        at = datetime.strptime(began[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        found.append(Ran(int(began[2]), at, record["seconds"], record["train_seconds"]))
    return sorted(found, key=lambda one: one.began)


def between(found: Sequence[Ran]) -> list[float]:
    """Seconds from the end of each trial to the next one of its process."""
    gaps = []
    for process in dict.fromkeys(one.process for one in found):
        own = [one for one in found if one.process == process]
        gaps += [after.began - before.ended for before, after in itertools.pairwise(own)]
    return gaps


def measured(output: Path, given: Sequence[str] = ()) -> dict[str, float]:
    """Seconds of each part of a run."""
    seen = {"started": time.time()}
    command = [sys.executable, "-u", "-m", "harness.run", f"output={output}", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            for name, beginning in SEEN.items():
                if line.startswith(beginning):
                    seen[name] = time.time()
    assert process.returncode == 0
    missing = [beginning for name, beginning in SEEN.items() if name not in seen]
    if missing:
        raise RuntimeError(f"the run did not print {missing[0]!r}: a part of it was not done")
    ended, found = time.time(), trials(output)
    first, last = found[0].began, max(one.ended for one in found)
    rooms = len(dict.fromkeys(one.process for one in found))
    training = sum(one.training for one in found)
    working = sum(one.seconds for one in found)
    return {
        "imports and plan": seen["planned"] - seen["started"],
        "Ray, its workers and their imports": first - seen["planned"],
        "trials: training, with validation": training / rooms,
        "trials: building, evaluating, writing": (working - training) / rooms,
        "rooms without a trial": last - first - working / rooms,
        "end of Ray, rest of MLflow's trials": seen["executed"] - last,
        "report": seen["reported"] - seen["executed"],
        "MLflow's comparison": seen["all"] - seen["reported"],
        "end of the process": ended - seen["all"],
        "all": ended - seen["started"],
        "of it from a trial's end to the next one's begin, median": statistics.median(
            between(found) or [0.0]
        ),
    }


def main(given: Sequence[str] = ()) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        measured(Path(folder) / "warm", ["preset=smoke", *given])
        found = measured(Path(folder) / "timed", given)
    rows = [[name, f"{seconds:.2f}"] for name, seconds in found.items()]
    print_table("Where the quick start's time goes", ("part", "seconds"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
