"""The hidden files that systems leave beside the files of a user's copy.

Called by tests of datasets that list folders.
"""

from __future__ import annotations

from pathlib import Path

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(139)


def write_companions(root: Path) -> int:
    """Write ``._NAME`` beside every file below a folder, and .DS_Store in every folder.

    Returns how many files were there before.
    """
    files = [path for path in root.rglob("*") if path.is_file()]
    for path in files:
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for folder in {path.parent for path in files}:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder.parent / f"._{folder.name}").write_bytes(APPLE_DOUBLE)
    return len(files)
