"""Figures of a search: its curve, and the values over two hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypeVar

from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from harness.reporting.document import Drawing
from harness.reporting.figures.svg import (
    HEIGHT,
    LINE,
    SMALL,
    colour_of,
    drawing,
    figure_and_axes,
    labelled,
    legend_beside,
    plain,
)
from harness.reporting.heatmap import INK, PALE, Colour, ink_on, shade

CLEAR: Colour = (1.0, 1.0, 1.0, 0.0)
FARTHEST = 4
"""A scale ends so many times as far from the best value as the median is."""

Key = TypeVar("Key")
SearchSeries = tuple[Sequence[float], Sequence[float]]
"""The value of each point of a search (NaN: it failed), and the best so far."""


def search_curve(found: Mapping[str, SearchSeries], y: str, higher: bool) -> Drawing:
    """Per row of a search each point as a dot, in the order of their numbers, and the best so far
    as a line.

    A point that is far worse than most is a triangle at the edge.
    """
    figure, axes = figure_and_axes(HEIGHT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    worse = "v" if higher else "^"
    for at, (label, (values, best)) in enumerate(found.items()):
        floor = _floor([value for value in values if math.isfinite(value)], higher)
        numbers = range(1, len(values) + 1)
        for number, value in zip(numbers, values, strict=True):
            inside = _clipped(value, floor, higher)
            axes.scatter(
                [number],
                [inside],
                color=[colour_of(at)],
                s=22,
                alpha=0.6,
                marker="o" if inside == value else worse,
            )
        axes.step(
            numbers,
            best,
            where="post",
            color=colour_of(at),
            linewidth=1.6,
            label=f"{plain(label)}, best so far",
        )
    labelled(axes, "points", y)
    legend_beside(axes)
    return drawing(figure, "search")


def grid_surface(
    name: str,
    cells: Mapping[tuple[str, str], tuple[float, str]],
    axes_names: tuple[str, str],
    higher: bool,
) -> Drawing:
    """A value and its text for each pair of values of two hyperparameters.

    Brighter is better, far worse than most is darkest.
    """
    down = list(dict.fromkeys(first for first, _ in cells))
    across = list(dict.fromkeys(second for _, second in cells))
    height, width = 1.0 + 1.6 * LINE * len(down), min(0.82, 0.17 * len(across))
    figure, axes = figure_and_axes(height, left=0.14, right=0.14 + width)
    colours = _shades({pair: value for pair, (value, _) in cells.items()}, higher)
    for (row, column), (value, text) in cells.items():
        colour = colours[row, column]
        x, y = across.index(column), down.index(row)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=PALE))
        ink = ink_on(colour) if math.isfinite(value) else INK
        # Marks, in parentheses, get a line of their own.
        lines = text.replace(" (", "\n(")
        place = (x + 0.5, y + 0.5)
        axes.text(*place, lines, ha="center", va="center", fontsize=SMALL, color=ink)
    axes.set(xlim=(0, len(across)), ylim=(len(down), 0))
    axes.set_xticks([at + 0.5 for at in range(len(across))], across)
    axes.set_yticks([at + 0.5 for at in range(len(down))], down)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    name_down, name_across = axes_names
    labelled(axes, x=name_across, y=name_down)
    return drawing(figure, name)


def point_surface(
    name: str,
    points: Sequence[tuple[float, float, float]],
    names: tuple[str, str],
    logs: tuple[bool, bool],
    higher: bool,
) -> Drawing:
    """Points (x, y, value) of two hyperparameters with an order.

    Brighter is better, the best one has a ring.
    """
    figure, axes = figure_and_axes(HEIGHT)
    values = [value for _, _, value in points]
    colours = _shades(dict(enumerate(values)), higher)
    log_x, log_y = logs
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    best = max(values) if higher else min(values)
    for at, (x, y, value) in enumerate(points):
        edge, width = (INK, 2) if value == best else (PALE, 1)
        axes.scatter([x], [y], color=[colours[at]], s=110, edgecolor=edge, linewidth=width)
    labelled(axes, *names)
    return drawing(figure, name)


def _floor(values: Sequence[float], higher: bool) -> float:
    """Where a scale ends, lest a few collapsed points hide what the others say."""
    if not values:
        return math.nan
    best = max(values) if higher else min(values)
    return best - FARTHEST * (best - median(values))


def _clipped(value: float, floor: float, higher: bool) -> float:
    """The value, or the end of the scale where it lies beyond."""
    return max(value, floor) if higher else min(value, floor)


def _shades(values: Mapping[Key, float], higher: bool) -> dict[Key, Colour]:
    """A colour for each value; none for one that is not there."""
    there = [value for value in values.values() if math.isfinite(value)]
    floor = _floor(there, higher)
    shown = [_clipped(value, floor, higher) for value in there]
    colours = {}
    for key, value in values.items():
        colours[key] = CLEAR
        if math.isfinite(value):
            colours[key] = shade(_clipped(value, floor, higher), shown, higher)
    return colours
