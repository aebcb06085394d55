"""All combinations from cached features: each in a call of ``fuse`` of its own, or several in one.

C = 2^V - 1 combinations, B samples, K classes. Called by the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from harness.method import Method
from harness.training.precision import UNITS, forward_in

AT_ONCE = 1 << 30
"""Bytes of features up to which combinations share a call on an accelerator.

What a fusion makes of them takes a few times as much. All 7 combinations of the network of
CASIA-SURF on 256 samples take half of it.
"""

TOLERANCE = 8
"""How far scores of combinations that share a call may be from those of a call of their own.

In units of the last place of the largest score: 1e-6 of it in float32, 8e-3 in tf32, 6e-2 in bf16.
"""


class NotSeparable(RuntimeError):
    """A method's cached features do not give what its plain forward pass gives."""


class Fusion:
    """Fuses every combination of a model in evaluation mode.

    Args:
        model: the method.
        device: where its features are.
        at_once: bytes of features up to which combinations share a call. None: on a CPU none, since
            a call for each gives the bits of the plain forward pass and is about as fast
            (tests/benchmarks/README.md); AT_ONCE elsewhere.
        precision: the arithmetic of forward passes.
    """

    def __init__(
        self,
        model: Method,
        device: torch.device,
        at_once: int | None = None,
        precision: str = "float32",
    ) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.masks = torch.tensor([c.mask for c in model.combinations]).to(device)  # (C, V)
        self.looked_at = len(self.masks) // 2
        if at_once is None:
            at_once = 0 if device.type == "cpu" else AT_ONCE
        self.at_once = at_once

    def calls(self, cache: Any, rows: int) -> Sequence[Tensor]:
        """The masks (C, V) in groups of about equal size, one for each call.

        As many share a call as have features of ``at_once`` bytes. Each has its own where that is
        less, or where features are no tree of tensors with a row for each of the ``rows`` samples.
        """
        leaves = tree_leaves(cache)
        if not all(isinstance(leaf, Tensor) and leaf.shape[:1] == (rows,) for leaf in leaves):
            return torch.tensor_split(self.masks, len(self.masks))
        size = max(1, sum(leaf.numel() * leaf.element_size() for leaf in leaves))
        most = max(1, self.at_once // size)
        calls = -(-len(self.masks) // most)  # rounded up
        return torch.tensor_split(self.masks, calls)

    def logits(self, cache: Any, call: Tensor, rows: int) -> Tensor:
        """Logits (c, B, ...) of the masks (c, V) of one call, from features of B = ``rows``.

        Of a regression the predicted values, in the labels' unit.
        """
        count, model = len(call), self.model
        with forward_in(self.precision, self.device):
            if count == 1:
                fused = model.combine(cache, call.expand(rows, -1)).logits
            else:
                # All samples under the first mask, then all under the second, ...: (c * B, ...).
                repeated = tree_map(lambda leaf: leaf.repeat(count, *[1] * (leaf.dim() - 1)), cache)
                fused = model.combine(repeated, call.repeat_interleave(rows, 0)).logits
        logits = model.predicted(fused)
        return logits.reshape(count, rows, *logits.shape[1:])

    def check(self, inputs: Mapping[str, Tensor], cache: Any, scores: Tensor) -> bool:
        """Whether a batch's scores can be used, by those of the combination ``looked_at``.

        NotSeparable unless a call of its own gives the bits of a plain forward pass of ``inputs``.
        False when it shared a call that gave something else; from now on none share one.
        """
        mask, rows = self.masks[self.looked_at], len(scores)
        shared = len(self.calls(cache, rows)) < len(self.masks)
        alone = self.logits(cache, mask[None], rows)[0] if shared else scores
        with forward_in(self.precision, self.device):
            plain = self.model(inputs, mask.expand(rows, -1)).logits
        plain = self.model.predicted(plain)
        if not torch.equal(plain.nan_to_num(), alone.nan_to_num()):
            raise NotSeparable(
                f"{type(self.model).__name__}: logits fused from cached features differ from a"
                f" plain forward pass by up to {float((plain - alone).abs().max()):.3g}; encode or"
                " prepare depends on more than its own modality"
            )
        if not shared or self._agree(alone, scores):
            return True
        self.at_once = 0
        return False

    def _agree(self, alone: Tensor, shared: Tensor) -> bool:
        """Whether scores differ by at most TOLERANCE; what is not finite is equal."""
        alone, shared = alone.nan_to_num(), shared.nan_to_num()
        unit = torch.finfo(alone.dtype).eps
        if self.precision != "float32":
            # Logits of float32 may come from factors that were rounded.
            unit = max(unit, UNITS[self.precision])
        gap = (alone - shared).float().abs().max()
        return bool(gap <= TOLERANCE * unit * alone.abs().max().float())
