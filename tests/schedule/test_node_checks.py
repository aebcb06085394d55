"""What a node must show, asked of this machine; real nodes are in test_cluster.py."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.schedule.on_ray.nodes import checks
from harness.schedule.on_ray.nodes.admission import _arrives, _expected
from harness.schedule.on_ray.nodes.checks import Expected, examine, unfit
from harness.schedule.on_ray.rounds import Rounds
from harness.schedule.on_ray.source import job_of, on_device, payload
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from tests.schedule.test_executors import Silent
from tests.support.media import classification


@pytest.fixture
def trial(tmp_path: Path) -> PlannedTrial:
    """A trial on a manifest whose data are prepared, in a cache of its own."""
    manifest = classification(tmp_path / "data")
    arguments = [f"dataset.manifest={manifest}", f"dataset.cache={tmp_path / 'cache'}"]
    plan = Plan(load_study(["study=own_data", *arguments, f"output={tmp_path / 'runs'}"]))
    plan.dataset.prepare(lambda what, done, total: None)
    return plan.trials[0]


@pytest.fixture
def expected(trial: PlannedTrial) -> Iterator[Expected]:
    with _expected(payload(trial, trial.job.code())) as found:
        yield found


def test_a_fit_node_leaves_an_answer_that_arrives(expected: Expected, tmp_path: Path) -> None:
    said = examine(expected)
    assert said["problem"] == "" and _arrives(Path(expected["folder"]) / said["answer"])


def test_nothing_is_left_of_an_examination(trial: PlannedTrial, tmp_path: Path) -> None:
    before = sorted((tmp_path / "cache").rglob("*"))
    with _expected(payload(trial, trial.job.code())) as expected:
        examine(expected)
        assert len(list((tmp_path / "runs" / "store" / "nodes").iterdir())) == 1
    assert not (tmp_path / "runs" / "store" / "nodes").exists()
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_each_thing_that_lacks_is_told(expected: Expected, tmp_path: Path) -> None:
    manifest, folder = tmp_path / "data" / "manifest.csv", Path(expected["folder"])
    other = {"code": "0" * 16}
    assert "has other code for" in examine(expected | other)["problem"]
    assert "has other data of" in examine(expected | {"data": "0"})["problem"]
    Path(expected["cache"]).unlink()
    assert "does not see the driver's prepared data" in examine(expected)["problem"]
    manifest.write_text(manifest.read_text() + "\n", encoding="utf-8")
    assert "has another file at dataset.manifest=" in examine(expected)["problem"]
    manifest.unlink()
    assert f"dataset.manifest={manifest} is not a file there" in examine(expected)["problem"]
    (folder / "driver").write_text("another", encoding="utf-8")
    assert "sees another store in" in examine(expected)["problem"]
    shutil.rmtree(folder)
    assert "something else lies there; put output on" in examine(expected)["problem"]
    shutil.rmtree(tmp_path / "runs")
    assert "there is no such folder; put output on" in examine(expected)["problem"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_a_gpu_that_torch_cannot_use_is_told_where_a_trial_needs_one(trial: PlannedTrial) -> None:
    sent = payload(trial, trial.job.code())
    assert checks._gpu(on_device(sent, "cpu")) == ""
    assert "which torch" in checks._gpu(on_device(sent, "cuda"))
    assert replace(job_of(on_device(sent, "cuda")), device="cpu") == job_of(sent)


def test_what_a_node_wrote_elsewhere_does_not_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.schedule.on_ray.nodes.admission.ARRIVES_SECONDS", 0.2)
    assert not _arrives(tmp_path / "answer")


def test_a_worker_compares_the_code_before_each_trial(trial: PlannedTrial) -> None:
    sent = payload(trial, trial.job.code())
    assert unfit(None, sent) == ""
    assert "has other code for" in unfit(None, sent | {"code": "0" * 16})


def test_a_job_survives_its_way_to_a_worker(trial: PlannedTrial) -> None:
    assert job_of(payload(trial, trial.job.code())) == trial.job


def test_the_checks_need_no_harness_where_they_run(tmp_path: Path) -> None:
    """Sent by value to a Python that finds none of this project."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(checks)
    try:
        sent = cloudpickle.dumps(checks.examine)
    finally:
        cloudpickle.unregister_pickle_by_value(checks)
    assert pickle.loads(sent).__name__ == "examine"
    folder = tmp_path / "nodes"
    folder.mkdir()
    (folder / "driver").write_text("t", encoding="utf-8")
    code = (
        "import sys, pickle; sys.modules['harness'] = None; "
        f"examine = pickle.loads({sent!r}); "
        f"print(examine({{'store': {str(tmp_path)!r}, 'folder': {str(folder)!r}, 'token': 't'}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot import the harness (" in done.stdout


def test_a_trial_that_a_node_refused_is_handed_out_again(trial: PlannedTrial) -> None:
    """However often: that is no death of its worker."""

    class One:
        over = False
        handed = False

        def next(self, observer: object) -> PlannedTrial | None:
            first, self.handed = not self.handed, True
            return trial if first else None

        def ended(self, trial: PlannedTrial) -> None:
            self.over = True

    rounds = Rounds(One(), retries=0)
    for _ in range(5):
        assert rounds.next(Silent()) is trial
        rounds.elsewhere(trial)
    assert rounds.next(Silent()) is trial and not rounds.over
    rounds.ended(trial)
    assert rounds.over
