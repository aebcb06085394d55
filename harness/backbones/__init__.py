"""The contract of a shared network: a blueprint from which methods take encoders, trunks and heads.

One file per backbone; its file name is its registry name. A method decides what happens between the encoders and the trunk, and
between the trunk and the head; the backbone decides everything else, so that methods differ in nothing but the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import nn

from harness.dataset import DataSpec
from harness.hyperparameters import Range, Value, resolve


class MapShape(NamedTuple):
    """The (c, h, w) of a feature map."""

    channels: int
    height: int
    width: int


class Backbone(ABC):
    """A blueprint bound to one dataset.

    Attributes:
        maps: the shapes of the maps that every encoder returns, one per scale (one in all for classification).
        z: the shape of what a trunk returns: the penultimate representation.
        joint: the network mixes modalities while encoding; encoders then pass inputs through and the trunk does it all.
    """

    options: ClassVar[Mapping[str, Range]] = {}
    tasks: ClassVar[tuple[str, ...]] = ("classification", "anti_spoofing")
    joint: ClassVar[bool] = False
    maps: tuple[MapShape, ...]
    z: MapShape

    def __init__(self, spec: DataSpec, options: Mapping[str, Any] | None = None) -> None:
        self.spec = spec
        self.values: dict[str, Value] = resolve("option", self.options, options or {}, "backbone")

    @abstractmethod
    def encoder(self, modality: str) -> nn.Module:
        """A fresh encoder: (B, C, H, W) -> tuple of maps, (B, c, h, w) each, as in ``maps``."""

    @abstractmethod
    def trunk(self, channels: Sequence[int]) -> nn.Module:
        """A fresh shared trunk: tuple of fused maps with ``channels`` channels per scale -> (B, *z)."""

    @abstractmethod
    def head(self, channels: Sequence[int]) -> nn.Module:
        """A fresh predictor: (z, fused maps with ``channels`` channels per scale) -> logits, (B, K) or (B, K, H, W)."""
