"""The report's sections on the state of the store: last epoch, trials, holes, damage, collapsed
models, remarks.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Comparison, Results
from harness.reporting.document import Paragraph, Section, bullets, section, table
from harness.reporting.text import COLLAPSED_SENTENCE, hole_lines, marked, shown

STORE = "store"


def last_epoch(results: Results, selected: Comparison) -> Section:
    """The selected epoch beside the last one."""
    last, planned = results.comparison("test_last_epoch"), selected.planned
    rows = []
    for label in selected.labels:
        epochs = ", ".join(str(done.record["selected_epoch"]) for done in results.of(label))
        averages = [
            str(shown(found.average[label], planned, found.metric)) for found in (selected, last)
        ]
        rows.append([marked(results, label), *averages, epochs or "–"])
    header = [
        "method",
        "average, selected epoch",
        "average, last epoch",
        "selected epochs, seed by seed, counted from 0",
    ]
    collapsed = any(
        found.average[label].collapsed for found in (selected, last) for label in selected.labels
    )
    return section(
        "Last epoch", table(header, rows), bullets([COLLAPSED_SENTENCE]) if collapsed else None
    )


def seeds(results: Results) -> Section:
    """Which trial stands behind which number."""
    planned = results.plan.study.seeds
    there: dict[tuple[str, int], list[str]] = {}
    for done in results.finished:
        there.setdefault((done.trial.row.label, done.trial.seed), []).append(
            f"{done.trial.id}{_stale(done.status)}"
        )
    rows = [
        [row.label, *(", ".join(there.get((row.label, seed), ["–"])) for seed in planned)]
        for row in results.plan.rows
    ]
    return section(
        "Seeds and trials", table(["method", *(f"seed {seed}" for seed in planned)], rows)
    )


def _stale(status: str) -> str:
    return " (stale)" if status == "stale" else ""


def holes(results: Results) -> Section:
    """Planned trials that are not there."""
    head = (
        f"{len(results.finished)} of {results.plan.size} planned trials are in the table. Not"
        " in it:"
    )
    return section("Holes", Paragraph(head), bullets(hole_lines(results.holes, STORE)))


def damaged(results: Results, problems: Sequence[str]) -> Section:
    """What does not agree with the records."""
    checked = len({done.trial.id for done in results.finished})
    head = (
        f"The files of {checked} trials were compared with their recorded sha256, and the values on"
        " val and test computed again from the stored scores. What does not agree:"
    )
    return section("Damaged trials", Paragraph(head), bullets(problems))


def collapsed(results: Results) -> Section:
    """Models that predict one class, or one number."""
    count = len(results.plan.combinations)
    lines = [
        f"{done.trial.job.name}: {len(done.collapsed)} of {count} combinations"
        f" ({', '.join(done.collapsed)})"
        for done in results.finished
        if done.collapsed
    ]
    what = "number" if results.plan.spec.task == "regression" else "class"
    head = f"One {what} is predicted for every test sample. The score counts like any other:"
    return section("Collapsed models", Paragraph(head), bullets(lines))


def remarks(results: Results) -> Section:
    """What trained models say about themselves, equal remarks of a row's seeds together."""
    found: dict[tuple[str, str], list[str]] = {}
    for done in results.finished:
        starved = done.record["starved_encoder_batches"]
        own = [
            f"{starved} times an encoder had fewer than two samples in a training batch and used"
            " its running statistics"
        ]
        for remark in [*done.record["remarks"], *(own if starved else [])]:
            found.setdefault((done.trial.row.label, remark), []).append(str(done.trial.seed))
    lines = [
        f"{label}, {'seeds' if len(of) > 1 else 'seed'} {', '.join(of)}: {remark}"
        for (label, remark), of in found.items()
    ]
    return section("Remarks of the trained models", bullets(lines))
