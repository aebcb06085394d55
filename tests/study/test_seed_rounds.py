"""Settings of rounds of seeds: where they may be given, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import show
from harness.errors import UserError
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.study.seed_rounds import SeedRounds

ROUNDS = "seeds={first: 3, most: 8, difference: 1.0}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("seeds={first: 3}", "seeds lacks most and difference; give all, such as seeds={first: 3"),
        ("seeds={}", "seeds lacks first and most and difference"),
        ("seeds.most=5", "seeds lacks first and difference"),
        (f"{ROUNDS[:-1]}, budgte: 9}}", "unknown key in seeds 'budgte'; did you mean 'budget'"),
        ("seeds={first: 3, most: 3, difference: 1}", "seeds.most=3 must be above seeds.first=3"),
        ("seeds={first: 3, most: 2000, difference: 1}", "at most 1000"),
        ("seeds={first: 2, most: 8, difference: 1}", "seeds.first=2: with fewer than 3 seeds"),
        ("seeds={first: 3.5, most: 8, difference: 1}", "seeds.first=3.5 must be a whole number"),
        ("seeds={first: true, most: 8, difference: 1}", "seeds.first=True must be a whole number"),
        ("seeds={first: 3, most: x, difference: 1}", "seeds.most=x must be a whole number"),
        ("seeds={first: 3, most: 8, difference: 0}", "seeds.difference=0 must be a number above 0"),
        ("seeds={first: 3, most: 8, difference: -1}", "seeds.difference=-1 must be a number"),
        ("seeds={first: 3, most: 8, difference: .inf}", "seeds.difference=inf must be a number"),
        ("seeds={first: 3, most: 8, difference: yes}", "seeds.difference="),
        (f"{ROUNDS[:-1]}, budget: 0}}", "seeds.budget=0 must be a whole number, at least 1"),
        (f"{ROUNDS[:-1]}, budget: 8}}", "seeds.budget=8 is less than the 9 trials of 3 seeds each"),
        ("seed_rounds=3", "unknown key 'seed_rounds'"),
        ("seeds=3", "seeds=3 must be a list"),
    ],
)
def test_wrong_rounds_are_one_sentence(given: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Plan(load_study([given]))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_rounds_of_a_file_are_changed_key_by_key_and_a_list_takes_their_place(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: quickstart\nseeds: {first: 3, most: 20, difference: 1.0}\n"
        "presets: {smoke: {seeds: [0]}}\n"
    )
    study = f"study={file}"
    assert load_study([study]).seed_rounds == SeedRounds(3, 20, 1.0)
    changed = load_study([study, "seeds.most=8", "seeds.budget=30"])
    assert changed.seed_rounds == SeedRounds(3, 8, 1.0, 30) and changed.seeds == [0, 1, 2]
    for given in ("seeds=[4,5]", "preset=smoke"):
        plain = load_study([study, given])
        assert plain.seed_rounds is None and plain.seeds in ([4, 5], [0])
    assert Plan(load_study([study, "seeds=[4,5]"])).rounds is None


def test_a_card_has_the_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["study=quickstart", ROUNDS]) == 0
    out = capsys.readouterr().out
    assert "9 trials at least, 24 at most" in out
    assert "seeds = {'first': 3, 'most': 8, 'difference': 1.0}" in out


def test_reference_rows_stay_at_their_first_seeds() -> None:
    """One model per combination is never compared: 7 trials a seed, in the first round only."""
    plan = Plan(load_study([ROUNDS, "methods=[sf_md,hemis,dedicated]"]))
    assert (plan.size, plan.most_trials) == (3 * (2 + 7), 2 * 8 + 3 * 7)
