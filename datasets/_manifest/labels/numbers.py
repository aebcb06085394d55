"""Labels that are numbers, as a regression predicts them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from datasets._manifest.formats import LARGEST
from datasets._manifest.labels.definition import NUMBER, Labels
from datasets._manifest.sheet import Row, Sheet, rows_named
from harness.errors import UserError

Scale = tuple[float, float]


def labels_of_numbers(sheet: Sheet, classes: str) -> Labels:
    """Labels that are numbers; UserError, with row numbers, for one that is none."""
    if classes:
        raise UserError(
            f"dataset.options.classes={classes} does not apply to dataset.options.task=regression,"
            " which has no classes; leave one of them out"
        )
    numbers: dict[str, float] = {}
    for row in sheet.rows:
        value = float(row.label) if NUMBER.fullmatch(row.label) else math.nan
        # Not > LARGEST: that would let NaN pass.
        if not abs(value) <= LARGEST:
            rows = rows_named([other.number for other in sheet.rows if other.label == row.label])
            raise UserError(
                f"{sheet.path.name}: the label '{row.label}' ({rows}) is no finite number, and"
                " dataset.options.task=regression needs one in every row, such as -1.25; correct"
                " it, or take the row out"
            )
        numbers[row.label] = value
    remarks = []
    tested = {numbers[row.label] for row in sheet.of("test")}
    if len(tested) == 1:
        remarks.append(
            f"every sample of test has the label {min(tested):g}: no correlation can be given"
        )
    return Labels("regression", (), numbers=numbers, remarks=tuple(remarks))


def label_scale(sheet: Sheet, found: Sequence[Row], numbers: Mapping[str, float]) -> Scale:
    """Mean and (population) standard deviation of the labels of training samples.

    UserError where there is nothing to learn, since they are all the same.
    """
    values = np.array([numbers[row.label] for row in found])
    if values.min() == values.max():
        raise UserError(
            f"{sheet.path.name}: every training sample has the label {values[0]:g}; a regression"
            " needs labels that differ"
        )
    return float(values.mean()), float(values.std())
