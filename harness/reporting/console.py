"""The table on the console: rich on a terminal; plain, never wrapped and never cut elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.findings import Findings
from harness.analysis.results import Results
from harness.analysis.statistics import AVERAGE
from harness.reporting.answer import answer
from harness.reporting.answer.caveats import dependence_notes
from harness.reporting.document import MOST_COLUMNS
from harness.reporting.sections.comparison import ranks
from harness.reporting.text import (
    Grid,
    Shown,
    hole_lines,
    legend,
    main_grid,
    metric_sentence,
    number,
)
from harness.reporting.wording import size

GAP = "  "


def stdout_console() -> Console:
    """The console of this process: plain unless stdout is a terminal, whatever the environment says
    about colours.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # A character that the encoding lacks becomes `?`: the end of a long study is no place for a
        # traceback.
        sys.stdout.reconfigure(errors="replace")
    return Console(force_terminal=sys.stdout.isatty())


def show(findings: Findings, logs: str, console: Console | None = None) -> None:
    """Print the comparison, what it means, and what it lacks.

    ``logs`` is the folder of the trials' folders.
    """
    console = console or stdout_console()
    if not console.is_terminal:
        print("\n".join(plain_lines(findings, logs)), file=console.file)
        return
    grid = main_grid(findings.results, findings.comparison)
    leader = None
    if findings.leader is not None:
        leader = findings.comparison.labels.index(findings.leader)
    console.print(Text(_title(findings.results), style="bold"))
    for table in _tables(grid, console, leader):
        console.print(table)
    for line in _below(findings, logs):
        console.print(Text(line))


def plain_lines(findings: Findings, logs: str) -> list[str]:
    """The same for files and pipes: fixed-width columns, as wide as needed, no escape codes."""
    grid = main_grid(findings.results, findings.comparison)
    return [_title(findings.results), "", *_fixed_width(grid), "", *_below(findings, logs)]


def _title(results: Results) -> str:
    return f"{results.plan.study.name}: {metric_sentence(results)}"


def _below(findings: Findings, logs: str) -> list[str]:
    results = findings.results
    missing = hole_lines(results.holes, logs)
    head = [f"not in the table: {len(missing)} of {results.plan.size} trials"] if missing else []
    lines = [*legend(results, findings.comparison), *_ranking(findings)]
    return [*answer(findings), "", *lines, *head, *(f"  {line}" for line in missing)]


def _ranking(findings: Findings) -> list[str]:
    """The rows in order with their ties; nothing where they are not ranked."""
    found, metric = findings.rankings.get(AVERAGE), findings.comparison.metric
    if found is None or not found.differences:
        return []
    places = (
        f"{ranks(place)} {place.label} {number(place.mean, metric)} {place.letters}"
        for place in found.places
    )
    return [
        (
            "ranking by average, with tie groups (rows that share a letter are not told apart):"
            f" {'; '.join(places)}"
        ),
        (
            f"minimum detectable difference from the best: {size(found.detectable, metric)}, of any"
            f" pair: {size(found.detectable_pair, metric)} (80 % power, corrected, median of pairs)"
        ),
        *dependence_notes(findings),
        *found.notes,
    ]


def _fixed_width(grid: Grid) -> list[str]:
    if len(grid.header) > MOST_COLUMNS:
        # As in the report: so many columns are read by nobody.
        turned = tuple(zip(*grid.rows, strict=True))
        grid = Grid((grid.header[0], *grid.labels), grid.header[1:], turned)
    columns = [[grid.header[0], *grid.labels]]
    for at, name in enumerate(grid.header[1:]):
        columns.append([name, *_aligned([row[at] for row in grid.rows])])
    widths = [max(map(cell_len, column)) for column in columns]
    filled = [
        [text + " " * (width - cell_len(text)) for text in column]
        for column, width in zip(columns, widths, strict=True)
    ]
    lines = zip(*filled, strict=True)  # from columns to lines
    head, *body = (GAP.join(line).rstrip() for line in lines)
    return [head, GAP.join("-" * width for width in widths), *body]


def _aligned(cells: Sequence[Shown]) -> list[str]:
    """Numbers flush right, marks behind them."""
    width = max(cell_len(cell.number) for cell in cells)
    return [f"{cell.number.rjust(width)} {cell.marks}".rstrip() for cell in cells]


def _tables(grid: Grid, console: Console, leader: int | None) -> list[Table]:
    """The grid as rich tables that fit the terminal: as many columns side by side as it holds, the
    others below.
    """
    tables, columns = [], list(range(len(grid.header) - 1))
    # Measured as if there were room enough: rich reports no width beyond the one it is given.
    roomy = console.options.update(width=10_000)
    while columns:
        count = len(columns)
        table = _table(grid, columns, leader)
        while count > 1 and console.measure(table, options=roomy).maximum > console.width:
            count -= 1
            table = _table(grid, columns[:count], leader)
        tables.append(table)
        columns = columns[count:]
    return tables


def _table(grid: Grid, columns: Sequence[int], leader: int | None) -> Table:
    table = Table()
    table.add_column(grid.header[0], overflow="fold")
    for column in columns:
        # A combination's name may break behind each modality.
        table.add_column(Text(grid.header[column + 1].replace("+", "+\n")), no_wrap=True)
    cells = [_aligned([row[column] for row in grid.rows]) for column in columns]
    for position, label in enumerate(grid.labels):
        table.add_row(
            Text(label),
            *(Text(column[position]) for column in cells),
            style="bold" if position == leader else None,
        )
    return table
