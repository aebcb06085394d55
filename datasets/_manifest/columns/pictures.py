"""Columns of pictures: their channels, their depth, and the one size that they are brought to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial

from datasets._manifest.columns.column import Column, Headers, is_depth, shape_text, sizes_text
from datasets._manifest.formats import DEEP_COLOUR, PAGES, TO_16_BITS, TURNED, Header, Size, picture
from datasets._manifest.sheet import rows_named

LONGEST_SIDE = 256
DIVISOR = 32
"""Sides of pictures that are segmented are multiples of it unless the study says otherwise:
networks halve them five times.
"""

UNUSUAL = {
    TURNED: "are stored turned (EXIF orientation) and are turned upright",
    DEEP_COLOUR: (
        "have 16 bits per channel of colour, of which the upper 8 are read; save them as npy to"
        " keep all"
    ),
    PAGES: (
        "have several pages, of which the first is read; save each page as a picture, or all as"
        " one npy array"
    ),
}


def picture_column(name: str, found: Headers, size: Size | None) -> Column:
    """A column of pictures, with the channels and the depth of the richest of them.

    ``size``: the (H, W) that is asked for; None for their own or a median one.
    """
    channels = max(header.shape[0] for _, header in found)
    depth = max(int(header.detail) for _, header in found)
    stored = {header.shape[1:] for _, header in found}
    target = size or _common_size(found, stored)
    deep = depth > 8
    bits, dtype = (f"{depth} bits as float32", "float32") if deep else ("8 bits", "uint8")
    operation = f"picture -> {channels} x {bits}, bilinear with low-pass {shape_text(target)}"
    if any(TURNED in header.facts for _, header in found):
        operation += ", upright"
    remarks = _mixed(name, found, channels, depth)
    if stored != {target}:
        remarks.append(
            f"'{name}' is resized to {shape_text(target)}; dataset.options.size={name}:HxW changes"
            " that"
        )
    colour = "colour" if channels == 3 else "grey"
    return Column(
        name=name,
        kind="image",
        shape=(channels, *target),
        dtype=dtype,
        operation=operation,
        read=partial(picture, channels=channels, deep=deep, size=target),
        what=f"{len(found):,} pictures, {colour}, {depth} bits, {sizes_text(stored)}",
        remarks=(*remarks, *_unusual(name, found)),
        places=frozenset(stored),
        sensor="depth" if is_depth(name) else "picture",
    )


def segmented_size(headers: Mapping[str, Headers]) -> Size | None:
    """One size for all modalities that have pixels; None where no column has pictures.

    That of the pictures, its sides rounded to multiples of DIVISOR.
    """
    pictures: list[tuple[int, Header]] = []
    for found in headers.values():
        _, first = found[0]
        if first.kind == "image":
            pictures += found
    if not pictures:
        return None
    height, width = _median_size(pictures)
    return _rounded(height), _rounded(width)


def _rounded(side: int) -> int:
    """The nearest multiple of DIVISOR, at least one of it."""
    return max(DIVISOR, (side + DIVISOR // 2) // DIVISOR * DIVISOR)


def _common_size(found: Headers, stored: set[tuple[int, ...]]) -> Size:
    """The pictures' own size where all have one that is small enough, else the median size."""
    if len(stored) > 1:
        return _median_size(found)
    ((height, width),) = stored
    return _median_size(found) if max(height, width) > LONGEST_SIDE else (height, width)


def _median_size(found: Headers) -> Size:
    """The median height and width, shrunk to at most LONGEST_SIDE on the longer side."""
    # The higher of two in the middle: a side that pictures have, never one between them.
    height = statistics.median_high(header.shape[1] for _, header in found)
    width = statistics.median_high(header.shape[2] for _, header in found)
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _mixed(name: str, found: Headers, channels: int, depth: int) -> list[str]:
    """What is done to pictures that have fewer bits or channels than others, with their rows."""
    remarks = []
    shallow = [number for number, header in found if header.detail == "8"]
    if depth > 8 and shallow:
        remarks.append(
            f"'{name}' mixes 8 and {depth} bits: 8 bits ({rows_named(shallow)}) are multiplied by"
            f" {TO_16_BITS}"
        )
    grey = [number for number, header in found if header.shape[0] < channels]
    if grey:
        remarks.append(
            f"'{name}' mixes grey and colour: grey pictures ({rows_named(grey)}) are repeated in"
            " all three channels"
        )
    return remarks


def _unusual(name: str, found: Headers) -> list[str]:
    """What is done to pictures that are not as most are, with their rows."""
    remarks = []
    for fact, done in UNUSUAL.items():
        rows = [number for number, header in found if fact in header.facts]
        if rows:
            remarks.append(f"'{name}': {len(rows)} pictures {done} ({rows_named(rows)})")
    return remarks
