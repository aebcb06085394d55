"""The author's contract for a dataset.

A dataset is one file in ``datasets/`` with one public subclass of :class:`Dataset`; its file name
is its registry name. Shape legend: N samples, V modalities, (C, H, W) the shape that an encoder
receives, K classes. What lies on disk or in memory (``stored``) may be of another type and size: it
becomes what encoders receive on the device, batch by batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.data.augmentation import Geometry, HsvJitter, Mode, resize
from harness.data.contents import Progress as Progress
from harness.data.raw import Array, Kind, Raw
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range, Value, resolve
from harness.protocol.label_maps import VOID

TASKS = ("classification", "anti_spoofing", "segmentation", "regression")
SPLITS = ("train", "val", "test")


CPU = torch.device("cpu")

RESIDENT_SHARE = 0.4
"""A split moves to an accelerator when it takes at most this share of the free memory there."""


@dataclass(frozen=True)
class Modality:
    """One sensor or view: its name and the (C, H, W) that an encoder receives.

    Encoders receive (stored - mean) / std per channel, as float32; without ``mean`` the stored
    values are already normalised. ``interpolation`` (bilinear or nearest) is how stored arrays are
    resized and warped. ``kind`` is what the sensor gives, which decides how it can go bad; None
    lets ``Split.raw`` infer it from what is stored.
    """

    name: str
    shape: tuple[int, int, int]
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: Mode = "bilinear"
    kind: Kind | None = None
    frames: bool = False
    """Series of unequal lengths: the last channel is 1 where there is a frame, and 0 in the frames
    behind the end, which are 0 in every channel as encoders receive them.
    """


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied: one geometry for all of ``modalities`` (and a dense target),
    colours of ``jittered``.
    """

    geometry: Geometry
    modalities: tuple[str, ...]
    jitter: HsvJitter | None = None
    jittered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draws:
    """How samples are varied: ``theta`` (N, 2, 3), ``colour`` (N, 3) where there is a jitter,
    ``take`` (N,) where there are takes.

    ``take`` is uniform in [0, 1).
    """

    augmentation: Augmentation
    theta: Tensor
    colour: Tensor | None = None
    take: Tensor | None = None

    def to(self, device: torch.device) -> Draws:
        """The same draws on ``device``."""
        colour = None if self.colour is None else self.colour.to(device, non_blocking=True)
        take = None if self.take is None else self.take.to(device, non_blocking=True)
        return Draws(self.augmentation, self.theta.to(device, non_blocking=True), colour, take)

    def at(self, index: Tensor) -> Draws:
        """The draws of the samples ``index``, which lies where they do."""
        colour = None if self.colour is None else self.colour[index]
        take = None if self.take is None else self.take[index]
        return Draws(self.augmentation, self.theta[index], colour, take)

    def coloured(self, name: str, x: Tensor) -> Tensor:
        """The stored values (B, 3, H, W) of a modality with the colours varied, if they are."""
        plan = self.augmentation
        if self.colour is None or plan.jitter is None or name not in plan.jittered:
            return x
        return plan.jitter.apply(x.float(), self.colour)


@dataclass(frozen=True)
class DataSpec:
    """What methods, backbones and reports need to know about a dataset, without its arrays.

    ``complete``: how many training samples have every modality; None when all have.
    """

    name: str
    task: str
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    metric: str
    aligned: bool
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    class_weights: tuple[float, ...] | None = None
    """Segmentation: the weight of each class in the cross-entropy, computed from the training
    labels; None for equal weights.
    """
    complete: int | None = None
    """How many training samples have every modality, where some have not."""
    label_scale: tuple[float, float] | None = None
    """Regression, where ``classes`` is empty: mean and standard deviation of the training labels,
    by which they are standardised in training.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in the dataset's order; masks and combinations follow it."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def outputs(self) -> int:
        """K: a score per class, or the one number of a regression."""
        return 1 if self.task == "regression" else len(self.classes)

    @property
    def predicted(self) -> str:
        """What is predicted, in words: ``10 classes``, or ``one number``."""
        return "one number" if self.task == "regression" else f"{len(self.classes)} classes"


@dataclass
class Split:
    """One split: N samples, as rows of stored arrays.

    Attributes:
        inputs: modality name -> (M, ...) stored rows of any type, possibly mapped from disk.
        target: (N,) int64 class index; for segmentation (M, H, W) stored class maps with VOID; for
            regression (N,) float32 in the labels' unit.
        available: (N, V) bool, what each sample has; on the CPU, where masks are drawn.
        rows: (N,) int64, the row of each sample, on the arrays' device as ``takes``; None when
            sample n is row n.
        modalities: how stored rows become what encoders receive; empty when they already are.
        augmentation: of training samples; None for evaluation.
        device: where batches are handed out.
        takes: modality name -> (M, 2) int64, the first of the stored rows that show one sample's
            modality in different ways, such as the frames of a clip, and how many they are; one is
            drawn per sample and epoch, without draws it is the middle one. Modalities that are not
            named have one stored row per row.
        groups: the group of each sample, as text of the dataset's own: samples of one group (frames
            of one person, pictures of one scene) are not independent. Empty when that is unknown; a
            name of its own for each sample says that all are independent.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    available: Tensor
    rows: Tensor | None = None
    modalities: tuple[Modality, ...] = ()
    augmentation: Augmentation | None = None
    device: torch.device = CPU
    takes: Mapping[str, Tensor] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.available.shape[0])

    @property
    def dense(self) -> bool:
        """Whether the target is a map for each sample."""
        return self.target.dim() > 1

    def to(self, device: torch.device) -> Split:
        """The same split handing out batches on ``device``.

        Stored there too when it is small beside the free memory.
        """
        moved = replace(self, device=device)
        if (
            device.type == "cuda"
            and _bytes(self) > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        ):
            return moved
        moved.inputs = {name: x.to(device) for name, x in self.inputs.items()}
        moved.target = self.target.to(device)
        moved.rows = None if self.rows is None else self.rows.to(device)
        moved.takes = {name: x.to(device) for name, x in self.takes.items()}
        return moved

    def select(self, index: Tensor) -> Split:
        """The split made of the samples ``index`` (int64, CPU) only, in that order.

        Nothing stored is copied.
        """
        where = index.to(self.target.device)
        rows = where if self.rows is None else self.rows[where]
        target = self.target if self.dense else self.target.index_select(0, where)
        groups = tuple(self.groups[i] for i in index.tolist()) if self.groups else ()
        return replace(
            self, rows=rows, target=target, available=self.available[index], groups=groups
        )

    def received(self) -> Split:
        """The same split as encoders receive it, all of it in memory.

        For splits that are small enough.
        """
        inputs, target = self.batch(torch.arange(len(self)))
        return Split(inputs, target, self.available, device=self.device, groups=self.groups)

    def draw(self, generator: torch.Generator) -> Draws | None:
        """One epoch's variations for all samples, so that they depend on neither batches nor
        workers; None without augmentation.
        """
        plan = self.augmentation
        if plan is None:
            return None
        first = next(modality for modality in self.modalities if modality.name in plan.modalities)
        height, width = self.inputs[first.name].shape[-2:]
        theta = plan.geometry.draw(len(self), (height, width), first.shape[1:], generator)
        colour = plan.jitter.draw(len(self), generator) if plan.jitter is not None else None
        # One number per sample for all modalities, so that frames and sounds of the same moment
        # stay together.
        take = (
            torch.rand(len(self), generator=generator, dtype=torch.float64) if self.takes else None
        )
        return Draws(plan, theta, colour, take)

    def batch(self, index: Tensor, draws: Draws | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """What encoders receive of the samples ``index`` (B,) int64, and their targets, on
        ``device``.

        With ``draws`` the samples are varied; without, brought to their size alone. Nothing waits
        for the device where the stored arrays, ``index`` and ``draws`` are there already.
        """
        index = index.to(self.target.device)
        rows = index if self.rows is None else self.rows[index]
        drawn = draws.at(index) if draws is not None else None
        inputs = {
            name: self._gather(x, self._taken(name, rows, drawn)) for name, x in self.inputs.items()
        }
        drawn = drawn.to(self.device) if drawn is not None else None
        for modality in self.modalities:
            inputs[modality.name] = _received(modality, inputs[modality.name], drawn)
        if not self.dense:
            return inputs, self._gather(self.target, index)
        return inputs, self._target_map(self._gather(self.target, rows), drawn)

    def raw(self, described: Modality) -> Raw:
        """A modality as it is stored, before it is normalised; its sounds are spectrograms, and its
        series of unequal lengths end where they end.

        What says nothing of its kind is a picture where it is stored as whole numbers of 8 bits in
        one or three channels, a series where its height is 1, and features otherwise.
        """
        name = described.name
        own = next((one for one in self.modalities if one.name == name), described)
        stored = self.inputs[name]
        kind = described.kind or own.kind or _inferred_kind(own, stored)
        note = ""
        if kind == "sound":
            kind, note = (
                "spectrogram",
                "the dataset gives no waveform: its spectrogram is corrupted",
            )
        low, high = 0.0, 255.0
        if kind in ("picture", "depth") and stored.dtype != torch.uint8:
            low, high = _extremes(stored)

        def read(n: int) -> Array:
            rows = torch.tensor([n]) if self.rows is None else self.rows[[n]]
            found = np.array(stored[int(self._taken(name, rows, None))].cpu())
            return unpadded(found) if own.frames else found

        def receive(values: Sequence[Array]) -> Tensor:
            if own.frames:
                values = [padded(one, own.shape[2]) for one in values]
            return _received(own, torch.from_numpy(np.stack(values)), None)

        channels = slice(0, -1 if own.frames else None)
        mean: Array | float = _column(own.mean[channels]) if own.mean else 0.0
        std: Array | float = _column(own.std[channels]) if own.mean else 1.0
        return Raw(kind, read, receive, low, high, mean, std, note=note)

    def _taken(self, name: str, rows: Tensor, draws: Draws | None) -> Tensor:
        """The stored rows of a modality for some rows (B,)."""
        if name not in self.takes:
            return rows
        first, count = self.takes[name][rows].unbind(1)
        if draws is None or draws.take is None:
            return first + count // 2
        return first + (draws.take * count).long()

    def _gather(self, stored: Tensor, rows: Tensor) -> Tensor:
        # On the flat view: selecting rows of an array with many dimensions is several times slower.
        flat = stored.reshape(len(stored), -1)
        chosen = flat.index_select(0, rows.to(stored.device)).reshape(len(rows), *stored.shape[1:])
        # By type: "cuda" and "cuda:0" are one device and two names.
        if chosen.device.type == self.device.type:
            return chosen
        return chosen.pin_memory().to(self.device, non_blocking=True)

    def _target_map(self, target: Tensor, draws: Draws | None) -> Tensor:
        if draws is None:
            return target.long()
        size = self.modalities[0].shape[1:]
        return draws.augmentation.geometry.apply(
            target[:, None], draws.theta, size, "nearest", fill=VOID
        )[:, 0].long()


def _received(modality: Modality, x: Tensor, draws: Draws | None) -> Tensor:
    """What an encoder receives of stored rows x."""
    size = modality.shape[1:]
    if draws is not None and modality.name in draws.augmentation.modalities:
        x = draws.augmentation.geometry.apply(
            draws.coloured(modality.name, x), draws.theta, size, modality.interpolation
        )
    elif tuple(x.shape[-2:]) != size:
        x = resize(x, size, modality.interpolation)
    x = x.float()
    if modality.mean:
        x = (x - _per_channel(modality.mean, x.device)) / _per_channel(modality.std, x.device)
    return x * x[:, -1:] if modality.frames else x


def padded(series: Array, frames: int) -> Array:
    """A series (C, 1, T) as (C + 1, 1, frames): zeros behind its end, and the channel that says so.

    What is longer than ``frames`` is cut.
    """
    series = series[:, :, :frames]
    found = np.zeros((series.shape[0] + 1, 1, frames), dtype=series.dtype)
    found[:-1, :, : series.shape[2]] = series
    found[-1, :, : series.shape[2]] = 1
    return found


def unpadded(stored: Array) -> Array:
    """The series (C, 1, T) that ``padded`` was given."""
    length = int(stored[-1].astype(bool).sum())
    return np.ascontiguousarray(stored[:-1, :, :length])


def _inferred_kind(modality: Modality, stored: Tensor) -> Kind:
    channels, height, width = modality.shape
    if stored.dtype == torch.uint8 and channels in (1, 3) and height > 1:
        return "picture"
    return "series" if height == 1 < width else "features"


def _extremes(stored: Tensor) -> tuple[float, float]:
    """The least and the largest stored value; row by row, for the rows may be on disk."""
    rows = [(float(row.min()), float(row.max())) for row in stored]
    return min(low for low, _ in rows), max(high for _, high in rows)


def _column(values: tuple[float, ...]) -> Array:
    """One value per channel, as it is broadcast to (C, H, W)."""
    return np.array(values)[:, None, None]


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    # Kept, because a copy to the device at every batch would wait for it.
    return torch.tensor(values, device=device)[:, None, None]


def _bytes(split: Split) -> int:
    return sum(x.numel() * x.element_size() for x in (*split.inputs.values(), split.target))


class Dataset(ABC):
    """A source of train, val and test splits.

    Class attributes an author sets: ``protocols``, ``summary``, ``options`` (declared settings,
    ``dataset.options.NAME`` in a study), ``grouping`` (what ``Split.groups`` are, in the plural:
    "subjects", "scenes"), and where the data are the user's, ``root_variable`` (the
    environment variable that names the root when the study does not), ``layout`` (what the root
    holds, in words) and ``sampled`` (``python -m datasets.sample`` writes a synthetic copy);
    ``embedded`` data come with a package and have no root.

    Args:
        root: folder of the user's copy; None for embedded data.
        manifest: a CSV that describes the user's data; None for named datasets.
        protocol: one of ``protocols``; None for the first.
        limit: at most this many samples per split (quick trials); None for all.
        options: values of declared options; the others keep their defaults.
        cache: folder for prepared arrays; None for datasets that need none.
    """

    protocols: ClassVar[tuple[str, ...]] = ("default",)
    summary: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Range]] = {}
    grouping: ClassVar[str] = ""
    root_variable: ClassVar[str | None] = None
    embedded: ClassVar[bool] = False
    layout: ClassVar[str] = ""
    sampled: ClassVar[bool] = False

    def __init__(
        self,
        root: Path | None = None,
        manifest: Path | None = None,
        protocol: str | None = None,
        limit: int | None = None,
        options: Mapping[str, Any] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.protocol = protocol or self.protocols[0]
        self.limit = limit
        self.values: dict[str, Value] = resolve(
            "option", self.options, self.declared(options or {}), "dataset.options"
        )
        self.cache = cache

    @classmethod
    def declared(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The study's options in the types that ``options`` declares.

        A dataset that takes lists or tables turns them into text.
        """
        return options

    @property
    def facts(self) -> dict[str, Value]:
        """The options that are part of a trial's identity: one that was declared later is none at
        its default.
        """
        later = {
            key
            for key, r in self.options.items()
            if r.added_later and self.values[key] == r.default
        }
        return {key: value for key, value in self.values.items() if key not in later}

    @property
    def name(self) -> str:
        """As it is registered: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def folder(self) -> Path:
        """The root, which is there; UserError with the ways to give one."""
        if self.root is None:
            sample = (
                f"; without it, `python -m datasets.sample {self.name} DIR` writes a synthetic one"
                if self.sampled
                else ""
            )
            raise UserError(
                f"dataset {self.name} needs your copy of the data: dataset.root=DIR or the"
                f" environment variable {self.root_variable} names the folder that holds"
                f" {self.layout}{sample}"
            )
        if not self.root.is_dir():
            raise UserError(
                f"dataset.root={self.root} is not a folder; it must be the one that holds"
                f" {self.layout}"
            )
        return self.root

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """The description; must not need the data itself when the dataset's layout is fixed."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that decides the arrays: contents, split, protocol, limit,
        preparation. UserError without data.
        """

    @abstractmethod
    def load(self, split: str) -> Split:
        """One of ``train``, ``val``, ``test``; deterministic. Needs what ``prepare`` makes."""

    def raw(self, split: str, modality: str) -> Raw:
        """What the sensor of a modality gave for the samples of a split, before normalisation.

        Default: what is stored. A dataset says more where it knows more: the waveform of a
        spectrogram, the picture that a view is constructed from, the unit of a depth map.
        """
        described = next(one for one in self.spec.modalities if one.name == modality)
        return self.load(split).raw(described)

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Samples per split, after ``limit``."""

    def remarks(self) -> list[str]:
        """Sentences about the samples that every report must show, such as test samples that are
        copies of training samples. Read from the data; never called by a worker. Default: none.
        """
        return []

    def inferred(self) -> Mapping[str, Sequence[str]]:
        """What is known of the user's copy without decoding it: heading -> lines.

        Default: the samples of each split.
        """
        return {"samples": [f"{name}: {count:,}" for name, count in self.counts().items()]}

    def prepare(self, progress: Progress) -> list[str]:
        """Decode what ``load`` needs into ``cache``, once; called by the driver, never by a worker.

        Returns sentences for the user: what was found, left out or inferred. Default: nothing to
        prepare.
        """
        return []

    def group_sentences(self) -> list[str]:
        """How many groups each split has, and which are in several; needs prepared data.

        Nothing where some split's are not known, or where each sample is its own.
        """
        splits = {name: self.load(name) for name in SPLITS}
        groups = {name: dict.fromkeys(split.groups) for name, split in splits.items()}
        together = any(len(groups[name]) < len(split) for name, split in splits.items())
        if not all(groups.values()) or not together:
            return []
        counts = ", ".join(f"{name} {len(own)}" for name, own in groups.items())
        what = self.grouping or "groups"
        sentences = [f"{what} of samples that belong together: {counts}"]
        for first, second in combinations(SPLITS, 2):
            both = [group for group in groups[first] if group in groups[second]]
            if both:
                sentences.append(
                    f"{len(both)} {what} are in {first} and in {second}: {shown(both)}; their"
                    " samples are not independent"
                )
        return sentences
