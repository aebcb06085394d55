"""Interrupts a trial that runs in this process and makes no progress. Used by schedule/local.py.

Python code hears the interrupt at its next line, also in a sleep or a wait. Code of another
language hears nothing: then the failure is recorded and this process ends, if that code let go of
Python's lock; if it did not, nothing in this process can end it (executor=ray can).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from harness.errors import SOME_FAILED
from harness.schedule.watch import TICK_SECONDS, AwakeClock, StallWatch
from harness.store import Store, TrialDirectory
from harness.study.plan import PlannedTrial
from harness.training.heartbeat import heard_by
from harness.training.trial import record_failure

SIGNAL = signal.SIGUSR1

GRACE_SECONDS = 15.0
"""How long a stalled trial may take to hear the exception that ends it."""


class Stalled(KeyboardInterrupt):
    """The trial that runs makes no progress: like Ctrl-C, no method may take it for its own."""


class Alarm(threading.Thread):
    """Looks at a watch beside the trial that the main thread runs."""

    def __init__(self, minutes: float | None) -> None:
        super().__init__(name="stall watch", daemon=True)
        self.watch = StallWatch(minutes, AwakeClock())
        self._trial: PlannedTrial | None = None
        self._sentence = ""
        self._rang_at: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def over(self, trial: PlannedTrial) -> Iterator[None]:
        """Watch this trial while the context is open; Stalled is raised in it."""
        with self._lock:
            self._trial, self._rang_at = trial, None
            self.watch.started(trial.id)
        try:
            with heard_by(partial(self.watch.progressed, trial.id)):
                yield
        finally:
            with self._lock:
                self._trial = None
                self.watch.ended(trial.id)

    def run(self) -> None:
        """Look at the watch until ``close``."""
        while not self._over.wait(TICK_SECONDS):
            self.watch.clock.tick()
            with self._lock:
                if self._trial is not None and self.watch.stalled():
                    self._ring(self._trial)

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self.join()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler, in the main thread."""
        if self._trial is not None and self._rang_at is not None:
            raise Stalled(self._sentence)

    def _ring(self, trial: PlannedTrial) -> None:
        now = self.watch.clock.seconds
        if self._rang_at is None:
            self._rang_at, self._sentence = now, self.watch.sentence
            _write_stack(trial, self._sentence)
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
        elif now - self._rang_at > GRACE_SECONDS:
            self._give_up(trial)

    def _give_up(self, trial: PlannedTrial) -> None:
        reason = f"{self._sentence}, in code that cannot be interrupted; its log.txt says where"
        record_failure(_directory(trial), trial.job, reason)
        print(
            f"{trial.job.name}: {reason}; this process ends, the same command goes on with the"
            " others",
            file=sys.stderr,
            flush=True,
        )
        os._exit(SOME_FAILED)


@contextmanager
def alarm_for_trials(minutes: float | None) -> Iterator[Alarm]:
    """An alarm; one that never rings without a limit, and outside the main thread, which alone
    receives signals.
    """
    alarm = Alarm(minutes)
    if not minutes or threading.current_thread() is not threading.main_thread():
        yield alarm
        return
    before = signal.signal(SIGNAL, alarm.interrupt)
    alarm.start()
    try:
        yield alarm
    finally:
        alarm.close()
        signal.signal(SIGNAL, before)


def _write_stack(trial: PlannedTrial, sentence: str) -> None:
    """Write into the trial's log where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    stack = "".join(traceback.format_stack(frame))
    with suppress(OSError), (_directory(trial) / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"{sentence}; it stands here:\n{stack}")


def _directory(trial: PlannedTrial) -> TrialDirectory:
    return Store(Path(trial.job.store)).trial(trial.id)
