"""What several datasets say together: a rank test where it can be significant at all, else each
dataset's own differences.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from harness.analysis.findings import Findings, analyse
from harness.analysis.over_datasets import DatasetComparison, compare_over_datasets
from harness.analysis.results import read
from harness.analysis.statistics import datasets_needed
from harness.protocol.metrics import METRICS
from harness.reporting.sections.over_datasets import over_datasets
from harness.study.recorded_data import Recorded, described
from tests.support.handmade import ladder, planned, write_trial

STARTS = {"sf_md": (24, 27, 22), "hemis": (40, 38, 42)}
"""Correct predictions on the first combination, seed by seed."""


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    plan, store = planned(
        tmp_path_factory.mktemp("parted"), "methods=[sf_md,hemis]", "seeds=[0,1,2]"
    )
    for label in ("sf_md", "hemis"):
        for seed in (0, 1, 2):
            write_trial(plan, store, label, seed, ladder(STARTS[label][seed]))
    return analyse(read(plan, store))


def on(found: Findings, name: str, metric: str = "accuracy") -> Findings:
    """The same findings as if they were of another dataset."""
    plan = copy.copy(found.results.plan)
    description = described(plan.dataset)
    plan.dataset = Recorded(
        description | {"spec": description["spec"] | {"name": name, "metric": metric}}
    )
    comparison = dataclasses.replace(found.comparison, metric=METRICS[metric])
    return dataclasses.replace(
        found, results=dataclasses.replace(found.results, plan=plan), comparison=comparison
    )


def seen(parts: Sequence[Findings]) -> DatasetComparison:
    found = compare_over_datasets(parts)
    assert isinstance(found, DatasetComparison)
    return found


def test_a_rank_test_is_made_where_it_can_be_significant_at_all(parted: Findings) -> None:
    five, six = ([on(parted, f"d{n}") for n in range(count)] for count in (5, 6))
    assert seen(five).tests is None and seen(five).needed == datasets_needed(2) == 6
    # hemis is ahead on all six: of the 2^6 signs two are as extreme.
    assert seen(six).tests == {("sf_md", "hemis"): pytest.approx(2 / 2**6)}
    gaps = [
        a - b for a, b in zip(seen(six).values["sf_md"], seen(six).values["hemis"], strict=True)
    ]
    assert stats.wilcoxon(gaps, mode="exact").pvalue == pytest.approx(2 / 2**6)
    assert seen(six).ranks == {"sf_md": 2.0, "hemis": 1.0}


def test_below_that_each_dataset_speaks_for_itself(parted: Findings) -> None:
    found = seen([on(parted, "one"), on(parted, "two")])
    assert found.datasets == ("one", "two") and found.other == "sf_md"
    gap = 100 * np.mean([16, 11, 20]) / 60
    assert [(one.label, one.verdict) for one in found.gaps] == [
        ("hemis, one", "better"),
        ("hemis, two", "better"),
    ]
    assert all(one.value == pytest.approx(gap) and one.low < gap < one.high for one in found.gaps)


def test_a_metric_where_less_is_better_is_turned(parted: Findings) -> None:
    found = seen([on(parted, "one"), on(parted, "faces", "acer")])
    assert found.turned and found.ranks == {"sf_md": 1.5, "hemis": 1.5}
    up, down = found.gaps
    # Where more means worse, hemis, which has more, is behind.
    assert up.value == pytest.approx(-down.value) and (down.low, down.high) == (-up.high, -up.low)


def test_where_nothing_can_be_said_over_datasets_it_is_said_why(parted: Findings) -> None:
    assert compare_over_datasets([parted, parted]) == "all studies are on one dataset"
    assert "digits stands in several groups on unequal terms" in str(
        compare_over_datasets([parted, on(parted, "x"), parted])
    )
    empty = dataclasses.replace(on(parted, "x"), rankings={}, unranked="holes")
    assert compare_over_datasets([parted, empty]) == "the rows are not ranked on x"


def test_the_view_over_datasets_in_words(parted: Findings) -> None:
    two = over_datasets(compare_over_datasets([on(parted, "one"), on(parted, "two")]))
    text = "\n".join(str(block) for block in two.blocks)
    assert "for 2 rows it could be significant from 6 datasets on" in text and "here are 2" in text
    assert (
        "'hemis, one', '+26.11'" in text
        and "'hemis, two', '+26.11'" in text
        and "minus sf_md" in text
    )
    six = over_datasets(compare_over_datasets([on(parted, f"d{n}") for n in range(6)]))
    assert "('sf_md', 'hemis', '0.031', 'told apart')" in "\n".join(
        str(block) for block in six.blocks
    )
