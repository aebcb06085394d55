"""What a user sees while trials run: a live view on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome

PLAIN_INTERVAL_SECONDS = 10.0


@dataclass
class _Running:
    trial: PlannedTrial
    epochs: int
    epoch: int = 0
    value: float | None = None
    started: float = field(default_factory=lambda: time.monotonic())
    printed: float = field(default_factory=lambda: time.monotonic())


class ProgressView:
    """Counts epochs over all trials; subclasses show them.

    A context manager and an observer of trials.
    """

    def __init__(self, trials: int, epochs: int, metric: str, name: str = "") -> None:
        self.total, self.epochs, self.metric = trials, epochs, metric
        self.name = f"{name}, " if name else ""
        self.running: dict[str, _Running] = {}
        self.ended = self.failed = self.epochs_seen = 0
        self.first_epoch: float | None = None

    def __enter__(self) -> ProgressView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def started(self, trial: PlannedTrial) -> None:
        """A worker took the trial."""
        self.running[trial.id] = _Running(trial, self.epochs)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        """The trial finished an epoch (0-based)."""
        state = self.running.setdefault(trial.id, _Running(trial, epochs))
        if state.value is not None:
            # The first report of a resumed trial covers epochs of an earlier process: it says
            # nothing about speed.
            self.epochs_seen += epoch + 1 - state.epoch
            self.first_epoch = self.first_epoch or time.monotonic()
        state.epoch, state.value = epoch + 1, value

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        """The trial's worker died."""
        self.note(f"{trial.job.name}: {reason}")

    def warned(self, sentence: str) -> None:
        """Something happened to what all trials run on; they are started again."""
        self.running.clear()
        self.note(sentence)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        """The trial is over."""
        self.running.pop(trial.id, None)
        self.ended += 1
        self.failed += outcome.status == "failed"

    def note(self, text: str) -> None:
        """Say one sentence without disturbing the view."""
        print(text, file=sys.stderr, flush=True)

    def remaining(self) -> float | None:
        """Seconds left at the speed seen so far; None before the second epoch."""
        if self.first_epoch is None or self.epochs_seen < 2:
            return None
        speed = self.epochs_seen / max(1e-9, time.monotonic() - self.first_epoch)
        done = self.ended * self.epochs + sum(state.epoch for state in self.running.values())
        return max(0.0, self.total * self.epochs - done) / speed


class PlainProgress(ProgressView):
    """One line per event, at most one line per trial every ten seconds."""

    def started(self, trial: PlannedTrial) -> None:
        super().started(trial)
        self._say(f"start {trial.job.name} (trial {trial.id})")

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        super().epoch(trial, epoch, epochs, value)
        state = self.running[trial.id]
        if time.monotonic() - state.printed >= PLAIN_INTERVAL_SECONDS:
            state.printed = time.monotonic()
            self._say(
                f"{trial.job.name}: epoch {epoch + 1}/{epochs}, "
                f"val {self.metric} {value:.2f}{_eta(self.remaining())}"
            )

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        state = self.running.get(trial.id)
        super().finished(trial, outcome)
        value = (
            f", last val {self.metric} {state.value:.2f}"
            if state and state.value is not None
            else ""
        )
        ending = (
            f"FAILED: {outcome.reason}"
            if outcome.status == "failed"
            else f"done in {outcome.seconds:.1f} s{value}"
        )
        self._say(f"{trial.job.name}: {ending}{_eta(self.remaining())}")

    def _say(self, text: str) -> None:
        print(f"[{self.name}{self.ended}/{self.total}] {text}", flush=True)


class LiveProgress(ProgressView):
    """A table of the running trials and a bar over all of them, refreshed in place."""

    def __init__(
        self, trials: int, epochs: int, metric: str, console: Console, name: str = ""
    ) -> None:
        super().__init__(trials, epochs, metric, name)
        self.live = Live(
            get_renderable=self._view, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> ProgressView:
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def note(self, text: str) -> None:
        self.live.console.print(text, style="yellow", highlight=False)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        super().finished(trial, outcome)
        if outcome.status == "failed":
            self.note(f"{trial.job.name} failed: {outcome.reason}")

    def _view(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "epoch", "", f"val {self.metric}", "running"):
            table.add_column(column, justify="left" if column == "trial" else "right")
        for state in list(self.running.values()):
            table.add_row(
                state.trial.job.name,
                f"{state.epoch}/{state.epochs}",
                ProgressBar(total=state.epochs, completed=state.epoch, width=20),
                "" if state.value is None else f"{state.value:.2f}",
                _clock(time.monotonic() - state.started),
            )
        failed = f", {self.failed} failed" if self.failed else ""
        summary = Text(
            f"{self.name}{self.ended} of {self.total} trials over{failed}{_eta(self.remaining())}",
            style="bold",
        )
        return Group(summary, ProgressBar(total=self.total, completed=self.ended, width=60), table)


def progress_view(trials: int, epochs: int, metric: str, name: str = "") -> ProgressView:
    """The live view on a terminal, plain lines otherwise; ``name`` is what it calls the trials."""
    console = Console()
    return (
        LiveProgress(trials, epochs, metric, console, name)
        if console.is_terminal
        else PlainProgress(trials, epochs, metric, name)
    )


@contextmanager
def preparation_view() -> Iterator[Callable[[str, int, int], None]]:
    """How far each array of the prepared data is.

    Bars on a terminal, otherwise a line at its end and every ten seconds.
    """
    console = Console()
    if not console.is_terminal:
        yield _PlainPreparation()
        return
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"preparing {name}", total=total)
            bars.update(tasks[name], completed=done)

        yield show


class _PlainPreparation:
    def __init__(self) -> None:
        self.printed = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.printed >= PLAIN_INTERVAL_SECONDS:
            self.printed = time.monotonic()
            print(f"preparing {name}: {done}/{total}", flush=True)


def _eta(seconds: float | None) -> str:
    return "" if seconds is None else f", about {_clock(seconds)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
