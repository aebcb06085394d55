"""How far a row's confidence can be trusted: calibration errors and risk over coverage.

Blocks of the section on robustness; a regression has none of them.
"""

from __future__ import annotations

from harness.analysis.findings import Findings
from harness.analysis.in_use.reliability import Bounded, Measures, RowReliability
from harness.protocol.calibration import COVERAGES
from harness.reporting.document import Figure, Table, readable, table
from harness.reporting.figures import curves
from harness.reporting.text import ABSENT, columns

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


def regression(findings: Findings) -> bool:
    """Whether numbers are predicted, which come without a confidence."""
    return findings.results.plan.spec.task == "regression"


def reliability(findings: Findings) -> tuple[Table, ...]:
    """Calibration, risk-coverage areas, and the calibration error on each combination."""
    return _calibration(findings), _areas(findings), readable(_each_calibration(findings))


def risk_figure(findings: Findings) -> Figure:
    """The mean over combinations: what is wrong among what is kept, wherever a model is asked."""
    lines = {}
    for label, row in findings.reliability.items():
        risks = [one.risk for one in row.cells.values()]
        means = [sum(at) / len(at) for at in zip(*risks, strict=True)]
        lines[label] = (COVERAGES.tolist(), means)
    drawing = curves(
        "risk", lines, "share of predictions kept, the most confident ones", "errors among them (%)"
    )
    return Figure("risk", drawing, "Risk over coverage, mean over the combinations")


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
    rows = []
    for label, row in findings.reliability.items():
        excess = None if row.mean is None else row.mean.excess
        rows.append(
            [
                label,
                bounded(row.area.get(full)),
                *_mean_and_difference(findings, row, "area"),
                bounded(excess),
            ]
        )
    caption = "Reliability: risk-coverage area in %, with 95 % intervals"
    return table(header, rows, caption)


def _each_calibration(findings: Findings) -> Table:
    names = [combination.name for combination in findings.results.plan.combinations]
    rows = [
        [label, *(bounded(row.calibration.get(name)) for name in names)]
        for label, row in findings.reliability.items()
    ]
    caption = "Calibration error on each combination in %, with 95 % intervals"
    return table(["method", *columns(findings.results)], rows, caption)


def _minus(findings: Findings) -> list[str]:
    """The heading of the differences from the baseline, where it has a trial."""
    there = findings.baseline in findings.reliability
    return [f"mean less that of {findings.baseline}"] if there else []


def _mean_and_difference(findings: Findings, row: RowReliability, measure: str) -> list[str]:
    """The cells below ``mean`` and, where there is such a column, below ``_minus``."""

    def of(measures: Measures | None, sign: str = "") -> str:
        return ABSENT if measures is None else bounded(getattr(measures, measure), sign)

    cells = [of(row.mean)]
    if _minus(findings):
        cells.append(of(row.minus_baseline, "+"))
    return cells


def bounded(found: Bounded | None, sign: str = "") -> str:
    """``5.1 (4.2 to 6.0)``, with signs where ``sign`` is +.

    >>> bounded(Bounded(5.08, -0.01, 6.0)), bounded(Bounded(-0.1, -0.5, 0.3), "+")
    ('5.1 (0.0 to 6.0)', '−0.1 (−0.5 to +0.3)')
    """
    if found is None:
        return ABSENT
    # 0.0 is added to what is rounded: it makes 0.0 of -0.0, which would be printed with a sign.
    value, low, high = (
        f"{round(one, 1) + 0.0:{sign}.1f}".replace("-", "−")
        for one in (found.value, found.low, found.high)
    )
    return f"{value} ({low} to {high})"
