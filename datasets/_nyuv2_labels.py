"""NYUv2's classes, and what label maps, depth maps and class counts are turned into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.dataset import VOID

Array = np.ndarray[Any, np.dtype[Any]]

NAMES_40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat"),
    *("clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
    *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)
NAMES_13 = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall", "window"),
)
CLASSES = {40: NAMES_40, 13: NAMES_13}
"""Names as published, the spelling of refridgerator included; label c of a file with 0 = void is class c - 1 here."""

RAW_LABELS = 894
UNITS = {"m": 1000.0, "mm": 1.0, "0.1mm": 0.1}
"""Millimetres in a unit of depth."""

METRES_BELOW, TENTHS_FROM = 100.0, 10_000.0
"""Median depths that no room has in millimetres: less is metres, more is tenths of a millimetre."""

FARTHEST = 32_767
"""Depth is kept in 16 bits with a sign: torch has few operations for unsigned ones."""


def unit_of(depths: Sequence[Array]) -> tuple[str, float]:
    """The unit of some depth maps, by the median of what is not a hole; and that median."""
    known = np.concatenate([depth[np.isfinite(depth) & (depth > 0)].ravel() for depth in depths])
    median = float(np.median(known)) if known.size else 0.0
    return ("m" if median < METRES_BELOW else "mm" if median < TENTHS_FROM else "0.1mm"), median


def millimetres(depth: Array, unit: str) -> Array:
    """Depth of any unit in whole millimetres, truncated as in the prepared layouts; ValueError beyond 32,767 mm."""
    if unit == "m":
        found = np.nan_to_num(depth.astype(np.float32)) * np.float32(UNITS[unit])
    else:
        found = depth // round(1 / UNITS[unit])
    if found.size and (found.max() > FARTHEST or found.min() < 0):
        raise ValueError(f"depth of {found.min():.0f} to {found.max():.0f} mm with the unit {unit}")
    return found.astype(np.int16)


def without_offset(labels: Array) -> Array:
    """Labels with 0 = void as class indices with VOID."""
    shifted: Array = labels.astype(np.int64) - 1
    shifted[shifted < 0] = VOID
    return shifted.astype(np.uint8)


def class_counts(target: Array, classes: int) -> Array:
    """(K + 1,) int64: pixels of each class of a target (H, W), and all its pixels, void included."""
    found = np.bincount(target.ravel(), minlength=VOID + 1)[:classes]
    return np.append(found, target.size).astype(np.int64)


def median_frequency(counts: Array) -> tuple[float, ...]:
    """Median-frequency class weights (Eigen and Fergus, ICCV 2015, as ESANet has them) from ``class_counts`` (N, K + 1).

    f_c = pixels of c / pixels, void included, of the images that contain c; w_c = median(f) / f_c over the classes that occur. A
    class that does not occur has the weight 0.
    """
    pixels, images = counts[:, :-1], counts[:, -1:]
    shown = np.where(pixels > 0, images, 0).sum(0)
    frequency = pixels.sum(0) / np.maximum(shown, 1)
    median = np.median(frequency[shown > 0]) if shown.any() else 0.0
    return tuple(np.divide(median, frequency, out=np.zeros(len(frequency)), where=shown > 0).tolist())
