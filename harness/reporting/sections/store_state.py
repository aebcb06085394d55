"""The report's sections on the state of the store: last epoch, trials, holes, damage, collapsed
models, remarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.comparison import Comparison
from harness.analysis.results import Results
from harness.reporting.document import Section, bullets, section, table
from harness.reporting.text import COLLAPSED_SENTENCE, hole_lines, marked, shown
from harness.reporting.wording import signed

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
    changes = [
        last.average[label].mean - selected.average[label].mean
        for label in selected.labels
        if math.isfinite(last.average[label].mean - selected.average[label].mean)
    ]
    lead = "No row has been trained to its last epoch yet."
    if changes:
        low, high = (signed(one, selected.metric) for one in (min(changes), max(changes)))
        change = low if low == high else f"{low} to {high}"
        lead = (
            f"Taking the last epoch instead of the one chosen on val changes averages by {change}."
        )
    return section(
        "Last epoch",
        lead,
        table(header, rows),
        bullets([COLLAPSED_SENTENCE]) if collapsed else None,
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
    count = sum(map(len, there.values()))
    return section(
        "Seeds and trials",
        f"{count} trials with seed {', '.join(map(str, planned))} stand behind the numbers above.",
        table(["method", *(f"seed {seed}" for seed in planned)], rows),
    )


def _stale(status: str) -> str:
    return " (stale)" if status == "stale" else ""


def holes(results: Results) -> Section:
    """Planned trials that are not there."""
    head = f"{len(results.finished)} of {results.plan.size} planned trials are in the table"
    lines = hole_lines(results.holes, STORE)
    if not lines:
        return section("Holes", f"{head}.")
    return section("Holes", f"{head}, and these are not:", bullets(lines))


def damaged(results: Results, problems: Sequence[str]) -> Section:
    """What does not agree with the records."""
    checked = len({done.trial.id for done in results.finished})
    head = (
        f"The files of {checked} trials were compared with their recorded sha256, and the values on"
        " val and test computed again from the stored scores"
    )
    if not problems:
        return section("Damaged trials", f"{head}: all agree.")
    return section("Damaged trials", f"{head}, and these do not agree:", bullets(problems))


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
    if not lines:
        return section("Collapsed models", f"No model predicts one {what} for every test sample.")
    head = f"These predict one {what} for every test sample; their scores count like any other:"
    return section("Collapsed models", head, bullets(lines))


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
    if not lines:
        return section("Remarks of the trained models", "No trained model has a remark.")
    count = len({label for label, _ in found})
    lead = f"What trained models of {count} {'row' if count == 1 else 'rows'} say of themselves:"
    return section("Remarks of the trained models", lead, bullets(lines))
