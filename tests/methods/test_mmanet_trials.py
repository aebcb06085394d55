"""MMANet's teacher through the real trials: shared, frozen (row T30), its failures passed on.

And what incomplete data changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Split
from harness.errors import TrialFailure, UserError
from harness.method import Method, TrainBatch
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.schedule.local import LocalExecutor
from harness.store import Json, Store, file_sha256
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.evaluation import predict
from harness.training.loop import Trainer
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig
from harness.training.spec import Outcome
from harness.training.trial import run_trial
from methods.mmanet import MMANet, histogram_divergence
from methods.sf_md import SFMD

TINY = (
    "dataset.limit=96",
    "train.epochs=3",
    "train.batch_size=32",
    "seeds=[0]",
    "backbone.width=4",
)
INCOMPLETE = ("missing.train=random", "missing.rate=0.3")


class Silent:
    """Keeps how trials ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.outcomes: dict[str, Outcome] = {}

    def started(self, trial: PlannedTrial) -> None:
        self.begun.append(trial.row.label)

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None: ...

    def interrupted(self, trial: PlannedTrial, reason: str) -> None: ...

    def warned(self, sentence: str) -> None: ...

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.outcomes[trial.row.label] = outcome


def planned(output: Path, methods: str, *arguments: str) -> tuple[Plan, Store]:
    study = load_study([f"methods=[{methods}]", f"output={output}", *TINY, *arguments])
    return Plan(study), Store.below(study.output)


def execute(plan: Plan, store: Store) -> Silent:
    seen = Silent()
    LocalExecutor(plan.study.resources, plan.study.folder).run(
        plan.to_run(plan.states(store)), seen
    )
    return seen


def record(store: Store, trial: PlannedTrial) -> Json:
    found = store.trial(trial.id).record()
    assert found is not None, store.trial(trial.id).failure()
    return found


# ---------------------------------------------------------------------- T30


def test_T30_student_training_leaves_the_teacher_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = planned(tmp_path, "mmanet")
    adopt, adopted = MMANet.adopt, []

    def spied(self: MMANet, name: str, weights: Mapping[str, Tensor]) -> None:
        adopt(self, name, weights)
        adopted.append(self._teacher[0])

    monkeypatch.setattr(MMANet, "adopt", spied)
    (stage,) = plan.stages
    assert run_trial(stage.job).status == "done"
    stored = store.trial(stage.id)
    digest = file_sha256(stored / "weights.pt")
    (trial,) = plan.trials
    assert run_trial(trial.job).status == "done"
    (teacher,) = adopted
    assert isinstance(teacher, SFMD) and digest == file_sha256(stored / "weights.pt")
    before, after = stored.weights(), teacher.state_dict()
    assert before.keys() == after.keys() and any(name.endswith("running_mean") for name in before)
    # Every batch that the teacher's training saw was counted by its batch norms, and no other.
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in teacher.parameters())
    losses = store.trial(trial.id).history()[-1]["values"]
    assert losses["train/mad"] > 0 and losses["train/mar"] > 0


def test_the_teacher_is_no_part_of_the_student_s_weights(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "mmanet")
    execute(plan, store)
    names = store.trial(plan.trials[0].id).weights()
    parts = {name.split(".")[0] for name in names}
    assert parts == {
        "encoders",
        "trunk",
        "head",
        "regulariser_trunk",
        "regulariser_head",
        "weak",
        "distance",
        "active",
    }
    shared, mine = (store.trial(t.id).weights() for t in (plan.stages[0], plan.trials[0]))
    deployed = [name for name in mine if name.split(".")[0] in {"encoders", "trunk", "head"}]
    assert deployed == list(shared) and not any(
        torch.equal(shared[n], mine[n]) for n in deployed if n.endswith("weight")
    )


def test_the_student_resumes_with_its_teacher_exactly(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def stop(report: object) -> None:
        raise Killed

    whole, broken = (planned(tmp_path / name, "mmanet") for name in ("whole", "broken"))
    for plan, _ in (whole, broken):
        run_trial(plan.stages[0].job)
    run_trial(whole[0].trials[0].job)
    with pytest.raises(Killed):
        run_trial(broken[0].trials[0].job, stop)
    assert run_trial(broken[0].trials[0].job).status == "done"
    files = [record(store, plan.trials[0])["files"] for plan, store in (whole, broken)]
    assert files[0] == files[1]


# ----------------------------------------------------------- one teacher for all students of a seed


def test_the_teacher_is_the_dedicated_model_of_all_modalities_of_the_same_seed(
    tmp_path: Path,
) -> None:
    students = "mmanet,mmanet:released,{method: mmanet, hparams: {mad: 0.1}}"
    alone = planned(tmp_path, students, "seeds=[0,1]")[0]
    beside = planned(tmp_path, f"{students},dedicated,sf_md", "seeds=[0,1]")[0]
    full = {
        t.seed: t.id
        for t in beside.trials
        if t.row.label == "dedicated" and t.only == "thumb+spectrum+profile"
    }
    assert len(set(full.values())) == 2
    assert beside.stages == [] and [(s.seed, s.id) for s in alone.stages] == sorted(full.items())
    for plan in (alone, beside):
        needs = [(t.job.spec.needs, t.seed) for t in plan.trials if t.row.method == "mmanet"]
        assert len(needs) == 6 and all(needed == {"teacher": full[seed]} for needed, seed in needs)
    assert all(not t.job.spec.needs for t in beside.trials if t.row.method != "mmanet")
    assert len({t.id for t in beside.trials}) == len(beside.trials) == 2 * (3 + 7 + 1)


def test_a_student_that_stands_before_its_teacher_is_run_after_it(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path, "mmanet,mmanet:released,dedicated", "train.epochs=1", "dataset.limit=64"
    )
    seen = execute(plan, store)
    assert seen.begun == ["dedicated"] * 7 + ["mmanet", "mmanet:released"]
    assert {outcome.status for outcome in seen.outcomes.values()} == {"done"}


def test_a_failed_teacher_fails_its_students_with_its_reason(tmp_path: Path) -> None:
    plan, store = planned(
        tmp_path, "mmanet,mmanet:released", "train.lr=1e18", "train.schedule=constant"
    )
    seen = execute(plan, store)
    (stage,) = plan.stages
    failure = store.trial(stage.id).failure()
    assert failure is not None and failure["reason"].startswith("train/")
    assert seen.begun == ["mmanet teacher"] and len(seen.outcomes) == 3
    for trial in plan.trials:
        expected = f"its teacher (trial {stage.id}) failed: {failure['reason']}"
        assert seen.outcomes[trial.row.label] == Outcome(trial.id, "failed", expected)
        recorded = store.trial(trial.id).failure()
        assert (
            recorded is not None
            and recorded["reason"] == expected
            and store.trial(trial.id).history() == []
        )
    assert set(plan.states(store).values()) == {"failed"}


# ---------------------------------------------------------------------- incomplete training data


def test_it_refuses_incomplete_training_data(tmp_path: Path) -> None:
    sentence = (
        r"'mmanet' needs complete training data and missing\.train=random takes some away; .*"
        r" missing\.complete_subset=true"
    )
    with pytest.raises(UserError, match=sentence):
        planned(tmp_path, "sf_md,mmanet", *INCOMPLETE)


def test_it_trains_on_the_complete_subset_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, seen = MMANet.loss, []

    def spied(self: MMANet, output: object, batch: TrainBatch) -> object:
        seen.append((batch.phase[0], batch.index.clone(), bool(batch.available.all())))
        return loss(self, output, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(MMANet, "loss", spied)
    arguments = (*INCOMPLETE, "missing.complete_subset=true", "train.drop_last=false")
    plan, store = planned(tmp_path, "sf_md,mmanet", *arguments)
    execute(plan, store)
    baseline, student, stage = (record(store, trial) for trial in (*plan.trials, *plan.stages))
    assert all(complete for _, _, complete in seen)
    used = torch.cat([index for epoch, index, _ in seen if epoch == 1])
    # 0.7^3 of 96 samples, give or take four standard deviations.
    assert len(used) == len(used.unique()) and 14 <= len(used) <= 52
    expected = f"trained on the {len(used)} of 96 training samples that have all modalities"
    assert student["remarks"][0] == expected and len(student["remarks"]) == 2
    assert stage["remarks"] == [expected] and baseline["remarks"] == []


def test_complete_data_need_no_remark(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "mmanet", "missing.complete_subset=true")
    execute(plan, store)
    assert not any(
        re.search("trained on the", remark) for remark in record(store, plan.trials[0])["remarks"]
    )


def test_on_one_combination_the_student_still_trains_on_complete_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, available = Trainer._update, []

    def spied(self: Trainer, batch: TrainBatch, totals: dict[str, Tensor]) -> None:
        available.append(batch.available)
        step(self, batch, totals)

    plan = planned(
        tmp_path, "mmanet", *INCOMPLETE, "missing.complete_subset=true", "train.combination=thumb"
    )[0]
    run_trial(plan.stages[0].job)
    monkeypatch.setattr(Trainer, "_update", spied)
    assert run_trial(plan.trials[0].job).status == "done"
    assert available and all(bool(rows.all()) for rows in available)


class NoCheckpoints:
    def save(self, state: dict[str, object]) -> None: ...

    def load(self) -> None: ...


SPEC = synthetic_spec(3, 5)


def student() -> MMANet:
    """On the teacher's own, random weights."""
    with Streams(0).initialising("model"):
        backbone = Small(SPEC, {"width": 8})
        model = MMANet(backbone)
        model.adopt("teacher", SFMD(backbone).state_dict())
    return model


def trainer(model: Method, train: Split, val: Split, **recipe: str) -> Trainer:
    """For one epoch, at whose end MMANet looks at val."""
    return Trainer(
        model=model,
        train=train.select(torch.arange(512) % len(train)),
        val=val,
        metric=metric("accuracy"),
        recipe=TrainConfig(epochs=1, batch_size=32, lr=0.05, schedule="constant", **recipe),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(),
        streams=Streams(0),
        device=torch.device("cpu"),
        checkpoints=NoCheckpoints(),
        on_epoch=lambda progress: None,
    )


def test_mining_does_not_see_predictions_on_what_samples_of_val_lack() -> None:
    train, val = (synthetic_split(SPEC, samples) for samples in (64, 48))
    val.available[::2, 1] = False
    val.inputs["m1"][::2] = 100.0
    model = student()
    trainer(model, train, val).fit()
    complete = val.select(torch.arange(1, 48, 2))
    scores = predict(model, complete, 48, torch.device("cpu"))
    shares = [torch.bincount(s.argmax(1), minlength=5).float() / 24 for s in scores]
    expected = [float(histogram_divergence(share, shares[-1])) for share in shares]
    distance = [model.distance[c.bits].item() for c in model.combinations]
    assert distance == pytest.approx(expected, abs=1e-6)
    assert max(expected) > 0


def test_a_val_split_without_any_complete_sample_is_one_sentence() -> None:
    train, val = (synthetic_split(SPEC, samples) for samples in (64, 48))
    val.available[::2, 1] = False
    val.available[1::2, 2] = False
    with pytest.raises(TrialFailure, match="on samples of val that have every modality"):
        trainer(student(), train, val).fit()
    everything = {"combination": "m0+m1+m2"}
    with pytest.raises(
        TrialFailure, match=r"no sample of val has m0\+m1\+m2, by which the weights"
    ):
        trainer(SFMD(Small(SPEC, {"width": 8})), train, val, **everything)
