"""Files of a user's data by their ending, read as arrays (C, H, W).

What their headers tell, and how the whole of them is read. Called by the other files of this
folder.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from datasets._media.audio import FASTEST, SLOWEST, is_pointer, no_rate
from harness.data.images import DAMAGE, Mode, orientation, read_image, upright_size
from harness.data.prepared import Item, Unreadable
from harness.dataset import padded
from harness.errors import UserError

Kind = Literal["image", "audio", "array"]
Size = tuple[int, int]

ENDINGS: dict[str, Kind] = {
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"), "image"
    ),
    ".wav": "audio",
    ".npy": "array",
}
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
TO_16_BITS = 257
"""What white of 8 bits is multiplied by to be white of 16."""

LARGEST = 1e37
"""The largest number of an array: differences of such are still finite in float32."""

POINTER_REASON = (
    "a git-lfs pointer, not the file itself: run `git lfs pull` in the copy that it comes from"
)


FLOAT, IEEE_FLOAT, EXTENSIBLE = "float", 3, 0xFFFE
"""A sound whose samples have a decimal point, and how a wav file says so."""

TURNED, DEEP_COLOUR, PAGES = "turned", "deep colour", "pages"
"""Facts: stored in another orientation than it is shown in, 16 bits per channel of colour, several
pages.
"""


@dataclass(frozen=True)
class Header:
    """What is known of a file without decoding it.

    ``shape``: a picture's (channels, H, W) with 1 or 3 channels, an array's own shape, a sound's
    (samples,). ``detail``: a picture's bits per channel, an array's or a sound's type. ``rate`` in
    Hz, of sound. ``facts``: what is unusual about a file, of the constants below.
    """

    kind: Kind
    shape: tuple[int, ...]
    detail: str = ""
    rate: int = 0
    facts: tuple[str, ...] = ()


def kind_of(name: str) -> Kind | None:
    """The kind of a file by the ending of its name; None for one that is not known."""
    return ENDINGS.get(Path(name).suffix.lower())


def read_header(path: Path) -> Header:
    """The header of a file whose ending is known; Unreadable when there is no such header in it."""
    with _opened(path) as stream:
        start = stream.read(64)
        if is_pointer(start):
            raise Unreadable(path, POINTER_REASON)
        stream.seek(0)
        ending = path.suffix.lower()
        readers = {"image": _picture, "audio": _sound, "array": _array}
        try:
            return readers[ENDINGS[ending]](stream)
        except DAMAGE as error:
            reason = f"no header of a {ending} file ({error or type(error).__name__})"
            raise Unreadable(path, reason) from error


def _opened(path: Path) -> BinaryIO:
    """The file for reading; Unreadable for a folder and for one that may not be read."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path, error.strerror or type(error).__name__) from error


def _picture(stream: BinaryIO) -> Header:
    with Image.open(stream) as picture:
        if picture.mode == "F":
            raise ValueError("numbers with a decimal point; save them as npy")
        channels = 1 if picture.mode in GREY else 3
        # Pillow's name of the stored pixels, such as I;16B or RGB;16L, or of a netpbm file its mode
        # and highest number.
        stored = picture.tile[0].args if picture.tile else ""
        highest = stored[1] if picture.format == "PPM" and isinstance(stored, tuple) else 0
        sixteen = ";16" in str(stored) or int(highest) > 255
        bits = "8"
        if picture.mode.startswith("I"):
            bits = "16" if sixteen and ";16S" not in str(stored) else "32"
        # The further pictures of a camera's file are previews.
        pages = picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1
        found = {
            TURNED: orientation(picture) > 1,
            DEEP_COLOUR: sixteen and bits == "8",
            PAGES: pages,
        }
        facts = tuple(fact for fact, there in found.items() if there)
        return Header("image", (channels, *upright_size(picture)), bits, facts=facts)


def _array(stream: BinaryIO) -> Header:
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.kind not in "buif":
        raise ValueError(f"type {dtype}, which is not of real numbers")
    if not shape or min(shape) <= 0:
        raise ValueError(f"shape {shape}, which holds no values")
    promised, there = math.prod(shape) * dtype.itemsize, _left(stream)
    if promised > there:
        raise ValueError(f"shape {shape} of {dtype} needs {promised:,} bytes, and {there:,} follow")
    return Header("array", tuple(int(side) for side in shape), str(dtype))


def _sound(stream: BinaryIO) -> Header:
    head = stream.read(12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        raise ValueError("it does not begin as one")
    order = ">" if head[:4] == b"RIFX" else "<"  # RIFX is big-endian
    rate, frame, detail = 0, 0, ""  # a frame: bytes of one sample of all channels
    while len(part := stream.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", part)
        if name == b"fmt ":
            content = stream.read(size + size % 2)
            tag, _, rate, _, frame = struct.unpack_from(f"{order}HHIIH", content)
            if tag == EXTENSIBLE and len(content) >= 26:
                # The real tag begins the sub-format.
                (tag,) = struct.unpack_from(f"{order}H", content, 24)
            detail = FLOAT if tag == IEEE_FLOAT else ""
        elif name == b"data":
            samples = _samples(min(size, _left(stream)), frame, rate)
            return Header("audio", (samples,), detail, rate)
        else:
            stream.seek(size + size % 2, io.SEEK_CUR)  # chunks have even lengths
    raise ValueError("no sound in it")


def _left(stream: BinaryIO) -> int:
    """Bytes from here to the end of the file, which streamed sound goes to."""
    here = stream.tell()
    return stream.seek(0, io.SEEK_END) - here


def _samples(size: int, frame: int, rate: int) -> int:
    if frame <= 0 or size < frame:
        raise ValueError("no samples in it")
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(no_rate(rate))
    return size // frame


# ---------------------------------------------------------------------- reading


def picture(path: Path, channels: int, deep: bool, size: Size) -> Item:
    """A picture as (channels, H, W) of the size (H, W).

    uint8, or float32 with the stored numbers where the column has 16 or 32 bits. Grey is repeated
    in colour columns; 8 bits are brought to 16 with 255 -> 65535. Resized bilinearly, over the area
    that a pixel of the result covers (low-pass filtered). Unreadable where it cannot be decoded.
    """
    header = read_header(path)
    pixels: Item
    if header.detail != "8":
        pixels, factor = read_image(path, "I"), 1
    else:
        mode: Mode = "RGB" if header.shape[0] == 3 else "L"
        pixels, factor = read_image(path, mode), TO_16_BITS
    values = pixels.astype(np.float32) * factor if deep else pixels
    if values.shape[0] != channels:
        values = values.repeat(channels, 0)
    return resized(values, size)


def label_map(path: Path) -> Item:
    """A map of stored class numbers (H, W), from a picture or a 2-D npy of integers.

    Unreadable for anything else.
    """
    if path.suffix.lower() != ".npy":
        return np.asarray(read_image(path, "index")[0])
    values = _loaded(path)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise Unreadable(
            path,
            f"{values.dtype} of shape {values.shape} where a map (H, W) of class numbers is"
            " expected",
        )
    return values


Layout = Literal["features", "sequence", "first", "last", "series", "series last"]


def array(path: Path, layout: Layout, size: Size | None, dtype: str, frames: int = 0) -> Item:
    """An npy file as (C, H, W), resized where ``size`` is given.

    With ``frames`` a series gets zeros up to so many frames, and a channel (see ``padded``).

    Unreadable when it is damaged or holds non-finite values.
    """
    values = arranged(_loaded(path), layout)
    if not np.isfinite(values).all():
        raise Unreadable(path, "holds values that are not finite")
    largest = float(np.abs(values).max()) if values.dtype.kind == "f" else 0.0
    if largest > LARGEST:
        raise Unreadable(path, f"holds {largest:.3g}, beyond {LARGEST:.3g}")
    values = values.astype(dtype)
    if frames:
        return padded(values, frames)
    return values if size is None else resized(values, size)


def arranged(values: Item, layout: Layout) -> Item:
    """An npy array as (C, H, W).

    (n,) as ``features`` (n, 1, 1) or a ``sequence`` (1, 1, n), (H, W) as (1, H, W), (C, H, W) with
    channels ``first`` or ``last``; (channels, time) as a ``series`` (channels, 1, time), and (time,
    channels) as one whose channels are ``last``.
    """
    if values.ndim == 1:
        return values.reshape(-1, 1, 1) if layout == "features" else values.reshape(1, 1, -1)
    if values.ndim == 2:
        if layout == "series last":
            values = np.ascontiguousarray(values.T)
        series = layout in ("series", "series last")
        return values[:, None, :] if series else values[None]
    if layout == "last":
        return np.ascontiguousarray(values.transpose(2, 0, 1))
    return values


def _loaded(path: Path) -> Item:
    # Says more than numpy about what is no npy file.
    read_header(path)
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise Unreadable(path, str(error) or type(error).__name__) from error


def resized(values: Item, size: Size) -> Item:
    """(C, H, W), uint8 or float32, at the size (h, w).

    Bilinear, low-pass filtered where it shrinks.
    """
    if values.shape[1:] == size:
        return np.ascontiguousarray(values)
    target = (size[1], size[0])
    planes = [
        np.asarray(Image.fromarray(plane).resize(target, Image.Resampling.BILINEAR))
        for plane in values
    ]
    return np.stack(planes)


def nearest(values: Item, size: Size) -> Item:
    """A label map (H, W) at the size (h, w) by nearest neighbour, pixel centres aligned."""
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(np.int64)
        for n, side in zip(size, values.shape, strict=True)
    )
    return np.asarray(values[rows][:, columns])


def sides(text: str, key: str) -> Size:
    """``64`` or ``64x96`` as (H, W); UserError naming the key."""
    parts = text.lower().replace(",", "x").split("x")
    positive = all(part.strip().isdigit() and int(part) > 0 for part in parts)
    if len(parts) not in (1, 2) or not positive:
        raise UserError(
            f"{key}={text} is not a size: give one number of pixels, such as 64, or height x width,"
            " such as 64x96"
        )
    return int(parts[0]), int(parts[-1])
