"""Which files of a folder are the data's own. Called by every dataset that lists a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths whose names do not begin with a dot, sorted.

    Systems leave companions beside the files that they copy or show: ``._NAME`` with the ending of
    the file itself, ``.DS_Store``. None of them is data.
    """
    return sorted(path for path in paths if not path.name.startswith("."))
