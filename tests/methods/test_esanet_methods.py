"""Methods on ``esanet``: which form each works on, and the conformance checks on a narrow one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.backbones.esanet import ESANet
from harness.conformance.synthetic import Case, synthetic_spec
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Value
from harness.protocol.masks import combination_index
from harness.registry import METHODS
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.testing import check_method, run_check
from harness.training.trial import run_trial
from methods._blocks import gaussian_kl
from methods.dmrnet import DMRNet
from tests.support.blocks import install

HPARAMS: dict[str, dict[str, Value]] = {
    "sf_md_reweighted": {"hard_set": "m0"},
    "mmformer": {"d": 32, "heads": 4, "mlp": 64},
}
"""What a method needs on data it knows nothing about, and sizes for speed."""

CHOSEN = ("shapes", "leak", "cache", "parameters")
"""Of the conformance checks; all of them on 16 deep networks would take ten minutes."""

PARALLEL = [
    name
    for name in METHODS.names()
    if "segmentation" in METHODS.get(name).tasks and METHODS.get(name).separate
]
CASES = [(name, variant) for name in PARALLEL for variant in METHODS.get(name).variants]


def narrow(spec: DataSpec, form: str = "parallel") -> ESANet:
    return ESANet(spec, {"encoder": "r18_nbt1d", "width": 8, "form": form})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_method_conforms_on_a_narrow_parallel_esanet(name: str, variant: str) -> None:
    case = Case(
        METHODS.get(name),
        variant,
        synthetic_spec(2, 4, "segmentation", side=64),
        narrow,
        HPARAMS.get(name),
    )
    for check in CHOSEN:
        run_check(check, case)


JOINT = [
    name
    for name in METHODS.names()
    if "segmentation" in METHODS.get(name).tasks and METHODS.get(name).joint
]


def test_what_works_on_the_joint_form() -> None:
    assert JOINT == ["dmrnet", "esanet_md", "sf_dmr", "sf_dmr_scaled"]
    assert [name for name in JOINT if not METHODS.get(name).separate] == ["esanet_md"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"), [(name, v) for name in JOINT for v in METHODS.get(name).variants]
)
def test_method_conforms_on_a_narrow_joint_esanet(name: str, variant: str) -> None:
    spec, joint = synthetic_spec(2, 4, "segmentation", side=64), partial(narrow, form="joint")
    case = Case(METHODS.get(name), variant, spec, joint, HPARAMS.get(name))
    for check in CHOSEN:
        run_check(check, case)


@pytest.mark.slow
def test_esanet_md_conforms_on_the_joint_form() -> None:
    joint = partial(narrow, form="joint")
    check_method(
        METHODS.get("esanet_md"),
        modalities=(2,),
        classes=(4,),
        task="segmentation",
        backbone=joint,
        side=64,
    )


def test_methods_and_forms_that_do_not_fit_are_refused() -> None:
    spec = synthetic_spec(2, 4, "segmentation", side=64)
    baseline, joint = (METHODS.get(name) for name in ("sf_md", "esanet_md"))
    with pytest.raises(
        UserError, match=r"'sf_md' fuses what separate encoders return.*backbone\.form=parallel"
    ):
        baseline.check_backbone(narrow(spec, "joint"))
    with pytest.raises(
        UserError,
        match=(
            r"'esanet_md' needs a backbone that mixes.*backbone\.form=joint.*sf_md is its"
            r" counterpart"
        ),
    ):
        joint.check_backbone(narrow(spec))
    baseline.check_backbone(narrow(spec))
    joint.check_backbone(narrow(spec, "joint"))


@pytest.mark.parametrize(("form", "method"), [("joint", "esanet_md"), ("parallel", "sf_md")])
def test_a_whole_trial_with_the_published_recipe(
    form: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    network = [
        "backbone=esanet",
        "backbone.encoder=r18_nbt1d",
        "backbone.width=4",
        f"backbone.form={form}",
    ]
    recipe = [
        "train.epochs=2",
        "train.batch_size=8",
        "train.schedule=onecycle",
        "train.clip_norm=20",
    ]
    arguments = [
        "study=quickstart",
        "dataset=synthetic",
        f"methods=[{method}]",
        "seeds=[0]",
        f"output={tmp_path}",
        *network,
        *recipe,
    ]
    plan = Plan(load_study(arguments))
    trial = plan.trials[0]
    outcome = run_trial(trial.job)
    assert outcome.status == "done", outcome.reason
    record = Store.below(plan.study.output).trial(trial.id).record()
    assert record is not None and record["remarks"][0].startswith("scratch: ")
    assert (
        sorted(record["combinations"]) == sorted(record["cells"]["test"]) == ["m0", "m0+m1", "m1"]
    )
    assert "pretrained" not in trial.job.spec.backbone and trial.job.spec.backbone["form"] == form
    other = "parallel" if form == "joint" else "joint"
    with pytest.raises(UserError, match="mixes modalities while encoding"):
        Plan(load_study([*arguments, f"backbone.form={other}"]))


# ------------------------------------------------------------ DMRNet at the context module's output


def dmrnet(variant: str = "paper") -> tuple[Case, DMRNet]:
    case = Case(DMRNet, variant, synthetic_spec(2, 4, "segmentation", side=64), narrow)
    model = case.fresh()
    assert isinstance(model, DMRNet)
    case.begin(model, 50)
    return case, model


def test_kl_is_summed_over_channels_and_averaged_over_places() -> None:
    mu, logvar = (
        torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    place = torch.distributions.Independent(
        torch.distributions.Normal(mu.movedim(1, -1), (0.5 * logvar).exp().movedim(1, -1)), 1
    )
    unit = torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros(2, 4, 5, 3), torch.ones(2, 4, 5, 3)), 1
    )
    per_place = torch.distributions.kl_divergence(place, unit)
    assert tuple(per_place.shape) == (2, 4, 5)
    torch.testing.assert_close(gaussian_kl(mu, logvar, per_place=True), per_place.mean())
    torch.testing.assert_close(gaussian_kl(mu, logvar), per_place.sum((1, 2)).mean())


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_dmrnet_samples_the_context_output_and_its_kl_has_a_gradient(variant: str) -> None:
    case, model = dmrnet(variant)
    terms, output, _ = case.losses(model, case.mixed)
    mu, logvar = output.extra["mu"], output.extra["logvar"]
    assert tuple(output.z.shape[1:]) == tuple(mu.shape[1:]) == (64, 2, 2)
    torch.testing.assert_close(terms["kl"], 1e-3 * gaussian_kl(mu, logvar, per_place=True))
    mean, variance = torch.autograd.grad(terms["kl"], (mu, logvar), retain_graph=True)
    places = mu.shape[0] * mu.shape[2] * mu.shape[3]
    torch.testing.assert_close(mean, 1e-3 * mu.detach() / places)
    torch.testing.assert_close(variance, 1e-3 * 0.5 * (logvar.detach().exp() - 1) / places)


def test_dmrnets_noise_enters_at_the_context_output_and_nowhere_else() -> None:
    case, model = dmrnet()
    seen: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    model.head.register_forward_hook(lambda module, given, output: seen.append(given))
    for seed in (1, 2):
        model.combine(
            model.prepare(model.encode_all(case.split.inputs)), case.mixed, case.noise(seed)
        )
    (first, skips), (second, others) = seen
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(skips, others, strict=True)) and len(skips) == 4


def test_hcr_weighs_all_four_scales_of_hard_samples() -> None:
    case, model = dmrnet()
    model.hard[1] = 1.0
    terms, output, batch = case.losses(model, case.mixed)
    ce = model.task_loss(output.logits, batch.target)
    hard = combination_index(case.mixed) == 1
    assert 0 < int(hard.sum()) < len(hard)
    torch.testing.assert_close(terms["hcr"], 0.7 * ce[hard].sum() / len(hard))
    gradient = torch.autograd.grad(terms["hcr"], [stage.side.weight for stage in model.head.stages])  # type: ignore[union-attr]
    assert all(bool(g.any()) for g in gradient)
