"""What a study may be called, where it may write, and what its texts may hold.

Called by harness/study/config.py on studies that have been read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import CONTROL, UserError, is_one_line
from harness.errors.credentials import holds_credentials

LONGEST_NAME = 100


def checked_name(name: str) -> str:
    """A study's name; UserError for one that could not be a folder or a line of a report."""
    if not is_one_line(name) or name.startswith(".") or set(name) & set("/\\+"):
        raise UserError(
            f"a study cannot be called {name!r}: its name is a folder's and stands in reports;"
            " rename the file"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise UserError(f"a study's name has at most {LONGEST_NAME} bytes, and {name} has more")
    return name


def checked_folder(key: str, text: str) -> str:
    """A folder that a user named, with ``~`` as the home folder; UserError for what is none."""
    if not text.strip() or not is_one_line(text):
        raise UserError(f"{key}={text!r} must be the name of a folder")
    try:
        folder = str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        raise UserError(f"{key}={text}: there is no such home folder") from error
    try:
        Path(folder).resolve()
    except (RuntimeError, OSError) as error:
        raise UserError(f"{key}={text} is a link that leads to itself") from error
    return folder


def checked_texts(description: str, written: Mapping[str, Any]) -> None:
    """UserError where credentials or control characters would be written to the store.

    ``written``: key -> what of a study decides its trials.
    """
    for key, text in [("description", description), *_texts(written)]:
        if holds_credentials(text):
            raise UserError(
                f"{key} holds credentials, and it is written to the store and to reports; leave"
                " them out"
            )
        if CONTROL.search(text):
            raise UserError(f"{key}={text!r} holds characters that cannot be printed")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain data, keys included, and the key where it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            inner = f"{key}.{name}" if key else str(name)
            yield inner, str(name)
            yield from _texts(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)
