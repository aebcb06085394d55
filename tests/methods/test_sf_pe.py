"""SF-PE against loops, closed forms, a library's KL, and the published number of parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from harness.conformance.synthetic import LATE
from harness.method import Method
from harness.protocol.seeds import Streams
from methods._blocks import gaussian_kl
from methods.sf_md import SFMD
from methods.sf_pcme import SFPCME
from methods.sf_pe import SFPE
from tests.support.naive import C, case, check_sampled_vector, dense, on_resnet, trained

BOTH = pytest.mark.parametrize("cls", [SFPE, SFPCME])


def naive_heads(weights: dict[str, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """mu and log sigma^2 (C,) of one sample in evaluation, value by value."""
    pooled = [channel.sum() / channel.numel() for channel in z]
    found = []
    for name in ("mu", "logvar"):
        key = f"distribution.{name}"
        raw = dense(weights, f"{key}.0", pooled)
        mean, variance = weights[f"{key}.1.running_mean"], weights[f"{key}.1.running_var"]
        scale, shift = weights[f"{key}.1.weight"], weights[f"{key}.1.bias"]
        deviation = [math.sqrt(float(square) + 1e-5) for square in variance]
        normed = [scale[j] * (raw[j] - mean[j]) / deviation[j] + shift[j] for j in range(len(raw))]
        found.append(torch.stack(normed))
    return found[0], found[1]


def test_naive_loops_agree_on_all_combinations() -> None:
    check_sampled_vector(SFPE, naive_heads)


@torch.no_grad()
def test_training_loss_by_loops() -> None:
    """Batch norm over the batch, one draw per element of the vector, KL summed over the vector (by
    torch.distributions).
    """
    made = case(SFPE, alpha=0.3)
    method, seen = made.fresh(), []
    made.begin(method, LATE)
    method.trunk.register_forward_hook(lambda m, i, z: seen.append(z))  # type: ignore[union-attr]
    terms, output, batch = made.losses(method, made.mixed)
    v = seen[0].flatten(2).mean(2)
    weights, (mu, logvar) = (
        method.state_dict(),
        (torch.zeros(made.size, C), torch.zeros(made.size, C)),
    )
    for target, name in ((mu, "mu"), (logvar, "logvar")):
        raw = torch.stack(
            [torch.stack(dense(weights, f"distribution.{name}.0", list(row))) for row in v]
        )
        for j in range(C):
            column = raw[:, j]
            target[:, j] = (column - column.mean()) / (column.var(correction=0) + 1e-5).sqrt()
    eps = torch.randn(made.size, C, generator=Streams(LATE).generator("noise"))
    ce, kl = 0.0, 0.0
    for b in range(made.size):
        s = mu[b] + eps[b] * (0.5 * logvar[b]).exp()
        logits = torch.stack(dense(weights, "head.linear", list(s)))
        ce += float(logits.exp().sum().log() - logits[batch.target[b]])
        kl += float(
            kl_divergence(
                Normal(mu[b], (0.5 * logvar[b]).exp()), Normal(torch.zeros(C), torch.ones(C))
            ).sum()
        )
    assert set(terms) == {"task", "kl"}
    assert float(terms["task"]) == pytest.approx(ce / made.size, rel=1e-4)
    assert float(terms["kl"]) == pytest.approx(0.3 * kl / made.size, rel=1e-4)
    assert output.z.shape == (made.size, C)


def constant_heads(method: Method, mu: float, logvar: float) -> None:
    """Heads that give ``mu`` and ``logvar`` whatever they see."""
    for sequence, value in ((method.distribution.mu, mu), (method.distribution.logvar, logvar)):  # type: ignore[union-attr]
        torch.nn.init.zeros_(sequence[1].weight)  # type: ignore[index, arg-type]
        torch.nn.init.constant_(sequence[1].bias, value)  # type: ignore[index, arg-type]


@torch.no_grad()
def test_T7_kl_is_summed_over_the_vector() -> None:
    for mu, logvar, per_element in (
        (1.0, 0.0, 0.5),
        (0.0, math.log(4), 0.80685),
        (0.0, -math.log(4), 0.31815),
    ):
        made = case(SFPE, alpha=0.01)
        method = made.fresh()
        made.begin(method, 0)
        constant_heads(method, mu, logvar)
        assert float(made.losses(method, made.mixed, 0)[0]["kl"]) == pytest.approx(
            0.01 * C * per_element, rel=1e-4
        )


@torch.no_grad()
def test_T10_the_noise_of_a_vector_is_not_averaged_by_pooling() -> None:
    """std(s) is sigma: 2 here, not 2 / sqrt(h * w) = 1 as behind the pooled 2x2 map."""
    made = case(SFPE)
    method = made.fresh()
    made.begin(method, LATE)
    constant_heads(method, 0.0, math.log(4))
    draws = torch.stack(
        [made.losses(method, made.mixed, noise=made.noise(seed))[1].z for seed in range(40)]
    )
    assert float(draws.std()) == pytest.approx(2.0, rel=0.02)
    assert float(draws.mean()) == pytest.approx(0.0, abs=0.05)


@BOTH
@torch.no_grad()
def test_T10_evaluation_is_deterministic_and_the_mean(cls: type[Method]) -> None:
    made, method = trained(cls)
    output, again = method(made.split.inputs, made.mixed), method(made.split.inputs, made.mixed)
    linear = method.head.linear  # type: ignore[union-attr]
    assert torch.equal(output.logits, again.logits)
    assert torch.equal(output.z, output.extra["mu"])
    torch.testing.assert_close(
        output.logits, F.linear(output.extra["mu"], linear.weight, linear.bias)
    )  # type: ignore[union-attr, arg-type]


@BOTH
def test_alpha_weights_the_gradient_of_the_kl(cls: type[Method]) -> None:
    """At alpha = 0 the KL has no gradient; with alpha it is alpha times the KL's own."""
    gradients = {}
    for alpha in (0.0, 0.5):
        made = case(cls, alpha=alpha)
        method = made.fresh()
        made.begin(method, LATE)
        terms, output, _ = made.losses(method, made.mixed)
        weight = dict(method.named_parameters())[
            "distribution.logvar." + ("0" if cls is SFPE else "attended") + ".weight"
        ]
        gradients[alpha] = torch.autograd.grad(terms["kl"], weight, retain_graph=True)[0]
        own = torch.autograd.grad(gaussian_kl(output.extra["mu"], output.extra["logvar"]), weight)[
            0
        ]
        torch.testing.assert_close(gradients[alpha], alpha * own)
    assert not bool(gradients[0.0].any()) and bool(gradients[0.5].any())


def test_T1_parameters() -> None:
    counts = on_resnet(SFPE).parameter_counts()
    assert counts == {"training": 13_182_554 + 527_360, "inference": 13_182_554 + 263_680}
    for v in (2, 3, 4):
        plain, own = (
            case(SFMD, v).fresh().parameter_counts(),
            case(SFPE, v).fresh().parameter_counts(),
        )
        assert own["training"] - plain["training"] == 2 * (C * C + 3 * C)
        assert own["inference"] - plain["inference"] == C * C + 3 * C


@BOTH
def test_alpha_is_searched_from_the_map_weight_to_its_equal_on_a_vector(cls: type[Method]) -> None:
    alpha = cls.hyperparameters["alpha"]
    assert (alpha.default, alpha.low, alpha.high, alpha.log) == (1e-3, 1e-3, 1.6e-2, True)
    assert all(alpha.check("alpha", value) == value for value in (0.0, 1e-3, 1e-2, 1.6e-2))
