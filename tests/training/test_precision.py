"""train.precision: what is computed in bfloat16 and what stays float32, on every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness.robust.catalogue import CLEAN
from harness.robust.evaluation import Inputs, evaluate
from harness.schedule.driver import describe
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.evaluation import NOT_SHARED, gather, predict
from harness.training.fusion import Fusion
from harness.training.loop import Trainer
from harness.training.precision import (
    UndefinedGradient,
    computing_in,
    refuse_undefined_gradients,
)
from harness.training.trained_model import trained
from harness.training.trial import run_trial
from methods.sf_md import SFMD
from tests.support.trainers import LATE, NAMED, trainer_of

CPU = torch.device("cpu")
ARGUMENTS = ["methods=[dmrnet]", "seeds=[0]", "train.epochs=2", "dataset.limit=200"]


def in_bf16(trainer: Trainer) -> Trainer:
    trainer.recipe.precision = "bf16"
    return trainer


def plan_of(output: Path, *more: str) -> Plan:
    return Plan(load_study([*ARGUMENTS, f"output={output}", *more]))


@pytest.mark.parametrize("named", NAMED)
def test_only_forward_passes_are_narrow(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, what they receive, gradients, buffers and momentum stay float32 in a real epoch."""
    trainer, narrow, seen = in_bf16(trainer_of(named)), [], []
    model, loss = trainer.model, trainer.model.loss
    for module in model.encoders.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, out: narrow.append(out.dtype))

    def watched(output: Any, batch: Any) -> Any:
        assert not torch.is_autocast_enabled("cpu")
        given = [output.logits, output.z, *output.extra.values(), *tree_leaves(batch.features)]
        given += [logits for logits, _ in output.aux.values()]
        terms = loss(output, batch)
        seen.extend(t.dtype for t in (*given, *terms.values()) if t.is_floating_point())
        return terms

    monkeypatch.setattr(model, "loss", watched)
    trainer._train_epoch(LATE)
    assert torch.bfloat16 in narrow
    state = [leaf for leaf in tree_leaves(trainer.optimiser.state_dict()["state"])]
    kept: list[Tensor] = [
        *model.parameters(),
        *model.buffers(),
        *(p.grad for p in model.parameters() if p.grad is not None),
        *(leaf for leaf in state if isinstance(leaf, Tensor)),
    ]
    assert {t.dtype for t in kept if t.is_floating_point()} == {torch.float32}
    assert set(seen) == {torch.float32}


def test_batch_norm_counts_in_float32_what_it_is_given() -> None:
    """The running mean after one batch is 0.1 of the batch's mean, to more than bfloat16's bits."""
    norm, x = nn.BatchNorm2d(3), 5 + torch.randn(64, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        norm(x)
    expected = 0.1 * x.double().mean((0, 2, 3))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("named", ["sf_md", "dmrnet", "mmformer", "rfnet"])
def test_evaluation_in_bfloat16_is_near_that_in_float32(named: str) -> None:
    """Scores are float32; shared calls agree with single ones to what bfloat16 can tell."""
    trainer = trainer_of(named)
    exact = predict(trainer.model, trainer.val, 16, CPU)
    remarks: list[str] = []
    rounded = predict(trainer.model, trainer.val, 16, CPU, "bf16", remarks)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).abs().max()) < 0.05 * float(exact.abs().max())
    shared = gather(
        trainer.model, trainer.val, 16, CPU, at_once=1 << 30, precision="bf16", remarks=remarks
    )["scores"]
    assert float((shared - rounded).abs().max()) < 0.05 * float(exact.abs().max())
    assert remarks == []


def test_a_trial_in_bfloat16_is_trained_evaluated_and_recorded(tmp_path: Path) -> None:
    """Its scores come out again bit for bit from its weights in bf16, and not in float32."""
    found = {}
    for precision in ("float32", "bf16"):
        plan = plan_of(tmp_path, f"train.precision={precision}")
        trial = plan.trials[0]
        assert run_trial(trial.job).status == "done"
        store = Store(Path(trial.job.store))
        record = store.trial(trial.id).record()
        assert record is not None
        assert record["spec"]["train"]["precision"] == precision
        model, split = trained(trial.job, store), trial.job.open_dataset().load("test")
        stored = torch.from_numpy(np.asarray(store.trial(trial.id).scores()["test"]))
        equal = {
            used: torch.equal(predict(model, split, 256, CPU, used), stored)
            for used in ("float32", "bf16")
        }
        assert equal == {"float32": precision == "float32", "bf16": precision == "bf16"}
        clean = []
        data = trial.job.open_dataset()
        raws = {name: data.raw("test", name) for name in data.spec.names}
        evaluate(
            model,
            Inputs(split, raws),
            [CLEAN],
            256,
            CPU,
            lambda _, scores, __, clean=clean: clean.append(scores),
            precision=trial.job.spec.evaluated_in,
        )
        assert torch.equal(clean[0], stored)
        found[precision] = stored
    gap = (found["bf16"] - found["float32"]).abs()
    assert 0 < float(gap.max()) < 0.2 * float(found["float32"].abs().max())


def test_a_precision_is_part_of_an_id_unless_it_is_what_was_always_used(tmp_path: Path) -> None:
    ids = {
        arguments: plan_of(tmp_path, *arguments).trials[0].id
        for arguments in (
            (),
            ("train.precision=float32",),
            ("evaluation.precision=float32",),
            ("train.precision=bf16",),
            ("train.precision=bf16", "evaluation.precision=bf16"),
            ("train.precision=bf16", "evaluation.precision=float32"),
            ("train.precision=tf32",),
            ("evaluation.precision=bf16",),
        )
    }
    first, same, also, narrow, named, wide, tf32, evaluated = ids.values()
    assert first == same == also
    assert narrow == named
    assert len({first, narrow, wide, tf32, evaluated}) == 5


def test_shipped_studies_have_the_ids_that_they_had() -> None:
    """Those that were printed before there was a choice of precision."""
    plan = Plan(load_study(["study=quickstart"]))
    assert [trial.id for trial in plan.trials[:3]] == [
        "4481d5d905700e7c",
        "a58cde7b9614a139",
        "e0bef2b4cff839a3",
    ]


def test_a_plan_says_its_precision_and_which_rows_do_not_survive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(*more: str) -> list[str]:
        plan = plan_of(tmp_path, "methods=[sf_md,dmrnet]", *more)
        text = describe(plan, dict.fromkeys((t.id for t in plan.trials), "new"))
        return [line for line in text.splitlines() if line.startswith("  precision: ")]

    assert lines() == []
    assert lines("train.precision=tf32") == [
        "  precision: trials are trained and evaluated in tf32; a CPU has no TF32 and computes it"
        " as float32"
    ]
    monkeypatch.setattr(SFMD, "float32_only", "its test says so")
    first, second = lines("train.precision=bf16", "evaluation.precision=float32")
    assert first.startswith("  precision: trials are trained in bf16 and evaluated in float32")
    assert second == "  precision: sf_md does not survive bf16: its test says so"


def _weight_gradient(width: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((16, 16, 2, width), (32, 16, 3, 3))
    )
    y = nn.functional.conv2d(x, weight.requires_grad_(), stride=2, padding=1)
    (gradient,) = torch.autograd.grad(y, weight, torch.ones_like(y))
    return gradient.double()


@pytest.mark.parametrize("width", [2, 3, 8])
def test_convolutions_that_are_not_refused_have_the_gradient_of_float64(width: int) -> None:
    expected = _weight_gradient(width, torch.float64)
    found = _weight_gradient(width, torch.bfloat16)
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())


def test_a_network_with_an_undefined_gradient_is_refused_in_bfloat16_on_a_cpu() -> None:
    """Stride 2 on a map of width 1 in training; evaluation and float32 have no such gradient."""
    net = nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 3, 2, 1))
    refuse_undefined_gradients(net, "float32", CPU)
    net(torch.zeros(1, 2, 4, 2))
    refuse_undefined_gradients(net, "bf16", CPU)
    net(torch.zeros(1, 2, 4, 4))
    net.eval()(torch.zeros(1, 2, 4, 2))
    with pytest.raises(UndefinedGradient, match="stride 2 gets a map 1 wide, and its gradient"):
        net.train()(torch.zeros(1, 2, 4, 2))


def test_tf32_is_allowed_for_a_trial_and_then_what_it_was() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    with computing_in("tf32"):
        assert products.allow_tf32 and convolutions.allow_tf32
        with computing_in("float32"):
            assert not products.allow_tf32 and not convolutions.allow_tf32
        assert products.allow_tf32 and convolutions.allow_tf32
    assert (products.allow_tf32, convolutions.allow_tf32) == before


def test_calls_that_may_not_be_shared_are_remarked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose combinations fall back to a call each says so; its scores are the same bits."""
    trainer, logits = trainer_of("sf_md"), Fusion.logits

    def otherwise(self: Fusion, cache: Any, call: Tensor, rows: int) -> Tensor:
        found = logits(self, cache, call, rows)
        return found if len(call) == 1 else found * 1.001

    remarks: list[str] = []
    alone = predict(trainer.model, trainer.val, 16, CPU)
    monkeypatch.setattr(Fusion, "logits", otherwise)
    for _ in range(2):
        found = gather(trainer.model, trainer.val, 16, CPU, at_once=1 << 30, remarks=remarks)
        assert torch.equal(found["scores"], alone)
    assert remarks == [NOT_SHARED]
