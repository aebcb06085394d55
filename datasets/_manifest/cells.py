"""What may stand in the cells of a manifest. Called by datasets/_manifest/csv_file.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from datasets._manifest.formats import kind_of
from datasets._manifest.sheet import Row, Sheet, rows_named
from harness.errors import UserError

LEAVE_OUT = "name the columns that are modalities with dataset.options.modalities=A,B"


def check_cells(sheet: Sheet) -> None:
    """UserError, with row numbers, for cells that cannot be meant."""
    name = sheet.path.name
    unlabelled = [row.number for row in sheet.rows if not row.label]
    if unlabelled:
        raise UserError(
            f"{name}: no label in {rows_named(unlabelled)}; give each sample one, or remove the row"
        )
    bare = [row.number for row in sheet.rows if not any(row.files)]
    if bare:
        raise UserError(
            f"{name}: no modality at all in {rows_named(bare)}; remove what has nothing to show"
        )
    for position, column in enumerate(sheet.modalities):
        cells = [(row.number, row.files[position]) for row in sheet.rows if row.files[position]]
        _check_column(sheet, column, cells)
        if not any(row.files[position] for row in sheet.of("train")):
            raise UserError(
                f"{name}: column '{column}' is empty in every row of train, so that nothing can be"
                f" learned from it; {LEAVE_OUT}"
            )
    if sheet.dense:
        _inside(sheet, "label_path", [(row.number, row.label) for row in sheet.rows])


def _check_column(sheet: Sheet, column: str, cells: Sequence[tuple[int, str]]) -> None:
    if not cells:
        raise UserError(
            f"{sheet.path.name}: column '{column}' is empty in every row; fill it, or {LEAVE_OUT}"
        )
    _inside(sheet, column, cells)
    # Of each kind the first row: going backwards, that is what is left.
    kinds = {kind_of(cell): number for number, cell in reversed(cells)}
    if None in kinds:
        cell = next(cell for _, cell in cells if kind_of(cell) is None)
        raise UserError(
            f"{sheet.path.name}: column '{column}' has '{cell}' in row {kinds[None]}, which is no"
            f" picture, wav or npy file by its ending; if the column is not a modality, {LEAVE_OUT}"
        )
    if len(kinds) > 1:
        in_order = sorted(kinds.items(), key=lambda item: item[1])
        found = " and ".join(f"{kind} (row {row})" for kind, row in in_order)
        raise UserError(
            f"{sheet.path.name}: column '{column}' mixes {found}; give each kind a column of"
            " its own"
        )


def _inside(sheet: Sheet, column: str, cells: Sequence[tuple[int, str]]) -> None:
    outside = [
        number
        for number, cell in cells
        if PurePosixPath(cell).is_absolute() or cell.startswith("..") or cell[1:2] == ":"
    ]
    if outside:
        cell = dict(cells)[outside[0]]
        raise UserError(
            f"{sheet.path.name}: column '{column}' leaves the folder of the manifest in"
            f" {rows_named(outside)} ('{cell}'); write paths relative to it, or name the folder"
            " that they are relative to with dataset.root="
        )


def without_duplicates(sheet: Sheet) -> tuple[list[Row], list[str]]:
    """Rows of which none repeats another.

    UserError where repeated samples differ in split or label.
    """
    first: dict[tuple[str, ...], Row] = {}
    repeated = []
    for row in sheet.rows:
        other = first.setdefault(row.files, row)
        if other is row:
            continue
        for what, a, b in (
            ("split", other.split, row.split),
            ("label", other.label, row.label),
            ("group", other.group, row.group),
        ):
            # Of the three only a group may be empty, and then says nothing against another.
            if a != b and a and b:
                raise UserError(
                    f"{sheet.path.name}: rows {other.number} and {row.number} are the same sample "
                    f"with {what} '{a}' and '{b}'; keep one"
                )
        repeated.append(row.number)
    said = []
    if repeated:
        said.append(f"{len(repeated)} repeated samples count once ({rows_named(repeated)})")
    return list(first.values()), said
