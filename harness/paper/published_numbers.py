"""Published numbers beside measured ones: what a paper printed, where it contradicts itself, and
how far ours are from it.

Values are kept as printed (exact decimals). Nothing here is ever a row of a table of results:
published cells are joined with a finished comparison and handed out as a type of their own, so that
no ranking can hold them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from functools import cache
from pathlib import Path

from harness.analysis.comparison import Comparison, Summary
from harness.errors import UserError
from harness.study.config import STUDIES, load_study, study_files
from harness.study.plan import Plan
from harness.study.settings import Study, leaves

PAPER = STUDIES / "reference" / "dmrnet_paper.csv"
"""Tables 1 to 7 of Wei et al., Robust Multimodal Learning via Representation Decoupling, ECCV 2024.
"""

LOG = STUDIES / "reference" / "dmrnet_log.csv"
"""One run in the test log of that paper's public code (face-antispoofing/test/dul_auxi_share.txt:
beta = 0.7, run 2).

The log was written by other code than the released trainer. That the paper's column is this run is
an inference from the numbers.
"""

COLUMNS = ("table", "dataset", "metric", "method", "combination", "value")
LOG_COLUMNS = COLUMNS[1:]
AVERAGE = "average"
TOLERANCE = Decimal("0.01")
"""How far a printed average may be from the mean of its own column: one unit of its last digit, for
rounding and truncation.
"""

CENT = Decimal("0.01")
RUNS_NOT_STATED = (
    "the paper does not say over how many runs its values are averaged, nor gives their spread"
)
Interval = tuple[float, float]


@dataclass(frozen=True)
class Published:
    """One printed cell.

    ``label`` is the row as our studies call it, ``combination`` a combination or ``average``.

    ``table`` is 0 for a cell of a log.
    """

    table: int
    dataset: str
    metric: str
    label: str
    combination: str
    value: Decimal

    @property
    def column(self) -> tuple[int, str, str, str]:
        """What the cells of one average have in common: table, dataset, metric and label."""
        return self.table, self.dataset, self.metric, self.label

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The cell whatever the table: dataset, metric, label and combination."""
        return self.dataset, self.metric, self.label, self.combination


@dataclass(frozen=True)
class WrongAverage:
    """A printed average that is not the mean of the cells printed with it."""

    printed: Published
    mean: Decimal

    @property
    def note(self) -> str:
        """The mark beside the number."""
        return f"printed average; its own column has the mean {self.mean.quantize(CENT)}"

    def __str__(self) -> str:
        cell = self.printed
        return (
            f"Table {cell.table}, {cell.dataset}, {cell.label}: printed {cell.value}, mean of its"
            f" column {self.mean:.3f}"
        )


@dataclass(frozen=True)
class PublishedComparison:
    """A published cell and ours.

    ``measured`` and ``difference`` (measured minus published) are None without a finished seed;
    ``within`` tells whether the published value lies in our interval, None without one. ``marks``
    are sentences about the published number.
    """

    published: Published
    measured: float | None
    seeds: int
    interval: Interval | None
    marks: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured is None else self.measured - float(self.published.value)

    @property
    def within(self) -> bool | None:
        """Whether the published value lies within the interval of the measured mean, bounds
        included.
        """
        if self.measured is None or self.interval is None:
            return None
        low, high = self.interval
        return low <= float(self.published.value) <= high


# ---------------------------------------------------------------------- reading


@cache
def load(path: Path = PAPER) -> tuple[Published, ...]:
    """All cells of a file with ``COLUMNS``, or of a log without the table.

    UserError names file and line of a mistake.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.reader(stream))
    except OSError as error:
        raise UserError(
            f"{path}: the published numbers cannot be read: {error.strerror}"
        ) from error
    header = tuple(lines[0]) if lines else ()
    if header not in (COLUMNS, LOG_COLUMNS):
        raise UserError(f"{path}: the first line must be {','.join(COLUMNS)} (a log has no table)")
    cells = [
        _cell(header, line, f"{path.name} line {number}")
        for number, line in enumerate(lines[1:], 2)
    ]
    seen: set[tuple[object, ...]] = set()
    for number, cell in enumerate(cells, 2):
        place = (*cell.column, cell.combination)
        if place in seen:
            raise UserError(
                f"{path.name} line {number}: the cell {cell.label}, {cell.combination} of table"
                f" {cell.table} is there twice"
            )
        seen.add(place)
    return tuple(cells)


def _cell(header: Sequence[str], line: Sequence[str], where: str) -> Published:
    if len(line) != len(header) or not all(line):
        raise UserError(
            f"{where}: {len(header)} values are needed ({', '.join(header)}), none of them empty"
        )
    given = dict(zip(header, line, strict=True))
    try:
        table = int(given.get("table", "0"))
    except ValueError as error:
        raise UserError(f"{where}: table={given['table']} must be a whole number") from error
    try:
        value = Decimal(given["value"])
    except InvalidOperation as error:
        raise UserError(f"{where}: value={given['value']} is not a number") from error
    if not value.is_finite():
        raise UserError(f"{where}: value={given['value']} must be a finite number")
    return Published(
        table, given["dataset"], given["metric"], given["method"], given["combination"], value
    )


def published(
    table: int, dataset: str, cells: Iterable[Published] | None = None
) -> tuple[Published, ...]:
    """The cells of one table on one dataset, none when the table is about others.

    UserError for a table that does not exist.
    """
    every = load() if cells is None else tuple(cells)
    tables = sorted({cell.table for cell in every})
    if table not in tables:
        raise UserError(
            f"published_table={table} does not exist; there are {', '.join(map(str, tables))}"
        )
    return tuple(cell for cell in every if (cell.table, cell.dataset) == (table, dataset))


# ---------------------------------------------------------------------- what is wrong with them


def wrong_averages(
    cells: Iterable[Published] | None = None, tolerance: Decimal = TOLERANCE
) -> list[WrongAverage]:
    """The printed averages that differ from the mean of their own column by more than
    ``tolerance``.

    In exact decimals: 50.74 beside a mean of 50.75 differs by 0.01, not by more. An average that is
    printed without its column is not judged.
    """
    every = load() if cells is None else tuple(cells)
    columns = _columns(every)
    found = []
    for cell in every:
        others = [other.value for other in columns[cell.column] if other.combination != AVERAGE]
        if cell.combination == AVERAGE and others:
            mean = sum(others, Decimal(0)) / len(others)
            if abs(cell.value - mean) > tolerance:
                found.append(WrongAverage(cell, mean))
    return found


def _columns(cells: Iterable[Published]) -> dict[tuple[int, str, str, str], list[Published]]:
    columns: dict[tuple[int, str, str, str], list[Published]] = {}
    for cell in cells:
        columns.setdefault(cell.column, []).append(cell)
    return columns


def printed_otherwise(cell: Published, cells: Iterable[Published]) -> str | None:
    """Where the paper prints another value for the same cell, as a sentence.

    None if it does not.
    """
    other = [c for c in cells if c.key == cell.key and c.value != cell.value]
    return (
        f"printed as {' and '.join(f'{c.value} in Table {c.table}' for c in other)}"
        if other
        else None
    )


def single_run(column: Sequence[Published], log: Iterable[Published] | None = None) -> str | None:
    """Why a column looks like one run instead of a mean over seeds, as a sentence.

    None where nothing says so.

    The evidence is a logged run whose cells and mean, truncated to the printed digits, are the
    column's but for at most one cell.
    """
    logged = {cell.key: cell.value for cell in (load(LOG) if log is None else log)}
    cells = [cell for cell in column if cell.combination != AVERAGE]
    average = [cell for cell in column if cell.combination == AVERAGE]
    if not cells or not average or any(cell.key not in logged for cell in cells):
        return None
    unlike = [cell for cell in cells if _cut(logged[cell.key]) != cell.value]
    mean = _cut(sum((logged[cell.key] for cell in cells), Decimal(0)) / len(cells))
    if len(unlike) > 1 or mean != average[0].value:
        return None
    but = "".join(f"; {cell.combination} is {_cut(logged[cell.key])} there" for cell in unlike)
    like = f"{len(cells) - len(unlike)} of {len(cells)} cells and the average"
    return (
        f"single run, as it seems: {like} are, truncated, those of one run in the authors' public"
        f" test log{but}"
    )


def _cut(value: Decimal) -> Decimal:
    return value.quantize(CENT, rounding=ROUND_DOWN)


# ---------------------------------------------------------------------- beside ours


def compare_with_published(
    cells: Sequence[Published],
    comparison: Comparison,
    intervals: Mapping[tuple[str, str], Interval | None] | None = None,
    others: Mapping[tuple[str, str, str], Summary] | None = None,
) -> list[PublishedComparison]:
    """Each published cell of a table with the measured mean over seeds, in the order of the table.

    Args:
        cells: of one table and dataset (``published``); labels that the study has not are kept,
            without a measured value.
        comparison: ours, on the same dataset.
        intervals: (label, combination or ``average``) -> interval of our mean.
        others: (metric, label, combination or ``average``) -> ours, for metrics that are not the
            comparison's.
    """
    every = load()
    wrong = {note.printed: note.note for note in wrong_averages(every)}
    runs = {column: single_run(of) for column, of in _columns(cells).items()}
    found = []
    for cell in cells:
        summary = _measured(cell, comparison) or (others or {}).get(
            (cell.metric, cell.label, cell.combination)
        )
        interval = (
            (intervals or {}).get((cell.label, cell.combination))
            if cell.metric == comparison.metric.name
            else None
        )
        marks = (wrong.get(cell), printed_otherwise(cell, every), runs[cell.column])
        there = summary is not None and summary.seeds > 0
        mean, seeds = (summary.mean, summary.seeds) if summary is not None and there else (None, 0)
        found.append(
            PublishedComparison(
                cell,
                mean,
                seeds,
                interval if there else None,
                tuple(mark for mark in marks if mark),
            )
        )
    return found


def _measured(cell: Published, comparison: Comparison) -> Summary | None:
    if cell.metric != comparison.metric.name:
        return None
    if cell.combination == AVERAGE:
        return comparison.average.get(cell.label)
    return comparison.cells.get((cell.label, cell.combination))


def reservations(plan: Plan) -> list[str]:
    """What a reader must know before comparing this study with the published table, in
    sentences.
    """
    data = plan.spec
    synthetic = (
        [f"{data.name} is a synthetic sample here: no published value says anything about it"]
        if data.synthetic
        else []
    )
    changed = _changed(plan.study)
    recipe = [f"this run is not the shipped study: other {', '.join(changed)}"] if changed else []
    return [*synthetic, *recipe, RUNS_NOT_STATED]


def _changed(study: Study) -> list[str]:
    """The keys that decide results and that differ from the shipped study of the name.

    None for a study of the user's own.
    """
    if study.name not in study_files():
        return []
    shipped = {key: value for key, value, _ in leaves(load_study([f"study={study.name}"]))}
    deciding = (
        "train.",
        "missing.",
        "evaluation.",
        "backbone",
        "hparams",
        "dataset.protocol",
        "dataset.limit",
        "dataset.options",
    )
    return [
        key for key, value, _ in leaves(study) if key.startswith(deciding) and value != shipped[key]
    ]
