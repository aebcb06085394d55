"""The prepared arrays of a manifest's splits, and which samples of them can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datasets._manifest.columns import Column
from datasets._manifest.labels import class_map
from datasets._manifest.sheet import Row
from harness.data.prepared import Item, PreparedTable, opened
from harness.errors import UserError

LABEL = "label"
LIBRARIES = ("numpy", "pillow", "scipy")


@dataclass(frozen=True)
class _At:
    """Reads the item at a position."""

    sources: tuple[Path | None, ...]
    read: Callable[[Path], Item]

    def __call__(self, position: int) -> Item:
        path = self.sources[position]
        assert path is not None
        return self.read(path)


@dataclass(frozen=True)
class Arrays:
    """One split's tables in the cache folder.

    One per modality that any of its samples has, and one of its label maps.
    """

    rows: Sequence[Row]
    tables: Mapping[str, PreparedTable]
    folder: Path

    @classmethod
    def of(
        cls,
        split: str,
        rows: Sequence[Row],
        base: Path,
        columns: Sequence[Column],
        stored: Mapping[int, int],
        folder: Path,
    ) -> Arrays:
        """Tables of a split.

        ``stored`` maps class numbers of label maps to classes, empty without label maps.
        """
        tables = {}
        for position, column in enumerate(columns):
            sources = tuple(
                base / row.files[position] if row.files[position] else None for row in rows
            )
            if any(sources):
                tables[column.name] = PreparedTable(
                    _file_name(split, column.name),
                    column.shape,
                    column.dtype,
                    column.operation,
                    sources,
                    _At(sources, column.read),
                    LIBRARIES,
                )
        if stored:
            sources = tuple(base / row.label for row in rows)
            size = columns[0].shape[1:]
            operation = f"label map {sorted(stored.items())} -> {size}"
            read = _At(sources, partial(class_map, stored=stored, size=size))
            tables[LABEL] = PreparedTable(
                _file_name(split, LABEL), size, "uint8", operation, sources, read, LIBRARIES
            )
        return cls(rows, tables, folder)

    def unreadable(self) -> dict[int, str]:
        """Position -> ``path: reason`` of the samples of which a file cannot be decoded.

        Empty before they are prepared.
        """
        try:
            return {
                row: reason
                for table in self.tables.values()
                for row, reason in opened(table, self.folder).unreadable.items()
            }
        except UserError:
            return {}

    def readable(self) -> list[int]:
        """Positions of the samples that are used."""
        bad = self.unreadable()
        return [position for position in range(len(self.rows)) if position not in bad]

    def having(self, modality: int) -> list[int]:
        """Positions of the used samples that have a modality."""
        return [position for position in self.readable() if self.rows[position].files[modality]]

    def stored(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The array of a modality (M, C, H, W).

        Zeros that take no memory where no sample of the split has it.
        """
        if name in self.tables:
            return opened(self.tables[name], self.folder).array
        return torch.zeros(1, *shape).expand(len(self.rows), *shape)


def _file_name(split: str, name: str) -> str:
    return f"{split}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"
