"""LCR against a naive second implementation: one sample and one modality at a time, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.lcr import LCR
from tests.support import matrix_rows as rows
from tests.support.naive_layers import Array, array, conv, leaky, linear, sigmoid


def naive_expressed(model: Any, y: list[Array], width: int) -> list[Array]:
    expressed = []
    for v in range(len(y)):
        pooled = np.array([channel.mean() for channel in y[v]])
        layers = model.mpe[v].layers
        gamma = linear(layers[2], leaky(linear(layers[0], pooled), 0.01)).reshape(len(y), width)
        f = np.zeros_like(y[v])
        position = 0
        for j in range(len(y)):
            if j != v:
                f += gamma[position][:, None, None] * y[j]
                position += 1
        expressed.append(f + gamma[position][:, None, None])
    return expressed


def naive_attention(module: Any, f: list[Array]) -> list[Array]:
    g = np.array([x.mean() for x in f])
    a = sigmoid(linear(module.modality[2], np.maximum(linear(module.modality[0], g), 0.0)))
    s = sigmoid(conv(module.place[0], np.concatenate(f)))[0]
    return [a[v] * f[v] + s * f[v] for v in range(len(f))]


def naive_sample(
    model: Any, features: Any, b: int, mask: Tensor, width: int
) -> tuple[Array, list[Array]]:
    """Logits and the expressed maps of one sample."""
    fused = []
    for s in range(len(features[0])):
        y = [
            array(maps[s][b]) if mask[v] else np.zeros(maps[s][b].shape)
            for v, maps in enumerate(features)
        ]
        deepest = s == len(features[0]) - 1
        f = expressed = naive_expressed(model, y, width) if deepest else y
        if model.variant == "paper":
            f = naive_attention(model.attention[s], f)
        fused.append(torch.tensor(np.concatenate(f))[None].float())
    logits = model.head(model.trunk(tuple(fused)), tuple(fused))
    return array(logits[0]), expressed


CASES = [
    ("paper", "classification", "scalar"),
    ("paper", "classification", "channel"),
    ("released", "classification", "scalar"),
]
CASES += [("paper", "segmentation", "scalar"), ("released", "segmentation", "scalar")]


@pytest.mark.parametrize(("variant", "task", "coefficients"), CASES)
@torch.no_grad()
def test_naive_implementation_agrees_for_all_combinations(
    variant: str, task: str, coefficients: str
) -> None:
    spec = rows.make_spec(3, 4, task)
    model: Any = rows.make_model(LCR, spec, variant, width=4, coefficients=coefficients)
    width = 4 if coefficients == "channel" else 1
    batch = 2 if task == "segmentation" else 4
    features = model.encode_all(rows.make_inputs(model, batch))
    for mask in rows.all_masks(model):
        output = model.fuse(features, mask.expand(batch, -1))
        for b in range(batch):
            logits, expressed = naive_sample(model, features, b, mask, width)
            assert np.abs(array(output.logits[b]) - logits).max() < 1e-5
            assert np.abs(array(output.extra["expressed"][b]) - np.stack(expressed)).max() < 1e-5


@torch.no_grad()
def test_naive_l1_term_agrees_on_a_mixed_batch() -> None:
    model: Any = rows.make_model(LCR, l1_weight=0.7)
    batch = rows.make_batch(model, rows.make_inputs(model), rows.mixed_masks(model))
    total = 0.0
    for b in range(8):
        there = [v for v in range(3) if batch.present[b, v]]
        expressed = naive_sample(model, batch.features, b, batch.present[b], 1)[1]
        if len(there) >= 2:
            total += sum(
                np.abs(expressed[v] - array(batch.features[v][0][b])).mean() for v in there
            ) / len(there)
    terms = rows.losses(model, batch)
    assert set(terms) == {"task", "l1"}
    assert terms["l1"].item() == pytest.approx(0.7 * total / 8, abs=1e-5)
