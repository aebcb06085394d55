"""Archives without weights or of unfinished work, and imports that are killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import PROJECT, report
from harness.analysis.verification import verify
from harness.cli import guarded
from harness.errors import UserError
from harness.sharing.export import export
from harness.sharing.import_archive import import_trials
from harness.store import Store, read_json, write_atomically, write_json
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.conftest import MakeStudy
from tests.support.archives import (
    ARGUMENTS,
    COMMAND,
    Source,
    contents,
    imported,
    main,
    snapshot,
)
from tests.support.handmade import ladder, planned, scores, write_trial

# ---------------------------------------------------------------------- less than everything


def test_without_weights_a_trial_is_done_and_says_what_it_lacks(
    source: Source, elsewhere: Store, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.zip"
    assert main("export", *COMMAND, f"output={source.output}", str(bare), "--no-weights") == 0
    assert not [name for name in contents(bare) if name.endswith(".pt")]
    imported(bare, elsewhere)
    plan, _ = planned(elsewhere.root.parent, *ARGUMENTS)
    assert set(plan.states(elsewhere).values()) == {"done"}
    assert not verify(plan, elsewhere)
    trial = elsewhere.trial(plan.trials[0].id)
    with pytest.raises(
        UserError, match="was imported without its weights; import an archive that has them"
    ):
        trial.weights()
    # A recorded file that nobody left out is missed all the same.
    scores_there = (trial / "scores.npz").read_bytes()
    (trial / "scores.npz").unlink()
    assert trial.record() is None
    write_atomically(trial / "scores.npz", lambda stream: stream.write(scores_there))
    assert imported(source.archive, elsewhere) == 0
    assert all(elsewhere.trial(t.id).weights().keys() == {"w"} for t in plan.trials)


@pytest.mark.slow
def test_trials_without_weights_are_mirrored_without_them(
    source: Source, elsewhere: Store, tmp_path: Path
) -> None:
    bare, output = tmp_path / "bare.zip", elsewhere.root.parent
    assert main("export", *COMMAND, f"output={source.output}", str(bare), "--no-weights") == 0
    assert imported(bare, elsewhere) == 0
    assert guarded(report.main, [*COMMAND, f"output={output}", "--track"]) == 0
    logged = {path.name for path in output.rglob("artifacts/**/*") if path.is_file()}
    assert "record.json" in logged and "weights.pt" not in logged
    with sqlite3.connect(output / "mlflow.db") as database:
        tagged = database.execute("select value from tags where key = 'trial_id'").fetchall()
    assert {value for (value,) in tagged} == {trial.id for trial in source.plan.trials}


def test_models_that_others_start_from_keep_their_weights(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    plan = Plan(make_study(methods=["mmanet"], epochs=1))
    store = Store.below(plan.study.output)
    for trial in [*plan.stages, *plan.trials]:
        assert run_trial(trial.job).status == "done"
    found = export([plan], store, tmp_path / "bare.zip", weights=False)
    kept = [name.split("/")[1] for name in contents(tmp_path / "bare.zip") if name.endswith(".pt")]
    assert kept == [plan.stages[0].id] and found.trials == [plan.stages[0].id, plan.trials[0].id]
    other = Store.below(tmp_path / "other")
    assert import_trials(tmp_path / "bare.zip", other, tmp_path).added == sorted(found.trials)


def test_unfinished_and_damaged_trials_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert (
        "exported 1 finished trials of quickstart" in captured.out
        and "left out: 2 trials that are not finished" in captured.out
    )
    assert (
        f"trial {bad.path.name} (hemis seed 0) is damaged and was left out: scores.npz changed"
        in captured.err
    )
    assert {
        name.split("/")[1] for name in contents(Path(archive)) if name.startswith("trials/")
    } == {good.id}
    assert main("export", *COMMAND, output, archive) == 2
    assert "some.zip exists" in capsys.readouterr().err


def test_a_trial_that_test_was_not_asked_of_travels_as_it_is(
    source: Source, elsewhere: Store, tmp_path: Path
) -> None:
    plan, store = planned(tmp_path / "runs", *ARGUMENTS)
    trial = store.trial(write_trial(plan, store, "sf_md", 0, ladder(20)).id)
    record = read_json(trial / "record.json") or {}
    target = plan.dataset.load("val").target.numpy()
    arrays = {
        "val": scores(target, ladder(20)),
        "val_target": target,
        "val_available": np.ones((60, 3), dtype=bool),
    }
    write_atomically(trial / "val.npz", lambda stream: np.savez(stream, **arrays))
    part = {
        "cells": {"val": record["cells"]["val"]},
        "files": trial.describe_files("val.npz", "weights.pt"),
    }
    write_json(trial / "selection.json", record | part)
    (trial / "record.json").unlink()
    (trial / "scores.npz").unlink()
    write_atomically(trial / "checkpoint.pt", lambda stream: torch.save({"epoch": 1}, stream))
    archive = tmp_path / "part.zip"
    export([plan], store, archive)
    assert import_trials(archive, elsewhere, tmp_path).added == [trial.path.name]
    theirs = elsewhere.trial(trial.path.name)
    names = ("selection.json", "val.npz", "weights.pt", "checkpoint.pt")
    assert all((theirs / name).read_bytes() == (trial / name).read_bytes() for name in names)
    assert theirs.record() is None
    # The whole trial comes later, and then the part has nothing to add.
    assert import_trials(source.archive, elsewhere, tmp_path).completed == [trial.path.name]
    assert theirs.record() is not None
    assert import_trials(archive, elsewhere, tmp_path).there == [trial.path.name]
    assert theirs.record() is not None


# ---------------------------------------------------------------------- killed


KILLED = """
import os, signal, sys
from pathlib import Path
import torchmetrics.functional.classification  # once here, not in each child
from harness.sharing.import_archive import import_trials
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
    owner = os if point[0] == "f" else Path
    name, at = point.rstrip("0123456789"), int(point.lstrip("fsyncrenam"))
    folder = output / point
    child = os.fork()
    if not child:
        killing(owner, name, at)
        import_trials(archive, Store.below(folder), folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(point, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "ended", flush=True)
"""


ENTERED = {"fsync3": 0, "fsync25": 0, "rename2": 1, "rename4": 3}
"""Where the process is killed, in unpacking, checking, or just before a rename, and how many trials
are in the store by then.
"""


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_whole_trials_only(source: Source, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(source.archive),
        str(tmp_path),
        *ENTERED,
        "rename5",
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    # Four trials enter by four renames; a fifth one never happens.
    assert done.stdout.splitlines() == [
        *(f"{point} 9" for point in ENTERED),
        "rename5 ended",
    ], done.stderr
    for point, entered in ENTERED.items():
        store = Store.below(tmp_path / point)
        assert [
            trial_id for trial_id in store.ids() if store.trial(trial_id).record() is not None
        ] == store.ids()
        assert len(store.ids()) == entered
    again = Store.below(tmp_path / "rename2")
    assert (again.root / "incoming").exists()
    found = import_trials(source.archive, again, tmp_path / "studies")
    assert (len(found.added), len(found.there)) == (3, 1) and not (again.root / "incoming").exists()
    whole = snapshot(Store.below(tmp_path / "rename5"))
    assert (
        snapshot(again) == whole
        and len([name for name in whole if name.endswith("record.json")]) == 4
    )
