"""SF-MD and DMRNet against a naive second implementation: loops in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.method import Method
from harness.protocol.combinations import lattice
from methods.dmrnet import DMRNet
from methods.sf_md import SFMD
from tests.support.dmrnet_model import PRESENT, SPLIT, begin, losses, model_of
from tests.support.naive_layers import Array, array, conv, cross_entropy, linear, norm


def naive_z(model: Any, sample: dict[str, Array], mask: tuple[bool, ...]) -> Array:
    """z of one sample in evaluation mode: present maps, zeros for the others, one convolution."""
    maps = []
    for encoder, (_name, x), has in zip(model.encoders, sample.items(), mask, strict=True):
        first, second, _pool = encoder.layers
        for block in (first, second):
            x = np.maximum(norm(block[1], conv(block[0], x)), 0.0)
        maps.append(pooled(x) if has else np.zeros_like(pooled(x)))
    fused = np.concatenate(maps)
    block = model.trunk.layers
    return np.asarray(np.maximum(norm(block[1], conv(block[0], fused)), 0.0))


def pooled(x: Array) -> Array:
    """Adaptive average pooling of (c, H, W) to (c, 2, 2), cell by cell."""
    out = np.zeros((x.shape[0], 2, 2))
    for row in range(2):
        for column in range(2):
            rows = slice(row * x.shape[1] // 2, math.ceil((row + 1) * x.shape[1] / 2))
            columns = slice(column * x.shape[2] // 2, math.ceil((column + 1) * x.shape[2] / 2))
            out[:, row, column] = x[:, rows, columns].mean((1, 2))
    return out


def trained(model: Method) -> Method:
    """Running statistics that are not the initial ones."""
    with torch.no_grad():
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            inputs = {
                m.name: torch.randn(16, *m.shape, generator=generator)
                for m in model.spec.modalities
            }
            model.train()(inputs, torch.ones(16, len(model.spec.names), dtype=torch.bool))
    return model.eval()


@pytest.mark.parametrize("cls", [SFMD, DMRNet])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_logits_equal_a_naive_loop_for_all_masks(cls: type[Method], count: int) -> None:
    spec = synthetic_spec(count, 5)
    model: Any = trained(cls(Small(spec, {"width": 4})))
    split = synthetic_split(spec, 3)
    for combination in lattice(spec.names):
        with torch.no_grad():
            ours = model(split.inputs, torch.tensor(combination.mask).expand(3, -1)).logits
        for b in range(3):
            sample = {name: array(x[b]) for name, x in split.inputs.items()}
            z = naive_z(model, sample, combination.mask)
            if cls is DMRNet:
                z = norm(model.heads.mu[1], conv(model.heads.mu[0], z))
            logits = linear(model.head.linear, z.mean((1, 2)))
            np.testing.assert_allclose(ours[b].numpy(), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_losses_equal_a_naive_loop_over_samples(variant: str) -> None:
    model = model_of(variant, hard_set="m0,m1+m2")
    begin(model, 50)
    terms, output = losses(model)
    mu, logvar, logits = (
        array(x) for x in (output.extra["mu"], output.extra["logvar"], output.logits)
    )
    hard_masks = [(True, False, False), (False, True, True)]
    ce, kl, hard = [], 0.0, []
    for b, mask in enumerate(PRESENT.tolist()):
        ce.append(cross_entropy(logits[b], int(SPLIT.target[b])))
        hard.append(1.0 if tuple(mask) in hard_masks else 0.0)
        for m, lv in zip(mu[b].ravel(), logvar[b].ravel(), strict=True):
            kl += 0.5 * (math.exp(lv) + m * m - lv - 1.0)
    count, mean = len(ce), sum(ce) / len(ce)
    focused = (
        sum(h * c for h, c in zip(hard, ce, strict=True)) / count
        if variant == "paper"
        else sum(hard) * mean
    )
    assert terms["task"].item() == pytest.approx(mean, rel=1e-5)
    assert terms["kl"].item() == pytest.approx(1e-3 * kl / count, rel=1e-5)
    assert terms["hcr"].item() == pytest.approx(0.7 * focused, rel=1e-5)
