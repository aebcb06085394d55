"""RFNet: the test matrix, phases and losses.

Closed forms: test_rfnet_regions.py; second implementation: test_rfnet_naive.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.method import Losses, Method
from harness.study.config import load_study
from harness.study.plan import Plan
from methods.rfnet import RFNet
from tests.support import matrix_rows as rows

FORMS = [("classification", True), ("classification", False), ("segmentation", True)]


def gradients(model: Method, terms: Losses, *names: str) -> None:
    """Backward through the named terms only (all without names)."""
    model.zero_grad(set_to_none=True)
    torch.stack([terms[n] for n in names or terms]).sum().backward()  # type: ignore[no-untyped-call]


def largest(module: Any) -> float:
    return max(
        (float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None), default=0.0
    )


def step(model: Method, present: Tensor | None = None) -> Losses:
    present = rows.mixed_masks(model) if present is None else present
    return rows.losses(model, rows.make_batch(model, rows.make_inputs(model), present))


# ---------------------------------------------------------------------- the matrix


@pytest.mark.parametrize(("task", "aligned"), FORMS)
def test_matrix_01_02_08_09_leak_gradients_rows_split(task: str, aligned: bool) -> None:
    model = rows.make_model(RFNet, rows.make_spec(3, 4, task, aligned))
    rows.row_01_leak(model)
    rows.row_02_feature_gradients(model)
    rows.row_08_rows_alone(model)
    rows.row_09_split_equals_forward(model)


@pytest.mark.parametrize(("task", "aligned"), FORMS)
@pytest.mark.parametrize("v", [0, 1, 2])
def test_matrix_03_absent_encoder_learns_only_when_its_sep_loss_is_unmasked(
    task: str, aligned: bool, v: int
) -> None:
    for sep_absent in (False, True):
        model = rows.make_model(
            RFNet, rows.make_spec(3, 4, task, aligned), sep_absent=sep_absent
        ).train()
        rows.begin(model)
        gradients(model, step(model, (torch.arange(3) != v).expand(8, -1)))
        assert (largest(model.encoders[v]) > 0) == sep_absent
        assert all(largest(model.encoders[u]) > 0 for u in range(3) if u != v)


@pytest.mark.parametrize(("task", "aligned"), FORMS)
@pytest.mark.parametrize("sep_absent", [False, True])
def test_matrix_03_absent_features_train_nothing(
    task: str, aligned: bool, sep_absent: bool
) -> None:
    model = rows.make_model(RFNet, rows.make_spec(3, 4, task, aligned), sep_absent=sep_absent)
    rows.row_03_absent_features_train_nothing(model)


@pytest.mark.parametrize("aligned", [True, False])
def test_matrix_05_rfnet_is_not_permutation_invariant(aligned: bool) -> None:
    assert (
        rows.row_05_change_under_permutation(
            rows.make_model(RFNet, rows.make_spec(aligned=aligned))
        )
        > 1e-3
    )


@pytest.mark.parametrize(("task", "aligned"), FORMS)
@torch.no_grad()
def test_matrix_06_equivariant_under_joint_permutation(task: str, aligned: bool) -> None:
    order, spec = [2, 0, 1], rows.make_spec(3, 4, task, aligned)
    model, moved = rows.make_model(RFNet, spec), rows.make_model(RFNet, spec, seed=7)
    moved.load_state_dict(
        {name: permuted(name, model.state_dict(), order) for name in model.state_dict()}
    )
    inputs, present = rows.make_inputs(model), rows.mixed_masks(model)
    turned = {f"m{i}": inputs[f"m{v}"] for i, v in enumerate(order)}
    a, b = model(inputs, present), moved(turned, present[:, order])
    assert torch.allclose(a.logits, b.logits, atol=1e-4)
    assert all(torch.allclose(a.extra[name], b.extra[name], atol=1e-4) for name in a.extra)


def permuted(name: str, old: dict[str, Tensor], order: list[int]) -> Tensor:
    """A weight of the model whose modality i is the old model's modality order[i]: input blocks,
    gates' inputs and outputs.
    """
    group, _, rest = name.partition(".")
    if group == "encoders":
        return old[f"encoders.{order[int(rest[0])]}{rest[1:]}"]
    weight = old[name]
    if name.endswith(("embed.0.0.weight", "shortcut.0.0.weight")):
        return weight.unflatten(1, (3, -1))[:, order].flatten(1, 2)
    if ".gates." in name and name.endswith(".0.weight"):
        return torch.cat(
            [weight[:, :-1].unflatten(1, (3, -1))[:, order].flatten(1, 2), weight[:, -1:]], 1
        )
    return (
        weight[order] if ".gates." in name and name.endswith((".2.weight", ".2.bias")) else weight
    )


@pytest.mark.parametrize(("task", "aligned"), FORMS)
def test_matrix_07_single_modality_trains(task: str, aligned: bool) -> None:
    rows.row_07_single_modality(rows.make_model(RFNet, rows.make_spec(3, 4, task, aligned)))


def test_matrix_10_trunk_takes_c_channels_and_maps_have_one_channel_per_class() -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(4, 12))
    assert model.trunk.layers[0].in_channels == 8 and model.k == 8
    output = model(rows.make_inputs(model), rows.mixed_masks(model))
    assert output.extra["prm/0"].shape == (8, 12, 2, 2) and output.logits.shape == (8, 12)


@pytest.mark.parametrize("aligned", [True, False])
def test_matrix_12_sizes(aligned: bool) -> None:
    rows.row_12_sizes(RFNet, "paper", aligned)


def test_matrix_13_all_absent_raises() -> None:
    assert "every row of `present` needs a True" in rows.row_13_all_absent(rows.make_model(RFNet))


@pytest.mark.parametrize("sep_head", ["trunk", "linear"])
def test_matrix_15_decidable_bits_are_learned_and_no_others(sep_head: str) -> None:
    for name, (accuracy, possible) in rows.row_15_accuracies(RFNet, sep_head=sep_head).items():
        assert accuracy == possible, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("norm", ["auto", "instance"])
def test_matrix_16_half_precision(dtype: torch.dtype, norm: str) -> None:
    rows.row_16_half_precision(rows.make_model(RFNet, norm=norm), dtype)


@torch.no_grad()
@pytest.mark.parametrize("sep_head", ["trunk", "linear"])
def test_matrix_17_unimodal_predictor_is_not_deployed(sep_head: str) -> None:
    model: Any = rows.make_model(RFNet, sep_head=sep_head)
    inputs, present = rows.make_inputs(model), rows.mixed_masks(model)
    before, counts = model(inputs, present).logits, model.parameter_counts()
    alone = sum(p.numel() for p in model.sep.parameters())
    # trunk: 3x3 convolution 8 -> 16 and its batch norm, head 16 -> 5; linear: 8 -> 5.
    assert alone == ((9 * 8 * 16 + 32) + (16 * 5 + 5) if sep_head == "trunk" else 8 * 5 + 5)
    assert counts["training"] - counts["inference"] == alone
    for parameter in model.sep.parameters():
        parameter.fill_(torch.nan)
    assert torch.equal(model(inputs, present).logits, before)


# ---------------------------------------------------------------------- phases and losses


@pytest.mark.parametrize(
    ("epochs", "start"), [(100, 7), (300, 21), (30, 2), (3, 1), (2, 1), (1, 0)]
)
def test_warm_up_is_7_of_100_and_leaves_an_epoch_to_the_fused_prediction(
    epochs: int, start: int
) -> None:
    model: Any = rows.make_model(RFNet)
    for epoch in range(min(epochs, 30)):
        rows.begin(model, epoch, epochs)
        assert model.omega.item() == float(epoch >= start)
    assert any("warm-up took" in remark for remark in model.remarks(epochs)) == (epochs < 8)


@pytest.mark.parametrize(
    ("published", "epochs", "start", "said"),
    [(0, 100, 0, False), (33, 100, 33, False), (33, 30, 10, False), (99, 10, 9, True)],
)
def test_the_warm_up_is_a_hyperparameter(
    published: int, epochs: int, start: int, said: bool
) -> None:
    """20 of 300 is 7 of 100 (default), 100 of 300 is 33 of 100; 0 is none."""
    model: Any = rows.make_model(RFNet, warm_up=published)
    for epoch in range(epochs):
        rows.begin(model, epoch, epochs)
        assert model.omega.item() == float(epoch >= start)
    assert any("warm-up took" in remark for remark in model.remarks(epochs)) == said


@pytest.mark.parametrize(("task", "aligned"), FORMS)
def test_matrix_04_rfnet_warm_up_trains_encoders_but_not_the_fused_prediction(
    task: str, aligned: bool
) -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(3, 4, task, aligned)).train()
    rows.begin(model, 6)
    gradients(model, step(model))
    assert largest(model.trunk) == 0 and largest(model.head) == 0
    assert all(largest(encoder) > 0 for encoder in model.encoders) and largest(model.sep) > 0
    assert largest(model.prm) > 0 if aligned else len(model.prm) == 0
    rows.begin(model, 7)
    gradients(model, step(model))
    assert largest(model.trunk) > 0 and largest(model.head) > 0


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_matrix_04_rfnet_fused_loss_gives_the_region_maps_no_gradient(task: str) -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(3, 4, task)).train()
    rows.begin(model)
    gradients(model, step(model), "task")
    assert largest(model.prm) == 0 and largest(model.guides) == 0
    assert all(largest(rfm) > 0 for rfm in model.rfm)
    gradients(model, step(model), "prm")
    assert all(largest(prm) > 0 for prm in model.prm) and all(
        largest(guide) > 0 for guide in model.guides
    )


def test_unaligned_modalities_have_one_region_no_map_and_say_so() -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(3, 5, aligned=False))
    assert model.k == 1 and set(step(model)) == {"task", "sep/m0", "sep/m1", "sep/m2"}
    assert any(remark.startswith("K = 1:") for remark in model.remarks(100))
    assert not any(remark.startswith("K =") for remark in rows.make_model(RFNet).remarks(100))


def test_linear_predictor_is_refused_for_segmentation() -> None:
    RFNet.check(rows.make_spec(), "paper", {"sep_head": "linear"})
    with pytest.raises(UserError, match="sep_head=linear does not segment"):
        RFNet.check(rows.make_spec(task="segmentation"), "paper", {"sep_head": "linear"})


def test_there_is_no_released_variant() -> None:
    with pytest.raises(UserError, match="unknown variant of rfnet 'released'"):
        Plan(load_study(["methods=[rfnet:released]"]))
