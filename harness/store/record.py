"""What a trial's record must look like, and the checksum that it carries of itself.

The store reads no record without asking here; conclude.py seals what it writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from harness.store.files import Json, canonical_json

RECORD_FORMAT = 1
SEAL = "sha256"
"""The key of a record's own checksum. Records written before it was kept have none."""

CURVE = "curve_sha256"
"""The key of the sha256 of ``metrics.jsonl``.

It is none of the recorded files: no result depends on it, so that no trial is run again for it.
"""

SHAPE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("spec", "cells", "counts", "parameters", "environment", "files"), dict),
    **dict.fromkeys(("remarks", "combinations"), list),
    **dict.fromkeys(("train_seconds", "seconds", "val_mean", "peak_memory_bytes"), (int, float)),
    **dict.fromkeys(("epochs", "selected_epoch", "starved_encoder_batches"), int),
    **dict.fromkeys(("code", "metric", "trial_id"), str),
}
"""What a report takes from a record without asking."""

EVIDENCE, VAL_EVIDENCE = "scores.npz", "val.npz"
"""The file of per-sample evidence, and what stands for it until test is asked for."""

TEXTS = ("device", "device_name", "torch")
NUMBERS = ("training", "inference")
TIMES = ("encode_seconds", "fuse_seconds")


def sealed(record: Json) -> Json:
    """The record with its own checksum."""
    return record | {SEAL: _digest(record)}


def fault(record: Json | None) -> str:
    """Why a record is none that this version can use, as the end of a sentence about the file.

    Empty when it can.
    """
    if record is None or record.get("format") != RECORD_FORMAT:
        return "cannot be read, or has a format that this version does not know"
    if wrong := shapeless(record):
        return f"has no usable {', '.join(wrong)}"
    if not is_whole(record):
        return "is not what was written (its sha256 is another)"
    return ""


def is_whole(record: Json) -> bool:
    """Whether a record with a checksum of its own is what was written."""
    try:
        return bool(record.get(SEAL, seal := _digest(record)) == seal)
    # NaN, which no record is written with.
    except ValueError:
        return False


def shapeless(record: Json) -> list[str]:
    """The keys of a record whose values are not of the kind that a report expects."""
    wrong = [key for key, kind in SHAPE.items() if not _is(record.get(key), kind)]
    return wrong + [key for key, right in INSIDE.items() if key not in wrong and not right(record)]


def _digest(record: Json) -> str:
    body = {key: value for key, value in record.items() if key != SEAL}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    # True is an int to Python, and no number to us.
    return isinstance(value, kind) and not isinstance(value, bool)


def _cells(record: Json) -> bool:
    """Whether every split has a cell for every combination, and nothing else."""
    cells, combinations = record["cells"], record["combinations"]
    if "val" not in cells or not isinstance(combinations, list):
        return False
    if not all(isinstance(name, str) for name in combinations):
        return False
    return all(
        isinstance(part, dict)
        and sorted(part) == sorted(combinations)
        and all(map(_cell, part.values()))
        for part in cells.values()
    )


def _cell(cell: object) -> bool:
    if not isinstance(cell, dict):
        return False
    value = cell.get("value", "")
    return (
        (value is None or _is(value, (int, float)))
        and _is(cell.get("n"), int)
        and isinstance(cell.get("collapsed"), bool)
    )


def _normalisation(record: Json) -> bool:
    """Whether it has a mean and a deviation of each channel, where it has any.

    Records written before it was kept have none.
    """
    kept = record.get("normalisation", {})
    if not isinstance(kept, dict):
        return False
    return all(
        isinstance(own, dict)
        and set(own) == {"mean", "std"}
        and all(isinstance(part, list) for part in own.values())
        and all(_is(number, (int, float)) for part in own.values() for number in part)
        for own in kept.values()
    )


def _timing(measured: object) -> bool:
    """Whether it says how long which part of an evaluation took."""
    if not isinstance(measured, dict):
        return False
    if not _is(measured.get("samples"), int):
        return False
    # Nothing else is there where nothing was measured.
    return not measured["samples"] or all(_is(measured.get(key), (int, float)) for key in TIMES)


def _file(facts: object) -> bool:
    if not isinstance(facts, dict):
        return False
    return _is(facts.get("bytes"), int) and isinstance(facts.get("sha256"), str)


def _files(record: Json) -> bool:
    """Whether the evidence is among the files, and all of them have sizes and checksums."""
    cells = record.get("cells")
    evidence = EVIDENCE if isinstance(cells, dict) and "test" in cells else VAL_EVIDENCE
    return evidence in record["files"] and all(map(_file, record["files"].values()))


INSIDE: dict[str, Callable[[Json], bool]] = {
    "spec": lambda r: (
        isinstance(r["spec"].get("dataset"), dict) and _is(r["spec"].get("seed"), int)
    ),
    "cells": _cells,
    "counts": lambda r: all(_is(count, int) for count in r["counts"].values()),
    "files": _files,
    "remarks": lambda r: all(isinstance(remark, str) for remark in r["remarks"]),
    "environment": lambda r: all(isinstance(r["environment"].get(key), str) for key in TEXTS),
    "test_evaluation": lambda r: _timing(r.get("test_evaluation", {"samples": 0})),
    "parameters": lambda r: all(_is(r["parameters"].get(key), int) for key in NUMBERS),
    "normalisation": _normalisation,
}
"""Key -> whether what it holds is of the right kind too, once the key itself is."""
