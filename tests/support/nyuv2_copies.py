"""One made-up content of NYUv2, written in every form in which copies exist.

Nothing here uses the code that reads them. Called by tests of NYUv2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

HEIGHT, WIDTH = 24, 32
TRAIN = (3, 4, 5, 8, 9, 10, 13)
TEST = (1, 2, 6, 7, 11, 12)
SMALL = {"height": HEIGHT, "width": WIDTH, "counts": "any"}
MAP_40 = np.concatenate([np.arange(1, 41), np.arange(1, 41)[::-1], np.full(814, 40)]).astype(
    np.uint8
)
"""Class of raw labels 1..894, as ``mapClass`` has it; made up."""

MAP_13 = (np.arange(40) * 5 % 13 + 1).astype(np.uint8)
"""Of 13 classes for each of 40, as ``labels13`` has it; made up."""


@dataclass(frozen=True)
class Content:
    """Images 1..13 in order.

    ``rgb`` (N, H, W, 3); depth and raw depth (N, H, W) float32 in metres; raw labels (N, H, W)
    0..894.
    """

    rgb: Array
    depth: Array
    holes: Array
    labels: Array

    def of_40(self) -> Array:
        return np.concatenate([[0], MAP_40])[self.labels].astype(np.uint8)

    def of_13(self) -> Array:
        return np.concatenate([[0], MAP_13])[self.of_40()].astype(np.uint8)


def content(seed: int = 0) -> Content:
    random = np.random.default_rng(seed)
    shape = (max(TRAIN + TEST), HEIGHT, WIDTH)
    depth = random.uniform(0.8, 9.0, shape).astype(np.float32)
    holes = np.where(random.random(shape) < 0.2, np.float32(0), depth)
    return Content(
        random.integers(0, 256, (*shape, 3), dtype=np.uint8),
        depth,
        holes,
        random.integers(0, 895, shape),
    )


def millimetres(depth: Array) -> Array:
    return (depth * np.float32(1000)).astype(np.uint16)


def save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_esanet(root: Path, given: Content, name: str = "labels", shift: int = 0) -> Path:
    for split, images in (("train", TRAIN), ("test", TEST)):
        names = [f"{image + shift:04d}" for image in images]
        (root / f"{split}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{split}.txt").write_text("\n".join(names))
        for image, stem in zip(images, names, strict=True):
            row = image - 1
            save(root / split / "rgb" / f"{stem}.png", given.rgb[row])
            save(root / split / "depth" / f"{stem}.png", millimetres(given.depth[row]))
            save(root / split / "depth_raw" / f"{stem}.png", millimetres(given.holes[row]))
            save(root / split / f"{name}_40" / f"{stem}.png", given.of_40()[row])
            save(root / split / f"{name}_13" / f"{stem}.png", given.of_13()[row])
    return root


def write_nicr(root: Path, given: Content) -> Path:
    return write_esanet(root, given, name="semantic", shift=-1)


def write_toolkit(root: Path, given: Content) -> Path:
    for split, images in (("train", TRAIN), ("test", TEST)):
        for image in images:
            name = f"{image:05d}.png"
            save(root / "image" / split / name, given.rgb[image - 1])
            save(root / "depth" / split / name, millimetres(given.depth[image - 1]))
            save(root / "seg40" / split / name, given.of_40()[image - 1] - np.uint8(1))
            save(root / "seg13" / split / name, given.of_13()[image - 1] - np.uint8(1))
    return root


def write_mat(root: Path, given: Content, scenes: list[str] | None = None) -> Path:
    """The .mat with its axes as MATLAB's file shows them, splits.mat and both mappings."""
    import h5py
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = given.rgb.transpose(0, 3, 2, 1)
        file["depths"], file["rawDepths"] = (
            given.depth.transpose(0, 2, 1),
            given.holes.transpose(0, 2, 1),
        )
        file["labels"] = given.labels.astype(np.uint16).transpose(0, 2, 1)
        if scenes is not None:
            cells = file.create_dataset("scenes", (1, len(scenes)), dtype=h5py.ref_dtype)
            for i, name in enumerate(scenes):
                cell = file.create_dataset(
                    f"#refs#/{i}", data=np.array([[ord(c)] for c in name], np.uint16)
                )
                cells[0, i] = cell.ref
    columns = {"trainNdxs": TRAIN, "testNdxs": TEST}
    savemat(
        root / "splits.mat",
        {key: np.array(ids, np.uint16)[:, None] for key, ids in columns.items()},
    )
    savemat(root / "classMapping40.mat", {"mapClass": MAP_40[None]})
    savemat(root / "class13Mapping.mat", {"classMapping13": {"labels13": MAP_13[None]}})
    return root
