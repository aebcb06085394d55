"""The files of one trial."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.store.files import Json, file_sha256, read_json, write_atomically, write_json
from harness.store.record import CURVE, EVIDENCE, VAL_EVIDENCE, fault, is_whole, sealed

ORIGIN, WEIGHTS = "origin.json", "weights.pt"
SPEC_FILE, CURVE_FILE = "spec.json", "metrics.jsonl"
FAILURE_FILE = "failure.json"
CHECK = "crc32"
"""The key of an epoch's own checksum. Lines written before it was kept have none."""

PARTIAL = ("selection.json", VAL_EVIDENCE)
"""What stands for the record as long as nobody has asked for test."""


class TrialDirectory:
    """The files of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def record(self) -> Json | None:
        """The record of a finished trial.

        None unless it is whole and its files have the recorded sizes.
        """
        return self._whole("record.json")

    def selection(self) -> Json | None:
        """The record, or else its part on val (``cells`` has ``val`` alone).

        None as long as there is neither.
        """
        return self.record() or self._whole("selection.json")

    def finished(self, test: bool) -> Json | None:
        """``record()`` for who asks for test, ``selection()`` for who asks for val only."""
        return self.record() if test else self.selection()

    def _whole(self, name: str) -> Json | None:
        record = read_json(self / name)
        if record is None or fault(record):
            return None
        whole = all(self._there(file, facts["bytes"]) for file, facts in record["files"].items())
        return record if whole else None

    def _there(self, name: str, size: int) -> bool:
        return self.lacks(name) or (
            (self / name).is_file() and (self / name).stat().st_size == size
        )

    def origin(self) -> Json | None:
        """The archives that a trial came in, the last one last (``archives``), and what they
        lacked; None for an own trial.
        """
        return read_json(self / ORIGIN)

    def lacks(self, name: str) -> bool:
        """Whether a recorded file is not there because the archive that the trial came in did not
        hold it.
        """
        return not (self / name).is_file() and name in (self.origin() or {}).get("left_out", [])

    def failure(self) -> Json | None:
        """Why the trial failed; None where it did not, or where that is not what was written."""
        failure = read_json(self / FAILURE_FILE)
        if failure is None or not isinstance(failure.get("reason"), str):
            return None
        return failure if is_whole(failure) else None

    def save_failure(self, failure: Json) -> None:
        """Write ``failure.json`` with its own checksum."""
        write_json(self / FAILURE_FILE, sealed(failure))

    def history(self) -> list[Json]:
        """The finished epochs so far: ``step``, ``time`` and ``values`` of each.

        Those before the first line that is damaged; ``damaged_notes`` says so.
        """
        try:
            lines = (self / CURVE_FILE).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: list[Json] = []
        for line in lines:
            entry = _epoch(line)
            if entry is None:
                break
            found.append(entry)
        return found

    def save_history(self, history: list[Json]) -> None:
        """Write the finished epochs."""
        text = "".join(_line(entry | {CHECK: _check(entry)}) + "\n" for entry in history)
        write_atomically(self / CURVE_FILE, lambda stream: stream.write(text.encode()))

    def save_record(self, name: str, record: Json) -> None:
        """Write ``record.json`` or ``selection.json`` with the checksums of the curve and of
        itself.
        """
        write_json(self / name, sealed(record | {CURVE: file_sha256(self / CURVE_FILE)}))

    def save_spec(self, spec: Json, label: str) -> None:
        """Write what the trial is."""
        write_json(self / SPEC_FILE, spec | {"label": label})

    def damaged_notes(self, record: Json) -> list[str]:
        """The files of a finished trial that no longer say what they said, and decide no result:
        its curve and its spec, which the record holds too.
        """
        curve, spec = record.get(CURVE), read_json(self / SPEC_FILE) or {}
        spec.pop("label", None)
        found = [SPEC_FILE] if spec != record["spec"] else []
        changed = curve is not None and (
            not (self / CURVE_FILE).is_file() or file_sha256(self / CURVE_FILE) != curve
        )
        # Records without a checksum of the curve: what can be read is all that can be asked.
        cut = (self / CURVE_FILE).is_file() and (
            len(self.history()) < len((self / CURVE_FILE).read_bytes().splitlines())
        )
        return [*found, CURVE_FILE] if changed or cut else found

    def scores(self, file: str = EVIDENCE) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        """The arrays of ``scores.npz``: test (C, N, K) float32, test_target (N,), test_available
        (N, V), test_groups (N,) int32 where the dataset knows which samples belong together, and
        the same for val.

        Of a segmentation: test (C, N, K, K) int32 confusion counts and test_calibration (C, N, 15,
        3) float32, and no targets.
        """
        with np.load(self / file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def weights(self) -> dict[str, torch.Tensor]:
        """The state dict of the selected epoch.

        UserError when they were left out of the archive that the trial came in, or are not what
        was recorded.
        """
        if self.lacks(WEIGHTS):
            raise UserError(
                f"trial {self.path.name} was imported without its weights; import an archive that"
                f" has them, or remove {self.path.parent.name}/{self.path.name} and run it again"
            )
        record = self.selection()
        if record is not None and WEIGHTS in self.corrupted(record, WEIGHTS):
            raise UserError(
                f"{WEIGHTS} of trial {self.path.name} is not what was recorded (sha256); remove"
                f" {self.path.parent.name}/{self.path.name} and run it again"
            )
        return torch.load(self / WEIGHTS, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def describe_files(self, *names: str) -> Json:
        """Size and sha256 of the trial's files, for the record."""
        return {
            n: {"bytes": (self / n).stat().st_size, "sha256": file_sha256(self / n)} for n in names
        }

    def corrupted(self, record: Json, *names: str) -> list[str]:
        """Names of recorded files (or of those asked for) whose contents no longer have the
        recorded sha256.
        """
        asked = {name: record["files"][name] for name in names or record["files"]}
        there = {name: facts for name, facts in asked.items() if not self.lacks(name)}
        return [
            name for name, facts in there.items() if file_sha256(self / name) != facts["sha256"]
        ]


def _epoch(line: bytes) -> Json | None:
    """A line of the curve; None when it is not one."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    right = (
        isinstance(entry, dict)
        and isinstance(entry.get("step"), int)
        and isinstance(entry.get("time"), int | float)
        and isinstance(entry.get("values"), dict)
        and all(isinstance(value, int | float) for value in entry["values"].values())
    )
    if not right or entry.get(CHECK, check := _check(entry)) != check:
        return None
    return {key: value for key, value in entry.items() if key != CHECK}


def _line(entry: Json) -> str:
    return json.dumps(entry, sort_keys=True)


def _check(entry: Json) -> int:
    """CRC-32 of an epoch's values; a line that is changed is no epoch."""
    body = {key: value for key, value in entry.items() if key != CHECK}
    return zlib.crc32(_line(body).encode())
