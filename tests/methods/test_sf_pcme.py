"""SF-PCME against loops over samples and positions, closed forms, the spec's parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from harness.conformance.synthetic import LATE
from methods.sf_md import SFMD
from methods.sf_pcme import SFPCME
from tests.support.naive import C, case, check_sampled_vector, dense, on_resnet


def attended(weights: dict[str, Tensor], key: str, z: Tensor) -> list[Tensor]:
    """One head of attention over the positions of z (C, h, w), position by position."""
    positions = [z[:, i, j] for i in range(z.shape[1]) for j in range(z.shape[2])]
    scores = []
    for token in positions:
        hidden = [value.tanh() for value in dense(weights, f"{key}.score.0", list(token))]
        scores.append(math.exp(float(dense(weights, f"{key}.score.2", hidden)[0])))
    return [
        sum(
            (score * token[c] for score, token in zip(scores, positions, strict=True)),
            z.new_zeros(()),
        )
        / sum(scores)
        for c in range(len(z))
    ]


def naive_heads(weights: dict[str, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """mu and log sigma^2 (C,) of one sample."""
    pooled = [channel.sum() / channel.numel() for channel in z]
    sums = []
    for name in ("mu", "logvar"):
        key = f"distribution.{name}"
        from_attention = torch.stack(
            dense(weights, f"{key}.attended", attended(weights, f"{key}.attention", z))
        )
        from_mean = torch.stack(dense(weights, f"{key}.pooled", pooled))
        sums.append(
            from_mean + (1 / (1 + (-from_attention).exp()) if name == "mu" else from_attention)
        )
    first, logvar = sums
    normed = (first - first.mean()) / (first.var(correction=0) + 1e-5).sqrt()
    return normed * weights["distribution.norm.weight"] + weights["distribution.norm.bias"], logvar


def test_naive_loops_agree_on_all_combinations() -> None:
    check_sampled_vector(SFPCME, naive_heads)


@torch.no_grad()
def test_training_loss_by_loops() -> None:
    made = case(SFPCME, alpha=0.3)
    method, seen = made.fresh(), []
    made.begin(method, LATE)
    method.trunk.register_forward_hook(lambda m, i, z: seen.append(z))  # type: ignore[union-attr]
    terms, _, batch = made.losses(method, made.mixed)
    weights, noise = method.state_dict(), made.noise(LATE)
    eps = noise.normal_like(torch.zeros(made.size, C))
    ce, kl = 0.0, 0.0
    for b, z in enumerate(seen[0]):
        mu, logvar = naive_heads(weights, z)
        sigma = (0.5 * logvar).exp()
        logits = torch.stack(dense(weights, "head.linear", list(mu + eps[b] * sigma)))
        ce += float(logits.exp().sum().log() - logits[batch.target[b]])
        kl += float(kl_divergence(Normal(mu, sigma), Normal(torch.zeros(C), torch.ones(C))).sum())
    assert set(terms) == {"task", "kl"}
    assert float(terms["task"]) == pytest.approx(ce / made.size, rel=1e-4)
    assert float(terms["kl"]) == pytest.approx(0.3 * kl / made.size, rel=1e-4)


@torch.no_grad()
def test_attention_without_scores_is_pooling_and_attention_follows_the_score() -> None:
    attention = case(SFPCME).fresh().distribution.mu.attention  # type: ignore[union-attr]
    z = torch.randn(3, C, 2, 5, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(attention.score[2].weight)  # type: ignore[union-attr, index, arg-type]
    torch.testing.assert_close(attention(z), z.mean((2, 3)))  # type: ignore[operator]
    # A score that grows without bound with channel 0 picks the position where channel 0 is largest.
    for layer, row in ((attention.score[0], 0), (attention.score[2], 0)):  # type: ignore[union-attr, index]
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        layer.weight[row, 0] = 1e-3 if layer is attention.score[0] else 1e6  # type: ignore[union-attr, index]
    best = z[:, 0].flatten(1).argmax(1)
    picked = torch.stack([sample.flatten(1)[:, p] for sample, p in zip(z, best, strict=True)])
    torch.testing.assert_close(attention(z), picked, atol=1e-3, rtol=1e-3)  # type: ignore[operator]


@torch.no_grad()
def test_mu_is_normalised_over_the_vector() -> None:
    made = case(SFPCME)
    mu = made.fresh().eval()(made.split.inputs, made.mixed).extra["mu"]
    torch.testing.assert_close(mu.mean(1), torch.zeros(made.size), atol=1e-5, rtol=0)
    torch.testing.assert_close(mu.var(1, correction=0), torch.ones(made.size), atol=1e-2, rtol=0)


def test_T1_parameters() -> None:
    """Two attentions of 131,328, four linear layers of 262,656 and a layer norm of 1,024 at C =
    512.
    """
    counts = on_resnet(SFPCME).parameter_counts()
    assert counts == {
        "training": 13_182_554 + 1_314_304,
        "inference": 13_182_554 + 131_328 + 2 * 262_656 + 1_024,
    }
    attention, linear = C * (C // 2) + C // 2, C * C + C
    for v in (2, 3, 4):
        plain, own = (
            case(SFMD, v).fresh().parameter_counts(),
            case(SFPCME, v).fresh().parameter_counts(),
        )
        assert own["training"] - plain["training"] == 2 * attention + 4 * linear + 2 * C
        assert own["inference"] - plain["inference"] == attention + 2 * linear + 2 * C
