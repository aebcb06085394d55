"""The author's contract for a dataset.

A dataset is one file in ``datasets/`` with one public subclass of :class:`Dataset`; its file name is its registry name. Shape
legend: N samples, V modalities, (C, H, W) the shape of one modality's array, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

TASKS = ("classification", "anti_spoofing", "segmentation")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Modality:
    """One sensor or view: its name, the (C, H, W) of its arrays, and how the arrays were normalised."""

    name: str
    shape: tuple[int, int, int]
    description: str = ""


@dataclass(frozen=True)
class DataSpec:
    """What methods, backbones and reports need to know about a dataset, without its arrays."""

    name: str
    task: str
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    metric: str
    aligned: bool
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    class_weights: tuple[float, ...] | None = None
    """Segmentation: the weight of each class in the cross-entropy, computed from the training labels; None for equal weights."""

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in the dataset's order; masks and combinations follow it."""
        return tuple(modality.name for modality in self.modalities)


@dataclass
class Split:
    """One split in memory.

    Attributes:
        inputs: modality name -> (N, C, H, W) float32, normalised.
        target: (N,) int64 class index, or (N, H, W) for segmentation.
        available: (N, V) bool, what each sample has.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    available: Tensor

    def __len__(self) -> int:
        return int(self.target.shape[0])

    def to(self, device: torch.device) -> Split:
        """The same split with inputs and targets on ``device``; availability stays on the CPU, where masks are drawn."""
        inputs = {name: x.to(device) for name, x in self.inputs.items()}
        return Split(inputs, self.target.to(device), self.available)

    def batch(self, index: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and targets of the samples ``index`` (int64, on the split's device)."""
        return {name: x.index_select(0, index) for name, x in self.inputs.items()}, self.target.index_select(0, index)

    def select(self, index: Tensor) -> Split:
        """The split made of the samples ``index`` only, in that order."""
        inputs, target = self.batch(index)
        return Split(inputs, target, self.available.index_select(0, index.to(self.available.device)))


class Dataset(ABC):
    """A source of train, val and test splits.

    Args:
        root: folder of the user's copy; None for embedded data.
        manifest: a CSV that describes the user's data; None for named datasets.
        protocol: one of ``protocols``; None for the first.
        limit: at most this many samples per split (quick trials); None for all.
    """

    protocols: ClassVar[tuple[str, ...]] = ("default",)
    summary: ClassVar[str] = ""

    def __init__(
        self,
        root: Path | None = None,
        manifest: Path | None = None,
        protocol: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.protocol = protocol or self.protocols[0]
        self.limit = limit

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """The description; must not need the data itself when the dataset's layout is fixed."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that decides the arrays: contents, split, protocol, limit, preparation. UserError without data."""

    @abstractmethod
    def load(self, split: str) -> Split:
        """One of ``train``, ``val``, ``test``; deterministic."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Samples per split, after ``limit``."""
