"""Context module and decoder of ESANet.

B batch, K classes, w the width of the network (64 as published).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones._esanet_encoder import NonBottleneck1D, same
from harness.backbones.small import AdaptiveMean
from harness.protocol.label_maps import with_sides

BINS = 5
"""Cells per side of the finer of the two poolings; the coarser one is the mean."""

BLOCKS = 3
"""Factorised blocks of each decoder module."""

BINOMIAL = (1.0, 2.0, 1.0)
"""Weights of linear interpolation by two after repeating every pixel, along one axis and times
four.
"""


def conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; keeps the size."""
    return nn.Sequential(
        same(inputs, outputs, kernel), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Context(nn.Module):
    """The deepest fused map -> z (B, 8w, H/32, W/32), by pyramid pooling.

    The map is joined with its means over 1x1 and 5x5 cells. Where the fused map has other channels
    than an encoder's, a 1x1 convolution with batch norm and ReLU comes first.
    """

    def __init__(self, fused: int, channels: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.entry = nn.Identity() if fused == channels else conv(fused, channels, 1)
        self.pool = AdaptiveMean(*size, (BINS, BINS))
        self.coarse, self.fine = conv(channels, channels // 2, 1), conv(channels, channels // 2, 1)
        self.join = conv(2 * channels, outputs, 1)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        x = self.entry(fused[-1])
        coarse = self.coarse(x.mean((2, 3), keepdim=True))  # (B, c/2, 1, 1)
        fine = self.fine(self.pool(x))  # (B, c/2, 5, 5)
        size = x.shape[-2:]
        enlarged = (F.interpolate(mean, size=size, mode="nearest") for mean in (coarse, fine))
        joined: Tensor = self.join(torch.cat([x, *enlarged], 1))
        return joined


class LearnedUpsampling(nn.Module):
    """(B, c, h, w) -> (B, c, 2h, 2w), linear interpolation at first.

    Every pixel is repeated, then a 3x3 convolution is applied per channel. It pads with zeros, so
    borders are darker at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        line = torch.tensor(BINOMIAL) / 4
        kernel = torch.outer(line, line)
        with torch.no_grad():
            self.conv.weight.copy_(kernel.expand_as(self.conv.weight))
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        repeated = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(repeated)  # type: ignore[no-any-return]


class DecoderModule(nn.Module):
    """(B, C, h, w) -> the map (B, c, h, w) before upsampling.

    A 3x3 convolution and three factorised blocks. ``side`` and ``upsample`` are for the decoder,
    which calls them on that map.
    """

    def __init__(self, inputs: int, channels: int, classes: int) -> None:
        super().__init__()
        blocks = (NonBottleneck1D(channels, channels) for _ in range(BLOCKS))
        self.layers = nn.Sequential(conv(inputs, channels, 3), *blocks)
        self.side = nn.Conv2d(channels, classes, 1)
        self.upsample = LearnedUpsampling(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """(z, fused maps) -> logits (B, K, H, W).

    Three modules at strides 32, 16 and 8, each upsampled and added to a finer skip. In training the
    logits carry side predictions, (B, K, h, w) at strides 8, 16 and 32
    (``harness.protocol.label_maps``).

    Args:
        fused: channels of the fused maps at strides 4 to 32; the last is not used, z stands for it.
        width: the modules have 8, 4 and 2 times as many channels.
        classes: K.
    """

    def __init__(self, fused: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        # Lists of modules run from coarse to fine, maps from fine to coarse.
        channels = [8 * width, 4 * width, 2 * width]
        of_z = channels[0]
        self.skips = nn.ModuleList(
            conv(skip, out, 1) for skip, out in zip(reversed(fused[:-1]), channels, strict=True)
        )
        self.stages = nn.ModuleList(
            DecoderModule(coarser, out, classes)
            for coarser, out in zip([of_z, *channels[:-1]], channels, strict=True)
        )
        self.classifier = nn.Conv2d(channels[-1], classes, 3, padding=1)
        self.upsample = nn.Sequential(LearnedUpsampling(classes), LearnedUpsampling(classes))

    def forward(self, z: Tensor, fused: tuple[Tensor, ...]) -> Tensor:
        return self.decode(z, fused)[0]

    def decode(self, z: Tensor, fused: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits, and the modules' maps before their upsampling.

        The maps are (B, 8w, H/32, W/32), (B, 4w, H/16, W/16) and (B, 2w, H/8, W/8).
        """
        maps: list[Tensor] = []
        sides: list[Tensor] = []
        x = z
        for module, skip, finer in zip(self.stages, self.skips, reversed(fused[:-1]), strict=True):
            assert isinstance(module, DecoderModule)
            decoded = module(x)
            maps.append(decoded)
            if self.training:
                sides.append(module.side(decoded))
            x = module.upsample(decoded) + skip(finer)
        logits = self.upsample(self.classifier(x))  # from (B, 2w, H/4, W/4)
        return with_sides(logits, tuple(reversed(sides))), tuple(maps)
