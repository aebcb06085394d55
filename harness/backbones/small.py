"""The quick-start network: unlike inputs to a common map, a one-layer shared trunk.

About 20k parameters at V = 3 where all inputs are small pictures. A spectrogram, a series or a
large picture is halved first, so that the layers after it see most of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, MapShape, Passed
from harness.backbones._frames import FrameEncoder
from harness.backbones._pyramid import SCALES, PyramidContext, PyramidDecoder, PyramidEncoder, conv
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Range

SIDE = 2
"""Height and width of an encoder's map in classification."""

REACH = 8
"""Longest side of a map that two 3x3 convolutions may be left to read; longer inputs are halved."""

PICTURE = 64
"""Pictures of at most this longer side are not halved, unless they are elongated."""

ELONGATED = 2
"""An input is elongated when one of its sides is more than this many times the other."""


class AdaptiveMean(nn.Module):
    """Adaptive average pooling as two matrix products.

    To SIDE x SIDE, or to the given size, larger ones included. Equal to
    ``torch.nn.functional.adaptive_avg_pool2d``, whose CUDA backward is not deterministic.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, size: tuple[int, int] = (SIDE, SIDE)) -> None:
        super().__init__()
        self.register_buffer("rows", _windows(height, size[0]), persistent=False)
        self.register_buffer("columns", _windows(width, size[1]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns.T


def _windows(length: int, cells: int) -> Tensor:
    """(cells, length): the weights of each cell's mean; windows overlap where they do not fit."""
    weights = torch.zeros(cells, length)
    for cell in range(cells):
        start = cell * length // cells
        end = -(-(cell + 1) * length // cells)  # rounded up
        weights[cell, start:end] = 1.0 / (end - start)
    return weights


def halvings(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """The strides (rows, columns) of the stages that an input passes first; none for most pictures.

    None where the longer side is at most REACH, or at most PICTURE and not more than ELONGATED
    times the shorter. Else each stage halves (rounding up) every side that is longer than REACH,
    until none is: 129x42 -> 65x21 -> 33x11 -> 17x6 -> 9x6 -> 5x6, and 1x100 -> 1x50 -> 1x25 -> 1x13
    -> 1x7.
    """
    longer, shorter = max(height, width), min(height, width)
    if longer <= PICTURE and longer <= ELONGATED * shorter:
        return ()
    strides = []
    while max(height, width) > REACH:
        stride = (2 if height > REACH else 1, 2 if width > REACH else 1)
        strides.append(stride)
        height, width = _strided((height, width), stride)
    return tuple(strides)


def _strided(size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """A map's size after a stride, which rounds up."""
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])


class Stages(nn.Sequential):
    """(B, C, H, W) -> (B, width, h, w): the halving stages, one 3x3 convolution each, and one more.

    ``size`` is (h, w), that of the input where it has no halving stages.
    """

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        channels, size = shape[0], shape[1:]
        layers = []
        for stride in halvings(*size):
            layers.append(conv(channels, width, stride))
            channels = width
            size = _strided(size, stride)
        super().__init__(*layers, conv(channels, width))
        self.size = size


class Encoder(nn.Module):
    """(B, C, H, W) -> ((B, width, 2, 2),): two 3x3 convolutions, then adaptive average pooling.

    After n halving stages (``halvings``) a place of the map before pooling sees 6 * 2^n - 1 values
    of an axis that all of them halved, about three quarters of it or more; 5 without.
    """

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        stages = Stages(shape, width)
        self.layers = nn.Sequential(*stages, conv(width, width), AdaptiveMean(*stages.size))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


class SharedLayers(nn.Module):
    """(B, width, H, W) -> ((B, width, 2, 2),): what follows an encoder's first convolution."""

    def __init__(self, size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(width, width), AdaptiveMean(*size))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


class Trunk(nn.Module):
    """((B, C_in, 2, 2),) -> (B, 2 * width, 2, 2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = conv(channels, width)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        return self.layers(fused[0])  # type: ignore[no-any-return]


class Head(nn.Module):
    """(B, C, h, w) -> (B, K): global average pooling and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, z: Tensor, fused: tuple[Tensor, ...]) -> Tensor:
        return self.linear(z.mean((2, 3)))  # type: ignore[no-any-return]


class Small(Backbone):
    """``backbone=small``; ``backbone.width`` is the number of channels of an encoder's (first) map.

    Classification: one 2x2 map per modality, whatever its shape; the trunk has twice as many
    channels. Nearly square pictures up to 64x64, and anything up to 8 long, pass two convolutions.
    Spectrograms, series (C, 1, T) and larger pictures pass convolutions of stride 2 before these,
    until no side is longer than 8 (``halvings``). Padding of series of unequal lengths reaches
    nothing (in the layers that methods share between modalities it is zeros). Segmentation: four
    scales of 1, 2, 4 and 8 times the width at strides 2 to 16; all modalities must have one height
    and width, divisible by 16.
    """

    options = {"width": Range(16, limits=(1, 1024), help="channels of each encoder's first map")}
    tasks = ("classification", "anti_spoofing", "segmentation", "regression")

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec, options)
        self.width = int(self.values["width"])
        self.dense = spec.task == "segmentation"
        if self.dense:
            height, width = _common_size(spec)
            self.maps = tuple(
                MapShape(
                    self.width * 2**scale, height // 2 ** (scale + 1), width // 2 ** (scale + 1)
                )
                for scale in range(SCALES)
            )
            self.z = self.maps[-1]
            # Merged maps from coarse to fine; the finest is that of the logits.
            self.decoded = tuple(scale.channels for scale in reversed(self.maps[1:-1]))
        else:
            self.maps = (MapShape(self.width, SIDE, SIDE),)
            self.z = MapShape(2 * self.width, SIDE, SIDE)

    def encoder(self, modality: str) -> nn.Module:
        described = self.spec.modalities[self.spec.names.index(modality)]
        shape = described.shape
        if self.dense:
            return PyramidEncoder(shape[0], self.width)
        if described.frames:
            strides = [over_time for _, over_time in halvings(*shape[1:])]
            # Behind them the two convolutions that every input passes.
            return FrameEncoder(shape[0], self.width, [*strides, 1, 1])
        return Encoder(shape, self.width)

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        if self.dense:
            return PyramidContext(channels[-1], self.z.channels)
        return Trunk(channels[0], self.z.channels)

    def head(self, channels: Sequence[int]) -> nn.Module:
        outputs = self.spec.outputs
        if self.dense:
            return PyramidDecoder(channels, self.width, outputs)
        return Head(self.z.channels, outputs)

    def through(self, trunk: nn.Module, head: nn.Module, fused: tuple[Tensor, ...]) -> Passed:
        if not isinstance(head, PyramidDecoder):
            return super().through(trunk, head, fused)
        z = trunk(fused)
        *decoded, finest = head.merged(z, fused)
        return Passed(head.predict(finest), z, decoded=tuple(decoded))

    def shared_encoder(self) -> tuple[list[nn.Module], nn.Module]:
        """As the base's for inputs of one size, else stems: halving stages and one convolution.

        Their maps are resized to the largest height and width of them.
        """
        if len({modality.shape[1:] for modality in self.spec.modalities}) == 1:
            return super().shared_encoder()
        stages = [Stages(modality.shape, self.width) for modality in self.spec.modalities]
        size = (max(s.size[0] for s in stages), max(s.size[1] for s in stages))
        stems: list[nn.Module] = [
            nn.Sequential(*stage, AdaptiveMean(*stage.size, size)) for stage in stages
        ]
        return stems, SharedLayers(size, self.width)


def _common_size(spec: DataSpec) -> tuple[int, int]:
    stride = 2**SCALES
    sizes = {modality.shape[1:] for modality in spec.modalities}
    height, width = min(sizes)
    if len(sizes) > 1 or height % stride or width % stride:
        raise UserError(
            f"backbone small segments modalities of one size divisible by {stride};"
            f" {spec.name} has {sorted(sizes)}"
        )
    return height, width
