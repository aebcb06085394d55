"""What a CUDA graph is, on a CPU: the operations of a piece of work, done again on the same memory.

Called by tests of replayed training steps. Like a graph it knows no Python: values that Python
computed while it was recorded stay as they were, and reading a value, copying one from the host or
a shape that depends on data is refused. Unlike a graph, it is also done when it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.support.device_reads import READS

FROM_HOST = "lift_fresh"
"""What ``torch.tensor`` is made of: on a GPU, a copy from the host."""

ANY_ORDER = (
    "adaptive_max_pool2d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "avg_pool3d_backward",
    "max_pool3d_with_indices_backward",
    "fractional_max_pool2d_backward",
    "upsample_linear1d_backward",
    "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward",
    "_upsample_bilinear2d_aa_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "replication_pad1d_backward",
    "replication_pad2d_backward",
    "grid_sampler_2d_backward",
    "_ctc_loss_backward",
    "put_",
    "histc",
    "kthvalue",
    "median",
    "cumsum",
    "scatter_reduce",
)
"""What a GPU sums in any order, so that torch refuses it where it must be deterministic: from the
list at torch.use_deterministic_algorithms (2.13). Not in it: the backward pass of bilinear
interpolation in two dimensions, which torch then computes otherwise.
"""

SUMMED = ("nll_loss2d_forward", "nll_loss2d_backward")
"""Refused too where the losses of pixels are summed by it."""


class RecordedOperations(TorchDispatchMode):
    """Records on entry; ``replay`` does all of it again."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS or name == FROM_HOST or _by_mask(name, args):
            raise RuntimeError(f"{name} cannot be recorded")
        made = func(*args, **(kwargs or {}))
        # Names of their own for the same memory: shapes may be changed in place later.
        self.operations.append(tree_map(_named_again, (func, args, kwargs or {}, made)))
        return made

    def in_any_order(self) -> list[str]:
        """What of it torch refuses on a GPU in a trial, which is deterministic."""
        refused = []
        for func, args, _, _ in self.operations:
            name = func.overloadpacket.__name__
            summed = name in SUMMED and args[-2 if name == SUMMED[0] else -3] != 0
            floating = isinstance(args[0], torch.Tensor) and args[0].is_floating_point()
            if summed or (name in ANY_ORDER and floating):
                refused.append(name)
        return refused

    @torch.no_grad()
    def replay(self) -> None:
        """Do it again, on the memory that it was recorded on."""
        self.replays += 1
        for func, args, kwargs, made in self.operations:
            if func.is_view or torch.Tag.inplace_view in func.tags:
                continue  # another name for memory that is still the same
            again = func(*args, **kwargs)
            for before, now in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(before, torch.Tensor) and before.data_ptr() != now.data_ptr():
                    before.copy_(now)


def _named_again(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


def _by_mask(name: str, args: Any) -> bool:
    return name in ("index", "index_put_") and any(
        isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
    )


class Recordings:
    """A recorder, and all that it recorded."""

    def __init__(self) -> None:
        self.made: list[RecordedOperations] = []

    def __call__(self, work: Callable[[], None], generator: torch.Generator) -> RecordedOperations:
        recording = RecordedOperations()
        with recording:
            work()
        self.made.append(recording)
        return recording
