"""LCR: closed forms, the test matrix and parameter counts.

Second implementation: test_lcr_naive.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from harness.method import Method, Output
from harness.study.config import load_study
from harness.study.plan import Plan
from methods.lcr import LCR, _Attention, _ParameterEstimation, express, expression_error
from methods.sf_md import SFMD
from tests.support import matrix_rows as rows

VARIANTS = ("paper", "released")
F_EXAMPLE = (1.0, 3.0, 8.0)


def example_model(**hparams: Any) -> Any:
    """V = 3, one channel.

    MPE weights 0, last bias (0.5, 0.5, 0.1); attention parameters 0, so that a = S = 0.5.
    """
    model: Any = rows.make_model(LCR, width=1, **hparams)
    for parameter in (*model.mpe.parameters(), *model.attention.parameters()):
        torch.nn.init.zeros_(parameter)
    for estimation in model.mpe:
        estimation.layers[-1].bias.data = torch.tensor([0.5, 0.5, 0.1])
    return model


def example_output(
    model: Any, mask: tuple[int, ...], features: list[tuple[Tensor]] | None = None
) -> tuple[Output, Tensor]:
    """The output and what the trunk was given."""
    given: list[Tensor] = []
    hook = model.trunk.register_forward_pre_hook(lambda module, args: given.append(args[0][0]))
    features = features or [(torch.full((1, 1, 2, 2), f),) for f in F_EXAMPLE]
    output = model.fuse(features, torch.tensor([mask], dtype=torch.bool))
    hook.remove()
    return output, given[0]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [((1, 1, 1), (5.6, 4.6, 2.1)), ((1, 0, 1), (4.1, 4.6, 0.6)), ((1, 0, 0), (0.1, 0.6, 0.6))],
)
def test_matrix_04_lcr_closed_form(mask: tuple[int, ...], expected: tuple[float, ...]) -> None:
    output, fused = example_output(example_model(), mask)
    wanted = torch.tensor(expected).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 2, 2)
    assert torch.allclose(output.extra["expressed"], wanted, atol=1e-6)
    assert torch.allclose(fused, wanted.flatten(1, 2), atol=1e-6)


def test_matrix_04_lcr_l1_is_4_0333() -> None:
    features = [torch.full((2, 1, 2, 2), f) for f in F_EXAMPLE]
    present = torch.tensor([[True, True, True], [False, True, False]])
    expressed = torch.tensor([5.6, 4.6, 2.1]).reshape(1, 3, 1, 1, 1).expand(2, 3, 1, 2, 2)
    error = expression_error(expressed, features, present)
    assert error.tolist() == pytest.approx(
        [(abs(5.6 - 1) + abs(4.6 - 3) + abs(2.1 - 8)) / 3, 0.0], abs=1e-5
    )
    assert error[0].item() == pytest.approx(4.0333, abs=1e-4)


def test_l1_counts_present_modalities_only_and_not_its_target() -> None:
    features = [torch.full((1, 1, 2, 2), f, requires_grad=True) for f in F_EXAMPLE]
    expressed = (
        torch.tensor([2.0, 2.5, torch.inf])
        .reshape(1, 3, 1, 1, 1)
        .expand(1, 3, 1, 2, 2)
        .clone()
        .requires_grad_()
    )
    error = expression_error(expressed, features, torch.tensor([[True, True, False]]))
    assert error.item() == pytest.approx((1.0 + 0.5) / 2)
    error.sum().backward()  # type: ignore[no-untyped-call]
    assert all(f.grad is None for f in features)
    assert expressed.grad is not None and expressed.grad[0, :, 0, 0, 0].tolist() == [
        0.125,
        -0.125,
        0.0,
    ]


def test_gradient_with_one_modality_flows_through_the_others_expression() -> None:
    model = example_model()
    features = [(torch.full((1, 1, 2, 2), f, requires_grad=True),) for f in F_EXAMPLE]
    output, _ = example_output(model, (1, 0, 0), features)
    through = torch.autograd.grad(
        output.extra["expressed"][:, 1:].sum(), features[0][0], retain_graph=True
    )[0]
    assert torch.allclose(through, torch.full_like(through, 2 * 0.5))
    absent = torch.autograd.grad(output.logits.sum(), [f[0] for f in features[1:]])
    assert all(not g.any() for g in absent)
    with torch.no_grad():  # now Gamma_0 depends on GAP(f_0): the bias of F_0 carries it
        model.mpe[0].layers[0].weight.fill_(1.0)
        model.mpe[0].layers[2].weight[2].fill_(1.0)
    output, _ = example_output(model, (1, 0, 0), features)
    assert torch.autograd.grad(output.extra["expressed"][:, 0].sum(), features[0][0])[0].all()


@torch.no_grad()
def test_the_only_present_modality_becomes_a_constant_map() -> None:
    model = rows.make_model(LCR)
    expressed = model(
        rows.make_inputs(model), torch.tensor([[False, True, False]]).expand(8, -1)
    ).extra["expressed"]
    assert (expressed[:, 1] == expressed[:, 1, :1, :1, :1]).all()
    assert expressed[:, 0].var((2, 3)).max() > 0 and expressed[:, 2].var((2, 3)).max() > 0


@torch.no_grad()
def test_an_absent_modality_s_gamma_is_a_learned_constant() -> None:
    model: Any = rows.make_model(LCR)
    mpe = model.mpe[1]
    assert torch.equal(
        mpe(torch.zeros(5, 8, 2, 2)), mpe(torch.zeros(1, 8, 2, 2)).expand(5, -1, -1, -1, -1)
    )


@pytest.mark.parametrize("coefficients", ["scalar", "channel"])
@torch.no_grad()
def test_init_mean_starts_at_the_mean_of_the_others(coefficients: str) -> None:
    model = rows.make_model(LCR, rows.make_spec(4), init="mean", coefficients=coefficients)
    features = model.encode_all(rows.make_inputs(model))
    expressed = model.fuse(features, torch.ones(8, 4, dtype=torch.bool)).extra["expressed"]
    for v in range(4):
        mean = sum(f[0] for j, f in enumerate(features) if j != v) / 3
        assert torch.allclose(expressed[:, v], mean, atol=1e-6)


def test_two_modalities_swap() -> None:
    maps, gamma = (
        [torch.tensor(3.0).reshape(1, 1, 1, 1), torch.tensor(5.0).reshape(1, 1, 1, 1)],
        torch.tensor([2.0, 0.25]),
    )
    assert [f.item() for f in express(maps, [gamma.reshape(1, 2, 1, 1, 1)] * 2)] == [
        2 * 5 + 0.25,
        2 * 3 + 0.25,
    ]


# ---------------------------------------------------------------------- the matrix


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_matrix_01_02_08_09_leak_gradients_rows_split(task: str, variant: str) -> None:
    model = rows.make_model(LCR, rows.make_spec(3, 4, task), variant)
    rows.row_01_leak(model)
    rows.row_02_feature_gradients(model)
    rows.row_08_rows_alone(model)
    rows.row_09_split_equals_forward(model)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_matrix_03_absent_features_train_nothing(task: str, variant: str) -> None:
    rows.row_03_absent_features_train_nothing(
        rows.make_model(LCR, rows.make_spec(3, 4, task), variant)
    )


def test_matrix_05_lcr_is_not_permutation_invariant() -> None:
    assert rows.row_05_change_under_permutation(rows.make_model(LCR)) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_matrix_06_equivariant_under_joint_permutation(variant: str) -> None:
    order = [2, 0, 1]
    model, moved = (
        rows.make_model(LCR, variant=variant),
        rows.make_model(LCR, variant=variant, seed=7),
    )
    moved.load_state_dict(permuted(model, order))
    inputs, present = rows.make_inputs(model), rows.mixed_masks(model)
    turned = {f"m{i}": inputs[f"m{v}"] for i, v in enumerate(order)}
    assert torch.allclose(
        moved(turned, present[:, order]).logits, model(inputs, present).logits, atol=1e-4
    )


def permuted(model: Method, order: list[int]) -> dict[str, Tensor]:
    """The weights of the model whose modality i is ``model``'s modality order[i]."""
    old, new = model.state_dict(), {}
    for name, weight in old.items():
        group, _, rest = name.partition(".")
        if group in ("encoders", "mpe"):
            i, _, tail = rest.partition(".")
            weight = old[f"{group}.{order[int(i)]}.{tail}"]
            if group == "mpe" and tail.startswith("layers.2"):
                weight = weight[gamma_rows(int(i), order)]
        elif name.startswith("attention.0.modality.0.weight"):
            weight = weight[:, order]
        elif name.startswith("attention.0.modality.2"):
            weight = weight[order]
        elif name in ("attention.0.place.0.weight", "trunk.layers.0.weight"):
            weight = weight.unflatten(1, (3, -1))[:, order].flatten(1, 2)
        new[name] = weight
    return new


def gamma_rows(i: int, order: list[int]) -> list[int]:
    """Where, in the old MPE of modality order[i], the coefficients stand that the new modality i
    lists; the bias stays last.
    """
    old_others = [u for u in range(3) if u != order[i]]
    return [old_others.index(order[j]) for j in range(3) if j != i] + [2]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_matrix_07_single_modality_trains(task: str, variant: str) -> None:
    rows.row_07_single_modality(rows.make_model(LCR, rows.make_spec(3, 4, task), variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_10_trunk_takes_v_times_c_channels(variant: str) -> None:
    model: Any = rows.make_model(LCR, rows.make_spec(4), variant)
    assert model.trunk.layers[0].in_channels == 4 * 8
    output = model(rows.make_inputs(model), rows.mixed_masks(model))
    assert output.extra["expressed"].shape == (8, 4, 8, 2, 2) and output.logits.shape == (8, 5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_12_sizes(variant: str) -> None:
    rows.row_12_sizes(LCR, variant, aligned=False)


def test_matrix_13_all_absent_raises() -> None:
    assert "every row of `present` needs a True" in rows.row_13_all_absent(rows.make_model(LCR))


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_15_decidable_bits_are_learned_and_no_others(variant: str) -> None:
    for name, (accuracy, possible) in rows.row_15_accuracies(LCR, variant).items():
        assert accuracy == possible, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matrix_16_half_precision(dtype: torch.dtype) -> None:
    rows.row_16_half_precision(rows.make_model(LCR), dtype)


# ---------------------------------------------------------------------- parameters


def parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


TABLE_6 = {  # channels: (V=2, V=3) of MPE alone; with attention; per-channel Gamma with attention
    128: ((16_772, 25_353), (17_041, 25_755), (50_061, 100_050)),
    256: ((66_308, 99_849), (66_833, 100_635), (198_413, 396_690)),
    512: ((263_684, 396_297), (264_721, 397_851), (790_029, 1_579_794)),
}


@pytest.mark.parametrize("channels", TABLE_6)
@pytest.mark.parametrize("modalities", [2, 3])
def test_matrix_11_parameter_table(channels: int, modalities: int) -> None:
    alone, full, per_channel = (column[modalities - 2] for column in TABLE_6[channels])
    mpe = modalities * parameters(_ParameterEstimation(channels, modalities, 1, False))
    wide = modalities * parameters(_ParameterEstimation(channels, modalities, channels, False))
    attention = parameters(_Attention(channels, modalities))
    assert (mpe, mpe + attention, wide + attention) == (alone, full, per_channel)


@pytest.mark.parametrize(("modalities", "hidden"), [(2, 2), (3, 2), (5, 2), (6, 3), (9, 4)])
def test_matrix_11_attention_formula(modalities: int, hidden: int) -> None:
    expected = 2 * modalities * hidden + hidden + modalities + modalities * 7 + 1
    assert parameters(_Attention(7, modalities)) == expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_matrix_11_difference_to_sf_md(modalities: int, variant: str) -> None:
    spec, c, r = rows.make_spec(modalities), 8, max(2, modalities // 2)
    mpe = modalities * ((c * c // 2 + c // 2) + (c // 2 * modalities + modalities))
    attention = 2 * modalities * r + r + modalities + modalities * c + 1
    counts = rows.make_model(LCR, spec, variant).parameter_counts()
    more = counts["inference"] - rows.make_model(SFMD, spec).parameter_counts()["inference"]
    assert more == mpe + (attention if variant == "paper" else 0)
    assert counts["training"] == counts["inference"]


def test_matrix_11_pyramid_difference_is_mpe_at_the_deepest_scale_and_attention_at_all() -> None:
    spec = rows.make_spec(2, 4, "segmentation")
    more = (
        rows.make_model(LCR, spec).parameter_counts()["inference"]
        - rows.make_model(SFMD, spec).parameter_counts()["inference"]
    )
    assert more == 2 * ((64 * 32 + 32) + (32 * 2 + 2)) + sum(
        8 + 2 + 2 + 2 * c + 1 for c in (8, 16, 32, 64)
    )


# ---------------------------------------------------------------------- variants and training


def test_released_has_neither_attention_nor_l1() -> None:
    model = rows.make_model(LCR, variant="released")
    assert not hasattr(model, "attention")
    assert set(
        rows.losses(model, rows.make_batch(model, rows.make_inputs(model), rows.mixed_masks(model)))
    ) == {"task"}


def test_released_refuses_what_it_does_not_have() -> None:
    assert Plan(load_study(["methods=[lcr:released]"])).rows
    with pytest.raises(UserError, match=r"hparams.lcr.l1_weight does not apply to lcr:released"):
        Plan(load_study(["methods=[lcr:released]", "hparams.lcr.l1_weight=0.5"]))
