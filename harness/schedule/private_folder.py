"""A folder of our own with a path that is short enough for Ray's sockets. Called by ray.py.

The path of a socket has at most 107 bytes on Linux, and Ray's names take most of them: below the
job folders that clusters set TMPDIR to, there is no room.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError

SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""What the system allows."""

NAME = "harness-ray"
ELSEWHERE = ("/tmp", "/var/tmp", "/dev/shm")
RANDOM = 8
"""Characters that ``mkdtemp`` adds to a name."""

LEFT = re.compile(rf"{NAME}-\d+-\w{{{RANDOM}}}")
ATTEMPTS = 3


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user can enter; removed at the end.

    It lies in the system's folder for temporary files (TMPDIR) where its path is short enough, else
    in the user's runtime folder or a usual place. UserError where none will do.
    """
    sweep()
    folder, lock = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def longest_parent() -> int:
    """Bytes that the path of the folder's parent may have."""
    prefix = f"/{NAME}-{os.getpid()}-" + RANDOM * "x"
    session = f"/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    return SOCKET_BYTES - len(prefix) - len(session)


def _made() -> tuple[Path, int]:
    """A new folder, and the lock on it that this process holds."""
    for parent in _parents():
        if len(os.fsencode(parent)) > longest_parent():
            continue
        for _ in range(ATTEMPTS):
            try:
                folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-{os.getpid()}-", dir=parent))
            except OSError:
                break
            # Another driver's sweep may have come in between: then this folder is gone.
            lock = _locked(folder)
            if lock is not None:
                return folder, lock
    tried = ", ".join(map(str, _parents()))
    raise UserError(
        f"Ray needs a folder whose path has at most {longest_parent()} bytes, for its sockets, and"
        f" none of {tried} is one that can be written to; set TMPDIR to a shorter folder, or"
        " executor=local"
    )


def _parents() -> list[Path]:
    """Where the folder may lie, the place that the user named first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    places = [tempfile.gettempdir(), *([runtime] if runtime else []), *ELSEWHERE]
    return list(dict.fromkeys(map(Path, places)))


def sweep() -> None:
    """Remove the folders of drivers of ours that were killed: nobody holds their locks."""
    for parent in _parents():
        for path in sorted(parent.glob(f"{NAME}-*")):
            if not LEFT.fullmatch(path.name) or not _ours(path) or _may_run(path):
                continue
            lock = _locked(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _may_run(folder: Path) -> bool:
    """Whether a process has the number in a folder's name: older drivers hold no lock."""
    try:
        os.kill(int(folder.name.removeprefix(f"{NAME}-").split("-")[0]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _locked(folder: Path) -> int | None:
    """An open lock on a folder; None where another process holds it, or it cannot be had.

    The system frees it when the process dies. Process numbers would not do: those of a driver in
    another container mean nothing here.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _ours(path: Path) -> bool:
    try:
        # Not through a link: everybody can make one in /tmp.
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return False
