"""The audio-visual network of OGM-GE: one whole ResNet per modality, joined late.

They meet at the pooled vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, MapShape
from harness.backbones.resnet import BasicBlock
from harness.backbones.small import AdaptiveMean
from harness.dataset import DataSpec, Modality
from harness.errors import UserError
from harness.protocol.hyperparameters import Range

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Depth -> basic blocks per layer; of 1 + 2 * blocks + 1 weighted layers the last, linear one is
the head.
"""

PICTURE = 3
"""Channels of one frame."""


class Stem(nn.Module):
    """(B, C, H, W) -> (B * frames, width, H / 4, W / 4), sizes rounded up.

    7x7 convolution at stride 2, batch norm, ReLU, max pooling. The channels of several frames, one
    frame after another, become samples of their own.
    """

    def __init__(self, inputs: int, width: int, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames
        self.layers = nn.Sequential(
            nn.Conv2d(inputs // frames, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        # (B, frames * C', H, W) -> (B * frames, C', H, W).
        apart = x.reshape(len(x) * self.frames, -1, *x.shape[2:])
        return self.layers(apart)  # type: ignore[no-any-return]


class ResidualLayers(nn.Sequential):
    """(B, width, h, w) -> (B, 8 * width, h / 8, w / 8), sizes rounded up.

    Four layers of basic blocks, the first at stride 1.
    """

    def __init__(self, width: int, blocks: Sequence[int]) -> None:
        layers, inputs = [], width
        for number, count in enumerate(blocks):
            outputs = width * 2**number
            first = BasicBlock(inputs, outputs, 1 if number == 0 else 2)
            others = [BasicBlock(outputs, outputs, 1) for _ in range(count - 1)]
            layers.append(nn.Sequential(first, *others))
            inputs = outputs
        super().__init__(*layers)
        initialise(self)


class Encoder(nn.Module):
    """(B, C, H, W) -> ((B, 8 * width, 1, 1),): a ResNet without its linear layer.

    Several frames are averaged.
    """

    def __init__(self, stem: Stem, layers: ResidualLayers) -> None:
        super().__init__()
        self.stem, self.layers = stem, layers

    def feature_map(self, x: Tensor) -> Tensor:
        """The map before pooling, (B * frames, 8 * width, H / 32, W / 32)."""
        return self.layers(self.stem(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        pooled = self.feature_map(x).mean((2, 3), keepdim=True)
        return (_frame_mean(pooled, self.stem.frames),)


def _frame_mean(x: Tensor, frames: int) -> Tensor:
    """(B * frames, ...) -> (B, ...)."""
    return x if frames == 1 else x.reshape(-1, frames, *x.shape[1:]).mean(1)


class SharedStem(nn.Module):
    """A modality's stem, for layers that all modalities share.

    Its map is brought to (height, width) and averaged over frames.
    """

    def __init__(self, stem: Stem, own: tuple[int, int], common: tuple[int, int]) -> None:
        super().__init__()
        self.stem, self.resize = stem, AdaptiveMean(*own, common)

    def forward(self, x: Tensor) -> Tensor:
        resized = self.resize(self.stem(x))
        return _frame_mean(resized, self.stem.frames)


class SharedLayers(nn.Module):
    """(B, width, h, w) -> ((B, 8 * width, 1, 1),): what follows an encoder's stem."""

    def __init__(self, layers: ResidualLayers) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x).mean((2, 3), keepdim=True),)


# --------------------------------------------- trunks: what joins the vectors before the last layer


class Pass(nn.Module):
    """((B, C, 1, 1),) -> (B, C, 1, 1): nothing to compute before the last, linear layer."""

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        return fused[0]


class FiLM(nn.Module):
    """((B, 2c, 1, 1),) -> (B, c, 1, 1): one modality scales and shifts the other.

    Of [a; v]: gamma * v + beta with (gamma, beta) = F a (Perez et al., AAAI 2018).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.film = nn.Linear(channels, 2 * channels)
        initialise(self)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        a, v = fused[0].flatten(1).chunk(2, 1)
        gamma, beta = self.film(a).chunk(2, 1)
        return _as_map(gamma * v + beta)


class Gated(nn.Module):
    """((B, 2c, 1, 1),) -> (B, c, 1, 1): one modality gates the other.

    Of [a; v]: sigmoid(G_a a) * (G_v v) (Kiela et al., AAAI 2018).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, channels)
        self.gated = nn.Linear(channels, channels)
        initialise(self)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        a, v = fused[0].flatten(1).chunk(2, 1)
        return _as_map(self.gate(a).sigmoid() * self.gated(v))


def _as_map(vector: Tensor) -> Tensor:
    """(B, c) -> (B, c, 1, 1)."""
    return vector[:, :, None, None]


JOINS: dict[str, type[FiLM | Gated]] = {"film": FiLM, "gated": Gated}


# ---------------------------------------------------------------------- heads


class Head(nn.Module):
    """(B, M * c, h, w) -> (B, K): one linear layer on the pooled vector.

    ``blocks``: M, the vectors of c that the pooled vector is made of, see ``readouts``.
    """

    def __init__(self, channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.linear = nn.Linear(channels, classes)
        initialise(self)

    def forward(self, z: Tensor, fused: tuple[Tensor, ...]) -> Tensor:
        return self.linear(z.mean((2, 3)))  # type: ignore[no-any-return]

    def readouts(self, z: Tensor) -> list[Tensor]:
        """W_m z_m + b / M for each block m; their sum is the logits."""
        parts = z.mean((2, 3)).chunk(self.blocks, 1)
        weights = self.linear.weight.chunk(self.blocks, 1)
        bias = self.linear.bias / self.blocks
        return [
            nn.functional.linear(part, weight, bias)
            for part, weight in zip(parts, weights, strict=True)
        ]


class SumHead(nn.Module):
    """(B, M * c, h, w) -> (B, K): a linear layer with bias for each of the M blocks; their sum."""

    def __init__(self, channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(channels // blocks, classes) for _ in range(blocks))
        initialise(self)

    def forward(self, z: Tensor, fused: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(self.readouts(z)).sum(0)

    def readouts(self, z: Tensor) -> list[Tensor]:
        """W_m z_m + b_m for each block m; their sum is the logits."""
        parts = z.mean((2, 3)).chunk(len(self.linear), 1)
        return [linear(part) for linear, part in zip(self.linear, parts, strict=True)]


class AudioVisual(Backbone):
    """``backbone=audio_visual``, after the networks of OGM-GE and of the DMRNet authors' code.

    Of the latter the audio-visual part; trained from scratch. A ResNet of ``depth`` 18 or 34 (the
    DMRNet code's function ``resnet18`` builds 34) with a 7x7 stem per modality, whatever its
    channels, height and width; the modalities meet at the pooled vectors, so every map is (8 *
    width, 1, 1). ``fusion``: concat, W [a; v] + b; sum, W_a a + b_a + W_v v + b_v; film, W (gamma *
    v + beta) + b with (gamma, beta) = F a; gated, W (sigmoid(G_a a) * (G_v v)) + b; a is the first
    modality in the dataset's order. concat and sum take any number of modalities, film and gated
    two. Our definition: an absent modality is a zero vector in all four. A map that a method has
    fused to other channels than the modalities' together passes to the last layer as it is. With
    ``frames`` T > 1, an input of 3 * T channels is T pictures, encoded one by one and averaged.
    Kaiming-normal convolutions (fan_out), Xavier-normal linear layers with bias 0.
    """

    options = {
        "depth": Range(
            18,
            choices=tuple(BLOCKS),
            help="weighted layers of each ResNet; 34 is what the DMRNet code runs",
        ),
        "width": Range(
            64, limits=(1, 256), help="channels of the first layer; less than 64 for quick trials"
        ),
        "fusion": Range(
            "concat",
            choices=("concat", "sum", *JOINS),
            help="how the modalities' vectors become logits",
        ),
        "frames": Range(
            1, limits=(1, 64), help="pictures that an input of 3 * frames channels holds"
        ),
    }

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec, options)
        self.width, self.fusion = int(self.values["width"]), str(self.values["fusion"])
        self.blocks = BLOCKS[int(self.values["depth"])]
        self.channels = self.width * 2 ** (len(self.blocks) - 1)
        self.stacked = len(spec.names) * self.channels
        self.joins = self.fusion in JOINS
        self.additive = not self.joins
        self.maps = (MapShape(self.channels, 1, 1),)
        self.z = MapShape(self.channels if self.joins else self.stacked, 1, 1)
        self._check()

    def _check(self) -> None:
        names, frames = self.spec.names, int(self.values["frames"])
        if self.joins and len(names) != 2:
            raise UserError(
                f"backbone.fusion={self.fusion} joins two modalities and {self.spec.name} has"
                f" {len(names)} ({', '.join(names)}); use backbone.fusion=concat or sum"
            )
        if frames > 1 and all(m.shape[0] != PICTURE * frames for m in self.spec.modalities):
            raise UserError(
                f"backbone.frames={frames} needs an input of {PICTURE * frames} channels, which"
                f" {self.spec.name} has not; use backbone.frames=1"
            )

    def encoder(self, modality: str) -> nn.Module:
        own = self.spec.modalities[self.spec.names.index(modality)]
        return Encoder(self._stem(own), ResidualLayers(self.width, self.blocks))

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        if self.joins and channels[0] == self.stacked:
            return JOINS[self.fusion](self.channels)
        return Pass()

    def head(self, channels: Sequence[int]) -> nn.Module:
        classes = len(self.spec.classes)
        # A vector of other channels is one that a method has fused: there is nothing in it to join
        # or to take apart.
        stacked = channels[0] == self.stacked
        if stacked and self.joins:
            return Head(self.channels, classes, blocks=1)
        head = SumHead if self.fusion == "sum" else Head
        return head(channels[0], classes, blocks=len(self.spec.names) if stacked else 1)

    def readouts(self, head: nn.Module, z: Tensor) -> list[Tensor]:
        if isinstance(head, Head | SumHead) and self.additive:
            return head.readouts(z)
        return super().readouts(head, z)

    def shared_encoder(self) -> tuple[list[nn.Module], nn.Module]:
        """As the base's for inputs of one shape, else a stem each.

        A stem's map is brought to the largest height and width.
        """
        modalities = self.spec.modalities
        if len({modality.shape for modality in modalities}) == 1:
            return super().shared_encoder()
        # Heights and widths of the stems' maps.
        sizes = [(_halved_twice(m.shape[1]), _halved_twice(m.shape[2])) for m in modalities]
        common = (max(height for height, _ in sizes), max(width for _, width in sizes))
        stems: list[nn.Module] = [
            SharedStem(self._stem(m), size, common)
            for m, size in zip(modalities, sizes, strict=True)
        ]
        return stems, SharedLayers(ResidualLayers(self.width, self.blocks))

    def _stem(self, modality: Modality) -> Stem:
        channels, frames = modality.shape[0], int(self.values["frames"])
        return Stem(channels, self.width, frames if channels == PICTURE * frames else 1)


def _halved_twice(size: int) -> int:
    """``size`` after two strides of 2, each of which rounds up."""
    return -(-size // 4)


def initialise(module: nn.Module) -> None:
    """Kaiming-normal convolutions (fan_out), Xavier-normal linear layers with bias 0.

    Batch norm keeps 1 and 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
