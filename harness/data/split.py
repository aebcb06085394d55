"""One split of a dataset: stored rows, gathered, varied and normalised batch by batch.

Shape legend: N samples, M stored rows, V modalities, B samples of a batch, (C, H, W) the shape that
an encoder receives. Authors of datasets make it in ``Dataset.load``; training and evaluation ask it
for batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from harness.data.augmentation import Geometry, HsvJitter, resize
from harness.data.modality import Modality, padded, unpadded
from harness.data.raw import Array, Kind, Raw
from harness.protocol.label_maps import VOID

CPU = torch.device("cpu")

RESIDENT_SHARE = 0.4
"""A split moves to an accelerator when it takes at most this share of the free memory there."""


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
    """How N samples are varied in one epoch.

    Attributes:
        augmentation: what the draws are for.
        theta: (N, 2, 3), the maps of the geometry.
        colour: (N, 3), of the jitter; None without one.
        take: (N,) in [0, 1), which of a sample's takes is shown; None where nothing has several.
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
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if _bytes(self) > RESIDENT_SHARE * free:
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
            name: self._gather(stored, self._taken(name, rows, drawn))
            for name, stored in self.inputs.items()
        }
        drawn = drawn.to(self.device) if drawn is not None else None
        for modality in self.modalities:
            inputs[modality.name] = _received(modality, inputs[modality.name], drawn)
        if not self.dense:
            return inputs, self._gather(self.target, index)
        # Maps are stored beside the inputs, one per row; other targets one per sample.
        target = self._gather(self.target, rows)
        return inputs, self._target_map(target, drawn)

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
            kind = "spectrogram"
            note = "the dataset gives no waveform: its spectrogram is corrupted"
        low, high = 0.0, 255.0
        if kind in ("picture", "depth") and stored.dtype != torch.uint8:
            low, high = _extremes(stored)

        def read(n: int) -> Array:
            rows = torch.tensor([n]) if self.rows is None else self.rows[[n]]
            row = int(self._taken(name, rows, None))
            values = np.array(stored[row].cpu())
            return unpadded(values) if own.frames else values

        def receive(values: Sequence[Array]) -> Tensor:
            if own.frames:
                values = [padded(one, own.shape[2]) for one in values]
            return _received(own, torch.from_numpy(np.stack(values)), None)

        # Without the channel that says where frames are: ``read`` takes it off.
        channels = slice(0, -1 if own.frames else None)
        mean: Array | float = _column(own.mean[channels]) if own.mean else 0.0
        std: Array | float = _column(own.std[channels]) if own.mean else 1.0
        return Raw(kind, read, receive, low, high, mean, std, note=note)

    def _taken(self, name: str, rows: Tensor, draws: Draws | None) -> Tensor:
        """The stored rows of a modality for some rows (B,): one of each sample's takes."""
        if name not in self.takes:
            return rows
        first, count = self.takes[name][rows].unbind(1)
        if draws is None or draws.take is None:
            return first + count // 2
        return first + (draws.take * count).long()

    def _gather(self, stored: Tensor, rows: Tensor) -> Tensor:
        """Some rows (B,) of a stored array (M, ...), on ``device``."""
        # On the flat view: selecting rows of an array with many dimensions is several times slower.
        flat = stored.reshape(len(stored), -1).index_select(0, rows.to(stored.device))
        chosen = flat.reshape(len(rows), *stored.shape[1:])
        # By type: "cuda" and "cuda:0" are one device and two names.
        if chosen.device.type == self.device.type:
            return chosen
        # Pinned: a copy from other memory waits for the device in spite of non_blocking.
        return chosen.pin_memory().to(self.device, non_blocking=True)

    def _target_map(self, target: Tensor, draws: Draws | None) -> Tensor:
        """Stored class maps (B, H, W) varied as the pictures are; VOID where they show nothing."""
        if draws is None:
            return target.long()
        size, geometry = self.modalities[0].shape[1:], draws.augmentation.geometry
        # Nearest: numbers of classes have no values between them. Warped as (B, 1, H, W).
        warped = geometry.apply(target[:, None], draws.theta, size, "nearest", fill=VOID)
        return warped[:, 0].long()


def _received(modality: Modality, x: Tensor, draws: Draws | None) -> Tensor:
    """What an encoder receives, (B, C, H, W), of stored rows x."""
    size = modality.shape[1:]
    if draws is not None and modality.name in draws.augmentation.modalities:
        geometry = draws.augmentation.geometry
        x = draws.coloured(modality.name, x)
        x = geometry.apply(x, draws.theta, size, modality.interpolation)
    elif tuple(x.shape[-2:]) != size:
        x = resize(x, size, modality.interpolation)
    x = x.float()
    # After it was resized: values are interpolated as they are stored.
    if modality.mean:
        x = (x - _per_channel(modality.mean, x.device)) / _per_channel(modality.std, x.device)
    # Zeros behind a series' end, of which the normalisation has made other numbers.
    return x * x[:, -1:] if modality.frames else x


def _inferred_kind(modality: Modality, stored: Tensor) -> Kind:
    """What a modality that does not say its kind looks like, see ``Split.raw``."""
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
    """What the stored arrays take."""
    return sum(x.numel() * x.element_size() for x in (*split.inputs.values(), split.target))
