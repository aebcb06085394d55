"""Tables of the section on the search: budgets, gains on test, importance, all points."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.reporting.document import Table, table
from harness.reporting.sections.search.texts import assignments, coordinates, marks, point_value
from harness.reporting.text import ABSENT, number
from harness.reporting.wording import signed, size
from harness.search.results import PointResult, SearchResult


def budgets(found: Sequence[SearchResult]) -> Table:
    """What each row's search has cost so far, and its best point beside the study's own one."""
    header = [
        "row",
        "searched",
        "points",
        "trials",
        "failed points",
        "best",
        "its val",
        "val of its own",
        "lost by its own",
    ]
    rows = []
    for one in found:
        done, planned, seeds = len(one.points), one.subject.points, len(one.search.config.seeds)
        rows.append(
            [
                one.subject.row.label,
                one.search.describe(one.subject),
                f"{done} of {planned}",
                f"{done * seeds} of {planned * seeds}",
                str(len(one.failed)),
                assignments(one, one.best) if one.best else ABSENT,
                point_value(one.best, one.metric),
                point_value(one.own, one.metric),
                size(one.loss, one.metric),
            ]
        )
    return table(
        header,
        rows,
        f"Budgets, and what was found: {found[0].metric.name} on val, mean ± std over tuning seeds",
    )


def on_test(findings: Findings, found: Sequence[SearchResult]) -> Table | None:
    """Each searched row against the row it was searched for, on seeds that the search has not
    seen.
    """
    metric, average = findings.comparison.metric, findings.comparison.average
    rows = []
    for one in found:
        own = one.subject.row.label
        pair = next((pair for pair in findings.against(own) if pair.label == one.row), None)
        if pair is None:
            continue
        rows.append(
            [
                own,
                number(average[own].mean, metric),
                number(average[pair.label].mean, metric),
                signed(pair.value, metric),
                f"{signed(pair.low, metric)} to {signed(pair.high, metric)}",
                pair.verdict or "not told apart",
            ]
        )
    header = ["row", "own values", "searched", "searched minus own", "95 % interval", "searched is"]
    caption = (
        f"What the search gains on test, on the study's own seeds: average {metric.name} over the"
        " combinations"
    )
    return table(header, rows, caption, paper=True) if rows else None


def importance(found: Sequence[SearchResult]) -> Table | None:
    """How much of the values' spread each hyperparameter explains, by each estimate of Optuna."""
    estimates = list(dict.fromkeys(name for one in found for name in one.importance))
    if not estimates:
        return None
    rows = []
    for one in found:
        for axis in one.subject.space.axes:
            shares = [_share(one, estimate, axis.name) for estimate in estimates]
            rows.append([one.subject.row.label, axis.name, *shares])
    caption = (
        "Importance of each hyperparameter on val, shares of one by Optuna's estimates; of noise"
        " where points do not differ"
    )
    return table(["row", "hyperparameter", *estimates], rows, caption)


def _share(one: SearchResult, estimate: str, axis: str) -> str:
    share = one.importance.get(estimate, {}).get(axis)
    return ABSENT if share is None else f"{share:.2f}"


def points(one: SearchResult) -> Table:
    """Every point of one row, with its value for each tuning seed."""
    header = [
        "number",
        *(axis.name for axis in one.subject.space.axes),
        "val",
        *(f"seed {seed}" for seed in one.search.config.seeds),
        "what",
    ]
    rows = [
        [
            str(scored.evaluated.number),
            *coordinates(one, scored),
            point_value(scored, one.metric),
            *(number(value, one.metric) for value in scored.seeds),
            _remark(one, scored),
        ]
        for scored in one.points
    ]
    return table(
        header,
        rows,
        f"The points of {one.subject.row.label} in their order: {one.metric.name} on val",
    )


def _remark(one: SearchResult, scored: PointResult) -> str:
    """Why a point failed, or what is special about it."""
    if scored.evaluated.value is None:
        return scored.evaluated.reason
    return ", ".join(marks(one, scored))
