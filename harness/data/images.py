"""Reading pictures for the prepared cache: what cannot be decoded completely is refused by name."""

from __future__ import annotations

import struct
import tokenize
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from harness.data._prepared_table import Item, Unreadable

Mode = Literal["RGB", "L", "I;16", "I", "index"]
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError),
    *(struct.error, zlib.error, tokenize.TokenError, Image.DecompressionBombError),
    *(KeyError, IndexError, TypeError, OverflowError),
)
"""What Pillow and numpy raise on files that are corrupt or truncated."""

ORIENTATION, IMAGE_WIDTH, IMAGE_LENGTH = 0x0112, 256, 257
SIDEWAYS = 5
"""The orientations from this one on swap height and width."""

TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright; 1 is upright as stored."""

SAMPLE_FORMAT, UNSIGNED = 339, 1
"""The tag of a TIFF that says whether its integers have a sign."""


def read_image(path: Path, mode: Mode, size: tuple[int, int] | None = None) -> Item:
    """A picture as (C, H, W), upright (EXIF), resized to ``size`` = (H, W) where that differs.

    Args:
        path: of any file that Pillow decodes.
        mode: ``RGB`` (3 channels) or ``L`` (1), uint8, converted where necessary; ``I;16``, one
            channel of 16 bits, uint16; ``I``, one channel of 16 or 32 bits, int64; ``index``, the
            stored numbers of a label map (a palette is not applied), resized by nearest neighbour.
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
    if mode in ("I;16", "I") and not deep:
        raise Unreadable(path, f"mode {picture.mode} where one channel of 16 bits is expected")
    if mode in ("RGB", "L") and (deep or picture.mode == "F"):
        raise Unreadable(path, f"mode {picture.mode} where 8 bits are expected")
    if mode == "index" and len(picture.getbands()) > 1:
        raise Unreadable(path, f"mode {picture.mode} where a map of labels is expected")
    turned = upright(picture)
    if mode in ("RGB", "L"):
        turned = turned.convert(mode)
    pixels = np.asarray(turned)
    if mode in ("I;16", "I"):
        pixels = pixels.astype(np.int64)
        # Numbers from 2^31 on came back less 2^32.
        if pixels.min() < 0 and _unsigned(picture):
            pixels %= 1 << 32
    if mode == "I;16":
        if pixels.min() < 0 or pixels.max() >= 1 << 16:
            raise Unreadable(path, f"numbers from {pixels.min()} to {pixels.max()}, no 16 bits")
        pixels = pixels.astype(np.uint16)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _unsigned(picture: Image.Image) -> bool:
    """Whether 32 bits that Pillow returns with a sign are stored without one."""
    tags = getattr(picture, "tag_v2", {})
    return UNSIGNED in tuple(tags.get(SAMPLE_FORMAT, (UNSIGNED,)))


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation of an opened picture, 1 (upright as stored) to 8, without decoding it.

    1 where there is none, or none that can be read.
    """
    early = {"exif", "XML:com.adobe.xmp"} & set(picture.info)
    # Asked for a PNG's EXIF, Pillow decodes all of it first, for it may stand at the end.
    if picture.format == "PNG" and not early and not _has_late_exif(picture):
        return 1
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except DAMAGE:
        return 1
    return found if found in TO_UPRIGHT else 1


def _has_late_exif(picture: Image.Image) -> bool:
    """Whether a PNG has EXIF anywhere, by the heads of its chunks."""
    stream = getattr(picture, "fp", None)
    if stream is None:
        return False
    here = stream.tell()
    stream.seek(8)  # behind the signature
    found = False
    while not found and len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        found = name == b"eXIf"
        stream.seek(length + 4, 1)  # over the chunk's data and its checksum
    stream.seek(here)
    return found


def upright(picture: Image.Image) -> Image.Image:
    """The picture decoded, its pixels turned as its EXIF orientation says."""
    picture.load()
    # After decoding: Pillow turns a TIFF itself then, and takes its orientation away.
    turn = TO_UPRIGHT.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Height and width of an opened picture once it is upright, without decoding it."""
    width, height = picture.size
    # Of a TIFF some versions of Pillow give the size as stored, others the upright one.
    tags = getattr(picture, "tag_v2", {})
    width, height = tags.get(IMAGE_WIDTH, width), tags.get(IMAGE_LENGTH, height)
    return (width, height) if orientation(picture) >= SIDEWAYS else (height, width)


def bilinear(pixels: Item, size: tuple[int, int]) -> Item:
    """(H, W, C) at another (height, width), rounded to its own type.

    Bilinear without low-pass and with half-pixel centres.
    """
    # Rows, then columns, in numpy: it runs in as many threads as call it and starts none of its
    # own.
    values = pixels.astype(np.float32)
    for axis, side in enumerate(size):
        length = values.shape[axis]
        # The centres of the new pixels, in old ones; beyond the outermost centres the edge.
        where = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
        low = where.astype(np.int64)
        high = np.minimum(low + 1, length - 1)
        along_axis = [1, 1, 1]
        along_axis[axis] = side
        weight = (where - low).astype(np.float32).reshape(along_axis)
        first, second = values.take(low, axis), values.take(high, axis)
        values = first + (second - first) * weight
    return np.rint(values).astype(pixels.dtype)


def nearest(pixels: Item, size: tuple[int, int]) -> Item:
    """(H, W, ...) at another (height, width), each pixel the one that its centre lies in."""
    rows, columns = (
        ((np.arange(side) + 0.5) * length / side).astype(np.int64)
        for side, length in zip(size, pixels.shape, strict=False)
    )
    found: Item = pixels[rows][:, columns]
    return found
