"""The truth on disk: one directory per trial id.

A trial is done when its record is there and its files are whole.

Layout of ``<output>/store/<trial id>/``: ``spec.json``, ``log.txt``, ``metrics.jsonl`` (one line
per epoch), ``checkpoint.pt`` (while training), ``weights.pt`` (selected epoch), ``scores.npz``
(per-sample evidence), ``record.json`` (all is over) or ``failure.json``. A trial that was asked for
val only has ``val.npz`` and ``selection.json`` instead, and keeps its checkpoint; one that came in
an archive (harness/share.py) has ``origin.json``. Everything is written under a temporary name,
synced, and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from harness.errors import UserError

RECORD_FORMAT = 1
ORIGIN, WEIGHTS = "origin.json", "weights.pt"
PARTIAL = ("selection.json", "val.npz")
"""What stands for the record as long as nobody has asked for test."""

Json = dict[str, Any]


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it is either whole or not there: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write plain data as readable JSON, atomically; NaN is refused."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, lambda stream: stream.write(text.encode() + b"\n"))


def canonical_json(value: object) -> str:
    """Compact JSON with sorted keys: equal values have equal texts; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_json(path: Path) -> Json | None:
    """The object in ``path``; None when the file is absent or not whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def exclusive(
    path: Path,
    waiting: Callable[[], None] = lambda: None,
    still_waiting: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lock file ``path``; wait for another holder. A killed holder frees it.

    ``waiting`` is called once before the wait, ``still_waiting`` several times a second during it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        if not _try_lock(handle):
            waiting()
            while not _try_lock(handle):
                still_waiting()
                time.sleep(0.1)
        yield


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
        if record is None or record.get("format") != RECORD_FORMAT:
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
        """Why the trial failed, or None."""
        return read_json(self / "failure.json")

    def history(self) -> list[Json]:
        """The finished epochs so far: ``step``, ``time`` and ``values`` of each."""
        try:
            text = (self / "metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def save_history(self, history: list[Json]) -> None:
        """Write the finished epochs."""
        text = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in history)
        write_atomically(self / "metrics.jsonl", lambda stream: stream.write(text.encode()))

    def scores(self, file: str = "scores.npz") -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
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

        UserError when they were left out of the archive that the trial came in.
        """
        if self.lacks(WEIGHTS):
            raise UserError(
                f"trial {self.path.name} was imported without its weights; import an archive that"
                f" has them, or remove {self.path.parent.name}/{self.path.name} and run it again"
            )
        return torch.load(self / WEIGHTS, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]

    def describe_files(self, *names: str) -> Json:
        """Size and sha256 of the trial's files, for the record."""
        return {
            n: {"bytes": (self / n).stat().st_size, "sha256": file_sha256(self / n)} for n in names
        }

    def corrupted(self, record: Json) -> list[str]:
        """Names of recorded files whose contents no longer have the recorded sha256."""
        there = {name: facts for name, facts in record["files"].items() if not self.lacks(name)}
        return [
            name for name, facts in there.items() if file_sha256(self / name) != facts["sha256"]
        ]


class CheckpointFile:
    """The training state of one trial in one file; a state that other code wrote is ignored."""

    def __init__(self, path: Path, code: str) -> None:
        self.path = path
        self.code = code

    def save(self, state: Json) -> None:
        """Replace the checkpoint."""
        write_atomically(self.path, lambda stream: torch.save(state | {"code": self.code}, stream))

    def load(self) -> Json | None:
        """The last state, or None; never unpickles anything but tensors and plain data."""
        if not self.path.is_file():
            return None
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        return state if state.pop("code") == self.code else None


class Store:
    """All trials below one output folder, whatever study asked for them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def below(cls, output: str | Path) -> Store:
        """The store of an output folder."""
        return cls(Path(output).resolve() / "store")

    def trial(self, trial_id: str) -> TrialDirectory:
        """The directory of one trial, which may not exist yet."""
        return TrialDirectory(self.root / trial_id)

    def ids(self) -> list[str]:
        """All trials that have left something."""
        return sorted(path.parent.name for path in self.root.glob("*/spec.json"))

    def locked(
        self,
        trial_id: str,
        waiting: Callable[[], None] = lambda: None,
        still_waiting: Callable[[], None] = lambda: None,
    ) -> Any:
        """Hold a trial, so that no two processes train it at once; see ``exclusive``."""
        return exclusive(self.root / "locks" / trial_id, waiting, still_waiting)

    def state(self, trial_id: str, code: str, test: bool = True) -> str:
        """``done``, ``stale`` (done by other code), ``failed``, ``validated`` (all but test),
        ``started`` or ``new``.

        Without ``test`` a trial is done with its part on val.
        """
        trial = self.trial(trial_id)
        record = trial.finished(test)
        if record is not None:
            return "done" if record["code"] == code else "stale"
        if trial.failure() is not None:
            return "failed"
        if trial.selection() is not None:
            return "validated"
        return "started" if (trial / "spec.json").is_file() else "new"

    def set_aside(self, trial_id: str) -> None:
        """Move a trial's directory to ``superseded/``, so that it can be run again and nothing is
        lost.
        """
        target = self.root / "superseded" / f"{trial_id}-{time.strftime('%Y%m%dT%H%M%S')}"
        number = 0
        while target.exists():
            number += 1
            target = target.with_name(f"{target.name}.{number}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.root / trial_id, target)


@contextmanager
def only_holder(path: Path, complaint: str) -> Iterator[None]:
    """Hold the lock file ``path`` or raise UserError with the complaint and the holder's process
    number.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        if not _try_lock(handle):
            handle.seek(0)
            raise UserError(
                f"{complaint} (process {handle.read().strip() or 'unknown'}); wait for it, or"
                " end it"
            )
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
