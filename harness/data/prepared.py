"""The prepared cache: data decoded once into memory-mapped arrays.

All trials share them through the page cache. One ``.npy`` file and one ``.json`` beside it
(operation, versions, state of the sources, checksum, unreadable rows) per :class:`PreparedTable`.
The driver calls :func:`prepare` before any trial starts; workers only call :func:`opened`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.data._prepared_build import FORMAT, Build, Files
from harness.data._prepared_table import (
    ArrayFacts,
    Item,
    PreparedTable,
    Unreadable,
    digest,
    vanished,
)
from harness.data.contents import Progress, content_hashes
from harness.errors import UserError, shown
from harness.store import Json, exclusive, file_sha256, read_json

__all__ = [
    "Item",
    "Prepared",
    "PreparedTable",
    "Unreadable",
    "digest",
    "opened",
    "prepare",
    "vanished",
]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A table as it lies on disk.

    Attributes:
        array: (N, *shape), a copy-on-write map of the file: nothing that is written to it reaches
            the file.
        unreadable: row -> ``path: reason`` of the items that could not be decoded; their rows are
            zero.
        decoded: how many items were decoded to make the file, however often it has been opened
            since.
    """

    array: Tensor
    unreadable: dict[int, str]
    decoded: int

    def gather(self, rows: Tensor) -> Tensor:
        """The items ``rows`` (B,) int64 as a new tensor (B, *shape)."""
        # A flat view: indexing the dimensions separately costs five times as much.
        return self.array.flatten(1).index_select(0, rows).view(len(rows), *self.array.shape[1:])


def prepare(
    tables: Sequence[PreparedTable],
    folder: Path,
    unreadable: Literal["exclude", "fatal"],
    progress: Progress = lambda name, done, total: None,
    say: Say | None = None,
) -> None:
    """Make, verify or renew the files of some tables; only ever called by the driver.

    Every file is checked against its checksum and its sources' contents; what does not hold is
    made again. A process that was killed is continued where its last chunk reached
    the disk; a second process waits for the first.

    Args:
        tables: what is wanted; several may share sources.
        folder: of the cache.
        unreadable: ``exclude`` records files that cannot be decoded and leaves zeros; ``fatal``
            refuses them, once all are known.
        progress: told (table, items done, items) at the beginning and after every chunk, and how
            far the sources are hashed when that takes long.
        say: told in a sentence why a file is made again; the log by default.

    Raises:
        UserError: sources that are not there, too little room, or unreadable files under ``fatal``.
    """
    say = say or logging.getLogger(__name__).warning
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sources = [path for table in tables for path in table.files]
    hashes = content_hashes(sources, folder, progress)
    facts = [ArrayFacts.of(table, hashes) for table in tables]
    _require_room(tables, facts, folder)
    with ThreadPoolExecutor() as threads:
        # Without locks: files are never changed in place. What does not hold is looked at again
        # under its lock.
        sound = list(threads.map(partial(_sound, folder), tables, facts))
    bad: dict[str, None] = {}
    for table, state, sidecar in zip(tables, facts, sound, strict=True):
        if sidecar is not None:
            bad |= dict.fromkeys(sidecar["unreadable"].values())
            continue
        lock = folder / "locks" / f"{table.file_name}-{table.recipe[:12]}"
        with exclusive(lock, partial(say, _waiting(table))):
            sidecar = _made(table, state, folder, progress, say)
        bad |= dict.fromkeys(sidecar["unreadable"].values())
    if bad and unreadable == "fatal":
        raise UserError(
            f"{len(bad)} file{'s' if len(bad) > 1 else ''} cannot be read: {shown(bad)}; repair"
            " what is named, or leave it out with dataset.options.unreadable=exclude"
        )


def opened(table: PreparedTable, folder: Path) -> Prepared:
    """A table that :func:`prepare` has made; UserError when it has not.

    Reads no source and checks no checksum.
    """
    folder = folder.resolve()
    for files, sidecar in _sealed(table, folder):
        if files.array.is_file() and files.array.stat().st_size == sidecar["bytes"]:
            array = np.load(files.array, mmap_mode="c", allow_pickle=False)
            unreadable = {int(row): reason for row, reason in sidecar["unreadable"].items()}
            return Prepared(torch.from_numpy(np.asarray(array)), unreadable, sidecar["decoded"])
    raise UserError(
        f"'{table.name}' is not prepared in {folder} on this machine; the command that starts the"
        " study prepares it, so start the study again, with a cache folder that all its machines"
        " share"
    )


def _sealed(table: PreparedTable, folder: Path) -> Iterator[tuple[Files, Json]]:
    """The finished files of a table, whatever its sources held and the libraries' versions were.

    Normally one.
    """
    for path in sorted(folder.glob(f"{table.file_name}-*.json")):
        sidecar = read_json(path)
        if sidecar is None or sidecar.get("format") != FORMAT:
            continue
        if sidecar["facts"]["recipe"] == table.recipe:
            yield Files(folder, path.stem), sidecar


def _sound(folder: Path, table: PreparedTable, facts: ArrayFacts) -> Json | None:
    files = Files(folder, facts.stem(table))
    try:
        return read_json(files.sidecar) if _complaint(files, facts) is None else None
    except FileNotFoundError:
        return None


def _made(
    table: PreparedTable, facts: ArrayFacts, folder: Path, progress: Progress, say: Say
) -> Json:
    """The sidecar of a table's valid file, which is made first where necessary.

    Files that it replaces are removed.
    """
    files = Files(folder, facts.stem(table))
    complaint = _complaint(files, facts)
    if complaint is not None:
        outdated = any(True for _ in _sealed(table, folder))
        if outdated:
            say(f"'{table.name}' is prepared again: {complaint}")
        if files.sidecar.exists():
            # Sealed once: what it was made from must not be taken for the unfinished work of a
            # killed process.
            files.remove()
        Build(table, facts, files).run(progress)
    for other, _ in list(_sealed(table, folder)):
        if other != files:
            other.remove()
    files.progress.unlink(missing_ok=True)
    sidecar = read_json(files.sidecar)
    assert sidecar is not None
    return sidecar


def _waiting(table: PreparedTable) -> str:
    return f"'{table.name}' is being prepared by another process; waiting for it"


def _complaint(files: Files, facts: ArrayFacts) -> str | None:
    """Why a table's file does not hold; None when it does."""
    sidecar = read_json(files.sidecar)
    if sidecar is None or sidecar.get("format") != FORMAT:
        return "its sources, or the libraries that read them, have changed"
    if sidecar["facts"] != facts.as_json():
        return "its sources have changed"
    if not files.array.is_file():
        return f"{files.array} is gone"
    size = files.array.stat().st_size
    if size != sidecar["bytes"] or file_sha256(files.array) != sidecar["sha256"]:
        return f"{files.array} has been altered or truncated"
    return None


def _require_room(
    tables: Sequence[PreparedTable], facts: Sequence[ArrayFacts], folder: Path
) -> None:
    """Refuse before anything is written when the disk cannot hold what is still to be written."""
    stems = {state.stem(table): table for table, state in zip(tables, facts, strict=True)}
    needed = sum(
        max(0, table.bytes - _allocated(Files(folder, stem))) for stem, table in stems.items()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"preparing the data needs {needed:,} bytes in {folder} and {free:,} are free there;"
            " make room, or name another folder with dataset.cache="
        )


def _allocated(files: Files) -> int:
    return files.array.stat().st_blocks * 512 if files.array.is_file() else 0
