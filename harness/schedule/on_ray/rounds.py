"""The trials of a source, some of which go round more than once.

Their worker died, they stalled, or Ray died. executor.py hands them out to the process that Ray
runs in.
"""

from __future__ import annotations

from collections import Counter

from harness.schedule.executor import Observer, TrialSource
from harness.study.plan import PlannedTrial


class Rounds:
    """A source of trials that takes back those that are to be tried again.

    One that stalled is tried again alone: when everything that runs has ended, and with nothing
    beside it.
    """

    def __init__(self, source: TrialSource, retries: int) -> None:
        self.source, self.retries = source, retries
        self.out: dict[str, PlannedTrial] = {}
        """What was handed out and has not ended."""
        self._deaths: Counter[str] = Counter()
        self._stalls: Counter[str] = Counter()
        self._again: list[PlannedTrial] = []
        self._alone: list[PlannedTrial] = []

    @property
    def over(self) -> bool:
        """Whether every trial has ended and the source has no other."""
        return self.source.over and not (self.out or self._again or self._alone)

    def next(self, observer: Observer) -> PlannedTrial | None:
        """A trial to run now; None when there is none before another ends, or at all."""
        trial = self._waiting() if self._again or self._alone else self._new(observer)
        if trial is not None:
            self.out[trial.id] = trial
        return trial

    def _waiting(self) -> PlannedTrial | None:
        if self._runs_alone():
            return None
        if self._again:
            return self._again.pop(0)
        return None if self.out else self._alone.pop(0)

    def _new(self, observer: Observer) -> PlannedTrial | None:
        return None if self._runs_alone() else self.source.next(observer)

    def _runs_alone(self) -> bool:
        return any(self._stalls[trial_id] for trial_id in self.out)

    def ended(self, trial: PlannedTrial) -> None:
        """The trial is done or has failed, as the store says."""
        self.out.pop(trial.id)
        self.source.ended(trial)

    def died(self, trial: PlannedTrial) -> bool:
        """The trial's worker died: whether it is tried again."""
        self._deaths[trial.id] += 1
        if self._deaths[trial.id] > self.retries:
            return False
        self._take_back(trial)
        return True

    def stalled(self, trial: PlannedTrial) -> bool:
        """The trial was ended because it made no progress: whether it is tried again."""
        self._stalls[trial.id] += 1
        if self._stalls[trial.id] > 1:
            return False
        self._take_back(trial)
        return True

    def elsewhere(self, trial: PlannedTrial) -> None:
        """The trial was not begun, because its node must not train it."""
        self._take_back(trial)

    def interrupted(self) -> None:
        """Nothing runs any more: what did is tried again, without a word on the trials."""
        for trial in list(self.out.values()):
            self._take_back(trial)

    def _take_back(self, trial: PlannedTrial) -> None:
        del self.out[trial.id]
        waiting = self._alone if self._stalls[trial.id] else self._again
        waiting.append(trial)
