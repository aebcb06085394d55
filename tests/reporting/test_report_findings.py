"""What the report claims: answer, ranking, differences, robustness and published values, from
counted predictions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from harness.analysis.findings import Findings, analyse
from harness.analysis.results import read
from harness.analysis.statistics import AVERAGE, Estimate
from harness.paper import published_numbers
from harness.paper.findings import paper_findings
from harness.paper.published_numbers import Published, PublishedComparison
from harness.reporting.answer import answer
from harness.reporting.answer.best import separation
from harness.reporting.answer.caveats import caveats
from harness.reporting.console import plain_lines, show
from harness.reporting.document import Bullets, Paragraph, Section, Strong, Table
from harness.reporting.sections.comparison import differences, ranking, result
from harness.reporting.sections.cost import cost
from harness.reporting.sections.published_numbers import published
from harness.reporting.sections.representations import claims
from harness.reporting.sections.robustness import robustness
from harness.reporting.wording import listed, p_value
from harness.store import Store
from harness.study.plan import Plan
from tests.support.handmade import LADDER, MARKS, N, ladder, planned, write_trial
from tests.support.reports import document_of

SEEDS = (0, 1, 2)
FAR = {"sf_md": 24, "hemis": 42, "dmrnet": 6}
"""Correct predictions on the first combination; the average is (start + 9) / 60: 55, 85 and 25 %.
"""


NEAR = {"sf_md": (26, 30, 34), "hemis": (34, 30, 27), "dmrnet": 6}
"""Seed by seed: hemis is ahead by 8, 0 and -7 samples of 60, 0.56 points in the mean: nothing that
three seeds could tell.
"""

Starts = Mapping[str, int | Sequence[int]]


def written(
    tmp_path: Path, starts: Starts, seeds: Sequence[int] = SEEDS, *more: str
) -> tuple[Plan, Store]:
    plan, store = planned(
        tmp_path, f"seeds=[{','.join(map(str, seeds))}]", f"methods=[{','.join(starts)}]", *more
    )
    for label, start in starts.items():
        for at, seed in enumerate(seeds):
            write_trial(
                plan, store, label, seed, ladder(start if isinstance(start, int) else start[at])
            )
    return plan, store


def findings_of(tmp_path: Path, starts: Starts, seeds: Sequence[int] = SEEDS) -> Findings:
    return analyse(read(*written(tmp_path, starts, seeds)))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings_of(tmp_path_factory.mktemp("far"), FAR)


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings_of(tmp_path_factory.mktemp("near"), NEAR)


def only_table(section: Section, caption: str = "") -> Table:
    return next(
        block for block in section.blocks if isinstance(block, Table) and caption in block.caption
    )


def notes(section: Section) -> str:
    return "\n".join(
        line for block in section.blocks if isinstance(block, Bullets) for line in block.lines
    )


def per_sample(start: int) -> np.ndarray:
    """Each sample's value averaged over the combinations: right in those whose count is above its
    position.
    """
    return np.mean([100.0 * (np.arange(N) < start + step) for step in LADDER], 0)


# ---------------------------------------------------------------------- answer and ranking


def test_a_leader_outside_every_tie_is_named_and_bold(far: Findings) -> None:
    first, second = answer(far)
    assert first.startswith(
        "hemis is the best of 3 rows: 85.0 % accuracy averaged over the 7 combinations (95 %"
        " confidence, each row compared with the best)"
    )
    assert second.startswith("The first two, hemis and sf_md, differ by 30.00 (95 % interval +")
    assert "with 3 seeds, a row that is " in second
    assert "(median over pairs, with the correction for 2 comparisons)" in second
    table = only_table(ranking(far))
    assert [row[0] for row in table.rows] == ["hemis", "sf_md", "dmrnet"]
    assert [row[1] for row in table.rows] == ["1", "2", "3"] and [row[3] for row in table.rows] == [
        "a",
        "b",
        "c",
    ]
    assert [row[2] for row in table.rows] == ["85.0 ± 0.0", "55.0 ± 0.0", "25.0 ± 0.0"]
    bold = [cell for row in table.rows for cell in row if isinstance(cell, Strong)]
    assert bold == ["hemis", "85.0 ± 0.0"]
    assert [
        cell for row in only_table(result(far)).rows for cell in row if isinstance(cell, Strong)
    ] == bold


def test_nobody_is_bold_inside_a_tie(near: Findings) -> None:
    first, second = answer(near)
    assert (
        first.startswith("No single row is best: ")
        and "the best of the 3 rows is hemis or sf_md (95 % confidence" in first
    )
    assert "hemis and sf_md, differ by 0.56" in second
    table = only_table(ranking(near))
    assert [row[1] for row in table.rows] == ["1–2", "1–2", "3"] and [
        row[3] for row in table.rows
    ] == ["a", "a", "b"]
    assert not [cell for row in table.rows for cell in row if isinstance(cell, Strong)]
    assert "nobody is bold: no row is the best with 95 % confidence" in notes(ranking(near))


def test_all_tied(tmp_path: Path) -> None:
    assert answer(findings_of(tmp_path, {label: NEAR[label] for label in ("sf_md", "hemis")}))[
        0
    ].startswith(
        "No row is best: by accuracy averaged over the 7 combinations, each of the 2 may be."
    )


def test_one_seed_says_what_it_cannot_say(tmp_path: Path) -> None:
    found = findings_of(tmp_path, FAR, [4])
    first, second = answer(found)
    assert (
        first
        == "With seed 4, hemis has the highest accuracy averaged over the 7 combinations (85.0 %), "
        "better than every other row on these test samples."
    )
    assert second.startswith("One seed says nothing about other seeds")
    # The leader leads on these samples only, and is not emphasised.
    table = only_table(ranking(found))
    assert not [cell for row in table.rows for cell in row if isinstance(cell, Strong)]
    assert (
        "nobody is bold: test-sample noise only: one seed says nothing about other seeds"
        in notes(ranking(found))
    )
    assert "test-sample noise only: one seed says nothing about other seeds" in caveats(found)
    against = only_table(differences(found), "the baseline")
    assert {row[0]: row[6] for row in against.rows} == {
        "hemis": "better on these samples",
        "dmrnet": "worse on these samples",
    }
    assert {row[5] for row in against.rows} == {"–"}


def test_one_seed_names_what_the_first_is_not_told_apart_from(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md,hemis,dmrnet]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    # The same counts in another order: sample by sample the same average.
    write_trial(plan, store, "hemis", 0, ladder(30)[::-1])
    write_trial(plan, store, "dmrnet", 0, ladder(6))
    assert (
        "(65.0 %), not told apart from hemis on these test samples."
        in answer(analyse(read(plan, store)))[0]
    )


def test_two_seeds_are_not_calibrated_and_lead_nowhere(tmp_path: Path) -> None:
    found = findings_of(tmp_path, FAR, [0, 1])
    assert "not calibrated here" in answer(found)[1]
    assert any(note.startswith("not calibrated here: with 2 seeds") for note in caveats(found))
    assert found.leader is None and found.rankings[AVERAGE].leader == "hemis"


def test_two_rows_are_one_comparison(tmp_path: Path) -> None:
    _, second = answer(findings_of(tmp_path, {"sf_md": 30, "hemis": 33}))
    assert "(median over pairs, with the correction for one comparison)" in second


def test_a_table_with_holes_is_not_ranked(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1,2]", "methods=[sf_md,hemis]")
    for seed in SEEDS:
        write_trial(plan, store, "sf_md", seed, ladder(30))
    write_trial(plan, store, "hemis", 0, ladder(33))
    found = analyse(read(plan, store))
    first, second = answer(found)
    assert first.startswith(
        "No ranking: a table with holes is not ranked; missing: hemis seed 1 (not run yet), hemis"
        " seed 2"
    )
    assert second.startswith("4 of 6 trials are finished")
    assert not [block for block in ranking(found).blocks if isinstance(block, Table)]
    assert "planned trials that are not there: 2 of 6 (Holes)" in caveats(found)
    # What both have is compared all the same, on the one seed that both have.
    assert found.against("sf_md")[0].difference.estimate.seeds == 1


def test_one_row_alone(tmp_path: Path) -> None:
    first, second = answer(findings_of(tmp_path, {"sf_md": 30}))
    assert (
        first.startswith("sf_md has 65.0 % accuracy") and "50.0 % in its worst combination" in first
    )
    assert second.startswith("One row alone is no comparison")


def test_seeds_that_would_separate_two_rows() -> None:
    def of(from_seeds: float, from_samples: float, seeds: int = 5, freedom: float = 999.0) -> str:
        found = Estimate(1.0, from_seeds, from_samples, seeds, 1000, freedom=freedom)
        return separation(found, 0.05)

    assert re.fullmatch(
        r"which about \d+ seeds would separate if it is the true difference", of(0.3, 0.0)
    )
    assert of(0.3, 1.0) == "which no number of seeds would separate on this test set"
    assert of(0.0, 1.0, 1) == "which one seed cannot separate"
    assert of(0.3, 0.0, freedom=1.0).endswith("on test samples of so few groups")


def test_the_seeds_that_would_separate_are_of_the_comparisons_that_decide(near: Findings) -> None:
    told = re.search(r"which about (\d+) seeds", answer(near)[1])
    first, second = (place.label for place in near.rankings[AVERAGE].places[:2])
    pair = next(one for one in near.against(second) if one.label == first).difference.estimate
    # Three rows: two comparisons with the best, each at 0.05 / 2.
    assert told and int(told[1]) == pair.seeds_needed(0.025) > pair.seeds_needed()


def test_names_in_a_sentence() -> None:
    assert listed([]) == "" and listed(["a", "b"], "or") == "a or b"


# ---------------------------------------------------------------------- differences


def test_differences_are_those_of_a_paired_t_test(tmp_path: Path) -> None:
    """Seeds without any noise leave the test samples: scipy's one-sample t interval of the
    per-sample differences.
    """
    found = findings_of(tmp_path, {"sf_md": 30, "hemis": 33, "dmrnet": 25})
    table = only_table(differences(found), "the baseline")
    shown = {row[0]: row for row in table.rows}
    raw = {}
    for label, start in (("hemis", 33), ("dmrnet", 25)):
        test = stats.ttest_1samp(per_sample(start) - per_sample(30), 0)
        low, high = test.confidence_interval(0.95)
        value = 100 * (start - 30) / N
        assert [
            number(shown[label][1]),
            *map(number, shown[label][2].split(" to ")),
        ] == pytest.approx([value, low, high], abs=0.0051)
        raw[label] = test.pvalue
    pairs = {**raw, "hemis-dmrnet": stats.ttest_1samp(per_sample(33) - per_sample(25), 0).pvalue}
    order = sorted(pairs, key=lambda pair: pairs[pair])
    holm = {
        pair: max(min(1.0, (3 - i) * pairs[order[i]]) for i in range(order.index(pair) + 1))
        for pair in order
    }
    for label in raw:
        assert shown[label][3] == p_value(holm[label])
    assert [row[0] for row in table.rows] == ["hemis", "dmrnet"]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_best_and_the_baseline_are_the_references(far: Findings) -> None:
    tables = [block for block in differences(far).blocks if isinstance(block, Table)]
    assert (
        "minus hemis (the best average)" in tables[0].caption
        and "minus sf_md (the baseline)" in tables[1].caption
    )
    assert [(row[0], row[1]) for row in tables[0].rows] == [
        ("sf_md", "−30.00"),
        ("dmrnet", "−60.00"),
    ]
    assert [(row[0], row[1], row[6]) for row in tables[1].rows] == [
        ("hemis", "+30.00", "better"),
        ("dmrnet", "−30.00", "worse"),
    ]
    # Every combination differs by 18 samples of 60.
    assert tables[2].header == ("method", *MARKS, "worst case", "1 present", "2 present")
    assert tables[2].rows[0] == ("hemis", *["+30.00 ▲"] * 10) and tables[2].rows[1] == (
        "dmrnet",
        *["−30.00 ▼"] * 10,
    )


def test_the_best_as_baseline_is_said_once(tmp_path: Path) -> None:
    found = findings_of(tmp_path, {"sf_md": 40, "hemis": 20})
    captions = [block.caption for block in differences(found).blocks if isinstance(block, Table)]
    assert (
        captions[0].endswith("minus sf_md (the best average and the baseline)")
        and len(captions) == 2
    )


# ---------------------------------------------------------------------- robustness, cost


def test_robustness_tables_of_counted_predictions(tmp_path: Path) -> None:
    found = findings_of(tmp_path, {"sf_md": 30, "hemis": 33})
    section = robustness(found)
    # sf_md: 50, 55, 60 alone, 65, 70, 75 in pairs, 80 together
    weights = {
        p: np.array([p**k * (1 - p) ** (3 - k) for k in (1, 1, 1, 2, 2, 2, 3)])
        for p in (0.25, 0.75, 0.9)
    }
    cells = 50 + 5.0 * np.arange(7)
    expected = [f"{(w @ cells) / w.sum():.1f}" for w in weights.values()]
    assert only_table(section, "in expectation").rows[0] == (
        "sf_md",
        "65.0",
        "50.0",
        "55.0",
        "70.0",
        "80.0",
        *expected,
    )
    # The ladder never falls from a combination to a larger one.
    assert only_table(section, "Monotonicity").rows[0][1:3] == ("0 of 9", "0 %")
    shapley = [number(cell.split(" (")[0]) for cell in only_table(section, "Shapley").rows[0][1:]]
    assert sum(shapley) == pytest.approx(80 - found.robustness["sf_md"].blind, abs=0.016)
    # Adding spectrum instead of thumb is worth 5 alone and 5 in each pair: their Shapley values
    # differ by the same.
    assert shapley[1] - shapley[0] == pytest.approx(5, abs=0.011) and shapley[2] - shapley[
        1
    ] == pytest.approx(5, abs=0.011)
    front = next(line for line in notes(cost(found)).splitlines() if line.startswith("no row has"))
    assert front.endswith(": hemis")  # equal parameters, better mean


def test_a_step_that_hurts_is_shown_with_its_loss(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1,2]", "methods=[sf_md]")
    for seed in SEEDS:
        # thumb 50 of 60, spectrum 30, and together 30: adding spectrum to thumb loses 20 of 60.
        write_trial(plan, store, "sf_md", seed, [50, 30, 50, 30, 54, 54, 57])
    row = only_table(robustness(analyse(read(plan, store))), "Monotonicity").rows[0]
    assert row == ("sf_md", "1 of 9", "11 %", "1 of 9", "+spectrum to thumb", "−33.33")


# ---------------------------------------------------------------------- published


def test_published_stands_beside_and_is_never_ranked(tmp_path: Path) -> None:
    found = findings_of(tmp_path, {"sf_md": 30, "hemis": 33})
    found.results.plan.study.published_table = 1

    def cell(label: str, value: str, combination: str = "average") -> Published:
        return Published(1, "digits", "accuracy", label, combination, Decimal(value))

    wrong = "printed average; its own column has the mean 71.00"
    beside = (
        PublishedComparison(cell("sf_md", "66.10"), 65.0, 3, (61.0, 69.0), (wrong,)),
        PublishedComparison(cell("lcr", "99.00"), None, 0, None, ()),
        PublishedComparison(cell("hemis", "50.00"), 70.0, 3, (66.0, 74.0), ()),
        PublishedComparison(cell("sf_md", "48.25", "thumb"), 50.0, 3, None, (wrong,)),
    )
    paper = dataclasses.replace(
        paper_findings(found), published=beside, reservations=("the paper says nothing",)
    )
    averages, cells = (
        block for block in published(found, paper).blocks if isinstance(block, Table)
    )
    assert averages.rows == (
        ("accuracy", "sf_md", "average", "66.10", "65.00", "−1.10", "yes", wrong),
        ("accuracy", "lcr", "average", "99.00", "–", "–", "–", ""),
        ("accuracy", "hemis", "average", "50.00", "70.00", "+20.00", "no", ""),
    )
    assert cells.rows == (("accuracy", "sf_md", "thumb", "48.25", "50.00", "+1.75", "–", ""),)
    assert "the paper says nothing" in notes(published(found, paper))
    assert [row[0] for row in only_table(ranking(found)).rows] == ["hemis", "sf_md"]


def test_what_published_weights_amount_to_stands_beside_the_published_numbers(
    tmp_path: Path,
) -> None:
    """Three modalities and batches of 64: 0.7 * 3 / 7, and 64 times as much; only rows compared."""
    found = findings_of(tmp_path, {"sf_md": 30, "dmrnet": 33})
    found.results.plan.study.published_table = 1
    said = []
    for label in ("dmrnet", "sf_md"):
        cell = Published(1, "digits", "accuracy", label, "average", Decimal("66.10"))
        beside = (PublishedComparison(cell, 65.0, 3, None, ()),)
        paper = dataclasses.replace(paper_findings(found), published=beside)
        said.append(
            [line for line in notes(published(found, paper)).splitlines() if "beta" in line]
        )
    ((line,), nothing) = said
    assert line.startswith("dmrnet: beta = 0.7 adds 0.3 times") and "19.2 times" in line
    assert nothing == []


def test_published_within_our_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds without noise leave the test samples: scipy's interval of the mean, and values just
    inside and outside of it.
    """
    low, high = stats.ttest_1samp(per_sample(30), 0).confidence_interval(0.95)
    thumb = stats.ttest_1samp(100.0 * (np.arange(N) < 30), 0).confidence_interval(0.95)
    values = {
        ("sf_md", "average"): low + 0.01,
        ("sf_md", "thumb"): thumb.high + 0.01,
        ("hemis", "average"): 1.0,
    }
    lines = [
        f"1,digits,accuracy,{label},{combination},{value:.3f}"
        for (label, combination), value in values.items()
    ]
    (tmp_path / "paper.csv").write_text(
        "\n".join([",".join(published_numbers.COLUMNS), *lines]) + "\n"
    )
    cells = published_numbers.load(tmp_path / "paper.csv")
    real = published_numbers.published
    monkeypatch.setattr(
        "harness.paper.findings.published", lambda table, dataset: real(table, dataset, cells)
    )
    found = analyse(
        read(*written(tmp_path, {"sf_md": 30, "hemis": 33}, SEEDS, "published_table=1"))
    )
    paper = paper_findings(found)
    assert [one.within for one in paper.published] == [True, False, False]
    assert paper.published[0].interval == pytest.approx((low, high), abs=1e-6)
    assert any("does not say over how many runs" in line for line in paper.reservations)


def test_a_paper_without_values_for_these_data(tmp_path: Path) -> None:
    found = analyse(read(*written(tmp_path, {"sf_md": 30}, SEEDS, "published_table=1")))
    said = published(found, paper_findings(found))
    assert said.lead == "Table 1 of the paper has no values for digits." and not said.blocks
    found.results.plan.study.published_table = None
    said = published(found, paper_findings(found))
    assert said.lead == "The paper has no table for this study." and not said.blocks


# ---------------------------------------------------------------------- the whole


def test_contents_stand_in_their_order(tmp_path: Path) -> None:
    titles = [
        section.title
        for section in document_of(findings_of(tmp_path, {"sf_md": 30, "hemis": 33})).sections
    ]
    order = [
        "Answer",
        "Ranking",
        "Presence profile",
        "Result",
        "Differences",
        "Robustness",
        "Representations",
        "Paper beside measured",
    ]
    order += ["The paper's claims, asked here", "Search", "Cost"]
    order += ["Methods: provenance and deviations", "Data", "Protocol"]
    assert titles[: len(order)] == order and titles[-1] == "How to reproduce"
    assert (
        titles.index("Versions and hardware")
        < titles.index("Seeds and trials")
        < titles.index("How to reproduce")
    )


def test_the_console_says_answer_and_ties(near: Findings) -> None:
    text = "\n".join(plain_lines(near, "x"))
    assert "\n".join(answer(near)) in text
    assert "1–2 hemis 65.6 a; 1–2 sf_md 65.0 a; 3 dmrnet 25.0 b" in text
    assert re.search(r"minimum detectable difference from the best: \d+\.\d\d,", text)


def test_only_a_leader_is_bold_on_a_terminal(far: Findings, near: Findings, tmp_path: Path) -> None:
    for found, bold in ((far, True), (near, False)):
        console = Console(
            force_terminal=True,
            width=200,
            record=True,
            color_system="standard",
            file=(tmp_path / "x").open("w"),
        )
        show(found, "x", console)
        line = next(
            line
            for line in console.export_text(styles=True).splitlines()
            if "hemis" in line and "│" in line
        )
        assert ("\x1b[1m" in line) == bold


def test_claims_of_one_seed_say_what_they_cannot_say(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    many, one = findings_of(tmp_path / "many", FAR), findings_of(tmp_path, FAR, (0,))
    said = [
        [
            block.text
            for block in claims(found, paper_findings(found)).blocks
            if isinstance(block, Paragraph)
        ]
        for found in (many, one)
    ]
    assert (
        not said[0]
        and said[1][0]
        == "Every answer here: test-sample noise only: one seed says nothing about other seeds."
    )
