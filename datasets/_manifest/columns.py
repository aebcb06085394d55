"""What encoders receive of each column of a manifest. Called by datasets/manifest.py.

It is inferred from the files' headers and changed by options.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from datasets._manifest.formats import (
    DEEP_COLOUR,
    FLOAT,
    PAGES,
    TO_16_BITS,
    TURNED,
    Header,
    Kind,
    Layout,
    Size,
    arranged,
    array,
    picture,
    sides,
)
from datasets._manifest.headers import Scan
from datasets._manifest.sheet import Sheet, rows_named
from datasets._media.audio import FRONT_ENDS, FrontEnd, front_end
from harness.data.prepared import Item
from harness.data.raw import Kind as Sensor
from harness.dataset import Modality
from harness.errors import UserError, unknown
from harness.protocol.hyperparameters import Value

LONGEST_SIDE = 256
DIVISOR = 32
"""Sides of pictures that are segmented are multiples of it unless the study says otherwise:
networks halve them five times.
"""

WINDOW_SECONDS = 0.032
LONG_VECTOR = 1024
"""Arrays of one dimension are features up to this length, and a sequence beyond."""


MOST_CHANNELS, LONGER = 16, 4
"""Arrays of two dimensions are series of sensors where the first side has at most so many channels
and the second is so many times as long.
"""

READINGS = ("auto", "series", "frames", "picture")


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


def columns(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> list[Column]:
    """All modalities; UserError, with row numbers, where a column's files do not go together."""
    headers = {
        name: _headers(sheet, scan, position) for position, name in enumerate(sheet.modalities)
    }
    kinds: dict[str, Kind] = {name: found[0][1].kind for name, found in headers.items()}
    _check_named(options, sheet.modalities)
    given = _given_sizes(str(options["size"]), sheet.modalities)
    common = _segmented_size(sheet, headers, kinds) if sheet.dense else None
    made = []
    for name, found in headers.items():
        size = given.get(name, common)
        if kinds[name] == "image":
            made.append(_image(name, found, size))
        elif kinds[name] == "audio":
            made.append(_audio(name, found, options))
        else:
            made.append(_array(sheet, name, found, size, options))
    return made


def unequal_places(found: Sequence[Column]) -> list[str]:
    """A sentence where modalities that count as aligned are stored in different shapes."""
    if len({column.places for column in found}) < 2:
        return []
    shapes = ", ".join(f"{column.name} {_sizes(set(column.places))}" for column in found)
    return [
        f"aligned modalities are stored in different shapes ({shapes}) and each is resized to"
        f" {_x(found[0].shape[1:])}: check that they show the same places"
    ]


def _headers(sheet: Sheet, scan: Scan, position: int) -> list[tuple[int, Header]]:
    """Row number and header of a column's files, those without a readable header left out."""
    cells = [
        (row.number, scan.headers[row.files[position]]) for row in sheet.rows if row.files[position]
    ]
    found = [(number, header) for number, header in cells if isinstance(header, Header)]
    if not found:
        reason = next(header for _, header in cells)
        raise UserError(
            f"{sheet.path.name}: no file of column '{sheet.modalities[position]}' can be read:"
            f" {reason}"
        )
    return found


def _check_named(options: Mapping[str, Value], names: Sequence[str]) -> None:
    for name in filter(None, str(options["channels_last"]).split(",")):
        if name.strip() not in names:
            raise unknown("column in dataset.options.channels_last:", name.strip(), names)
    for part in str(options["arrays"]).split(","):
        name, colon, reading = part.rpartition(":")
        if colon and name.strip() not in names:
            raise unknown("column in dataset.options.arrays:", name.strip(), names)
        if reading.strip() not in READINGS:
            raise unknown("reading in dataset.options.arrays:", reading.strip(), READINGS)


def _given_sizes(text: str, names: Sequence[str]) -> dict[str, Size]:
    """``64x96`` for all, or ``rgb:64x96,depth:32x32``; empty for auto."""
    if text == "auto":
        return {}
    if ":" not in text:
        return dict.fromkeys(names, sides(text, "dataset.options.size"))
    pairs = [part.partition(":") for part in text.split(",")]
    for name, _, _ in pairs:
        if name.strip() not in names:
            raise unknown("column in dataset.options.size:", name.strip(), names)
    return {name.strip(): sides(size.strip(), "dataset.options.size") for name, _, size in pairs}


# ---------------------------------------------------------------------- pictures


def _median_size(found: Sequence[tuple[int, Header]]) -> Size:
    """The median height and width, shrunk to at most LONGEST_SIDE on the longer side."""
    height, width = (
        statistics.median_high(header.shape[axis] for _, header in found) for axis in (1, 2)
    )
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _segmented_size(
    sheet: Sheet, headers: Mapping[str, list[tuple[int, Header]]], kinds: Mapping[str, Kind]
) -> Size | None:
    """One size for all modalities that have pixels; None where no column has pictures.

    That of the pictures, its sides rounded to multiples of DIVISOR.
    """
    pictures = [
        header for name, found in headers.items() if kinds[name] == "image" for header in found
    ]
    if not pictures:
        return None
    height, width = _median_size(pictures)
    return _rounded(height), _rounded(width)


def _rounded(side: int) -> int:
    return max(DIVISOR, (side + DIVISOR // 2) // DIVISOR * DIVISOR)


def _image(name: str, found: Sequence[tuple[int, Header]], size: Size | None) -> Column:
    channels = max(header.shape[0] for _, header in found)
    shallow = [number for number, header in found if header.detail == "8"]
    depth = max((int(header.detail) for _, header in found), default=8)
    deep = depth > 8
    stored = {header.shape[1:] for _, header in found}
    target = size or _common_size(found, stored)
    colour = "colour" if channels == 3 else "grey"
    what = f"{len(found):,} pictures, {colour}, {depth} bits, {_sizes(stored)}"
    remarks = []
    if deep and shallow:
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
    if stored != {target}:
        remarks.append(
            f"'{name}' is resized to {_x(target)}; dataset.options.size={name}:HxW changes that"
        )
    remarks += _unusual(name, found)
    bits, dtype = (f"{depth} bits as float32", "float32") if deep else ("8 bits", "uint8")
    operation = f"picture -> {channels} x {bits}, bilinear with low-pass {_x(target)}"
    if any(TURNED in header.facts for _, header in found):
        operation += ", upright"
    read = partial(picture, channels=channels, deep=deep, size=target)
    shape = (channels, *target)
    places = frozenset(stored)
    sensor: Sensor = "depth" if _is_depth(name) else "picture"
    return Column(
        name, "image", shape, dtype, operation, read, what, tuple(remarks), places, sensor
    )


def _is_depth(name: str) -> bool:
    """Whether a column's name says that it holds depth maps: no header does."""
    return "depth" in name.lower()


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


def _unusual(name: str, found: Sequence[tuple[int, Header]]) -> list[str]:
    """What is done to pictures that are not as most are, with their rows."""
    remarks = []
    for fact, done in UNUSUAL.items():
        rows = [number for number, header in found if fact in header.facts]
        if rows:
            remarks.append(f"'{name}': {len(rows)} pictures {done} ({rows_named(rows)})")
    return remarks


def _common_size(found: Sequence[tuple[int, Header]], stored: set[tuple[int, ...]]) -> Size:
    """The pictures' own size where all have one that is small enough, else the median size."""
    if len(stored) > 1:
        return _median_size(found)
    ((height, width),) = stored
    return _median_size(found) if max(height, width) > LONGEST_SIDE else (height, width)


def _sizes(stored: set[tuple[int, ...]]) -> str:
    if len(stored) == 1:
        return _x(min(stored))
    heights, widths = zip(*sorted(stored), strict=True)
    return f"{len(stored)} sizes from {min(heights)}x{min(widths)} to {max(heights)}x{max(widths)}"


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# ---------------------------------------------------------------------- sound


def _audio(name: str, found: Sequence[tuple[int, Header]], options: Mapping[str, Value]) -> Column:
    rates = Counter(header.rate for _, header in found)
    lengths = sorted(header.shape[0] / header.rate for _, header in found)
    seconds = float(options["seconds"]) or _covering(lengths)
    rate = int(options["rate"]) or rates.most_common(1)[0][0]
    chosen = _front_end(str(options["front_end"]), rate, seconds)
    # Numbers with a decimal point have no full scale; other samples never leave -1 to 1.
    if chosen.name == "auto" and any(header.detail == FLOAT for _, header in found):
        chosen = replace(chosen, clipped=False)
    remarks = []
    if set(rates) != {chosen.rate}:
        others = ", ".join(map(str, sorted(rates)))
        remarks.append(f"'{name}' is resampled from {others} Hz to {chosen.rate} Hz")
    if lengths[0] != lengths[-1]:
        remarks.append(
            f"'{name}' lasts {lengths[0]:.2f} to {lengths[-1]:.2f} s and is brought to"
            f" {chosen.seconds:g} s: longer sound is cut, shorter repeated; dataset.options.seconds"
            " changes that"
        )
    windows = f"windows of {chosen.window} every {chosen.hop}"
    what = (
        f"{len(found):,} wav files as log spectrograms, {chosen.rate} Hz, {chosen.seconds:g} s,"
        f" {windows}"
    )
    return Column(
        name,
        "audio",
        chosen.shape,
        "float16",
        chosen.describe(),
        chosen.read,
        what,
        tuple(remarks),
        sensor="sound",
        front_end=chosen,
    )


def _covering(lengths: Sequence[float]) -> float:
    """The length that 95 % of the files do not exceed, in hundredths of a second, rounded up."""
    return float(np.ceil(np.quantile(lengths, 0.95, method="inverted_cdf") * 100 - 1e-9) / 100)


def _front_end(name: str, rate: int, seconds: float) -> FrontEnd:
    """A published front-end by name, or ``auto``: windows of about 32 ms, every clip standardised.

    Level and background mostly belong to the recording, not to the class; front-end B keeps them.
    """
    if name != "auto":
        return front_end(name, seconds)
    window = max(16, 1 << round(np.log2(rate * WINDOW_SECONDS)))
    return replace(
        FRONT_ENDS["B"],
        name="auto",
        rate=rate,
        seconds=max(seconds, window / rate),
        window=window,
        hop=window // 2,
        standardised=True,
    )


# ---------------------------------------------------------------------- arrays


def _array(
    sheet: Sheet,
    name: str,
    found: Sequence[tuple[int, Header]],
    size: Size | None,
    options: Mapping[str, Value],
) -> Column:
    time = _time_axis(found, _reading(name, options))
    if time is not None:
        return _frames(name, found, time, int(options["frames"]))
    shape = _one_shape(sheet, name, found)
    layout, remarks = _layout(name, shape, options, sheet.dense)
    received = arranged(np.empty(shape, dtype=np.bool_), layout).shape
    flat = layout in ("series", "series last") or len(shape) == 1
    target = size if size is not None and not flat and size != received[1:] else None
    final = (received[0], *(target or received[1:]))
    types = {header.detail for _, header in found}
    dtype = "uint8" if types <= {"uint8", "bool"} else "float32"
    what = f"{len(found):,} arrays of shape {_x(shape)}, {', '.join(sorted(types))}"
    if target is not None:
        remarks.append(f"'{name}' is resized to {_x(target)}")
    operation = f"npy {shape} {layout} -> {dtype} {final}"
    read = partial(array, layout=layout, size=target, dtype=dtype)
    places = frozenset([received[1:]])
    sensor: Sensor = "features"
    if layout in ("series", "series last", "sequence"):
        sensor = "series"
    elif len(shape) > 1 and _is_depth(name):
        sensor = "depth"
    elif len(shape) > 1 and dtype == "uint8" and final[0] in (1, 3):
        sensor = "picture"
    return Column(
        name, "array", final, dtype, operation, read, what, tuple(remarks), places, sensor
    )


def _time_axis(found: Sequence[tuple[int, Header]], reading: str) -> int | None:
    """Which side of two-dimensional arrays is time, where they are series of unequal lengths.

    It is the one side that differs: where the study says that the arrays are series or frames, or
    where more than half of the files differ from the most frequent shape, for a few odd ones are
    mistakes. None for everything else.
    """
    shapes = Counter(header.shape for _, header in found)
    if len(shapes) < 2 or any(len(shape) != 2 for shape in shapes):
        return None
    sides = [{shape[axis] for shape in shapes} for axis in (0, 1)]
    wanted = {"series": 1, "frames": 0, "picture": None}
    axis = wanted.get(reading, 0 if len(sides[0]) > 1 else 1)
    many = shapes.most_common(1)[0][1] * 2 <= len(found)
    if axis is None or len(sides[1 - axis]) > 1 or (reading == "auto" and not many):
        return None
    return axis


def _frames(name: str, found: Sequence[tuple[int, Header]], time: int, most: int) -> Column:
    """Series of unequal lengths, brought to one by zeros behind their ends."""
    lengths = [header.shape[time] for _, header in found]
    frames = min(most or max(lengths), max(lengths))
    channels = found[0][1].shape[1 - time]
    layout: Layout = "series last" if time == 0 else "series"
    types = ", ".join(sorted({header.detail for _, header in found}))
    cut = sum(length > frames for length in lengths)
    remark = (
        f"'{name}' is read as series of {min(lengths)} to {max(lengths)} frames of {channels}"
        f" features, each normalised by itself, with zeros behind their ends up to {frames}; the"
        " last channel says where frames are"
        + (f"; {cut} longer ones are cut" if cut else "; dataset.options.frames=N cuts them")
    )
    return Column(
        name,
        "array",
        (channels + 1, 1, frames),
        "float32",
        f"npy {layout} of unequal lengths -> {channels} and where frames are, {frames} frames",
        partial(array, layout=layout, size=None, dtype="float32", frames=frames),
        f"{len(found):,} arrays of {min(lengths)} to {max(lengths)} frames, {types}",
        (remark,),
        frozenset([(1, frames)]),
        "series",
        frames=True,
    )


def _one_shape(sheet: Sheet, name: str, found: Sequence[tuple[int, Header]]) -> tuple[int, ...]:
    shapes = Counter(header.shape for _, header in found)
    shape = shapes.most_common(1)[0][0]
    odd = [(number, header.shape) for number, header in found if header.shape != shape]
    if odd:
        raise UserError(
            f"{sheet.path.name}: the arrays of column '{name}' have the shape {shape}, but not in"
            f" {rows_named([n for n, _ in odd])} ({odd[0][1]}); a modality has one shape: pad or"
            " cut these, or empty the cells"
            + (
                f"; if they are series of unequal lengths (time, features), set"
                f" dataset.options.arrays={name}:frames"
                if len(shape) == 2
                else ""
            )
        )
    if len(shape) > 3:
        raise UserError(
            f"{sheet.path.name}: the arrays of column '{name}' have {len(shape)} dimensions"
            f" {shape}; at most three are read"
        )
    return shape


def _layout(
    name: str, shape: tuple[int, ...], options: Mapping[str, Value], dense: bool
) -> tuple[Layout, list[str]]:
    last = name in [part.strip() for part in str(options["channels_last"]).split(",")]
    if len(shape) == 1:
        wanted = str(options["vectors"])
        if wanted == "sequence" or (wanted == "auto" and shape[0] > LONG_VECTOR):
            return "sequence", [f"'{name}' is read as a sequence of {shape[0]} values"]
        return "features", [
            f"'{name}' is read as {shape[0]} features, each normalised by itself;"
            " dataset.options.vectors changes that"
        ]
    if len(shape) == 2:
        return _plane(name, shape, _reading(name, options), last, dense)
    if len(shape) == 3 and not last and shape[2] <= 4 < shape[0]:
        hint = (
            f"is read as (channels, height, width) = {shape}; if its channels come last, set"
            f" dataset.options.channels_last={name}"
        )
        return "first", [f"'{name}' {hint}"]
    return ("last" if last and len(shape) == 3 else "first"), []


def _reading(name: str, options: Mapping[str, Value]) -> str:
    """What dataset.options.arrays says of a column: auto, series or picture."""
    text = str(options["arrays"])
    if ":" not in text:
        return text
    pairs = {part.partition(":")[0].strip(): part.partition(":")[2] for part in text.split(",")}
    return pairs.get(name, "auto").strip()


def _plane(
    name: str, shape: tuple[int, ...], reading: str, last: bool, dense: bool
) -> tuple[Layout, list[str]]:
    """How arrays of two dimensions are read: as series of channels, or as a picture."""
    first, second = shape
    long = first <= MOST_CHANNELS and second >= LONGER * first
    last = (last and reading != "picture") or reading == "frames"
    if reading == "series" or last or (reading == "auto" and long and not dense):
        channels, time = (second, first) if last else (first, second)
        return "series last" if last else "series", [
            f"'{name}' is read as a series of {channels} channels over {time} steps, each channel"
            f" normalised by itself; dataset.options.arrays={name}:picture changes that"
        ]
    turned = second <= MOST_CHANNELS and first >= LONGER * second
    if reading == "auto" and turned and not dense:
        return "first", [
            f"'{name}' is read as a picture of {first}x{second}; if it is a series (time,"
            f" channels), set dataset.options.channels_last={name}"
        ]
    return "first", []
