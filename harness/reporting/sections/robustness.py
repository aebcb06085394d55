"""The report's section on how rows behave as modalities go missing, and on what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from harness.analysis.findings import Findings
from harness.analysis.in_use.reliability import Bounded, Measures, RowReliability
from harness.analysis.results import Finished, Results
from harness.analysis.robustness import (
    PROBABILITIES,
    RowRobustness,
    pareto,
    shapley_estimates,
)
from harness.analysis.statistics import Difference
from harness.protocol.calibration import COVERAGES
from harness.protocol.metrics import Metric
from harness.reporting.answer import interval, signed
from harness.reporting.document import (
    Figure,
    Section,
    Table,
    bullets,
    readable,
    section,
    table,
)
from harness.reporting.figures import curves, scatter
from harness.reporting.text import ABSENT, columns, number

CHANCES = (0.25, 0.75, 0.9)
"""Of the curve, those in the table; at 0.5 the expectation is the mean over the combinations."""


NO_CONFIDENCE = (
    "calibration error and risk-coverage do not apply: a regression predicts numbers without a"
    " confidence"
)
RELIABILITY_NOTES = (
    (
        "calibration error: 15 bins; risk-coverage area: mean error rate of the k most"
        " confident predictions over all k, excess: above that of the best possible order; both"
        " in %, lower is better, means over seeds"
    ),
    (
        "intervals of calibration errors leave out what noise alone adds to them, so that on"
        " few samples they may lie below the value; the worst one is the largest of several,"
        " and has none"
    ),
)


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
        None if regression(findings) else _risk(findings),
        _summaries(findings.robustness, metric),
        _steps(findings),
        _shapley(findings),
        *(() if regression(findings) else _reliability(findings)),
        bullets(_notes(findings)),
    )


def regression(findings: Findings) -> bool:
    """Whether numbers are predicted, which come without a confidence."""
    return findings.results.plan.spec.task == "regression"


def _lead(findings: Findings) -> str:
    """How far rows fall from everything present to the fewest modalities."""
    metric, views = findings.comparison.metric, list(findings.robustness.values())
    sizes = sorted({size for view in views for size in view.by_present})
    parts = []
    for size in [sizes[0], sizes[-1]] if len(sizes) > 1 else sizes:
        values = [view.by_present[size] for view in views if size in view.by_present]
        low, high = number(min(values), metric), number(max(values), metric)
        there = low if low == high else f"{low} to {high}"
        parts.append(f"{there} with {size} {'modality' if size == 1 else 'modalities'} present")
    if not parts:
        return "No row has a value yet."
    return f"Mean {metric.name} is {' and '.join(parts)}."


def _notes(findings: Findings) -> list[str]:
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
    rows = [
        [
            label,
            *(number(value, metric) for value in (view.mean, view.worst)),
            *(number(view.by_present.get(size, math.nan), metric) for size in sizes),
            *(number(view.expectation[PROBABILITIES.tolist().index(p)], metric) for p in CHANCES),
        ]
        for label, view in views.items()
    ]
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
    found = view.violations
    sure = sum(one.better == one.second for one in tested)
    share = ABSENT if math.isnan(view.hurt_share) else f"{100 * view.hurt_share:.0f} %"
    worst = (
        [f"+{found[0].modality} to {found[0].smaller}", signed(found[0].gain, metric)]
        if found
        else [ABSENT, ABSENT]
    )
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
    metric = findings.comparison.metric
    text = signed(view.shapley[modality], metric)
    row = findings.samples.get(label)
    if row is None:
        return text
    found = shapley_estimates(row, findings.results.plan.combinations, view.blind).get(modality)
    return text if found is None else f"{text} ({interval(*found.interval(), metric)})"


# ---------------------------------------------------------------------- reliability


def _reliability(findings: Findings) -> tuple[Table, ...]:
    return _calibration(findings), _areas(findings), readable(_each_calibration(findings))


def _calibration(findings: Findings) -> Table:
    header = ["method", "all present", "mean", *_minus(findings), "worst", "in"]
    full = findings.results.plan.combinations[-1].name
    rows = []
    for label, row in findings.reliability.items():
        errors = {name: one.calibration_error for name, one in row.cells.items()}
        worst = max(errors, key=lambda name: errors[name])
        rows.append(
            [
                label,
                bounded(row.calibration.get(full)),
                *_mean_and_difference(findings, row, "calibration"),
                f"{errors[worst]:.1f}",
                worst,
            ]
        )
    caption = "Reliability: calibration error in %, with 95 % intervals"
    return table(header, rows, caption)


def _areas(findings: Findings) -> Table:
    header = ["method", "all present", "mean", *_minus(findings), "excess (mean)"]
    full = findings.results.plan.combinations[-1].name
    rows = [
        [
            label,
            bounded(row.area.get(full)),
            *_mean_and_difference(findings, row, "area"),
            bounded(row.mean.excess if row.mean is not None else None),
        ]
        for label, row in findings.reliability.items()
    ]
    caption = "Reliability: risk-coverage area in %, with 95 % intervals"
    return table(header, rows, caption)


def _minus(findings: Findings) -> list[str]:
    """The heading of the differences from the baseline, where it has a trial."""
    there = findings.baseline in findings.reliability
    return [f"mean less that of {findings.baseline}"] if there else []


def _mean_and_difference(findings: Findings, row: RowReliability, measure: str) -> list[str]:
    def of(measures: Measures | None, sign: str = "") -> str:
        return ABSENT if measures is None else bounded(getattr(measures, measure), sign)

    return [of(row.mean), *(of(row.minus_baseline, "+") for _ in _minus(findings))]


def bounded(found: Bounded | None, sign: str = "") -> str:
    """``5.1 (4.2 to 6.0)``, with signs where ``sign`` is +.

    >>> bounded(Bounded(5.08, -0.01, 6.0)), bounded(Bounded(-0.1, -0.5, 0.3), "+")
    ('5.1 (0.0 to 6.0)', '−0.1 (−0.5 to +0.3)')
    """
    if found is None:
        return ABSENT
    value, low, high = (
        f"{round(one, 1) + 0.0:{sign}.1f}".replace("-", "−")
        for one in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"


def _each_calibration(findings: Findings) -> Table:
    names = [c.name for c in findings.results.plan.combinations]
    rows = [
        [label, *(bounded(row.calibration.get(name)) for name in names)]
        for label, row in findings.reliability.items()
    ]
    caption = "Calibration error on each combination in %, with 95 % intervals"
    return table(["method", *columns(findings.results)], rows, caption)


def _risk(findings: Findings) -> Figure:
    """The mean over combinations: what is wrong among what is kept, wherever a model is asked."""
    lines = {}
    for label, row in findings.reliability.items():
        risks = [one.risk for one in row.cells.values()]
        lines[label] = (COVERAGES.tolist(), [sum(at) / len(at) for at in zip(*risks, strict=True)])
    drawing = curves(
        "risk", lines, "share of predictions kept, the most confident ones", "errors among them (%)"
    )
    return Figure("risk", drawing, "Risk over coverage, mean over the combinations")


# ---------------------------------------------------------------------- cost


def cost(findings: Findings) -> Section:
    """Parameters, time and memory of each row, and which rows no other one beats on value and
    parameters together.
    """
    results = findings.results
    trained = {row.label: results.of(row.label) for row in results.plan.rows}
    rows = [[label, *_costs(trials)] for label, trials in trained.items()]
    header = [
        "method",
        "parameters in training",
        "at inference",
        "train seconds (mean)",
        "encode, ms a sample",
        "fuse, ms a sample and combination",
        "peak memory in MiB (largest)",
    ]
    notes = [
        (
            "train seconds: epochs with their validation, without the final evaluation; wall clock,"
            " as the machine was then loaded"
        ),
        (
            "peak memory: of the GPU, or, on a CPU, of the whole process, which may have run other"
            " trials before"
        ),
        (
            "encode: all modalities of a sample, once; fuse: one combination of them; medians over"
            " seeds, on the test set, as the trial's machine was then loaded"
        ),
        *_front(findings),
    ]
    return section(
        "Cost",
        _cost_lead({label: trials for label, trials in trained.items() if trials}),
        _pareto(findings),
        table(header, rows, "What each row costs", paper=True),
        bullets(notes),
    )


def _cost_lead(trained: Mapping[str, Sequence[Finished]]) -> str:
    if not trained:
        return "No row has been trained yet."
    sizes = {label: of[0].record["parameters"]["inference"] for label, of in trained.items()}
    seconds = {label: _train_seconds(of) for label, of in trained.items()}
    small, slow = min(sizes, key=sizes.__getitem__), max(seconds, key=seconds.__getitem__)
    return (
        f"{small} has the fewest parameters at inference ({sizes[small]:,}), and a trial of {slow}"
        f" trained longest ({seconds[slow]:.1f} s)."
    )


def _train_seconds(trials: Sequence[Finished]) -> float:
    """Seconds of training, mean over the trials."""
    return float(sum(done.record["train_seconds"] for done in trials) / len(trials))


def _costs(trials: Sequence[Finished]) -> list[str]:
    if not trials:
        return [ABSENT] * 6
    records = [done.record for done in trials]
    parameters = records[0]["parameters"]
    memory = max(record["peak_memory_bytes"] for record in records) / 2**20
    times = [
        f"{milliseconds:.3f}" if milliseconds is not None else ABSENT
        for milliseconds in evaluation_times(trials)
    ]
    return [
        f"{parameters['training']:,}",
        f"{parameters['inference']:,}",
        f"{_train_seconds(trials):.1f}",
        *times,
        f"{memory:.0f}",
    ]


def evaluation_times(trials: Sequence[Finished]) -> tuple[float | None, float | None]:
    """Milliseconds of encoding a sample, and of fusing one combination of it: medians over seeds,
    None where none was measured.
    """
    encode, fuse = [], []
    for done in trials:
        measured = done.record.get("test_evaluation", {"samples": 0})
        if measured["samples"]:
            encode.append(1000 * measured["encode_seconds"] / measured["samples"])
            fuse.append(
                1000
                * measured["fuse_seconds"]
                / measured["samples"]
                / len(done.record["combinations"])
            )
    return (median(encode), median(fuse)) if encode else (None, None)


def _points(results: Results, findings: Findings) -> dict[str, tuple[float, float]]:
    """(parameters at inference, average) of the rows that are compared and have a trial."""
    means = findings.comparison.average
    there = [label for label in findings.ranked if math.isfinite(means[label].mean)]
    return {
        label: (float(results.of(label)[0].record["parameters"]["inference"]), means[label].mean)
        for label in there
    }


def _front(findings: Findings) -> list[str]:
    points = _points(findings.results, findings)
    if not points:
        return []
    front = pareto(points, findings.comparison.metric.higher_is_better)
    return [
        "no row has at most as many parameters at inference and a mean at least as good as:"
        f" {', '.join(front)}"
    ]


def _pareto(findings: Findings) -> Figure | None:
    points = _points(findings.results, findings)
    if not points:
        return None
    metric = findings.comparison.metric
    front = pareto(points, metric.higher_is_better)
    drawing = scatter("pareto", points, front, "parameters at inference", f"average {metric.axis}")
    return Figure(
        "pareto",
        drawing,
        f"Average {metric.name} over parameters at inference; the line joins the Pareto front",
    )
