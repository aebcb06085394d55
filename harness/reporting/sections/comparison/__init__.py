"""The report's sections that compare rows: the answer, the ranking with its ties, the table, the
differences.

Here are the answer and the table; ranked_rows.py and pairs.py have the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.findings import Findings
from harness.analysis.results import Results
from harness.reporting.answer import answer
from harness.reporting.answer.caveats import caveats
from harness.reporting.document import (
    Figure,
    Paragraph,
    Section,
    Strong,
    Table,
    bullets,
    readable,
    section,
    table,
)
from harness.reporting.figures import heatmap_drawing
from harness.reporting.sections.comparison.pairs import differences, marked_difference
from harness.reporting.sections.comparison.ranked_rows import ranking, ranking_notes, ranks
from harness.reporting.text import Grid, legend, main_grid, metric_sentence, number

__all__ = [
    "HEATMAP",
    "answering",
    "differences",
    "grid_table",
    "marked_difference",
    "ranking",
    "ranking_notes",
    "ranks",
    "result",
]

HEATMAP = "heatmap.png"


def answering(findings: Findings, problems: Sequence[str]) -> Section:
    """The answer in two sentences, and what must be known before it is believed."""
    first, *others = answer(findings)
    notes = caveats(findings, problems)
    return section(
        "Answer",
        first,
        Paragraph(" ".join(others)) if others else None,
        bullets(notes) if notes else None,
    )


def result(findings: Findings) -> Section:
    """Methods x combinations as a table and as a picture."""
    results = findings.results
    grid, sentence = main_grid(results, findings.comparison), metric_sentence(results)
    return section(
        "Result",
        _extremes(findings.comparison),
        Figure("heatmap", heatmap_drawing(results), sentence, HEATMAP),
        readable(grid_table(grid, findings.comparison.labels, findings.leader, sentence)),
        bullets([*legend(results, findings.comparison), *_samples(results)]),
    )


def _extremes(found: Comparison) -> str:
    """The best and the worst cell of the table."""
    cells = {place: one.mean for place, one in found.cells.items() if math.isfinite(one.mean)}
    if not cells:
        return "No row has a value yet."
    order = sorted(cells, key=lambda place: cells[place], reverse=found.metric.higher_is_better)

    def named(place: tuple[str, str]) -> str:
        return f"{number(cells[place], found.metric)} ({place[0]}, {place[1]})"

    return f"The best value is {named(order[0])}, the worst {named(order[-1])}."


def grid_table(grid: Grid, labels: Sequence[str], leader: str | None, caption: str) -> Table:
    """The grid as a table; only the average of a leader is emphasised."""
    rows = []
    for label, name, row in zip(labels, grid.labels, grid.rows, strict=True):
        cells = [name, *map(str, row)]
        if label == leader:
            cells[0], cells[-2] = Strong(cells[0]), Strong(cells[-2])
        rows.append(cells)
    return table(grid.header, rows, caption, paper=True)


def _samples(results: Results) -> list[str]:
    """On how many samples each combination was scored, where samples lack modalities."""
    cells = results.table
    found = cells[cells["split"] == "test"].groupby("combination", sort=False)["n"].max()
    if found.nunique() < 2:
        return []
    counts = ", ".join(f"{name} {n}" for name, n in found.items())
    return [
        "samples of test that have all modalities of a combination, on which it is scored:"
        f" {counts}"
    ]
