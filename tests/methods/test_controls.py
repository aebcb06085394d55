"""The three controls: their gradients equal those of plain and of weighted cross-entropy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.digits import Digits
from harness.backbones.small import Small
from harness.conformance.synthetic import LATE, Case, synthetic_spec
from harness.dataset import Modality
from harness.errors import UserError
from harness.method import EpochContext, Method
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from methods.dmrnet import DMRNet
from methods.sf_dmr_scaled import SFDMRScaled
from methods.sf_md import SFMD
from methods.sf_md_reweighted import SFMDReweighted
from methods.sf_md_scaled import SFMDScaled
from tests.support.naive import case

HARD = "m0,m2,m0+m2"
Gradients = dict[str, Tensor]


def gradients(method: Method, loss: Tensor) -> Gradients:
    method.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def of_all_terms(made: Case, present: Tensor, epoch: int = LATE) -> Gradients:
    method = made.fresh()
    made.begin(method, epoch)
    return gradients(
        method, torch.stack(list(made.losses(method, present, epoch)[0].values())).sum()
    )


def of_weighted_ce(v: int, present: Tensor, weight: list[float]) -> Gradients:
    """The gradient of (1/B) sum_i weight_i CE_i of a plain SF-MD, sample by sample.

    With the same initial weights.
    """
    made = case(SFMD, v)
    method = made.fresh().train()
    logits = method(made.split.inputs, present).logits
    ces = [
        F.cross_entropy(logits[i : i + 1], made.split.target[i : i + 1]) for i in range(made.size)
    ]
    return gradients(
        method,
        sum((w * ce for w, ce in zip(weight, ces, strict=True)), torch.zeros(())) / made.size,
    )


def assert_same(found: Gradients, expected: Gradients, factor: float = 1.0) -> None:
    assert found.keys() == expected.keys() and any(bool(g.any()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name],
            factor * gradient,
            atol=1e-6 * factor,
            rtol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


# ---------------------------------------------------------------------- scaled


@pytest.mark.parametrize(
    ("beta", "factor"), [(0.1, 3.7), (0.3, 9.2), (0.5, 14.7), (0.7, 20.2), (0.9, 25.7)]
)
def test_the_factor_of_each_beta_at_64_samples_and_three_modalities(
    beta: float, factor: float
) -> None:
    made = case(SFMDScaled, beta=beta)
    made.split, made.size = made.split.select(torch.arange(64) % made.size).received(), 64
    made.mixed = made.masks[torch.arange(64) % 7]
    method = made.fresh()
    made.begin(method, 6)
    terms = {
        name: float(term.detach()) for name, term in made.losses(method, made.mixed, 6)[0].items()
    }
    assert round(sum(terms.values()) / terms["task"], 1) == factor


@pytest.mark.parametrize(("v", "share"), [(2, 2 / 3), (3, 3 / 7), (4, 4 / 15)])
def test_T12_scaled_gradient_is_the_factor_times_plain_cross_entropy(v: int, share: float) -> None:
    made = case(SFMDScaled, v, beta=0.5)
    plain = of_weighted_ce(v, made.mixed, [1.0] * made.size)
    assert_same(of_all_terms(made, made.mixed), plain, 1 + 0.5 * made.size * share)
    assert_same(of_all_terms(made, made.mixed, epoch=5), plain)


@pytest.mark.parametrize("cls", [SFMDScaled, SFDMRScaled])
def test_T13_scaling_starts_with_epoch_6_of_100(cls: type[Method]) -> None:
    made = case(cls)
    for epoch in (0, 5, 6, 99):
        method = made.fresh()
        made.begin(method, epoch)
        scale = float(made.losses(method, made.mixed, epoch)[0]["scale"].detach())
        assert (scale > 0) == (epoch >= 6) and (scale == 0) == (epoch < 6)
    shorter = made.fresh()
    starts = []
    for epoch in range(30):
        shorter.begin_epoch(EpochContext(epoch, 30, shorter.combinations))
        starts.append(float(made.losses(shorter, made.mixed, epoch)[0]["scale"].detach()) > 0)
    assert starts.index(True) == 2 and all(starts[2:])
    assert made.fresh().remarks(30) == []
    assert made.fresh().remarks(1) == [
        "the loss was never scaled: that starts at epoch 1 and training had 1"
    ]


def test_T12_scaled_dmr_is_dmr_with_the_factor_on_its_task_loss_alone() -> None:
    made, dmr = case(SFDMRScaled, alpha=0.02, beta=0.7), case(DMRNet, alpha=0.02, beta=0.0)
    parts = {}
    for name in ("task", "kl"):
        method = dmr.fresh()
        dmr.begin(method, LATE)
        parts[name] = gradients(method, dmr.losses(method, dmr.mixed)[0][name])
    expected = {
        name: (1 + 0.7 * 16 * 3 / 7) * g + parts["kl"].get(name, 0.0)
        for name, g in parts["task"].items()
    }
    expected |= {name: g for name, g in parts["kl"].items() if name not in expected}
    assert_same(of_all_terms(made, made.mixed), expected)


@torch.no_grad()
def test_scaled_dmr_equals_the_released_loss_where_hard_samples_are_as_many_as_expected() -> None:
    """14 samples, every combination twice: 6 = 14 * 3 / 7 hard ones."""
    losses = {}
    for cls, variant, hparams in (
        (SFDMRScaled, "paper", {}),
        (DMRNet, "released", {"hard_set": HARD}),
    ):
        made = Case(
            cls, variant, synthetic_spec(3, 5), lambda spec: Small(spec, {"width": 8}), hparams
        )
        made.split, made.size = made.split.select(torch.arange(14)).received(), 14
        method = made.fresh()
        made.begin(method, LATE)
        losses[cls] = float(sum(made.losses(method, made.masks.repeat(2, 1))[0].values()))
    assert losses[SFDMRScaled] == pytest.approx(losses[DMRNet], rel=1e-6)


def test_scaled_dmr_mines_nothing() -> None:
    made = case(SFDMRScaled)
    terms = made.lead(method := made.fresh())
    assert set(terms) == {"task", "kl", "scale"}
    assert not bool(method.hard.any()) and not bool(method.variance_count.any())  # type: ignore[union-attr, operator]
    assert method.diagnostics() == {} and method.remarks(100) == []


def test_controls_have_the_parameters_of_what_they_control() -> None:
    for v in (2, 3, 4):
        plain, dmr = (case(cls, v).fresh().parameter_counts() for cls in (SFMD, DMRNet))
        assert case(SFMDScaled, v).fresh().parameter_counts() == plain
        assert case(SFMDReweighted, v, hard_set="m0").fresh().parameter_counts() == plain
        assert case(SFDMRScaled, v).fresh().parameter_counts() == dmr


# ---------------------------------------------------------------------- re-weighted


@pytest.mark.parametrize("epoch", [0, LATE])
@pytest.mark.parametrize(("v", "names"), [(3, HARD), (2, "m1"), (4, "m3.m1, m0+m1+m2+m3")])
def test_T12_reweighted_gradient_is_that_of_weighted_cross_entropy(
    v: int, names: str, epoch: int
) -> None:
    made = case(SFMDReweighted, v, beta=0.6, hard_set=names)
    hard = [set(name.strip().replace(".", "+").split("+")) for name in names.split(",")]
    weights = [
        1 + 0.6 * ({f"m{k}" for k in range(v) if row[k]} in hard) for row in made.mixed.tolist()
    ]
    assert len(set(weights)) == 2
    assert_same(of_all_terms(made, made.mixed, epoch), of_weighted_ce(v, made.mixed, weights))


def test_reweighted_equals_the_plain_loss_where_no_sample_is_hard() -> None:
    made = case(SFMDReweighted, 3, hard_set="m0")
    assert_same(
        of_all_terms(made, made.only(1)), of_weighted_ce(3, made.only(1), [1.0] * made.size)
    )


def test_reweighted_names_its_hard_set() -> None:
    method = case(SFMDReweighted, 3, hard_set=HARD).fresh()
    assert method.remarks(30) == ["hard combinations (given): m0, m2, m0+m2"]


def test_casia_surf_has_the_released_hard_set() -> None:
    faces = tuple(Modality(name, (3, 8, 8)) for name in ("rgb", "depth", "ir"))
    spec = replace(synthetic_spec(3, 2), name="casia_surf", modalities=faces)
    SFMDReweighted.check(spec, "paper", {})
    assert SFMDReweighted(Small(spec)).hard.tolist() == [0, 1, 0, 0, 1, 1, 0, 0]
    assert SFMDReweighted(Small(spec), hparams={"hard_set": "depth"}).hard.tolist() == [
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "",
            (
                r"\.sf_md_reweighted\.hard_set has no default on digits: give .* such as"
                r" hparams\.sf_md_reweighted\.hard_set=thumb"
            ),
        ),
        (
            "thum",
            (
                r"hparams\.sf_md_reweighted\.hard_set=thum: unknown modality 'thum'; did you mean"
                r" 'thumb'\?"
            ),
        ),
    ],
)
def test_other_data_needs_a_hard_set_before_anything_starts(
    tmp_path: Path, given: str, sentence: str
) -> None:
    arguments = [
        "methods=[sf_md_reweighted]",
        f"output={tmp_path}",
        f"hparams.sf_md_reweighted.hard_set={given}",
    ]
    with pytest.raises(UserError, match=sentence):
        Plan(load_study(arguments[:2] if not given else arguments))
    with pytest.raises(UserError, match=sentence):
        SFMDReweighted.check(Digits().spec, "paper", {"hard_set": given})


def test_a_set_of_two_is_given_on_the_command_line(tmp_path: Path) -> None:
    arguments = [
        "dataset.limit=60",
        "train.epochs=1",
        "seeds=[0]",
        "backbone.width=4",
        f"output={tmp_path}",
    ]
    hard = "hparams.sf_md_reweighted.hard_set='profile,thumb+profile'"
    (trial,) = Plan(load_study([*arguments, "methods=[sf_md_reweighted]", hard])).trials
    assert run_trial(trial.job).status == "done"
