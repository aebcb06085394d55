"""A user's copy of NYUv2 as picture files, in one of the three prepared layouts.

Images are keyed by the original, 1-based id. Called by copy.py beside it and by datasets/nyuv2.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets._files import visible
from datasets._nyuv2.labels import Array, without_offset
from datasets._nyuv2.split import check_ids, read_ids
from harness.data.images import read_image, upright_size
from harness.data.prepared import Unreadable
from harness.errors import UserError, shown
from harness.protocol.label_maps import VOID

Size = tuple[int, int]
Kind = Literal["rgb", "depth", "label"]
KINDS: tuple[Kind, ...] = ("rgb", "depth", "label")


class Copy(ABC):
    """A user's copy, whatever its form; ids are the original ones, 1 to 1449.

    Attributes:
        layout: its name.
        ids: ``train`` and ``test`` -> ids, ascending.
        scenes: id -> scene; empty where the copy does not know it.
        remarks: sentences about what was found.
        labelling: what decides classes beside the files themselves; part of the data's identity.
        libraries: distributions that decode it.
    """

    layout: str
    ids: Mapping[str, tuple[int, ...]]
    scenes: Mapping[int, str]
    remarks: list[str]
    labelling: str = ""
    libraries: tuple[str, ...] = ("numpy", "pillow")

    @abstractmethod
    def source(self, kind: Kind, image: int) -> Path:
        """The file that holds it."""

    @abstractmethod
    def rgb(self, image: int, size: Size) -> Array:
        """(3, h, w) uint8, bilinear."""

    @abstractmethod
    def depth(self, image: int, size: Size) -> Array:
        """(1, h, w) in the unit of the copy, 0 = hole, nearest."""

    @abstractmethod
    def target(self, image: int, size: Size) -> Array:
        """(h, w) uint8 class indices with VOID, nearest."""


@dataclass(frozen=True)
class Layout:
    """How a program names what it prepares.

    ``folders``, ``rgb``, ``label`` and ``raw``: names of folders; ``digits`` and ``first``: of file
    numbers; ``void``: the label of pixels without a class.
    """

    name: str
    folders: str
    rgb: str
    label: str
    raw: str | None
    digits: int
    first: int
    void: int

    def folder(self, root: Path, split: str, name: str) -> Path:
        """The folder of a split's files, ``train/rgb``."""
        return root / self.folders.format(split=split, name=name)

    def file(self, image: int) -> str:
        """The name of an image's files."""
        return f"{image - 1 + self.first:0{self.digits}d}.png"


LAYOUTS = (
    Layout(
        "ESANet",
        "{split}/{name}",
        "rgb",
        "labels_{classes}",
        "depth_raw",
        digits=4,
        first=1,
        void=0,
    ),
    Layout(
        "nicr-scene-analysis-datasets",
        "{split}/{name}",
        "rgb",
        "semantic_{classes}",
        "depth_raw",
        digits=4,
        first=0,
        void=0,
    ),
    Layout(
        "nyuv2-python-toolkit",
        "{name}/{split}",
        "image",
        "seg{classes}",
        None,
        digits=5,
        first=1,
        void=VOID,
    ),
)


def find_layout(root: Path) -> Layout | None:
    """The layout of a folder, by the names of its label folders; None if it has none of them."""
    found = [
        layout
        for layout in LAYOUTS
        if any(layout.folder(root, "train", _labels(layout, k)).is_dir() for k in (40, 13))
    ]
    if len(found) > 1:
        raise UserError(
            f"{root} holds NYUv2 in the layouts of {' and '.join(x.name for x in found)}; give each"
            " its own folder"
        )
    return found[0] if found else None


def _labels(layout: Layout, classes: int) -> str:
    return layout.label.format(classes=classes)


@dataclass
class PictureCopy(Copy):
    """A copy in one of the three layouts.

    The files of all images are looked for when it is opened, none is decoded.
    """

    root: Path
    form: Layout
    classes: int
    raw: bool
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = self.form.name
        self.scenes = {}
        depth = self.form.raw if self.raw else "depth"
        if depth is None:
            raise UserError(
                f"the layout of {self.layout} has no raw depth; set dataset.options.depth=refined"
            )
        self.names: dict[Kind, str] = {
            "rgb": self.form.rgb,
            "depth": depth,
            "label": _labels(self.form, self.classes),
        }
        self._files = {
            split: {kind: self._listed(split, kind) for kind in KINDS}
            for split in ("train", "test")
        }
        self.ids = {split: self._numbers(split) for split in ("train", "test")}
        check_ids(self.ids, f"the layout of {self.layout} counts from {self.form.first}")
        self._split = {image: split for split, part in self.ids.items() for image in part}
        for split in self.ids:
            self._check_files(split)
        for kind in KINDS:
            self._check_first(kind)

    def _folder(self, split: str, kind: Kind) -> Path:
        return self.form.folder(self.root, split, self.names[kind])

    def _listed(self, split: str, kind: Kind) -> set[str]:
        folder = self._folder(split, kind)
        if not folder.is_dir():
            raise UserError(
                f"the folder {folder} with the {kind} of NYUv2 is not there (layout of"
                f" {self.layout}); restore it, or choose another of dataset.options.classes or"
                " dataset.options.depth"
            )
        return {path.name for path in visible(folder.glob("*.png"))}

    def _numbers(self, split: str) -> tuple[int, ...]:
        """Original ids of a split: of its list, else of the folder of its labels."""
        path = self.root / f"{split}.txt"
        if path.is_file():
            numbers = read_ids(path)
        else:
            stems = [Path(name).stem for name in self._files[split]["label"]]
            numbers = tuple(int(stem) for stem in stems if stem.isdecimal())
            if self.form.void == 0:
                self.remarks.append(
                    f"{path.name} is not there; the {len(numbers)} files of"
                    f" {self._folder(split, 'label')} were taken"
                )
        if not numbers:
            raise UserError(
                f"{self._folder(split, 'label')} has no files such as {self.form.file(3)}; restore"
                " them"
            )
        return tuple(sorted(number + 1 - self.form.first for number in numbers))

    def _check_files(self, split: str) -> None:
        wanted = {self.form.file(image): image for image in self.ids[split]}
        for kind in KINDS:
            found = self._files[split][kind]
            missing = [name for name in wanted if name not in found]
            if missing:
                raise UserError(self._missing(split, kind, missing, wanted))
            extra = sorted(found - set(wanted))
            if extra:
                folder = self._folder(split, kind)
                self.remarks.append(
                    f"{len(extra)} files of {folder} are on no list and were left out:"
                    f" {shown(extra)}"
                )

    def _missing(
        self, split: str, kind: Kind, missing: list[str], wanted: Mapping[str, int]
    ) -> str:
        folder, found = self._folder(split, kind), self._files[split][kind]
        told = (
            f"{len(missing)} of the {len(wanted)} {split} images have no {kind} in {folder}:"
            f" {shown(missing)}"
        )
        for by, where in ((-1, "before"), (1, "after")):
            if all(self.form.file(image + by) in found for image in wanted.values()):
                return (
                    f"{told}; all are there {where} by one: its names are off by one, rename them"
                )
        return f"{told}; restore them, or take them out of {split}.txt"

    def _check_first(self, kind: Kind) -> None:
        """What a whole folder has wrong shows in its first file, without decoding it.

        Damage is found when all are decoded.
        """
        path = self.source(kind, self.ids["train"][0])
        try:
            with (
                Image.open(path) as picture,
                Image.open(self.source("rgb", self.ids["train"][0])) as beside,
            ):
                mode = picture.mode
                (height, width), expected = upright_size(picture), upright_size(beside)
        except (OSError, UnidentifiedImageError):
            return
        if kind == "label" and mode not in ("L", "P", "I", "I;16"):
            raise UserError(
                f"{path} is a picture of the labels in colours (mode {mode}), and maps of class"
                f" numbers are needed; {path.parent.name} should hold files of one channel with 0"
                f" to {self.classes}"
            )
        if kind == "depth" and not mode.startswith("I"):
            raise UserError(
                f"{path} is a picture of the depth (mode {mode}), and 16-bit distances are needed;"
                " convert it again"
            )
        if (height, width) != expected:
            raise UserError(
                f"{path} has {width}x{height} pixels and its picture"
                f" {expected[1]}x{expected[0]}; they must be equal"
            )

    # ------------------------------------------------------------------ what the dataset reads

    def source(self, kind: Kind, image: int) -> Path:
        return self._folder(self._split[image], kind) / self.form.file(image)

    def rgb(self, image: int, size: Size) -> Array:
        return read_image(self.source("rgb", image), "RGB", size)

    def depth(self, image: int, size: Size) -> Array:
        path = self.source("depth", image)
        found = read_image(path, "index", size)
        if found.dtype == np.uint8:
            raise Unreadable(path, "8 bits where 16 are expected")
        return found

    def target(self, image: int, size: Size) -> Array:
        path = self.source("label", image)
        labels = read_image(path, "index", size)[0]
        self._check_labels(path, labels)
        return without_offset(labels) if self.form.void == 0 else labels.astype(np.uint8)

    def _check_labels(self, path: Path, labels: Array) -> None:
        if self.form.void == 0:
            highest, void = self.classes, {0}
            expected = f"0 (void) to {highest}"
        else:
            highest, void = self.classes - 1, {VOID}
            expected = f"0 to {highest} and {VOID} (void)"
        wrong = sorted(set(np.unique(labels[labels > highest]).tolist()) - void)
        if wrong:
            raise UserError(
                f"{path} has the label {shown(wrong)}, and the layout of {self.layout} has"
                f" {expected}: the labels are offset by one, or not those of {self.classes}"
                " classes; prepare them again"
            )
