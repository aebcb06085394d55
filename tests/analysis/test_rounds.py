"""Rounds of seeds: who gets further ones, when they end, and that the store alone decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.analysis.findings import analyse
from harness.analysis.results import read
from harness.analysis.rounds.looks import Asked, with_rounds
from harness.analysis.rounds.questions import over_samples, seeds_help, times_as_large
from harness.analysis.statistics import Estimate, difference_of
from harness.reporting.answer import answer
from harness.reporting.document import Table
from harness.reporting.sections.rounds import look_lines, plan_lines, rounds
from harness.store import Store
from harness.study.config import load_study
from harness.study.merged_plan import MergedPlan
from harness.study.plan import Plan
from harness.study.seed_rounds import (
    ABOVE,
    BUDGET,
    CANNOT,
    CLOSED,
    OPEN,
    WITHIN,
    Rounds,
    SeedRounds,
)
from harness.tracking.mlflow.addresses import Addresses
from harness.tracking.mlflow.notes import study_note
from tests.support.archives import imported, main
from tests.support.handmade import planned, write_trial

ROUNDS = "seeds={first: 3, most: 8, difference: 10.0}"
JITTER = (0, 1, -1, 1, 0, -1, 1, -1)
"""Correct predictions more or less with each seed; another row has them in another order."""


def filled(
    plan: Plan,
    store: Store,
    correct: dict[str, int],
    groups: Sequence[int] | None = None,
    jitter: int = 3,
) -> None:
    """Write the trials of a plan: so many correct predictions of each row in all combinations."""
    for at, (label, count) in enumerate(correct.items()):
        mine = [trial.seed for trial in plan.trials if trial.row.label == label]
        for seed in mine:
            right = count + jitter * JITTER[(seed + 3 * at) % len(JITTER)]
            write_trial(plan, store, label, seed, [right] * 7, groups=groups)


def after(
    output: Path,
    correct: dict[str, int],
    *arguments: str,
    groups: Sequence[int] | None = None,
    jitter: int = 3,
) -> Plan:
    """The plan when all rounds are filled with these values."""
    plan, store = planned(output, *(arguments or (ROUNDS,)))
    while plan.rounds is not None and not plan.rounds.ending:
        filled(plan, store, correct, groups, jitter)
        plan = with_rounds(plan, store)
    return plan


def test_trials_are_those_of_plain_seeds(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, ROUNDS)
    plain, _ = planned(tmp_path, "seeds=[0,1,2]")
    assert [trial.id for trial in plan.trials] == [trial.id for trial in plain.trials]
    assert (plan.size, plan.most_trials, plan.study.seeds) == (9, 24, [0, 1, 2])
    assert with_rounds(plain, store) is plain
    assert "9 trials at least, 24 at most" in plan_lines(plan)[0] and not plan_lines(plain)


def test_rows_in_question_get_further_seeds_and_others_do_not(tmp_path: Path) -> None:
    """dmrnet is 30 of 60 samples behind, and sf_md three, which is about what seeds do."""
    plan, store = planned(tmp_path, ROUNDS)
    correct = {"sf_md": 51, "hemis": 54, "dmrnet": 24}
    assert with_rounds(plan, store).rounds == plan.rounds  # nothing is there yet
    filled(plan, store, correct)
    second = with_rounds(plan, store)
    assert second.rounds is not None and not second.rounds.ending
    (look,) = second.rounds.looks
    assert (look.best, look.trials, look.seeds) == ("hemis", 9, 3)
    assert look.level == pytest.approx(0.05 / 2 * 9 / 64)
    assert look.labels(ABOVE) == ["dmrnet"]
    assert look.labels(OPEN) == ["sf_md"]
    assert dict(second.rounds.seeds) == {"sf_md": 5, "hemis": 5, "dmrnet": 3}
    assert second.size == 13 and second.share == pytest.approx((25 - 9) / 64)
    # In the order of seeds, those of the first round first.
    new = [(trial.row.label, trial.seed) for trial in second.trials[9:]]
    assert new == [("sf_md", 3), ("hemis", 3), ("sf_md", 4), ("hemis", 4)]
    assert look_lines(second, since=plan)[-1] == (
        "round 2 of at most 3: up to 5 seeds for sf_md and hemis"
    )
    # A look waits for the whole round.
    write_trial(second, store, "hemis", 3, [54] * 7)
    assert with_rounds(plan, store).rounds == second.rounds


def test_looks_follow_from_the_store_in_order(tmp_path: Path) -> None:
    """Who asks later, or finds more in the store than was asked for, sees the same looks."""
    correct = {"sf_md": 51, "hemis": 54, "dmrnet": 24}
    last = after(tmp_path, correct)
    assert last.rounds is not None and last.rounds.ending
    plain, store = planned(tmp_path, "seeds=[0,1,2,3,4,5,6,7]")
    filled(plain, store, correct)
    fresh, _ = planned(tmp_path, ROUNDS)
    assert with_rounds(fresh, store).rounds == last.rounds
    assert with_rounds(last, store).rounds == last.rounds
    assert [look.seeds for look in last.rounds.looks] == [3, 5, 8][: len(last.rounds.looks)]
    # A failed trial of a round keeps the look from being taken.
    trial = next(t for t in last.trials if (t.row.label, t.seed) == ("hemis", 3))
    store.set_aside(trial.id)
    waiting = with_rounds(fresh, store)
    assert waiting.rounds is not None and len(waiting.rounds.looks) == 1
    assert not waiting.rounds.ending


def test_equal_rows_are_closed_where_the_difference_is_excluded(tmp_path: Path) -> None:
    found = after(tmp_path, {"sf_md": 54, "hemis": 54, "dmrnet": 54}, jitter=1)
    assert found.rounds is not None and found.rounds.ending == CLOSED
    assert found.rounds.looks[-1].labels(WITHIN) and not found.rounds.looks[-1].labels(OPEN)
    assert found.size < 24


def test_the_budget_ends_the_rounds(tmp_path: Path) -> None:
    """15 trials: after 9, the two rows in question can have 3 more seeds of the 2 asked for."""
    correct = {"sf_md": 51, "hemis": 54, "dmrnet": 24}
    found = after(tmp_path, correct, f"{ROUNDS[:-1]}, budget: 12}}")
    assert found.rounds is not None
    assert (found.rounds.ending, found.size) == (BUDGET, 11)
    assert dict(found.rounds.seeds) == {"sf_md": 4, "hemis": 4, "dmrnet": 3}
    assert found.share == pytest.approx((16 - 9) / 64)
    assert found.most_trials == 12


def test_what_a_test_set_cannot_decide_gets_no_seeds(tmp_path: Path) -> None:
    """The rows differ by 10 points, which is the difference asked for, and seeds by nothing."""
    plan, store = planned(tmp_path, ROUNDS)
    filled(plan, store, {"sf_md": 50, "hemis": 55, "dmrnet": 20}, jitter=0)
    found = with_rounds(plan, store)
    assert found.rounds is not None
    (look,) = found.rounds.looks
    short = {one.label: one.short for one in look.questions}
    assert found.rounds.ending == CANNOT and look.labels(CANNOT) == ["sf_md"]
    assert short["dmrnet"] is None
    said = " ".join(answer(analyse(read(found, store))))
    assert "cannot be decided on this test set, with any number of seeds" in said


def test_a_test_set_is_short_of_groups_where_it_has_some(tmp_path: Path) -> None:
    """Ten people of six samples each: the rows differ on one of them."""
    plan, store = planned(tmp_path, ROUNDS)
    people = [sample // 6 for sample in range(60)]
    filled(plan, store, {"sf_md": 50, "hemis": 54, "dmrnet": 0}, people, jitter=0)
    found = with_rounds(plan, store)
    assert found.rounds is not None and found.rounds.ending == CANNOT
    (asked,) = (one for one in found.rounds.looks[0].questions if one.label == "sf_md")
    # One person is 66.7 apart and nine are not: a lead of 6.67, and 4000 / 9 from person to person.
    level = found.rounds.looks[0].level * 39 / 9  # that of the last look
    assert asked.state == CANNOT and asked.short is not None
    people_needed = 10 + asked.short
    half = stats.t.isf(level / 2, people_needed - 1) * np.sqrt(4000 / 9 / people_needed)
    assert half == pytest.approx(10 - 20 / 3, rel=0.01)
    said = " ".join(answer(analyse(read(found, store))))
    assert f"it has 10 people, and about {asked.short} more would do" in said


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("best_is_first", [True, False])
def test_the_lead_of_the_best_row_is_positive(higher_is_better: bool, best_is_first: bool) -> None:
    """Whichever row stands first, and whichever direction is better."""
    pair = ("best", "other") if best_is_first else ("other", "best")
    lead = 3.0 if best_is_first == higher_is_better else -3.0
    found = difference_of(*pair, "average", Estimate(lead, 0.01, 0.01, 5, 99), higher_is_better)
    now = Rounds.begun(SeedRounds(3, 8, 1.0), ["best", "other"])
    question = Asked(now, "best", 0.01, 0.01, 99).of(found)
    assert question.label == "other" and question.value == 3.0
    assert (question.state, question.beaten) == (ABOVE, True)
    assert 1 < question.low < 3 < question.high < 5


def test_by_how_much_the_test_set_is_short() -> None:
    """Without noise of seeds the interval shrinks with the root of the samples."""
    found = Estimate(3.0, 0.0, 1.0, 3, 1001)
    half = over_samples(found, 0.01)
    assert half == pytest.approx(stats.t.isf(0.005, 1000))
    factor = times_as_large(found, 3.0, 1.0, 20, 0.01)
    assert factor == pytest.approx((half / 2) ** 2, rel=0.01)
    assert times_as_large(found, 1.0, 1.0, 20, 0.01) is None
    noisy = replace(found, from_seeds=1.0)
    more = times_as_large(noisy, 3.0, 1.0, 20, 0.01)
    assert more is not None and factor is not None and more > factor
    assert times_as_large(replace(found, from_seeds=40.0), 3.0, 1.0, 20, 0.01) is None
    few = Estimate(3.0, 0.1, 1.0, 3, 100, freedom=1.0)
    assert over_samples(few, 0.01) == np.inf and times_as_large(few, 3.0, 1.0, 20, 0.01) is None


@pytest.mark.parametrize(
    ("lead", "of_seeds", "of_samples", "beaten", "helps"),
    [
        (2.0, 0.0, 0.9, True, True),  # 1.1 at least
        (2.0, 0.0, 1.1, True, False),  # 0.9 to 3.1, whatever the seeds say
        (2.0, 0.3, 1.1, True, True),  # it may be 2.3
        (0.0, 0.0, 0.9, False, True),  # within 1
        (0.0, 0.0, 1.1, False, False),
        (0.5, 0.0, 0.6, True, False),
        (1.0, 0.0, 0.5, True, False),  # the very difference; worse is shown
        (1.0, 0.0, 0.5, False, True),  # worse can be shown
        (-0.5, 0.0, 0.6, False, False),
        (-0.5, 0.2, 0.6, False, True),
    ],
)
def test_whether_more_seeds_can_help(
    lead: float, of_seeds: float, of_samples: float, beaten: bool, helps: bool
) -> None:
    assert bool(seeds_help(lead, of_seeds, of_samples, beaten, 1.0)) is helps


@pytest.mark.parametrize(("first", "most"), [(3, 4), (3, 8), (3, 20), (5, 7), (3, 1000)])
def test_all_looks_together_have_the_level_once(first: int, most: int) -> None:
    settings = SeedRounds(first, most, 1.0)
    targets = settings.targets
    assert targets[0] == first and targets[-1] == most and list(targets) == sorted(set(targets))
    shares = [settings.share(first), *settings.shares_after(first)]
    assert len(shares) == len(targets) and sum(shares) == pytest.approx(1.0)
    # A round that a budget cuts takes its part from the rest.
    cut = [settings.share(first), settings.share(first + 1, first)]
    assert sum([*cut, *settings.shares_after(first + 1)]) == pytest.approx(1.0)


def test_decisions_of_the_report_are_at_the_level_of_the_look(tmp_path: Path) -> None:
    """The same trials as plain seeds have p values that are smaller by the look's share."""
    correct = {"sf_md": 50, "hemis": 54, "dmrnet": 24}
    plan, store = planned(tmp_path, ROUNDS)
    filled(plan, store, correct)
    of_rounds = analyse(read(plan, store))
    plain, _ = planned(tmp_path, "seeds=[0,1,2]")
    own = analyse(read(plain, store))
    for one, other in zip(of_rounds.differences, own.differences, strict=True):
        assert one.p == other.p and (one.low, one.high) == (other.low, other.high)
        assert one.p_adjusted == pytest.approx(min(1, other.p_adjusted * 64 / 9))
    ranked, alone = of_rounds.rankings["average"], own.rankings["average"]
    assert ranked.detectable > alone.detectable


def test_the_report_says_what_was_looked_at_when(tmp_path: Path) -> None:
    last = after(tmp_path, {"sf_md": 51, "hemis": 54, "dmrnet": 24})
    store = Store.below(last.study.output)
    findings = analyse(read(last, store))
    said = rounds(findings)
    assert said is not None and last.rounds is not None
    tables = [block for block in said.blocks if isinstance(block, Table)]
    assert [row[0] for row in tables[0].rows] == ["1", "2", "3"][: len(last.rounds.looks)]
    assert tables[0].rows[0][1:4] == ("3", "9", "hemis")
    assert tables[0].rows[0][6] == "0.352 %"
    assert {row[0]: row[3] for row in tables[1].rows}["dmrnet"] == "3"
    told = "dmrnet is worse than hemis by at least 10 points"
    assert told in " ".join(answer(findings)) and told in study_note(findings, (), Addresses("7"))


def test_a_list_of_seeds_has_no_rounds(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0,1,2]")
    filled(plan, store, {"sf_md": 50, "hemis": 54, "dmrnet": 24})
    findings = analyse(read(plan, store))
    assert rounds(findings) is None and not any("rounds" in one for one in answer(findings))
    assert all(one.share == 1.0 for one in findings.differences)


def test_a_search_s_seeds_are_not_those_of_later_rounds() -> None:
    with pytest.raises(Exception, match="share 7; a winner is measured on seeds"):
        load_study(["study=digits_alpha_beta", ROUNDS, "search.seeds=[7]"])


# ---------------------------------------------------------------------- several studies, archives


def test_rounds_are_merged_with_other_studies_at_their_level(tmp_path: Path) -> None:
    last = after(tmp_path, {"sf_md": 51, "hemis": 54, "dmrnet": 24})
    other, store = planned(tmp_path, "seeds=[0,1,2]", "methods=[sf_md,lcr]")
    filled(other, store, {"lcr": 40})
    other.study.name = "plain"
    merged = MergedPlan([last, other])
    assert merged.share == last.share < 1
    findings = analyse(read(merged, store))
    ranked = findings.rankings["average"]
    assert {place.label for place in ranked.places} == {"sf_md", "hemis", "dmrnet", "lcr"}
    assert all(one.share == last.share for one in findings.differences)
    said = rounds(findings)
    assert said is not None
    captions = [block.caption for block in said.blocks if isinstance(block, Table)]
    assert captions[0] == "The looks of quickstart at the results"


def test_an_archive_has_the_rounds_and_their_trials(tmp_path: Path) -> None:
    last = after(tmp_path / "here", {"sf_md": 51, "hemis": 54, "dmrnet": 24})
    store, archive = Store.below(last.study.output), tmp_path / "rounds.zip"
    command = ["study=quickstart", "dataset.limit=60", ROUNDS, f"output={tmp_path / 'here'}"]
    assert main("export", *command, str(archive)) == 0
    elsewhere = Store.below(tmp_path / "there")
    assert imported(archive, elsewhere) == 0
    (file,) = (tmp_path / "there" / "imported").glob("*.yaml")
    study = load_study([f"study={file}", f"output={tmp_path / 'there'}"])
    assert study.seed_rounds == last.study.seed_rounds
    arrived = with_rounds(Plan(study), elsewhere)
    assert arrived.rounds == last.rounds
    assert [trial.id for trial in arrived.trials] == [trial.id for trial in last.trials]
    assert len(store.ids()) == len(elsewhere.ids()) == last.size
