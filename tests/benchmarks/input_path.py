"""The input path against the published pipeline's: CPU time per sample on one core.

    python -m tests.benchmarks.input_path

Everything is interleaved in one run. A: what the released CASIA-SURF code does for every sample in
every epoch (three JPEGs decoded, resized to 144, rotated, cropped to 112, flipped, made float). G:
a batch gathered from the prepared arrays to the device, where the augmentation runs. D: gathered
and augmented on this core.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.data.augmentation import RotateCropFlip
from harness.data.images import read_image
from harness.data.prepared import Prepared, PreparedTable, opened, prepare
from tests.benchmarks._paired import DEVICE, one_thread, print_table

MODALITIES = ("rgb", "depth", "ir")
SAMPLES, ROWS, BATCH, ROUNDS = 96, 2048, 64, 7
STORED, SIZE = (144, 144), (112, 112)
Paths = dict[str, tuple[Path, ...]]
Array = np.ndarray[Any, np.dtype[Any]]


def written(folder: Path) -> Paths:
    """JPEGs of 112 to 256 pixels, about 13 kB each, as the distributed face crops are."""
    rng = np.random.default_rng(0)
    for sample in range(SAMPLES):
        for modality in MODALITIES:
            sides = rng.integers(112, 257, 2)
            coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
            face = np.asarray(
                coarse.resize((int(sides[0]), int(sides[1])), Image.Resampling.BICUBIC)
            ).astype(np.int16)
            noisy = (face + rng.integers(-12, 13, face.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{sample}-{modality}.jpg", quality=88)
    return {
        modality: tuple(folder / f"{sample}-{modality}.jpg" for sample in range(SAMPLES))
        for modality in MODALITIES
    }


def repeated(files: Paths, folder: Path) -> list[Prepared]:
    """The same pictures over and over in arrays that no processor cache holds: 3 x 127 MB."""
    found = []
    for name, paths in files.items():
        items = [read_image(path, "RGB", STORED) for path in paths]
        sources = (paths * (ROWS // SAMPLES + 1))[:ROWS]
        table = PreparedTable(
            name,
            (3, *STORED),
            "uint8",
            "repeated",
            sources,
            lambda row, items=items: items[row % SAMPLES],  # type: ignore[misc]
        )
        prepare([table], folder, "fatal")
        found.append(opened(table, folder))
    return found


# ---------------------------------------------------------------------- A, with Pillow or OpenCV


def sides_of(angle: int) -> int:
    turn = math.radians(angle)
    return int(0.8 * STORED[0] * (abs(math.cos(turn)) + abs(math.sin(turn))))


def with_pillow(path: Path, angle: int, x: int, y: int, flip: bool) -> Array:
    picture = Image.open(path).convert("RGB").resize(STORED, Image.Resampling.BILINEAR)
    side, turn = sides_of(angle), math.radians(angle)
    cos, sin, middle = math.cos(turn), math.sin(turn), STORED[0] / 2
    # Pillow counts from the corner of a pixel, OpenCV from its middle: half a pixel on both sides
    # of the turn.
    half, middle = side / 2 + 0.5, middle + 0.5
    back = (cos, sin, middle - half * (cos + sin), -sin, cos, middle - half * (cos - sin))
    turned = picture.transform(
        (side, side), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR
    )
    cropped = turned.crop((x, y, x + SIZE[1], y + SIZE[0]))
    return np.asarray(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else cropped)


def with_opencv(path: Path, angle: int, x: int, y: int, flip: bool) -> Array:
    import cv2

    picture = cv2.resize(cv2.imread(str(path)), STORED)
    side, middle = sides_of(angle), STORED[0] / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), -angle, 1.0)
    matrix[:, 2] += side / 2 - middle
    cropped = cv2.warpAffine(picture, matrix, (side, side))[y : y + SIZE[0], x : x + SIZE[1]]
    return cv2.flip(cropped, 1) if flip else cropped


def per_image(files: Paths, augmented: Callable[..., Array], samples: range) -> None:
    """The published way: every sample decoded and augmented for itself.

    One draw for its modalities, collated into batches of float.
    """
    for start in range(samples.start, samples.stop, BATCH):
        batch: dict[str, list[Tensor]] = {name: [] for name in MODALITIES}
        for sample in range(start, min(start + BATCH, samples.stop)):
            angle = random.randint(-30, 30)
            x, y = (random.randrange(sides_of(angle) - SIZE[0]) for _ in "xy")
            flip = random.random() < 0.5
            for name in MODALITIES:
                image = augmented(files[name][sample % SAMPLES], angle, x, y, flip)
                batch[name].append(
                    torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64))
                    .float()
                    .sub(127.5)
                    .div(128)
                )
        for items in batch.values():
            torch.stack(items).to(DEVICE)


# ---------------------------------------------------------------------- G and D


def gathered(prepared: list[Prepared], batches: Sequence[Tensor]) -> None:
    for rows in batches:
        for one in prepared:
            one.gather(rows).to(DEVICE)


def augmented_here(prepared: list[Prepared], batches: Sequence[Tensor], theta: Tensor) -> None:
    for rows in batches:
        channels = torch.cat([one.gather(rows) for one in prepared], 1)
        RotateCropFlip().apply(channels, theta[rows], SIZE).sub(127.5).div(128)


def speed(samples: int, work: Callable[[], object]) -> float:
    """Samples per second of CPU time of this process."""
    started = time.process_time()
    work()
    return samples / (time.process_time() - started)


@cache
def has_opencv() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    cv2.setNumThreads(1)
    return True


def measured(files: Paths, large: list[Prepared]) -> dict[str, list[float]]:
    """Path -> samples/s, once per round, all paths in every round."""
    generator = torch.Generator().manual_seed(0)
    paths = {"A with Pillow": with_pillow} | (
        {"A with OpenCV": with_opencv} if has_opencv() else {}
    )
    found: dict[str, list[float]] = {name: [] for name in (*paths, "G", "D")}
    for number in range(ROUNDS + 1):
        order = torch.randperm(ROWS, generator=generator).split(BATCH)
        theta = RotateCropFlip().draw(ROWS, STORED, SIZE, generator)
        results = {
            name: speed(BATCH, partial(per_image, files, f, range(BATCH)))
            for name, f in paths.items()
        }
        results["G"] = speed(ROWS, partial(gathered, large, order))
        results["D"] = speed(4 * BATCH, partial(augmented_here, large, order[:4], theta))
        if number:  # the first round warms up
            for name, value in results.items():
                found[name].append(value)
    return found


def main() -> None:
    """Print the table."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        files = written(Path(folder))
        found = measured(files, repeated(files, Path(folder)))
    middle = {name: statistics.median(values) for name, values in found.items()}
    published = [name for name in middle if name.startswith("A")]
    rows = [
        [name, f"{value:.0f}", *(f"{value / middle[base]:.2f}" for base in published)]
        for name, value in middle.items()
    ]
    head = ("path", "samples/s/core", *(f"times {base}" for base in published))
    print_table("Input, 3 modalities", head, rows)


if __name__ == "__main__":
    main()
