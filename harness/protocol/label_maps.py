"""Label maps: void pixels, their loss at several resolutions, and side predictions.

Side predictions are what a segmentation head predicts at coarser scales in training. They are an
attribute of the logits, so that a method that knows nothing of them (``Output(self.head(z, fused),
z)`` and ``self.task_loss(output.logits, target)``) trains them as the network's authors do.
Whatever computes new logits from logits leaves them behind.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

VOID = 255
"""The target of pixels that have no class."""


def with_sides(logits: Tensor, sides: tuple[Tensor, ...]) -> Tensor:
    """``logits`` (B, K, H, W) itself, carrying side predictions (B, K, h, w), fine to coarse."""
    logits.sides = sides  # type: ignore[attr-defined]
    return logits


def sides_of(logits: Tensor) -> tuple[Tensor, ...]:
    """The side predictions that ``logits`` carry; none in evaluation."""
    sides: tuple[Tensor, ...] = getattr(logits, "sides", ())
    return sides


def chunk(logits: Tensor, parts: int) -> list[Tensor]:
    """``logits`` split into equal parts along the batch, each with its part of the side
    predictions.
    """
    sides = [side.chunk(parts) for side in sides_of(logits)]
    return [
        with_sides(part, tuple(side[i] for side in sides))
        for i, part in enumerate(logits.chunk(parts))
    ]


def labels_at(target: Tensor, like: Tensor) -> Tensor:
    """A label map (B, H, W) at the resolution of ``like`` (B, K, h, w), by nearest neighbour: a
    cell's upper left pixel.
    """
    if target.shape[1:] == like.shape[2:]:
        return target
    rows, columns = (
        torch.arange(wanted, device=target.device) * size // wanted
        for size, wanted in zip(target.shape[1:], like.shape[2:], strict=True)
    )
    return target.index_select(1, rows).index_select(2, columns)


def pixel_loss(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """(B,), each sample's part of B * sum(w_y CE) / sum(w_y) over the batch's pixels that are not
    void; zeros if all are void.

    Its mean is ``torch.nn.functional.cross_entropy`` with ``weight`` and ``ignore_index``, which
    has no deterministic reduction over pixels on CUDA.
    """
    losses = F.cross_entropy(logits, target, weight=weights, ignore_index=VOID, reduction="none")
    known = target != VOID
    total = known.sum()
    if weights is not None:
        # Void is no index of a weight: class 0 stands in its place until it is taken out again.
        of_pixels = weights[torch.where(known, target, 0)]
        total = torch.where(known, of_pixels, 0.0).sum()
    return losses.flatten(1).sum(1) * (len(target) / torch.where(total > 0, total, 1))
