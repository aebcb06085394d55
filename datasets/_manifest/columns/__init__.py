"""What encoders receive of each column of a manifest. Called by datasets/manifest.py.

It is inferred from the files' headers and changed by options: pictures.py, sound.py and arrays.py
say how, each for one kind of file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets._manifest.columns.arrays import READINGS, array_column
from datasets._manifest.columns.column import Column, Headers, shape_text, sizes_text
from datasets._manifest.columns.pictures import picture_column, segmented_size
from datasets._manifest.columns.sound import sound_column
from datasets._manifest.formats import Header, Size, sides
from datasets._manifest.headers import Scan
from datasets._manifest.sheet import Sheet
from harness.errors import UserError, unknown
from harness.protocol.hyperparameters import Value

__all__ = ["Column", "columns", "unequal_places"]


def columns(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> list[Column]:
    """All modalities; UserError, with row numbers, where a column's files do not go together."""
    headers = {
        name: _headers(sheet, scan, position) for position, name in enumerate(sheet.modalities)
    }
    _check_named(options, sheet.modalities)
    given = _given_sizes(str(options["size"]), sheet.modalities)
    # One size for label maps and whatever has pixels: they are compared pixel by pixel.
    common = segmented_size(headers) if sheet.dense else None
    made = []
    for name, found in headers.items():
        size = given.get(name, common)
        _, first = found[0]
        if first.kind == "image":
            made.append(picture_column(name, found, size))
        elif first.kind == "audio":
            made.append(sound_column(name, found, options))
        else:
            made.append(array_column(sheet, name, found, size, options))
    return made


def unequal_places(found: Sequence[Column]) -> list[str]:
    """A sentence where modalities that count as aligned are stored in different shapes."""
    # Sounds have none; a study may call them aligned with pictures all the same.
    placed = [column for column in found if column.places]
    if len({column.places for column in placed}) < 2:
        return []
    shapes = ", ".join(f"{column.name} {sizes_text(set(column.places))}" for column in placed)
    received = {column.name: shape_text(column.shape[1:]) for column in placed}
    become = f"each is resized to {received[placed[0].name]}"
    if len(set(received.values())) > 1:
        become = f"are received as {', '.join(' '.join(pair) for pair in received.items())}"
    return [
        f"aligned modalities are stored in different shapes ({shapes}) and {become}: check that"
        " they show the same places"
    ]


def _headers(sheet: Sheet, scan: Scan, position: int) -> Headers:
    """Row number and header of a column's files, those without a readable header left out."""
    cells = [
        (row.number, scan.headers[row.files[position]]) for row in sheet.rows if row.files[position]
    ]
    found = [(number, header) for number, header in cells if isinstance(header, Header)]
    if not found:
        # What stands for a header that cannot be read is the reason.
        _, reason = cells[0]
        raise UserError(
            f"{sheet.path.name}: no file of column '{sheet.modalities[position]}' can be read:"
            f" {reason}"
        )
    return found


def _check_named(options: Mapping[str, Value], names: Sequence[str]) -> None:
    """UserError where an option names a column that is not there, or a reading that is none."""
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
