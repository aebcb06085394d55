"""The report's section on rows under a presence profile, and on what another one would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.in_use.presence import Expected
from harness.analysis.ranking import Place
from harness.analysis.statistics import EXPECTED
from harness.protocol.metrics import Metric
from harness.reporting.answer.presence_profile import left_out
from harness.reporting.document import Paragraph, Section, Sliders, Table, bullets, section, table
from harness.reporting.sections.background import command
from harness.reporting.sections.comparison import ranks
from harness.reporting.text import ABSENT, number, shown
from harness.reporting.wording import interval, p_value, percent, signed, size
from harness.study.merged_plan import study_words
from harness.study.presence import KEY

EVEN = 0.5
"""The chance of each modality that makes all combinations equally likely."""


def presence(findings: Findings, arguments: Sequence[str]) -> Section:
    """The expected metric of each row under the profile, where one is given, and sliders."""
    of = findings.expected
    return section(
        "Presence profile",
        _lead(findings, of),
        None if of is None or not of.values else _profile(findings, of),
        None if of is None else _table(findings, of),
        None if of is None else bullets(_notes(findings, of)),
        _sliders(findings, arguments),
    )


def _lead(findings: Findings, of: Expected | None) -> str:
    if of is None:
        return (
            "How often each modality is present in use was not given, so that the answer takes each"
            f" combination as equally likely; {KEY} gives it (analysis only, nothing is trained"
            " again)."
        )
    if not of.values:
        return "No test sample has any of the profile's combinations."
    metric = findings.comparison.metric
    first, *others = _order(of, metric)
    best, kind = number(of.values[first].mean, metric), f"expected {metric.name}"
    if not others:
        return f"Under this profile {first} has an {kind} of {best}."
    last = number(of.values[others[-1]].mean, metric)
    return (
        f"Under this profile the best {kind} is {best} ({first}), the worst {last} ({others[-1]})."
    )


def _order(of: Expected, metric: Metric) -> list[str]:
    """The rows, the best expected value first."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(of.values, key=lambda label: sign * of.values[label].mean)


def _profile(findings: Findings, of: Expected) -> Paragraph:
    shares = zip(findings.results.plan.combinations, of.profile.probabilities, strict=True)
    likely = sorted(((p, one.name) for one, p in shares if p > 0), reverse=True)
    named = ", ".join(f"{name} {percent(p)}" for p, name in likely[:8])
    more = f" and {len(likely) - 8} more" if len(likely) > 8 else ""
    return Paragraph(f"The profile: {named}{more}; nothing present {percent(of.profile.nothing)}.")


def _table(findings: Findings, of: Expected) -> Table | None:
    metric, baseline = findings.comparison.metric, findings.baseline
    if not of.values:
        return None
    order = _order(of, metric)
    places = {} if of.ranking is None else {one.label: one for one in of.ranking.places}
    others = [x for x in dict.fromkeys([order[0], baseline]) if x is not None and x in of.values]
    against = {other: _against(findings, other) for other in others}
    header = [
        "method",
        "rank",
        f"expected {metric.name}",
        "ties",
        *(f"minus {other} (95 % interval), p" for other in others),
    ]
    rows = [
        [
            label,
            *_place(places.get(label)),
            *(_difference(found.get(label), metric) for found in against.values()),
        ]
        for label in order
    ]
    for row in rows:
        row.insert(2, str(shown(of.values[row[0]], findings.comparison.planned, metric)))
    return table(header, rows, f"Expected {metric.name} under the presence profile", paper=True)


def _against(findings: Findings, other: str) -> dict[str, RowDifference]:
    return {one.label: one for one in findings.against(other, EXPECTED)}


def _place(place: Place | None) -> list[str]:
    """The rank and the letters of its ties."""
    return [ABSENT, ABSENT] if place is None else [ranks(place), place.letters]


def _difference(one: RowDifference | None, metric: Metric) -> str:
    if one is None:
        return ABSENT
    return f"{signed(one.value, metric)} ({interval(one.low, one.high, metric)}), {p_value(one.p)}"


def _notes(findings: Findings, of: Expected) -> list[str]:
    notes = [
        (
            "the mean of a row's combinations, weighted by how likely they are, given that at least"
            " one modality is present; ± over seeds, intervals and ties over seeds and test samples"
            " as of the average"
        )
    ]
    notes += [f"left out: {part}" for part in left_out(of)]
    if of.ranking is None:
        return notes
    if of.ranking.differences:
        metric = findings.comparison.metric
        notes.append(
            f"minimum detectable difference: {size(of.ranking.detectable, metric)} from the best,"
            f" {size(of.ranking.detectable_pair, metric)} between any two rows (80 % power, with"
            " the corrections used; median over the pairs)"
        )
    return [*notes, *of.ranking.notes]


# ---------------------------------------------------------------------- another profile


def _sliders(findings: Findings, arguments: Sequence[str]) -> Sliders:
    plan, comparison = findings.results.plan, findings.comparison
    names = tuple(plan.spec.names)
    chances = plan.presence.chances if plan.presence else dict.fromkeys(names, EVEN)
    means = {
        label: [comparison.cells[label, name].mean for name in comparison.combinations]
        for label in comparison.labels
    }
    return Sliders(
        title=f"Expected {comparison.metric.name} when modalities are present independently",
        names=names,
        percent=tuple(round(100 * chances[name]) for name in names),
        masks=tuple(combination.mask for combination in plan.combinations),
        rows={
            label: tuple(None if math.isnan(value) else value for value in values)
            for label, values in means.items()
            if not all(map(math.isnan, values))
        },
        decimals=comparison.metric.decimals,
        higher_is_better=comparison.metric.higher_is_better,
        command=_command(plan.study.name, arguments),
        key=KEY,
    )


def _command(study: str, arguments: Sequence[str]) -> str:
    """What makes this report again, without the profile."""
    words = study_words(arguments) or [study]
    kept = [one for one in arguments if not one.startswith((f"{KEY}.", f"{KEY}="))]
    return command(",".join(words), kept, "harness.report")


def expected_table(findings: Findings) -> list[dict[str, object]]:
    """The rows of presence.csv: nothing without a profile."""
    of = findings.expected
    if of is None:
        return []
    places = {} if of.ranking is None else {one.label: one for one in of.ranking.places}
    against = _against(findings, findings.baseline) if findings.baseline else {}
    found = []
    for label, value in of.values.items():
        line: dict[str, object] = {
            "label": label,
            "metric": findings.comparison.metric.name,
            "expected": value.mean,
            "std_over_seeds": value.std,
            "seeds": value.seeds,
            "ties": places[label].letters if label in places else "",
            "baseline": findings.baseline or "",
        }
        one = against.get(label)
        for name in ("value", "low", "high", "p"):
            line[f"minus_baseline_{name}"] = None if one is None else getattr(one, name)
        found.append(line)
    return found
