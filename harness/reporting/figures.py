"""Figures of the report as SVG that lies inside a page: its ink follows the page, light or dark.

Equal numbers give equal bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from typing import Any, TypeVar
from warnings import catch_warnings, filterwarnings

from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from harness.analysis.findings import RowDifference
from harness.analysis.results import Results
from harness.protocol.metrics import Metric
from harness.reporting.document import Drawing
from harness.reporting.heatmap import INK, PALE, Colour, heatmap_figure, ink_on, shade

SETTINGS = {"svg.hashsalt": "report", "svg.fonttype": "none"}
"""Names inside the file are made of its contents; text stays text."""

NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}
THEME = {INK: "var(--ink)", PALE: "var(--pale)"}
"""What the page's colours replace."""

WIDTH, HEIGHT, LINE = 7.2, 3.9, 0.3
"""Inches of a figure, and of a row in one."""

STYLES = ("-", "--", ":")
SMALL = 9
CLEAR: Colour = (1.0, 1.0, 1.0, 0.0)
Key = TypeVar("Key")
Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def heatmap_drawing(results: Results) -> Drawing:
    """Methods x combinations."""
    return _drawing(heatmap_figure(results), "heatmap")


def curves(
    name: str, lines: Lines, x: str, y: str, whole: bool = False, dots: bool = False
) -> Drawing:
    """One line per row: label -> (x values, y values); ``whole`` numbers on the x axis only.

    With ``dots`` each value is marked, where there are few.
    """
    figure, axes = _axes(HEIGHT)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for at, (label, (across, up)) in enumerate(lines.items()):
        axes.plot(
            across,
            up,
            color=_colour(at),
            linestyle=STYLES[at // 10 % len(STYLES)],
            linewidth=1.6,
            marker="o" if dots else "",
            markersize=4,
            label=_plain(label),
        )
    axes.set_xlabel(x, color=INK, fontsize=SMALL)
    axes.set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)
    if lines:
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize=SMALL,
            frameon=False,
            labelcolor=INK,
        )
    return _drawing(figure, name)


def scatter(
    name: str, points: Mapping[str, tuple[float, float]], front: Sequence[str], x: str, y: str
) -> Drawing:
    """Points with their labels, cost on a logarithmic scale, and the line through a Pareto
    front.
    """
    figure, axes = _axes(HEIGHT)
    axes.set_xscale("log")
    axes.plot(
        *zip(*(points[label] for label in front), strict=True), color=PALE, linewidth=1.5, zorder=1
    )
    for at, (label, (cost, value)) in enumerate(points.items()):
        marker = ("os" if label in front else "x+")[at // 10 % 2]
        axes.scatter(
            [cost], [value], color=[_colour(at)], marker=marker, s=36, zorder=2, label=_plain(label)
        )
    axes.set_xlabel(x, color=INK, fontsize=SMALL)
    axes.set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=SMALL, frameon=False, labelcolor=INK
    )
    return _drawing(figure, name)


def bars(
    name: str, names: Sequence[str], groups: Mapping[str, Sequence[tuple[float, bool]]], y: str
) -> Drawing:
    """Groups of bars: label -> (height, whether it is hatched) for each name on the x axis."""
    figure, axes = _axes(HEIGHT)
    width = 0.8 / max(len(groups), 1)
    for at, (label, values) in enumerate(groups.items()):
        left = [place + (at - (len(groups) - 1) / 2) * width for place in range(len(names))]
        drawn = axes.bar(
            left, [height for height, _ in values], width, color=_colour(at), label=_plain(label)
        )
        for bar, (_, hatched) in zip(drawn, values, strict=True):
            bar.set(hatch="///" if hatched else "", edgecolor=INK, linewidth=0.4)
    axes.set_xticks(range(len(names)), names, parse_math=False, rotation=30, ha="right")
    axes.set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=SMALL, frameon=False, labelcolor=INK
    )
    return _drawing(figure, name)


def forest(name: str, found: Sequence[RowDifference], other: str, metric: Metric) -> Drawing:
    """Differences with their intervals, one row each; filled where significant."""
    figure, axes = _axes(1.0 + LINE * len(found), left=0.3, right=0.97)
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
    axes.set_ylim(len(found) - 0.5, -0.5)
    unit = "percentage points" if metric.percent else metric.name
    axes.set_xlabel(
        f"minus {other}, {unit}; filled: significant", color=INK, fontsize=SMALL, parse_math=False
    )
    return _drawing(figure, name)


@dataclass(frozen=True)
class Panel:
    """One sensor that gets worse.

    Attributes:
        title: its name.
        trusted: the value at severities 0, 1, ... when the model is told that it is present.
        left_out: the value when the model is told that it is absent.
        break_even: the severity from which leaving it out is better; infinity where there is none.
    """

    title: str
    trusted: Sequence[float]
    left_out: float
    break_even: float


PANELS_ACROSS = 3
WRONG = "#d62728"


def trust_panels(name: str, panels: Sequence[Panel], y: str, higher: bool) -> Drawing:
    """One small plot per sensor: value over severity, the value without the sensor dashed, and
    shaded where trusting the sensor is worse.
    """
    across = min(PANELS_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.3 * down))
    FigureCanvasSVG(figure)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for at, axes in enumerate(grid.flat):
        if at < len(panels):
            _trust_panel(axes, panels[at], higher)
        else:
            axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)
    figure.supxlabel("severity of the corruption (0: as it is)", color=INK, fontsize=SMALL)
    figure.subplots_adjust(
        left=0.09, right=0.99, bottom=0.5 / figure.get_figheight(), wspace=0.08, hspace=0.3
    )
    return _drawing(figure, name)


def _trust_panel(axes: Any, panel: Panel, higher: bool) -> None:
    severities = range(len(panel.trusted))
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, labelsize=SMALL, which="both")
    axes.spines[:].set_color(PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot(severities, panel.trusted, color=_colour(0), linewidth=2, marker="o", markersize=3)
    axes.axhline(panel.left_out, color=INK, linewidth=1.2, linestyle="--")
    worse = [
        (value < panel.left_out) == higher and value != panel.left_out for value in panel.trusted
    ]
    axes.fill_between(
        severities,
        panel.trusted,
        panel.left_out,
        where=worse,
        interpolate=True,
        color=WRONG,
        alpha=0.3,
    )
    verdict = "keep it"
    if math.isfinite(panel.break_even):
        axes.axvline(panel.break_even, color=WRONG, linewidth=1)
        verdict = f"leave out from {panel.break_even:.1f} on"
    axes.set_title(f"{panel.title}\n{verdict}", color=INK, fontsize=SMALL, parse_math=False)
    axes.annotate(
        "without it",
        (0, panel.left_out),
        xytext=(2, 3),
        textcoords="offset points",
        fontsize=SMALL - 1,
        color=INK,
    )
    axes.annotate(
        "with it",
        (1, panel.trusted[1]),
        xytext=(4, 4),
        textcoords="offset points",
        fontsize=SMALL - 1,
        color=_colour(0),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


SearchSeries = tuple[Sequence[float], Sequence[float]]
"""The value of each point of a search (NaN: it failed), and the best so far."""


def search_curve(found: Mapping[str, SearchSeries], y: str, higher: bool) -> Drawing:
    """Per row of a search each point as a dot, in the order of their numbers, and the best so far
    as a line.

    A point that is far worse than most is a triangle at the edge.
    """
    figure, axes = _axes(HEIGHT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    worse = "v" if higher else "^"
    floors = [
        _floor([value for value in values if math.isfinite(value)], higher)
        for values, _ in found.values()
    ]
    for at, (label, (values, best)) in enumerate(found.items()):
        numbers = range(1, len(values) + 1)
        for number, value in zip(numbers, values, strict=True):
            inside = _clipped(value, floors[at], higher)
            axes.scatter(
                [number],
                [inside],
                color=[_colour(at)],
                s=22,
                alpha=0.6,
                marker="o" if inside == value else worse,
            )
        axes.step(
            numbers,
            best,
            where="post",
            color=_colour(at),
            linewidth=1.6,
            label=f"{_plain(label)}, best so far",
        )
    axes.set_xlabel("points", color=INK, fontsize=SMALL)
    axes.set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=SMALL, frameon=False, labelcolor=INK
    )
    return _drawing(figure, "search")


def grid_surface(
    name: str,
    cells: Mapping[tuple[str, str], tuple[float, str]],
    axes_names: tuple[str, str],
    higher: bool,
) -> Drawing:
    """A value and its text for each pair of values of two hyperparameters.

    Brighter is better, far worse than most is darkest.
    """
    down, across = (list(dict.fromkeys(pair[at] for pair in cells)) for at in (0, 1))
    figure, axes = _axes(
        1.0 + 1.6 * LINE * len(down), left=0.14, right=0.14 + min(0.82, 0.17 * len(across))
    )
    colours = _shades({pair: value for pair, (value, _) in cells.items()}, higher)
    for (row, column), (value, text) in cells.items():
        colour = colours[row, column]
        place = across.index(column), down.index(row)
        axes.add_patch(Rectangle(place, 1, 1, facecolor=colour, edgecolor=PALE))
        ink = ink_on(colour) if math.isfinite(value) else INK
        axes.text(
            place[0] + 0.5,
            place[1] + 0.5,
            text.replace(" (", "\n("),
            ha="center",
            va="center",
            fontsize=SMALL,
            color=ink,
        )
    axes.set(xlim=(0, len(across)), ylim=(len(down), 0))
    axes.set_xticks([at + 0.5 for at in range(len(across))], across)
    axes.set_yticks([at + 0.5 for at in range(len(down))], down)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(axes_names[0], color=INK, fontsize=SMALL, parse_math=False)
    axes.set_xlabel(axes_names[1], color=INK, fontsize=SMALL, parse_math=False)
    return _drawing(figure, name)


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
    figure, axes = _axes(HEIGHT)
    values = [value for _, _, value in points]
    colours = _shades(dict(enumerate(values)), higher)
    axes.set_xscale("log" if logs[0] else "linear")
    axes.set_yscale("log" if logs[1] else "linear")
    best = (max if higher else min)(values)
    for at, (x, y, value) in enumerate(points):
        edge, width = (INK, 2) if value == best else (PALE, 1)
        axes.scatter([x], [y], color=[colours[at]], s=110, edgecolor=edge, linewidth=width)
    axes.set_xlabel(names[0], color=INK, fontsize=SMALL, parse_math=False)
    axes.set_ylabel(names[1], color=INK, fontsize=SMALL, parse_math=False)
    return _drawing(figure, name)


def _floor(values: Sequence[float], higher: bool) -> float:
    """Where a scale ends, lest a few collapsed points hide what the others say: four times as far
    from the best as the median.
    """
    best, middle = (
        (max if higher else min)(values, default=math.nan),
        median(values) if values else math.nan,
    )
    return best - 4 * (best - middle)


def _clipped(value: float, floor: float, higher: bool) -> float:
    return max(value, floor) if higher else min(value, floor)


def _shades(values: Mapping[Key, float], higher: bool) -> dict[Key, Colour]:
    """A colour for each value; none for one that is not there."""
    there = [value for value in values.values() if math.isfinite(value)]
    floor = _floor(there, higher)
    shown = [_clipped(value, floor, higher) for value in there]
    return {
        key: shade(_clipped(v, floor, higher), shown, higher) if math.isfinite(v) else CLEAR
        for key, v in values.items()
    }


def _axes(height: float, left: float = 0.1, right: float = 0.72) -> tuple[Any, Any]:
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasSVG(figure)
    bottom = 0.52 / height
    axes = figure.add_axes((left, bottom, right - left, 1 - bottom - 0.12 / height))
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, labelsize=SMALL, which="both")
    axes.spines[:].set_color(PALE)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(at: int) -> Any:
    return colormaps["tab10"](at % 10)


def _plain(label: str) -> str:
    """A label that matplotlib neither hides (a leading underscore) nor reads as mathematics."""
    text = label.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def _drawing(figure: Any, name: str) -> Drawing:
    """The figure as a drawing whose names start with ``name``, and are the same each time."""
    return cache(partial(_svg, figure, name))


def _svg(figure: Any, name: str, prefix: str) -> str:
    buffer = io.StringIO()
    with rc_context(SETTINGS), catch_warnings():
        # Text stays text: whoever reads the page has the letters that this machine's fonts lack.
        filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(
            buffer, format="svg", facecolor="none", bbox_inches="tight", metadata=NOTHING
        )
    text = buffer.getvalue()
    text = re.sub(r'\bid="', f'id="{prefix}{name}-', text[text.index("<svg") :])
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}{name}-", text)
    for ink, variable in THEME.items():
        text = text.replace(ink, variable)
    return text
