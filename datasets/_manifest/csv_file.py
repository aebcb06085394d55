"""A manifest as it is written: one CSV and its columns.

What can be wrong with them is said before any file is opened. Called by datasets/manifest.py.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets._files import LARGEST_TEXT, exists
from datasets._manifest.cells import check_cells, without_duplicates
from datasets._manifest.formats import kind_of
from datasets._manifest.sheet import Row, Sheet, rows_named
from harness.dataset import SPLITS
from harness.errors import UserError, nearest, shown, unknown
from harness.protocol.combinations import MOST_MODALITIES

LABELS = ("label", "label_path")
GROUP = "group"
RESERVED = ("split", *LABELS, GROUP)
OTHER_NAMES = {
    **dict.fromkeys(("valid", "validation", "dev"), "val"),
    "training": "train",
    "testing": "test",
}
"""What splits are called elsewhere -> here."""

DELIMITERS = (",", ";", "\t")
SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)
"""A first line with which spreadsheets say what separates cells."""

FILE_ENDING = re.compile(r"[^.\s]\.[A-Za-z][A-Za-z0-9]{1,4}$")


def read_sheet(path: Path, folder: Path, modalities: Sequence[str], task: str) -> Sheet:
    """The manifest at ``path``; UserError, with row numbers, for whatever cannot be meant.

    Args:
        path: the CSV; comma, semicolon or tab separated, UTF-8 with or without a byte order mark.
        folder: what its paths are relative to.
        modalities: columns to take; empty for all that are not split, label, label_path or group,
            and name files.
        task: auto or a task; decides between label and label_path where both are there.
    """
    header, lines = _table(path)
    label = _label_column(path, header, task)
    named = {name: _cells(lines, header.index(name)) for name in header}
    aside = () if modalities else _no_files(folder, named)
    _check_reserved(path, named, label)
    names = _modalities(path, header, modalities, aside)
    places = [header.index(name) for name in ("split", label, *names)]
    cells, stray = [], []
    for number, line in lines:
        read = [line[place] for place in places]
        stripped = [cell.strip() for cell in read]
        cells.append((number, stripped))
        if stripped != read:
            stray.append(number)
    splits = _splits(path, [(number, line[0]) for number, line in cells])
    dense = label == "label_path"
    grouped = GROUP in header
    groups = [cell for _, cell in named[GROUP]] if grouped else [""] * len(lines)
    rows = []
    for (number, line), split, group in zip(cells, splits, groups, strict=True):
        _, own, *files = line  # as in ``places``
        if dense:
            own = _relative(own)
        rows.append(Row(number, split, own, tuple(map(_relative, files)), group))
    rows, unchosen = _with_chosen(rows, named, names)
    sheet = Sheet(path, folder, names, dense, tuple(rows), (), grouped, aside)
    check_cells(sheet)
    remarks = []
    if unchosen:
        remarks.append(
            f"samples that have none of {', '.join(names)} are left out: {len(unchosen)}"
            f" ({rows_named(unchosen)})"
        )
    if aside:
        remarks.append(
            f"columns that name no files are left aside: {', '.join(aside)}"
            " (dataset.options.modalities=A,B names those that are modalities)"
        )
    if stray:
        remarks.append(f"spaces around {len(stray)} rows' cells were removed ({rows_named(stray)})")
    rows, more = without_duplicates(sheet)
    if grouped:
        rows = _each_in_a_group(rows)
    return replace(sheet, rows=tuple(rows), remarks=(*remarks, *more))


# ---------------------------------------------------------------------- the table


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and (row number, cells); rows without any content are left out."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise UserError(f"{path} has more than {LARGEST_TEXT:,} bytes; split it")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"the manifest {path} does not exist; dataset.manifest= names a CSV file"
        ) from None
    except IsADirectoryError:
        raise UserError(f"dataset.manifest={path} is a folder; name the CSV file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise UserError(
            f"{path} has a NUL character in row {row}, which no text and no path has; save it as"
            " CSV UTF-8"
        )
    lines = _lines(path, text)
    if not lines:
        raise UserError(
            f"{path.name} is empty; its first row must name the columns: split, label or"
            " label_path, and one per modality"
        )
    return _header(path, lines[0][1]), _even(path, lines)


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Row number and cells of all rows with content."""
    first, _, rest = text.partition("\n")
    separator = SEPARATOR_LINE.fullmatch(first)
    body, skipped = (rest, 1) if separator else (text, 0)
    delimiter = max(DELIMITERS, key=first.count)
    if separator:
        delimiter = separator[1]
    reader = csv.reader(io.StringIO(body), delimiter=delimiter)
    lines = []
    try:
        for line in reader:
            if any(cell.strip() for cell in line):
                lines.append((reader.line_num + skipped, line))
    except csv.Error as error:
        raise UserError(
            f"{path.name} cannot be read as CSV below row {len(lines)} ({error}); mostly a quote"
            " opens there that is never closed"
        ) from error
    return lines


def _header(path: Path, cells: list[str]) -> list[str]:
    """The columns, ours in lower case; UserError for a name that is empty or there twice."""
    names = [cell.strip() for cell in cells]
    # A spreadsheet may write empty columns to the right of the table too.
    while names and not names[-1]:
        names.pop()
    names = [name.lower() if name.lower() in RESERVED else name for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        problem = "has a column without a name"
        if twice and twice[0]:
            problem = f"has the column '{twice[0]}' twice"
        raise UserError(
            f"{path.name} {problem}; every column needs a name of its own in the first row"
        )
    return names


def _even(path: Path, lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """The rows below the header; UserError where one has another number of cells."""
    width = len(_header(path, lines[0][1]))
    odd = []
    for number, line in lines[1:]:
        # Empty cells beyond the last column are none.
        if len(line) < width or any(cell.strip() for cell in line[width:]):
            odd.append(number)
    if odd:
        raise UserError(
            f"{path.name}: the first row has {width} cells, but not {rows_named(odd)}; "
            "put cells that contain the separator into quotes"
        )
    if len(lines) < 2:
        raise UserError(f"{path.name} has no samples: there is nothing below its first row")
    return lines[1:]


def _modalities(
    path: Path, header: Sequence[str], wanted: Sequence[str], aside: Sequence[str]
) -> tuple[str, ...]:
    """The columns that are modalities, in the order that was asked for, else the file's."""
    there = [name for name in header if name not in RESERVED]
    for name in wanted:
        if name not in there:
            raise unknown(f"column in dataset.options.modalities for {path.name}:", name, there)
    names = tuple(wanted) or tuple(name for name in there if name not in aside)
    if len(set(names)) < 2:
        others = f"; its other columns name no files: {', '.join(aside)}" if aside else ""
        raise UserError(
            f"{path.name} has {len(set(names))} modality column{'' if names else 's'}"
            f" ({', '.join(names) or 'none'}); a comparison under missing modalities needs at least"
            f" two columns beside split and label{others}"
        )
    if len(names) > MOST_MODALITIES:
        raise UserError(
            f"{path.name} has {len(names)} modality columns ({shown(names)}), and at most"
            f" {MOST_MODALITIES} can be compared ({2**MOST_MODALITIES - 1:,} combinations);"
            " name those that you mean by dataset.options.modalities=A,B"
        )
    bad = [name for name in names if set(name) & set("+.,/\\")]
    if bad:
        raise UserError(
            f"{path.name}: column '{bad[0]}' contains one of + . , / \\, which separate names;"
            " rename it"
        )
    return names


def _cells(lines: Sequence[tuple[int, list[str]]], place: int) -> list[tuple[int, str]]:
    """Row number and cell of one column."""
    return [(number, line[place].strip()) for number, line in lines]


def _with_chosen(
    rows: Sequence[Row], named: Mapping[str, Sequence[tuple[int, str]]], chosen: Sequence[str]
) -> tuple[list[Row], list[int]]:
    """The rows without those whose files are all in columns that were not chosen, and the numbers
    of those.
    """
    elsewhere = {
        number
        for name, column in named.items()
        if name not in (*RESERVED, *chosen)
        for number, cell in column
        if kind_of(cell)
    }
    unchosen = [row.number for row in rows if not any(row.files) and row.number in elsewhere]
    return [row for row in rows if row.number not in unchosen], unchosen


def _no_files(folder: Path, named: Mapping[str, Sequence[tuple[int, str]]]) -> tuple[str, ...]:
    """The columns that have something in them, and that is not the names of files."""
    found = []
    for name, column in named.items():
        cells = [cell for _, cell in column if cell]
        if name in RESERVED or not cells or any(kind_of(cell) for cell in cells):
            continue
        # Files of a kind that is not read are a mistake to be told, not a remark of the user's.
        unread = all(FILE_ENDING.search(cell) for cell in cells)
        first = folder / _relative(cells[0])
        if not unread and not (exists(first) and first.is_file()):
            found.append(name)
    return tuple(found)


def _check_reserved(path: Path, named: Mapping[str, Sequence[tuple[int, str]]], label: str) -> None:
    """UserError where a column of ours is full of files."""
    meant = {
        GROUP: "says which samples belong together, by one text for all of them",
        "label": "has the class of each sample; maps of classes belong in 'label_path'",
    }
    for name, meaning in meant.items():
        if name not in named or (name == "label" and label != "label"):
            continue
        cells = [(number, cell) for number, cell in named[name] if cell]
        if cells and all(kind_of(cell) for _, cell in cells):
            raise UserError(
                f"{path.name}: column '{name}' names files ('{cells[0][1]}' in row {cells[0][0]}),"
                f" and it {meaning}; rename the column"
            )


def _each_in_a_group(rows: Sequence[Row]) -> list[Row]:
    """The rows; one without a group becomes a group of its own, named by its number."""
    taken = {row.group for row in rows}
    found = []
    for row in rows:
        own = f"row {row.number}"
        while own in taken:
            own += " alone"
        found.append(row if row.group else replace(row, group=own))
    return found


def _label_column(path: Path, header: Sequence[str], task: str) -> str:
    if "split" not in header:
        raise UserError(
            f"{path.name} has no column 'split' (train, val or test of every"
            f" row){nearest('split', header)}"
        )
    found = [name for name in LABELS if name in header]
    if not found:
        raise UserError(
            f"{path.name} has neither a column 'label' (a class) nor 'label_path' (a map of"
            f" classes){nearest('label', header)}"
        )
    wanted = {"auto": found[-1], "segmentation": "label_path"}.get(task, "label")
    if wanted not in found:
        raise UserError(
            f"{path.name} has no column '{wanted}', which dataset.options.task={task} needs; it has"
            f" '{found[0]}'"
        )
    return wanted


def _splits(path: Path, cells: Sequence[tuple[int, str]]) -> list[str]:
    """The split of each row; UserError for the first that is none, with all rows that have it."""
    named = [(number, cell.lower()) for number, cell in cells]
    wrong = [(number, cell) for number, cell in named if cell not in SPLITS]
    if wrong:
        _, first = wrong[0]
        where = rows_named([number for number, cell in wrong if cell == first])
        hint = OTHER_NAMES.get(first)
        advice = nearest(first, SPLITS)
        if hint:
            advice = f"; did you mean '{hint}'? known: {', '.join(SPLITS)}"
        raise UserError(f"{path.name}: unknown split '{first}' in {where}{advice}")
    return [cell for _, cell in named]


# ---------------------------------------------------------------------- cells


def _relative(cell: str) -> str:
    """A cell's path with forward slashes, ``..`` resolved; '' stays."""
    return os.path.normpath(cell.replace("\\", "/")) if cell else ""
