"""Tables of small real pictures for tests of the prepared cache.

Called by tests of the prepared cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from harness.data.images import read_image
from harness.data.prepared import Item, PreparedTable, prepare

Said = list[str]


def pictures(folder: Path, count: int, kind: str = "jpg") -> tuple[Path, ...]:
    """Small real files of random noise, sizes that vary."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    paths = tuple(folder / f"{number}.{kind}" for number in range(count))
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + number % 5, 18, 3), dtype=np.uint8)).save(path)
    return paths


class Counted:
    """Reads pictures and counts the reads of each."""

    def __init__(self, paths: tuple[Path | None, ...], size: tuple[int, int] = (16, 16)) -> None:
        self.paths = paths
        self.size = size
        self.rows: list[int] = []

    def __call__(self, row: int) -> Item:
        self.rows.append(row)
        path = self.paths[row]
        assert path is not None
        return read_image(path, "RGB", self.size)


def table_of(
    paths: tuple[Path | None, ...], name: str = "train-rgb"
) -> tuple[PreparedTable, Counted]:
    read = Counted(paths)
    return PreparedTable(
        name, (3, 16, 16), "uint8", "picture -> RGB, bilinear 16x16", paths, read
    ), read


def make(table: PreparedTable, folder: Path, policy: str = "fatal") -> Said:
    said: Said = []
    prepare([table], folder, policy, say=said.append)  # type: ignore[arg-type]
    return said


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())
