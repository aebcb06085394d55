"""Mirroring beside the trials that run, with any tracker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType

from harness.study.plan import PlannedTrial
from harness.tracking.tracker import Tracker, TrackingError
from harness.training.spec import Outcome


class BackgroundTracker:
    """Mirrors trials in one daemon thread, so that a slow or dead server never delays scheduling.

    It observes trials of a driver and is a context manager that closes itself. After the first
    error it warns once (``warn`` is called from that thread) and is silent for the rest of the run.
    """

    interval = 10.0

    def __init__(self, tracker: Tracker, warn: Callable[[str], None] = print) -> None:
        self._tracker = tracker
        self._warn = warn
        self._due: dict[str, tuple[float, PlannedTrial]] = {}
        self._mirrored: dict[str, float] = {}
        self._wake = threading.Condition()
        self._closing = self._broken = False
        self._thread: threading.Thread | None = None
        self._progressed = 0.0
        """When the last part of the work was done."""

    def beside(self, warn: Callable[[str], None]) -> BackgroundTracker:
        """Itself, warning from now on through ``warn``: a companion of the driver."""
        self._warn = warn
        return self

    def __enter__(self) -> BackgroundTracker:
        # While the first trials start up: opening takes seconds.
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def broken(self) -> bool:
        """Whether something was not mirrored."""
        return self._broken

    # -------------------------------------------------------------- an observer

    def started(self, trial: PlannedTrial) -> None:
        """Nothing yet: a trial appears with its first finished epoch."""

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        """The trial finished an epoch."""
        self.trial_changed(trial)

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        """Nothing: the trial goes on."""

    def warned(self, sentence: str) -> None:
        """Nothing: the trials go on."""

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        """The trial is done or has failed."""
        self.trial_finished(trial)

    # -------------------------------------------------------------- its queue

    def trial_changed(self, trial: PlannedTrial) -> None:
        """A running trial has something new: mirror it, at most every ``interval`` seconds."""
        self._request(trial, self._mirrored.get(trial.id, -self.interval) + self.interval)

    def trial_finished(self, trial: PlannedTrial) -> None:
        """A trial is done or failed: mirror it at once."""
        self._request(trial, 0.0)

    def close(self, timeout: float = 60.0) -> bool:
        """Mirror what is waiting and stop; whether everything was mirrored.

        The rest is given up when ``timeout`` seconds pass in which nothing was mirrored: a busy
        machine needs long for many trials, a dead server gets none done. Never raises.
        """
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._wait_for(self._thread, timeout)
        return not self._broken

    def _wait_for(self, thread: threading.Thread, timeout: float) -> None:
        asked = time.monotonic()
        while thread.is_alive():
            left = max(asked, self._progressed) + timeout - time.monotonic()
            if left <= 0:
                self._give_up(
                    self._tracker.explain(TimeoutError(f"nothing was mirrored for {timeout:g} s"))
                )
                return
            thread.join(left)

    def _request(self, trial: PlannedTrial, due: float) -> None:
        with self._wake:
            if self._broken or self._closing:
                return
            waiting = self._due.get(trial.id)
            self._due[trial.id] = (min(due, waiting[0]) if waiting else due, trial)
            self._start()
            self._wake.notify_all()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        self._try(self._tracker.open)
        self._progressed = time.monotonic()
        while (trial := self._next()) is not None:
            self._try(partial(self._tracker.mirror_trial, trial))
            self._mirrored[trial.id] = self._progressed = time.monotonic()

    def _try(self, work: Callable[[], None]) -> None:
        """Do a part of the mirroring; whatever it raises, the trials go on."""
        try:
            work()
        except Exception as error:
            self._give_up(
                str(error) if isinstance(error, TrackingError) else self._tracker.explain(error)
            )

    def _next(self) -> PlannedTrial | None:
        """The trial that has waited longest; None at the end.

        Blocks until one is due.
        """
        with self._wake:
            while not self._broken:
                first = min(self._due, key=lambda trial_id: self._due[trial_id][0], default=None)
                if first is None and self._closing:
                    return None
                wait = None if first is None else self._due[first][0] - time.monotonic()
                if first is not None and wait is not None and (wait <= 0 or self._closing):
                    return self._due.pop(first)[1]
                self._wake.wait(wait)
        return None

    def _give_up(self, sentence: str) -> None:
        with self._wake:
            again, self._broken = self._broken, True
            self._due.clear()
        if not again:
            with suppress(Exception):
                self._warn(sentence)
