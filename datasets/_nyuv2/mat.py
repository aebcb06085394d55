"""A user's copy of NYUv2 as distributed: nyu_depth_v2_labeled.mat.

It is HDF5 and read image by image. Called by copy.py beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datasets._nyuv2.labels import RAW_LABELS, Array, without_offset
from datasets._nyuv2.layouts import Copy, Kind, Size
from datasets._nyuv2.split import check_ids
from harness.data.images import bilinear, nearest
from harness.data.prepared import Unreadable
from harness.errors import UserError

MAT = "nyu_depth_v2_labeled.mat"
SPLITS_FILE = "splits.mat"
MAPPINGS = {40: ("classMapping40.mat",), 13: ("classMapping40.mat", "class13Mapping.mat")}
WHERE = "the ESANet repository has it in src/datasets/nyuv2, ankurhanda/nyuv2-meta-data too"
KEYS = {"rgb": "images", "label": "labels"}

DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What h5py raises on a file that is damaged inside, and on cells that are no text."""


@dataclass
class MatCopy(Copy):
    """The .mat file with splits.mat and the class mappings beside it.

    h5py shows its axes reversed, (N, 3, x, y).
    """

    root: Path
    classes: int
    raw: bool
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = MAT
        self.libraries = ("numpy", "h5py")
        self.keys = {**KEYS, "depth": "rawDepths" if self.raw else "depths"}
        self._check_axes()
        self.ids = matlab_splits(self.root / SPLITS_FILE)
        check_ids(self.ids, f"{SPLITS_FILE} counts from 1")
        missing = [i for part in self.ids.values() for i in part if i > len(self._data["images"])]
        if missing:
            raise UserError(
                f"{MAT} has {len(self._data['images'])} images and {SPLITS_FILE} names"
                f" {len(missing)} beyond them"
            )
        self.scenes = self._scenes()
        self._mapping = raw_mapping(self.root, self.classes)
        mapping = hashlib.sha256(self._mapping.tobytes()).hexdigest()
        self.labelling = f"raw labels mapped by {mapping[:12]}"

    @cached_property
    def _data(self) -> Any:
        try:
            import h5py
        except ImportError as error:
            raise UserError(f'{MAT} needs the extra `nyuv2`: pip install -e ".[nyuv2]"') from error
        with self._told("its first bytes"):
            return h5py.File(self.root / MAT, "r")

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """UserError that names ``what`` of the file is damaged."""
        try:
            yield
        except DAMAGE as error:
            raise UserError(
                f"{self.root / MAT} cannot be opened, {what} are damaged ({error}); it has"
                " 2,972,037,809 bytes as published, fetch it again"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_data"}

    def _check_axes(self) -> None:
        with self._told("the names of its arrays"):
            for key in self.keys.values():
                if key not in self._data:
                    raise UserError(
                        f"{self.root / MAT} has no '{key}'; it is not the labelled set of NYUv2, or"
                        " a part of it only"
                    )
            images, depth, labels = (
                tuple(self._data[self.keys[kind]].shape) for kind in ("rgb", "depth", "label")
            )
        count, sides = images[0], images[2:]
        upright = len(images) == 4 and images[1] == 3 and sides[0] >= sides[1]
        if not upright or depth != (count, *sides) or labels != (count, *sides):
            raise UserError(
                f"{self.root / MAT} has images {images}, depth {depth}, labels {labels}; the"
                " original shows (N, 3, 640, 480) and (N, 640, 480) twice (picture, channel, x,"
                " y): the axes were exchanged, use the original file"
            )

    def _scenes(self) -> Mapping[int, str]:
        """Id -> scene name, where the file has them.

        Cells are references to arrays of characters.
        """
        with self._told("the names of its arrays"):
            if "scenes" not in self._data:
                return {}
        with self._told("the names of its scenes"):
            cells = self._data["scenes"][()].ravel()
            names = ["".join(map(chr, self._data[cell][()].ravel().tolist())) for cell in cells]
        if len(names) < max(self.ids["train"]):
            return {}
        return {image: names[image - 1] for image in self.ids["train"]}

    # ------------------------------------------------------------------ what the dataset reads

    def source(self, kind: Kind, image: int) -> Path:
        return self.root / MAT

    def rgb(self, image: int, size: Size) -> Array:
        return _sized(self._read("rgb", image).transpose(2, 1, 0), size, bilinear)

    def depth(self, image: int, size: Size) -> Array:
        return _sized(self._read("depth", image).T[:, :, None], size, nearest)

    def target(self, image: int, size: Size) -> Array:
        labels = self._read("label", image)
        if labels.max() > RAW_LABELS:
            raise UserError(
                f"image {image} of {MAT} has the label {labels.max()}, and raw labels end at"
                f" {RAW_LABELS}"
            )
        return without_offset(_sized(self._mapping[labels].T[:, :, None], size, nearest)[0])

    def _read(self, kind: Kind, image: int) -> Array:
        try:
            found: Array = self._data[self.keys[kind]][image - 1]
        except DAMAGE as error:
            raise Unreadable(self.root / MAT, f"image {image}: {error}") from error
        return found


def _sized(pixels: Array, size: Size, resized: Callable[[Array, Size], Array]) -> Array:
    """Pixels (H, W, C) as (C, h, w)."""
    found = pixels if pixels.shape[:2] == size else resized(pixels, size)
    return np.ascontiguousarray(found.transpose(2, 0, 1))


def matlab_splits(path: Path) -> dict[str, tuple[int, ...]]:
    """Original ids of train and test in splits.mat."""
    content = _matlab(path)
    try:
        return {
            name: tuple(sorted(int(i) for i in content[f"{name}Ndxs"].ravel()))
            for name in ("train", "test")
        }
    except KeyError as error:
        raise UserError(f"{path} has no {error}; take the published file ({WHERE})") from error


def raw_mapping(folder: Path, classes: int) -> Array:
    """(895,) label of each raw label, 0 = void, from the mappings in ``folder``."""
    names = MAPPINGS[classes]
    try:
        return _mapping([_matlab(folder / name) for name in names], classes)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"{' or '.join(names)} in {folder} is not laid out as published ({error}); {WHERE}"
        ) from error


def _mapping(content: Sequence[Any], classes: int) -> Array:
    table = np.append(0, content[0]["mapClass"].ravel()).astype(np.int64)
    if len(table) != RAW_LABELS + 1 or table.max() > 40:
        raise UserError(
            f"classMapping40.mat maps {len(table) - 1} labels to {table.max()}, not 894 to 40; take"
            " the published one"
        )
    if classes == 40:
        return table
    coarse = content[1]["classMapping13"]["labels13"][0, 0].ravel().astype(np.int64)
    return np.asarray(np.append(0, coarse)[table])


def _matlab(path: Path) -> Any:
    """The content of a small file of MATLAB 5."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path.name} is not beside {MAT}, and it is needed; {WHERE}")
    try:
        return loadmat(path)
    # Damaged bytes raise whatever the reader stumbles over.
    except Exception as error:
        raise UserError(
            f"{path} is no readable file of MATLAB 5 ({error or type(error).__name__}); take the"
            f" published one ({WHERE})"
        ) from error
