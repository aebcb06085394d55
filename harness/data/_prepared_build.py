"""Making one prepared file: decoded by threads, in chunks, resumable after any kind of death.

``<stem>.npy`` counts only once ``<stem>.json`` is there with its checksum. While it is being made,
``<stem>.progress`` lists the chunks whose bytes have reached the disk. Rows are written with
``pwrite``: pages of a map of the whole file would count as memory of this process, and a full disk
would be a signal instead of an error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.data._prepared_table import ArrayFacts, Item, PreparedTable, Unreadable, vanished
from harness.data.contents import Progress
from harness.errors import UserError
from harness.store import file_sha256, read_json, write_json

CHUNK_BYTES = 32 << 20
CHUNK_ROWS = 1024
FORMAT = 1


@dataclass(frozen=True)
class Files:
    """The files of one table in the cache folder."""

    folder: Path
    stem: str

    @property
    def array(self) -> Path:
        return self.folder / f"{self.stem}.npy"

    @property
    def sidecar(self) -> Path:
        return self.folder / f"{self.stem}.json"

    @property
    def progress(self) -> Path:
        return self.folder / f"{self.stem}.progress"

    def remove(self) -> None:
        """Delete them; processes that have the array open keep it."""
        remains = sorted(self.folder.glob(f".{self.stem}.*.tmp"))
        for path in (self.sidecar, self.progress, self.array, *remains):
            path.unlink(missing_ok=True)


@dataclass
class Build:
    """A table's file in the making; ``done`` maps a chunk to the unreadable rows that it has."""

    table: PreparedTable
    facts: ArrayFacts
    files: Files
    done: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows per chunk."""
        return max(1, min(CHUNK_ROWS, CHUNK_BYTES * len(self.table) // self.table.bytes))

    @property
    def key(self) -> dict[str, Any]:
        """A chunk of an earlier process counts only where all of this is equal."""
        return {"format": FORMAT, "rows": self.rows, "facts": self.facts.as_json()}

    def run(self, progress: Progress) -> None:
        """Decode what is not on disk yet and seal the file.

        UserError when the disk is full or a source is gone.
        """
        with _full_disk(self.files.folder):
            self._resume()
            if not self.done:
                self._start()
            with (
                self.files.array.open("r+b") as stream,
                ThreadPoolExecutor(os.cpu_count()) as threads,
            ):
                self._decode(stream, threads, progress)
            self._seal()

    def _resume(self) -> None:
        saved = read_json(self.files.progress) or {}
        whole = self.files.array.is_file() and self.files.array.stat().st_size > self.table.bytes
        if whole and saved.get("key") == self.key:
            self.done = {int(chunk): _by_row(rows) for chunk, rows in saved["done"].items()}

    def _start(self) -> None:
        # Removed, not overwritten: another study may have the old file mapped.
        self.files.remove()
        shape = (len(self.table), *self.table.shape)
        np.lib.format.open_memmap(self.files.array, "w+", np.dtype(self.table.dtype), shape)
        if not hasattr(os, "posix_fallocate"):
            return
        with self.files.array.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, self.files.array.stat().st_size)

    def _decode(self, stream: IO[bytes], threads: ThreadPoolExecutor, progress: Progress) -> None:
        header = self.files.array.stat().st_size - self.table.bytes
        total, row_bytes = len(self.table), self.table.bytes // len(self.table)
        finished = sum(len(self._chunk(chunk)) for chunk in self.done)
        progress(self.table.name, finished, total)
        buffer = np.empty((min(self.rows, total), *self.table.shape), self.table.dtype)
        chunks = -(-total // self.rows)  # rounded up
        for chunk in range(chunks):
            if chunk in self.done:
                continue
            rows = self._chunk(chunk)
            bad = dict(_read_rows(self.table, rows, buffer, threads))
            stream.seek(header + rows.start * row_bytes)
            stream.write(buffer[: len(rows)].data)
            self._save(stream, chunk, bad)
            finished += len(rows)
            progress(self.table.name, finished, total)

    def _chunk(self, chunk: int) -> range:
        return range(chunk * self.rows, min((chunk + 1) * self.rows, len(self.table)))

    def _save(self, stream: IO[bytes], chunk: int, bad: dict[int, str]) -> None:
        stream.flush()
        os.fsync(stream.fileno())
        self.done[chunk] = bad
        write_json(self.files.progress, {"key": self.key, "done": self.done})

    def _seal(self) -> None:
        bad = {row: reason for rows in self.done.values() for row, reason in rows.items()}
        facts = {
            "format": FORMAT,
            "operation": self.table.operation,
            "shape": [len(self.table), *self.table.shape],
            "dtype": self.table.dtype,
            "facts": self.facts.as_json(),
            "bytes": self.files.array.stat().st_size,
            "sha256": file_sha256(self.files.array),
            "unreadable": {str(row): bad[row] for row in sorted(bad)},
            "decoded": sum(source is not None for source in self.table.sources),
        }
        write_json(self.files.sidecar, facts)
        self.files.progress.unlink()


def _by_row(saved: dict[str, str]) -> dict[int, str]:
    return {int(row): reason for row, reason in saved.items()}


def _read_rows(
    table: PreparedTable, rows: range, buffer: Item, threads: ThreadPoolExecutor
) -> Iterator[tuple[int, str]]:
    """Fill the buffer with the items of some rows.

    The rows that cannot be read are zero, and returned with the reason.
    """

    def read(row: int) -> str | None:
        item: Item | int = 0
        reason = None
        if table.sources[row] is not None:
            try:
                item = _item(table, row)
            except Unreadable as error:
                reason = str(error)
        # Zeros are written too: an earlier chunk left its items in the buffer.
        buffer[row - rows.start] = item
        return reason

    for row, reason in zip(rows, threads.map(read, rows), strict=True):
        if reason is not None:
            yield row, reason


def _item(table: PreparedTable, row: int) -> Item:
    path = table.sources[row]
    assert path is not None
    try:
        item = table.read(row)
    except FileNotFoundError as error:
        raise vanished(table.name, [path]) from error
    if item.shape != table.shape:
        raise Unreadable(path, f"shape {item.shape} instead of {table.shape}")
    if not np.can_cast(item.dtype, table.dtype, "same_kind"):
        raise Unreadable(path, f"type {item.dtype} instead of {table.dtype}")
    return item


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk of {folder} became full while data was prepared; make room there and start"
            " again"
        ) from error
