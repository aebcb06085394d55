"""RFNet against a naive second implementation in NumPy.

One sample, one modality, one region at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.rfnet import RFNet
from tests.support import matrix_rows as rows
from tests.support.naive_layers import (
    Array,
    array,
    conv,
    cross_entropy,
    leaky,
    linear,
    norm,
    sigmoid,
)


def layers(sequence: Any, x: Array) -> Array:
    """A chain of convolution, norm, leaky ReLU."""
    for block in sequence:
        x = leaky(norm(block[1], conv(block[0], x)), 0.2)
    return x


def naive_maps(prm: Any, y: list[Array], guide: Array | None) -> Array:
    known = layers(prm.embed, np.concatenate(y))
    known = known if guide is None else np.concatenate([guide, known])
    return conv(prm.classify[1], layers([prm.classify[0]], known))


def naive_guide(guide: Any, fused: Array, before: Array | None) -> Array:
    known = fused if before is None else layers([guide.merge], np.concatenate([fused, before]))
    resized = F.interpolate(
        torch.tensor(known)[None], size=guide.size, mode="bilinear", align_corners=False
    )[0].numpy()
    return layers([guide.project], resized)


def naive_regions(model: Any, q: Array) -> Array:
    p = np.zeros((model.k, *q.shape[1:]))
    for i in range(q.shape[1]):
        for j in range(q.shape[2]):
            share = np.exp(q[:, i, j] - q[:, i, j].max())
            for m, value in enumerate(share / share.sum()):
                p[min(m, model.k - 1), i, j] += value
    return p


def naive_fusion(rfm: Any, y: list[Array], p: Array) -> Array:
    parts = []
    for k, region in enumerate(p):
        known = [(channel * region).sum() / region.sum() for f in y for channel in f] + [
            region.mean()
        ]
        w = sigmoid(linear(rfm.gates[k][2], leaky(linear(rfm.gates[k][0], np.array(known)), 0.2)))
        parts.append(sum(w[v] * f * region for v, f in enumerate(y)))
    return np.concatenate(
        [layers(rfm.regions, np.concatenate(parts)), layers(rfm.shortcut, np.concatenate(y))]
    )


def naive_sample(model: Any, features: Any, b: int, mask: Tensor) -> tuple[Array, list[Array]]:
    """Logits and, from the deepest scale on, the maps Q of one sample."""
    fused, maps, guide = [], [], None
    for s in reversed(range(len(features[0]))):
        y = [array(f[s][b]) if mask[v] else np.zeros(f[s][b].shape) for v, f in enumerate(features)]
        p = np.ones((1, *y[0].shape[1:]))
        if model.k > 1:
            guide = naive_guide(model.guides[s], fused[-1], guide) if fused else None
            maps.append(naive_maps(model.prm[s], y, guide))
            p = naive_regions(model, maps[-1])
        fused.append(naive_fusion(model.rfm[s], y, p))
    given = tuple(torch.tensor(f)[None].float() for f in reversed(fused))
    return array(model.head(model.trunk(given), given)[0]), maps


CASES: list[tuple[str, bool, int, str]] = [
    ("classification", True, 5, "auto"),
    ("classification", True, 11, "instance"),
    ("classification", False, 5, "auto"),
    ("segmentation", True, 3, "auto"),
    ("segmentation", True, 10, "batch"),
]


@pytest.mark.parametrize(("task", "aligned", "classes", "norm"), CASES)
@torch.no_grad()
def test_naive_implementation_agrees_for_all_combinations(
    task: str, aligned: bool, classes: int, norm: str
) -> None:
    spec = rows.make_spec(2 if task == "segmentation" else 3, classes, task, aligned)
    model: Any = rows.make_model(RFNet, spec, width=4, norm=norm)
    batch = 1 if task == "segmentation" else 3
    features = model.encode_all(rows.make_inputs(model, batch))
    for mask in rows.all_masks(model):
        output = model.fuse(features, mask.expand(batch, -1))
        for b in range(batch):
            logits, maps = naive_sample(model, features, b, mask)
            assert np.abs(array(output.logits[b]) - logits).max() < 1e-5
            for depth, q in enumerate(maps):
                assert np.abs(array(output.extra[f"prm/{depth}"][b]) - q).max() < 1e-5


@pytest.mark.parametrize("sep_absent", [False, True])
@torch.no_grad()
def test_naive_losses_agree_on_a_mixed_batch(sep_absent: bool) -> None:
    model: Any = rows.make_model(RFNet, sep_absent=sep_absent)
    rows.begin(model)
    batch = rows.make_batch(model, rows.make_inputs(model), rows.mixed_masks(model))
    expected = dict.fromkeys(("task", "prm", "sep/m0", "sep/m1", "sep/m2"), 0.0)
    for b in range(8):
        label = int(batch.target[b])
        logits, maps = naive_sample(model, batch.features, b, batch.present[b])
        expected["task"] += cross_entropy(logits, label) / 8
        expected["prm"] += cross_entropy(np.array([q.mean() for q in maps[0]]), label) / 8
        for v in range(3):
            if batch.present[b, v] or sep_absent:
                expected[f"sep/m{v}"] += (
                    cross_entropy(array(model.sep((batch.features[v][0][b : b + 1],))[0]), label)
                    / 8
                )
    terms = {name: term.item() for name, term in rows.losses(model, batch).items()}
    assert terms == pytest.approx(expected, abs=1e-5)
