"""Label maps: which stored numbers are classes, and a map as classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets._manifest.formats import Size, label_map, nearest
from datasets._manifest.headers import Scan
from datasets._manifest.labels.definition import Labels, class_names
from datasets._manifest.sheet import Row, Sheet, rows_named
from harness.data.prepared import Item, Unreadable
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Value
from harness.protocol.label_maps import VOID


def labels_of_maps(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> Labels:
    """The classes of label maps; UserError, with row numbers, for numbers that cannot be meant."""
    _check_sizes(sheet, scan)
    void = int(options["void"])
    # Of each number, how many maps have it.
    found: Counter[int] = Counter()
    for value in scan.values.values():
        # A text is the reason why a map cannot be read.
        if not isinstance(value, str):
            found.update(value[0])
    if not found:
        reason = next(str(value) for value in scan.values.values())
        raise UserError(f"{sheet.path.name}: no label map can be read: {reason}")
    stored = _stored(sheet, scan, sorted(found), void, str(options["values"]))
    names = _names(str(options["classes"]), stored, max(stored.values()) + 1)
    remarks = []
    if void in found and void not in stored:
        remarks.append(
            f"pixels of {void} are void and count nowhere ({found[void]:,} of {len(scan.values):,}"
            " maps have some)"
        )
    empty = _untrained(sheet, scan, stored, names)
    if empty:
        remarks.append(f"classes without a pixel in train: {shown(empty)}")
    return Labels("segmentation", names, stored=stored, remarks=tuple(remarks))


def _untrained(
    sheet: Sheet, scan: Scan, stored: Mapping[int, int], names: Sequence[str]
) -> list[str]:
    """The classes that no map of train has."""
    trained: set[int | None] = set()
    for row in sheet.of("train"):
        value = scan.values[row.label]
        if not isinstance(value, str):
            trained |= {stored.get(number) for number in value[0]}
    return sorted({name for number, name in enumerate(names) if number not in trained})


def _stored(
    sheet: Sheet, scan: Scan, found: Sequence[int], void: int, given: str
) -> dict[int, int]:
    """Class number in the maps -> class: as ``given``, else every number up to the largest."""
    if given:
        if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)+\s*", given):
            raise UserError(
                f"dataset.options.values={given} must be the classes' numbers in the maps,"
                " comma-separated, such as 0,255"
            )
        wanted = [int(part) for part in given.split(",")]
        others = [v for v in found if v not in wanted and v != void]
        _refuse_values(sheet, scan, others, "dataset.options.values does not list")
        return {value: number for number, value in enumerate(wanted)}
    proper = [v for v in found if v != void]
    others = [v for v in proper if not 0 <= v < VOID]
    _refuse_values(sheet, scan, others, f"is not a class number below {VOID}")
    if not proper or max(proper) == 0:
        raise UserError(
            f"{sheet.path.name}: the label maps hold {', '.join(map(str, found))}, of which {void}"
            f" is void, so that one class is left; if {void} is a class, set"
            f" dataset.options.void=-1 and dataset.options.values={','.join(map(str, found))}"
        )
    return {value: value for value in range(max(proper) + 1)}


def _refuse_values(sheet: Sheet, scan: Scan, wrong: Sequence[int], why: str) -> None:
    """UserError for the first of some numbers that are no classes, with the rows that have it."""
    if not wrong:
        return
    rows = []
    for row in sheet.rows:
        value = scan.values[row.label]
        if not isinstance(value, str) and wrong[0] in value[0]:
            rows.append(row.number)
    raise UserError(
        f"{sheet.path.name}: the label maps of {rows_named(rows)} hold the number {wrong[0]},"
        f" which {why}; name the numbers that are classes with dataset.options.values=0,1,..."
        " and the one that is none with dataset.options.void"
    )


def _names(text: str, stored: Mapping[int, int], count: int) -> tuple[str, ...]:
    """The names of ``count`` classes, as given; else the numbers by which they are stored."""
    if not text:
        number = {k: v for v, k in stored.items()}
        return tuple(str(number[k]) for k in range(count))
    names = tuple(map(str, range(int(text)))) if text.strip().isdecimal() else class_names(text)
    if len(names) < count:
        raise UserError(
            f"dataset.options.classes={text} are {len(names)} classes, and the label maps hold"
            f" class {count - 1}"
        )
    return names


def _check_sizes(sheet: Sheet, scan: Scan) -> None:
    """A label map must have the size of one of its sample's pictures."""
    odd: list[tuple[Row, Size]] = []
    for row in sheet.rows:
        value = scan.values[row.label]
        heads = [scan.headers[name] for name in row.files if name]
        sizes = {
            head.shape[1:] for head in heads if not isinstance(head, str) and head.kind == "image"
        }
        if not isinstance(value, str) and sizes and value[1] not in sizes:
            odd.append((row, value[1]))
    if odd:
        row, (height, width) = odd[0]
        raise UserError(
            f"{sheet.path.name}: {len(odd)} label map{'s have' if len(odd) > 1 else ' has'} another"
            f" size than the row's pictures: {rows_named([row.number for row, _ in odd])}"
            f" ({row.label} is {height}x{width}); store maps at the pictures' size"
        )


def class_map(path: Path, stored: Mapping[int, int], size: Size) -> Item:
    """A label map as classes (h, w) uint8 with VOID where the stored number is none.

    Unreadable where the map is.
    """
    values = label_map(path).astype(np.int64)
    if values.min() < 0:
        raise Unreadable(path, f"holds the number {values.min()}")
    # A look-up of all stored numbers at once; what is in no class stays void.
    table = np.full(max(int(values.max()), *stored) + 1, VOID, dtype=np.uint8)
    table[list(stored)] = list(stored.values())
    return nearest(table[values], size)
