"""What files hold, as hashes: read once, and remembered while a file stays as it is.

Datasets make their fingerprints of them, and the prepared cache the names of its files, so that
data that change are other data whatever their sizes and times say. Only the driver's process asks;
workers open what is prepared.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from harness.errors import DiskError
from harness.store import exclusive, write_atomically

Progress = Callable[[str, int, int], None]
"""What is being done, how many items are done, how many there are."""

P = TypeVar("P", bound=Path | str)
State = tuple[int, int, int, int]
"""Size, times of the last change of the content and of the entry (ns), and inode of a file."""

MEMORY = "hashes/files.txt"
"""Below a cache folder: the sha256 of what follows in a first line, and then JSON."""

RACY_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within the same tick of its
clock (two seconds on FAT), with the same size. Nothing would show that, so it is not remembered.
"""

THREADS = 8
BLOCK = 256
"""Files that a thread takes at once."""

QUIET_SECONDS = 3.0
"""Hashing that is over by then says nothing."""

SPOKEN_SECONDS = 10.0
SAVED_SECONDS = 60.0
"""So often what has been hashed is saved, for a process that is killed."""

TITLE = "hashes of the files"
UNREADABLE = "unreadable: "
"""Begins what stands in the place of a hash."""

_Known = dict[str, list[int | str]]
"""Absolute path -> the four numbers of its state, and the hash."""


def file_state(path: Path | str) -> State | None:
    """What tells, without reading it, that a file is still the same one; None where there is none.

    The time of the entry (ctime) too: no program sets it, so that a change under an old date shows.
    """
    try:
        return _state(os.stat(path))  # noqa: PTH116 (three times as fast, for 290,000 files)
    except OSError as error:
        # A name that is longer than names can be is not there either.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise


def settled(state: State) -> bool:
    """Whether a file's last change is so long ago that a later one will be seen in its state."""
    _, changed, entry, _ = state
    now = time.time_ns()
    return abs(now - changed) > RACY_NS and now - entry > RACY_NS


def content_hashes(
    paths: Iterable[P], cache: Path | None, progress: Progress | None = None
) -> dict[P, str]:
    """The hash of each file's content, without the files that are not there.

    A file that cannot be read has UNREADABLE and the reason in the place of its hash.

    Args:
        paths: of files, as text where there are very many; links are followed.
        cache: the folder where hashes are remembered; None to read everything.
        progress: told (what, files hashed, files to hash) when it takes longer; by default lines
            on stderr say it.
    """
    memory = None if cache is None else cache / MEMORY
    known = {} if memory is None else _remembered(memory)
    found: dict[P, str] = {}
    unknown: list[P] = []
    for path in dict.fromkeys(paths):
        key = _key(path)
        state = file_state(key)
        if state is None:
            continue
        old = known.get(key)
        if old is not None and old[:-1] == [*state]:
            found[path] = str(old[-1])
        else:
            unknown.append(path)
    return found | _hashed(unknown, memory, _Progress(progress or _Lines(), len(unknown)))


# ---------------------------------------------------------------------- reading files


def _hashed(paths: Sequence[P], memory: Path | None, progress: _Progress) -> dict[P, str]:
    """Hash files in threads, and remember those that have settled."""
    found: dict[P, str] = {}
    fresh: _Known = {}
    saved = time.monotonic()
    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            for block in threads.map(_hash_block, blocks):
                for path, state, text in block:
                    found[path] = text
                    if state is not None:
                        fresh[_key(path)] = [*state, text]
                progress.more(len(block))
                if time.monotonic() - saved > SAVED_SECONDS:
                    _remember(memory, fresh)
                    saved = time.monotonic()
        except BaseException:
            # Otherwise Ctrl-C waits until every file is read.
            threads.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            _remember(memory, fresh)
    return found


def _hash_block(paths: Sequence[P]) -> list[tuple[P, State | None, str]]:
    """Path, state where it may be remembered, and hash; files that vanish are left out."""
    found: list[tuple[P, State | None, str]] = []
    for path in paths:
        try:
            found.append((path, *_hash(Path(path))))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found.append((path, None, f"{UNREADABLE}{error.strerror}"))
    return found


def _hash(path: Path) -> tuple[State | None, str]:
    with path.open("rb") as stream:
        before = _state(os.fstat(stream.fileno()))
        text = hashlib.file_digest(stream, "sha256").hexdigest()
        after = _state(os.fstat(stream.fileno()))
    return (after if before == after and settled(after) else None), text


def _state(facts: os.stat_result) -> State:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _key(path: Path | str) -> str:
    # Not resolved: the link is what the user's list names, and its state is that of its target.
    text = str(path)
    return text if text.startswith("/") else str(Path(path).absolute())


# ---------------------------------------------------------------------- remembering


def _remembered(memory: Path) -> _Known:
    """What is remembered; nothing when the file is not there or not exactly what was written."""
    try:
        first, _, body = memory.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if first != hashlib.sha256(body).hexdigest().encode():
        return {}
    known: _Known = json.loads(body)
    return known


def _remember(memory: Path | None, fresh: _Known) -> None:
    """Add hashes to what is remembered, whatever other processes have added meanwhile.

    A folder that cannot be written to (read-only, or full) is no error: files are then read again.
    """
    if memory is None or not fresh:
        return
    try:
        with exclusive(memory.with_suffix(".lock")):
            known = _remembered(memory) | fresh
            body = json.dumps(known, separators=(",", ":")).encode()
            first = hashlib.sha256(body).hexdigest().encode()
            write_atomically(memory, lambda stream: stream.write(first + b"\n" + body))
    except (OSError, DiskError):
        return


# ---------------------------------------------------------------------- saying how far it is


class _Progress:
    """Passes on how many files are hashed, once it has taken a while."""

    def __init__(self, told: Progress, total: int) -> None:
        self.told, self.total, self.done = told, total, 0
        self.started = time.monotonic()

    def more(self, files: int) -> None:
        self.done += files
        if time.monotonic() - self.started > QUIET_SECONDS:
            self.told(TITLE, self.done, self.total)


class _Lines:
    """A line on stderr every ten seconds."""

    def __init__(self) -> None:
        self.printed = time.monotonic() - SPOKEN_SECONDS

    def __call__(self, what: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - self.printed >= SPOKEN_SECONDS:
            self.printed = time.monotonic()
            print(f"{what}: {done:,}/{total:,}", file=sys.stderr, flush=True)
