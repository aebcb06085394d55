"""Every kind of file that a store has, with one bit flipped and cut in half.

Nothing that is read back changes a result silently: a file is used as it was written, made again,
or said to be damaged, with the way out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import report, share
from harness.analysis.results import read
from harness.analysis.verification import unusable_record, verify
from harness.cli import guarded
from harness.store import Store, TrialDirectory, read_json
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support.faults import TINY, command, cut, flip, stopped_after, trials
from tests.training.test_trial import directory, planned, results

Damage = Callable[[Path], object]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else altogether" * 40)


FLIPS = [lambda path, at=at / 16: flip(path, at) for at in range(17)]
"""From the first byte to the last."""


def test_a_damaged_checkpoint_begins_again_and_changes_nothing(tmp_path: Path) -> None:
    whole = planned(tmp_path / "whole", "sf_md", "train.epochs=2")
    assert run_trial(whole.job).status == "done"
    for number, damage in enumerate([flip, cut, emptied, foreign]):
        trial = planned(tmp_path / str(number), "sf_md", "train.epochs=2")
        stopped_after(trial, 0)
        damage(directory(trial) / "checkpoint.pt")
        begun: list[int] = []
        assert (
            run_trial(trial.job, lambda told, seen=begun: seen.append(told.epoch)).status == "done"
        )
        assert begun == [0, 1], "an epoch of a damaged checkpoint was used"
        assert results(trial) == results(whole)
        log = (directory(trial) / "log.txt").read_text()
        assert "checkpoint.pt is damaged, or none of ours: training begins again" in log


@pytest.mark.parametrize("at", range(17))
def test_each_bit_of_a_checkpoint_counts(tmp_path: Path, at: int) -> None:
    import torch

    from harness.store.checkpoint import CheckpointFile

    said: list[str] = []
    file = CheckpointFile(tmp_path / "id" / "checkpoint.pt", "code", said.append)
    file.save({"model": {"w": torch.arange(1000.0)}, "epoch": 3})
    assert (file.load() or {})["epoch"] == 3 and not said
    FLIPS[at](file.path)
    assert file.load() is None and len(said) == 1


def test_a_checkpoint_of_another_trial_is_not_used(tmp_path: Path) -> None:
    mine = planned(tmp_path, "sf_md", "train.epochs=2")
    other = planned(tmp_path, "sf_md", "train.epochs=2", "seeds=[1]")
    whole = planned(tmp_path / "whole", "sf_md", "train.epochs=2")
    assert run_trial(whole.job).status == "done"
    for trial in (mine, other):
        stopped_after(trial, 0)
    (directory(other) / "checkpoint.pt").replace(directory(mine) / "checkpoint.pt")
    begun: list[int] = []
    assert run_trial(mine.job, lambda told: begun.append(told.epoch)).status == "done"
    assert begun == [0, 1] and results(mine) == results(whole)


# ---------------------------------------------------------------------- a finished trial


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a study of two finished trials, sf_md and mmanet with its teacher."""
    output = tmp_path_factory.mktemp("finished") / "runs"
    assert command(output, "methods=[sf_md]") == 0
    return output


def wrong_types(path: Path) -> None:
    """Values of other kinds than a record has, and no checksum that would show it."""
    record = json.loads(path.read_text()) | {"cells": {"val": 3}, "remarks": 5, "epochs": "x"}
    record.pop("sha256")
    path.write_text(json.dumps(record))


def no_object(path: Path) -> None:
    path.write_text("[1, 2]")


def higher_number(path: Path) -> None:
    """A number that no evidence contradicts: the last epoch's scores are not kept."""
    record = json.loads(path.read_text())
    record["cells"]["test_last_epoch"]["thumb"]["value"] = 99.0
    path.write_text(json.dumps(record))


AGAIN = "the next run repeats it"
REMOVE = "and run the study again"
DAMAGES: list[tuple[str, Damage, str]] = [
    ("record.json", flip, AGAIN),
    ("record.json", cut, AGAIN),
    ("record.json", wrong_types, "has no usable remarks, epochs, cells"),
    ("record.json", no_object, "record.json cannot be read"),
    ("record.json", higher_number, "is not what was written (its sha256 is another)"),
    ("scores.npz", flip, "scores.npz changed after the record was written (sha256); remove"),
    ("scores.npz", cut, "scores.npz missing, or not of the recorded size"),
    ("weights.pt", flip, "weights.pt changed after the record was written (sha256); remove"),
    ("weights.pt", cut, "weights.pt missing, or not of the recorded size"),
    ("metrics.jsonl", flip, "to have the curve again, remove"),
    ("metrics.jsonl", cut, "to have the curve again, remove"),
    ("metrics.jsonl", no_object, "to have the curve again, remove"),
    ("spec.json", flip, "the next run writes spec.json again"),
    ("spec.json", cut, "the next run writes spec.json again"),
    ("spec.json", no_object, "the next run writes spec.json again"),
]


EACH = pytest.mark.parametrize(
    ("file", "damage", "said"),
    DAMAGES,
    ids=[f"{file}-{damage.__name__}" for file, damage, _ in DAMAGES],
)


@EACH
def test_a_damaged_file_of_a_finished_trial_is_said(
    finished: Path, file: str, damage: Damage, said: str
) -> None:
    plan = Plan(load_study([*TINY, f"output={finished}", "methods=[sf_md]"]))
    store = Store.below(finished)
    path = store.trial(plan.trials[0].id) / file
    whole = path.read_bytes()
    assert verify(plan, store) == []
    try:
        damage(path)
        (sentence,) = verify(plan, store)
        holes = [hole.reason for hole in read(plan, store).holes]
        assert said in " ".join([sentence, *holes])
    finally:
        path.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.long
@EACH
def test_a_damaged_file_of_a_finished_trial_has_a_way_out(
    finished: Path, file: str, damage: Damage, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = trials(finished, "methods=[sf_md]")["sf_md"]
    before = {path.name: path.read_bytes() for path in trial.path.iterdir()}
    table = (finished / "quickstart" / "report.csv").read_bytes()
    try:
        damage(trial / file)
        code = guarded(report.main, [*TINY, f"output={finished}", "methods=[sf_md]"])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err and code in (1, 2)
        # Without any finished trial there is no report to write, and the run says why.
        assert code == 2 or said in printed.err
        way = command(finished, "methods=[sf_md]")
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        if f"remove store/{trial.path.name}" in printed.err:
            assert way == 1
            Store.below(finished).set_aside(trial.path.name)
            assert command(finished, "methods=[sf_md]") == 0
        else:
            assert way == 0
        capsys.readouterr()
        assert command(finished, "methods=[sf_md]") == 0
        assert capsys.readouterr().err == ""
        assert (finished / "quickstart" / "report.csv").read_bytes() == table
    finally:
        for name, content in before.items():
            trial.path.mkdir(exist_ok=True)
            (trial / name).write_bytes(content)


@pytest.mark.parametrize("damage", [flip, cut, no_object, wrong_types], ids=lambda d: d.__name__)
def test_an_unusable_record_is_named_with_its_reason(
    finished: Path, damage: Damage, tmp_path: Path
) -> None:
    source = trials(finished, "methods=[sf_md]")["sf_md"]
    trial = TrialDirectory(tmp_path / source.path.name)
    trial.path.mkdir()
    for path in source.path.iterdir():
        (trial / path.name).write_bytes(path.read_bytes())
    assert trial.record() is not None and unusable_record(trial) is None
    damage(trial / "record.json")
    assert trial.record() is None
    assert str(unusable_record(trial)).startswith("record.json ")


def test_a_record_without_checksums_is_still_read(finished: Path) -> None:
    """As stores have them that were written before."""
    trial = trials(finished, "methods=[sf_md]")["sf_md"]
    text = (trial / "record.json").read_text()
    try:
        record = json.loads(text)
        old = {key: value for key, value in record.items() if key not in ("sha256", "curve_sha256")}
        (trial / "record.json").write_text(json.dumps(old))
        assert len(record) == len(old) + 2
        assert trial.record() == old and trial.damaged_notes(old) == []
        assert guarded(report.main, [*TINY, f"output={finished}", "methods=[sf_md]"]) == 0
    finally:
        (trial / "record.json").write_text(text)


@pytest.mark.slow
@pytest.mark.long
def test_weights_that_another_trial_needs_are_checked_before_they_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher with a flipped bit would teach something else, and nobody would know."""
    output = tmp_path / "runs"
    assert command(output, "methods=[mmanet]") == 0
    student = trials(output, "methods=[mmanet]")["mmanet"]
    (teacher,) = (read_json(student / "spec.json") or {})["needs"].values()
    store = Store.below(output)
    store.set_aside(student.path.name)
    flip(store.trial(teacher) / "weights.pt")
    assert command(output, "methods=[mmanet]") == 1
    failure = student.failure()
    assert failure is not None
    assert failure["reason"] == (
        f"weights.pt of trial {teacher} is not what was recorded (sha256); remove store/{teacher}"
        " and run it again"
    )
    store.set_aside(teacher)
    capsys.readouterr()
    assert command(output, "methods=[mmanet]", "rerun=failed") == 0
    assert student.record() is not None


# ---------------------------------------------------------------------- a search, an archive


SEARCH = ("methods=[sf_md,dmrnet]", "search.space.dmrnet.alpha=[1e-4,1e-3]", "search.seeds=[100]")


def line_cut(path: Path) -> None:
    """A line in the middle loses its second half."""
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    lines[middle] = lines[middle][: len(lines[middle]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))


def line_gone(path: Path) -> None:
    """The line that began the second point is gone."""
    lines = path.read_bytes().splitlines(keepends=True)
    (at, *_) = [n for n, line in enumerate(lines) if b'"op_code":4' in line]
    path.write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))


def other_value(path: Path) -> None:
    """One digit of a value that was told."""
    text = path.read_text()
    at = text.index('"values":[') + len('"values":[')
    digit = "1" if text[at] != "1" else "2"
    path.write_text(text[:at] + digit + text[at + 1 :])


def end_cut(path: Path) -> None:
    """The last line, which a killed process left unfinished."""
    path.write_bytes(path.read_bytes()[:-5])


JOURNALS: list[tuple[Damage, int, str]] = [
    (line_cut, 2, "search.journal is damaged in line "),
    (line_gone, 2, "search.journal contradicts itself in point "),
    (other_value, 2, "search.journal contradicts itself in point "),
    (end_cut, 0, ""),
    (emptied, 0, ""),
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("searched") / "runs"
    assert command(output, *SEARCH, "train.epochs=1") == 0
    return output


@pytest.mark.parametrize(
    ("damage", "code", "said"), JOURNALS, ids=[damage.__name__ for damage, *_ in JOURNALS]
)
def test_a_damaged_journal_is_one_sentence_and_the_store_gives_its_values_back(
    searched: Path, damage: Damage, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = searched / "quickstart" / "search.journal"
    whole, table = journal.read_bytes(), (searched / "quickstart" / "report.csv").read_bytes()
    arguments = (*SEARCH, "train.epochs=1")
    try:
        damage(journal)
        assert command(searched, *arguments) == code
        error = capsys.readouterr().err
        if code:
            assert error.startswith("error: ") and error.count("\n") == 1 and said in error
            assert "move it away and run the study again" in error
            journal.rename(journal.with_suffix(".damaged"))
            assert command(searched, *arguments) == 0
        # Nothing was trained twice: the search took its values from the store.
        assert "start " not in capsys.readouterr().out
        assert (searched / "quickstart" / "report.csv").read_bytes() == table
    finally:
        journal.write_bytes(whole)


def test_a_damaged_archive_lets_nothing_in(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "shared.zip"
    settings = [*TINY, f"output={finished}", "methods=[sf_md]"]
    assert guarded(share.main, ["export", *settings, str(archive)]) == 0
    whole, output = archive.read_bytes(), tmp_path / "elsewhere"
    for damage in [*FLIPS[1::3], cut]:
        archive.write_bytes(whole)
        damage(archive)
        capsys.readouterr()
        code = guarded(share.main, ["import", str(archive), f"output={output}"])
        error = capsys.readouterr().err
        # Some bits of a zip mean nothing (times, flags): then all that it holds was checked.
        if code == 2:
            assert error.count("\n") == 1 and "nothing was imported" in error
            assert not list(output.glob("store/*/record.json"))
        else:
            assert code == 0 and not error
            Store.below(output).set_aside(next(output.glob("store/*/record.json")).parent.name)
