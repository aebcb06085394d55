"""The paper's claims on studies written by hand, of which the answers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from harness.analysis.results import Results, read
from harness.analysis.statistics import differences
from harness.paper import claims
from harness.paper.claims import NO, OPEN, PARTLY, UNASKED, YES
from harness.paper.representation_tables import COLUMNS
from harness.paper.representations import DISTANCE, SIGMA2
from tests.support.handmade import NAMES, N, ladder, planned, write_trial

SEEDS = (0, 1, 2)
ALPHAS = "hparams.sf_dmr.alpha=[0.001,0.01,0.1]"
BLIND = 10.0


def study(
    tmp_path: Path, starts: Mapping[str, int | Sequence[int]], methods: str, *more: str
) -> Results:
    """Rows with so many correct predictions on the first combination of 60, three more on each
    following one.
    """
    plan, store = planned(tmp_path, "seeds=[0,1,2]", f"methods=[{methods}]", *more)
    for row in plan.rows:
        start = starts[row.label]
        for at, seed in enumerate(SEEDS):
            write_trial(
                plan, store, row.label, seed, ladder(start if isinstance(start, int) else start[at])
            )
    return read(plan, store)


def viewed(
    results: Results, view: str, values: Mapping[str, Sequence[float]], hard: Sequence[str] = ()
) -> pd.DataFrame:
    """One value per row and seed on every combination, 0.1 more on each following one.

    ``hard`` ones were mined.
    """
    lines = [
        (
            done.trial.row.label,
            done.trial.seed,
            done.trial.id,
            view,
            of,
            value + 0.1 * at,
            of in hard if hard else None,
            None,
        )
        for done in results.finished
        if done.trial.row.label in values
        for at, of in enumerate(NAMES)
        for value in [values[done.trial.row.label][SEEDS.index(done.trial.seed)]]
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


AXIS = {"sf_dmr[alpha=1e-3]": 30, "sf_dmr[alpha=1e-2]": 30, "sf_dmr[alpha=1e-1]": 30}


@pytest.mark.parametrize(
    ("means", "answer"),
    [
        ((4.0, 2.0, 1.0), YES),
        ((2.0, 4.0, 1.0), PARTLY),
        ((1.0, 2.0, 4.0), NO),
        ((1.0, 1.0, 1.0), OPEN),
    ],
)
def test_whether_variance_falls_with_alpha(
    tmp_path: Path, means: tuple[float, float, float], answer: str
) -> None:
    results = study(tmp_path, AXIS, "sf_dmr", ALPHAS)
    # Three seeds a little apart, the same way for the first value of alpha and another way for the
    # last.
    shift = {
        "sf_dmr[alpha=1e-3]": (0.0, 0.02, 0.01),
        "sf_dmr[alpha=1e-2]": (0.0, 0.0, 0.0),
        "sf_dmr[alpha=1e-1]": (0.01, 0.0, 0.02),
    }
    table = viewed(
        results, SIGMA2, {k: [m + d for d in shift[k]] for k, m in zip(AXIS, means, strict=True)}
    )
    claim = claims.variance_falls(results, table)
    assert claim.answer == answer
    assert (
        f"0.001: {means[0] + 0.31:.3g}, 0.01: {means[1] + 0.3:.3g}" in claim.evidence[0]
    )  # + 0.3: mean of 0, 0.1 ... 0.6
    assert claims.variance_falls(results, table[:0]).answer == UNASKED


@pytest.mark.parametrize(
    ("start", "answer"),
    [(0, YES), ((15, 14, 16), PARTLY), ((30, 31, 29), OPEN), ((41, 41, 42), NO)],
)
def test_whether_the_largest_alpha_collapses(
    tmp_path: Path, start: int | Sequence[int], answer: str
) -> None:
    """The others have 30 of 60 on the first combination, 65 % on average.

    Half of what is gained above 10 % is 37.5 %.
    """
    results = study(tmp_path, AXIS | {"sf_dmr[alpha=1e-1]": start}, "sf_dmr", ALPHAS)
    claim = claims.largest_alpha_collapses(
        results, differences(results), 10.0 if answer is not YES else 20.0
    )
    assert claim.answer == answer
    if answer is YES:
        # ladder(0): 15 % on average; (65 - 15) / (65 - 20).
        assert (
            "15.00" in claim.evidence[0]
            and "111 % of the gain is lost, significantly" in claim.evidence[0]
        )


@pytest.mark.parametrize(
    ("hard", "answer"), [(NAMES[:3], YES), (NAMES[1:4], PARTLY), (NAMES[4:], NO)]
)
def test_whether_mined_combinations_are_the_worst(
    tmp_path: Path, hard: Sequence[str], answer: str
) -> None:
    """The first three combinations are the worst.

    Variance grows from the first to the last, so it correlates by -1 with error.
    """
    results = study(tmp_path, {"dmrnet": 20}, "dmrnet")
    claim = claims.mined_are_worst(
        results, viewed(results, SIGMA2, {"dmrnet": (1.0, 1.0, 1.0)}, hard)
    )
    hits = len(set(hard) & set(NAMES[:3]))
    assert claim.answer == answer and claim.evidence[0].startswith(f"{3 * hits} of 9 mined")
    assert f"({3 * 9 / 7:.1f} would be by chance)" in claim.evidence[0] and claim.evidence[
        1
    ].endswith("-1.00")
    assert (
        claims.mined_are_worst(results, viewed(results, SIGMA2, {"dmrnet": (1.0, 1.0, 1.0)})).answer
        == UNASKED
    )


@pytest.mark.parametrize(
    ("change", "answer"),
    [((0.1, 0.11, 0.12), YES), ((-0.1, -0.11, -0.12), NO), ((0.1, -0.1, 0.02), OPEN)],
)
def test_whether_diversity_rises(tmp_path: Path, change: Sequence[float], answer: str) -> None:
    results = study(tmp_path, {"sf_md": 20, "sf_dmr": 20}, "sf_md,sf_dmr")
    base = (0.5, 0.6, 0.4)
    table = viewed(
        results,
        DISTANCE,
        {"sf_md": base, "sf_dmr": [b + c for b, c in zip(base, change, strict=True)]},
    )
    claim = claims.diversity_rises(results, table)
    low, high = stats.ttest_1samp(change, 0).confidence_interval()
    assert claim.answer == answer and f"95 % interval {low:.3g} to {high:.3g}" in claim.evidence[0]


def test_the_order_of_table_1(tmp_path: Path) -> None:
    """Printed averages of Table 1 (ACER): dmrnet is best, then sf_md, then hemis.

    Measured: dmrnet, hemis, sf_md, far apart.
    """
    results = study(tmp_path, {"sf_md": 2, "hemis": 20, "dmrnet": 42}, "sf_md,hemis,dmrnet")
    printed = {
        c.label: c.value for c in claims.published(1, "casia_surf") if c.combination == "average"
    }
    order = sorted(("sf_md", "hemis", "dmrnet"), key=lambda label: printed[label])
    claim = claims.same_order(results, differences(results))
    measured = ["dmrnet", "hemis", "sf_md"]
    agree = sum(
        (order.index(a) < order.index(b)) == (measured.index(a) < measured.index(b))
        for a, b in [("sf_md", "hemis"), ("sf_md", "dmrnet"), ("hemis", "dmrnet")]
    )
    assert claim.evidence[0].startswith(
        f"of 3 pairs of 3 rows, {agree} differ significantly as printed, {3 - agree} the other way"
    )
    assert claim.evidence[0].endswith(f"{(2 * agree - 3) / 3:+.2f}")
    assert claim.answer == (YES if agree == 3 else PARTLY if agree == 2 else NO)


def test_a_study_without_the_rows_is_told_what_a_question_needs(tmp_path: Path) -> None:
    results = study(tmp_path, {"sf_md": 20, "hemis": 20}, "sf_md,hemis")
    asked = claims.claims(results, viewed(results, SIGMA2, {}), differences(results), BLIND)
    assert [claim.answer for claim in asked] == [UNASKED] * 5 and all(
        claim.evidence[0].startswith("it needs") for claim in asked
    )


def test_the_interval_of_one_seed_has_no_bounds() -> None:
    assert claims.interval([1.0]) == (-math.inf, math.inf) and N == 60
