"""Figures of the section on the search: its curve, and the surface over two hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.reporting.document import Block, Figure, Strong, Table, table
from harness.reporting.figures import grid_surface, point_surface, search_curve
from harness.reporting.sections.search.texts import coordinates, marks, point_value, title
from harness.reporting.text import ABSENT
from harness.search.results import SearchResult
from harness.study.rows import short

COLOURS = "brighter is better, and the darkest stands for anything worse"


def curve(found: Sequence[SearchResult]) -> Figure:
    """The value of every point in the order in which points were evaluated, for all rows."""
    metric = found[0].metric
    series = {}
    for one in found:
        if one.points:
            series[title(one, found)] = [scored.mean for scored in one.points], one.so_far
    drawing = search_curve(series, f"{metric.axis} on val", metric.higher_is_better)
    return Figure(
        "search",
        drawing,
        "The search: every point, and the best so far; a triangle stands for a point beyond the"
        " scale",
    )


def surface(one: SearchResult, number_of: int) -> list[Block]:
    """Value and noise over two hyperparameters: cells for lists, dots for intervals.

    Nothing for any other number of them. ``number_of``: which of the report's searches it is; rows
    of several studies may have the same label.
    """
    axes = one.subject.space.axes
    there = [scored for scored in one.points if scored.evaluated.value is not None]
    if len(axes) != 2 or not there:
        return []
    first, second = axes
    label, names = one.subject.row.label, (first.name, second.name)
    heading = f"{first.name} and {second.name} of {label}: {one.metric.name} on val"
    name, higher = f"surface-{_anchor(label)}-{number_of}", one.metric.higher_is_better
    if one.subject.listed:
        text = f"{heading}, mean ± std over tuning seeds"
        cells = _cells(one)
        drawing = grid_surface(name, cells, names, higher)
        return [Figure(name, drawing, f"{text}; {COLOURS}"), _surface_table(one, cells, text)]
    # Words and truth values have no place on an axis.
    if any(isinstance(value, str | bool) for value in one.subject.own.values()):
        return []
    dots = [
        (float(scored.point[first.name]), float(scored.point[second.name]), scored.mean)
        for scored in there
    ]
    drawing = point_surface(name, dots, names, (first.log, second.log), higher)
    return [Figure(name, drawing, f"{heading}, the best with a ring; {COLOURS}")]


def _cells(one: SearchResult) -> dict[tuple[str, str], tuple[float, str]]:
    """Text of both values -> mean and what is printed, in the order of the lists.

    Without a number where there is no value.
    """
    declared = one.subject.row.method_class.hyperparameters
    down, across = (
        [short(value, declared[axis.name].log) for value in axis.values]
        for axis in one.subject.space.axes
    )
    found = {(first, second): (math.nan, ABSENT) for first in down for second in across}
    for scored in one.points:
        first, second = coordinates(one, scored)
        special = ", ".join(marks(one, scored))
        text = point_value(scored, one.metric)
        if special:
            text += f" ({special})"
        found[first, second] = scored.mean, text
    return found


def _surface_table(
    one: SearchResult, cells: Mapping[tuple[str, str], tuple[float, str]], caption: str
) -> Table:
    """The cells as a table, the first hyperparameter downwards; the best one emphasised."""
    down = list(dict.fromkeys(first for first, _ in cells))
    across = list(dict.fromkeys(second for _, second in cells))
    texts = {pair: text for pair, (_, text) in cells.items()}
    if one.best is not None:
        first, second = coordinates(one, one.best)
        texts[first, second] = Strong(texts[first, second])
    names = " \\ ".join(axis.name for axis in one.subject.space.axes)
    rows = [[first, *(texts[first, second] for second in across)] for first in down]
    return table([names, *across], rows, caption)


def _anchor(label: str) -> str:
    """A label as a part of a figure's name, which is a file's and an address's."""
    return "".join(letter if letter.isalnum() else "-" for letter in label)
