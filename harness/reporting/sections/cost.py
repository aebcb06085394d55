"""The report's section on what each row costs: parameters, time and memory, beside its value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from harness.analysis.findings import Findings
from harness.analysis.results import Finished
from harness.analysis.robustness import pareto
from harness.reporting.document import Figure, Section, bullets, section, table
from harness.reporting.figures import scatter
from harness.reporting.text import ABSENT

HEADER = (
    "method",
    "parameters in training",
    "at inference",
    "train seconds (mean)",
    "encode, ms a sample",
    "fuse, ms a sample and combination",
    "peak memory in MiB (largest)",
)
NOTES = (
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
)


def cost(findings: Findings) -> Section:
    """Parameters, time and memory of each row, and which rows no other one beats on value and
    parameters together.
    """
    results = findings.results
    trials = {row.label: results.of(row.label) for row in results.plan.rows}
    trained = {label: own for label, own in trials.items() if own}
    rows = [[label, *_costs(own)] for label, own in trials.items()]
    return section(
        "Cost",
        _lead(trained),
        _pareto(findings),
        table(HEADER, rows, "What each row costs", paper=True),
        bullets([*NOTES, *_front(findings)]),
    )


def _lead(trained: Mapping[str, Sequence[Finished]]) -> str:
    """The smallest row and the slowest one."""
    if not trained:
        return "No row has been trained yet."
    sizes = {label: own[0].record["parameters"]["inference"] for label, own in trained.items()}
    seconds = {label: _train_seconds(own) for label, own in trained.items()}
    small = min(sizes, key=lambda label: sizes[label])
    slow = max(seconds, key=lambda label: seconds[label])
    return (
        f"{small} has the fewest parameters at inference ({sizes[small]:,}), and a trial of {slow}"
        f" trained longest ({seconds[slow]:.1f} s)."
    )


def _train_seconds(trials: Sequence[Finished]) -> float:
    """Seconds of training, mean over the trials."""
    return float(sum(done.record["train_seconds"] for done in trials) / len(trials))


def _costs(trials: Sequence[Finished]) -> list[str]:
    """A row's cells, in the order of HEADER."""
    if not trials:
        return [ABSENT] * (len(HEADER) - 1)
    records = [done.record for done in trials]
    parameters = records[0]["parameters"]
    memory = max(record["peak_memory_bytes"] for record in records) / 2**20
    return [
        f"{parameters['training']:,}",
        f"{parameters['inference']:,}",
        f"{_train_seconds(trials):.1f}",
        *(ABSENT if time is None else f"{time:.3f}" for time in evaluation_times(trials)),
        f"{memory:.0f}",
    ]


def evaluation_times(trials: Sequence[Finished]) -> tuple[float | None, float | None]:
    """Milliseconds of encoding a sample, and of fusing one combination of it: medians over seeds,
    None where none was measured.
    """
    encode, fuse = [], []
    for done in trials:
        # A record may be without it: then nothing was measured.
        measured = done.record.get("test_evaluation", {"samples": 0})
        samples = measured["samples"]
        if samples:
            combinations = len(done.record["combinations"])
            encode.append(1000 * measured["encode_seconds"] / samples)
            fuse.append(1000 * measured["fuse_seconds"] / samples / combinations)
    return (median(encode), median(fuse)) if encode else (None, None)


# ---------------------------------------------------------------------- value over parameters


def _points(findings: Findings) -> dict[str, tuple[float, float]]:
    """(parameters at inference, average) of the rows that are compared and have a trial."""
    results, means = findings.results, findings.comparison.average
    points = {}
    for label in findings.ranked:
        mean = means[label].mean
        if math.isfinite(mean):
            parameters = results.of(label)[0].record["parameters"]["inference"]
            points[label] = (float(parameters), mean)
    return points


def _front(findings: Findings) -> list[str]:
    """Which rows are on the Pareto front, in a sentence."""
    points = _points(findings)
    if not points:
        return []
    front = pareto(points, findings.comparison.metric.higher_is_better)
    return [
        "no row has at most as many parameters at inference and a mean at least as good as:"
        f" {', '.join(front)}"
    ]


def _pareto(findings: Findings) -> Figure | None:
    points = _points(findings)
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
