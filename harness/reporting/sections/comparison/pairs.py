"""The report's section on differences: every row against the best and against the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.statistics import AVERAGE, WORST, Difference
from harness.protocol.metrics import Metric
from harness.reporting.document import (
    Bullets,
    Figure,
    Section,
    Table,
    bullets,
    readable,
    section,
    table,
)
from harness.reporting.figures import forest
from harness.reporting.text import ABSENT, columns
from harness.reporting.wording import interval, listed, p_value, signed, size

MORE, LESS = "▲", "▼"
MARKS = {"better": f" {MORE}", "worse": f" {LESS}", "": ""}
SHOWN_PAIRS = 3


def differences(findings: Findings) -> Section:
    """Every row against the best and against the baseline, on average and for each combination."""
    if not findings.differences:
        return section(
            "Differences",
            "There are no two rows with a common seed, so no difference can be given.",
        )
    others = [
        other for other in dict.fromkeys([findings.best, findings.baseline]) if other is not None
    ]
    reference = findings.baseline or findings.best
    return section(
        "Differences",
        _lead(findings, reference),
        None if reference is None else forest_figure("forest", findings, reference),
        *(_against(findings, other) for other in others),
        None if reference is None else _each(findings, reference),
        _notes(findings),
    )


def _lead(findings: Findings, other: str | None) -> str:
    """How many rows are better and worse than the one that all are compared with."""
    found = [] if other is None else findings.against(other)
    if not found:
        return "No row is compared with another one here."
    if len(found) == 1:
        told = {"better": "better than", "worse": "worse than", "": "not told apart from"}
        return f"The other row is {told[found[0].verdict]} {other} on average."
    better = sum(one.verdict == "better" for one in found)
    worse = sum(one.verdict == "worse" for one in found)
    return (
        f"Of the {len(found)} other rows, {_are(better)} better than {other} on average,"
        f" {_are(worse)} worse, and {_are(len(found) - better - worse)} not told apart from it."
    )


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


def forest_figure(name: str, findings: Findings, other: str) -> Figure | None:
    """Each row's difference from one of them with its interval; None where nothing is compared."""
    found = findings.against(other)
    if not found:
        return None
    text = f"Each row minus {other}, average over the combinations, with 95 % intervals"
    return Figure(name, forest(name, found, other, findings.comparison.metric), text)


def _against(findings: Findings, other: str) -> Table | None:
    """The table of differences from the best row, or from the baseline."""
    found = findings.against(other)
    if not found:
        return None
    roles = {"the best average": findings.best, "the baseline": findings.baseline}
    role = listed([role for role, label in roles.items() if label == other])
    header = [
        "method",
        f"minus {other}",
        "95 % interval",
        "p (Holm)",
        "detectable",
        "seeds needed",
        "verdict",
    ]
    caption = f"Average over the combinations, each row minus {other} ({role})"
    rows = [_difference(one, findings.comparison.metric) for one in found]
    return table(header, rows, caption, paper=True)


def _difference(one: RowDifference, metric: Metric) -> list[str]:
    return [
        one.label,
        signed(one.value, metric),
        interval(one.low, one.high, metric),
        p_value(one.p),
        size(one.difference.detectable, metric),
        seeds_needed(one.difference),
        _verdict(one),
    ]


def _verdict(one: RowDifference) -> str:
    if not one.verdict:
        return "not told apart"
    return one.verdict if one.difference.estimate.seeds > 1 else f"{one.verdict} on these samples"


def seeds_needed(difference: Difference) -> str:
    """The number of seeds; ``∞`` where none would do."""
    needed = difference.seeds_needed
    if math.isnan(needed):
        return ABSENT
    return "∞" if math.isinf(needed) else f"{needed:.0f}"


def _each(findings: Findings, other: str) -> Table | None:
    """The differences on each combination, with a mark where they are significant.

    Then in the worst case, and by the number of present modalities.
    """
    labels = [one.label for one in findings.against(other)]
    if not labels:
        return None
    names = [combination.name for combination in findings.results.plan.combinations]
    summaries = dict.fromkeys(one.summary for one in findings.differences)
    sizes = [summary for summary in summaries if summary not in (AVERAGE, WORST, *names)]
    by_label = [
        {one.label: one for one in findings.against(other, summary)}
        for summary in (*names, WORST, *sizes)
    ]
    metric = findings.comparison.metric
    rows = [
        [label, *(marked_difference(found.get(label), metric) for found in by_label)]
        for label in labels
    ]
    caption = (
        f"Each combination and the worst case, each row minus {other}; {MORE} significantly better,"
        f" {LESS} worse"
    )
    header = ["method", *columns(findings.results), "worst case", *sizes]
    return readable(table(header, rows, caption))


def marked_difference(one: RowDifference | None, metric: Metric) -> str:
    """``+1.17 ▲``: with a mark where it is significant."""
    if one is None:
        return ABSENT
    return f"{signed(one.value, metric)}{MARKS[one.verdict]}"


def _notes(findings: Findings) -> Bullets:
    """How to read the differences, and where they are not calibrated."""
    metric = findings.comparison.metric
    units = "percentage points" if metric.percent else f"units of {metric.name}"
    direction = "higher" if metric.higher_is_better else "lower"
    notes = [
        f"{units}; {direction} is better; paired on the same seeds and the same test samples",
        (
            "intervals are for one pair alone; p values against the baseline are corrected for"
            " all rows (of single combinations for all of these together), others for all pairs"
        ),
        (
            "detectable: the true difference whose interval excludes zero in 80 % of such"
            " studies; seeds needed: for 80 % power if the difference is what it seems, ∞ where"
            " the test set is too small for any number of seeds"
        ),
    ]
    if findings.reserve:
        notes.append(findings.reserve)
    return bullets([*notes, *_near_ties(findings.differences)])


def _near_ties(found: Sequence[Difference]) -> list[str]:
    """The pairs whose worst cases cannot be told from other combinations."""
    pairs = [
        f"{one.first} and {one.second}"
        for one in found
        if one.summary == WORST and one.estimate.biased
    ]
    if not pairs:
        return []
    named = "; ".join(pairs[:SHOWN_PAIRS])
    if len(pairs) > SHOWN_PAIRS:
        named += f"; {len(pairs) - SHOWN_PAIRS} more"
    return [
        f"worst cases not calibrated here (several combinations are about equally bad): {named}"
    ]
