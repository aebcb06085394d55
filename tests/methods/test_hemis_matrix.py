"""HeMIS in the test matrix of the method spec (section 8), each test named after its row.

And mmFormer's rows 7, 8 and 9.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.method import Method
from methods.hemis import HeMIS
from methods.mmformer import MMFormer
from methods.sf_md import SFMD
from tests.support import matrix_rows as rows

VARIANTS = list(HeMIS.variants)
TASKS = ["classification", "segmentation"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_matrix_01_02_08_09_leak_gradients_rows_split(task: str, variant: str) -> None:
    model = rows.make_model(HeMIS, rows.make_spec(3, 4, task), variant)
    rows.row_01_leak(model)
    rows.row_02_feature_gradients(model)
    rows.row_08_rows_alone(model)
    rows.row_09_split_equals_forward(model)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_matrix_03_absent_features_train_nothing(task: str, variant: str) -> None:
    rows.row_03_absent_features_train_nothing(
        rows.make_model(HeMIS, rows.make_spec(3, 4, task), variant)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_05_permutation_invariant(variant: str) -> None:
    assert rows.row_05_change_under_permutation(rows.make_model(HeMIS, variant=variant)) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_matrix_06_equivariant_under_joint_permutation(variant: str) -> None:
    order = [2, 0, 1]
    model, moved = (
        rows.make_model(HeMIS, variant=variant),
        rows.make_model(HeMIS, variant=variant, seed=7),
    )
    old = model.state_dict()
    new = {}
    for name, weight in old.items():
        group, _, rest = name.partition(".")
        i, _, tail = rest.partition(".")
        new[name] = old[f"encoders.{order[int(i)]}.{tail}"] if group == "encoders" else weight
    moved.load_state_dict(new)
    inputs, present = rows.make_inputs(model), rows.mixed_masks(model)
    turned = {f"m{i}": inputs[f"m{v}"] for i, v in enumerate(order)}
    assert torch.allclose(
        moved(turned, present[:, order]).logits, model(inputs, present).logits, atol=1e-4
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_matrix_07_single_modality_trains(task: str, variant: str) -> None:
    rows.row_07_single_modality(rows.make_model(HeMIS, rows.make_spec(3, 4, task), variant))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_matrix_10_and_11_trunk_takes_2c_channels_and_nothing_else_differs_from_the_baseline(
    count: int,
) -> None:
    model: Any = rows.make_model(HeMIS, rows.make_spec(count))
    baseline: Any = rows.make_model(SFMD, rows.make_spec(count))
    assert model.trunk.layers[0].in_channels == 2 * 8
    assert model(rows.make_inputs(model), rows.mixed_masks(model)).logits.shape == (8, 5)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, baseline)]
    # (2 - V) * c inputs fewer for each of the trunk's 2c filters of 3x3.
    assert sizes[0] - sizes[1] == (2 - count) * 8 * (2 * 8) * 9


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_12_sizes(variant: str) -> None:
    rows.row_12_sizes(HeMIS, variant, aligned=False)


def test_matrix_13_all_absent_raises() -> None:
    assert "every row of `present` needs a True" in rows.row_13_all_absent(rows.make_model(HeMIS))


@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_15_decidable_bits_are_learned_and_no_others(variant: str) -> None:
    for name, (accuracy, possible) in rows.row_15_accuracies(HeMIS, variant).items():
        assert accuracy == possible, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_16_half_precision(variant: str, dtype: torch.dtype) -> None:
    rows.row_16_half_precision(rows.make_model(HeMIS, variant=variant), dtype)


def mmformer(task: str, variant: str) -> Method:
    return rows.make_model(MMFormer, rows.make_spec(3, 4, task), variant, d=32, heads=4, mlp=64)


@pytest.mark.parametrize("variant", list(MMFormer.variants))
@pytest.mark.parametrize("task", TASKS)
def test_matrix_07_08_09_of_mmformer(task: str, variant: str) -> None:
    rows.row_07_single_modality(mmformer(task, variant))
    rows.row_08_rows_alone(mmformer(task, variant))
    rows.row_09_split_equals_forward(mmformer(task, variant))
