"""The report's section on how rows behave as modalities go missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.findings import Findings
from harness.analysis.robustness import PROBABILITIES, RowRobustness, shapley_estimates
from harness.analysis.statistics import Difference
from harness.protocol.metrics import Metric
from harness.reporting.document import Figure, Section, Table, bullets, section, table
from harness.reporting.figures import curves
from harness.reporting.sections.robustness.reliability import (
    NO_CONFIDENCE,
    RELIABILITY_NOTES,
    regression,
    reliability,
    risk_figure,
)
from harness.reporting.text import ABSENT, number
from harness.reporting.wording import interval, signed

CHANCES = (0.25, 0.75, 0.9)
"""Of the curve, those in the table; at 0.5 the expectation is the mean over the combinations."""


def robustness(findings: Findings) -> Section:
    """Summaries, the curve over the chance of presence, steps that hurt, Shapley values,
    reliability.
    """
    metric = findings.comparison.metric
    return section(
        "Robustness",
        _lead(findings),
        _by_present(findings),
        _bernoulli(findings),
        None if regression(findings) else risk_figure(findings),
        _summaries(findings.robustness, metric),
        _steps(findings),
        _shapley(findings),
        *(() if regression(findings) else reliability(findings)),
        bullets(_notes(findings)),
    )


def _lead(findings: Findings) -> str:
    """How far rows fall from everything present to the fewest modalities."""
    metric, views = findings.comparison.metric, list(findings.robustness.values())
    sizes = sorted({size for view in views for size in view.by_present})
    ends = [sizes[0], sizes[-1]] if len(sizes) > 1 else sizes
    parts = []
    for size in ends:
        values = [view.by_present[size] for view in views if size in view.by_present]
        low, high = number(min(values), metric), number(max(values), metric)
        there = low if low == high else f"{low} to {high}"
        modalities = "modality" if size == 1 else "modalities"
        parts.append(f"{there} with {size} {modalities} present")
    if not parts:
        return "No row has a value yet."
    return f"Mean {metric.name} is {' and '.join(parts)}."


def _notes(findings: Findings) -> list[str]:
    """How to read the section."""
    # A fact of the data: the same for all rows.
    blind = next((view.blind for view in findings.robustness.values()), math.nan)
    metric = findings.comparison.metric
    direction = "" if metric.higher_is_better else "; negative ones help"
    return [
        (
            "p: the expected value when each modality is there with that chance, independently, and"
            " at least one is"
        ),
        (
            "Shapley values say how much each modality contributes to what all of them reach above"
            f" a model that sees nothing ({number(blind, metric)}); with another value for it, all"
            f" of them move by the same amount{direction}"
        ),
        *([NO_CONFIDENCE] if regression(findings) else RELIABILITY_NOTES),
    ]


# ---------------------------------------------------------------------- values


def _summaries(views: Mapping[str, RowRobustness], metric: Metric) -> Table:
    sizes = sorted({size for view in views.values() for size in view.by_present})
    header = [
        "method",
        "mean",
        "worst",
        *(f"{size} present" for size in sizes),
        *(f"p = {p:g}" for p in CHANCES),
    ]
    at_chance = [PROBABILITIES.tolist().index(chance) for chance in CHANCES]
    rows = []
    for label, view in views.items():
        values = [
            view.mean,
            view.worst,
            *(view.by_present.get(size, math.nan) for size in sizes),
            *(view.expectation[at] for at in at_chance),
        ]
        rows.append([label, *(number(value, metric) for value in values)])
    caption = (
        f"{metric.name} in the mean, in the worst case, by the number of present modalities, and in"
        " expectation"
    )
    return table(header, rows, caption, paper=True)


def _by_present(findings: Findings) -> Figure:
    lines = {
        label: (list(view.by_present), list(view.by_present.values()))
        for label, view in findings.robustness.items()
    }
    metric = findings.comparison.metric
    drawing = curves("present", lines, "modalities present", f"mean {metric.axis}", whole=True)
    return Figure("present", drawing, f"Mean {metric.name} by the number of present modalities")


def _bernoulli(findings: Findings) -> Figure:
    lines = {
        label: (PROBABILITIES.tolist(), list(view.expectation))
        for label, view in findings.robustness.items()
    }
    metric = findings.comparison.metric
    drawing = curves(
        "presence",
        lines,
        "chance that a modality is present",
        f"expected {metric.axis}",
    )
    return Figure(
        "presence", drawing, f"Expected {metric.name} over the chance that each modality is present"
    )


def _steps(findings: Findings) -> Table:
    header = [
        "method",
        "steps that hurt",
        "of all seeds' steps",
        "significant",
        "worst step",
        "loss",
    ]
    rows = [
        _step_row(view, findings.hurting.get(label, []), findings.comparison.metric)
        for label, view in findings.robustness.items()
    ]
    return table(header, rows, "Monotonicity: one modality more, and the value is worse")


def _step_row(view: RowRobustness, tested: Sequence[Difference], metric: Metric) -> list[str]:
    """A row's cells: how many steps hurt on average, of how many that is shown, and the worst."""
    found = view.violations
    sure = sum(one.better == one.second for one in tested)
    share = ABSENT if math.isnan(view.hurt_share) else f"{100 * view.hurt_share:.0f} %"
    worst = [ABSENT, ABSENT]
    if found:
        worst = [f"+{found[0].modality} to {found[0].smaller}", signed(found[0].gain, metric)]
    return [
        view.label,
        f"{len(found)} of {len(view.steps)}",
        share,
        f"{sure} of {len(tested)}" if tested else ABSENT,
        *worst,
    ]


def _shapley(findings: Findings) -> Table:
    modalities = findings.results.plan.combinations[-1].members
    metric = findings.comparison.metric
    rows = [
        [label, *(_shapley_cell(findings, label, view, name) for name in modalities)]
        for label, view in findings.robustness.items()
    ]
    return table(
        ["method", *modalities],
        rows,
        f"Shapley value of each modality in {metric.name}, with 95 % intervals",
        paper=True,
    )


def _shapley_cell(findings: Findings, label: str, view: RowRobustness, modality: str) -> str:
    """A value with its interval; without one where the row cannot be compared."""
    metric = findings.comparison.metric
    text = signed(view.shapley[modality], metric)
    row = findings.samples.get(label)
    if row is None:
        return text
    found = shapley_estimates(row, findings.results.plan.combinations, view.blind).get(modality)
    return text if found is None else f"{text} ({interval(*found.interval(), metric)})"
