"""How a folder says that what it holds was made by a program."""

from __future__ import annotations

from pathlib import Path

MARKER = "SYNTHETIC.md"
"""A file of this name at a dataset's root marks every result on it as synthetic."""


def is_synthetic(root: Path | None) -> bool:
    """Whether the data below ``root`` are made up."""
    return root is not None and (root / MARKER).is_file()


def mark(root: Path, description: str) -> None:
    """Mark a folder as synthetic, before anything else is written into it."""
    root.mkdir(parents=True, exist_ok=True)
    text = (
        f"# Synthetic data\n\n{description}\n\nThis file marks every result on this folder as"
        " synthetic; leave it here.\n"
    )
    (root / MARKER).write_text(text, encoding="utf-8")
