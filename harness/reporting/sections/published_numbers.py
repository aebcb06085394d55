"""The report's section with a paper's numbers beside ours.

Nothing published stands in a ranking.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.analysis.findings import Findings
from harness.paper.findings import PaperFindings
from harness.paper.published_numbers import AVERAGE, PublishedComparison
from harness.protocol.metrics import METRICS
from harness.reporting.document import Section, Table, bullets, section, table
from harness.reporting.text import ABSENT
from harness.reporting.wording import signed

INSIDE = {True: "yes", False: "no", None: ABSENT}
HEADER = (
    "metric",
    "method",
    "combination",
    "published",
    "measured",
    "difference",
    "published within our interval",
    "about the print",
)


def published(findings: Findings, paper: PaperFindings) -> Section:
    """The averages first, then every cell; none when no table of the paper is about this study."""
    found, number_of = paper.published, findings.results.plan.study.published_table
    if number_of is None:
        return section("Paper beside measured", "The paper has no table for this study.")
    if not found:
        name = findings.results.plan.spec.name
        return section(
            "Paper beside measured",
            f"Table {number_of} of the paper has no values for {name}.",
        )
    averages = [one for one in found if one.published.combination == AVERAGE]
    rows = [_row(one) for one in averages]
    lines = [
        *paper.reservations,
        *_weights(findings, {one.published.label for one in found}),
        (
            "difference: measured minus published; within: whether the published value lies in the"
            " 95 % interval of our mean"
        ),
        *([f"our intervals: {findings.reserve}"] if findings.reserve else []),
        "published values are never ranked",
    ]
    caption = f"Averages of Table {number_of} of the paper beside ours"
    head = table(HEADER, rows, caption, paper=True) if rows else None
    lead = _lead(averages or found, number_of)
    return section("Paper beside measured", lead, bullets(lines), head, _cells(found, number_of))


def _lead(found: Sequence[PublishedComparison], number_of: int) -> str:
    asked = [one for one in found if one.within is not None]
    if not asked:
        return f"No value of Table {number_of} of the paper has an interval of ours beside it."
    inside = sum(bool(one.within) for one in asked)
    return (
        f"{inside} of {len(asked)} published averages of Table {number_of} lie in the 95 % interval"
        " of ours."
    )


def _weights(findings: Findings, labels: Collection[str]) -> list[str]:
    """What the published weights of the compared rows amount to."""
    plan = findings.results.plan
    batch_size = plan.study.train.batch_size
    return [
        f"{row.label}: {note}"
        for row in plan.rows
        if row.label in labels
        for note in row.weight_notes(plan.spec, batch_size)
    ]


def _cells(found: Sequence[PublishedComparison], number_of: int) -> Table | None:
    # What is said of a whole column stands beside its average.
    said = {
        (one.published.column, mark)
        for one in found
        if one.published.combination == AVERAGE
        for mark in one.marks
    }
    rows = [_row(one, said) for one in found if one.published.combination != AVERAGE]
    return table(HEADER, rows, f"Every cell of Table {number_of}") if rows else None


def _row(one: PublishedComparison, said: Collection[object] = ()) -> list[str]:
    cell = one.published
    # The paper prints two decimals in percent, and no fewer of anything else.
    metric = METRICS.get(cell.metric)
    marks = [mark for mark in one.marks if (cell.column, mark) not in said]
    measured = ABSENT if one.measured is None else f"{one.measured:.2f}"
    gap = (
        ABSENT
        if one.difference is None
        else (
            signed(one.difference, metric) if metric else f"{one.difference:+.2f}".replace("-", "−")
        )
    )
    return [
        cell.metric,
        cell.label,
        cell.combination,
        str(cell.value),
        measured,
        gap,
        INSIDE[one.within],
        "; ".join(marks),
    ]
