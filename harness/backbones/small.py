"""The quick-start network: unlike small inputs to a common map, a one-layer shared trunk.

About 20k parameters at V = 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, MapShape, Passed
from harness.backbones._pyramid import SCALES, PyramidContext, PyramidDecoder, PyramidEncoder, conv
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Range

SIDE = 2


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
    weights = torch.zeros(cells, length)
    for cell in range(cells):
        start, end = cell * length // cells, -(-(cell + 1) * length // cells)
        weights[cell, start:end] = 1.0 / (end - start)
    return weights


class Encoder(nn.Module):
    """(B, C, H, W) -> ((B, width, 2, 2),): two 3x3 convolutions, then adaptive average pooling."""

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(shape[0], width), conv(width, width), AdaptiveMean(*shape[1:])
        )

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
    channels. Segmentation: four scales of 1, 2, 4 and 8 times the width at strides 2 to 16; all
    modalities must have one height and width, divisible by 16.
    """

    options = {"width": Range(16, limits=(1, 1024), help="channels of each encoder's first map")}
    tasks = ("classification", "anti_spoofing", "segmentation")

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec, options)
        self.width = int(self.values["width"])
        self.dense = spec.task == "segmentation"
        if self.dense:
            height, width = _common_size(spec)
            self.maps = tuple(
                MapShape(self.width << s, height >> s + 1, width >> s + 1) for s in range(SCALES)
            )
            self.z = self.maps[-1]
            self.decoded = tuple(scale.channels for scale in reversed(self.maps[1:-1]))
        else:
            self.maps = (MapShape(self.width, SIDE, SIDE),)
            self.z = MapShape(2 * self.width, SIDE, SIDE)

    def encoder(self, modality: str) -> nn.Module:
        shape = self.spec.modalities[self.spec.names.index(modality)].shape
        return PyramidEncoder(shape[0], self.width) if self.dense else Encoder(shape, self.width)

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        if self.dense:
            return PyramidContext(channels[-1], self.z.channels)
        return Trunk(channels[0], self.z.channels)

    def head(self, channels: Sequence[int]) -> nn.Module:
        classes = len(self.spec.classes)
        if self.dense:
            return PyramidDecoder(channels, self.width, classes)
        return Head(self.z.channels, classes)

    def through(self, trunk: nn.Module, head: nn.Module, fused: tuple[Tensor, ...]) -> Passed:
        if not isinstance(head, PyramidDecoder):
            return super().through(trunk, head, fused)
        z = trunk(fused)
        *decoded, finest = head.merged(z, fused)
        return Passed(head.predict(finest), z, decoded=tuple(decoded))

    def shared_encoder(self) -> tuple[list[nn.Module], nn.Module]:
        """As the base's for inputs of one size, else stems of one convolution.

        Their maps are resized to the largest height and width.
        """
        shapes = [modality.shape for modality in self.spec.modalities]
        size = (max(shape[1] for shape in shapes), max(shape[2] for shape in shapes))
        if all(shape[1:] == size for shape in shapes):
            return super().shared_encoder()
        stems: list[nn.Module] = [
            nn.Sequential(conv(channels, self.width), AdaptiveMean(height, width, size))
            for channels, height, width in shapes
        ]
        return stems, SharedLayers(size, self.width)


def _common_size(spec: DataSpec) -> tuple[int, int]:
    sizes = {modality.shape[1:] for modality in spec.modalities}
    height, width = min(sizes)
    if len(sizes) > 1 or height % (1 << SCALES) or width % (1 << SCALES):
        raise UserError(
            f"backbone small segments modalities of one size divisible by {1 << SCALES};"
            f" {spec.name} has {sorted(sizes)}"
        )
    return height, width
