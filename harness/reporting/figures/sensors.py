"""Small plots of sensors that get worse, one per sensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.reporting.document import Drawing
from harness.reporting.figures.svg import SMALL, WIDTH, colour_of, drawing, labelled, themed
from harness.reporting.heatmap import INK

PANELS_ACROSS = 3
WRONG = "#d62728"


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


def trust_panels(name: str, panels: Sequence[Panel], y: str, higher: bool) -> Drawing:
    """One small plot per sensor: value over severity, the value without the sensor dashed, and
    shaded where trusting the sensor is worse.
    """
    across = min(PANELS_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.3 * down))
    FigureCanvasSVG(figure)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for at, axes in enumerate(grid.flat):
        if at < len(panels):
            _trust_panel(axes, panels[at], higher)
        else:
            axes.set_visible(False)
    for row in grid:
        labelled(row[0], y=y)
    figure.supxlabel("severity of the corruption (0: as it is)", color=INK, fontsize=SMALL)
    figure.subplots_adjust(
        left=0.09, right=0.99, bottom=0.5 / figure.get_figheight(), wspace=0.08, hspace=0.3
    )
    return drawing(figure, name)


def _trust_panel(axes: Any, panel: Panel, higher: bool) -> None:
    """One sensor: both values over severity, what they mean, and where the verdict changes."""
    severities = range(len(panel.trusted))
    themed(axes)
    axes.plot(severities, panel.trusted, color=colour_of(0), linewidth=2, marker="o", markersize=3)
    axes.axhline(panel.left_out, color=INK, linewidth=1.2, linestyle="--")
    sign = 1 if higher else -1
    worse = [sign * value < sign * panel.left_out for value in panel.trusted]
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
    _note(axes, "without it", (0, panel.left_out), (2, 3), INK)
    _note(axes, "with it", (1, panel.trusted[1]), (4, 4), colour_of(0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _note(
    axes: Any, text: str, at: tuple[float, float], offset: tuple[int, int], colour: Any
) -> None:
    """A word beside a point; ``offset`` in points of print."""
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        fontsize=SMALL - 1,
        color=colour,
    )
