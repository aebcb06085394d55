"""Files that are either whole or not there, and locks that a killed process frees."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError, unwritable

Json = dict[str, Any]


def canonical_json(value: object) -> str:
    """Compact JSON with sorted keys: equal values have equal texts; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """DiskError, which names ``path``, instead of the system's errors inside."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


class _Stream(io.BufferedWriter):
    """A file that remembers why it could not be written: torch says something else of it."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        with self._remembered():
            return super().write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # It writes first what is buffered.
        with self._remembered():
            return super().seek(offset, whence)

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it is either whole or not there: temporary name, fsync, rename.

    DiskError when the system refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _Stream(io.FileIO(temporary, "wb"))
    try:
        try:
            write(stream)
        except Exception:
            if stream.error is not None:
                raise unwritable(path, stream.error) from stream.error
            raise
        with writing(path):
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            temporary.replace(path)
    except BaseException:
        # Closing writes what is buffered, which fails on a full disk once more.
        with suppress(OSError):
            stream.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write plain data as readable JSON, atomically; NaN is refused."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, lambda stream: stream.write(text.encode() + b"\n"))


def read_json(path: Path) -> Json | None:
    """The object in ``path``; None when there is no such file, or it is not whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, RecursionError):
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
    with _lock_file(path) as handle:
        if not _try_lock(handle):
            waiting()
            while not _try_lock(handle):
                still_waiting()
                time.sleep(0.1)
        yield


@contextmanager
def lock_at_once(path: Path) -> Iterator[IO[str] | None]:
    """The lock file ``path``, held and open to be written; None when another process holds it."""
    with _lock_file(path) as handle:
        yield handle if _try_lock(handle) else None


def _lock_file(path: Path) -> IO[str]:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def only_holder(path: Path, complaint: str) -> Iterator[None]:
    """Hold the lock file ``path`` or raise UserError with the complaint and the holder's process
    number.
    """
    with _lock_file(path) as handle:
        if not _try_lock(handle):
            handle.seek(0)
            raise UserError(
                f"{complaint} (process {handle.read().strip() or 'unknown'}); wait for it, or"
                " end it"
            )
        with writing(path):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        yield
