"""How long a study will take: the arithmetic, the store's history, and a probe of a real method."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import harness.schedule.forecast as forecast_module
from harness.errors import TrialFailure
from harness.schedule.forecast import _Imported, forecast_lines, kind, makespan, slots, spoken
from harness.schedule.probe import Measured, measure, samples_per_epoch
from harness.store import Store
from harness.study.config import ResourcesConfig, Study
from harness.study.plan import Plan, PlannedTrial
from harness.training.loop import Trainer
from harness.training.recipe import TrainConfig
from harness.training.spec import Job
from harness.training.trial import run_trial

MakeStudy = Callable[..., Study]


@pytest.mark.parametrize("drop_last", [True, False])
def test_samples_of_an_epoch_are_those_that_the_loop_trains_on(
    monkeypatch: pytest.MonkeyPatch, make_job: Callable[..., Job], drop_last: bool
) -> None:
    """Against the batches of real epochs, of 8 samples each, of splits with and without a rest."""
    seen: list[int] = []
    original = Trainer._batches

    def counted(self: Trainer, epoch: int) -> list[torch.Tensor]:
        batches = original(self, epoch)
        seen.append(sum(map(len, batches)))
        raise TrialFailure("seen")

    monkeypatch.setattr(Trainer, "_batches", counted)
    sizes = (5, 9, 20)
    for limit in sizes:
        job = make_job(limit=limit)
        train = job.spec.train | {"batch_size": 8, "drop_last": drop_last}
        run_trial(dataclasses.replace(job, spec=dataclasses.replace(job.spec, train=train)))
    recipe = TrainConfig(batch_size=8, drop_last=drop_last)
    assert seen == [samples_per_epoch(size, recipe) for size in sizes]
    assert seen == ([5, 8, 16] if drop_last else [5, 8, 20])


def test_a_trial_is_its_epochs_its_evaluations_and_what_is_beside() -> None:
    found = Measured(trained=2.0, evaluated=0.5, saving=3.0, beside=7.0)
    counts = {"train": 10, "val": 4, "test": 6}
    recipe = TrainConfig(epochs=3, batch_size=4)  # trains on 8 of 10
    # 3 epochs of 16 + 2, behind them val once and test twice, all of it twice as slow.
    assert found.seconds(counts, recipe, 2.0) == 2 * (3 * 18 + 8) + 3 * 3 + 7


def test_trials_follow_each_other_where_there_is_room() -> None:
    assert makespan([5.0, 1.0, 1.0, 1.0, 1.0], 2) == 5.0
    assert makespan([1.0, 1.0, 1.0, 1.0, 5.0], 2) == 7.0  # the long one comes last
    assert makespan([2.0] * 9, 2) == 10.0
    assert makespan([], 2) == 0.0


def test_rooms_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert slots(ResourcesConfig(cpus_per_trial=2), "cpu", "ray") == 4
    assert slots(ResourcesConfig(cpus_per_trial=2), "cpu", "local") == 1
    assert slots(ResourcesConfig(max_concurrent=3), "cpu", "ray") == 3
    assert slots(ResourcesConfig(gpus_per_trial=0.33), "cuda", "ray") == 6
    assert slots(ResourcesConfig(gpus_per_trial=0.1), "cuda", "ray") == 8  # the CPUs end first
    assert slots(ResourcesConfig(cpus_per_trial=99), "cpu", "ray") == 1


def test_durations_in_words() -> None:
    words = [spoken(seconds) for seconds in (48.3, 179.4, 400, 9000, 500_000)]
    assert words == ["48 s", "179 s", "7 min", "2.5 h", "5.8 days"]


def lines(plan: Plan, todo: list[PlannedTrial] | None = None) -> list[str]:
    store = Store.below(plan.study.output)
    todo = plan.to_run(plan.states(store)) if todo is None else todo
    said: list[str] = []
    return forecast_lines(plan, store, todo, [*plan.stages, *plan.trials], said.append)


def test_finished_trials_of_the_kind_say_what_the_next_take(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of 100 and 300 s are in the store: the third takes 200 s. Nothing is probed."""
    monkeypatch.setattr(forecast_module, "_imports", lambda: _Imported(2.0, 1.0))
    monkeypatch.setattr(forecast_module, "measure", None)
    plan = Plan(make_study(seeds=[0, 1, 2]))
    store = Store.below(plan.study.output)
    for trial, seconds in zip(plan.trials, (100.0, 300.0), strict=False):
        run_trial(trial.job)
        record = store.trial(trial.id).record()
        assert record is not None
        del record["sha256"], record["curve_sha256"]
        store.trial(trial.id).save_record("record.json", record | {"seconds": seconds})
    # Two imports' time behind it, and nothing before it without Ray.
    assert lines(plan) == [
        "  time: about 3 min on this machine (1 trials of 3 min, 1 at once: 3 min;"
        " start, report and tracking: 4 s)",
        "        from finished trials of 1 kinds",
    ]
    assert lines(plan, []) == []


def test_a_trial_that_was_interrupted_has_its_last_epochs_to_go(make_study: MakeStudy) -> None:
    plan = Plan(make_study(epochs=4))
    job = plan.trials[0].job
    store = Store(Path(job.store))
    assert forecast_module._left(store, job) == 1.0
    store.trial(job.spec.id).path.mkdir(parents=True)
    line = json.dumps({"step": 0, "time": 1.0, "values": {}})
    (store.trial(job.spec.id) / "metrics.jsonl").write_text(line + "\n")
    assert forecast_module._left(store, job) == 0.75


def test_kinds_differ_in_what_costs_time_and_in_nothing_else(make_study: MakeStudy) -> None:
    def kinds(**arguments: object) -> set[str]:
        plan = Plan(make_study(**arguments))
        return {kind(dataclasses.asdict(trial.job.spec)) for trial in plan.trials}

    one = kinds(seeds=[0, 1, 2])
    assert len(one) == 1 and kinds(seeds=[7]) == one
    assert len(kinds(methods=["dedicated"])) == 1  # a model for each of 7 combinations
    assert kinds(methods=["hemis"]) != one and kinds(epochs=3) != one and kinds(limit=50) != one


def test_a_probe_measures_a_real_trial_and_leaves_nothing(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job("mmanet", limit=60, epochs=9)
    before = sorted(tmp_path.rglob("*"))
    plan = Plan(
        Study(methods=["mmanet"], output=str(tmp_path / "runs")),
    )
    (stage,) = plan.stages
    found = measure(job, [("teacher", stage.job)])
    assert found.problem == ""
    assert 0 < found.evaluated < 0.1 and 0 < found.trained < 0.1
    assert found.clock > 0 and found.work > 0 and found.saving > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_tried_is_said(make_job: Callable[..., Job]) -> None:
    job = make_job()
    broken = dataclasses.replace(job.spec, train=job.spec.train | {"lr": 1e30})
    assert "a smaller train.lr" in measure(dataclasses.replace(job, spec=broken), []).problem


def test_a_gpu_that_is_not_there_is_not_measured(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(forecast_module, "_imports", lambda: _Imported(2.0, 1.0))
    study = make_study(resources=ResourcesConfig(gpus_per_trial=1), seeds=[0, 1])
    plan = Plan(study)
    run_trial(dataclasses.replace(plan.trials[0].job, device="cpu"))
    first, second, third = lines(plan)
    assert re.match(r"  time: about \d+ s on this machine's CPU \(1 trials of \d+ s, 1 at", first)
    assert second == "        a GPU was not measured, because there is none here"
    assert third == "        from finished trials of 1 kinds"
    # Where the cluster's nodes decide, the time is of this machine's CPU, and says what it is not.
    on_cluster = ResourcesConfig(address="HOST:1")
    undecided = dataclasses.replace(study, resources=on_cluster, executor="ray")
    first, *others = lines(Plan(undecided))
    assert re.match(r"  time: about \d+ s on this machine \(1 trials of \d+ s, \d+ at", first)
    assert others == [
        third,
        "        the cluster's other machines are not counted",
        "        if it has GPUs, trials train there: none was measured",
    ]
