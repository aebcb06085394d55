"""What a user sees while trained models are evaluated again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.schedule.forecast import spoken

INTERVAL_SECONDS = 10.0
ENOUGH = 0.02
"""From this share of all steps on it is said how long the rest takes."""


class Steps:
    """Counts steps; plain lines, one for each trial and one every ten seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.running: list[str] = []
        self.started = self.printed = time.monotonic()

    def begin(self, name: str) -> None:
        """A trial is taken up."""
        self.running.append(name)
        self.say(f"{name}: evaluating{self._left()}")

    def end(self, name: str) -> None:
        """A trial is not evaluated any more."""
        if name in self.running:
            self.running.remove(name)

    def step(self) -> None:
        """One batch under one condition is done."""
        if not self.done:
            # Before it there are imports and the data.
            self.started = time.monotonic()
        self.done += 1
        if time.monotonic() - self.printed >= INTERVAL_SECONDS:
            self.say(
                f"{', '.join(self.running)}: {100 * self.done // self.total} % of all{self._left()}"
            )

    def say(self, text: str) -> None:
        """Print a line."""
        self.printed = time.monotonic()
        print(text, flush=True)

    def _left(self) -> str:
        if self.done < ENOUGH * self.total:
            return ""
        rate = (time.monotonic() - self.started) / self.done
        return f", about {spoken(rate * (self.total - self.done))} left"


class BarSteps(Steps):
    """A bar on a terminal."""

    def __init__(self, total: int, console: Console) -> None:
        super().__init__(total)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=total)

    def begin(self, name: str) -> None:
        self.running.append(name)
        self._describe()

    def end(self, name: str) -> None:
        super().end(name)
        self._describe()

    def _describe(self) -> None:
        self.bar.update(self.task, description=", ".join(self.running))

    def step(self) -> None:
        self.bar.advance(self.task)

    def say(self, text: str) -> None:
        self.bar.console.print(text, highlight=False)


@contextmanager
def steps_view(total: int) -> Iterator[Steps]:
    """A bar on a terminal, plain lines otherwise."""
    console = Console()
    if not console.is_terminal:
        yield Steps(total)
        return
    view = BarSteps(total, console)
    with view.bar:
        yield view
