"""Whether the store is what it was when its trials ended.

A record must be valid, its files must have their recorded checksums, and the stored scores must
give the recorded values again.
"""

from __future__ import annotations

from harness.analysis.evidence import different_cells
from harness.store import CURVE_FILE, SPEC_FILE, Store, TrialDirectory, read_json
from harness.store.record import fault
from harness.study.plan import Plan


def verify(plan: Plan, store: Store) -> list[str]:
    """One sentence per damaged trial of the plan.

    Every recorded file must have its recorded sha256, and the scores of val and test must give the
    recorded cells again, digit for digit (the last epoch's scores are not kept). The curve and the
    spec must be what they were too, although no result depends on them.
    """
    by_id = {trial.id: trial for trial in [*plan.stages, *plan.trials]}
    found = []
    for trial_id, planned in by_id.items():
        trial = store.trial(trial_id)
        damage = _damage(trial, plan) or _noted(trial)
        if damage is not None:
            found.append(f"trial {trial_id} ({planned.job.name}) is damaged: {damage}")
    return found


def _damage(trial: TrialDirectory, plan: Plan) -> str | None:
    """What is wrong with a trial's record, its files or its values, and the way out."""
    record = trial.record()
    if record is None:
        damage = unusable_record(trial)
    elif record["trial_id"] != trial.path.name:
        damage = f"its record belongs to trial {record['trial_id']}"
    elif changed := trial.corrupted(record):
        damage = f"{' and '.join(changed)} changed after the record was written (sha256)"
    else:
        damage = different_cells(trial, record, plan.combinations)
    if damage is None:
        return None
    return f"{damage}; remove store/{trial.path.name} and run the study again"


def _noted(trial: TrialDirectory) -> str | None:
    """What is damaged of a finished trial without touching its results."""
    record = trial.record()
    notes = [] if record is None else trial.damaged_notes(record)
    if not notes:
        return None
    ways = {
        SPEC_FILE: "the next run writes spec.json again",
        CURVE_FILE: f"to have the curve again, remove store/{trial.path.name} and run the study",
    }
    out = "; ".join(ways[name] for name in notes)
    changed = f"{' and '.join(notes)} changed or gone since the end"
    return f"{changed}, its results do not depend on that; {out}"


def unusable_record(trial: TrialDirectory) -> str | None:
    """Why a trial that has a ``record.json`` has no valid record.

    None when it has a valid one, or none at all.
    """
    if trial.record() is not None or not (trial / "record.json").is_file():
        return None
    record = read_json(trial / "record.json")
    why = fault(record)
    if record is None or why:
        return f"record.json {why}"
    wrong = []
    for name, facts in record["files"].items():
        path = trial / name
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            wrong.append(name)
    return f"{' and '.join(wrong)} missing, or not of the recorded size"
