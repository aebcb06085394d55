"""The benchmarks' own arithmetic, and that each still runs on the code that it times."""

from __future__ import annotations

import time

import pytest
import torch

from tests.benchmarks import evaluation, gpu_step, present_only, step
from tests.benchmarks.__main__ import main
from tests.benchmarks._models import digits
from tests.benchmarks._paired import Timed, flops, one_thread, timed


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
    assert len(row) == len(evaluation.HEAD)
    assert float(row[1]) > 1.5  # naive / once in operations: no timing
    assert len(parts) == len(step.HEAD)
    assert len(precisions) == len(gpu_step.HEAD)
    assert all(float(ratio) > 0 for ratio in precisions[1:])


@pytest.mark.slow
def test_a_step_that_encodes_what_is_shown_has_fewer_operations() -> None:
    """All but the trunk's are saved for 3 of 7 features: at most 1 / (0.29 + 0.71 * 4 / 7)."""
    assert 1.2 < present_only.operations_ratio("sf_md") < 1.44


def test_an_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(SystemExit, match="no benchmark is called gpu; there are input_path, tri"):
        main(["gpu"])
