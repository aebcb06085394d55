"""What is known of one column of a manifest, and how its sizes are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets._manifest.formats import Header, Kind
from datasets._media.audio import FrontEnd
from harness.data.prepared import Item
from harness.data.raw import Kind as Sensor
from harness.dataset import Modality

Headers = Sequence[tuple[int, Header]]
"""Row number and header of each file of a column."""


@dataclass(frozen=True)
class Column:
    """One modality of a manifest.

    ``shape``: the (C, H, W) that is stored and received; ``dtype``: as stored; ``read``: file ->
    item; ``operation`` and ``what``: that in words, for the data's identity and for reports;
    ``places``: the heights and widths that its files have, upright; none of sounds; ``sensor``:
    what gave it, which decides how it can go bad; ``front_end``: of a sound; ``frames``: its
    series have unequal lengths, see ``Modality``.
    """

    name: str
    kind: Kind
    shape: tuple[int, int, int]
    dtype: str
    operation: str
    read: Callable[[Path], Item]
    what: str
    remarks: tuple[str, ...] = ()
    places: frozenset[tuple[int, ...]] = frozenset()
    sensor: Sensor = "features"
    front_end: FrontEnd | None = None
    frames: bool = False

    @property
    def modality(self) -> Modality:
        """As methods and reports see it, before its mean and deviation are known."""
        return Modality(self.name, self.shape, self.what, kind=self.sensor, frames=self.frames)


def is_depth(name: str) -> bool:
    """Whether a column's name says that it holds depth maps: no header does."""
    return "depth" in name.lower()


def shape_text(shape: Sequence[int]) -> str:
    """``3x64x96``."""
    return "x".join(map(str, shape))


def sizes_text(sizes: set[tuple[int, ...]]) -> str:
    """``64x96``, or of several (H, W) how many there are, and between which."""
    if len(sizes) == 1:
        return shape_text(min(sizes))
    heights, widths = zip(*sorted(sizes), strict=True)
    return f"{len(sizes)} sizes from {min(heights)}x{min(widths)} to {max(heights)}x{max(widths)}"
