"""Which trials make no progress any more, by a clock that stands still while this process does.

Executors tell what they hear of trials and ask for those that are stalled.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TICK_SECONDS = 1.0
"""How often an executor looks at its watch."""

LONGEST_TICK_SECONDS = 5.0
FACTOR = 5.0
"""A trial may be silent for this many times its longest silence so far."""


class AwakeClock:
    """Seconds during which this process has run, as long as somebody calls ``tick`` often.

    A process that was stopped, or a machine that slept, has heard nothing in the meantime: that
    time says nothing about others.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = 0.0
        self._now = now
        self._last = now()

    def tick(self) -> float:
        """Go on; the seconds so far."""
        now = self._now()
        self.seconds += min(now - self._last, LONGEST_TICK_SECONDS)
        self._last = now
        return self.seconds


class StallWatch:
    """The running trials and when each was last heard.

    A trial is stalled when it was silent for ``minutes`` and for five times the longest silence
    that a trial of this run has broken; never where minutes are None or 0.
    """

    def __init__(self, minutes: float | None, clock: AwakeClock) -> None:
        self.clock = clock
        self.longest = 0.0
        self._floor = 60.0 * minutes if minutes else None
        self._heard: dict[str, float] = {}

    @property
    def allowed(self) -> float | None:
        """Seconds that a trial may be silent now; None where there is no limit."""
        return None if self._floor is None else max(self._floor, FACTOR * self.longest)

    @property
    def sentence(self) -> str:
        """What a stalled trial has done."""
        return f"no progress for {(self.allowed or 0.0) / 60:.3g} minutes"

    def started(self, trial_id: str, grace: float = 0.0) -> None:
        """A worker took the trial, or was just ended because of it.

        ``grace``: so many seconds more until its first step.
        """
        self._heard[trial_id] = self.clock.seconds + grace

    def progressed(self, trial_id: str) -> None:
        """The trial did a step."""
        before = self._heard.get(trial_id, self.clock.seconds)
        self.longest = max(self.longest, self.clock.seconds - before)
        self._heard[trial_id] = self.clock.seconds

    def ended(self, trial_id: str) -> None:
        """The trial does not run any more."""
        self._heard.pop(trial_id, None)

    def clear(self) -> None:
        """No trial runs any more."""
        self._heard.clear()

    def stalled(self) -> list[str]:
        """The trials that have been silent for too long."""
        allowed = self.allowed
        if allowed is None:
            return []
        now = self.clock.seconds
        return [trial_id for trial_id, heard in self._heard.items() if now - heard > allowed]
