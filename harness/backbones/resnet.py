"""The CASIA-SURF benchmark network: a ResNet-18 per modality.

It is cut at one of three fusion points, and its rest is shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones import Backbone, MapShape, Passed
from harness.backbones.small import Head
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Range

LAYERS = 4
"""Residual layers of a ResNet-18."""

OWN_LAYERS = {"mid128": 2, "mid256": 3, "late512": 4}
"""Fusion point -> how many of the four residual layers each modality has for itself; named after
the map's channels at width 64.
"""

SE_REDUCTION = 16
"""Channels per hidden unit of a squeeze-excite gate."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection.

    (B, C, H, W) -> (B, C', H / stride, W / stride), sizes rounded up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv(inputs, outputs, stride=stride),
            nn.ReLU(inplace=True),
            *_conv(outputs, outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(*_conv(inputs, outputs, kernel=1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Each channel of (B, C, H, W) times a gate in (0, 1) (Hu et al., CVPR 2018).

    The gates are computed from all channel means.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // SE_REDUCTION
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x.mean((2, 3)))
        return x * gate[:, :, None, None]


class Encoder(nn.Module):
    """(B, C, H, W) -> ((B, c, h, w),), the part of the network that a modality has for itself.

    3x3 stem at stride 2, max pooling, the modality's own layers.
    """

    def __init__(self, inputs: int, width: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(inputs, width, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(self.stem(x)),)


class Trunk(nn.Module):
    """((B, C_in, h, w),) -> (B, 8 * width, h', w'): the shared layers."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, fused: tuple[Tensor, ...]) -> Tensor:
        return self.layers(fused[0])  # type: ignore[no-any-return]

    def stages(self, fused: tuple[Tensor, ...]) -> list[Tensor]:
        """The output of every shared layer, z last."""
        outputs = [fused[0]]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return outputs[1:]


def _initialise(module: nn.Module) -> None:
    """Kaiming-normal convolutions (fan_out).

    Batch norm (1, 0) and linear layers keep PyTorch's defaults.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class ResNet(Backbone):
    """``backbone=resnet``, after the released DMRNet and MMANet classification networks.

    Trained from scratch. Per modality a 3x3 stem at stride 2, max pooling and ResNet-18 layers of
    ``width`` * 1, 2, 4, 8 channels up to the fusion point; the other layers, global average pooling
    and one linear layer are shared. mid128: layers 1-2 and squeeze-excitation (reduction 16);
    mid256: layers 1-3; late512: all four, and a 1x1 convolution with batch norm and ReLU as the
    trunk. With width 64 and inputs of 112x112 the maps are 128x14x14, 256x7x7 and 512x4x4, and z is
    512x4x4. Every stride rounds sizes up, so any input size works; UserError where the modalities'
    maps differ in size.
    """

    tasks = ("classification", "anti_spoofing", "regression")
    options = {
        "fusion": Range(
            "mid128",
            choices=tuple(OWN_LAYERS),
            help="where modalities meet: after layer 2, 3 or 4 of 4",
        ),
        "width": Range(
            64,
            limits=(8, 512),
            help="channels of the first layer, a multiple of 8; less than 64 for quick trials",
        ),
    }

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec, options)
        self.width = int(self.values["width"])
        if 2 * self.width % SE_REDUCTION:
            raise UserError(
                f"backbone.width={self.width} must be a multiple of {SE_REDUCTION // 2}, as 2 *"
                " width is divided by 16"
            )
        self.own = OWN_LAYERS[str(self.values["fusion"])]
        height, width = _common_map(spec, self.own)
        self.maps = (MapShape(self._channels(self.own), height, width),)
        # Each shared layer has one stride of 2.
        shared = LAYERS - self.own
        self.z = MapShape(
            self._channels(LAYERS), _halved(height, times=shared), _halved(width, times=shared)
        )
        self.inner = tuple(self._channels(number) for number in range(self.own + 1, LAYERS))

    def encoder(self, modality: str) -> nn.Module:
        channels = self.spec.modalities[self.spec.names.index(modality)].shape[0]
        # Layer 1 has the stem's channels, which are its own.
        layers = [
            self._layer(number, inputs=self._channels(max(1, number - 1)))
            for number in range(1, self.own + 1)
        ]
        if self.own == OWN_LAYERS["mid128"]:
            layers.append(SqueezeExcite(self._channels(self.own)))
        return Encoder(channels, self.width, layers)

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        if self.own == LAYERS:
            return Trunk([*_conv(channels[0], self.z.channels, kernel=1), nn.ReLU(inplace=True)])
        first_shared = self.own + 1
        inputs = [channels[0], *self.inner]
        return Trunk(
            [self._layer(number, wide) for number, wide in enumerate(inputs, start=first_shared)]
        )

    def head(self, channels: Sequence[int]) -> nn.Module:
        return Head(self.z.channels, self.spec.outputs)

    def through(self, trunk: nn.Module, head: nn.Module, fused: tuple[Tensor, ...]) -> Passed:
        if not self.inner or not isinstance(trunk, Trunk):
            return super().through(trunk, head, fused)
        *inner, z = trunk.stages(fused)
        return Passed(head(z, fused), z, inner=tuple(inner))

    def last_stage(self, channels: Sequence[int]) -> nn.Module:
        return Trunk([self._layer(LAYERS, self.inner[-1])]) if self.inner else self.trunk(channels)

    def _channels(self, layer: int) -> int:
        factor: int = 2 ** (layer - 1)
        return self.width * factor

    def _layer(self, number: int, inputs: int) -> nn.Module:
        """Residual layer ``number`` (1..4): two basic blocks.

        The first is at stride 2, but for layer 1.
        """
        outputs = self._channels(number)
        first = BasicBlock(inputs, outputs, 1 if number == 1 else 2)
        return nn.Sequential(first, BasicBlock(outputs, outputs, 1))


def _halved(size: int, times: int) -> int:
    """``size`` after ``times`` strides of 2, each of which rounds up."""
    stride: int = 2**times
    return -(-size // stride)


def _common_map(spec: DataSpec, layers: int) -> tuple[int, int]:
    """(h, w) of the encoders' maps: two strides in the stem, one in each layer but the first."""
    strides = 2 + layers - 1
    sizes = {
        tuple(_halved(side, times=strides) for side in modality.shape[1:])
        for modality in spec.modalities
    }
    if len(sizes) > 1:
        shapes = ", ".join(f"{m.name} {m.shape[1]}x{m.shape[2]}" for m in spec.modalities)
        raise UserError(
            f"backbone resnet needs modalities of one height and width, and {spec.name} has"
            f" {shapes}; use backbone=small"
        )
    height, width = min(sizes)
    return height, width
