"""Which modalities a sample has, and which of them training shows to the model.

Shapes: N samples, V modalities. ``available`` (N, V) is what a sample has; ``present`` (N, V) is
the subset that a method sees.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.protocol.combinations import lattice
from harness.protocol.presence import Presence


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
    # Of k modalities a sample has 2^k - 1 non-empty subsets, numbered from 1: bit i of the number
    # says whether the i-th of its own modalities is shown.
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
    # Drawn for all samples, so that the stream does not depend on who loses everything; what a
    # sample lacks never wins.
    lottery = torch.rand(available.shape, generator=generator, dtype=torch.float64).masked_fill(
        ~available, -1.0
    )
    rescued = torch.nn.functional.one_hot(lottery.argmax(1), available.shape[1]).bool()
    return torch.where(keep.any(1, keepdim=True), keep, rescued)


def draw_left(available: Tensor, left: Presence, generator: torch.Generator) -> Tensor:
    """Training-time missingness by a presence profile: what each sample is left with, (N, V) bool.

    One draw per sample of a combination, of which it keeps what it has. A sample keeps at least
    one modality: the draw is conditional on that, as if the sample were drawn again whenever
    nothing would be left. ``drop_modalities`` lets it keep one instead.

    Args:
        available: (N, V) bool, every row with at least one True.
        left: the profile; every modality must be present with some probability.
        generator: the stream of the study's fixed pattern.
    """
    masks = torch.tensor([combination.mask for combination in lattice(left.names)])
    chances = torch.tensor(left.probabilities, dtype=torch.float64)
    uniform = torch.rand(len(available), generator=generator, dtype=torch.float64)
    kept = torch.zeros_like(available)
    # Samples that have the same are drawn from the same distribution.
    for row in torch.unique(available, dim=0):
        own = masks & row
        # A combination of which nothing would be left is never drawn.
        upto = (chances * own.any(1)).cumsum(0)
        here = (available == row).all(1)
        kept[here] = own[torch.searchsorted(upto / upto[-1], uniform[here], right=True)]
    return kept


def combination_index(present: Tensor) -> Tensor:
    """j = sum_v 2^v delta_v of each row: (N, V) bool to (N,) int64 in 1 .. 2^V - 1."""
    weights = 1 << torch.arange(present.shape[1], device=present.device)
    return (present.long() * weights).sum(1)
