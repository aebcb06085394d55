"""The samples that a manifest lists, as rows. Called by all that read one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import shown


@dataclass(frozen=True)
class Row:
    """One sample of a manifest.

    ``number``: where it stands in the file; ``label``: a class or a path; ``files``: a path per
    modality, '' for none; ``group``: what it shares with the samples that belong to it, '' without
    a column of groups.
    """

    number: int
    split: str
    label: str
    files: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True)
class Sheet:
    """A manifest's samples.

    Paths are relative to ``folder``; ``dense``: labels are paths of label maps; ``grouped``: there
    is a column of groups; ``aside``: columns that name no files.
    """

    path: Path
    folder: Path
    modalities: tuple[str, ...]
    dense: bool
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    grouped: bool = False
    aside: tuple[str, ...] = ()

    def of(self, split: str) -> list[Row]:
        """The rows of one split, in the file's order."""
        return [row for row in self.rows if row.split == split]


def rows_named(numbers: Sequence[int]) -> str:
    """``row 5`` or ``rows 5, 6, 9 and 4 more``; the header is row 1, as in a spreadsheet."""
    return f"row{'s' if len(numbers) > 1 else ''} {shown(numbers)}"
