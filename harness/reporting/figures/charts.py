"""Charts of rows: the heat map, curves, points, bars and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from harness.analysis.findings import RowDifference
from harness.analysis.results import Results
from harness.protocol.metrics import Metric
from harness.reporting.document import Drawing
from harness.reporting.figures.svg import (
    COLOURS,
    HEIGHT,
    LINE,
    colour_of,
    drawing,
    figure_and_axes,
    labelled,
    legend_beside,
    plain,
)
from harness.reporting.heatmap import INK, PALE, heatmap_figure

STYLES = ("-", "--", ":")
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def heatmap_drawing(results: Results) -> Drawing:
    """Methods x combinations."""
    return drawing(heatmap_figure(results), "heatmap")


def curves(
    name: str, lines: Lines, x: str, y: str, whole: bool = False, dots: bool = False
) -> Drawing:
    """One line per row: label -> (x values, y values); ``whole`` numbers on the x axis only.

    With ``dots`` each value is marked, where there are few.
    """
    figure, axes = figure_and_axes(HEIGHT)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for at, (label, (across, up)) in enumerate(lines.items()):
        axes.plot(
            across,
            up,
            color=colour_of(at),
            linestyle=STYLES[at // COLOURS % len(STYLES)],
            linewidth=1.6,
            marker="o" if dots else "",
            markersize=4,
            label=plain(label),
        )
    labelled(axes, x, y)
    if lines:
        legend_beside(axes)
    return drawing(figure, name)


def scatter(
    name: str, points: Mapping[str, tuple[float, float]], front: Sequence[str], x: str, y: str
) -> Drawing:
    """Points with their labels, cost on a logarithmic scale, and the line through a Pareto
    front.
    """
    figure, axes = figure_and_axes(HEIGHT)
    axes.set_xscale("log")
    costs, values = zip(*(points[label] for label in front), strict=True)
    axes.plot(costs, values, color=PALE, linewidth=1.5, zorder=1)
    for at, (label, (cost, value)) in enumerate(points.items()):
        markers = ("o", "s") if label in front else ("x", "+")
        marker = markers[at // COLOURS % len(markers)]
        axes.scatter(
            [cost],
            [value],
            color=[colour_of(at)],
            marker=marker,
            s=36,
            zorder=2,
            label=plain(label),
        )
    labelled(axes, x, y)
    legend_beside(axes)
    return drawing(figure, name)


def bars(
    name: str, names: Sequence[str], groups: Mapping[str, Sequence[tuple[float, bool]]], y: str
) -> Drawing:
    """Groups of bars: label -> (height, whether it is hatched) for each name on the x axis."""
    figure, axes = figure_and_axes(HEIGHT)
    width = 0.8 / max(len(groups), 1)
    for at, (label, values) in enumerate(groups.items()):
        # Side by side around the place of their name.
        offset = (at - (len(groups) - 1) / 2) * width
        places = [place + offset for place in range(len(names))]
        heights = [height for height, _ in values]
        drawn = axes.bar(places, heights, width, color=colour_of(at), label=plain(label))
        for bar, (_, hatched) in zip(drawn, values, strict=True):
            bar.set(hatch="///" if hatched else "", edgecolor=INK, linewidth=0.4)
    axes.set_xticks(range(len(names)), names, parse_math=False, rotation=30, ha="right")
    labelled(axes, y=y)
    legend_beside(axes)
    return drawing(figure, name)


def forest(name: str, found: Sequence[RowDifference], other: str, metric: Metric) -> Drawing:
    """Differences with their intervals, one row each; filled where significant."""
    figure, axes = figure_and_axes(1.0 + LINE * len(found), left=0.3, right=0.97)
    axes.axvline(0, color=PALE, linewidth=1.2)
    for line, one in enumerate(found):
        axes.plot([one.low, one.high], [line, line], color=INK, linewidth=1.4)
        axes.scatter(
            [one.value],
            [line],
            s=34,
            zorder=3,
            edgecolor=INK,
            facecolor=INK if one.verdict else "none",
        )
    axes.set_yticks(range(len(found)), [one.label for one in found], parse_math=False)
    # From the largest down: the first row stands on top.
    axes.set_ylim(len(found) - 0.5, -0.5)
    unit = "percentage points" if metric.percent else metric.name
    labelled(axes, f"minus {other}, {unit}; filled: significant")
    return drawing(figure, name)
