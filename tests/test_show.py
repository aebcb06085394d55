"""The lists and cards of harness.show."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import show
from harness.cli import guarded
from harness.registry import METHODS
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial

HEADINGS = (
    "what it computes",
    "paper",
    "provenance",
    "variants",
    "deviations",
    "hyperparameters",
    "tasks",
    "once per sample",
    "needs",
)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert guarded(show.main, list(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", METHODS.names())
def test_every_card_has_every_heading(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, f"method={name}").splitlines()
    assert all(f"{heading}:" in lines for heading in HEADINGS)
    assert METHODS.get(name).citation in "\n".join(lines)


def test_a_method_without_hyperparameters_says_none(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "method=sf_md").splitlines()
    assert lines[lines.index("hyperparameters:") + 1] == "  none"


def test_parameters_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    # Encoders: 9*16 + 32 + 9*16*16 + 32 each; trunk 9*48*32 + 64; head 32*10 + 10.
    total = 3 * (9 * 16 + 32 + 9 * 16 * 16 + 32) + 9 * 48 * 32 + 64 + 330
    assert f"training {total:,}; inference {total:,}" in shown(capsys, "method=sf_md")


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split()[0] for line in shown(capsys, "methods").splitlines()] == METHODS.names()
    assert "digits" in shown(capsys, "datasets") and "quickstart" in shown(capsys, "studies")


def test_a_study_is_shown_without_its_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise AssertionError("the data were opened")

    monkeypatch.setattr("datasets.digits.load_digits", absent)
    text = shown(capsys, "study=quickstart", "seeds=[0,1]")
    assert "3 rows x 2 seeds = 6" in text and "thumb+spectrum+profile" in text


def test_a_trial_by_the_first_characters_of_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "methods=[dmrnet]",
        "seeds=[0]",
        "dataset.limit=60",
        "train.epochs=2",
        f"output={tmp_path}",
    ]
    trial = Plan(load_study(settings)).trials[0]
    run_trial(trial.job)
    text = shown(capsys, f"trial={trial.id[:6]}", f"output={tmp_path}")
    assert (
        trial.id in text and "  done" in text and "profile: accuracy" in text and "(n = 60)" in text
    )


def test_a_dataset_shows_its_settings_with_or_without_its_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "  size: default 112; " in shown(capsys, "dataset=casia_surf")
    text = shown(capsys, "dataset=manifest")
    assert "  void: default 255; " in text and "needs dataset.manifest=PATH" in text


@pytest.mark.parametrize(
    "word", ["trial=zzz", "meths", "method=dmr", "study=quick_start", "dataset=digit"]
)
def test_mistakes(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(show.main, [word]) == 2
    assert capsys.readouterr().err.count("\n") == 1
