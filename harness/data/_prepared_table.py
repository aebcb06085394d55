"""What a prepared table is made of, and what its file is therefore called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError, shown

Item = np.ndarray[Any, np.dtype[Any]]


class Unreadable(Exception):
    """A file that is there and cannot be decoded, and why.

    It is corrupt, truncated, or of another shape.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class PreparedTable:
    """One array of the prepared cache: one item of a fixed shape per source, in order.

    Attributes:
        name: what its files' names begin with, ``train-depth``.
        shape: of one item as stored.
        dtype: as stored, ``uint8`` or ``float16``.
        operation: what is done to an item, with every parameter: ``jpeg -> RGB, bilinear 144x144``.
        sources: the file that each item comes from (the same file may come several times); None for
            an item that the data does not have: its row is zero and nothing is read.
        read: position -> the item; raises Unreadable for a file that cannot be decoded. Called from
            several threads at once.
        libraries: distributions whose versions can change what ``read`` returns.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    operation: str
    sources: tuple[Path | None, ...]
    read: Callable[[int], Item]
    libraries: tuple[str, ...] = ("numpy", "pillow")

    def __post_init__(self) -> None:
        if not any(source is not None for source in self.sources):
            raise UserError(
                f"table '{self.name}' has no items: the split is empty or has nothing of this"
                " modality"
            )

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def file_name(self) -> str:
        """The name without what a file's name should not have.

        Names that become equal differ in their recipes.
        """
        return re.sub(r"[^\w.-]", "_", self.name)

    @cached_property
    def bytes(self) -> int:
        """Size of the stored items, without the header of the file."""
        return len(self) * int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The distinct sources, in order of first use."""
        return tuple(dict.fromkeys(source for source in self.sources if source is not None))

    @cached_property
    def recipe(self) -> str:
        """Hash of what the table is meant to be.

        Name, operation, shape, type, and the sources' paths below their common folder.
        """
        names = [str(path.absolute()) for path in self.files]
        # What the first and the last in order have in common, all between them have.
        root = Path(os.path.commonpath([min(names), max(names)]))
        if str(root) in names:  # with a single source it is the file itself
            root = root.parent
        start = len(str(root))
        rows = ["" if source is None else str(source.absolute())[start:] for source in self.sources]
        return digest([self.name, self.operation, self.shape, self.dtype, digest(rows)])


@dataclass(frozen=True)
class ArrayFacts:
    """The state of the world that a table's file was made from; kept beside the file.

    ``contents`` is a hash over what the sources hold.
    """

    recipe: str
    versions: dict[str, str]
    contents: str

    @classmethod
    def of(cls, table: PreparedTable, hashes: Mapping[Path, str]) -> ArrayFacts:
        """From the hashes of its sources; UserError when some are not there."""
        gone = [path for path in table.files if path not in hashes]
        if gone:
            raise vanished(table.name, gone)
        versions = {name: _version(name) for name in sorted(table.libraries)}
        return cls(table.recipe, versions, digest([hashes[path] for path in table.files]))

    def as_json(self) -> dict[str, Any]:
        """Plain data, equal exactly when nothing changed."""
        return asdict(self)

    def stem(self, table: PreparedTable) -> str:
        """The file's name without its ending.

        The table's name and 12 digits of recipe, library versions and sources' contents.
        """
        return f"{table.file_name}-{digest([self.recipe, self.versions, self.contents])[:12]}"


def digest(value: object) -> str:
    """sha256 of plain data, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def vanished(name: str, paths: list[Path]) -> UserError:
    """The error for sources that are not there."""
    return UserError(
        f"{len(paths)} file{'s' if len(paths) > 1 else ''} of '{name}' cannot be found:"
        f" {shown(paths)}; restore what is missing, or take it out of the list of samples"
    )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
