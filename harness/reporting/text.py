"""What console and report.md say in the same words: cells, marks, and the sentences below a
table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.cells import cell_len

from harness.analysis.comparison import Comparison, Summary
from harness.analysis.results import Hole, Results, dataset_name
from harness.protocol.metrics import Metric
from harness.protocol.schedules import epoch_at

COLLAPSED, MIXED, STALE = "†", "‡", "§"
ABSENT = "–"
PRESENT, MISSING = "●", "○"
MANY_MODALITIES = 3
"""From so many on, combinations are headed by marks: their names are too long to be read."""
COLLAPSED_SENTENCE = (
    f"{COLLAPSED} collapsed: in at least one seed the model predicts the same for every sample; it"
    " counts as scored"
)


@dataclass(frozen=True)
class Shown:
    """One cell as it is printed: the number, and the marks behind it."""

    number: str
    marks: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.marks}".rstrip()


@dataclass(frozen=True)
class Grid:
    """A table ready to be printed: a header, row labels, and one ``Shown`` per column of each
    row.
    """

    header: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]


def number(value: float, metric: Metric) -> str:
    """A value with the metric's decimals.

    >>> from harness.protocol.metrics import METRICS
    >>> number(78.46, METRICS["accuracy"]), number(float("nan"), METRICS["accuracy"])
    ('78.5', '–')
    """
    if math.isnan(value):
        return ABSENT
    return f"{value:.{metric.decimals}f}"


def shown(summary: Summary, planned: int, metric: Metric) -> Shown:
    """``78.5 ± 0.4``, with ``†`` where a model collapsed and ``(2/3)`` where seeds are missing."""
    spread = "" if math.isnan(summary.std) else f" ± {number(summary.std, metric)}"
    marks = [COLLAPSED] if summary.collapsed else []
    marks += [f"({summary.seeds}/{planned})"] if summary.seeds < planned else []
    return Shown(number(summary.mean, metric) + spread, " ".join(marks))


def cell(comparison: Comparison, label: str, combination: str) -> Shown:
    """A row's value on a combination; ``–`` alone where no sample has the combination."""
    if combination in comparison.unseen:
        return Shown(ABSENT)
    return shown(comparison.cells[label, combination], comparison.planned, comparison.metric)


def main_grid(results: Results, comparison: Comparison) -> Grid:
    """Methods x combinations, then average and worst."""
    rows = tuple(
        (
            *(cell(comparison, label, name) for name in comparison.combinations),
            shown(comparison.average[label], comparison.planned, comparison.metric),
            shown(comparison.worst[label], comparison.planned, comparison.metric),
        )
        for label in comparison.labels
    )
    labels = tuple(marked(results, label) for label in comparison.labels)
    return Grid(("method", *columns(results), "average", "worst"), labels, rows)


def columns(results: Results) -> list[str]:
    """A heading for each combination: ``●○●``, a mark for each modality; names where they are few.

    ``columns_sentence`` explains them.
    """
    combinations = results.plan.combinations
    if len(combinations[-1].members) < MANY_MODALITIES:
        return [combination.name for combination in combinations]
    return [
        "".join(PRESENT if present else MISSING for present in combination.mask)
        for combination in combinations
    ]


def columns_sentence(results: Results) -> list[str]:
    """What the marks of ``columns`` mean, where there are any."""
    modalities = results.plan.combinations[-1].members
    if len(modalities) < MANY_MODALITIES:
        return []
    return [
        f"combinations: {PRESENT} present, {MISSING} missing, in the order"
        f" {', '.join(modalities)}; from one modality present to all"
    ]


def marked(results: Results, label: str) -> str:
    """A row's label with its marks: trained on several kinds of device, made by older code."""
    marks = [MIXED] if len(devices(results, label)) > 1 else []
    marks += [STALE] if any(done.status == "stale" for done in results.of(label)) else []
    return " ".join([label, *marks])


def devices(results: Results, label: str) -> set[str]:
    """The kinds of device (cpu, cuda) that a row's trials ran on."""
    return {str(done.record["environment"]["device"]) for done in results.of(label)}


def metric_sentence(results: Results) -> str:
    """``digits, accuracy on test in %, higher is better``."""
    chosen = results.metric
    direction = "higher" if chosen.higher_is_better else "lower"
    unit = f" in {chosen.unit}" if chosen.unit else ""
    return f"{dataset_name(results.plan.spec)}, {chosen.name} on test{unit}, {direction} is better"


def legend(results: Results, comparison: Comparison) -> list[str]:
    """The sentences that a table of results needs below it."""
    return [
        *columns_sentence(results),
        seeds_sentence(results),
        (
            "average: mean over the combinations of each trial; worst: its worst combination; both"
            " then over seeds"
        ),
        *unseen_sentences(results),
        f"checkpoint: {checkpoint_rule(results)}",
        *_reference_sentences(results),
        *_mark_sentences(results, comparison),
    ]


def unseen_sentences(results: Results) -> list[str]:
    """Which combinations no sample of test, or of val, has."""
    total = len(results.plan.combinations)
    told = {
        "test": f"their cells are empty ({ABSENT}), and average and worst are over",
        "val": "weights are selected by the mean over",
    }
    found = []
    for split, what in told.items():
        unseen = results.unseen(split)
        if unseen:
            found.append(
                f"no sample of {split} has {' or '.join(unseen)}: {what} the other"
                f" {total - len(unseen)} of {total} combinations"
            )
    return found


def seeds_sentence(results: Results) -> str:
    """How many seeds, and what ± is."""
    seeds = results.plan.study.seeds
    if len(seeds) == 1:
        return f"one seed ({seeds[0]}): no spread can be given"
    listed = ", ".join(str(seed) for seed in seeds)
    rounds = results.plan.rounds
    least = len(seeds) if rounds is None else min(rounds.seeds.values())
    count = f"{len(seeds)}" if least == len(seeds) else f"{least} to {len(seeds)}"
    return (
        f"{count} seeds ({listed}); ± is the standard deviation over seeds (n-1), not a"
        " confidence interval"
    )


def checkpoint_rule(results: Results) -> str:
    """Which epoch's weights are evaluated."""
    recipe, chosen = results.plan.study.train, results.metric
    first = min(epoch_at(recipe.first_selectable, recipe.epochs), recipe.epochs - 1)
    which = "highest" if chosen.higher_is_better else "lowest"
    start = f", from epoch {first} (counted from 0) on" if first else ""
    count, unseen = len(results.plan.combinations), len(results.unseen("val"))
    which_ones = f"the {count - unseen} of {count}" if unseen else f"all {count}"
    over = f"mean {chosen.name} over {which_ones} combinations"
    if unseen:
        over += " that val samples have"
    if recipe.combination:
        over = f"{chosen.name} on {recipe.combination}"
    return f"the epoch with the {which} {over} on val, ties to the earlier epoch{start}"


def _reference_sentences(results: Results) -> list[str]:
    rows = [row.label for row in results.plan.rows if row.method_class.per_combination]
    return [
        f"{label}: one model per combination, trained and selected on it alone; a reference, not"
        " ranked"
        for label in rows
    ]


def _mark_sentences(results: Results, comparison: Comparison) -> list[str]:
    labels, planned = comparison.labels, comparison.planned
    found = []
    if any(comparison.average[label].collapsed for label in labels):
        found.append(COLLAPSED_SENTENCE)
    if any(comparison.average[label].seeds < planned for label in labels):
        found.append(
            f"(k/{planned}): only k of {planned} seeds are there; rows with different seeds do not"
            " compare on equal terms"
            if results.plan.rounds is None
            else f"(k/{planned}): k seeds, because more were not in question; two rows are compared"
            " on the seeds that both have"
        )
    if any(len(devices(results, label)) > 1 for label in labels):
        found.append(
            f"{MIXED} some trials of the row ran on a CPU and some on a GPU: their last digits are"
            " not comparable"
        )
    if any(done.status == "stale" for done in results.finished):
        found.append(
            f"{STALE} stale: made by another version of the code; rerun=stale runs them again"
        )
    return found


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def harmless_cells(table: pd.DataFrame) -> pd.DataFrame:
    """A table to be opened in a spreadsheet: no text of it is taken for a formula.

    Such a text gets an apostrophe in front, which spreadsheets hide; numbers stay as they are.
    """
    harmless: pd.DataFrame = table.apply(
        lambda column: column if is_numeric_dtype(column) else column.map(_harmless)
    )
    return harmless


def _harmless(cell: object) -> object:
    """A cell of a spreadsheet.

    >>> _harmless("=1+1"), _harmless("-0.5"), _harmless(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    formula = isinstance(cell, str) and cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns also line up in a text editor.

    >>> pipe_table(["a", "b"], [["1|2", "x"]])
    ['| a    | b |', '| ---- | - |', '| 1\\\\|2 | x |']
    """
    lines = [
        [" ".join(text.replace("|", "\\|").split()) for text in line] for line in (header, *rows)
    ]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    filled = [map(_filled, line, widths) for line in lines]
    return [f"| {' | '.join(line)} |" for line in filled]


def _filled(text: str, width: int) -> str:
    """A text with blanks behind it, as wide as a column."""
    return text + " " * (width - cell_len(text))


def hole_lines(missing: Sequence[Hole], logs: str) -> list[str]:
    """One line per planned trial that is not in the table.

    ``logs`` is the store's folder as it should be named.
    """
    return [
        f"{hole.name} (trial {hole.trial_id}), {hole.state}: {hole.reason}"
        + (f" (log: {logs}/{hole.trial_id}/log.txt)" if hole.state == "failed" else "")
        for hole in missing
    ]
