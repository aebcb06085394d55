"""The report's section on bad sensors: from where on a corrupted modality is worse than none."""

from __future__ import annotations

import math

from harness.analysis.findings import Findings
from harness.protocol.metrics import Metric
from harness.reporting.document import Figure, Section, Table, bullets, section, table
from harness.reporting.figures import Panel, trust_panels
from harness.reporting.text import number
from harness.reporting.wording import interval, listed, signed
from harness.robust.catalogue import corruption_of
from harness.robust.definition import SEVERITIES
from harness.robust.findings import ALL, BadSensors, BreakEven, Decline

LAST = SEVERITIES[-1]


def bad_sensors(findings: Findings, found: BadSensors | None) -> Section | None:
    """One sentence, a figure of the best row, the table of all rows, and what lies behind it.

    None where nothing was evaluated under corruptions.
    """
    if found is None:
        return None
    if not found.declines:
        lead = "No row has been evaluated whole with bad sensors yet."
        return section("Bad sensors", lead, bullets(found.lacks))
    return section(
        "Bad sensors",
        sentence(findings, found),
        _figure(findings, found),
        _main_table(findings, found),
        _by_corruption(findings, found),
        _by_combination(findings, found),
        _levels(found),
        bullets(_notes(findings, found)),
    )


def console_lines(findings: Findings, found: BadSensors | None) -> list[str]:
    """The sentence, and a line for each row."""
    if found is None or not found.declines:
        return [] if found is None else list(found.lacks)
    lines = [sentence(findings, found)]
    for label in dict.fromkeys(one.label for one in found.declines.values()):
        parts = [f"{one.modality} {even_text(one.break_even)}" for one in found.of(label)]
        lines.append(f"  {label}, leave out from severity: {'; '.join(parts)}")
    return [*lines, *found.lacks]


def sentence(findings: Findings, found: BadSensors) -> str:
    """What a person with these sensors must know, of the row with the best average."""
    label = shown_row(findings, found)
    out, kept = [], []
    for one in found.of(label):
        even = one.break_even
        if math.isinf(even.severity):
            kept.append(one.modality)
        else:
            out.append(f"{one.modality} from severity {_severity(even.severity)} on")
    parts = []
    if out:
        parts.append(f"is better told to do without {listed(out)}")
    if kept:
        parts.append(f"is better off with {listed(kept)} up to severity {LAST}, however bad")
    which = "the row with the best average" if label == findings.best else "the first row"
    return f"With a bad sensor, {label} ({which}) {', and '.join(parts)}."


def shown_row(findings: Findings, found: BadSensors) -> str:
    """The row of sentence and figure: the one with the best average, where it was evaluated."""
    best = findings.best
    if best is not None and found.of(best):
        return best
    return next(iter(found.declines.values())).label


def even_text(even: BreakEven) -> str:
    """A break-even severity with its interval.

    >>> even_text(BreakEven(2.41, 1.9, math.inf))
    '2.4 (1.9 to > 5)'
    >>> even_text(BreakEven(math.inf, math.inf, math.inf))
    '> 5'
    """
    value = _severity(even.severity)
    if even.low == even.high:
        return value
    return f"{value} ({_severity(even.low)} to {_severity(even.high)})"


def _severity(value: float) -> str:
    return f"> {LAST}" if math.isinf(value) else f"{value:.1f}"


# ---------------------------------------------------------------------- figure


def _figure(findings: Findings, found: BadSensors) -> Figure:
    label = shown_row(findings, found)
    metric = findings.comparison.metric
    panels = [
        Panel(one.modality, one.trusted, one.left_out, one.break_even.severity)
        for one in found.of(label)
    ]
    drawing = trust_panels("trust", panels, metric.axis, metric.higher_is_better)
    text = (
        f"{label}: the line falls as the sensor gets worse; the dashed line is the same model told"
        " to do without it. Where the line is on the wrong side (shaded), no sensor is better than"
        " a bad one"
    )
    return Figure("trust", drawing, text)


# ---------------------------------------------------------------------- tables


def _main_table(findings: Findings, found: BadSensors) -> Table:
    metric = findings.comparison.metric
    header = [
        *("method", "bad modality", "as it is", *(f"severity {at}" for at in SEVERITIES)),
        *("left out", "leave out from severity", f"lost at {LAST} if not told"),
    ]
    rows = [
        [one.label, one.modality, *_values(one, metric), *_verdict(one, metric)]
        for one in found.declines.values()
        if one.corruption == ALL
    ]
    caption = (
        f"{metric.name} with a bad modality that the model is told to trust, mean over its"
        " corruptions and its combinations with others; left out: the same combinations without it"
    )
    return table(header, rows, caption, paper=True)


def _values(one: Decline, metric: Metric) -> list[str]:
    return [number(value, metric) for value in one.trusted]


def _verdict(one: Decline, metric: Metric) -> list[str]:
    lost, low, high = one.untold
    return [
        number(one.left_out, metric),
        even_text(one.break_even),
        f"{signed(lost, metric)} ({interval(low, high, metric)})",
    ]


def _by_corruption(findings: Findings, found: BadSensors) -> Table:
    metric = findings.comparison.metric
    header = [
        *("method", "bad modality", "corruption", "as it is"),
        *(f"severity {at}" for at in SEVERITIES),
        *("left out", "leave out from severity", f"lost at {LAST} if not told"),
    ]
    rows = [
        [one.label, one.modality, one.corruption, *_values(one, metric), *_verdict(one, metric)]
        for one in found.declines.values()
        if one.corruption != ALL
    ]
    return table(header, rows, f"{metric.name} under each corruption, as above")


def _by_combination(findings: Findings, found: BadSensors) -> Table:
    metric = findings.comparison.metric
    header = [
        *("method", "bad modality", "combination", "as it is"),
        *(f"severity {at}" for at in SEVERITIES),
    ]
    rows = [
        [one.label, one.modality, name, *(number(value, metric) for value in values)]
        for one in found.declines.values()
        if one.corruption == ALL
        for name, values in one.each.items()
    ]
    return table(header, rows, f"{metric.name} on each combination, mean over the corruptions")


def _levels(found: BadSensors) -> Table:
    rows = []
    for (modality, name), ones in found.levels.items():
        known = corruption_of(ones[0])
        what, source = ("", "") if known is None else (known.level, known.source)
        rows.append([modality, name, *(f"{one.level:g}" for one in ones), what, source])
    header = ["modality", "corruption", *map(str, SEVERITIES), "what the number is", "published"]
    return table(header, rows, "What the severities are")


def _notes(findings: Findings, found: BadSensors) -> list[str]:
    stale = [
        f"{found.stale} evaluations were made by another version of the code; `python -m"
        " harness.robust` makes them again"
    ]
    return [
        (
            "leave out from severity: where trusting the modality becomes worse than leaving it"
            " out, for this and all higher severities, interpolated between them; in brackets where"
            " the ends of the 95 % interval of the difference (over seeds and test samples, not"
            " corrected for several questions) cross zero"
        ),
        (
            f"lost at {LAST} if not told: left out minus trusted at severity {LAST}, with its 95 %"
            " interval: what it costs that nobody tells the model; negative where even the worst"
            " sensor helps"
        ),
        (
            "corruptions are drawn for each sample, the same for all rows, seeds and severities;"
            " one modality at a time, all samples of test"
        ),
        *([findings.reserve] if findings.reserve else []),
        *(stale if found.stale else []),
        *found.lacks,
    ]
