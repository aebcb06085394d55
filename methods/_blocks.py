"""Fusion blocks and losses shared by methods.

B batch, V modalities, (c, h, w) a feature map; masks are (B, V) bool.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.protocol.seeds import Noise


def masked(features: Sequence[Tensor], present: Tensor) -> list[Tensor]:
    """Each modality's (B, ...) features with absent samples replaced by zeros.

    By ``where``, not by multiplication: what stands in an absent place may be NaN.
    """
    return [
        torch.where(_per_sample(present[:, v], like=f), f, torch.zeros_like(f))
        for v, f in enumerate(features)
    ]


def _per_sample(mask: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1), with as many dimensions as ``like``."""
    return mask.reshape(-1, *[1] * (like.dim() - 1))


def masked_concat(features: Sequence[tuple[Tensor, ...]], present: Tensor) -> tuple[Tensor, ...]:
    """The masked maps of all modalities, concatenated over channels at each scale.

    V tuples of (B, c, h, w) -> one tuple of (B, V*c, h, w).
    """
    scales = zip(*features, strict=True)  # from one tuple per modality to one per scale
    return tuple(torch.cat(masked(maps, present), 1) for maps in scales)


def mean_and_variance(features: Sequence[Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
    """Element-wise mean and unbiased variance over the present modalities, as HeMIS has them.

    (B, ...) each, the divisor is n - 1, the variance 0 at n = 1. The two-pass form is exact at n =
    1 and cannot go negative; the sum is taken in float32.
    """
    stacked = torch.stack(masked(features, present), 1).float()  # (B, V, ...)
    mask = present.reshape(*present.shape, *[1] * (stacked.dim() - 2))  # (B, V, 1, ..., 1)
    n = mask.sum(1).float()
    mean = stacked.sum(1) / n
    deviations = stacked - mean.unsqueeze(1)
    # The zeros of absent modalities deviate from the mean too, and are no samples.
    squares = torch.where(mask, deviations.square(), torch.zeros_like(stacked))
    return mean, squares.sum(1) / (n - 1).clamp_min(1)


def subset_weight_note(
    weight: str, value: float, combinations: int, modalities: int, batch_size: int, variant: str
) -> str:
    """What the weight of a loss on some combinations' samples amounts to, in a sentence.

    ``paper`` (DMRNet, Eq. 11) adds each such sample's own loss over B: in expectation, the share
    that these combinations have among all. ``released`` multiplies a mask of shape (B, 1, 1, 1) by
    losses of shape (B,), which broadcasts: in sum the number of these samples times the mean loss
    of the batch, B times as much.

    Args:
        weight: its name.
        value: the weight.
        combinations: how many of the 2^V - 1 equally likely combinations the loss is for.
        modalities: V.
        batch_size: B.
        variant: ``paper`` or ``released``.
    """
    all_combinations = 2**modalities - 1
    of_paper = value * combinations / all_combinations
    of_released = of_paper * batch_size
    if variant == "paper":
        here, there, other = of_paper, of_released, "released"
    else:
        here, there, other = of_released, of_paper, "paper"
    return (
        f"{weight} = {value:g} adds {here:.3g} times the size of a mean loss here, in expectation"
        f" ({combinations} of {all_combinations} combinations, batches of {batch_size}), and"
        f" {there:.3g} times in the variant {other}: the released trainer multiplies the whole"
        f" batch's mean loss by the number of these samples, {batch_size} times as much as each"
        " one's own loss over B. A weight that was chosen with the one means something else with"
        " the other"
    )


def gaussian_kl(mu: Tensor, logvar: Tensor, per_place: bool = False) -> Tensor:
    """KL(N(mu, diag exp(logvar)) || N(0, I)), 0-d (DMRNet, Eq. 9).

    It is summed over all dimensions of a sample and averaged over the batch: 0.5 * sum(exp(logvar)
    + mu^2 - logvar - 1), from the log-variance directly and in float32. The sum is that of the
    released code; Eq. 9 prints none, and a mean would divide alpha by D = C*h*w. ``per_place``: of
    maps (B, C, h, w), summed over C and averaged over batch and places, so that it does not grow
    with the input.
    """
    mu, logvar = mu.float(), logvar.float()
    kl = 0.5 * (logvar.exp() + mu.square() - logvar - 1)
    of_each = kl.sum(1) if per_place else kl.flatten(1).sum(1)  # (B, h, w) or (B,)
    return of_each.mean()


def sample_gaussian(mu: Tensor, logvar: Tensor, noise: Noise | None) -> Tensor:
    """mu + eps * exp(0.5 * logvar) (DMRNet, Eq. 7), one draw per element.

    mu itself when ``noise`` is None.
    """
    return mu if noise is None else mu + noise.normal_like(mu) * (0.5 * logvar).exp()


class DistributionHeads(nn.Module):
    """The parameters of a Gaussian per place (DMRNet, Eq. 5-6): (B, C, h, w) -> (mu, logvar).

    Each is a 1x1 convolution with bias followed by batch norm, (B, C, h, w). ``logvar`` is log
    sigma^2, as in the released code; Eq. 6 prints log sigma.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mu = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.logvar = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu(z), self.logvar(z)
