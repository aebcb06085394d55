"""The truth on disk: one directory per trial id.

A trial is done when its record is there and its files are whole.

Layout of ``<output>/store/<trial id>/``: ``spec.json``, ``log.txt``, ``metrics.jsonl`` (one line
per epoch), ``checkpoint.pt`` (while training), ``weights.pt`` (selected epoch), ``scores.npz``
(per-sample evidence), ``record.json`` (all is over) or ``failure.json``. A trial that was asked for
val only has ``val.npz`` and ``selection.json`` instead, and keeps its checkpoint; one that came in
an archive (harness/share.py) has ``origin.json``. Everything is written under a temporary name,
synced, and renamed.

Nothing is read back unchecked: the record holds the sha256 of evidence, weights, curve and of
itself (``record.py``), and a checkpoint ends with its own (``checkpoint.py``).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.store.directory import (
    CURVE_FILE,
    ORIGIN,
    PARTIAL,
    SPEC_FILE,
    WEIGHTS,
    TrialDirectory,
)
from harness.store.files import (
    Json,
    canonical_json,
    exclusive,
    file_sha256,
    lock_at_once,
    only_holder,
    read_json,
    write_atomically,
    write_json,
    writing,
)
from harness.store.record import (
    EVIDENCE,
    RECORD_FORMAT,
    VAL_EVIDENCE,
)

__all__ = [
    "CURVE_FILE",
    "EVIDENCE",
    "ORIGIN",
    "PARTIAL",
    "RECORD_FORMAT",
    "SPEC_FILE",
    "VAL_EVIDENCE",
    "WEIGHTS",
    "Json",
    "Store",
    "TrialDirectory",
    "canonical_json",
    "exclusive",
    "file_sha256",
    "lock_at_once",
    "only_holder",
    "read_json",
    "write_atomically",
    "write_json",
    "writing",
]


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
