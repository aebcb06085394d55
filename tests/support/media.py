"""Generated pictures, sounds and arrays of a few samples, and the manifest that describes them.

Called by tests of manifests and of studies on them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import wavfile

SPLITS = {"train": 16, "val": 6, "test": 8}
Rows = list[dict[str, str]]


def picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8, or (H, W) uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def sound(
    path: Path, rate: int, seconds: float, hertz: float, dtype: type[np.generic] = np.int16
) -> None:
    """Write a tone of half the full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    if dtype is np.uint8:
        samples = np.rint(tone * 128 + 128)
    else:
        samples = tone if np.issubdtype(dtype, np.floating) else tone * np.iinfo(dtype).max  # type: ignore[type-var]
    wavfile.write(path, rate, samples.astype(dtype))


def array(path: Path, values: np.ndarray) -> None:
    """Write an npy file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write rows with the first one's keys as columns."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def classification(folder: Path, seed: int = 0) -> Path:
    """Two classes of a grey picture (16x12), a tone of unequal length and a vector of 5.

    All carry the class.
    """
    random, rows = np.random.default_rng(seed), []
    for split, count in SPLITS.items():
        for n in range(count):
            label = n % 2
            stem = f"{split}{n}"
            noise = random.integers(0, 100, (16, 12)).astype(np.uint8)
            picture(folder / f"pic/{stem}.png", noise + np.uint8(100 * label))
            sound(folder / f"snd/{stem}.wav", 4000, 0.1 + 0.01 * n, 300 if label else 900)
            array(folder / f"vec/{stem}.npy", random.normal(label, 1, 5).astype(np.float32))
            rows.append(
                {
                    "split": split,
                    "label": "cat" if label else "dog",
                    "pic": f"pic/{stem}.png",
                    "snd": f"snd/{stem}.wav",
                    "vec": f"vec/{stem}.npy",
                }
            )
    return write_csv(folder / "manifest.csv", rows)


def segmentation(folder: Path, seed: int = 0, size: tuple[int, int] = (32, 48)) -> Path:
    """Colour jpg and 16-bit png of rectangles of class 1 on class 0, some pixels void.

    Both modalities show them.
    """
    random, rows = np.random.default_rng(seed), []
    for split, count in SPLITS.items():
        for n in range(count):
            stem = f"{split}{n}"
            label = np.zeros(size, dtype=np.uint8)
            top, left = random.integers(0, size[0] // 2), random.integers(0, size[1] // 2)
            label[top : top + 12, left : left + 16] = 1
            grey = (60 + 120 * label + random.integers(0, 40, size)).astype(np.uint8)
            depth = (1000 + 2000 * label.astype(np.int64) + random.integers(0, 300, size)).astype(
                np.uint16
            )
            label[0, :3] = 255
            picture(folder / f"rgb/{stem}.jpg", np.stack([grey] * 3, 2))
            picture(folder / f"depth/{stem}.png", depth)
            picture(folder / f"label/{stem}.png", label)
            rows.append(
                {
                    "split": split,
                    "label_path": f"label/{stem}.png",
                    "rgb": f"rgb/{stem}.jpg",
                    "depth": f"depth/{stem}.png",
                }
            )
    return write_csv(folder / "manifest.csv", rows)


def read_rows(path: Path) -> Rows:
    """A manifest's rows, to be changed and written again."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
