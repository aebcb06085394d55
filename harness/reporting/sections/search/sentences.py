"""What the section on the search says in sentences: its rules, its budgets, what each row found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.findings import Findings
from harness.reporting.sections.search.texts import assignments, title
from harness.reporting.wording import p_value, size
from harness.search.results import SearchResult


def lines(findings: Findings, found: Sequence[SearchResult]) -> list[str]:
    """How the search went, and what it says of each row's own values."""
    metric = found[0].metric
    seeds = dict.fromkeys(", ".join(map(str, one.search.config.seeds)) for one in found)
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
            f"{title(one, found)} {one.subject.points} with {len(one.search.config.seeds)} tuning"
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
    """What must be known of one row's search, and what it found."""
    label = one.subject.row.label
    said = []
    if not one.over:
        said.append(
            f"{label}: {len(one.points)} of {one.subject.points} points are told; the winner is"
            " known when all are"
        )
    if one.failed:
        said.append(
            f"{label}: {len(one.failed)} of {len(one.points)} points failed; they count as tried"
            " and cannot win"
        )
    if not one.subject.space.has(one.subject.own):
        said.append(
            f"{label}: the study's own values lie outside of the search; only their row on test"
            " tells about them"
        )
    return [*said, *_noise(one), *_sensitivity(one)]


def _noise(one: SearchResult) -> list[str]:
    """From which difference on two points can be told apart, and whether the points differ."""
    noise = one.noise
    if noise is None:
        return []
    verdict = "their seeds alone may explain it"
    if noise.p < 0.05:
        verdict = "the points differ by more than their seeds explain"
    p = p_value(noise.p)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    return [
        f"{one.subject.row.label}: two points differ significantly on val from"
        f" {size(noise.detectable, one.metric)} on (5 %, by the scatter over seeds of the better"
        f" half, not corrected for their number); over all, {verdict} (F test, {p})"
    ]


def _sensitivity(one: SearchResult) -> list[str]:
    """How much is lost by the study's own values, on val."""
    if not one.over or one.own is None or one.best is None or math.isnan(one.loss):
        return []
    label, values = one.subject.row.label, assignments(one, one.own)
    if one.own is one.best:
        return [
            f"{label}: no point is better on val than the study's own values ({values}): they win,"
            " and nothing is lost by them"
        ]
    within = ""
    if one.noise is not None and one.loss < one.noise.detectable:
        within = ", which is within the noise of two points"
    return [
        f"{label}: the study's own values ({values}) lose {size(one.loss, one.metric)} on val"
        f" against the best point ({assignments(one, one.best)}){within}"
    ]
