"""The watch on progress and the trials that go round again: no processes, and a clock of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.schedule.executor import TrialList
from harness.schedule.on_ray.rounds import Rounds
from harness.schedule.watch import AwakeClock, StallWatch
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from tests.schedule.test_executors import TINY, Silent


class Clock(AwakeClock):
    """Goes on when it is told to, as if somebody had ticked every second."""

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__(lambda: self.time)

    def pass_(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time += 1.0
            self.tick()


def test_a_trial_is_stalled_after_the_minutes_of_the_study_and_not_before() -> None:
    clock = Clock()
    watch = StallWatch(2.0, clock)
    watch.started("a")
    watch.started("b")
    clock.pass_(100)
    watch.progressed("b")
    # b has just broken a silence of 100 s: five times that is what any trial is allowed now.
    clock.pass_(399)
    assert watch.stalled() == []
    clock.pass_(2)
    assert watch.stalled() == ["a"]
    watch.ended("a")
    assert watch.stalled() == []
    clock.pass_(100)
    assert watch.stalled() == ["b"] and watch.sentence == "no progress for 8.33 minutes"


@pytest.mark.parametrize("never", [None, 0.0])
def test_without_a_limit_nothing_stalls(never: float | None) -> None:
    clock = Clock()
    watch = StallWatch(never, clock)
    watch.started("a")
    clock.pass_(10_000)
    assert watch.stalled() == []


def test_an_hour_in_which_the_driver_was_stopped_does_not_count() -> None:
    clock = Clock()
    watch = StallWatch(1.0, clock)
    watch.started("a")
    clock.pass_(50)
    clock.time += 3600.0
    assert clock.tick() < 60 and watch.stalled() == []
    clock.pass_(20)
    assert watch.stalled() == ["a"]


def planned(tmp_path: Path) -> list[PlannedTrial]:
    return Plan(
        load_study([*TINY, "seeds=[0,1,2]", f"output={tmp_path}", "methods=[sf_md]"])
    ).trials


def test_a_stalled_trial_is_tried_once_more_with_nothing_beside_it(tmp_path: Path) -> None:
    first, second, third = planned(tmp_path)
    rounds, observer = Rounds(TrialList([first, second, third]), retries=2), Silent()
    assert [rounds.next(observer), rounds.next(observer)] == [first, second]
    assert rounds.stalled(first)
    # It waits until the second has ended; nothing new is handed out before it.
    assert rounds.next(observer) is None
    rounds.ended(second)
    assert rounds.next(observer) is first and rounds.next(observer) is None
    # Ray dies: it is still the one that runs alone.
    rounds.interrupted()
    assert rounds.next(observer) is first and rounds.next(observer) is None
    assert not rounds.stalled(first)
    rounds.ended(first)
    assert rounds.next(observer) is third
    rounds.ended(third)
    assert rounds.next(observer) is None and rounds.over


def test_a_trial_whose_workers_die_is_tried_as_often_as_the_study_says(tmp_path: Path) -> None:
    first, second, third = planned(tmp_path)
    rounds, observer = Rounds(TrialList([first, second, third]), retries=2), Silent()
    tried = [rounds.next(observer)]
    while rounds.died(first):
        rounds.interrupted()  # Ray dying is not the trial's doing, and does not count
        tried.append(rounds.next(observer))
    assert tried == [first] * 3


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("0.1", "at least 0.2, or 0 for no limit"),
        ("-1", "must be at least 0"),
        ("nan", "must be a finite number"),
        ("soon", "resources.stall_minutes"),
        ("[1]", "resources.stall_minutes"),
    ],
)
def test_minutes_that_mean_nothing_get_one_sentence(value: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        load_study([f"resources.stall_minutes={value}"])
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["0", "null", "0.2", "600"])
def test_minutes_change_no_trial(value: str, tmp_path: Path) -> None:
    changed = load_study([*TINY, "methods=[sf_md]", f"resources.stall_minutes={value}"])
    plain = load_study([*TINY, "methods=[sf_md]"])
    assert [trial.id for trial in Plan(changed).trials] == [
        trial.id for trial in Plan(plain).trials
    ]
