"""What findings say about each row, in MLflow's terms: one run per row (no mlflow here).

A row's run has the names of its trials' metrics, so that rows and trials share columns and charts,
and beside them: the spread over seeds, the difference from the baseline on each combination, and
curves (by epoch, and by how many modalities are present).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.results import Finished, dataset_name
from harness.analysis.statistics import AVERAGE, EXPECTED, WORST
from harness.reporting.sections.comparison import marked_difference, ranks
from harness.reporting.text import cell, devices, shown
from harness.reporting.wording import interval, signed
from harness.robust.findings import BadSensors
from harness.study.plan import Plan
from harness.study.rows import Row
from harness.tracking.mlflow.bad_sensor_facts import row_bad_sensors
from harness.tracking.mlflow.saved_views import PLACE, difference, on
from harness.tracking.mlflow.trial_facts import (
    TAGS_THAT_COME_AND_GO,
    Curve,
    by_present_name,
    finite,
    flattened,
    milliseconds,
)
from harness.training.spec import TrialSpec

COLOURS = (
    *(
        "#1f77b4",
        "#ff7f0e",
        "#2ca02c",
        "#d62728",
        "#9467bd",
        "#8c564b",
        "#e377c2",
        "#7f7f7f",
        "#bcbd22",
        "#17becf",
    ),
    *(
        "#0b3d66",
        "#a3520a",
        "#145214",
        "#7a1616",
        "#4b2f63",
        "#a98b84",
        "#b0308c",
        "#3d3d3d",
        "#6f7012",
        "#0d6b75",
    ),
)
"""Lines of one chart are told apart by them; MLflow's own are drawn from a hash and repeat."""

COLOUR = "mlflow.runColor"
OF_ONE_TRIAL = ("seed", "needs.", "train.combination")


def colour(plan: Plan, label: str) -> str:
    """The colour of a row and its trials; a model that only serves others has the last."""
    labels = [row.label for row in plan.rows]
    return COLOURS[labels.index(label) % len(COLOURS)] if label in labels else COLOURS[-1]


@dataclass(frozen=True)
class RowFacts:
    """One row, as means over seeds.

    ``curves`` are points (step, value), ``metrics`` single values; ``at``: when the study's last
    result came, in milliseconds.
    """

    label: str
    status: str
    at: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, Curve]

    @property
    def content(self) -> str:
        """A hash of all points.

        MLflow can neither move nor remove one, so another content needs another run.
        """
        points = {name: [[0, value]] for name, value in self.metrics.items()} | self.curves
        text = json.dumps([self.at, points], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_rows(findings: Findings, corrupted: BadSensors | None = None) -> list[RowFacts]:
    """The rows with a finished trial, best first where they are ranked.

    So the newest run is the best row's. ``corrupted``: what evaluations under corruptions say.
    """
    results = findings.results
    there = [row for row in results.plan.rows if results.of(row.label)]
    order = (
        [place.label for place in findings.rankings[AVERAGE].places]
        if AVERAGE in findings.rankings
        else []
    )
    there.sort(key=lambda row: order.index(row.label) if row.label in order else len(order))
    ends = [
        line["time"]
        for done in results.finished
        for line in results.store.trial(done.trial.id).history()[-1:]
    ]
    return [
        _row(findings, corrupted, row, milliseconds(max(ends, default=0)) - place)
        for place, row in enumerate(there, 1)
    ]


def _row(findings: Findings, corrupted: BadSensors | None, row: Row, at: int) -> RowFacts:
    results, bad_sensors = findings.results, row_bad_sensors(findings, corrupted, row.label)
    trials = results.of(row.label)
    states = {hole.state for hole in results.holes if hole.label == row.label}
    spec: TrialSpec = trials[0].trial.job.spec
    params = dict(flattened(asdict(spec)))
    return RowFacts(
        label=row.label,
        status=_status(states),
        at=at,
        tags=_tags(findings, row, trials) | dict(bad_sensors.tags),
        params={name: text for name, text in params.items() if not name.startswith(OF_ONE_TRIAL)},
        metrics=finite(
            _values(findings, row.label)
            | _differences(findings, row.label)
            | _expected(findings, row.label)
            | _place(findings, row.label)
            | _cost(trials)
            | dict(bad_sensors.metrics)
        ),
        curves=_curves(findings, trials, row) | dict(bad_sensors.curves),
    )


def _status(states: Collection[str]) -> str:
    """MLflow's status of a row whose trials without a result have these states."""
    if not states:
        return "FINISHED"
    return "FAILED" if set(states) == {"failed"} else "RUNNING"


# ---------------------------------------------------------------------- text columns


def _tags(findings: Findings, row: Row, trials: Sequence[Finished]) -> dict[str, str]:
    results, comparison = findings.results, findings.comparison
    spec = trials[0].trial.job.spec
    summaries = (comparison.average[row.label], comparison.worst[row.label])
    average, worst = (
        str(shown(summary, comparison.planned, comparison.metric)) for summary in summaries
    )
    collapsed = sorted({name for done in trials for name in done.collapsed})
    tags = {
        "kind": "row",
        "study": results.plan.study.name,
        "method": row.method,
        "variant": row.variant,
        "label": row.label,
        "dataset": dataset_name(results.plan.spec),
        "protocol": str(spec.dataset["protocol"]),
        "synthetic": json.dumps(results.plan.spec.synthetic),
        "backbone": str(spec.backbone["name"]),
        "device": ", ".join(sorted(devices(results, row.label))),
        "seeds": ", ".join(str(seed) for seed in dict.fromkeys(done.trial.seed for done in trials)),
        "average": average,
        "worst_case": worst,
        "collapsed": ", ".join(collapsed),
        COLOUR: colour(results.plan, row.label),
        "mlflow.source.name": f"{row.method}.py",
        "mlflow.source.type": "LOCAL",
    }
    shown_tags = (
        tags
        | _ranks(findings, row)
        | _against_baseline(findings, row.label)
        | _cells(findings, row.label)
    )
    return {
        name: text for name, text in shown_tags.items() if text or name not in TAGS_THAT_COME_AND_GO
    }


def _ranks(findings: Findings, row: Row) -> dict[str, str]:
    """The rank and tie letters of a row; a reference is never ranked."""
    if AVERAGE not in findings.rankings or row.label not in findings.ranked:
        return {"rank": "not ranked", "ties": ""}
    place = next(place for place in findings.rankings[AVERAGE].places if place.label == row.label)
    return {"rank": ranks(place), "ties": place.letters}


def _against_baseline(findings: Findings, label: str) -> dict[str, str]:
    """How much a row differs from the baseline on average, and what may be said of it."""
    found = _found(findings, AVERAGE).get(label)
    if found is None:
        return {
            "minus_baseline": "is the baseline" if label == findings.baseline else "",
            "verdict": "",
        }
    metric = findings.comparison.metric
    text = f"{signed(found.value, metric)} ({interval(found.low, found.high, metric)})"
    return {"minus_baseline": text, "verdict": found.verdict or "not told apart"}


def _cells(findings: Findings, label: str) -> dict[str, str]:
    """Each combination as the report prints it, and its difference from the baseline.

    MLflow itself prints all digits of a metric.
    """
    comparison = findings.comparison
    found = {}
    for combination in findings.results.plan.combinations:
        found[on(combination.key)] = str(cell(comparison, label, combination.name))
    names = {WORST: WORST} | {
        combination.name: combination.key for combination in findings.results.plan.combinations
    }
    for name, key in names.items():
        one = _found(findings, name).get(label)
        if one is not None:
            found[difference(key)] = marked_difference(one, comparison.metric)
    return found


def _found(findings: Findings, summary: str) -> Mapping[str, RowDifference]:
    """All rows against the baseline, by label."""
    return (
        {one.label: one for one in findings.against(findings.baseline, summary)}
        if findings.baseline
        else {}
    )


# ---------------------------------------------------------------------- numbers


def _place(findings: Findings, label: str) -> dict[str, float]:
    """The place by which the page of runs is sorted.

    A reference has none and comes last, whatever its average.
    """
    order = (
        [place.label for place in findings.rankings[AVERAGE].places]
        if AVERAGE in findings.rankings
        else []
    )
    return {PLACE: order.index(label) + 1.0} if label in order else {}


def _values(findings: Findings, label: str) -> dict[str, float]:
    """Means and standard deviations over seeds; means have the names of trials' metrics."""
    comparison, name = findings.comparison, findings.comparison.metric.name
    average, worst = comparison.average[label], comparison.worst[label]
    cells = {
        combination: comparison.cells[label, combination] for combination in comparison.combinations
    }
    full = cells[comparison.combinations[-1]]
    headline = {"mean": average, "worst": worst, "full": full}
    return {
        **{f"test/{name}_{which}": summary.mean for which, summary in headline.items()},
        **{f"test/{name}/{combination}": cell.mean for combination, cell in cells.items()},
        **{f"std_over_seeds/{name}_{which}": summary.std for which, summary in headline.items()},
        **{f"std_over_seeds/{name}/{combination}": cell.std for combination, cell in cells.items()},
        "seeds_finished": float(average.seeds),
    }


def _differences(findings: Findings, label: str) -> dict[str, float]:
    """Row minus baseline: on average with its interval, in the worst case, on each combination."""
    average = _found(findings, AVERAGE).get(label)
    if average is None:
        return {}
    found = {
        "minus_baseline/average": average.value,
        "minus_baseline/average_low": average.low,
        "minus_baseline/average_high": average.high,
    }
    for summary in (WORST, *findings.comparison.combinations):
        one = _found(findings, summary).get(label)
        if one is not None:
            found[f"minus_baseline/{summary}"] = one.value
    return found


def _expected(findings: Findings, label: str) -> dict[str, float]:
    """Under the presence profile, where one is given."""
    of = findings.expected
    if of is None or label not in of.values:
        return {}
    found = {
        f"presence/{findings.comparison.metric.name}": of.values[label].mean,
        "presence/std_over_seeds": of.values[label].std,
    }
    one = _found(findings, EXPECTED).get(label)
    if one is None:
        return found
    return found | {
        "presence/minus_baseline": one.value,
        "presence/minus_baseline_low": one.low,
        "presence/minus_baseline_high": one.high,
    }


def _cost(trials: Sequence[Finished]) -> dict[str, float]:
    records = [done.record for done in trials]
    return {
        "train_seconds": fmean(float(record["train_seconds"]) for record in records),
        "parameters/inference": float(records[0]["parameters"]["inference"]),
        "parameters/training": float(records[0]["parameters"]["training"]),
    }


# ---------------------------------------------------------------------- curves


def _curves(findings: Findings, trials: Sequence[Finished], row: Row) -> dict[str, Curve]:
    """Learning curves averaged over seeds, and the metric by number of present modalities.

    None where a curve has no meaning.
    """
    name = findings.comparison.metric.name
    view = findings.robustness.get(row.label)
    found = {by_present_name(name): sorted(view.by_present.items()) if view is not None else []}
    if not row.method_class.per_combination:
        found |= {curve: points for curve, points in _learning(findings, trials, name) if points}
    return {curve: points for curve, points in found.items() if points}


def _learning(
    findings: Findings, trials: Sequence[Finished], metric: str
) -> Iterator[tuple[str, Curve]]:
    """Mean over seeds for each epoch that all seeds have."""
    histories = [findings.results.store.trial(done.trial.id).history() for done in trials]
    for name in ("train/loss", f"val/{metric}_mean"):
        by_seed = [
            {int(line["step"]): line["values"][name] for line in h if name in line["values"]}
            for h in histories
        ]
        steps = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
        yield name, [(step, fmean(values[step] for values in by_seed)) for step in steps]
