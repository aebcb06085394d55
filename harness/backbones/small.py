"""The quick-start network: unlike small inputs to a common map, a one-layer shared trunk; about 20k parameters at V = 3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, MapShape
from harness.dataset import DataSpec
from harness.hyperparameters import Range

SIDE = 2


class AdaptiveMean(nn.Module):
    """Adaptive average pooling to SIDE x SIDE as two matrix products.

    Equal to ``torch.nn.functional.adaptive_avg_pool2d``, whose CUDA backward is not deterministic.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", _windows(height), persistent=False)
        self.register_buffer("columns", _windows(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns.T


def _windows(length: int) -> Tensor:
    weights = torch.zeros(SIDE, length)
    for cell in range(SIDE):
        start, end = cell * length // SIDE, -(-(cell + 1) * length // SIDE)
        weights[cell, start:end] = 1.0 / (end - start)
    return weights


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """(B, C, H, W) -> ((B, width, 2, 2),): two 3x3 convolutions, then adaptive average pooling."""

    def __init__(self, shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(shape[0], width), _conv(width, width), AdaptiveMean(*shape[1:]))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


class Trunk(nn.Module):
    """((B, C_in, 2, 2),) -> (B, 2 * width, 2, 2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = _conv(channels, width)

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
    """``backbone=small``; ``backbone.width`` is the number of channels of an encoder's map, the trunk has twice as many."""

    options = {"width": Range(16, limits=(1, 1024), help="channels of each encoder's map; the trunk has twice as many")}

    def __init__(self, spec: DataSpec, options: dict[str, object] | None = None) -> None:
        super().__init__(spec, options)
        width = int(self.values["width"])
        self.maps = (MapShape(width, SIDE, SIDE),)
        self.z = MapShape(2 * width, SIDE, SIDE)

    def encoder(self, modality: str) -> nn.Module:
        shape = self.spec.modalities[self.spec.names.index(modality)].shape
        return Encoder(shape, self.maps[0].channels)

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        return Trunk(channels[0], self.z.channels)

    def head(self) -> nn.Module:
        return Head(self.z.channels, len(self.spec.classes))
