"""Axes, colours and the SVG text that all figures of the report share.

A figure lies inside a page, and its ink follows the page, light or dark. Equal numbers give equal
bytes.
"""

from __future__ import annotations

import io
import re
from functools import cache, partial
from typing import Any
from warnings import catch_warnings, filterwarnings

from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.reporting.document import Drawing
from harness.reporting.heatmap import INK, PALE

SETTINGS = {"svg.hashsalt": "report", "svg.fonttype": "none"}
"""Names inside the file are made of its contents; text stays text."""

NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}
THEME = {INK: "var(--ink)", PALE: "var(--pale)"}
"""What the page's colours replace."""

WIDTH, HEIGHT, LINE = 7.2, 3.9, 0.3
"""Inches of a figure, and of a row in one."""

SMALL = 9
COLOURS = 10
"""How many rows have a colour of their own; the next ones get other strokes or marks."""


def figure_and_axes(height: float, left: float = 0.1, right: float = 0.72) -> tuple[Any, Any]:
    """An empty figure of WIDTH and its axes, from ``left`` to ``right`` in parts of the width; a
    legend has the rest.
    """
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasSVG(figure)
    # Inches: labels below the axes need the same room in a figure of any height.
    bottom, top = 0.52 / height, 0.12 / height
    axes = figure.add_axes((left, bottom, right - left, 1 - bottom - top))
    themed(axes)
    return figure, axes


def themed(axes: Any) -> None:
    """Axes without a background, in the page's colours, open above and to the right."""
    axes.patch.set_visible(False)
    axes.tick_params(colors=INK, labelsize=SMALL, which="both")
    axes.spines[:].set_color(PALE)
    axes.spines[["top", "right"]].set_visible(False)


def labelled(axes: Any, x: str | None = None, y: str | None = None) -> None:
    """Names of the axes; a dollar sign in them is a dollar sign."""
    if x is not None:
        axes.set_xlabel(x, color=INK, fontsize=SMALL, parse_math=False)
    if y is not None:
        axes.set_ylabel(y, color=INK, fontsize=SMALL, parse_math=False)


def legend_beside(axes: Any) -> None:
    """The legend to the right of the axes, where it covers nothing."""
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=SMALL, frameon=False, labelcolor=INK
    )


def colour_of(at: int) -> Any:
    """The colour of a row by its place."""
    return colormaps["tab10"](at % COLOURS)


def plain(label: str) -> str:
    """A label that matplotlib neither hides (a leading underscore) nor reads as mathematics."""
    text = label.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def drawing(figure: Any, name: str) -> Drawing:
    """The figure as a drawing whose names start with ``name``, and are the same each time."""
    return cache(partial(_svg, figure, name))


def _svg(figure: Any, name: str, prefix: str) -> str:
    """The text of a figure, its names made unique in a page by ``prefix`` and ``name``."""
    buffer = io.StringIO()
    with rc_context(SETTINGS), catch_warnings():
        # Text stays text: whoever reads the page has the letters that this machine's fonts lack.
        filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(
            buffer, format="svg", facecolor="none", bbox_inches="tight", metadata=NOTHING
        )
    text = buffer.getvalue()
    # What stands before <svg is a file's (XML declaration, document type), not a page's.
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}{name}-", text)
    for ink, variable in THEME.items():
        text = text.replace(ink, variable)
    return text
