"""The training state of one trial in one file, which says itself whether it is whole."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from harness.store.files import Json, write_atomically


class CheckpointFile:
    """The training state of one trial in one file, sealed by a sha256 at its end.

    A state that other code wrote, or another trial, is ignored; so is a file that is not whole.
    """

    def __init__(
        self, path: Path, code: str, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.path, self.code, self.say = path, code, say

    @property
    def _owner(self) -> Json:
        return {"code": self.code, "trial": self.path.parent.name}

    def save(self, state: Json) -> None:
        """Replace the checkpoint; DiskError when there is no room for it."""

        def write(stream: IO[bytes]) -> None:
            hashing = _Hashing(stream)
            torch.save(state | self._owner, hashing)  # type: ignore[arg-type]
            stream.write(_seal(hashing.sha256.hexdigest()))

        write_atomically(self.path, write)

    def load(self) -> Json | None:
        """The last state, or None; never unpickles anything but tensors and plain data."""
        if not self.path.is_file():
            return None
        if not _is_sealed(self.path):
            self.say(f"{self.path.name} is damaged, or none of ours: training begins again")
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            self.say(f"{self.path.name} cannot be read ({error}): training begins again")
            return None
        owner = {name: state.pop(name, None) for name in self._owner}
        if owner != self._owner:
            self.say(f"{self.path.name} is of other code or of another trial: not used")
            return None
        return state  # type: ignore[no-any-return]


class _Hashing:
    """What torch writes a checkpoint to: passes bytes on, and hashes them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.sha256 = stream, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()


def _seal(sha256: str) -> bytes:
    """What a checkpoint ends with; readers of zip files ignore what stands behind them."""
    return f"\nsha256 {sha256}\n".encode()


def _is_sealed(path: Path) -> bool:
    """Whether a file is what was written, to the last bit."""
    length, sha256 = path.stat().st_size - len(_seal("0" * 64)), hashlib.sha256()
    with path.open("rb") as stream:
        left = max(0, length)
        while left and (chunk := stream.read(min(left, 1 << 20))):
            sha256.update(chunk)
            left -= len(chunk)
        return length >= 0 and stream.read() == _seal(sha256.hexdigest())
