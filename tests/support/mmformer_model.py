"""Small mmFormers, and a naive second implementation.

Loops over samples, modalities, heads, tokens and places. Called by tests of mmFormer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.small import Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.protocol.seeds import Streams
from methods.mmformer import MMFormer

WIDTH = 8
SIZES = {"d": 16, "heads": 2, "mlp": 20}


def model_of(
    variant: str = "paper",
    count: int = 3,
    task: str = "classification",
    classes: int = 5,
    **hparams: Any,
) -> MMFormer:
    spec = synthetic_spec(count, classes, task, aligned=hparams.pop("aligned", False))
    with Streams(0).initialising("model"):
        return MMFormer(Small(spec, {"width": WIDTH}), variant, SIZES | hparams)


def case_of(model: MMFormer) -> Case:
    return Case(MMFormer, model.variant, model.spec, lambda spec: Small(spec, {"width": WIDTH}))


def trained(model: MMFormer) -> MMFormer:
    """With positions and running statistics that are not those of the start, in evaluation mode."""
    case_of(model).lead(model, 0, 9)
    for name, parameter in model.named_parameters():
        if "position" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


def naive_logits(model: MMFormer, inputs: dict[str, Tensor], mask: list[bool]) -> Tensor:
    """One sample's logits, (1, K) or (1, K, H, W)."""
    maps = [
        encoder(inputs[name])
        for encoder, name in zip(model.encoders, model.spec.names, strict=True)
    ]
    zeroed = [
        tuple(m if has else torch.zeros_like(m) for m in own)
        for own, has in zip(maps, mask, strict=True)
    ]
    fused = [torch.cat([own[scale] for own in zeroed], 1) for scale in range(len(maps[0]))]
    if model.variant == "released":
        fused[-1] = torch.cat([naive_branch(model, v, own[-1]) for v, own in enumerate(zeroed)], 1)
    else:
        fused[-1] = naive_inter(model, [own[-1] for own in maps], mask)
        if model.dense:
            fused = [
                naive_fusion(fusion.layers, x)
                for fusion, x in zip(model.scale_fusion, fused, strict=True)
            ]
    logits: Tensor = model.head(model.trunk(tuple(fused)), tuple(fused))
    return logits


def naive_inter(model: MMFormer, deepest: list[Tensor], mask: list[bool]) -> Tensor:
    d, (_, h, w) = model.sizes[0], model.shape
    sequence, allowed = [], []
    for v, has in enumerate(mask):
        own = [
            project(model.tokenisers[v], deepest[v][0, :, i, j]) for i in range(h) for j in range(w)
        ]
        own = naive_layer(
            model.intra[v], [t + p for t, p in zip(own, model.positions[v][0], strict=True)]
        )
        sequence += [
            (t if has else torch.zeros(d)) + p
            for t, p in zip(own, model.positions[v][0], strict=True)
        ]
        allowed += [has or model.settings["missing_tokens"] == "zero_pos"] * (h * w)
    mixed = naive_layer(model.inter, sequence, allowed)
    out = torch.zeros(1, model.reproject.out_channels, h, w)
    for i in range(h):
        for j in range(w):
            tokens = [mixed[v * h * w + i * w + j] for v in range(len(mask))]
            out[0, :, i, j] = project(model.reproject, torch.cat(tokens))
    return out


def naive_branch(model: MMFormer, v: int, y: Tensor) -> Tensor:
    branch, (_, h, w) = model.branches[v], model.shape
    norm, _, convolution = branch.widen
    y = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
    y = F.conv2d(torch.where(y > 0, y, 0.01 * y), convolution.weight, convolution.bias, padding=1)
    tokens = [y[0, :, i, j] + branch.position[0, i * w + j] for i in range(h) for j in range(w)]
    mixed = naive_layer(branch.layer, tokens, activation=tanh_gelu)
    back = torch.zeros(1, model.sizes[0], h, w)
    for i in range(h):
        for j in range(w):
            back[0, :, i, j] = mixed[i * w + j]
    return F.conv2d(back, branch.narrow.weight, branch.narrow.bias, padding=1)


def project(convolution: torch.nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution at one place."""
    assert convolution.bias is not None
    return convolution.weight[:, :, 0, 0] @ x + convolution.bias


def exact_gelu(x: Tensor) -> Tensor:
    """x times the standard normal distribution function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU as approximated with tanh (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def naive_layer(
    layer: Any,
    tokens: list[Tensor],
    allowed: list[bool] | None = None,
    activation: Callable[[Tensor], Tensor] = exact_gelu,
) -> list[Tensor]:
    d = len(tokens[0])
    width = d // layer.heads
    normed = [naive_norm(layer.attention_norm, x) for x in tokens]
    q, k, v = (
        ([layer.qkv.weight[part * d : (part + 1) * d] @ x for x in normed]) for part in range(3)
    )
    out = []
    for t, x in enumerate(tokens):
        heads = []
        for head in range(layer.heads):
            own = slice(head * width, (head + 1) * width)
            usable = [s for s in range(len(tokens)) if allowed is None or allowed[s]]
            scores = [math.exp(float(q[t][own] @ k[s][own]) / math.sqrt(width)) for s in usable]
            heads.append(
                sum(
                    score / sum(scores) * v[s][own] for score, s in zip(scores, usable, strict=True)
                )
            )
        x = x + layer.projection.weight @ torch.cat(heads) + layer.projection.bias
        wide = layer.widen.weight @ naive_norm(layer.mlp_norm, x) + layer.widen.bias
        out.append(x + layer.narrow.weight @ activation(wide) + layer.narrow.bias)
    return out


def naive_norm(norm: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    return (x - x.mean()) / (x.var(correction=0) + norm.eps).sqrt() * norm.weight + norm.bias


def naive_fusion(layers: Any, x: Tensor) -> Tensor:
    """Instance norm, leaky ReLU of slope 0.2, convolution, three times."""
    for norm, _, convolution in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + norm.eps).sqrt()
        x = torch.where(x > 0, x, 0.2 * x)
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=convolution.padding)
    return x
