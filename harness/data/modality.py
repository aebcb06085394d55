"""One modality as encoders receive it, and series of unequal lengths as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.augmentation import Mode
from harness.data.raw import Array, Kind


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
