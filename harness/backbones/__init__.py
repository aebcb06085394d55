"""The contract of a shared network: a blueprint from which methods take encoders, trunks and heads.

One file per backbone; its file name is its registry name. A method decides what happens between the
encoders and the trunk, and between the trunk and the head; the backbone decides everything else, so
that methods differ in nothing but the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from harness.dataset import DataSpec
from harness.errors import UserError
from harness.protocol.hyperparameters import Range, Value, resolve


class MapShape(NamedTuple):
    """The (c, h, w) of a feature map."""

    channels: int
    height: int
    width: int


class Passed(NamedTuple):
    """One pass from fused maps to logits.

    With z, and the maps that a backbone announces as ``inner`` and ``decoded``.
    """

    logits: Tensor
    z: Tensor
    inner: tuple[Tensor, ...] = ()
    decoded: tuple[Tensor, ...] = ()


class Backbone(ABC):
    """A blueprint bound to one dataset.

    Attributes:
        maps: the shapes of the maps that every encoder returns, one per scale (one in all for
            classification).
        z: the shape of what a trunk of the modalities' concatenated maps returns: the penultimate
            representation.
        joint: the network mixes modalities while encoding: encoders stop where that begins, and a
            ``mixer`` goes on, once for each combination.
        mixed: the shapes of the maps that a mixer returns, one per scale; empty when the network is
            not joint.
        inner, decoded: the channels of the maps between a trunk's stages (before z) and of a head's
            maps before its last (after z), in the order of computation: where deep supervision may
            be attached.
        additive: logits are a sum of one term per modality, which ``readouts`` gives.
        joins: the trunk of the modalities' concatenated maps is no mere layer on them: it tells the
            modalities apart.
    """

    options: ClassVar[Mapping[str, Range]] = {}
    tasks: ClassVar[tuple[str, ...]] = ("classification", "anti_spoofing")
    joint: bool = False
    maps: tuple[MapShape, ...]
    mixed: tuple[MapShape, ...] = ()
    z: MapShape
    inner: tuple[int, ...] = ()
    decoded: tuple[int, ...] = ()
    additive: bool = False
    joins: bool = False

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        self.spec = spec
        self.values: dict[str, Value] = resolve("option", self.options, options or {}, "backbone")

    @property
    def facts(self) -> dict[str, Value]:
        """The options that are part of a trial's identity."""
        return {key: value for key, value in self.values.items() if not self.options[key].local}

    @property
    def paths(self) -> dict[str, str]:
        """The options that are paths of this machine, absolute; ``none`` stays."""
        paths = {key: str(value) for key, value in self.values.items() if self.options[key].local}
        return {
            key: path if path == "none" else str(Path(path).resolve())
            for key, path in paths.items()
        }

    @abstractmethod
    def encoder(self, modality: str) -> nn.Module:
        """A fresh encoder: (B, C, H, W) -> tuple of maps, (B, c, h, w) each, as in ``maps``."""

    @abstractmethod
    def trunk(self, channels: Sequence[int]) -> nn.Module:
        """A fresh shared trunk: tuple of fused maps, one per scale -> (B, *z).

        ``channels``: of the fused maps.
        """

    @abstractmethod
    def head(self, channels: Sequence[int]) -> nn.Module:
        """A fresh predictor: (z, fused maps) -> logits, (B, K) or (B, K, H, W).

        ``channels``: of the fused maps, one number per scale.
        """

    def remarks(self) -> list[str]:
        """Sentences for the report about models that were made from this blueprint.

        Default: none.
        """
        return []

    # -------------------------------------------------------- what some methods ask for beyond that

    def mixer(self, mask_streams: bool = True) -> nn.Module:
        """A fresh joint encoder: (V maps (B, *maps[0]), present (B, V) bool) -> tuple of maps.

        The maps are fused, of the shapes in ``mixed``. Only a joint network has one; absent
        modalities must not reach its output, NaN included.

        Args:
            mask_streams: zero an absent modality's own stream, too, on which its later layers run;
                False zeroes only what it adds to the fused one.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is not joint: its encoders do not mix modalities"
        )

    def through(self, trunk: nn.Module, head: nn.Module, fused: tuple[Tensor, ...]) -> Passed:
        """Trunk and head of this blueprint, with the maps inside them.

        Default: both are one stage.
        """
        z = trunk(fused)
        return Passed(head(z, fused), z)

    def last_stage(self, channels: Sequence[int]) -> nn.Module:
        """A fresh last stage of a trunk: 1-tuple of the last inner map -> (B, *z).

        Where there is no inner map, it takes the deepest fused map. Default: a trunk, as one of a
        single stage.
        """
        return self.trunk(channels)

    def readouts(self, head: nn.Module, z: Tensor) -> list[Tensor]:
        """The logits of each modality alone, (B, K) each in the dataset's order.

        Where ``additive``: their sum is the logits. Of a head and the z of the modalities'
        concatenated maps. UserError on a network whose logits are no such sum.
        """
        raise UserError(
            "the logits of this backbone are not a sum over modalities; use backbone=audio_visual"
        )

    def shared_encoder(self) -> tuple[list[nn.Module], nn.Module]:
        """A fresh encoder for all modalities: one stem each, and the shared layers after them.

        A stem brings its modality to a common shape. Default, for inputs of one height and width:
        the encoder of the modality with most channels is shared; the stems are identities, and 1x1
        convolutions for modalities with fewer channels. UserError for inputs of unlike sizes.
        """
        modalities = self.spec.modalities
        if len({modality.shape[1:] for modality in modalities}) > 1:
            shapes = ", ".join(f"{modality.name} {modality.shape}" for modality in modalities)
            raise UserError(
                f"this backbone cannot share an encoder between inputs of unlike sizes ({shapes});"
                " use backbone=small"
            )
        widest = max(modalities, key=lambda modality: modality.shape[0])
        stems = [_to_channels(modality.shape[0], widest.shape[0]) for modality in modalities]
        return stems, self.encoder(widest.name)


def _to_channels(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
