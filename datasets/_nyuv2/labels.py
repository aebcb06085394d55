"""NYUv2's classes, and what label maps, depth maps and class counts are turned into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.protocol.label_maps import VOID

Array = np.ndarray[Any, np.dtype[Any]]

NAMES_40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow"),
    *("mirror", "floor mat", "clothes", "ceiling", "books", "refridgerator", "television"),
    *("paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand"),
    *("toilet", "sink", "lamp", "bathtub", "bag"),
    *("otherstructure", "otherfurniture", "otherprop"),
)
NAMES_13 = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa"),
    *("table", "tv", "wall", "window"),
)
CLASSES = {40: NAMES_40, 13: NAMES_13}
"""Names as published, the spelling of refridgerator included; label c of a file with 0 = void is
class c - 1 here.
"""

RAW_LABELS = 894
UNITS = {"m": 1000.0, "mm": 1.0, "0.1mm": 0.1}
"""Millimetres in a unit of depth."""

METRES_BELOW, TENTHS_FROM = 100.0, 10_000.0
"""Median depths that no room has in millimetres: less is metres, more is tenths of a millimetre."""

FARTHEST = 32_767
"""Depth is kept in 16 bits with a sign: torch has few operations for unsigned ones."""


def inferred_unit(given: str, maps: Sequence[Array]) -> tuple[str, str]:
    """The unit of depth maps and a sentence that says how it is known.

    ``given``, or with ``auto`` by the median without holes.
    """
    if given != "auto":
        return given, f"depth is read as {given}, as dataset.options.depth_unit says"
    known = np.concatenate(
        [np.zeros(0), *(depth[np.isfinite(depth) & (depth > 0)] for depth in maps)]
    )
    median = float(np.median(known)) if known.size else 0.0
    unit = "m" if median < METRES_BELOW else "mm"
    if median >= TENTHS_FROM:
        unit = "0.1mm"
    if unit == "m" and all(depth.dtype.kind != "f" for depth in maps):
        raise UserError(
            f"depth has the median {median:g} in {len(maps)} training images, in whole numbers:"
            " neither millimetres nor tenths of them; convert it to 16-bit millimetres, or name"
            " its unit with dataset.options.depth_unit"
        )
    sentence = (
        f"depth is in {unit}, judging by the median {median:,.6g} of {len(maps)} training"
        " images; kept in mm"
    )
    return unit, sentence


def millimetres(depth: Array, unit: str) -> Array:
    """Depth of any unit in whole millimetres, truncated as in the prepared layouts.

    ValueError beyond 32,767 mm.
    """
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
