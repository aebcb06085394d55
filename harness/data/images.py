"""Reading pictures for the prepared cache: what cannot be decoded completely is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from harness.data._prepared_table import Item, Unreadable

Mode = Literal["RGB", "L", "I;16", "index"]
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow and numpy raise on files that are corrupt or truncated."""


def read_image(path: Path, mode: Mode, size: tuple[int, int] | None = None) -> Item:
    """A picture as (C, H, W), resized to ``size`` = (H, W) where that differs.

    Args:
        path: of any file that Pillow decodes.
        mode: ``RGB`` (3 channels) or ``L`` (1), uint8, converted where necessary; ``I;16``, one
            channel of 16 bits, uint16; ``index``, the stored numbers of a label map (a palette is
            not applied), resized by nearest neighbour.
        size: bilinear with pixel centres aligned and without a low-pass filter, rounded, as the
            published pipelines do it.

    Raises:
        Unreadable: corrupt or truncated, or 16 bits where 8 are expected and the reverse.
        FileNotFoundError: the file is not there.
    """
    # Off unless some library switched it on for its own purposes: a truncated picture would come
    # back half grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as picture:
            pixels = _pixels(path, picture, mode)
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise Unreadable(path, str(error) or type(error).__name__) from error
    if size is not None and pixels.shape[:2] != size:
        pixels = nearest(pixels, size) if mode == "index" else bilinear(pixels, size)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _pixels(path: Path, picture: Image.Image, mode: Mode) -> Item:
    deep = picture.mode.startswith("I")
    if mode == "I;16" and not deep:
        raise Unreadable(path, f"mode {picture.mode} where one channel of 16 bits is expected")
    if mode in ("RGB", "L") and (deep or picture.mode == "F"):
        raise Unreadable(path, f"mode {picture.mode} where 8 bits are expected")
    if mode == "index" and len(picture.getbands()) > 1:
        raise Unreadable(path, f"mode {picture.mode} where a map of labels is expected")
    pixels = np.asarray(picture.convert(mode) if mode in ("RGB", "L") else picture)
    if mode == "I;16":
        pixels = pixels.astype(np.uint16)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def bilinear(pixels: Item, size: tuple[int, int]) -> Item:
    """(H, W, C) at another (height, width), rounded to its own type.

    Bilinear without low-pass and with half-pixel centres.
    """
    # Rows, then columns, in numpy: it runs in as many threads as call it and starts none of its
    # own.
    values = pixels.astype(np.float32)
    for axis, side in enumerate(size):
        length = values.shape[axis]
        where = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = where.astype(np.int64)
        shape = [1, 1, 1]
        shape[axis] = side
        weight = (where - low).astype(np.float32).reshape(shape)
        first = values.take(low, axis)
        values = first + (values.take(np.minimum(low + 1, length - 1), axis) - first) * weight
    return np.rint(values).astype(pixels.dtype)


def nearest(pixels: Item, size: tuple[int, int]) -> Item:
    """(H, W, ...) at another (height, width), each pixel the one that its centre lies in."""
    rows, columns = (
        ((np.arange(side) + 0.5) * length / side).astype(np.int64)
        for side, length in zip(size, pixels.shape, strict=False)
    )
    found: Item = pixels[rows][:, columns]
    return found
