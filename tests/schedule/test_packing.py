"""How many trials share a GPU: the decision by hand, and the probe on this machine's CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.schedule.driver import describe
from harness.schedule.executor import TrialList
from harness.schedule.on_ray.executor import RayExecutor, _Run
from harness.schedule.on_ray.rounds import Rounds
from harness.schedule.packing import (
    FILLED,
    MOST,
    Packing,
    choose,
    fastest,
    most_that_fit,
    probe,
    sentence,
    settled,
)
from harness.study.config import AUTO, ResourcesConfig, load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.spec import Job
from tests.schedule.test_executors import Silent

GIB = 1 << 30


def plan_of(output: Path, *more: str) -> Plan:
    return Plan(load_study(["methods=[sf_md]", "seeds=[0]", f"output={output}", *more]))


def test_as_many_fit_as_memory_and_cores_hold() -> None:
    assert most_that_fit(10 * GIB, 100 * GIB, cores=64) == int(10 * FILLED)
    assert most_that_fit(10 * GIB, 100 * GIB, cores=3) == 3
    assert most_that_fit(90 * GIB, 100 * GIB, cores=64) == 1  # it runs alone, or fails by itself
    assert most_that_fit(GIB, 1000 * GIB, cores=64) == MOST


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.0, 4: 1.0}, 4),  # the device is idle: all at once for nothing
        ({1: 1.0, 2: 2.0, 4: 4.0}, 1),  # it is busy: packing gains nothing
        ({1: 1.0, 2: 1.2, 4: 2.3}, 2),  # 1.67 times, then 1.74: not worth twice the memory
        ({1: 1.0, 2: 1.9, 4: 2.0}, 4),  # 1.05 and 2.0 times
    ],
)
def test_the_number_that_gets_most_done_is_chosen(seconds: dict[int, float], chosen: int) -> None:
    assert fastest(seconds) == chosen


def test_shares_of_gpus_and_cores() -> None:
    """Trials of 2 GPUs with 4 each and 16 cores have a core each; with 4 cores half of one."""
    auto = ResourcesConfig()
    assert settled(auto, 4, cpus=16, gpus=2) == replace(
        auto, gpus_per_trial=0.25, cpus_per_trial=1.0
    )
    assert settled(auto, 4, cpus=4, gpus=2).cpus == 0.5
    assert settled(replace(auto, cpus_per_trial=3.0), 4, cpus=4, gpus=2).cpus == 3.0


def test_the_sentence_says_what_was_measured() -> None:
    said = sentence(Packing(3 * GIB, 80 * GIB, {1: 0.010, 2: 0.0125}), 2)
    assert said == (
        "2 trials share a GPU: one takes 3.0 of 80.0 GiB and 10.0 ms a step; done by so many at"
        " once, times what one does: 1: 1.00, 2: 1.60"
    )


def test_the_probe_trains_a_trial_alone_and_two_at_once(tmp_path: Path) -> None:
    """On this CPU: real steps in processes of their own, which leave nothing in the store."""
    job = plan_of(tmp_path).trials[0].job
    found = probe(job, cores=2, steps=3, most=2)
    assert list(found.seconds) == [1, 2]
    assert all(0 < seconds < 10 for seconds in found.seconds.values())
    assert 100 << 20 < found.memory < found.total  # torch alone is more than that
    assert list(tmp_path.rglob("*")) == []


def test_where_the_probe_fails_a_trial_has_a_gpu_and_the_sentence_says_why(tmp_path: Path) -> None:
    job = replace(plan_of(tmp_path).trials[0].job, device="nonsense")
    found, said, facts = choose(ResourcesConfig(), job, cpus=4, gpus=1)
    assert (found.gpus, found.cpus) == (1.0, 1.0)
    assert said.startswith("1 trial has a GPU: the probe of how many can share one failed (")
    assert "nonsense" in said
    assert facts["trials_per_gpu"] == 1


def test_without_a_gpu_auto_is_what_0_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    auto, given = (
        plan_of(tmp_path, *more)
        for more in ((), ("resources.gpus_per_trial=0", "resources.cpus_per_trial=1"))
    )
    assert auto.study.resources.gpus_per_trial == AUTO

    def shown(plan: Plan) -> tuple[str, list[Job]]:
        states = dict.fromkeys((trial.id for trial in plan.trials), "new")
        return describe(plan, states), [trial.job for trial in plan.trials]

    assert shown(auto) == shown(given)
    assert "; 1 CPU and 0 GPU per trial" in shown(auto)[0]


def test_with_a_gpu_auto_trains_on_it_and_a_number_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    plan = plan_of(tmp_path)
    assert plan.device == plan.trials[0].job.device == "cuda"
    states = dict.fromkeys((trial.id for trial in plan.trials), "new")
    assert "1 CPU and a share of a GPU, which a probe decides, per trial" in describe(plan, states)
    assert plan_of(tmp_path, "resources.gpus_per_trial=0").device == "cpu"
    assert plan_of(tmp_path, "resources.gpus_per_trial=1").device == "cuda"
    assert plan_of(tmp_path, "resources.address=HOST:1", "executor=local").device == "cuda"


def test_on_a_cluster_the_plan_says_that_its_gpus_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not this machine has a GPU; a number is not asked about."""
    for here in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda here=here: here)
        plan = plan_of(tmp_path, "resources.address=HOST:1")
        assert plan.decided_by_cluster and plan.device == "cpu"
        states = dict.fromkeys((trial.id for trial in plan.trials), "new")
        assert (
            "1 CPU, and where the cluster has GPUs a share of one, which a probe decides, per trial"
        ) in describe(plan, states)
    for number, device in ((0, "cpu"), (1, "cuda")):
        given = f"resources.gpus_per_trial={number}"
        plan = plan_of(tmp_path, "resources.address=HOST:1", given)
        assert not plan.decided_by_cluster and plan.device == device


def test_cores_that_the_user_gives_a_trial_bound_how_many_share_a_gpu(tmp_path: Path) -> None:
    """8 cores a GPU hold 8 trials of one core, and 2 of three."""
    held = []

    def measured(job: Job, cores: int) -> Packing:
        held.append(cores)
        return Packing(GIB, 80 * GIB, {1: 1.0})

    job = plan_of(tmp_path).trials[0].job
    for cpus in (AUTO, 3):
        choose(ResourcesConfig(cpus_per_trial=cpus), job, 16, 2, measured)
    assert held == [8, 2]


@pytest.mark.parametrize("value", ["many", "true", "[1]", "null"])
def test_what_is_no_number_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resources.gpus_per_trial=.* must be a number, or auto"):
        plan_of(tmp_path, f"resources.gpus_per_trial={value}")


def test_who_hears_of_a_trial_is_told_the_device_that_was_decided(tmp_path: Path) -> None:
    """The plan of a study on a cluster has the CPU; its nodes decide otherwise, here as numbers."""
    plan = plan_of(tmp_path, "resources.address=HOST:1")
    (trial,) = plan.trials
    executor = RayExecutor(plan.study.resources, tmp_path)
    heard = Heard()
    run = _Run(executor, Rounds(TrialList([trial]), 0), heard)
    assert run.rounds.next(heard) == trial
    chosen = replace(plan.study.resources, gpus_per_trial=0.5)
    session: Any = None  # these messages are answered by nothing
    run._hear(session, ("chosen", chosen, "2 trials share a GPU", {"trials_per_gpu": 2}))
    run._hear(session, ("started", trial.id))
    assert heard.sentences == ["2 trials share a GPU"] and heard.devices == ["cuda"]
    assert trial.job.device == "cpu" and executor.resources == chosen
    assert json.loads((tmp_path / "resources.json").read_text()) == {"trials_per_gpu": 2}


class Heard(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []
        self.devices: list[str] = []

    def warned(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def started(self, trial: PlannedTrial) -> None:
        self.devices.append(trial.job.device)
