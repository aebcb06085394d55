"""``report.presence``: what a profile means and may not be; no trial depends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.protocol.combinations import lattice
from harness.protocol.presence import Presence
from harness.study.config import load_study
from harness.study.merged_plan import grouped
from harness.study.plan import Plan
from harness.study.presence import presence

NAMES = ("thumb", "spectrum", "profile")


def test_independent_modalities_by_counting() -> None:
    """How often each combination comes up where the sensors fail by themselves."""
    chances = {"thumb": 0.9, "spectrum": 0.6, "profile": 0.25}
    found = presence(chances, NAMES)
    assert found is not None
    there = np.random.default_rng(0).random((200_000, 3)) < list(chances.values())
    counted = [float((there == one.mask).all(1).mean()) for one in lattice(NAMES)]
    assert found.probabilities == pytest.approx(counted, abs=0.005)
    assert found.nothing == pytest.approx(float((~there).all(1).mean()), abs=0.005)
    assert sum(found.probabilities) + found.nothing == pytest.approx(1)
    assert found.chances == pytest.approx(chances)


def test_what_is_not_named_is_always_present() -> None:
    found = presence({"spectrum": 0.8}, NAMES)
    assert found is not None and found.nothing == 0
    assert found.chances == pytest.approx({"thumb": 1, "spectrum": 0.8, "profile": 1})


def test_failures_that_come_together() -> None:
    found = presence(
        [
            {"combination": "thumb+spectrum+profile", "probability": 0.9},
            {"combination": "profile+thumb", "probability": 0.06},
            {"combination": "none", "probability": 0.04},
        ],
        NAMES,
    )
    assert found == Presence(NAMES, (0, 0, 0, 0, 0.06, 0, 0.9), 0.04, False)
    assert found.chances == pytest.approx({"thumb": 0.96, "spectrum": 0.9, "profile": 0.96})


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("report.presence.thumb=1.2", r"report\.presence\.thumb=1\.2 is no probability"),
        ("report.presence.thumb=-0.1", "is no probability"),
        ("report.presence.thumb=often", "thumb=often is no probability"),
        ("report.presence.thumb=true", "thumb=True is no probability"),
        ("report.presence.thumb=.nan", "thumb=nan is no probability"),
        ("report.presence.thumbs=0.5", "unknown modality 'thumbs'; did you mean 'thumb'"),
        ("report.presence=0.5", "must be a probability for each modality"),
        ("report.presence={thumb: 0, spectrum: 0, profile: 0}", "nothing is ever present"),
        (
            "report.presence=[{combination: none, probability: 1}]",
            "nothing is ever present",
        ),
        (
            "report.presence=[{combination: thumb, probability: 0.5}]",
            "the probabilities make 0.5, and they must make 1",
        ),
        (
            "report.presence=[{combination: thumb+nose, probability: 1}]",
            "unknown modality 'nose'",
        ),
        ("report.presence=[{thumb: 1}]", "must be of the form"),
        (
            "report.presence=[{combination: thumb, probability: 0.5},"
            " {combination: thumb, probability: 0.5}]",
            "gives thumb twice",
        ),
        ("report.presense.thumb=0.5", "did you mean 'report.presence"),
    ],
)
def test_what_a_profile_may_not_be(argument: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Plan(load_study(["study=quickstart", argument]))


def test_no_trial_depends_on_it(tmp_path: Path) -> None:
    given = ["study=quickstart", "dataset.limit=60", f"output={tmp_path}"]
    plain = Plan(load_study(given))
    profiled = Plan(load_study([*given, "report.presence.thumb=0.5"]))
    assert profiled.presence is not None
    assert [trial.id for trial in plain.trials] == [trial.id for trial in profiled.trials]


def test_the_command_line_changes_the_file_s_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: quickstart\nreport: {presence: {thumb: 0.9, profile: 0.5}}\n")
    found = Plan(load_study([f"study={path}", "report.presence.thumb=0.7"])).presence
    assert found is not None
    assert found.chances == pytest.approx({"thumb": 0.7, "spectrum": 1, "profile": 0.5})


def test_studies_that_are_ranked_together_have_one_profile(tmp_path: Path) -> None:
    given = ["study=quickstart", "dataset.limit=60", f"output={tmp_path}"]
    plans = [
        Plan(load_study([*given, f"methods=[{method}]", *more]))
        for method, more in (("sf_md", []), ("hemis", ["report.presence.thumb=0.5"]))
    ]
    with pytest.raises(UserError, match=r"have different report\.presence"):
        _ = [group.plan for group in grouped(plans)]
