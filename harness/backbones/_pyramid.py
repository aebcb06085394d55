"""The segmentation form of the small backbone.

Four scales per modality, one context layer, one decoder. B batch, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 4


def conv(
    inputs: int, outputs: int, stride: int | tuple[int, int] = 1, kernel: int = 3
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; keeps the size but for the stride."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PyramidEncoder(nn.Module):
    """(B, C, H, W) -> four maps (B, width * 2^l, H / 2^(l+1), W / 2^(l+1)), l = 0..3."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = [channels, *(width * 2**scale for scale in range(SCALES))]
        self.stages = nn.ModuleList(
            conv(inputs, outputs, stride=2) for inputs, outputs in itertools.pairwise(sizes)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class PyramidContext(nn.Module):
    """The deepest fused map -> z (B, 8 * width, H / 16, W / 16)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.layers = conv(channels, outputs)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        return self.layers(fused[-1])  # type: ignore[no-any-return]


class PyramidDecoder(nn.Module):
    """(z, fused maps) -> logits (B, K, H, W).

    z is upsampled twofold and merged with each finer scale's projected skip.
    """

    def __init__(self, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        own = [width * 2**scale for scale in range(SCALES)]
        finer = range(SCALES - 1)
        self.skips = nn.ModuleList(conv(channels[scale], own[scale], kernel=1) for scale in finer)
        self.merges = nn.ModuleList(
            conv(own[scale + 1] + own[scale], own[scale]) for scale in finer
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, z: Tensor, fused: tuple[Tensor, ...]) -> Tensor:
        return self.predict(self.merged(z, fused)[-1])

    def merged(self, z: Tensor, fused: tuple[Tensor, ...]) -> list[Tensor]:
        """The decoder's map at every scale but z's, coarse to fine.

        (B, width * 2^l, H / 2^(l+1), W / 2^(l+1)) with l = 2, 1, 0.
        """
        maps: list[Tensor] = []
        coarser = z
        for scale in reversed(range(SCALES - 1)):
            skip = self.skips[scale](fused[scale])
            upsampled = _resized(coarser, skip.shape[-2:])
            coarser = self.merges[scale](torch.cat([upsampled, skip], 1))
            maps.append(coarser)
        return maps

    def predict(self, finest: Tensor) -> Tensor:
        """Logits (B, K, H, W) from the finest merged map."""
        return _resized(self.classifier(finest), [2 * side for side in finest.shape[-2:]])


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
