"""A folder of our own with a path that is short enough for Ray's sockets. Called by ray.py.

The path of a socket has at most 107 bytes on Linux, and Ray's names take most of them: below the
job folders that clusters set TMPDIR to, there is no room.
"""

from __future__ import annotations

import os
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


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user can enter; removed at the end.

    It lies in the system's folder for temporary files (TMPDIR) where its path is short enough, else
    in the user's runtime folder or a usual place. UserError where none will do.
    """
    sweep()
    folder = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def longest_parent() -> int:
    """Bytes that the path of the folder's parent may have."""
    prefix = f"/{NAME}-{os.getpid()}-" + RANDOM * "x"
    session = f"/session_2026-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    return SOCKET_BYTES - len(prefix) - len(session)


def _made() -> Path:
    for parent in _parents():
        if len(os.fsencode(parent)) > longest_parent():
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=f"{NAME}-{os.getpid()}-", dir=parent))
        except OSError:
            continue
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
    """Remove the folders of drivers of ours that were killed."""
    for parent in _parents():
        for path in sorted(parent.glob(f"{NAME}-*")):
            owner = path.name.removeprefix(f"{NAME}-").split("-")[0]
            if owner.isdigit() and _ours(path) and not _runs(int(owner)):
                shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether a process is there; not every system has /proc to look at."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _ours(path: Path) -> bool:
    try:
        # Not through a link: everybody can make one in /tmp.
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return False
