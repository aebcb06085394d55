"""MMANet: rows T15-T18 of the method spec's section 10, its part of T1, mining, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import TrialFailure
from harness.method import EpochContext, Method
from harness.protocol.combinations import lattice
from harness.protocol.seeds import Noise, Streams
from methods.mmanet import (
    MMANet,
    entropy,
    histogram_divergence,
    margin_aware_distillation,
    normalised_entropy,
)
from methods.sf_md import SFMD
from tests.support.naive import case, on_resnet

LATE = 50
SURE, UNSURE = [200.0, 0.0], [0.0, 0.0]
ROOT = 1 / math.sqrt(2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mad(student: Tensor, teacher: Tensor, logits: Tensor, axis: str = "rows") -> float:
    return margin_aware_distillation(student, teacher, logits, axis).item()


# ---------------------------------------------------------------------- parameters


def test_T1_parameters() -> None:
    network = on_resnet(MMANet)
    assert network.parameter_counts() == {"training": 24_332_380, "inference": 13_182_554}
    assert on_resnet(MMANet).parameter_counts()["training"] - 13_182_554 == 11_149_826


@pytest.mark.parametrize("v", [2, 3, 4])
def test_T1_on_small_it_deploys_the_baseline_and_adds_its_trunk_and_head_in_training(
    v: int,
) -> None:
    baseline, counts = case(SFMD, v).fresh(), case(MMANet, v).fresh().parameter_counts()
    second = sum(
        p.numel() for name, p in baseline.named_parameters() if name.startswith(("trunk", "head"))
    )
    assert counts == {
        "training": baseline.parameter_counts()["training"] + second,
        "inference": baseline.parameter_counts()["training"],
    }


# ---------------------------------------------------------------------- margin-aware distillation


@pytest.mark.parametrize(
    "logits", [[UNSURE, SURE], [SURE, UNSURE], [UNSURE, UNSURE], [[1.0, 0.0], [0.0, 3.0]]]
)
@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_T15_mad_of_equal_student_rows_against_an_orthonormal_teacher(
    logits: list[list[float]], axis: str
) -> None:
    student = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    assert mad(student, torch.eye(2), torch.tensor(logits), axis) == pytest.approx(
        2 - math.sqrt(2), abs=1e-6
    )


@pytest.mark.parametrize(
    ("axis", "logits", "expected"),
    [
        ("rows", [UNSURE, SURE], 0.585786),
        ("columns", [UNSURE, SURE], 0.285786),
        ("rows", [UNSURE, UNSURE], 0.398466),
        ("columns", [UNSURE, UNSURE], 0.398466),
    ],
)
def test_T15_mad_values_tell_rows_from_columns(
    axis: str, logits: list[list[float]], expected: float
) -> None:
    student = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert mad(student, torch.eye(2), torch.tensor(logits), axis) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_T16_mad_invariances(axis: str) -> None:
    teacher, logits = random(6, 3, 2, 2), random(6, 4, seed=1)
    rotation = torch.linalg.qr(random(12, 12, seed=2)).Q
    turned = (2.5 * teacher.flatten(1) @ rotation).reshape(6, 3, 2, 2)
    assert mad(turned, teacher, logits, axis) == pytest.approx(0.0, abs=1e-9)
    student = random(6, 3, 2, 2, seed=3)
    found = mad(student, teacher, logits, axis)
    assert found > 0.1
    assert mad(
        (0.3 * student.flatten(1) @ rotation).reshape(6, 3, 2, 2), teacher, logits, axis
    ) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_T16_uniform_uncertainty_gives_b_times_the_mean_difference(axis: str) -> None:
    student, teacher = random(6, 8), random(6, 8, seed=1)
    cosines = []
    for flat in (student.double(), teacher.double()):
        gram = flat @ flat.T
        cosines.append(gram / gram.norm(dim=1, keepdim=True))
    expected = 6 * (cosines[0] - cosines[1]).square().mean().item()
    assert mad(student, teacher, torch.zeros(6, 4), axis) == pytest.approx(expected, rel=1e-5)


def test_T16_mad_trains_the_student_alone() -> None:
    student, teacher, logits = (random(6, 8, seed=seed).requires_grad_() for seed in range(3))
    margin_aware_distillation(student, teacher, logits, "rows").backward()  # type: ignore[no-untyped-call]
    assert (
        student.grad is not None
        and bool(student.grad.any())
        and teacher.grad is None
        and logits.grad is None
    )


def test_T17_entropy_at_large_gaps() -> None:
    found = entropy(torch.tensor([SURE, [0.0, 200.0], UNSURE, [math.log(3), 0.0]]))
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.tolist() == pytest.approx([0.0, 0.0, math.log(2), expected], abs=1e-6)
    p = torch.tensor(SURE).softmax(0)
    assert math.isnan((p * p.log()).sum().item())  # what the plain formula gives
    assert normalised_entropy(torch.tensor([SURE, SURE])).tolist() == [0.0, 0.0]
    assert normalised_entropy(torch.tensor([SURE, UNSURE, UNSURE])).tolist() == pytest.approx(
        [0.0, 0.5, 0.5]
    )


# ---------------------------------------------------------------------- mining


def val_scores(shares: dict[str, float], v: int, n: int = 20) -> Tensor:
    """(C, n, K) predictions of classes 0 and 1 only.

    The share of class 0 in each combination is given, or 0.7.
    """
    scores = torch.zeros(2**v - 1, n, 2)
    for position, combination in enumerate(lattice([f"m{k}" for k in range(v)])):
        first = round(n * shares.get(combination.name, 0.7))
        scores[position, :first, 0] = scores[position, first:, 1] = 1.0
    return scores


def lead(model: Method, scores: Tensor, epochs: int = 100) -> None:
    """Epochs without a step and with the same predictions on val; no labels."""
    for epoch in range(epochs):
        model.begin_epoch(EpochContext(epoch, epochs, model.combinations))
        model.end_epoch(EpochContext(epoch, epochs, model.combinations, scores))


def weak(model: Method) -> list[str]:
    return [c.name for c in model.combinations if model.weak[c.bits] > 0]  # type: ignore[index, operator]


def test_T18_mining_kl() -> None:
    # By hand: softmax(.9, .1) = (.68997, .31003) and softmax(.7, .3) = (.59869, .40131).
    assert histogram_divergence(
        torch.tensor([0.9, 0.1]), torch.tensor([0.7, 0.3])
    ).item() == pytest.approx(0.017904, abs=1e-6)
    assert histogram_divergence(
        torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    ).item() == pytest.approx(0.462117, abs=1e-6)
    assert histogram_divergence(torch.tensor([0.7, 0.3]), torch.tensor([0.7, 0.3])).item() == 0.0


def test_T18_distances_are_added_over_epochs_2_to_4() -> None:
    model = case(MMANet).fresh()
    lead(model, val_scores({"m0+m2": 0.9}, 3))
    expected = [0.0] * 8
    expected[5] = 3 * 0.017904
    assert model.distance.tolist() == pytest.approx(expected, abs=3e-6)  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(
    ("v", "shares", "expected"),
    [
        # Published: of three modalities the weakest pair and its singles, of two the weakest
        # single.
        (3, {"m0+m2": 0.9, "m0+m1": 0.8, "m1": 0.0}, ["m0", "m2", "m0+m2"]),
        (3, {"m1+m2": 0.4, "m0+m2": 0.9}, ["m1", "m2", "m1+m2"]),
        (2, {"m1": 0.4, "m0": 0.8}, ["m1"]),
        (2, {"m0": 1.0}, ["m0"]),
        # Ours: the weakest V - 1 and all their subsets; ties go to the lower index.
        (
            4,
            {"m0+m1+m3": 0.9, "m2": 0.0, "m1+m2": 0.0},
            ["m0", "m1", "m3", "m0+m1", "m0+m3", "m1+m3", "m0+m1+m3"],
        ),
        (3, {}, ["m0", "m1", "m0+m1"]),
    ],
)
def test_T18_weak_set(v: int, shares: dict[str, float], expected: list[str]) -> None:
    model = case(MMANet, v).fresh()
    lead(model, val_scores(shares, v))
    assert weak(model) == expected
    assert model.remarks(100) == [
        f"weak combinations (mined once, from predictions on val): {', '.join(expected)}"
    ]


def test_mining_counts_samples_of_val_that_have_every_modality() -> None:
    complete, scores = val_scores({"m0+m2": 0.9}, 3), val_scores({"m0+m1": 0.0}, 3, n=40)
    mixed, combinations = torch.cat([complete, scores], 1), lattice(["m0", "m1", "m2"])
    available = torch.ones(mixed.shape[1], 3, dtype=torch.bool)
    available[complete.shape[1] :, 1] = False
    expected = EpochContext(0, 1, combinations, complete).predicted_shares()
    context = EpochContext(0, 1, combinations, mixed, val_available=available)
    assert torch.equal(context.predicted_shares(), expected)
    available[:, 2] = False
    with pytest.raises(TrialFailure, match="samples of val that have every modality"):
        context.predicted_shares()


@pytest.mark.parametrize(
    ("epochs", "mined", "chosen", "start"),
    [
        (100, [2, 3, 4], 5, 6),
        (30, [1], 1, 2),
        (50, [1, 2], 2, 3),
        (8, [0], 0, 1),
        (1, [0], 0, None),
    ],
)
def test_mining_windows_scale_with_the_run(
    epochs: int, mined: list[int], chosen: int, start: int | None
) -> None:
    made = case(MMANet)
    model, scores = made.fresh().train(), val_scores({"m0+m2": 0.9}, 3)
    changed, filled, active = [], [], []
    for epoch in range(min(epochs, 12)):
        before = (model.distance.clone(), model.weak.clone())  # type: ignore[operator]
        model.begin_epoch(EpochContext(epoch, epochs, model.combinations))
        terms = made.losses(model, made.mixed, epoch)[0]
        assert terms["task"].item() > 0 and (terms["mad"].item() > 0) == (terms["mar"].item() > 0)
        active += [epoch] if terms["mad"].item() > 0 else []
        model.end_epoch(EpochContext(epoch, epochs, model.combinations, scores))
        changed += [] if torch.equal(before[0], model.distance) else [epoch]  # type: ignore[arg-type]
        filled += [] if torch.equal(before[1], model.weak) else [epoch]  # type: ignore[arg-type]
    assert (changed, filled) == (mined, [chosen])
    assert active == ([] if start is None else list(range(start, min(epochs, 12))))


def test_remarks_say_what_did_not_happen() -> None:
    model = case(MMANet).fresh()
    never = "distillation and regularisation never ran: they start at epoch 1 and training had 1"
    older = (
        "the selected weights are older than distillation and regularisation, which start at"
        " epoch 6"
    )
    assert (model.remarks(1), model.remarks(100)) == ([never], [older])


# ---------------------------------------------------------------------- gradients


def gradients(model: Method, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(named.items(), found, strict=True)
    }


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_gradients_of_regularisation(variant: str) -> None:
    """Without distillation: CE, plus 0.25 * mean(1[weak] CE_aux), as released 0.25 * n_weak *
    mean(CE_aux) (broadcast).
    """
    made = case(MMANet, mad=0.0, mar=0.25)
    made.variant = variant
    model = made.fresh()
    lead(model, val_scores({"m0+m2": 0.9}, 3))
    made.begin(model, LATE)
    terms, output, batch = made.losses(model, made.mixed)
    ce, auxiliary = (
        F.cross_entropy(x, batch.target, reduction="none")
        for x in (output.logits, output.extra["regulariser"])
    )
    chosen = torch.tensor(
        [
            tuple(row) in {(True, False, False), (False, False, True), (True, False, True)}
            for row in made.mixed.tolist()
        ]
    )
    assert chosen.sum() == 7
    own = (chosen * auxiliary).mean()
    broadcast = (chosen.reshape(-1, 1, 1, 1) * auxiliary).sum() / made.size
    assert broadcast.item() == pytest.approx(7 * auxiliary.mean().item(), rel=1e-5)
    expected = gradients(model, ce.mean() + 0.25 * (own if variant == "paper" else broadcast))
    found = gradients(model, terms["task"] + terms["mad"] + terms["mar"])
    assert all(
        bool(expected[name].any())
        for name in ("regulariser_head.linear.weight", "head.linear.weight")
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_distillation_trains_neither_heads_nor_the_regulariser() -> None:
    made = case(MMANet)
    model = made.fresh()
    made.begin(model, LATE)
    found = gradients(model, made.losses(model, made.mixed)[0]["mad"])
    trained = {name.split(".")[0] for name, gradient in found.items() if bool(gradient.any())}
    assert trained == {"encoders", "trunk"}


def test_P20_the_regulariser_is_called_once_per_step_and_never_in_evaluation() -> None:
    made, calls = case(MMANet), []
    model = made.fresh()
    for part in (model.regulariser_trunk, model.regulariser_head):
        part.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))  # type: ignore[union-attr, operator]
    made.begin(model, LATE)
    made.losses(model, made.mixed)
    assert len(calls) == 2
    seen = {
        name: int(x)
        for name, x in model.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    assert any(name.startswith("regulariser_trunk") for name in seen) and set(seen.values()) == {1}
    made.logits(model.eval(), made.mixed)
    assert len(calls) == 2


def test_A17_the_student_starts_from_the_baselines_random_weights_not_from_the_teacher() -> None:
    student, baseline = case(MMANet).fresh().state_dict(), case(SFMD).fresh().state_dict()
    assert all(torch.equal(student[name], x) for name, x in baseline.items())


def test_without_its_terms_it_is_the_baseline() -> None:
    made, plain = case(MMANet, mad=0.0, mar=0.0), case(SFMD)
    model, baseline = made.fresh(), plain.fresh()
    made.begin(model, LATE)
    plain.begin(baseline, LATE)
    found = gradients(model, torch.stack(list(made.losses(model, made.mixed)[0].values())).sum())
    for name, gradient in gradients(
        baseline, plain.losses(baseline, plain.mixed)[0]["task"]
    ).items():
        assert torch.equal(found[name], gradient)


def test_P15_the_teacher_stays_in_evaluation_mode_and_sees_everything() -> None:
    made = case(MMANet)
    model = made.fresh().train()
    teacher = model._teacher[0]  # type: ignore[index]
    seen: list[Tensor] = []
    teacher.trunk.register_forward_hook(lambda *_: seen.append(torch.tensor(teacher.training)))
    before = {name: x.clone() for name, x in teacher.state_dict().items()}
    made.lead(model)
    assert (
        len(seen) == 7 and not any(seen) and not any(p.requires_grad for p in teacher.parameters())
    )
    assert all(torch.equal(x, before[name]) for name, x in teacher.state_dict().items())
    noise = Noise(Streams(0).generator("noise"))
    with torch.no_grad():
        whole = teacher(made.split.inputs, torch.ones_like(made.mixed))
        output = model.combine(
            model.prepare(model.encode_all(made.split.inputs)), made.mixed, noise
        )
        made.begin(model, LATE)
        terms, again, _ = made.losses(model, made.mixed)
    expected = 30 * mad(again.z, whole.z, whole.logits)
    assert (
        terms["mad"].item() == pytest.approx(expected, rel=1e-5) and output.z.shape == again.z.shape
    )
