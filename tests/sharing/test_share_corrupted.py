"""Evidence under corruptions travels with archives, and is believed only where it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.robust.catalogue import Condition
from harness.robust.evidence import FOLDER, evidence_id, facts_of, keep
from harness.store import Store
from tests.support.archives import (
    COMMAND,
    Files,
    Refused,
    Source,
    contents,
    forged,
    imported,
    main,
    make_source,
    snapshot,
)

BLUR = Condition("thumb", "picture", "blur", 3, 0.7)


@pytest.fixture
def corrupted(tmp_path: Path) -> tuple[Source, Path]:
    """A store with evidence under a corruption for one of its trials, and an archive of it."""
    source = make_source(tmp_path / "source")
    trial = source.store.trial(source.plan.trials[0].id)
    record = trial.record()
    assert record is not None
    keep(trial, facts_of(record, BLUR, "c" * 16), torch.randn(4, 60, 10), 0.5)
    archive = tmp_path / "corrupted.zip"
    assert main("export", *COMMAND, f"output={source.output}", str(archive)) == 0
    return source, archive


def test_it_arrives_with_the_trial(corrupted: tuple[Source, Path], elsewhere: Store) -> None:
    source, archive = corrupted
    assert imported(archive, elsewhere) == 0
    ours, theirs = (
        {name: body for name, body in snapshot(store).items() if FOLDER in name}
        for store in (source.store, elsewhere)
    )
    assert len(ours) == 1 and ours == theirs


def test_a_trial_that_is_there_is_given_it(
    corrupted: tuple[Source, Path], elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    source, archive = corrupted
    assert imported(source.archive, elsewhere) == 0
    before = snapshot(elsewhere)
    assert not [name for name in before if FOLDER in name]
    capsys.readouterr()
    assert imported(archive, elsewhere) == 0
    assert "there, and given evidence under corruptions: 1" in capsys.readouterr().out
    after = snapshot(elsewhere)
    assert {name: after[name] for name in before} == before
    assert len([name for name in after if FOLDER in name]) == 1
    assert imported(archive, elsewhere) == 0
    assert "given evidence" not in capsys.readouterr().out


def _evidence(files: Files) -> str:
    return next(name for name in files if FOLDER in name)


def test_evidence_of_other_weights_is_refused(
    corrupted: tuple[Source, Path], refused: Refused, tmp_path: Path
) -> None:
    def move(files: Files) -> None:
        name = _evidence(files)
        trials = sorted({n.split("/")[1] for n in files if n.startswith("trials/")})
        owner = name.split("/")[1]
        stranger = next(trial for trial in trials if trial != owner)
        files[name.replace(owner, stranger)] = files.pop(name)

    forgery = forged(corrupted[1], tmp_path / "moved.zip", move)
    assert "which is no evidence of its weights" in refused(forgery)


def test_evidence_under_another_name_is_refused(
    corrupted: tuple[Source, Path], refused: Refused, tmp_path: Path
) -> None:
    def rename(files: Files) -> None:
        name = _evidence(files)
        files[f"{name.rpartition('/')[0]}/{'0' * 16}.npz"] = files.pop(name)

    forgery = forged(corrupted[1], tmp_path / "renamed.zip", rename)
    assert "which is no evidence of its weights" in refused(forgery)


def test_evidence_of_other_samples_is_refused(
    corrupted: tuple[Source, Path], refused: Refused, tmp_path: Path
) -> None:
    source = corrupted[0]
    trial = source.store.trial(source.plan.trials[0].id)
    record = trial.record()
    assert record is not None
    facts = facts_of(record, BLUR, "c" * 16)
    keep(trial, facts, torch.randn(4, 59, 10), 0.5)
    short = (trial / FOLDER / f"{evidence_id(facts)}.npz").read_bytes()

    def shorten(files: Files) -> None:
        files[_evidence(files)] = short

    forgery = forged(corrupted[1], tmp_path / "short.zip", shorten)
    assert "of the shape (4, 59, 10), which no evidence is" in refused(forgery)


def test_archives_without_it_are_as_they_were(corrupted: tuple[Source, Path]) -> None:
    source, archive = corrupted
    with_it, plain = contents(archive), contents(source.archive)
    assert {name for name in with_it if name not in plain} == {_evidence(with_it)}
