"""Where a report's trials come from: archives of others, and machines that may give other last
digits.
"""

from __future__ import annotations

from harness.analysis.results import Finished, Results
from harness.reporting.document import Section, bullets, section

DECIDING = ("device", "device_name", "platform", "python", "torch", "numpy")
"""Of a machine and its libraries, what may change the last digits of results."""

SHORT = 12
"""Digits of a sha256 that people compare."""


def mixtures(results: Results) -> list[str]:
    """That trials ran on several machines or library versions, and which rows mix them.

    Nothing where all ran on one kind.
    """
    kinds = {
        done.trial.id: tuple(str(done.record["environment"].get(key)) for key in DECIDING)
        for done in results.finished
    }
    count = len(set(kinds.values()))
    if count < 2:
        return []
    mixed = [
        row.label
        for row in results.plan.rows
        if len({kinds[done.trial.id] for done in results.of(row.label)}) > 1
    ]
    which = f"rows that mix them: {', '.join(mixed)}" if mixed else "each row ran on one of them"
    return [
        f"the trials ran on {count} kinds of machine or library versions, which may differ in last"
        f" digits; {which}"
    ]


def origins(results: Results) -> Section | None:
    """In which archives trials came; no section where all were made in this store."""
    found: dict[str, list[Finished]] = {}
    for done in results.finished:
        way = (results.store.trial(done.trial.id).origin() or {}).get("archives", [])
        if way:
            by = f", by {way[-1]['by']}" if way[-1]["by"] else ""
            found.setdefault(
                f"{way[-1]['archive']} (sha256 {way[-1]['sha256'][:SHORT]}{by})", []
            ).append(done)
    if not found:
        return None
    lines = [f"{name}: {len(trials)} trials, of {_rows(trials)}" for name, trials in found.items()]
    own = len(results.finished) - sum(map(len, found.values()))
    lead = f"{sum(map(len, found.values()))} of {len(results.finished)} trials were imported."
    return section("Where trials come from", lead, bullets([*lines, f"made in this store: {own}"]))


def _rows(trials: list[Finished]) -> str:
    return ", ".join(dict.fromkeys(done.trial.row.label for done in trials))
