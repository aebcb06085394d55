"""Many short trials while workers, raylets and drivers are killed at random.

The full form (``HARNESS_SOAK=full pytest -m slow tests/schedule/test_soak.py -s``) has 300 trials
and disturbs them for up to 20 minutes; the other one takes a few minutes.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.study.config import load_study
from harness.study.plan import Plan
from tests.schedule.test_ray import tracked
from tests.support.processes import alive, results, workers
from tests.support.ray_processes import members, part, ray_leader

FULL = os.environ.get("HARNESS_SOAK") == "full"
SEEDS, DISTURBED_SECONDS = (100, 1200) if FULL else (14, 60)
STUDY = (
    *("methods=[sf_md,hemis,dmrnet]", f"seeds={list(range(SEEDS))}".replace(" ", "")),
    *("dataset.limit=40", "train.epochs=1", "train.batch_size=20", "backbone.width=2"),
    "resources.retries=20",
)
KINDS = ("worker", "worker", "raylet", "driver")
"""What is killed, in an order that is drawn anew each time it is used up."""

HANG_SECONDS = 600
"""Nothing at all must happen for less than this, whatever was killed."""


@dataclass
class Soak:
    """One output folder and the drivers that work on it, one after the other."""

    output: Path
    random: random.Random = field(default_factory=lambda: random.Random(13))
    killed: Counter[str] = field(default_factory=Counter)
    endings: Counter[int] = field(default_factory=Counter)
    deck: list[str] = field(default_factory=list)
    leaders: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.arguments = (*STUDY, f"output={self.output}")
        self.output.mkdir()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.output / "console.txt").open("ab") as console:
            command = [sys.executable, "-m", "harness.run", *self.arguments]
            return subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT)

    def console(self) -> str:
        return (self.output / "console.txt").read_text()

    def done(self) -> int:
        return len(list(self.output.glob("store/*/record.json")))

    def at_work(self) -> list[int]:
        """Workers that live and have taken a trial."""
        return [pid for pid in workers(self.output).values() if alive(pid)]

    def until(self, driver: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False where the driver ended first."""
        seen, since = -1, time.monotonic()
        while not condition():
            if driver.poll() is not None:
                return False
            if self.done() != seen:
                seen, since = self.done(), time.monotonic()
            assert time.monotonic() - since < HANG_SECONDS, f"a hang:\n{self.console()[-3000:]}"
            time.sleep(0.1)
        return True

    def disturb(self, seconds: float) -> None:
        """Run drivers to the end of the study; kill something every few seconds for a while."""
        begun = time.monotonic()
        while True:
            driver = self.start()
            while (
                time.monotonic() - begun < seconds or len(self.killed) < len(set(KINDS))
            ) and self.until(driver, self.at_work_now):
                pause = time.monotonic() + self.random.uniform(1, 6)
                if not self.until(driver, lambda end=pause: time.monotonic() > end):  # type: ignore[misc]
                    break
                self.kill(driver)
            self.until(driver, lambda: False)
            self.endings[driver.wait()] += 1
            if driver.returncode == 0:
                return
            assert driver.returncode in (1, -signal.SIGKILL), self.console()[-3000:]

    def at_work_now(self) -> bool:
        return bool(self.at_work())

    def kill(self, driver: subprocess.Popen[bytes]) -> None:
        """SIGKILL for a worker, the raylet or the driver."""
        leader = ray_leader(driver.pid)
        if not self.deck:
            self.deck = self.random.sample(KINDS, len(KINDS))
        kind = self.deck.pop()
        try:
            if kind == "worker":
                victim = self.random.choice(self.at_work())
            else:
                victim = driver.pid if kind == "driver" else part(leader, "raylet/raylet")
            os.kill(victim, signal.SIGKILL)
        except (AssertionError, IndexError, ProcessLookupError):
            return  # it has just ended by itself
        self.killed[kind] += 1
        self.leaders.add(leader)
        if kind == "driver":
            driver.wait()
            deadline = time.monotonic() + 30
            while members(leader):
                assert time.monotonic() < deadline, "Ray outlived its driver by 30 s"
                time.sleep(0.1)


@dataclass
class Sizes:
    """What a driver held at one time."""

    done: int
    bytes: int
    descriptors: int


def undisturbed(soak: Soak) -> list[Sizes]:
    """Run the study without a fault, and what its driver held all along."""
    driver, sizes = soak.start(), []
    page = os.sysconf("SC_PAGE_SIZE")
    while driver.poll() is None:
        try:
            pages = int(Path(f"/proc/{driver.pid}/statm").read_text().split()[1])
            descriptors = len(list(Path(f"/proc/{driver.pid}/fd").iterdir()))
        except (OSError, IndexError):
            break
        sizes.append(Sizes(soak.done(), pages * page, descriptors))
        time.sleep(0.5)
    assert driver.wait() == 0, soak.console()[-3000:]
    return sizes


@pytest.mark.slow
@pytest.mark.long
def test_random_kills_lose_nothing_double_nothing_and_change_nothing(tmp_path: Path) -> None:
    quiet, killed = Soak(tmp_path / "quiet"), Soak(tmp_path / "killed")
    begun = time.monotonic()
    sizes = undisturbed(quiet)
    between = time.monotonic()
    killed.disturb(DISTURBED_SECONDS)
    print(f"\n{len(results(*quiet.arguments))} trials, undisturbed in {between - begun:.0f} s,")
    print(f"disturbed in {time.monotonic() - between:.0f} s; killed: {dict(killed.killed)};")
    print(f"drivers ended with {dict(killed.endings)};")
    print(f"'started again' said {killed.console().count('Ray is started again')} times")

    assert killed.killed.keys() == set(KINDS)
    expected = {trial.id for trial in Plan(load_study(list(killed.arguments))).trials}
    assert {path.parent.name for path in killed.output.glob("store/*/record.json")} == expected
    assert not list(killed.output.glob("store/*/failure.json"))
    assert results(*killed.arguments) == results(*quiet.arguments)
    assert tracked(killed.output) == dict.fromkeys(expected, 1)
    tables = [(soak.output / "quickstart" / "report.csv").read_bytes() for soak in (quiet, killed)]
    assert tables[0] == tables[1]
    assert not any(members(leader) for leader in killed.leaders if leader)
    check_flat(sizes, len(expected))


def check_flat(sizes: list[Sizes], trials: int) -> None:
    """Memory and descriptors of the undisturbed driver, in the first and last quarter of trials."""
    first = [size for size in sizes if trials / 8 <= size.done < trials * 3 / 8]
    last = [size for size in sizes if trials * 3 / 4 <= size.done < trials]
    memory = [statistics.median(size.bytes for size in part) / 1e6 for part in (first, last)]
    descriptors = [max(size.descriptors for size in part) for part in (first, last)]
    print(f"memory {memory[0]:.0f} and {memory[1]:.0f} MB, descriptors {descriptors}")
    assert descriptors[1] <= descriptors[0] + 2
    assert memory[1] <= memory[0] * 1.1
