"""DMRNet: rows T7-T13 of the method spec's section 10.

Each against a closed form or plain arithmetic.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.protocol.seeds import Noise
from methods._blocks import DistributionHeads, gaussian_kl, sample_gaussian
from methods.dmrnet import DMRNet
from tests.support.dmrnet_model import (
    COMBINATIONS,
    PRESENT,
    SPLIT,
    begin,
    generator,
    losses,
    model_of,
)


def gradients(model: DMRNet, loss: Tensor) -> list[Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_same_gradients(found: list[Tensor], expected: list[Tensor], scale: float = 1.0) -> None:
    assert max(float(g.abs().max()) for g in expected) > 1e-4
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, scale * b, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------- the KL term


@pytest.mark.parametrize(
    ("mu", "logvar", "expected"),
    [(1.0, 0.0, 0.5), (0.0, math.log(4), 0.80685), (0.0, math.log(0.25), 0.31815), (0.0, 0.0, 0.0)],
)
def test_T07_kl_scalar(mu: float, logvar: float, expected: float) -> None:
    found = gaussian_kl(torch.tensor([[mu]]), torch.tensor([[logvar]])).item()
    assert found == pytest.approx(expected, abs=1e-5)
    # Reading the head as log sigma would give 6.1137 for log 4.
    assert found != pytest.approx(6.1137, abs=1e-3)


def test_T07_kl_is_torchs_summed_over_dimensions_and_averaged_over_the_batch() -> None:
    mu, logvar = torch.randn(2, 6, 4, 2, 2, generator=generator())
    normal = torch.distributions.Normal
    per_entry = torch.distributions.kl_divergence(
        normal(mu, (0.5 * logvar).exp()), normal(0.0, 1.0)
    )
    assert gaussian_kl(mu, logvar).item() == pytest.approx(per_entry.sum().item() / 6, rel=1e-5)


def test_T08_kl_of_fresh_heads_is_half_d_times_the_mean_variance() -> None:
    # Batch norm with its first weights makes the batch means of mu^2 and log sigma^2 one and zero,
    # so that KL = 0.5 * D * (E[sigma^2] + 1 - 0 - 1); for Gaussian inputs E[sigma^2] = exp(0.5).
    heads = DistributionHeads(32).train()
    mu, logvar = heads(torch.randn(512, 32, 4, 4, generator=generator()))
    variance = logvar.exp().mean().item()
    assert gaussian_kl(mu, logvar).item() == pytest.approx(0.5 * 32 * 16 * variance, rel=1e-3)
    assert variance == pytest.approx(math.exp(0.5), rel=0.02)


def test_T08_the_models_kl_term_at_the_start_is_alpha_times_that() -> None:
    model = model_of(alpha=1e-2).train()
    terms, output = losses(model)
    d = output.extra["mu"][0].numel()
    assert d == 16 * 2 * 2
    variance = output.extra["logvar"].exp().mean().item()
    assert terms["kl"].item() == pytest.approx(1e-2 * 0.5 * d * variance, rel=1e-2)


def test_T09_kl_gradients() -> None:
    mu, logvar = (x.requires_grad_() for x in torch.randn(2, 6, 4, 2, 2, generator=generator()))
    found = torch.autograd.grad(gaussian_kl(mu, logvar), (mu, logvar))
    torch.testing.assert_close(found[0], mu.detach() / 6, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        found[1], 0.5 * (logvar.detach().exp() - 1) / 6, rtol=1e-5, atol=1e-7
    )


# ---------------------------------------------------------------------- sampling


def test_T10_pooled_noise_has_a_quarter_of_the_deviation_on_a_4x4_map() -> None:
    zero = torch.zeros(400, 64, 4, 4)
    pooled = sample_gaussian(zero, zero, Noise(generator())).mean((2, 3))
    assert pooled.std().item() == pytest.approx(0.25, abs=4 * 0.25 / math.sqrt(2 * pooled.numel()))
    assert pooled.mean().item() == pytest.approx(0.0, abs=4 * 0.25 / math.sqrt(pooled.numel()))


def test_T10_the_head_is_a_log_variance() -> None:
    mu, logvar = torch.full((300, 1000), 3.0), torch.full((300, 1000), math.log(4.0))
    sample = sample_gaussian(mu, logvar, Noise(generator()))
    # sigma = 2; reading the head as log sigma would give 4.
    assert sample.std().item() == pytest.approx(2.0, rel=0.01)
    assert sample.mean().item() == pytest.approx(3.0, abs=0.02)


def test_T10_training_passes_differ_and_evaluations_are_the_head_of_the_mean() -> None:
    model = model_of().train()
    features = model.prepare(model.encode_all(SPLIT.inputs))
    noise = Noise(generator())
    first, second = (model.combine(features, PRESENT, noise).logits for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    with torch.no_grad():
        output, again = (model(SPLIT.inputs, PRESENT) for _ in range(2))
        assert torch.equal(output.logits, again.logits)
        assert torch.equal(output.logits, model.head.linear(output.extra["mu"].mean((2, 3))))


def test_T11_without_variance_training_output_is_evaluation_output() -> None:
    model = model_of().eval()
    with torch.no_grad():
        batch_norm = model.heads.logvar[1]
        batch_norm.weight.zero_()
        batch_norm.bias.fill_(-30.0)
        noisy, quiet = (
            model(SPLIT.inputs, PRESENT, noise).logits for noise in (Noise(generator()), None)
        )
    torch.testing.assert_close(noisy, quiet, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        batch_norm.bias.fill_(0.0)
        assert (
            float((model(SPLIT.inputs, PRESENT, Noise(generator())).logits - quiet).abs().max())
            > 0.1
        )


# ---------------------------------------------------------------------- hard combinations


def with_hard_set(variant: str, names: str, beta: float = 0.7) -> tuple[DMRNet, Tensor]:
    """A model in which HCR is on and KL is off, and the indicator (B,) of hard samples by names."""
    model = model_of(variant, alpha=0.0, beta=beta, hard_set=names).train()
    begin(model, 50)
    chosen = names.split(",")
    shown = [next(c.name for c in COMBINATIONS if c.mask == tuple(row)) for row in PRESENT.tolist()]
    return model, torch.tensor([float(name in chosen) for name in shown])


def test_T12_hcr_is_a_weight_on_hard_samples() -> None:
    model, hard = with_hard_set("paper", "m0,m2,m0+m2")
    assert hard.sum() == 6
    terms, output = losses(model)
    ce = F.cross_entropy(output.logits, SPLIT.target, reduction="none")
    assert terms["task"].item() == pytest.approx(ce.mean().item(), rel=1e-6)
    assert terms["hcr"].item() == pytest.approx(0.7 * (hard * ce).sum().item() / 14, rel=1e-6)
    assert_same_gradients(
        gradients(model, sum(terms.values())), gradients(model, ((1 + 0.7 * hard) * ce).mean())
    )


def test_T12_released_hcr_is_a_factor_on_the_whole_loss() -> None:
    model, hard = with_hard_set("released", "m0,m2,m0+m2")
    terms, output = losses(model)
    ce = F.cross_entropy(output.logits, SPLIT.target)
    factor = 1 + 0.7 * hard.sum().item()
    assert_same_gradients(gradients(model, sum(terms.values())), gradients(model, ce), scale=factor)


def test_T12_released_hcr_is_what_broadcasting_a_mask_column_gives() -> None:
    model, hard = with_hard_set("released", "m1")
    terms, output = losses(model)
    ce = F.cross_entropy(output.logits, SPLIT.target, reduction="none")
    broadcast = hard.reshape(-1, 1, 1, 1) * ce
    assert tuple(broadcast.shape) == (14, 1, 1, 14)
    assert terms["hcr"].item() == pytest.approx(0.7 * broadcast.sum().item() / 14, rel=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_T13_hcr_starts_in_epoch_6(variant: str) -> None:
    model = model_of(variant, hard_set="m0").train()
    for epoch in range(12):
        begin(model, epoch)
        assert (losses(model, epoch=epoch)[0]["hcr"].item() > 0) == (epoch >= 6)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_T13_hcr_is_zero_without_a_hard_sample(variant: str) -> None:
    model = model_of(variant, hard_set="m0").train()
    begin(model, 6)
    easy = torch.tensor([[False, True, True]]).expand(14, -1)
    assert losses(model, easy)[0]["hcr"].item() == 0.0
