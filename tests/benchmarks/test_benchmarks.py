"""The benchmarks' own arithmetic, and that each still runs on the code that it times."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from harness.training.loop import NOT_REPLAYED
from tests.benchmarks import (
    bad_sensors,
    driver_scaling,
    evaluation,
    gpu_step,
    present_only,
    quick_start,
    step,
)
from tests.benchmarks.__main__ import main
from tests.benchmarks._models import digits
from tests.benchmarks._paired import Timed, flops, one_thread, timed
from tests.support.recorded_operations import Recordings

REPLAYED_HERE: tuple[gpu_step.Way, ...] = (
    ("plain", "float32", None),
    ("recorded", "float32", Recordings()),
)


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is three times as slow in one round changes no ratio."""
    found = Timed({"slow": [2.0, 6.0, 2.2], "fast": [1.0, 3.0, 1.0]})
    assert found.ratio("slow", "fast") == 2.0
    assert found.median("slow") == 2.2


def test_every_way_is_timed_once_a_round_in_turn() -> None:
    calls: list[str] = []
    found = timed({"a": lambda: calls.append("a"), "b": lambda: time.sleep(0)}, 3)
    assert calls == ["a"] * 4  # one of them to warm up
    assert [len(seconds) for seconds in found.seconds.values()] == [3, 3]


def test_operations_of_a_product_are_two_for_each_multiplication() -> None:
    assert flops(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 2 * 3 * 4 * 5


def test_evaluating_and_a_step_make_rows_of_their_tables() -> None:
    with one_thread():
        row = evaluation.measured("mmanet", digits(16), 1)
        parts = step.measured("mmanet", digits(16), 1)
        precisions = gpu_step.measured("sf_md", digits(16), 1)
        replayed = gpu_step.measured("sf_md", digits(16), 1, 16, REPLAYED_HERE)
        scored = gpu_step.evaluated("sf_md", digits(16), 1)
    assert len(row) == len(evaluation.HEAD)
    assert float(row[1]) > 1.5  # naive / once in operations: no timing
    assert len(parts) == len(step.HEAD)
    assert len(precisions) == len(gpu_step.head(gpu_step.PLAIN))
    assert all(float(ratio) > 0 for ratio in [*precisions[1:-1], *scored[1:]])
    # On a CPU `combine` looks at the mask, which no recording can.
    assert replayed[-1].startswith(NOT_REPLAYED)
    assert len(scored) == len(gpu_step.EVALUATION)


def test_what_lies_between_the_trials_of_a_process() -> None:
    """Two processes side by side: one waits 0.5 s and 1 s, the other 2 s."""
    first = [quick_start.Ran(1, began, 3.0, 2.0) for began in (10.0, 13.5, 17.5)]
    second = [quick_start.Ran(2, began, 5.0, 4.0) for began in (10.0, 17.0)]
    assert quick_start.between([*first, *second]) == [0.5, 1.0, 2.0]


@pytest.mark.slow
def test_the_parts_of_a_run_are_the_whole_of_it(tmp_path: Path) -> None:
    given = ["executor=local", "preset=smoke", "train.epochs=2", "methods=[sf_md,hemis]"]
    found = quick_start.measured(tmp_path / "runs", given)
    *parts, whole, _ = found.values()
    assert sum(parts) == pytest.approx(whole)
    assert all(seconds > -0.01 for seconds in parts)


@pytest.mark.slow
def test_simulated_rooms_are_full_but_for_the_ends_and_the_driver(tmp_path: Path) -> None:
    """640 trials of 42 to 78 s in 64 rooms: each is empty for half a trial on average when there
    are no more, of ten minutes; what the driver takes is small beside.
    """
    row = driver_scaling.measured(640, tmp_path)
    assert len(row) == len(driver_scaling.HEAD)
    assert 90 < float(row[-1]) < 100
    assert float(row[2]) < 100  # ms of the driver for a trial


@pytest.mark.slow
def test_a_step_that_encodes_what_is_shown_has_fewer_operations() -> None:
    """All but the trunk's are saved for 3 of 7 features: at most 1 / (0.29 + 0.71 * 4 / 7)."""
    assert 1.2 < present_only.operations_ratio("sf_md") < 1.44


@pytest.mark.slow
def test_both_ways_of_evaluating_with_bad_sensors_run(tmp_path: Path) -> None:
    given = ["methods=[sf_md,hemis]", "seeds=[0]", "train.epochs=1", "dataset.limit=60"]
    row = bad_sensors.measured(tmp_path / "runs", given, 1)
    assert len(row) == len(bad_sensors.HEAD) and row[0] == "2"
    assert all(float(seconds) > 0 for seconds in row[1:4])


def test_an_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(SystemExit, match="no benchmark is called gpu; there are input_path, tri"):
        main(["gpu"])
