"""From a store with counted predictions to differences and rankings.

Correction, letters and rank tests by hand and by search.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.analysis import ranking, statistics
from harness.analysis.results import read
from harness.analysis.statistics import (
    AVERAGE,
    WORST,
    Difference,
    Estimate,
    RowSamples,
    datasets_needed,
    holm,
    rank_test,
)
from harness.analysis.statistics.multiple_comparisons import letters
from harness.protocol.combinations import lattice
from harness.store import write_json
from tests.support.handmade import NAMES, N, ladder, planned, trial_of, write_trial

# ---------------------------------------------------------------------- from the store


def by_summary(found: list[Difference], first: str, second: str) -> dict[str, Difference]:
    return {one.summary: one for one in found if (one.first, one.second) == (first, second)}


def test_differences_of_counted_predictions(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0,1,2]")
    for seed, lead in enumerate((3, 6, 9)):
        write_trial(plan, store, "sf_md", seed, ladder(20 + lead))
        write_trial(plan, store, "hemis", seed, ladder(20))
    found = by_summary(statistics.differences(read(plan, store)), "sf_md", "hemis")
    assert list(found) == [AVERAGE, WORST, "1 present", "2 present", *NAMES]
    # 3, 6 and 9 of 60 samples: 5, 10 and 15 %, in every combination
    for one in found.values():
        assert one.value == pytest.approx(10.0)
        assert one.estimate.from_seeds == pytest.approx(25 / 3)
        assert (one.estimate.seeds, one.estimate.samples) == (3, N)
    # thumb: samples 20 to 22 are gained by all seeds, 23 to 25 by two, 26 to 28 by one
    gained = np.zeros((3, N))
    for seed, lead in enumerate((3, 6, 9)):
        gained[seed, 20 : 20 + lead] = 100
    rest = gained - gained.mean(1, keepdims=True) - gained.mean(0) + gained.mean()
    common = gained.mean(0).var(ddof=1) / N - (rest**2).sum() / (2 * (N - 1)) / (3 * N)
    assert found["thumb"].estimate.from_samples == pytest.approx(common)
    assert found["thumb"].p == pytest.approx(found["thumb"].estimate.p_value())
    each = sorted((found[name] for name in NAMES), key=lambda one: one.p)
    assert each[0].p_adjusted == pytest.approx(
        min(7 * each[0].p, 1)
    )  # Holm over the seven combinations of the one pair
    assert found[AVERAGE].p_adjusted == found[AVERAGE].p


def test_pairs_are_compared_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0,1,2]")
    for seed, start in ((0, 20), (1, 30), (2, 40)):
        write_trial(plan, store, "sf_md", seed, ladder(start))
    for seed in (2, 1):
        write_trial(plan, store, "hemis", seed, ladder(20))
    found = by_summary(statistics.differences(read(plan, store)), "sf_md", "hemis")
    assert found[AVERAGE].estimate.seeds == 2
    assert found[AVERAGE].value == pytest.approx(100 * (10 + 20) / 2 / N)
    assert found[AVERAGE].note.startswith("not calibrated here: with 2 seeds")


def test_a_table_with_holes_is_not_ranked(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    write_trial(plan, store, "hemis", 0, ladder(20))
    write_trial(plan, store, "sf_md", 1, ladder(30))
    again = (
        r"holes is not ranked; missing: hemis seed 1 \(not run yet\); run the study again to fill"
    )
    with pytest.raises(ranking.Unranked, match=rf"{again} them$"):
        ranking.ranking(read(plan, store))
    failed = store.trial(trial_of(plan, "hemis", 1).id)
    write_json(failed / "spec.json", {})
    write_json(failed / "failure.json", {"reason": "no"})
    with pytest.raises(ranking.Unranked, match=r"\(no\); run .* with rerun=failed, or without the"):
        ranking.ranking(read(plan, store))
    trial = write_trial(plan, store, "hemis", 1, ladder(20))
    assert ranking.ranking(read(plan, store)).leader in {None, "sf_md"}
    path = store.trial(trial.id) / "scores.npz"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ranking.Unranked, match=r"hemis seed 1 \(scores.npz changed"):
        ranking.ranking(read(plan, store))


def test_a_ranking_of_a_winner_and_two_ties(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1,2]")
    for seed in range(3):
        write_trial(plan, store, "sf_md", seed, ladder(5 + seed))
        write_trial(plan, store, "hemis", seed, ladder(40 + seed))
        write_trial(plan, store, "dmrnet", seed, ladder(6 + seed if seed else 5))
    found = ranking.ranking(read(plan, store))
    assert [(p.label, p.letters, p.first, p.last) for p in found.places] == [
        ("hemis", "a", 1, 1),
        ("dmrnet", "b", 2, 3),
        ("sf_md", "b", 2, 3),
    ]
    assert (found.best, found.leader, found.notes) == (("hemis",), "hemis", ())
    assert found.places[0].mean == pytest.approx(100 * (40 + 41 + 42 + 3 * 9) / 3 / N)
    # two comparisons with the best, three pairs in all
    levels = {0.05 / 2: found.detectable, 0.05 / 3: found.detectable_pair}
    for level, expected in levels.items():
        each = [one.estimate.detectable(level) for one in found.differences]
        assert (
            expected == np.median(each) > np.median([one.detectable for one in found.differences])
        )


def test_nobody_leads_a_tie_and_one_seed_says_so(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, ladder(20))
    write_trial(plan, store, "hemis", 0, ladder(21))
    found = ranking.ranking(read(plan, store), WORST)
    assert [p.label for p in found.places] == ["hemis", "sf_md"]
    assert {(p.letters, p.first, p.last) for p in found.places} == {("a", 1, 2)}
    assert (found.best, found.leader) == (("hemis", "sf_md"), None)
    assert found.notes == ("test-sample noise only: one seed says nothing about other seeds",)
    assert math.isnan(found.differences[0].seeds_needed)


def test_a_row_alone_has_no_pair(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, ladder(20))
    found = ranking.ranking(read(plan, store))
    assert (found.best, found.leader, found.differences) == (("sf_md",), None, ())


def test_reference_rows_are_neither_ranked_nor_missed(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[sf_md,hemis,dedicated]", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, ladder(20))
    write_trial(plan, store, "hemis", 0, ladder(41))
    write_trial(plan, store, "dedicated", 0, ladder(41))
    found = ranking.ranking(read(plan, store))
    assert [place.label for place in found.places] == ["hemis", "sf_md"] and found.leader == "hemis"
    assert len(found.differences) == 1


def test_two_rows_of_one_trial_are_equal(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path,
        "methods=[{method: sf_md, label: one}, {method: sf_md, label: two}]",
        "seeds=[0,1]",
    )
    for seed in (0, 1):
        write_trial(plan, store, "one", seed, ladder(20 + seed))
    for one in statistics.differences(read(plan, store)):
        assert (one.value, one.low, one.high, one.p, one.better) == (0, 0, 0, 1, None)


# ---------------------------------------------------------------------- from samples


def test_the_better_one_follows_the_direction() -> None:
    found = Estimate(5.0, 0.01, 0.01, 5, 100)
    assert statistics.difference_of("a", "b", AVERAGE, found, higher_is_better=True).better == "a"
    assert statistics.difference_of("a", "b", AVERAGE, found, higher_is_better=False).better == "b"


def test_a_ranking_of_errors_has_the_lowest_first() -> None:
    means = {"x": 9.0, "y": 5.0, "z": 5.2}
    sure, open_ = Estimate(4.0, 0.001, 0.001, 5, 100), Estimate(0.2, 0.5, 0.5, 5, 100)
    pairs = [("x", "y", sure), ("x", "z", sure), ("z", "y", open_)]
    found = ranking.ranked(
        means,
        [statistics.difference_of(a, b, AVERAGE, e, False) for a, b, e in pairs],
        AVERAGE,
        False,
    )
    assert [(p.label, p.letters, p.first, p.last) for p in found.places] == [
        ("y", "a", 1, 2),
        ("z", "a", 1, 2),
        ("x", "b", 3, 3),
    ]
    assert (found.best, found.leader) == (("y", "z"), None)


def test_the_worst_of_many_ties_is_corrected_and_flagged() -> None:
    noise = np.random.default_rng(4)
    tied = 100.0 * (noise.random((7, 3, 200)) < 0.6)
    clear = 100.0 * (noise.random((7, 3, 200)) < np.array([0.6, *[0.9] * 6])[:, None, None])
    rows = [RowSamples("clear", (0, 1, 2), clear), RowSamples("tied", (0, 1, 2), tied)]
    (found,) = [
        one for one in statistics.paired(rows, lattice("abc"), True) if one.summary == WORST
    ]
    assert found.value == pytest.approx(np.mean(clear.mean(2).min(0) - tied.mean(2).min(0)))
    assert found.value > 0 and found.estimate.corrected < found.value  # the truth is 0
    assert found.note.startswith("not calibrated here: one row has several combinations")


def test_combinations_that_no_sample_has_are_left_out() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 50))
    values[:, 1] = np.nan
    rows = [RowSamples(name, (0, 1, 2), one) for name, one in zip("xy", values, strict=True)]
    found = {one.summary: one for one in statistics.paired(rows, lattice("ab"), True)}
    assert list(found) == [AVERAGE, WORST, "a", "a+b"]
    assert found[AVERAGE].value == pytest.approx((found["a"].value + found["a+b"].value) / 2)


# ---------------------------------------------------------------------- many comparisons


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04 -> 0.06 by
    # monotonicity
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_letters_are_the_largest_groups_without_a_difference() -> None:
    noise = np.random.default_rng(0)
    for rows in (2, 4, 6):
        for _ in range(40):
            names = [f"r{i}" for i in range(rows)]
            different = {
                frozenset(pair) for pair in itertools.combinations(names, 2) if noise.random() < 0.4
            }
            shown = letters(names, different)
            for pair in itertools.combinations(names, 2):
                assert bool(set(shown[pair[0]]) & set(shown[pair[1]])) == (
                    frozenset(pair) not in different
                )
            alike = [
                set(group)
                for size in range(1, rows + 1)
                for group in itertools.combinations(names, size)
                if not any(
                    frozenset(pair) in different for pair in itertools.combinations(group, 2)
                )
            ]
            largest = [group for group in alike if not any(group < other for other in alike)]
            used = {
                letter: {name for name in names if letter in shown[name]}
                for letter in "".join(shown.values())
            }
            assert sorted(map(sorted, used.values())) == sorted(map(sorted, largest))
            assert shown[names[0]][0] == "a"


def test_a_rank_test_needs_enough_datasets() -> None:
    assert [datasets_needed(rows) for rows in (2, 3, 4, 10)] == [6, 7, 8, 11]
    for rows in range(2, 12):
        least = next(n for n in range(1, 30) if 2 ** (1 - n) <= 0.05 / math.comb(rows, 2))
        assert datasets_needed(rows) == least
    always = [float(i) for i in range(1, 7)]
    assert rank_test({"a": always, "b": [0.0] * 6}) == {("a", "b"): pytest.approx(2 / 2**6)}
    assert rank_test({"a": always[:5], "b": [0.0] * 5}) is None
    three = rank_test({"a": [*always, 7.0], "b": [0.0] * 7, "c": [0.5, -1, 2, -3, 4, -5, 6]})
    assert three is not None and three["a", "b"] == pytest.approx(3 * 2 / 2**7)
    again = stats.wilcoxon([0.5, -1, 2, -3, 4, -5, 6]).pvalue
    assert three["b", "c"] == pytest.approx(min(1.0, again))
