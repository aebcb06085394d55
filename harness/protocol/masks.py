"""Which modalities a sample has, and which of them training shows to the model.

Shapes: N samples, V modalities. ``available`` (N, V) is what a sample has; ``present`` (N, V) is
the subset that a method sees.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_present(available: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform draw per sample from the non-empty subsets of what the sample has.

    With all V modalities available each of the 2^V - 1 combinations has the same probability, so
    that P(modality present) is 2^(V-1) / (2^V - 1). One uniform number per sample is drawn,
    whatever its availability, so that streams stay aligned.

    Args:
        available: (N, V) bool on the CPU, every row with at least one True.
        generator: the mask stream of one (seed, epoch).

    Returns:
        (N, V) bool, every row non-empty and contained in the row of ``available``.
    """
    subsets = (1 << available.sum(1)) - 1
    if bool((subsets == 0).any()):
        raise ValueError("a sample without any modality cannot be drawn from")
    uniform = torch.rand(available.shape[0], generator=generator, dtype=torch.float64)
    code = 1 + (uniform * subsets).long()
    rank = (available.long().cumsum(1) - 1).clamp_min(0)
    return available & (((code[:, None] >> rank) & 1) == 1)


def drop_modalities(available: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Training-time missingness: each available modality is lost with probability ``rate``, but a
    sample keeps at least one.

    A sample that would lose everything keeps one of its modalities, chosen uniformly.

    Args:
        available: (N, V) bool.
        rate: probability in [0, 1) that a modality is missing, independent of everything else.
        generator: the stream of the study's fixed pattern.
    """
    keep = available & (
        torch.rand(available.shape, generator=generator, dtype=torch.float64) >= rate
    )
    lottery = torch.rand(available.shape, generator=generator, dtype=torch.float64).masked_fill(
        ~available, -1.0
    )
    rescued = torch.nn.functional.one_hot(lottery.argmax(1), available.shape[1]).bool()
    return torch.where(keep.any(1, keepdim=True), keep, rescued)


def combination_index(present: Tensor) -> Tensor:
    """j = sum_v 2^v delta_v of each row: (N, V) bool to (N,) int64 in 1 .. 2^V - 1."""
    weights = 1 << torch.arange(present.shape[1], device=present.device)
    return (present.long() * weights).sum(1)
