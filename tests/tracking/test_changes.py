"""Trials that run, fail, are killed or trained again; experiments that are not as left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import PROJECT
from harness.tracking.mlflow.tracker import MLflowTracker
from harness.tracking.tracker import TrackingError
from harness.training.trial import record_failure, run_trial

EXPLODING = """
from methods.sf_md import SFMD

class Exploding(SFMD):
    def loss(self, output, batch):
        terms = super().loss(output, batch)
        return {"task": terms["task"] * (1.0 if batch.phase[0] < 1 else float("nan"))}
"""
STUMBLING = """
from pathlib import Path
from methods.sf_md import SFMD

class Stumbling(SFMD):
    def loss(self, output, batch):
        if batch.phase[0] == 1 and Path(__file__).with_name("stone").exists():
            raise RuntimeError("stumbled over a stone")
        return super().loss(output, batch)
"""
# Dies at the worst moment: points are sent, and the offset does not say so yet.
MIRROR_AND_DIE = """
import os, signal, sys
from harness.tracking.mlflow import runs
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.tracking.mlflow.tracker import MLflowTracker

write = runs.write_json
def write_or_die(path, value):
    os.kill(os.getpid(), signal.SIGKILL) if value["epochs"] else write(path, value)
runs.write_json = write_or_die
study = load_study(sys.argv[1:])
plan = Plan(study)
MLflowTracker(plan).mirror_trial(plan.trials[0])
"""


def test_a_running_trial_is_mirrored_and_later_finished(study: Any) -> None:
    running = study("running", "seeds=[1]", "train.epochs=3")
    running.mirror()  # there is nothing on disk yet
    assert not (running.output / "running").exists()
    seen = []

    def watch(_: Any) -> None:
        running.mirror()
        run = running.run()
        seen.append(
            (
                run.info.status,
                run.data.tags["status"],
                len(running.curve(run, "train/loss")),
                run.info.end_time,
            )
        )

    run_trial(running.trial.job, watch)
    assert seen == [("RUNNING", "running", epochs, None) for epochs in (1, 2, 3)]
    running = study("running", "seeds=[1]", "train.epochs=3")
    running.mirror()
    run = running.run()
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "done")
    for name in running.history(running.trial)[0]["values"]:
        assert [step for step, _, _ in running.curve(run, name)] == [0, 1, 2]


def test_a_mirror_killed_midway_is_completed_without_a_double(study: Any) -> None:
    killed = study("killed", "seeds=[12]")
    killed.train()
    files = killed.store.trial(killed.trial.id)
    (line, *_) = files.history()
    files.save_history([line | {"step": step, "time": line["time"] + step} for step in range(120)])
    command = [sys.executable, "-c", MIRROR_AND_DIE, *killed.arguments]
    assert subprocess.run(command, cwd=PROJECT).returncode == -9
    half = killed.curve(killed.run(), "train/loss")
    assert 0 < len(half) < 120
    killed.mirror()
    run = killed.run()
    assert run.info.status == "FINISHED"
    for name in line["values"]:
        assert [step for step, _, _ in killed.curve(run, name)] == list(range(120))


def test_a_failed_trial_is_shown_as_failed_with_its_reason(study: Any, tmp_path: Path) -> None:
    (tmp_path / "exploding.py").write_text(EXPLODING)
    failed = study("failed", f"methods=[{tmp_path / 'exploding.py'}]")
    assert run_trial(failed.trial.job).status == "failed"
    failed.mirror()
    run = failed.run()
    (epoch,) = failed.history(failed.trial)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
    assert run.data.tags["reason"].startswith("train/loss became nan in epoch 1")
    assert run.info.end_time == round(epoch["time"] * 1000)
    assert len(failed.curve(run, "train/loss")) == 1
    assert not any(name.startswith("test/") for name in run.data.metrics)


def test_a_failed_trial_that_is_resumed_goes_on_in_its_run(study: Any, tmp_path: Path) -> None:
    (tmp_path / "stumbling.py").write_text(STUMBLING)
    (tmp_path / "stone").touch()
    resumed = study("resumed", f"methods=[{tmp_path / 'stumbling.py'}]")
    resumed.train()
    resumed.mirror()
    before = resumed.run()
    assert before.data.tags["reason"] == "RuntimeError: stumbled over a stone"
    (tmp_path / "stone").unlink()
    (resumed.files(resumed.trial) / "failure.json").unlink()
    statuses = []

    def watch(_: Any) -> None:
        resumed.mirror()
        statuses.append(resumed.run().info.status)

    assert run_trial(resumed.trial.job, watch).status == "done"
    resumed.mirror()
    after = resumed.run()
    assert after.info.run_id == before.info.run_id and statuses[-1] == "RUNNING"
    assert (after.info.status, after.data.tags["status"]) == (
        "FINISHED",
        "done",
    ) and "reason" not in after.data.tags
    assert [step for step, _, _ in resumed.curve(after, "train/loss")] == [0, 1]


def test_a_trial_that_failed_before_its_first_epoch_and_then_succeeds_is_one_run(
    study: Any,
) -> None:
    late = study("late", "seeds=[13]")
    record_failure(late.store.trial(late.trial.id), late.trial.job, "its teacher failed")
    late.mirror()
    run = late.run()
    assert (run.info.status, run.data.tags["reason"], run.data.metrics) == (
        "FAILED",
        "its teacher failed",
        {},
    )
    before = late.rows()
    late.mirror()
    assert late.rows() == before
    late.train()
    late.mirror()
    run = late.run()
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "done")
    assert "reason" not in run.data.tags


def test_a_trial_trained_again_replaces_its_run_and_keeps_the_old_one_in_the_trash(
    study: Any,
) -> None:
    again = study("again", "seeds=[14]")
    again.train()
    again.mirror()
    first = again.run()
    again.store.set_aside(again.trial.id)
    again.train()
    again.mirror()
    second = again.run()
    assert second.info.run_id != first.info.run_id
    assert [t for _, t, _ in again.curve(second, "train/loss")] == [
        round(e["time"] * 1000) for e in again.history(again.trial)
    ]
    trashed = again.client.get_run(first.info.run_id)
    assert (trashed.info.lifecycle_stage, trashed.data.tags["kind"]) == ("deleted", "superseded")


def test_stale_and_relabelled_trials_are_described_anew(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = study("stale", "seeds=[1]")
    stale.train()
    stale.mirror()
    monkeypatch.setattr("harness.training.spec.code_hash", lambda *classes: "0123456789abcdef")
    renamed = study("stale", "seeds=[1]", "methods=[{method: sf_md, label: baseline}]")
    renamed.mirror()
    run = renamed.run()
    assert (run.data.tags["status"], run.info.status) == ("stale", "FINISHED")
    assert (run.data.tags["label"], run.info.run_name) == ("baseline", "baseline seed 1")


def test_a_run_whose_creation_was_answered_too_late_does_not_stay_double(study: Any) -> None:
    double = study("double")
    double.train()
    double.mirror()
    run = double.run()
    tags = {"kind": "trial", "trial_id": double.trial.id}
    double.client.create_run(
        double.experiment.experiment_id, run.info.start_time, tags, run.info.run_name
    )
    assert len(double.runs()) == 2
    double.mirror()
    kept = double.run()
    assert (kept.info.status, len(double.curve(kept, "train/loss"))) == ("FINISHED", 2)


def test_another_training_of_the_same_trial_by_somebody_else_is_left_alone(study: Any) -> None:
    shared = study("shared")
    shared.train()
    shared.mirror()
    ours = shared.run()
    tags = {"kind": "trial", "trial_id": shared.trial.id}
    theirs = shared.client.create_run(
        shared.experiment.experiment_id, 1_700_000_000_000, tags, "on another machine"
    )
    shared.mirror()
    assert {run.info.run_id for run in shared.runs()} == {theirs.info.run_id, ours.info.run_id}


def test_a_deleted_experiment_comes_back(study: Any) -> None:
    deleted = study("deleted")
    deleted.train()
    deleted.mirror()
    deleted.client.delete_experiment(deleted.experiment.experiment_id)
    study("deleted").mirror()
    assert deleted.experiment.lifecycle_stage == "active"
    assert deleted.run().info.status == "FINISHED"


def test_the_study_has_one_run_with_the_newest_report(study: Any, tmp_path: Path) -> None:
    summary = study("summary", "seeds=[0,1]")
    summary.train()
    report = tmp_path / "report.md"
    report.write_text("first")
    for mean in (50.0, 50.0):
        summary.tracker.mirror_study(
            [report], {"accuracy_mean": mean, "gap": float("nan")}, {"rows": "1"}
        )
    (run,) = summary.runs("study")
    times = [line["time"] for trial in summary.plan.trials for line in summary.history(trial)]
    assert summary.curve(run, "accuracy_mean") == [(0, round(max(times) * 1000), 50.0)]
    # The newest run is the first that MLflow shows.
    assert (run.info.start_time, run.info.end_time) == (
        round(max(times) * 1000),
        round(max(times) * 1000),
    )
    report.write_text("second")
    study("summary", "seeds=[0,1]").tracker.mirror_study(
        [report], {"accuracy_mean": 40.0}, {"rows": "2"}
    )
    (run,) = summary.runs("study")
    # A lower value at the same moment would lose against the old one in MLflow's eyes.
    assert run.data.metrics == {"accuracy_mean": 40.0}
    assert {"kind": "study", "study": "summary", "rows": "2"}.items() <= run.data.tags.items()
    (artifact,) = (
        summary.output / "mlartifacts" / "summary" / run.info.run_id / "artifacts"
    ).iterdir()
    assert artifact.read_text() == "second"


def test_a_sqlite_uri_of_the_user_is_used_as_it_is(study: Any, mirrored: Any) -> None:
    uri = f"sqlite:///{mirrored.output}/mlflow.db"
    given = study("given", f"tracking.uri={uri}")
    given.train()
    given.mirror()
    assert given.tracker.uri == uri
    assert given.run().info.status == "FINISHED"


def test_a_users_file_that_is_no_mlflow_database_is_refused_in_one_sentence(
    study: Any, tmp_path: Path
) -> None:
    (tmp_path / "notes.db").write_text("mine")
    wrong = study("wrong", f"tracking.uri=sqlite:///{tmp_path}/notes.db")
    wrong.train()
    with pytest.raises(
        TrackingError, match=r"notes\.db is not a complete MLflow database; name another file"
    ) as error:
        wrong.mirror()
    assert "`python -m harness.report study=wrong --track`" in str(error.value) and "\n" not in str(
        error.value
    )
    assert (tmp_path / "notes.db").read_text() == "mine"


def test_the_command_that_opens_a_server(study: Any) -> None:
    secret = study("server", "tracking.uri=https://me:secret@host:5000")
    assert MLflowTracker(secret.plan).command() == "python -m webbrowser https://host:5000"
