"""Which files are there, and which of a folder are the data's own. Called by datasets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths whose names do not begin with a dot, sorted.

    Systems leave companions beside the files that they copy or show: ``._NAME`` with the ending of
    the file itself, ``.DS_Store``. None of them is data.
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def exists(path: Path) -> bool:
    """Whether a file or folder is there; False too for a text that is longer than names can be."""
    try:
        path.stat()
    except OSError:
        return False
    return True
