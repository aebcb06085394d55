"""Learning-rate tables (row T25) and the scaling of published epochs."""

from __future__ import annotations

import doctest
import math

import pytest

import harness.protocol.schedules
from harness.method import EpochContext
from harness.protocol.schedules import (
    RULES,
    SCHEDULES,
    epoch_at,
    learning_rate_factor,
    schedule_sentence,
)

RELEASED = {0: 0.0, 1: 0.0, 2: 2e-4, 3: 4e-4, 4: 6e-4, 5: 8e-4}
RELEASED |= {e: 1e-3 for e in range(6, 22)} | {e: 1e-4 for e in range(22, 39)}
RELEASED |= {e: 1e-5 for e in range(39, 56)} | {e: 1e-6 for e in range(56, 100)}
PAPER = {0: 2e-4, 1: 4e-4, 2: 6e-4, 3: 8e-4} | {e: 1e-3 for e in range(4, 16)}
PAPER |= (
    {e: 1e-4 for e in range(16, 33)}
    | {e: 1e-5 for e in range(33, 50)}
    | {e: 1e-6 for e in range(50, 100)}
)
# StepLR(70, 0.1) of 100 epochs.
STEP = {e: 1e-3 for e in range(70)} | {e: 1e-4 for e in range(70, 100)}
LENGTHS = (1, 2, 3, 5, 7, 10, 12, 20, 24, 25, 30, 50, 60, 99, 100, 150, 200, 300, 1000)


@pytest.mark.parametrize(
    ("schedule", "table"), [("released", RELEASED), ("paper", PAPER), ("step", STEP)]
)
def test_T25_learning_rates_of_100_epochs(schedule: str, table: dict[int, float]) -> None:
    assert sorted(table) == list(range(100))
    found = [1e-3 * learning_rate_factor(schedule, epoch, 100) for epoch in range(100)]
    assert found == pytest.approx([table[epoch] for epoch in range(100)], rel=1e-12)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("epochs", LENGTHS)
def test_T25_factors_stay_between_zero_and_one(schedule: str, epochs: int) -> None:
    factors = [learning_rate_factor(schedule, epoch, epochs) for epoch in range(epochs)]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    assert max(factors) > 0.0


@pytest.mark.parametrize("schedule", ["paper", "released", "step", "cosine"])
@pytest.mark.parametrize("epochs", LENGTHS)
def test_T25_the_rate_rises_to_its_peak_and_falls_after_it(schedule: str, epochs: int) -> None:
    factors = [learning_rate_factor(schedule, epoch, epochs) for epoch in range(epochs)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["paper", "released", "step"])
@pytest.mark.parametrize("times", [2, 3, 10])
def test_T25_longer_runs_follow_the_same_curve(schedule: str, times: int) -> None:
    for epoch in range(100):
        begin = learning_rate_factor(schedule, times * epoch, 100 * times)
        end = learning_rate_factor(schedule, times * epoch + times - 1, 100 * times)
        if epoch > 6:
            assert begin == end == learning_rate_factor(schedule, epoch, 100)
        else:
            before, after = (
                learning_rate_factor(schedule, e, 100) if e >= 0 else 0.0
                for e in (epoch - 1, epoch + 1)
            )
            assert before - 1e-12 <= begin <= end <= after + 1e-12


def test_T25_cosine_is_a_half_cosine_after_the_warm_up() -> None:
    factors = [learning_rate_factor("cosine", epoch, 105) for epoch in range(105)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == pytest.approx(
        [(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    )


@pytest.mark.parametrize(
    ("schedule", "epochs", "here"),
    [
        ("paper", 100, "in full from epoch 4 on, and less from 16, 33, 50 on (of 100,"),
        ("paper", 30, "in full from epoch 1 on, and less from 5, 10, 15 on (of 30,"),
        ("released", 100, "in full from epoch 6 on, and less from 22, 39, 56 on (of 100,"),
        ("step", 100, "in full from epoch 0 on, and less from 70 on (of 100,"),
        ("step", 1, "in full from epoch 0 on, and without a step in 1 epochs"),
    ],
)
def test_the_sentence_of_a_schedule_names_the_epochs_of_the_run(
    schedule: str, epochs: int, here: str
) -> None:
    sentence = schedule_sentence(schedule, epochs)
    assert sentence.startswith(f"schedule={schedule}: {RULES[schedule]}; here {here}")


def test_every_schedule_has_a_sentence_and_paper_says_what_is_printed() -> None:
    assert set(RULES) == set(SCHEDULES)
    assert 'prints "divided by 16 at 33 and 50"' in RULES["paper"] and "reading" in RULES["paper"]
    assert schedule_sentence("constant", 7) == "schedule=constant: the same in every epoch"


def test_published_epochs_scale_with_the_run() -> None:
    for published in range(101):
        assert epoch_at(published, 100) == published
        assert epoch_at(published, 200) == 2 * published
        for epochs in LENGTHS:
            assert epoch_at(published, epochs) == math.floor(published * epochs / 100 + 0.5)


@pytest.mark.parametrize(("epochs", "start"), [(100, 6), (50, 3), (30, 2), (10, 1), (3, 1), (1, 1)])
def test_a_phase_never_starts_before_epoch_1(epochs: int, start: int) -> None:
    assert EpochContext(0, epochs, ()).starts(6) == start


def test_the_docstrings_examples_hold() -> None:
    assert doctest.testmod(harness.protocol.schedules).failed == 0
