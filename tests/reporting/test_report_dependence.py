"""What reports say of test samples that belong together, and of differences beside the average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.findings import Findings, analyse
from harness.analysis.results import read
from harness.reporting.answer import answer
from harness.reporting.answer.caveats import caveats
from harness.store import write_json
from tests.support.handmade import N, ladder, planned, write_trial

SEEDS = (0, 1, 2)


def study(
    tmp_path: Path,
    rows: dict[str, Sequence[Sequence[int]]],
    groups: dict[str, Sequence[int] | None],
) -> Findings:
    """A study whose rows have, for each seed, so many correct predictions per combination."""
    plan, store = planned(tmp_path, "seeds=[0,1,2]", f"methods=[{','.join(rows)}]")
    for label, of_seeds in rows.items():
        for seed, correct in zip(SEEDS, of_seeds, strict=True):
            write_trial(plan, store, label, seed, correct, groups=groups[label])
    return analyse(read(plan, store))


def ladders(*starts: int) -> list[list[int]]:
    return [ladder(start) for start in starts]


ROWS = {"sf_md": ladders(20, 22, 21), "hemis": ladders(23, 24, 22), "dmrnet": ladders(30, 28, 29)}
PEOPLE = tuple(n // 5 for n in range(N))
TWO = tuple(n // 30 for n in range(N))


def test_groups_and_the_design_effect_are_said(tmp_path: Path) -> None:
    found = study(tmp_path, ROWS, dict.fromkeys(ROWS, PEOPLE))
    (line,) = [one for one in caveats(found) if "test samples" in one]
    assert line.startswith("60 test samples in 12 people: intervals and ties are of people;")
    # By hand: the correct ones are the first, so a difference is a run of neighbouring samples.
    right = {
        label: np.mean(
            [[100.0 * (np.arange(N) < count) for count in seed] for seed in seeds], (0, 1)
        )
        for label, seeds in ROWS.items()
    }
    effects = []
    for first, second in (("sf_md", "hemis"), ("sf_md", "dmrnet"), ("hemis", "dmrnet")):
        gap = right[first] - right[second]
        of_people = gap.reshape(12, 5).mean(1)
        effects.append((of_people.var(ddof=1) / 12) / (gap.var(ddof=1) / N))
    expected = f"is {np.median(effects):.1f} times", f"at most {max(effects):.1f})"
    assert all(text in line for text in expected)


def test_unknown_groups_are_said(tmp_path: Path) -> None:
    found = study(tmp_path, ROWS, dict.fromkeys(ROWS, None))
    assert (
        "groups of the 60 test samples not recorded: intervals take them as independent, and may be"
        " too narrow" in caveats(found)
    )


def test_trials_of_an_older_version_share_the_groups_of_the_others(tmp_path: Path) -> None:
    """All trials of a study have the same samples: one that recorded their groups is enough."""
    mixed = study(tmp_path / "a", ROWS, {**dict.fromkeys(ROWS, PEOPLE), "sf_md": None})
    whole = study(tmp_path / "b", ROWS, dict.fromkeys(ROWS, PEOPLE))
    assert [one.estimate for one in mixed.differences] == [
        one.estimate for one in whole.differences
    ]


def test_people_on_both_sides_are_said_with_their_number(tmp_path: Path) -> None:
    facts = {"are": "people", "count": {}, "also_in_train": {"val": 2, "test": 7}}
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md,hemis]")
    for label in ("sf_md", "hemis"):
        trial = write_trial(plan, store, label, 0, ladder(20), groups=PEOPLE)
        record = store.trial(trial.id).record()
        assert record is not None
        record["groups"] = facts
        write_json(store.trial(trial.id) / "record.json", record)
    assert (
        "7 of the 12 people of test are in train too: nothing here is about new people"
        in caveats(analyse(read(plan, store)))
    )


def test_two_groups_make_no_claim(tmp_path: Path) -> None:
    found = study(tmp_path, ROWS, dict.fromkeys(ROWS, TWO))
    first, second = answer(found)
    assert first.startswith(
        "Nothing can be claimed about the rows: the 60 test samples come from 2 people, which are"
        " too few"
    )
    assert second.startswith("On these samples dmrnet has the highest accuracy averaged")
    assert found.leader is None and not any(one.better for one in found.differences)


@pytest.mark.parametrize("groups", [None, tuple(range(N))])
def test_what_the_average_hides_is_in_the_answer(
    tmp_path: Path, groups: Sequence[int] | None
) -> None:
    """Equal averages: 210 correct of 420 each; hemis has 54 of 60 on thumb and 26 on the others."""
    rows = {"sf_md": [[30] * 7] * 3, "hemis": [[54, *[26] * 6]] * 3}
    found = study(tmp_path, rows, dict.fromkeys(rows, groups))
    told = answer(found)[-1]
    assert told.startswith("Where the average tells nothing from the baseline sf_md: ")
    assert "hemis is better with thumb (90.0 against 50.0)" in told


def test_nothing_is_added_where_rows_are_alike_everywhere(tmp_path: Path) -> None:
    rows = {"sf_md": ladders(20, 22, 21), "hemis": ladders(22, 20, 21)}
    assert len(answer(study(tmp_path, rows, dict.fromkeys(rows, None)))) == 2
