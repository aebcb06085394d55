"""The search as a source of trials: Optuna says which points, the store which are done.

Both may be killed.

A point is one Optuna trial; it hands out one trial per tuning seed and is told their mean on val
when the last is over, or that it failed as soon as one of them has. What a sampler suggests depends
on its seed, which is the point's number, and on the values told before. Points that learn from
others come in groups that are asked for together: so neither the order in which trials end nor a
killed driver changes what is suggested. A point that a killed driver left is taken up again under
its number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.schedule.executor import Observer, record_blocked, unmet
from harness.search.journal import (
    REASON,
    SEEDS,
    TRIALS,
    delete_study,
    evaluated_points,
    open_study,
    quietly,
    sample,
    suggested,
    writable,
)
from harness.search.plan import SearchPlan, Subject
from harness.store import Store
from harness.study.plan import PlannedTrial
from harness.study.search_space import Point

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


@dataclass
class _Open:
    """A point in work."""

    asked: Trial
    trials: list[PlannedTrial]
    needed: list[PlannedTrial]


class RowSearch:
    """The search of one row."""

    def __init__(self, search: SearchPlan, subject: Subject, storage: Any) -> None:
        self.search, self.subject = search, subject
        self.store = Store.below(search.plan.study.output)
        self.study = open_study(search, subject, storage)
        self.open: dict[int, _Open] = {}
        for left in self._asked():
            if not left.state.is_finished():
                self._take_up(left)

    @property
    def missing(self) -> int:
        """How many points are not over."""
        return max(
            0, self.subject.points - sum(trial.state.is_finished() for trial in self._asked())
        )

    def advance(self) -> list[PlannedTrial]:
        """Ask for what may follow and tell what is over.

        Returns the trials to run, each behind those that it needs.
        """
        while True:
            # In this order: what is asked for together must not depend on what the store already
            # knows.
            self._ask()
            over = [number for number, point in self.open.items() if self._tell(point)]
            for number in over:
                del self.open[number]
            if not over:
                return [trial for point in self.open.values() for trial in self._to_run(point)]

    def _asked(self) -> list[FrozenTrial]:
        """All points but one that was enqueued and not yet asked for."""
        from optuna.trial import TrialState

        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state != TrialState.WAITING
        ]

    def _ask(self) -> None:
        config, subject = self.search.config, self.subject
        learned = not subject.listed and config.sampler == "tpe"
        while (number := len(self._asked())) < subject.points:
            if learned:
                # Fill up a group, and begin the next one when all of the last have their values.
                full = number % config.parallel == 0 and bool(self.open)
            else:
                full = len(self.open) >= config.parallel
            if full:
                return
            if len(self.study.get_trials(deepcopy=False)) == number:
                # One line of the journal: a killed driver leaves either no point or a whole one.
                self.study.enqueue_trial(self._following(number))
            with quietly():
                self._begin(self.study.ask())

    def _following(self, number: int) -> Point:
        """The next listed point that is not there yet, else what the sampler suggests."""
        there = [trial.params for trial in self._asked()]
        listed = (point for point in self.search.listed(self.subject) if point not in there)
        found = next(listed, None)
        if found is not None:
            return found
        seed = random.Random(f"{self.search.config.sampler_seed}/{number}").getrandbits(32)
        return sample(self.study, self.search.config.sampler, seed, self.subject.space.axes)

    def _take_up(self, left: FrozenTrial) -> None:
        from optuna.trial import Trial

        with quietly():
            self._begin(Trial(self.study, left._trial_id))

    def _begin(self, asked: Trial) -> None:
        point: Point = suggested(asked, self.subject.space.axes)
        trials = self.search.trials_of(self.subject, point)
        _note(asked, TRIALS, [trial.id for trial in trials])
        self.open[asked.number] = _Open(asked, trials, self.search.stages_of(self.subject, point))

    def _tell(self, point: _Open) -> bool:
        """Tell Optuna the mean or the failure, once it is known; whether the point is over."""
        from optuna.trial import TrialState

        states = [self._state(trial) for trial in point.trials]
        if "failed" in states:
            _note(point.asked, REASON, self._why(point.trials[states.index("failed")]))
            self.study.tell(point.asked.number, state=TrialState.FAIL)
            return True
        records = [self.store.trial(trial.id).selection() for trial in point.trials]
        values = [float(record["val_mean"]) for record in records if record is not None]
        if len(values) < len(records):
            return False
        _note(point.asked, SEEDS, values)
        self.study.tell(point.asked.number, sum(values) / len(values))
        return True

    def _why(self, trial: PlannedTrial) -> str:
        failure = self.store.trial(trial.id).failure() or {"reason": "unknown"}
        return f"{trial.job.name} (trial {trial.id}): {failure['reason']}"

    def _to_run(self, point: _Open) -> list[PlannedTrial]:
        """Those of a point's trials that are not done, each behind what it needs."""
        wanted = [*point.needed, *point.trials]
        return [trial for trial in wanted if self._state(trial) in {"new", "started"}]

    def _state(self, trial: PlannedTrial) -> str:
        """What the store holds of a trial, of which a search needs val only."""
        return self.store.state(trial.id, trial.job.code(), test=False)


def _note(asked: Trial, name: str, value: Any) -> None:
    """Set an attribute of a point, unless an earlier driver has."""
    if asked.user_attrs.get(name) != value:
        asked.set_user_attr(name, value)


class SearchFeed:
    """Hands the trials of all searched rows to a scheduler, and asks for more as they end."""

    def __init__(self, search: SearchPlan, rerun: str | None = None) -> None:
        self.search = search
        storage = writable(search.journal)
        if rerun is not None:
            _set_aside(search, rerun, storage)
        self._rows = [RowSearch(search, subject, storage) for subject in search.subjects]
        self._running: set[str] = set()
        self._queue: dict[str, PlannedTrial] = {}
        self.advance()

    @property
    def over(self) -> bool:
        """Whether every point is told."""
        return not any(row.missing for row in self._rows)

    @property
    def remaining(self) -> int:
        """How many trials are still to run, at most.

        Points that are not asked for yet count with all their seeds.
        """
        seeds = len(self.search.config.seeds)
        unasked = sum(row.missing - len(row.open) for row in self._rows)
        return unasked * seeds + len(self._queue)

    def advance(self) -> None:
        """Ask every row for its trials."""
        self._queue = {trial.id: trial for row in self._rows for trial in row.advance()}

    def next(self, observer: Observer) -> PlannedTrial | None:
        """A trial to run now; None when there is none before another ends, or at all."""
        for trial in list(self._queue.values()):
            if trial.id in self._running or any(
                needed in self._queue for needed in trial.job.spec.needs.values()
            ):
                continue
            reason = unmet(trial)
            if not reason:
                self._running.add(trial.id)
                return trial
            record_blocked(trial, reason, observer)
            self.ended(trial)
            return self.next(observer)
        return None

    def ended(self, trial: PlannedTrial) -> None:
        """A trial is done or has failed, as the store says."""
        self._running.discard(trial.id)
        self.advance()


def _set_aside(search: SearchPlan, rerun: str, storage: Any) -> None:
    """Forget the failed or stale trials of the search, and what was told of their rows."""
    found, store = evaluated_points(search), Store.below(search.plan.study.output)
    for subject in search.subjects:
        points = [evaluated.point for evaluated in found[subject]]
        trials: dict[str, PlannedTrial] = {}
        for point in points:
            trials |= {trial.id: trial for trial in search.stages_of(subject, point)}
            trials |= {trial.id: trial for trial in search.trials_of(subject, point)}
        again = [
            trial.id
            for trial in trials.values()
            if store.state(trial.id, trial.job.code(), test=False) == rerun
        ]
        for trial_id in again:
            store.set_aside(trial_id)
        if again:
            delete_study(search, subject, storage)
