"""What evaluations under corruptions say of rows and trials, in MLflow's terms (no mlflow here).

Rows and their trials have the same names. Only what this version of the code made is shown: numbers
of two definitions never stand under one name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from harness.analysis.findings import Findings
from harness.protocol.metrics import Metric
from harness.reporting.sections.bad_sensors import even_text
from harness.reporting.text import number
from harness.reporting.wording import signed
from harness.robust.catalogue import Condition
from harness.robust.findings import ALL, BadSensors, Decline, Overall
from harness.tracking.mlflow.saved_views import (
    BAD_SENSOR,
    WITH_BAD_SENSOR,
    by_severity,
    with_bad_sensor,
)
from harness.tracking.mlflow.trial_facts import Curve, finite

PREFIX, CURVES = f"{WITH_BAD_SENSOR}/", "by_severity/"
LEAVE_OUT, DEFINITION, STATE = "leave_out_from", "bad_sensor_definition", "bad_sensor_state"
BAD_SENSOR_TAGS = (BAD_SENSOR, LEAVE_OUT, DEFINITION, STATE)
"""A run loses those that say nothing any more."""

SAME = 1e-9
"""Relative difference up to which two numbers are one, added up on two machines."""


@dataclass(frozen=True)
class BadSensorFacts:
    """What a run shows: single values, curves over severities 0 to 5, texts, and a description."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def missing(self, there: Mapping[str, float]) -> BadSensorFacts:
        """Those numbers that a run with these metrics does not show yet."""
        return replace(
            self,
            metrics={name: value for name, value in self.metrics.items() if name not in there},
            curves={name: points for name, points in self.curves.items() if name not in there},
        )

    def contradicts(self, there: Mapping[str, float]) -> bool:
        """Whether a run shows a number that is not one of these, such as another definition's.

        MLflow can neither change nor remove it.
        """
        known = dict(self.metrics) | {name: points[-1][1] for name, points in self.curves.items()}
        return any(
            name not in known or not math.isclose(value, known[name], rel_tol=SAME, abs_tol=SAME)
            for name, value in there.items()
            if name.startswith((PREFIX, CURVES))
        )


def stale_sentence(found: BadSensors, label: str | None = None) -> list[str]:
    """What of a row, or of all, is not shown because another version of the code made it."""
    count = found.stale if label is None else found.outdated.get(label, 0)
    if not count:
        return []
    return [
        f"{count} evaluations with bad sensors were made by another version of the code and are"
        " not shown; `python -m harness.robust` makes them again."
    ]


def row_bad_sensors(findings: Findings, found: BadSensors | None, label: str) -> BadSensorFacts:
    """Of a row, as means over its seeds."""
    if found is None:
        return BadSensorFacts()
    metric, declines = findings.comparison.metric, _of(found, label)
    over_all = found.overall(label)
    # A mean over some of the seeds would stand beside means over all of other rows.
    whole = label in findings.samples and set(over_all) == set(findings.samples[label].seeds)
    facts = _facts(
        metric,
        found,
        {name: one.trusted for name, one in declines.items()},
        {modality: one.left_out for (modality, _), one in declines.items()},
        list(over_all.values()) if whole else [],
    )
    parts = [f"{one.modality} {even_text(one.break_even)}" for one in found.of(label)]
    texts = {
        LEAVE_OUT: "; ".join(parts),
        STATE: " ".join([*found.lacking.get(label, ()), *stale_sentence(found, label)]),
    }
    return replace(
        facts,
        tags=dict(facts.tags) | {name: text for name, text in texts.items() if text},
        note=_joined(facts.note, texts),
    )


def _joined(note: str, texts: Mapping[str, str]) -> str:
    """The description of a row: of its numbers, when to leave a modality out, what is not shown."""
    leave_out = f"Leave out from severity: {texts[LEAVE_OUT]}." if texts[LEAVE_OUT] else ""
    return "\n\n".join(filter(None, [leave_out, texts[STATE], note]))


def trial_bad_sensors(metric: Metric, found: BadSensors, label: str, seed: int) -> BadSensorFacts:
    """Of the trial of a row with this seed."""
    declines = {
        name: one.by_seed[seed] for name, one in _of(found, label).items() if seed in one.by_seed
    }
    over_all = found.overall(label)
    return _facts(
        metric,
        found,
        {name: one.trusted for name, one in declines.items()},
        {modality: one.left_out for (modality, _), one in declines.items()},
        [over_all[seed]] if seed in over_all else [],
    )


def _of(found: BadSensors, label: str) -> dict[tuple[str, str], Decline]:
    return {
        (one.modality, one.corruption): one for one in found.declines.values() if one.label == label
    }


def _facts(
    metric: Metric,
    found: BadSensors,
    lines: Mapping[tuple[str, str], Sequence[float]],
    left_out: Mapping[str, float],
    over_all: Sequence[Overall],
) -> BadSensorFacts:
    """``lines``: (modality, corruption) -> the metric at severities 0 to 5."""
    if not lines:
        return BadSensorFacts()
    curves = {
        by_severity(modality): list(enumerate(line))
        for (modality, corruption), line in lines.items()
        if corruption == ALL
    }
    tags = {DEFINITION: found.definition}
    if over_all:
        tags[BAD_SENSOR] = _text(metric, over_all)
    metrics = _values(lines, left_out) | _over_all(metric, over_all)
    return BadSensorFacts(finite(metrics), curves, tags, _note(metric, found, tags))


def _values(
    lines: Mapping[tuple[str, str], Sequence[float]], left_out: Mapping[str, float]
) -> dict[str, float]:
    values = {}
    for (modality, corruption), (clean, *corrupted) in lines.items():
        name = f"{PREFIX}{modality}/{corruption or 'mean'}"
        for severity, value in enumerate(corrupted, 1):
            values[f"{name}/severity_{severity}"] = value
        values[f"{name}/severity_mean"] = fmean(corrupted)
        values[f"{name}/minus_clean"] = fmean(corrupted) - clean
        values[f"{PREFIX}{modality}/clean"] = clean
    for modality, value in left_out.items():
        values[f"{PREFIX}{modality}/left_out"] = value
    return values


def _over_all(metric: Metric, over_all: Sequence[Overall]) -> dict[str, float]:
    """Over all modalities, corruptions and severities: the mean over seeds."""
    if not over_all:
        return {}
    clean, corrupted = _means(over_all)
    return {
        with_bad_sensor(metric.name): corrupted,
        with_bad_sensor(metric.name, "clean"): clean,
        with_bad_sensor(metric.name, "minus_clean"): corrupted - clean,
    }


def _means(over_all: Sequence[Overall]) -> tuple[float, float]:
    return fmean(one.clean for one in over_all), fmean(one.corrupted for one in over_all)


def _text(metric: Metric, over_all: Sequence[Overall]) -> str:
    """``71.2 ± 0.3 (−9.81)``: over all, its spread over seeds, and its difference from clean."""
    clean, corrupted = _means(over_all)
    each = [one.corrupted for one in over_all]
    spread = f" ± {number(stdev(each), metric)}" if len(each) > 1 else ""
    return f"{number(corrupted, metric)}{spread} ({signed(corrupted - clean, metric)})"


def _note(metric: Metric, found: BadSensors, tags: Mapping[str, str]) -> str:
    """The numbers in words, and the definition that they are of."""
    definition = f"`{PREFIX}*` are of definition `{found.definition}`:\n\n{_levels(found)}"
    if BAD_SENSOR not in tags:
        return definition
    head = (
        f"**With a bad sensor**: {tags[BAD_SENSOR]} {metric.name}, mean over modalities,"
        " corruptions and severities (in brackets: minus the same without corruption)."
    )
    return f"{head}\n\n{definition}"


def _levels(found: BadSensors) -> str:
    """Each corruption with its levels at severities 1 to 5, one line a modality."""
    of_modality: dict[str, list[str]] = {}
    for (modality, corruption), ones in found.levels.items():
        of_modality.setdefault(modality, []).append(f"{corruption} {_numbers(ones)}")
    return "\n".join(f"- {name}: {', '.join(ways)}" for name, ways in of_modality.items())


def _numbers(ones: Sequence[Condition]) -> str:
    return "/".join(f"{one.level:g}" for one in ones)
