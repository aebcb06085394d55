"""Columns of arrays: features, sequences, series of sensors or pictures, by shape and options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np

from datasets._manifest.columns.column import Column, Headers, is_depth, shape_text
from datasets._manifest.formats import Layout, Size, arranged, array
from datasets._manifest.sheet import Sheet, rows_named
from harness.data.raw import Kind as Sensor
from harness.errors import UserError
from harness.protocol.hyperparameters import Value

LONG_VECTOR = 1024
"""Arrays of one dimension are features up to this length, and a sequence beyond."""

MOST_CHANNELS, LONGER = 16, 4
"""Arrays of two dimensions are series of sensors where the first side has at most so many channels
and the second is so many times as long.
"""

READINGS = ("auto", "series", "frames", "picture")
SERIES = ("series", "series last")


def array_column(
    sheet: Sheet,
    name: str,
    found: Headers,
    size: Size | None,
    options: Mapping[str, Value],
) -> Column:
    """A column of arrays, all of one shape or all series of the same channels.

    ``size``: the (H, W) that those with pixels are brought to; None for their own.
    """
    time = _time_axis(found, _reading(name, options))
    if time is not None:
        return _unequal_series(name, found, time, int(options["frames"]))
    shape = _one_shape(sheet, name, found)
    layout, remarks = _layout(name, shape, options, sheet.dense)
    # Only to learn the shape that the function makes of it: the values are never looked at.
    received = arranged(np.empty(shape, dtype=np.bool_), layout).shape
    has_pixels = len(shape) > 1 and layout not in SERIES
    target = size if has_pixels and size != received[1:] else None
    if target is not None:
        remarks.append(f"'{name}' is resized to {shape_text(target)}")
    final = (received[0], *(target or received[1:]))
    types = {header.detail for _, header in found}
    dtype = "uint8" if types <= {"uint8", "bool"} else "float32"
    return Column(
        name=name,
        kind="array",
        shape=final,
        dtype=dtype,
        operation=f"npy {shape} {layout} -> {dtype} {final}",
        read=partial(array, layout=layout, size=target, dtype=dtype),
        what=f"{len(found):,} arrays of shape {shape_text(shape)}, {', '.join(sorted(types))}",
        remarks=tuple(remarks),
        places=frozenset([received[1:]]),
        sensor=_sensor(name, layout, len(shape), dtype, final[0]),
    )


def _sensor(name: str, layout: Layout, dimensions: int, dtype: str, channels: int) -> Sensor:
    """What gave the arrays, as far as their form tells; features where it does not."""
    if layout in (*SERIES, "sequence"):
        return "series"
    if dimensions == 1:
        return "features"
    if is_depth(name):
        return "depth"
    return "picture" if dtype == "uint8" and channels in (1, 3) else "features"


def _one_shape(sheet: Sheet, name: str, found: Headers) -> tuple[int, ...]:
    """The shape of all arrays; UserError where they have several, or too many dimensions."""
    shapes = Counter(header.shape for _, header in found)
    shape = shapes.most_common(1)[0][0]
    odd = [(number, header.shape) for number, header in found if header.shape != shape]
    if odd:
        hint = ""
        if len(shape) == 2:
            hint = (
                "; if they are series of unequal lengths (time, features), set"
                f" dataset.options.arrays={name}:frames"
            )
        raise UserError(
            f"{sheet.path.name}: the arrays of column '{name}' have the shape {shape}, but not in"
            f" {rows_named([number for number, _ in odd])} ({odd[0][1]}); a modality has one shape:"
            f" pad or cut these, or empty the cells{hint}"
        )
    if len(shape) > 3:
        raise UserError(
            f"{sheet.path.name}: the arrays of column '{name}' have {len(shape)} dimensions"
            f" {shape}; at most three are read"
        )
    return shape


# ---------------------------------------------------------------------- series of unequal lengths


def _time_axis(found: Headers, reading: str) -> int | None:
    """Which side of two-dimensional arrays is time, where they are series of unequal lengths.

    It is the one side that differs: where the study says that the arrays are series or frames, or
    where at most half of the files have the most frequent shape, for a few odd ones are mistakes.
    None for everything else.
    """
    shapes = Counter(header.shape for _, header in found)
    if len(shapes) < 2 or any(len(shape) != 2 for shape in shapes) or reading == "picture":
        return None
    lengths = [{shape[axis] for shape in shapes} for axis in (0, 1)]
    differing = 0 if len(lengths[0]) > 1 else 1
    axis = {"series": 1, "frames": 0}.get(reading, differing)
    if len(lengths[1 - axis]) > 1:
        return None
    ((_, most_frequent),) = shapes.most_common(1)
    few_are_odd = most_frequent * 2 > len(found)
    return None if reading == "auto" and few_are_odd else axis


def _unequal_series(name: str, found: Headers, time: int, most: int) -> Column:
    """Series of unequal lengths, brought to one by zeros behind their ends.

    ``time``: the side of the files that is time; ``most``: frames beyond which they are cut, 0 for
    no limit.
    """
    lengths = [header.shape[time] for _, header in found]
    frames = min(most or max(lengths), max(lengths))
    channels = found[0][1].shape[1 - time]
    layout: Layout = "series last" if time == 0 else "series"
    types = ", ".join(sorted({header.detail for _, header in found}))
    cut = sum(length > frames for length in lengths)
    remark = (
        f"'{name}' is read as series of {min(lengths)} to {max(lengths)} frames of {channels}"
        f" features, each normalised by itself, with zeros behind their ends up to {frames}; the"
        " last channel says where frames are; "
    )
    remark += f"{cut} longer ones are cut" if cut else "dataset.options.frames=N cuts them"
    return Column(
        name=name,
        kind="array",
        # One channel more, which says where frames are.
        shape=(channels + 1, 1, frames),
        dtype="float32",
        operation=(
            f"npy {layout} of unequal lengths -> {channels} and where frames are, {frames} frames"
        ),
        read=partial(array, layout=layout, size=None, dtype="float32", frames=frames),
        what=f"{len(found):,} arrays of {min(lengths)} to {max(lengths)} frames, {types}",
        remarks=(remark,),
        places=frozenset([(1, frames)]),
        sensor="series",
        frames=True,
    )


# ---------------------------------------------------------------------- how arrays are read


def _layout(
    name: str, shape: tuple[int, ...], options: Mapping[str, Value], dense: bool
) -> tuple[Layout, list[str]]:
    """How arrays of a shape are read, and what reports must say about that."""
    last = name in [part.strip() for part in str(options["channels_last"]).split(",")]
    if len(shape) == 1:
        return _vector(name, shape[0], str(options["vectors"]))
    if len(shape) == 2:
        return _plane(name, shape, _reading(name, options), last, dense)
    if len(shape) == 3:
        return _volume(name, shape, last)
    return "first", []


def _reading(name: str, options: Mapping[str, Value]) -> str:
    """What dataset.options.arrays says of a column: one of READINGS."""
    text = str(options["arrays"])
    if ":" not in text:
        return text
    pairs = {}
    for part in text.split(","):
        column, _, reading = part.partition(":")
        pairs[column.strip()] = reading
    return pairs.get(name, "auto").strip()


def _vector(name: str, length: int, wanted: str) -> tuple[Layout, list[str]]:
    """How arrays of one dimension are read: as features, or as a sequence in time."""
    if wanted == "sequence" or (wanted == "auto" and length > LONG_VECTOR):
        return "sequence", [f"'{name}' is read as a sequence of {length} values"]
    return "features", [
        f"'{name}' is read as {length} features, each normalised by itself;"
        " dataset.options.vectors changes that"
    ]


def _plane(
    name: str, shape: tuple[int, ...], reading: str, last: bool, dense: bool
) -> tuple[Layout, list[str]]:
    """How arrays of two dimensions are read: as series of channels, or as a picture.

    ``last``: the study says that their channels come last; ``dense``: they are segmented, so that
    without a word they are pictures.
    """
    first, second = shape
    last = (last and reading != "picture") or reading == "frames"
    inferred = reading == "auto" and not dense
    like_series = first <= MOST_CHANNELS and second >= LONGER * first
    if reading == "series" or last or (inferred and like_series):
        channels, time = (second, first) if last else (first, second)
        return "series last" if last else "series", [
            f"'{name}' is read as a series of {channels} channels over {time} steps, each channel"
            f" normalised by itself; dataset.options.arrays={name}:picture changes that"
        ]
    like_turned_series = second <= MOST_CHANNELS and first >= LONGER * second
    if inferred and like_turned_series:
        return "first", [
            f"'{name}' is read as a picture of {first}x{second}; if it is a series (time,"
            f" channels), set dataset.options.channels_last={name}"
        ]
    return "first", []


def _volume(name: str, shape: tuple[int, ...], last: bool) -> tuple[Layout, list[str]]:
    """Whether arrays of three dimensions have their channels first or last."""
    if last:
        return "last", []
    # Looks like (H, W, C) of a picture: at most four values at the end, more at the start.
    if shape[2] <= 4 < shape[0]:
        return "first", [
            f"'{name}' is read as (channels, height, width) = {shape}; if its channels come last,"
            f" set dataset.options.channels_last={name}"
        ]
    return "first", []
