"""Which files are there, and which of a folder are the data's own. Called by datasets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError

MOST_DIGITS = 18

LARGEST_TEXT = 2**28
"""Bytes of a list or a manifest, which are read as a whole: about two million lines."""


def visible(paths: Iterable[Path]) -> list[Path]:
    """The paths whose names do not begin with a dot, sorted.

    Systems leave companions beside the files that they copy or show: ``._NAME`` with the ending of
    the file itself, ``.DS_Store``. None of them is data.
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def text_of(path: Path, way_out: str) -> str:
    """The text of a list, with or without a byte order mark.

    UserError, ending with ``way_out``, for one that is no text or longer than any list is.
    """
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise UserError(f"{path} has more than {LARGEST_TEXT:,} bytes; {way_out}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file; {way_out}") from error


def is_number(text: str) -> bool:
    """Whether a text is a whole number of a few digits, as ids, labels and seconds are."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def exists(path: Path) -> bool:
    """Whether a file or folder is there; False too for a text that is longer than names can be."""
    try:
        path.stat()
    except OSError:
        return False
    return True
