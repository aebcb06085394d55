"""In which arithmetic forward passes are computed: float32, TF32 or bfloat16.

float32: as everything was before there was a choice. tf32: float32 tensors, and products and
convolutions whose factors a GPU rounds to 10 bits; nothing else on a CPU, which has no such
products. bf16: torch's autocast around forward passes. Losses, metrics, gradients, batch-norm
statistics and the optimiser's state stay float32 in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness.errors import TrialFailure
from harness.method import Output
from harness.protocol.label_maps import sides_of, with_sides
from harness.training.recipe import PRECISIONS

UNITS: dict[str, float] = {
    "float32": torch.finfo(torch.float32).eps,
    "tf32": 2.0**-10,
    "bf16": torch.finfo(torch.bfloat16).eps,
}
"""The distance from 1 to the next number that a factor of a product can be."""

assert tuple(UNITS) == PRECISIONS


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """TF32 is allowed while the context is open, or is not; restored afterwards.

    Around everything that a trial computes: backward passes need it as well as forward passes.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def forward_in(precision: str, device: torch.device) -> Iterator[None]:
    """Around forward passes alone: autocast for bf16, nothing for others."""
    if precision != "bf16":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        yield


class UndefinedGradient(TrialFailure):
    """A convolution whose weight gradient a CPU does not define in bfloat16."""


def refuse_undefined_gradients(model: nn.Module, precision: str, device: torch.device) -> None:
    """Let a model raise UndefinedGradient where training it in bf16 on a CPU would use garbage.

    The weight gradient of a convolution whose stride is larger than its input is wide is memory
    that nobody wrote (torch 2.13 with oneDNN, kernels larger than 1; tests/training/
    test_precision.py). No other device or precision has it.
    """
    if precision != "bf16" or device.type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.register_forward_pre_hook(_refuse)


def _refuse(module: nn.Module, given: tuple[Any, ...]) -> None:
    if not (module.training and isinstance(module, nn.Conv2d)):
        return
    width, stride = given[0].shape[-1], module.stride[-1]
    if width < stride:
        raise UndefinedGradient(
            f"train.precision=bf16 cannot train this network on a CPU: a convolution of stride"
            f" {stride} gets a map {width} wide, and its gradient in bfloat16 is undefined there;"
            " use float32, or a GPU"
        )


def in_float32(output: Output) -> Output:
    """What a forward pass returned, as a loss receives it; the same tensors where they are."""
    return Output(
        logits=_logits(output.logits),
        z=widened(output.z),
        aux={name: (_logits(logits), weight) for name, (logits, weight) in output.aux.items()},
        # What a method keeps for its loss may be logits too.
        extra={name: _logits(tensor) for name, tensor in output.extra.items()},
    )


def widened(tree: Any) -> Any:
    """A tree of tensors, those of bfloat16 as float32, the others as they are."""
    return tree_map(_wide, tree)


def _logits(logits: Tensor) -> Tensor:
    """Side predictions, which logits carry in training, go with them."""
    wide: Tensor = _wide(logits)
    sides = sides_of(logits)
    if not sides:
        return wide
    return with_sides(wide, tuple(_wide(side) for side in sides))


def _wide(leaf: Any) -> Any:
    narrow = isinstance(leaf, Tensor) and leaf.dtype == torch.bfloat16
    return leaf.float() if narrow else leaf
