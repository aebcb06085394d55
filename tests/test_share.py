"""Trials from one store to another: what arrives, what is refused, and that nothing arrives half."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from harness import PROJECT, share
from harness.cli import guarded
from harness.config import load_study
from harness.errors import UserError
from harness.exporting import export
from harness.importing import take_in
from harness.plan import Plan
from harness.report import write_report
from harness.results import verify
from harness.store import Store, file_sha256, only_holder, read_json, write_atomically, write_json
from harness.trial import run_trial
from tests.archives import contents, snapshot
from tests.conftest import MakeStudy
from tests.handmade import ENVIRONMENT, ladder, planned, scores, trial_of, write_trial

ARGUMENTS = ("methods=[sf_md,hemis]", "seeds=[0,1]")
COMMAND = ("study=quickstart", "dataset.limit=60", *ARGUMENTS)
ELSEWHERE = "## Where trials come from"


@dataclass(frozen=True)
class Source:
    """A store with four finished trials, and an archive of it."""

    output: Path
    plan: Plan
    store: Store
    archive: Path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("source")
    plan, store = planned(folder / "runs", *ARGUMENTS)
    for label, start in (("sf_md", 20), ("hemis", 33)):
        for seed in (0, 1):
            trial = write_trial(plan, store, label, seed, ladder(start + seed))
            store.trial(trial.id).save_history([{"step": 0, "time": 1.0, "values": {"val/accuracy_mean": 50.0}}])
    archive = folder / "shared.zip"
    assert main("export", *COMMAND, f"output={folder / 'runs'}", str(archive), "by=Ann, lab A") == 0
    return Source(folder / "runs", plan, store, archive)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Store:
    return Store.below(tmp_path / "elsewhere")


def main(*arguments: str) -> int:
    """The command as a shell sees it."""
    return guarded(share.main, arguments)


def imported(archive: Path, store: Store, *settings: str) -> int:
    return main("import", str(archive), f"output={store.root.parent}", *settings)


def without(text: str, heading: str) -> str:
    """A report without one of its sections."""
    before, _, after = text.partition(f"{heading}\n")
    return before + after[after.index("\n## ") + 1 :] if after else before


# ---------------------------------------------------------------------- there and back


def test_a_store_exported_and_imported_elsewhere_is_reported_identically(source: Source, elsewhere: Store) -> None:
    own = write_report(source.plan, source.store, COMMAND)
    assert imported(source.archive, elsewhere) == 0
    plan, _ = planned(elsewhere.root.parent, *ARGUMENTS)
    other = write_report(plan, elsewhere, COMMAND)
    assert own.csv.read_bytes() == other.csv.read_bytes() and own.latex.read_bytes() == other.latex.read_bytes()
    assert own.heatmap.read_bytes() == other.heatmap.read_bytes()
    assert own.markdown.read_text() == without(other.markdown.read_text(), ELSEWHERE)
    assert ELSEWHERE not in own.markdown.read_text()
    sha = file_sha256(source.archive)[:12]
    assert (
        f"- shared.zip (sha256 {sha}, by Ann, lab A): 4 trials, of sf_md, hemis\n- made in this store: 0"
        in other.markdown.read_text()
    )


def test_everything_of_a_trial_arrives_but_what_belongs_to_the_machine(source: Source, elsewhere: Store) -> None:
    trial = source.store.trial(source.plan.trials[0].id)
    write_atomically(trial / "log.txt", lambda stream: stream.write(b"/home/ann: process 12"))
    imported(source.archive, elsewhere)
    for planned_trial in source.plan.trials:
        mine, theirs = (store.trial(planned_trial.id) for store in (source.store, elsewhere))
        assert {path.name for path in theirs.path.iterdir()} == {
            *("record.json", "spec.json", "scores.npz", "weights.pt", "metrics.jsonl", "origin.json")
        }
        for name in ("record.json", "spec.json", "scores.npz", "weights.pt", "metrics.jsonl"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert not (elsewhere.root / "incoming").exists()


def test_the_archive_says_what_it_holds_and_nothing_of_the_machine(source: Source) -> None:
    files = contents(source.archive)
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    for name, facts in manifest["files"].items():
        assert facts == {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    assert manifest["by"] == "Ann, lab A" and {"python", "torch", "numpy", "platform"} <= set(manifest["environment"])
    description = next(json.loads(body) for name, body in files.items() if name.startswith("data/"))
    assert description["facts"]["fingerprint"] == source.plan.dataset.fingerprint()
    assert description["counts"] == {"train": 60, "val": 60, "test": 60}
    assert all(str(source.output).encode() not in body and b"/home/" not in body for body in files.values())


def test_the_same_trials_give_the_same_archive(source: Source, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    assert main("export", *COMMAND, f"output={source.output}", str(again), "by=Ann, lab A") == 0
    assert again.read_bytes() == source.archive.read_bytes()


def test_an_archive_goes_on_with_its_way(source: Source, elsewhere: Store, tmp_path: Path) -> None:
    imported(source.archive, elsewhere)
    second = tmp_path / "second.zip"
    assert main("export", *COMMAND, f"output={elsewhere.root.parent}", str(second), "by=Bob") == 0
    third = Store.below(tmp_path / "third")
    imported(second, third)
    origin = third.trial(source.plan.trials[0].id).origin()
    assert origin is not None
    assert [(one["archive"], one["by"]) for one in origin["archives"]] == [("shared.zip", "Ann, lab A"), ("second.zip", "Bob")]
    assert origin["archives"][0]["sha256"] == file_sha256(source.archive)


def test_the_study_of_an_archive_plans_the_same_trials(
    source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(source.archive, elsewhere)
    file = elsewhere.root.parent / "imported" / "shared.yaml"
    assert f"study={file}" in capsys.readouterr().out
    plan = Plan(load_study([f"study={file}"]))
    assert [(t.id, t.row.label, t.seed) for t in plan.trials] == [(t.id, t.row.label, t.seed) for t in source.plan.trials]
    assert plan.study.description == source.plan.study.description


# ---------------------------------------------------------------------- twice, and in another way


def test_a_second_import_changes_nothing(source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]) -> None:
    imported(source.archive, elsewhere)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.root.glob("*/*") if path.parent.name != "locks"}
    assert imported(source.archive, elsewhere) == 0
    assert "added: 0\n  already there with the same results: 4" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in elsewhere.root.glob("*/*") if path.parent.name != "locks"} == before


def other_results(output: Path) -> tuple[Plan, Store]:
    """The same four trials, sf_md seed 0 with three more correct predictions for each combination; made on another machine."""
    plan, store = planned(output, *ARGUMENTS)
    for label, start in (("sf_md", 20), ("hemis", 33)):
        for seed in (0, 1):
            more = 3 if (label, seed) == ("sf_md", 0) else 0
            write_trial(plan, store, label, seed, ladder(start + seed + more), environment=ENVIRONMENT | {"device_name": "y"})
    return plan, store


def test_other_results_under_one_id_are_refused_and_listed(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = other_results(tmp_path / "runs")
    before = snapshot(store)
    assert imported(source.archive, store) == 2
    error = capsys.readouterr().err
    # Averages: (20 + 9) / 60 there, (23 + 9) / 60 here; the other three trials agree though another machine made them.
    assert error.count("\n") == 1 and "1 of its trials are here with other results" in error
    assert f"sf_md seed 0 (trial {trial_of(plan, 'sf_md', 0).id}): average on test 53.3333 here, 48.3333 there" in error
    assert "made on y, torch 2 here, x, torch 2 there" in error and "keep=ours" in error
    assert snapshot(store) == before


def test_keep_says_whose_results_stay(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = other_results(tmp_path / "runs")
    trial = store.trial(trial_of(plan, "sf_md", 0).id)
    ours, theirs = ((one.trial(trial.path.name) / "record.json").read_bytes() for one in (store, source.store))
    assert imported(source.archive, store, "keep=ours") == 0
    assert "here with other results, ours kept: 1" in capsys.readouterr().out
    assert (trial / "record.json").read_bytes() == ours and trial.origin() is None
    assert imported(source.archive, store, "keep=theirs") == 0
    assert (trial / "record.json").read_bytes() == theirs and trial.origin() is not None
    aside = list((store.root / "superseded").glob(f"{trial.path.name}-*/record.json"))
    assert [path.read_bytes() for path in aside] == [ours]


def test_what_was_begun_here_gives_way_and_is_kept_aside(source: Source, elsewhere: Store) -> None:
    begun, failed = source.plan.trials[0].id, source.plan.trials[1].id
    write_json(elsewhere.trial(begun) / "spec.json", {})
    write_json(elsewhere.trial(failed) / "failure.json", {"reason": "no memory"})
    assert imported(source.archive, elsewhere) == 0
    assert all(elsewhere.trial(trial.id).record() is not None for trial in source.plan.trials)
    assert elsewhere.trial(failed).failure() is None
    assert {path.parent.name[:16] for path in (elsewhere.root / "superseded").glob("*/*.json")} == {begun, failed}


def test_a_trial_in_use_is_left_alone(source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]) -> None:
    held = source.plan.trials[0].id
    with elsewhere.locked(held):
        assert imported(source.archive, elsewhere) == 1
    assert "left out, in use by another process; import again when it has ended: 1" in capsys.readouterr().out
    assert not elsewhere.trial(held).path.exists() and len(elsewhere.ids()) == 3
    assert imported(source.archive, elsewhere) == 0 and len(elsewhere.ids()) == 4


# ---------------------------------------------------------------------- less than everything


def test_without_weights_a_trial_is_done_and_says_what_it_lacks(source: Source, elsewhere: Store, tmp_path: Path) -> None:
    bare = tmp_path / "bare.zip"
    assert main("export", *COMMAND, f"output={source.output}", str(bare), "--no-weights") == 0
    assert not [name for name in contents(bare) if name.endswith(".pt")]
    imported(bare, elsewhere)
    plan, _ = planned(elsewhere.root.parent, *ARGUMENTS)
    assert set(plan.states(elsewhere).values()) == {"done"}
    assert not verify(plan, elsewhere)
    trial = elsewhere.trial(plan.trials[0].id)
    with pytest.raises(UserError, match="was imported without its weights; import an archive that has them"):
        trial.weights()
    # A recorded file that nobody left out is missed all the same.
    scores_there = (trial / "scores.npz").read_bytes()
    (trial / "scores.npz").unlink()
    assert trial.record() is None
    write_atomically(trial / "scores.npz", lambda stream: stream.write(scores_there))
    assert imported(source.archive, elsewhere) == 0
    assert all(elsewhere.trial(t.id).weights().keys() == {"w"} for t in plan.trials)


def test_models_that_others_start_from_keep_their_weights(make_study: MakeStudy, tmp_path: Path) -> None:
    plan = Plan(make_study(methods=["mmanet"], epochs=1))
    store = Store.below(plan.study.output)
    for trial in [*plan.stages, *plan.trials]:
        assert run_trial(trial.job).status == "done"
    found = export([plan], store, tmp_path / "bare.zip", weights=False)
    kept = [name.split("/")[1] for name in contents(tmp_path / "bare.zip") if name.endswith(".pt")]
    assert kept == [plan.stages[0].id] and found.trials == [plan.stages[0].id, plan.trials[0].id]
    other = Store.below(tmp_path / "other")
    assert take_in(tmp_path / "bare.zip", other, tmp_path).added == sorted(found.trials)


def test_unfinished_and_damaged_trials_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = planned(tmp_path / "runs", *ARGUMENTS)
    archive = str(tmp_path / "some.zip")
    output = f"output={tmp_path / 'runs'}"
    assert main("export", *COMMAND, output, archive) == 2
    assert "nothing to export: no trial of quickstart is finished" in capsys.readouterr().err
    assert not Path(archive).exists()
    good = write_trial(plan, store, "sf_md", 0, ladder(20))
    bad = store.trial(write_trial(plan, store, "hemis", 0, ladder(20)).id)
    (bad / "scores.npz").write_bytes((bad / "scores.npz").read_bytes()[:-1] + b"x")
    assert main("export", *COMMAND, output, archive) == 1
    captured = capsys.readouterr()
    assert "exported 1 finished trials of quickstart" in captured.out and "left out: 2 trials that are not finished" in captured.out
    assert f"trial {bad.path.name} (hemis seed 0) is damaged and was left out: scores.npz changed" in captured.err
    assert {name.split("/")[1] for name in contents(Path(archive)) if name.startswith("trials/")} == {good.id}
    assert main("export", *COMMAND, output, archive) == 2
    assert "some.zip exists" in capsys.readouterr().err


def test_a_trial_that_test_was_not_asked_of_travels_as_it_is(source: Source, elsewhere: Store, tmp_path: Path) -> None:
    plan, store = planned(tmp_path / "runs", *ARGUMENTS)
    trial = store.trial(write_trial(plan, store, "sf_md", 0, ladder(20)).id)
    record = read_json(trial / "record.json") or {}
    target = plan.dataset.load("val").target.numpy()
    arrays = {"val": scores(target, ladder(20)), "val_target": target, "val_available": np.ones((60, 3), dtype=bool)}
    write_atomically(trial / "val.npz", lambda stream: np.savez(stream, **arrays))
    part = {"cells": {"val": record["cells"]["val"]}, "files": trial.describe_files("val.npz", "weights.pt")}
    write_json(trial / "selection.json", record | part)
    (trial / "record.json").unlink()
    (trial / "scores.npz").unlink()
    write_atomically(trial / "checkpoint.pt", lambda stream: stream.write(b"state"))
    archive = tmp_path / "part.zip"
    export([plan], store, archive)
    assert take_in(archive, elsewhere, tmp_path).added == [trial.path.name]
    theirs = elsewhere.trial(trial.path.name)
    names = ("selection.json", "val.npz", "weights.pt", "checkpoint.pt")
    assert all((theirs / name).read_bytes() == (trial / name).read_bytes() for name in names)
    assert theirs.record() is None
    # The whole trial comes later, and then the part has nothing to add.
    assert take_in(source.archive, elsewhere, tmp_path).completed == [trial.path.name]
    assert theirs.record() is not None
    assert take_in(archive, elsewhere, tmp_path).there == [trial.path.name]
    assert theirs.record() is not None


# ---------------------------------------------------------------------- killed


KILLED = """
import os, signal, sys
from pathlib import Path
import torchmetrics.functional.classification  # once here, not in each child
from harness.importing import take_in
from harness.store import Store

archive, output = Path(sys.argv[1]), Path(sys.argv[2])

def killing(owner, name, at):
    real, count = getattr(owner, name), [0]
    def call(*arguments):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    setattr(owner, name, call)

for point in sys.argv[3:]:
    owner, name, at = os if point[0] == "f" else Path, point.rstrip("0123456789"), int(point.lstrip("fsyncrenam"))
    folder = output / point
    child = os.fork()
    if not child:
        killing(owner, name, at)
        take_in(archive, Store.below(folder), folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(point, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "ended", flush=True)
"""


ENTERED = {"fsync3": 0, "fsync25": 0, "rename1": 0, "rename2": 1, "rename4": 3}
"""Where the process is killed, in unpacking, checking, or just before a rename, and how many trials are in the store by then."""


def test_an_import_that_is_killed_leaves_whole_trials_only(source: Source, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(source.archive), str(tmp_path), *ENTERED, "rename5"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    # Four trials enter by four renames; a fifth one never happens.
    assert done.stdout.splitlines() == [*(f"{point} 9" for point in ENTERED), "rename5 ended"], done.stderr
    for point, entered in ENTERED.items():
        store = Store.below(tmp_path / point)
        assert [trial_id for trial_id in store.ids() if store.trial(trial_id).record() is not None] == store.ids()
        assert len(store.ids()) == entered
    again = Store.below(tmp_path / "rename2")
    assert (again.root / "incoming").exists()
    found = take_in(source.archive, again, tmp_path / "studies")
    assert (len(found.added), len(found.there)) == (3, 1) and not (again.root / "incoming").exists()
    whole = snapshot(Store.below(tmp_path / "rename5"))
    assert snapshot(again) == whole and len([name for name in whole if name.endswith("record.json")]) == 4


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["exprt", "x.zip"], "unknown command of harness.share: 'exprt'"),
        (["export", "study=quickstart"], "harness.share export needs one FILE, and 0 are given"),
        (["import", "a.zip", "b.zip"], "harness.share import needs one FILE, and 2 are given: a.zip, b.zip"),
        (["import", "a.zip", "study=quickstart"], "'study=quickstart' does not go with import"),
        (["import", "a.zip", "keep=mine"], "keep=mine must be ours or theirs"),
        (["import", "a.zip", "--no-weights"], "--no-weights goes with export"),
        (["import", "absent.zip"], "absent.zip is not a file"),
        (["export", "study=quickstrt", "x.zip"], "unknown study 'quickstrt'"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "locks" not in path.parts]


def test_help_and_a_second_import_at_the_same_time(source: Source, elsewhere: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--help") == 0 and "usage: python -m harness.share export" in capsys.readouterr().out
    with only_holder(elsewhere.root / "locks" / "import", "x"):
        assert imported(source.archive, elsewhere) == 2
    assert "another archive is being imported" in capsys.readouterr().err
