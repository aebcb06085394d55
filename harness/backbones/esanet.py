"""ESANet: RGB-D segmentation with squeeze-excite fusion.

As published (joint), or with one pure encoder per modality (parallel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from harness.backbones import Backbone, MapShape, Passed
from harness.backbones._esanet_decoder import Context, Decoder
from harness.backbones._esanet_encoder import (
    DESIGNS,
    STAGES,
    Encoder,
    JointEncoder,
    StemEncoder,
    stage_channels,
)
from harness.backbones._pretrained import Pretrained
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Range

STRIDE = 32
"""Of the deepest map; inputs' sides must be divisible by it."""


class ESANet(Backbone):
    """``backbone=esanet`` (Seichter et al., ICRA 2021).

    Modalities of one height and width, divisible by 32.

    Encoders of ResNet layout at strides 4, 8, 16 and 32; 1x1 skips; a context module with 1x1 and
    5x5 pooling, whose output is z (512 x H/32 x W/32 as published); a decoder of three modules with
    learned upsampling and, in training, side predictions. ``form=joint`` is the published network:
    the squeeze-excited sum of all modalities replaces the stream of the first one after the stem
    and after each stage, so encoders are the stems alone and every combination runs the rest.
    ``form=parallel`` leaves the feedback out: every encoder is that of the published one-modality
    network, their maps meet in the method's fusion, and every sample is encoded once.
    """

    options = {
        "encoder": Range(
            "r34_nbt1d",
            choices=tuple(DESIGNS),
            help="ResNet-18/34 with factorised or basic blocks, or ResNet-50",
        ),
        "form": Range(
            "parallel",
            choices=("parallel", "joint"),
            help="parallel: pure encoders; joint: fusion feeds back",
        ),
        "width": Range(
            64, limits=(4, 512), help="channels of the stem; 64 as published, less for quick trials"
        ),
        "pretrained": Range(
            "none",
            local=True,
            help="file with a state dict for every encoder, or none; never fetched",
        ),
        "pretrained_sha256": Range("", help="what the file's sha256 must be; filled in when empty"),
    }
    tasks = ("segmentation",)

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(spec, options)
        self.design, self.width = str(self.values["encoder"]), int(self.values["width"])
        self.joint = self.values["form"] == "joint"
        height, width = _common_size(spec)
        channels = stage_channels(self.design, self.width)
        pyramid = tuple(
            MapShape(c, height // stride, width // stride)
            for c, stride in zip(channels, (4, 8, 16, STRIDE), strict=True)
        )
        if self.joint:
            # Encoders stop at the stem, the mixer goes on.
            self.maps = (MapShape(self.width, height // 2, width // 2),)
            self.mixed = pyramid
        else:
            self.maps = pyramid
        self.z = MapShape(8 * self.width, height // STRIDE, width // STRIDE)
        self.decoded = (8 * self.width, 4 * self.width, 2 * self.width)
        self.pretrained = Pretrained.of(self.values)

    def encoder(self, modality: str) -> nn.Module:
        channels = self.spec.modalities[self.spec.names.index(modality)].shape[0]
        encoder: StemEncoder | Encoder
        if self.joint:
            encoder = StemEncoder(channels, self.width)
        else:
            encoder = Encoder(channels, self.design, self.width)
        if self.pretrained is not None:
            self.pretrained.load(encoder.stem, f"encoder of {modality}")
            if isinstance(encoder, Encoder):
                self.pretrained.load(encoder.stages, f"encoder of {modality}")
        return encoder

    def mixer(self, mask_streams: bool = True) -> nn.Module:
        if not self.joint:
            return super().mixer(mask_streams)
        mixer = JointEncoder(len(self.spec.names), self.design, self.width, mask_streams)
        for name, stages in zip(self.spec.names, mixer.streams, strict=True):
            if self.pretrained is not None:
                self.pretrained.load(stages, f"encoder of {name}")
        return mixer

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        own = stage_channels(self.design, self.width)[-1]
        return Context(channels[-1], own, self.z.channels, (self.z.height, self.z.width))

    def head(self, channels: Sequence[int]) -> nn.Module:
        if len(channels) != STAGES:
            raise ValueError(
                f"ESANet's decoder needs fused maps of {STAGES} scales, not {len(channels)}"
            )
        return Decoder(channels, self.width, len(self.spec.classes))

    def through(self, trunk: nn.Module, head: nn.Module, fused: tuple[Any, ...]) -> Passed:
        if not isinstance(head, Decoder):
            return super().through(trunk, head, fused)
        z = trunk(fused)
        logits, maps = head.decode(z, fused)
        return Passed(logits, z, decoded=maps)

    def remarks(self) -> list[str]:
        if self.pretrained is not None:
            return [self.pretrained.remark()]
        return [
            "scratch: encoders started from random weights; published figures of this network have"
            " pretrained ones"
        ]


def _common_size(spec: DataSpec) -> tuple[int, int]:
    sizes = {modality.shape[1:] for modality in spec.modalities}
    height, width = min(sizes)
    if len(sizes) > 1 or height % STRIDE or width % STRIDE:
        raise UserError(
            f"backbone esanet needs modalities of one height and width divisible by {STRIDE};"
            f" {spec.name} has {sorted(sizes)}"
        )
    return height, width
