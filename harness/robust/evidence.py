"""What an evaluation under a corruption leaves in the store: one file for each condition.

``<output>/store/<trial id>/corrupted/<id>.npz`` holds ``facts`` (JSON: trial, sha256 of its
weights, split, condition, code), whose hash is the file's name, ``scores``, the evidence as
``harness/training/evaluation.py`` defines it, of the combinations that contain the corrupted
modality, and ``seconds``, what it took. The trial's own files stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from harness.protocol.combinations import Combination
from harness.robust.catalogue import CLEAN, Condition
from harness.store import WEIGHTS, Json, TrialDirectory, canonical_json, write_atomically
from harness.training.executed_code import source_hash
from harness.training.spec import Job

FOLDER = "corrupted"
SPLIT = "test"
HERE = Path(__file__).parent
DECIDING = ("definition", "depth", "evaluation", "pictures", "series", "sound")
"""The files of this folder that decide what an evaluation under a corruption gives."""

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile)


@dataclass(frozen=True)
class StoredCondition:
    """A file of evidence: its condition, the code that made it, and the seconds that it took."""

    path: Path
    condition: Condition
    code: str
    seconds: float

    def scores(self) -> Tensor:
        """The evidence (C, N, ...) of the combinations that contain the corrupted modality."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays["scores"])


def code_of(job: Job) -> str:
    """The hash of the code that evaluates a trial under corruptions, the trial's own included."""
    return hashlib.sha256(f"{job.code()}:{_own_code()}".encode()).hexdigest()[:16]


@cache
def _own_code() -> str:
    return ":".join(source_hash(HERE / f"{name}.py") for name in DECIDING)


def definition_of(conditions: Sequence[Condition]) -> str:
    """A fingerprint of a definition of bad sensors: 16 hex digits.

    It is of every condition with its level, and of the code that corrupts and evaluates. Numbers
    with different fingerprints do not compare.
    """
    levels = sorted(canonical_json(asdict(one)) for one in conditions)
    return evidence_id({"code": _own_code(), "conditions": levels})


def facts_of(record: Json, condition: Condition, code: str) -> Json:
    """Everything that decides the evidence of a finished trial under a condition."""
    return {
        "trial": record["trial_id"],
        "weights": record["files"][WEIGHTS]["sha256"],
        "split": SPLIT,
        "condition": asdict(condition),
        "code": code,
    }


def evidence_id(facts: Json) -> str:
    """16 hex digits of the sha256 of the facts' canonical JSON."""
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:16]


def path_of(trial: TrialDirectory, facts: Json) -> Path:
    """The file of some facts."""
    return trial / FOLDER / f"{evidence_id(facts)}.npz"


def keep(trial: TrialDirectory, facts: Json, scores: Tensor, seconds: float) -> None:
    """Write the evidence of one condition, whole or not at all."""
    arrays: dict[str, Any] = {
        "facts": np.array(canonical_json(facts)),
        "scores": scores.numpy(),
        "seconds": np.array(seconds),
    }
    # Counts are mostly zero; scores do not shrink.
    save = np.savez_compressed if scores.dim() == 4 else np.savez
    write_atomically(
        path_of(trial, facts), lambda stream: save(stream, allow_pickle=False, **arrays)
    )


def missing(
    trial: TrialDirectory, record: Json, wanted: Sequence[Condition], code: str
) -> list[Condition]:
    """The conditions without evidence that this code made."""
    return [
        one
        for one in wanted
        if read_facts(path_of(trial, facts_of(record, one, code)), record) is None
    ]


def stored(trial: TrialDirectory, record: Json, code: str | None = None) -> list[StoredCondition]:
    """The evidence of a finished trial's weights, one file for each condition, in order of names.

    Where several versions of the code have left one, that of ``code`` if there is one, else the
    latest file. Files that are damaged, and those of other weights, are left out.
    """
    found: dict[tuple[str, str, int], StoredCondition] = {}
    files = sorted((trial / FOLDER).glob("*.npz"))
    for file in sorted(files, key=lambda file: file.stat().st_mtime):
        one = read_facts(file, record)
        if one is None:
            continue
        what = one.condition
        key = (what.modality, what.corruption, what.severity)
        if key not in found or found[key].code != code:
            found[key] = one
    return [found[key] for key in sorted(found)]


def read_facts(file: Path, record: Json) -> StoredCondition | None:
    """What a file of evidence is of; None unless it is whole, and of these very weights."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if arrays.zip.testzip() is not None:
                return None
            facts, seconds = json.loads(str(arrays["facts"])), float(arrays["seconds"])
        condition = Condition(**facts["condition"])
        expected = facts_of(record, condition, str(facts["code"]))
    except UNREADABLE:
        return None
    if facts != expected or file.stem != evidence_id(facts):
        return None
    return StoredCondition(file, condition, str(facts["code"]), seconds)


def combinations_with(
    combinations: Sequence[Combination], condition: Condition
) -> list[tuple[int, Combination]]:
    """The combinations that a condition is evaluated on, with their positions: all where clean."""
    return [
        (position, one)
        for position, one in enumerate(combinations)
        if condition == CLEAN or condition.modality in one.members
    ]
