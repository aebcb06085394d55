"""The report's section on the search: budgets, what was found, its surface with its noise, and what
the study's own values lose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.findings import Findings
from harness.protocol.metrics import Metric
from harness.reporting.answer import listed, signed, size
from harness.reporting.document import (
    Block,
    Code,
    Figure,
    Paragraph,
    Section,
    Strong,
    Table,
    bullets,
    section,
    table,
)
from harness.reporting.figures import grid_surface, point_surface, search_curve
from harness.reporting.sections.comparison import p_value
from harness.reporting.text import ABSENT, number
from harness.search.plan import JOURNAL, SEARCHED
from harness.search.results import PointResult, SearchResult
from harness.study.rows import short

TITLE = "Search"
OWN, BEST = "own", "best"
NO_SEARCH = "This study searches no hyperparameters: each row has those listed with its method."
ELSEWHERE = (
    f"The rows called {SEARCHED} have values that a search found; its journal and its trials on val"
    " are not here."
)


def search(findings: Findings, found: Sequence[SearchResult]) -> Section:
    """How hyperparameters were found; a sentence for a study that searches none."""
    if not found:
        elsewhere = any(row.label.endswith(SEARCHED) for row in findings.results.plan.rows)
        return section(TITLE, ELSEWHERE if elsewhere else NO_SEARCH)
    blocks: list[Block | None] = [_curve(found)] if any(one.points for one in found) else []
    blocks += [
        bullets(_lines(findings, found)),
        _budgets(found),
        _on_test(findings, found),
    ]
    for number_of, one in enumerate(found):
        blocks += _surface(one, number_of)
    blocks += [_importance(found), *(_points(one) for one in found if one.points)]
    named = [f"{_title(one, found)} at {one.subject.points} points" for one in found]
    return section(
        TITLE,
        f"Searched: {listed(named)}.",
        *blocks,
        Paragraph("Optuna's dashboard shows every point:"),
        _dashboard(findings, found),
    )


def _dashboard(findings: Findings, found: Sequence[SearchResult]) -> Code:
    studies = dict.fromkeys(one.search.plan.study.name for one in found)
    output = findings.results.plan.study.output
    return Code("\n".join(f"optuna-dashboard {output}/{name}/{JOURNAL}" for name in studies))


# ---------------------------------------------------------------------- sentences


def _lines(findings: Findings, found: Sequence[SearchResult]) -> list[str]:
    metric, seeds = (
        found[0].metric,
        dict.fromkeys(", ".join(map(str, one.search.config.seeds)) for one in found),
    )
    which = "highest" if metric.higher_is_better else "lowest"
    return [
        (
            f"each point is trained with every tuning seed ({'; '.join(seeds)}) and gets the mean"
            f" of their {metric.name} on val, averaged over the combinations, at the selected"
            " epoch; its trials are not evaluated on test"
        ),
        (
            f"the point with the {which} value wins, the earliest of equals, and is trained again"
            " on the study's own seeds: its row is called [searched], unless the study has a row"
            " with these values"
        ),
        (
            "the best of many points looks better on val than it is; what it gains is read from"
            " test, on seeds that the search has not seen"
        ),
        (
            "own: the values of the row in this study, which are the published ones unless the"
            " study sets others; they are a point of the search, the first"
        ),
        *([f"differences on test: {findings.reserve}"] if findings.reserve else []),
        _equal(found),
        *(sentence for one in found for sentence in _about(one)),
    ]


def _equal(found: Sequence[SearchResult]) -> str:
    """Whether the searched rows had the same number of trials."""
    budgets = {one.subject.points for one in found}
    if len(found) == 1:
        return (
            f"one row is searched, with {budgets.pop()} points; rows that are not have the values"
            " listed with their method"
        )
    if len({tuple(one.search.config.seeds) for one in found}) > 1:
        each = [
            f"{_title(one, found)} {one.subject.points} with {len(one.search.config.seeds)} tuning"
            " seeds"
            for one in found
        ]
        return (
            "budgets of different studies, which are not equal ones: points of"
            f" {'; of '.join(each)}"
        )
    if len(budgets) == 1:
        return (
            f"equal budgets: every searched row has {budgets.pop()} points with the same tuning"
            " seeds"
        )
    most = max(budgets)
    fewer = [
        f"{one.subject.row.label} has only {one.subject.points} different points"
        for one in found
        if one.subject.points < most
    ]
    return (
        f"budgets: {most} points with the same tuning seeds for every searched row, but"
        f" {'; '.join(fewer)}"
    )


def _about(one: SearchResult) -> list[str]:
    label, noise, metric = one.subject.row.label, one.noise, one.metric
    lines = []
    if not one.over:
        lines.append(
            f"{label}: {len(one.points)} of {one.subject.points} points are told; the winner is"
            " known when all are"
        )
    if one.failed:
        lines.append(
            f"{label}: {len(one.failed)} of {len(one.points)} points failed; they count as tried"
            " and cannot win"
        )
    if not one.subject.space.has(one.subject.own):
        lines.append(
            f"{label}: the study's own values lie outside of the search; only their row on test"
            " tells about them"
        )
    if noise is not None:
        verdict = (
            "the points differ by more than their seeds explain"
            if noise.p < 0.05
            else "their seeds alone may explain it"
        )
        lines.append(
            f"{label}: two points differ significantly on val from {size(noise.detectable, metric)}"
            " on (5 %, by the scatter over seeds of the better half, not corrected for their"
            f" number); over all, {verdict} (F test, {_p(noise.p)})"
        )
    return [*lines, *_sensitivity(one)]


def _p(p: float) -> str:
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _sensitivity(one: SearchResult) -> list[str]:
    """How much is lost by the study's own values, on val."""
    if not one.over or one.own is None or one.best is None or math.isnan(one.loss):
        return []
    label, values = one.subject.row.label, _values(one, one.own)
    if one.own is one.best:
        return [
            f"{label}: no point is better on val than the study's own values ({values}): they win,"
            " and nothing is lost by them"
        ]
    noise = one.noise
    within = (
        ", which is within the noise of two points"
        if noise is not None and one.loss < noise.detectable
        else ""
    )
    return [
        f"{label}: the study's own values ({values}) lose {size(one.loss, one.metric)} on val"
        f" against the best point ({_values(one, one.best)}){within}"
    ]


# ---------------------------------------------------------------------- tables


def _budgets(found: Sequence[SearchResult]) -> Table:
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
        trials = (
            f"{len(one.points) * len(one.search.config.seeds)} of"
            f" {one.subject.points * len(one.search.config.seeds)}"
        )
        points = f"{len(one.points)} of {one.subject.points}"
        best = _values(one, one.best) if one.best else ABSENT
        values = [
            _told(one.best, one.metric),
            _told(one.own, one.metric),
            size(one.loss, one.metric),
        ]
        rows.append(
            [
                one.subject.row.label,
                one.search.describe(one.subject),
                points,
                trials,
                str(len(one.failed)),
                best,
                *values,
            ]
        )
    return table(
        header,
        rows,
        f"Budgets, and what was found: {found[0].metric.name} on val, mean ± std over tuning seeds",
    )


def _on_test(findings: Findings, found: Sequence[SearchResult]) -> Table | None:
    """Each searched row against the row it was searched for, on seeds that the search has not
    seen.
    """
    metric, rows = findings.comparison.metric, []
    for one in found:
        own, winner = one.subject.row.label, one.row
        pair = next((against for against in findings.against(own) if against.label == winner), None)
        if pair is None:
            continue
        means = [
            number(findings.comparison.average[label].mean, metric) for label in (own, pair.label)
        ]
        interval = f"{signed(pair.low, metric)} to {signed(pair.high, metric)}"
        verdict = pair.verdict or "not told apart"
        rows.append([own, *means, signed(pair.value, metric), interval, verdict])
    header = ["row", "own values", "searched", "searched minus own", "95 % interval", "searched is"]
    caption = (
        f"What the search gains on test, on the study's own seeds: average {metric.name} over the"
        " combinations"
    )
    return table(header, rows, caption, paper=True) if rows else None


def _importance(found: Sequence[SearchResult]) -> Table | None:
    names = list(dict.fromkeys(name for one in found for name in one.importance))
    rows = [
        [one.subject.row.label, axis.name, *(_share(one, name, axis.name) for name in names)]
        for one in found
        for axis in one.subject.space.axes
    ]
    caption = (
        "Importance of each hyperparameter on val, shares of one by Optuna's estimates; of noise"
        " where points do not differ"
    )
    return table(["row", "hyperparameter", *names], rows, caption) if names else None


def _share(one: SearchResult, estimate: str, axis: str) -> str:
    share = one.importance.get(estimate, {}).get(axis)
    return ABSENT if share is None else f"{share:.2f}"


def _points(one: SearchResult) -> Table:
    header = [
        "number",
        *(axis.name for axis in one.subject.space.axes),
        "val",
        *map(_seed, one.search.config.seeds),
        "what",
    ]
    rows = []
    for scored in one.points:
        values = [number(value, one.metric) for value in scored.seeds]
        what = (
            scored.evaluated.reason
            if scored.evaluated.value is None
            else ", ".join(_marks(one, scored))
        )
        rows.append(
            [
                str(scored.evaluated.number),
                *_texts(one, scored),
                _told(scored, one.metric),
                *values,
                what,
            ]
        )
    return table(
        header,
        rows,
        f"The points of {one.subject.row.label} in their order: {one.metric.name} on val",
    )


def _marks(one: SearchResult, scored: PointResult) -> list[str]:
    return [mark for mark, other in ((BEST, one.best), (OWN, one.own)) if scored is other]


def _seed(seed: int) -> str:
    return f"seed {seed}"


def _told(scored: PointResult | None, metric: Metric) -> str:
    if scored is None or scored.evaluated.value is None:
        return ABSENT
    spread = "" if math.isnan(scored.std) else f" ± {number(scored.std, metric)}"
    return number(scored.mean, metric) + spread


def _texts(one: SearchResult, scored: PointResult) -> list[str]:
    declared = one.subject.row.method_class.hyperparameters
    return [
        short(scored.point[axis.name], declared[axis.name].log) for axis in one.subject.space.axes
    ]


def _values(one: SearchResult, scored: PointResult) -> str:
    return ", ".join(
        f"{axis.name}={text}"
        for axis, text in zip(one.subject.space.axes, _texts(one, scored), strict=True)
    )


# ---------------------------------------------------------------------- figures


def _curve(found: Sequence[SearchResult]) -> Figure:
    metric = found[0].metric
    series = {
        _title(one, found): ([scored.mean for scored in one.points], one.so_far)
        for one in found
        if one.points
    }
    drawing = search_curve(series, f"{metric.axis} on val", metric.higher_is_better)
    return Figure(
        "search",
        drawing,
        "The search: every point, and the best so far; a triangle stands for a point beyond the"
        " scale",
    )


def _title(one: SearchResult, found: Sequence[SearchResult]) -> str:
    """The row's label, behind its study's name where several studies search a row of that label."""
    label = one.subject.row.label
    return (
        label
        if [other.subject.row.label for other in found].count(label) == 1
        else f"{one.search.plan.study.name}: {label}"
    )


def _surface(one: SearchResult, number_of: int) -> list[Block]:
    """Value and noise over two hyperparameters: cells for lists, dots for intervals.

    Nothing for any other number of them.
    """
    axes, there = (
        one.subject.space.axes,
        [scored for scored in one.points if scored.evaluated.value is not None],
    )
    if len(axes) != 2 or not there:
        return []
    label, title = (
        one.subject.row.label,
        f"{axes[0].name} and {axes[1].name} of {one.subject.row.label}",
    )
    name, higher = f"surface-{_anchor(label)}-{number_of}", one.metric.higher_is_better
    text = f"{title}: {one.metric.name} on val, mean ± std over tuning seeds"
    colours = "brighter is better, and the darkest stands for anything worse"
    if one.subject.listed:
        cells = _cells(one)
        drawing = grid_surface(name, cells, (axes[0].name, axes[1].name), higher)
        return [Figure(name, drawing, f"{text}; {colours}"), _surface_table(one, cells, text)]
    if any(isinstance(value, str | bool) for value in one.subject.own.values()):
        return []
    dots = [
        (float(scored.point[axes[0].name]), float(scored.point[axes[1].name]), scored.mean)
        for scored in there
    ]
    drawing = point_surface(
        name, dots, (axes[0].name, axes[1].name), (axes[0].log, axes[1].log), higher
    )
    return [
        Figure(name, drawing, f"{title}: {one.metric.name} on val, the best with a ring; {colours}")
    ]


def _cells(one: SearchResult) -> dict[tuple[str, str], tuple[float, str]]:
    """Text of both values -> mean and what is printed, in the order of the lists.

    Without a number where there is no value.
    """
    declared = one.subject.row.method_class.hyperparameters
    down, across = (
        [short(value, declared[axis.name].log) for value in axis.values]
        for axis in one.subject.space.axes
    )
    found = {(first, second): (math.nan, ABSENT) for first in down for second in across}
    for scored in one.points:
        first, second = _texts(one, scored)
        marks = ", ".join(_marks(one, scored))
        found[first, second] = (
            scored.mean,
            _told(scored, one.metric) + (f" ({marks})" if marks else ""),
        )
    return found


def _surface_table(
    one: SearchResult, cells: Mapping[tuple[str, str], tuple[float, str]], caption: str
) -> Table:
    down, across = (list(dict.fromkeys(pair[at] for pair in cells)) for at in (0, 1))
    texts = {pair: text for pair, (_, text) in cells.items()}
    if one.best is not None:
        first, second = _texts(one, one.best)
        texts[first, second] = Strong(texts[first, second])
    names = " \\ ".join(axis.name for axis in one.subject.space.axes)
    return table(
        [names, *across], [[row, *(texts[row, at] for at in across)] for row in down], caption
    )


def _anchor(label: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in label)
