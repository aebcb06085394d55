"""Pictures of the results, drawn without pyplot's global state.

The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.analysis.comparison import Comparison, Summary
from harness.analysis.results import Results
from harness.protocol.combinations import Combination
from harness.reporting.text import COLLAPSED, marked, metric_sentence, number

CELL_WIDTH, CELL_HEIGHT, DOT_HEIGHT = 0.68, 0.40, 0.26
TOP, BOTTOM, SIDE = 0.85, 0.72, 0.25
"""Inches: of cells, of dots, and of the margins."""

CHARACTER = 0.088
"""Inches that a character of a label needs, with room to spare."""

GAP = 0.35
"""Cells between the combinations and the two summary columns."""

COLOURS = "cividis"
"""Read alike with and without colour vision."""

INK, PALE = "#222222", "#c8c8c8"
Colour = tuple[float, float, float, float]
WHITE: Colour = (1.0, 1.0, 1.0, 1.0)


def heatmap(results: Results) -> bytes:
    """Methods x combinations as a PNG: means over seeds on test."""
    return _png(heatmap_figure(results))


def heatmap_figure(results: Results) -> Any:
    """The same, not yet in a format."""
    comparison = results.comparison()
    labels = [_row_label(results, comparison, label) for label in comparison.labels]
    title = f"{results.plan.study.name}: {metric_sentence(results)}"
    return drawn(comparison, results.plan.combinations, labels, title)


def draw(
    comparison: Comparison, combinations: Sequence[Combination], labels: Sequence[str], title: str
) -> bytes:
    """The PNG of a comparison."""
    return _png(drawn(comparison, combinations, labels, title))


def drawn(
    comparison: Comparison, combinations: Sequence[Combination], labels: Sequence[str], title: str
) -> Any:
    """The figure of a comparison, brighter is better.

    Dots below each column say which modalities are present.
    """
    modalities, notes = combinations[-1].members, _notes(comparison)
    # In characters of the notes: the title is printed larger.
    words = max(1.15 * len(title), len(notes))
    figure, above, below = _canvas(labels, modalities, len(combinations), words)
    _draw_cells(above, comparison)
    _draw_dots(below, combinations)
    left, height = above.get_position().x0, figure.get_figheight()
    figure.text(
        left, 1 - 0.3 / height, title, fontsize=12, color=INK, va="center", parse_math=False
    )
    figure.text(left, 0.35 / height, notes, fontsize=9, color=INK, va="center")
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # Without the default metadata, which names the matplotlib version.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def shade(value: float, values: Sequence[float], higher_is_better: bool) -> Colour:
    """The colour of a value among all values shown: the best is the brightest, whatever the
    metric's direction.
    """
    low, high = min(values), max(values)
    place = float(Normalize(low, high)(value)) if high > low else 0.5
    colour: Colour = colormaps[COLOURS](place if higher_is_better else 1.0 - place)
    return colour


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast (relative luminance of sRGB as WCAG 2
    defines it).
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast is (L + 0.05) / 0.05 with black and 1.05 / (L + 0.05) with white: equal at L = 0.179.
    return "black" if luminance > 0.179 else "white"


def _row_label(results: Results, comparison: Comparison, label: str) -> str:
    seeds, name = comparison.average[label].seeds, marked(results, label)
    return f"{name} ({seeds}/{comparison.planned})" if seeds < comparison.planned else name


def _notes(comparison: Comparison) -> str:
    averages, planned = comparison.average.values(), comparison.planned
    notes = [
        f"mean over {planned} seeds" if planned > 1 else "one seed",
        "brighter is better",
        "● present",
    ]
    if any(summary.seeds < planned for summary in averages):
        notes.append(f"(k/{planned}) only k seeds are there")
    if any(summary.collapsed for summary in averages):
        notes.append(f"{COLLAPSED} collapsed in at least one seed")
    return "; ".join(notes)


def _lefts(combinations: int) -> list[float]:
    """The columns' left edges in cells: the combinations, a gap, average and worst."""
    return [*map(float, range(combinations)), combinations + GAP, combinations + GAP + 1]


def _canvas(
    labels: Sequence[str], modalities: Sequence[str], columns: int, words: float
) -> tuple[Any, Any, Any]:
    """A figure with axes for the cells and, below them, for the dots; both in units of cells."""
    span = columns + GAP + 2
    left = SIDE + CHARACTER * max(map(len, [*labels, *modalities]))
    width = left + max(span * CELL_WIDTH, words * CHARACTER * 0.85) + SIDE
    cells, dots = len(labels) * CELL_HEIGHT, len(modalities) * DOT_HEIGHT
    height = BOTTOM + dots + cells + TOP
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    inner = span * CELL_WIDTH / width
    above = figure.add_axes((left / width, (BOTTOM + dots) / height, inner, cells / height))
    below = figure.add_axes((left / width, (BOTTOM - 0.08) / height, inner, dots / height))
    for axes, names in ((above, labels), (below, modalities)):
        axes.set(xlim=(0, span), ylim=(len(names), 0), xticks=[])
        axes.set_yticks(
            [line + 0.5 for line in range(len(names))],
            names,
            fontsize=10,
            color=INK,
            parse_math=False,
        )
        axes.patch.set_visible(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure, above, below


def _draw_cells(axes: Any, comparison: Comparison) -> None:
    lefts = _lefts(len(comparison.combinations))
    rows = [comparison.row(label) for label in comparison.labels]
    values = [summary.mean for row in rows for summary in row if math.isfinite(summary.mean)]
    for line, row in enumerate(rows):
        for left, summary in zip(lefts, row, strict=True):
            _draw_cell(axes, left, line, summary, comparison, values)
    for left, name in zip(lefts[-2:], ("average", "worst"), strict=True):
        axes.text(left + 0.5, -0.12, name, ha="center", va="bottom", fontsize=10, color=INK)


def _draw_cell(
    axes: Any,
    left: float,
    line: int,
    summary: Summary,
    comparison: Comparison,
    values: Sequence[float],
) -> None:
    colour, edge = WHITE, PALE
    if math.isfinite(summary.mean):
        colour = shade(summary.mean, values, comparison.metric.higher_is_better)
        edge = "white"
    axes.add_patch(Rectangle((left, line), 1, 1, facecolor=colour, edgecolor=edge))
    text = number(summary.mean, comparison.metric)
    if summary.collapsed:
        text += COLLAPSED
    axes.text(
        left + 0.5, line + 0.5, text, ha="center", va="center", fontsize=10, color=ink_on(colour)
    )


def _draw_dots(axes: Any, combinations: Sequence[Combination]) -> None:
    for left, combination in enumerate(combinations):
        for line, present in enumerate(combination.mask):
            face, edge = (INK, INK) if present else ("none", PALE)
            axes.scatter(
                [left + 0.5], [line + 0.5], s=58, linewidths=1.2, facecolor=face, edgecolor=edge
            )
