"""Encoders of ESANet: residual networks at strides 2 to 32, and squeeze-excite.

B batch, V modalities, (c, h, w) a map. Modules are named as in torchvision's state dicts (conv1,
bn1, layer1 ... layer4), so that weights trained elsewhere fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STAGES = 4
SE_REDUCTION = 16
"""Channels per hidden unit of a squeeze-excite gate."""

FACTORISED_EPS = 1e-3
"""Batch norm's epsilon in factorised blocks (ERFNet); everywhere else it is PyTorch's 1e-5."""


def same(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size but for the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Residual(nn.Module):
    """ReLU(residual + shortcut).

    (B, inputs, h, w) -> (B, width * expansion, h / stride, w / stride). The shortcut is the
    identity, or a strided 1x1 convolution with batch norm where the shape changes.
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        changes = stride > 1 or inputs != outputs
        self.downsample: nn.Module = nn.Identity()
        if changes:
            projection = same(inputs, outputs, 1, stride)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def residual(self, x: Tensor) -> Tensor:
        """The branch beside the shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.downsample(x))


class BasicBlock(Residual):
    """Two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        self.conv1, self.bn1 = same(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = same(width, width, 3), nn.BatchNorm2d(width)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))  # type: ignore[no-any-return]


class Bottleneck(Residual):
    """1x1, strided 3x3 and 1x1 convolution; four times as many channels at its end."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        self.conv1, self.bn1 = same(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = same(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = same(width, 4 * width, 1), nn.BatchNorm2d(4 * width)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # type: ignore[no-any-return]


class NonBottleneck1D(Residual):
    """Two factorised 3x3 convolutions with biases.

    Each is 3x1 (stride on the height), ReLU, 1x3 (stride on the width), batch norm. Romera et al.,
    ERFNet, T-ITS 2018; without dropout, as in ESANet.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, width, stride)
        self.conv3x1_1 = nn.Conv2d(inputs, width, (3, 1), stride=(stride, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(width, width, (1, 3), stride=(1, stride), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(width, eps=FACTORISED_EPS)
        self.conv3x1_2 = nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        self.conv1x3_2 = nn.Conv2d(width, width, (1, 3), padding=(0, 1))
        self.bn2 = nn.BatchNorm2d(width, eps=FACTORISED_EPS)

    def residual(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv3x1_1(x))
        x = F.relu(self.bn1(self.conv1x3_1(x)))
        x = F.relu(self.conv3x1_2(x))
        return self.bn2(self.conv1x3_2(x))  # type: ignore[no-any-return]


DESIGNS: dict[str, tuple[type[Residual], tuple[int, ...]]] = {
    "r34_nbt1d": (NonBottleneck1D, (3, 4, 6, 3)),
    "r18_nbt1d": (NonBottleneck1D, (2, 2, 2, 2)),
    "r34_basic": (BasicBlock, (3, 4, 6, 3)),
    "r18_basic": (BasicBlock, (2, 2, 2, 2)),
    "r50": (Bottleneck, (3, 4, 6, 3)),
}
"""Name of an encoder -> its block and how many of them each stage has."""


def stage_channels(design: str, width: int) -> list[int]:
    """Channels of the four stages' maps."""
    block, _ = DESIGNS[design]
    return [block.expansion * width * 2**stage for stage in range(STAGES)]


class Stem(nn.Module):
    """(B, C, H, W) -> (B, width, H/2, W/2): 7x7 convolution at stride 2, batch norm, ReLU."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = same(inputs, width, 7, 2), nn.BatchNorm2d(width)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))


class Stages(nn.ModuleDict):
    """layer1 ... layer4 of one encoder, at strides 1, 2, 2, 2.

    They follow the stem's map, max-pooled to H/4.
    """

    def __init__(self, design: str, width: int) -> None:
        super().__init__()
        block, depths = DESIGNS[design]
        outputs = stage_channels(design, width)
        inputs = [width, *outputs[:-1]]
        for number, depth in enumerate(depths):
            inner = width * 2**number
            first = block(inputs[number], inner, stride=1 if number == 0 else 2)
            others = [block(outputs[number], inner) for _ in range(depth - 1)]
            self[f"layer{number + 1}"] = nn.Sequential(first, *others)
        kaiming(self)

    def stage(self, number: int, x: Tensor) -> Tensor:
        """The map after layer ``number`` (1..4).

        (B, width * expansion * 2^(number-1), H / 2^(number+1), W / 2^(number+1)).
        """
        return self[f"layer{number}"](x)  # type: ignore[no-any-return]


def pooled(stem: Tensor) -> Tensor:
    """3x3 maximum at stride 2: (B, c, H/2, W/2) -> (B, c, H/4, W/4)."""
    return F.max_pool2d(stem, 3, stride=2, padding=1)


def kaiming(module: nn.Module) -> None:
    """Kaiming-normal convolution weights (fan_out), as torchvision's ResNets.

    Everything else keeps PyTorch's defaults.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class SqueezeExcite(nn.Module):
    """Each channel of (B, c, h, w) times a gate in (0, 1) from all channel means.

    Zeros stay zeros, whatever the biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3), keepdim=True))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The encoder of the published one-modality network (parallel form).

    (B, C, H, W) -> four maps at strides 4 to 32. The stream passes a squeeze-excite after the stem
    and after each stage: the published fusion without the others' terms.
    """

    def __init__(self, inputs: int, design: str, width: int) -> None:
        super().__init__()
        self.stem, self.stages = Stem(inputs, width), Stages(design, width)
        channels = [width, *stage_channels(design, width)]
        self.excite = nn.ModuleList(SqueezeExcite(c) for c in channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = pooled(self.excite[0](self.stem(x)))
        maps: list[Tensor] = []
        for number in range(1, STAGES + 1):
            x = self.excite[number](self.stages.stage(number, x))
            maps.append(x)
        return tuple(maps)


class StemEncoder(nn.Module):
    """The stem of the joint form: (B, C, H, W) -> ((B, width, H/2, W/2),).

    No other modality has touched its map.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.stem = Stem(inputs, width)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.stem(x),)


class JointEncoder(nn.Module):
    """The published encoder after the stems.

    (V stem maps, present (B, V)) -> four fused maps at strides 4 to 32.

    At the stem and after each stage every stream is zeroed where its modality is absent, with the
    same mask, and the squeeze-excited streams are added; the sum replaces the stream of the first
    modality, the others stay pure. Without the first modality its layers still run on the sum, but
    what they return is zeroed again. ``mask_streams`` says what the layers of the other modalities
    run on: the zeroed streams, or (False) the streams as they were. Of an absent modality nothing
    is added in either case, so that the two differ in batch statistics alone.
    """

    def __init__(self, modalities: int, design: str, width: int, mask_streams: bool = True) -> None:
        super().__init__()
        self.mask_streams = mask_streams
        self.streams = nn.ModuleList(Stages(design, width) for _ in range(modalities))
        channels = [width, *stage_channels(design, width)]
        # By stage (0: the stem), then by modality.
        self.excite = nn.ModuleList(
            nn.ModuleList(SqueezeExcite(c) for _ in range(modalities)) for c in channels
        )

    def forward(self, stems: Sequence[Tensor], present: Tensor) -> tuple[Tensor, ...]:
        inputs = [pooled(x) for x in self._fed_back(0, stems, present)]
        fused: list[Tensor] = []
        for stage in range(1, STAGES + 1):
            pairs = zip(self._streams(), inputs, strict=True)
            streams = [layers.stage(stage, x) for layers, x in pairs]
            inputs = self._fed_back(stage, streams, present)
            fused.append(inputs[0])
        return tuple(fused)

    def _streams(self) -> list[Stages]:
        return [stages for stages in self.streams if isinstance(stages, Stages)]

    def _fed_back(self, stage: int, streams: Sequence[Tensor], present: Tensor) -> list[Tensor]:
        """What the streams go on with after a stage: the first with the fused map."""
        shown = _shown(streams, present)
        others = shown if self.mask_streams else streams
        return [self._fuse(stage, shown), *others[1:]]

    def _fuse(self, stage: int, streams: Sequence[Tensor]) -> Tensor:
        """The sum of the squeeze-excited streams."""
        gates = self.excite[stage]
        assert isinstance(gates, nn.ModuleList)
        return torch.stack([gate(x) for gate, x in zip(gates, streams, strict=True)]).sum(0)


def _shown(streams: Sequence[Tensor], present: Tensor) -> list[Tensor]:
    """Zeros where a modality is absent; by ``where``, because what stands there may be NaN."""
    masks = present[:, :, None, None, None].unbind(1)  # V of (B, 1, 1, 1)
    return [
        torch.where(mask, x, torch.zeros_like(x)) for mask, x in zip(masks, streams, strict=True)
    ]
