"""Side predictions: what a segmentation head predicts at coarser scales in training, and how it travels.

They are an attribute of the logits, so that a method that knows nothing of them (``Output(self.head(z, fused), z)`` and
``self.task_loss(output.logits, target)``) trains them as the network's authors do. Whatever computes new logits from logits leaves
them behind.
"""

from __future__ import annotations

from torch import Tensor


def with_sides(logits: Tensor, sides: tuple[Tensor, ...]) -> Tensor:
    """``logits`` (B, K, H, W) itself, carrying side predictions (B, K, h, w), fine to coarse."""
    logits.sides = sides  # type: ignore[attr-defined]
    return logits


def sides_of(logits: Tensor) -> tuple[Tensor, ...]:
    """The side predictions that ``logits`` carry; none in evaluation."""
    sides: tuple[Tensor, ...] = getattr(logits, "sides", ())
    return sides


def chunk(logits: Tensor, parts: int) -> list[Tensor]:
    """``logits`` split into equal parts along the batch, each with its part of the side predictions."""
    sides = [side.chunk(parts) for side in sides_of(logits)]
    return [with_sides(part, tuple(side[i] for side in sides)) for i, part in enumerate(logits.chunk(parts))]
