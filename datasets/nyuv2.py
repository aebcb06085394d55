"""NYUv2: real RGB-D pictures of rooms with dense labels, from the user's own copy.

The copy may have any of the forms in which copies exist.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import torch

from datasets._copies import copies
from datasets._nyuv2.copy import FORMS, find_copy
from datasets._nyuv2.decoder import HOLE, Decoder
from datasets._nyuv2.labels import CLASSES
from datasets._nyuv2.layouts import KINDS, Copy
from datasets._nyuv2.options import OPTIONS
from datasets._nyuv2.split import Selection, check_official, scene_runs, selection
from datasets._synthetic import is_synthetic
from datasets._tables import fingerprint_of, spread
from harness.data.augmentation import HsvJitter, ScaleCropFlip
from harness.data.class_weights import median_frequency
from harness.data.contents import content_hashes
from harness.data.prepared import (
    Prepared,
    PreparedTable,
    opened,
    prepare,
    vanished,
)
from harness.data.raw import Raw
from harness.dataset import SPLITS, Augmentation, Dataset, DataSpec, Modality, Progress, Split
from harness.errors import UserError, shown

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DEPTH_MEAN, DEPTH_STD = 2841.94941272766, 1417.2594281672277
"""Of refined training depth in millimetres, as ESANet publishes them; it uses them for raw depth
too.
"""


class NYUv2(Dataset):
    """Real: 1,449 frames of a Kinect in 464 rooms, RGB and depth with 40 (or 13) classes (Silberman
    et al., ECCV 2012).

    795 official training and 654 test images; val comes out of training: the published 381/414
    lists if nyud/val.txt is there, else whole scenes by a fixed rule. Stored once at the size
    wanted: rgb uint8 (bilinear), depth in whole millimetres as int16 and labels uint8 (nearest),
    1.8 MB an image at 480x640. Training pictures are enlarged, cropped and flipped with one draw
    for rgb, depth and label, rgb varies in colour (ESANet's pipeline; the colours before the crop,
    pixel for pixel).
    """

    summary = (
        "1,449 real RGB-D pictures of rooms, 40 or 13 classes; your copy (the .mat or a prepared"
        " layout)"
    )
    root_variable = "NYUV2_ROOT"
    layout = FORMS
    grouping = "scenes"
    sampled = True
    options = OPTIONS

    @property
    def spec(self) -> DataSpec:
        height, width = self._size
        # Published for values from 0 to 1; ours are stored from 0 to 255.
        mean, std = (tuple(255 * value for value in values) for values in IMAGENET)
        rgb = Modality("rgb", (3, height, width), "colour picture", mean, std, kind="picture")
        depth = Modality(
            "depth",
            (1, height, width),
            f"{self.values['depth']} depth in mm",
            mean=(float(HOLE) if self._raw else DEPTH_MEAN,),
            std=(DEPTH_STD,),
            # Bilinear values at an edge would be depths at which nothing is.
            interpolation="nearest",
            kind="depth",
        )
        return DataSpec(
            name="nyuv2",
            task="segmentation",
            modalities=(rgb, depth),
            classes=CLASSES[self._classes],
            metric="miou",
            aligned=True,
            synthetic=is_synthetic(self.root),
            notes=self._notes(),
            class_weights=self._weights,
        )

    def _notes(self) -> tuple[str, ...]:
        """What reports say beside any result."""
        size = f"evaluated at {self._size[0]}x{self._size[1]}"
        if self._size != (480, 640):
            size += ", not at the 480x640 of published results"
        weights = str(self.values["class_weights"]).replace("_", " ")
        notes = [size, f"class weights of the loss: {weights}"]
        if self.root is not None:
            notes.append(self._selection.note)
        return tuple(notes)

    @property
    def _classes(self) -> int:
        return int(self.values["classes"])

    @property
    def _size(self) -> tuple[int, int]:
        return int(self.values["height"]), int(self.values["width"])

    @property
    def _raw(self) -> bool:
        return self.values["depth"] == "raw"

    # ------------------------------------------------------------------ the copy and its splits

    @cached_property
    def _copy(self) -> Copy:
        copy = find_copy(self.folder, self._classes, self._raw)
        if self.values["counts"] == "official" and not is_synthetic(self.root):
            check_official(copy.ids)
        return copy

    @cached_property
    def _selection(self) -> Selection:
        return selection(self.folder, self._copy.ids["train"], self._copy.scenes)

    @cached_property
    def ids(self) -> dict[str, tuple[int, ...]]:
        """Original ids per split, after ``limit``.

        They are evenly spaced, because neighbouring frames are almost equal.
        """
        every = {
            "train": self._selection.train,
            "val": self._selection.val,
            "test": self._copy.ids["test"],
        }
        return {split: spread(part, self.limit) for split, part in every.items()}

    def fingerprint(self) -> str:
        return fingerprint_of(
            [],
            ids=self.ids,
            contents=list(self._hashes.values()),
            labelling=self._copy.labelling,
            operations=self._decoder.operations,
            options=self.values,
        )

    @cached_property
    def _hashes(self) -> dict[Path, str]:
        """Every source, by split, image and kind -> the hash of its content."""
        images = [image for part in self.ids.values() for image in part]
        files = dict.fromkeys(self._copy.source(kind, image) for image in images for kind in KINDS)
        found = content_hashes(files, self.cache)
        gone = [path for path in files if path not in found]
        if gone:
            raise vanished("nyuv2", gone)
        return {path: found[path] for path in files}

    def remarks(self) -> list[str]:
        """Which images of val and test train has too, where each image is a file of its own."""
        copy = self._copy
        first = self.ids["train"][0]
        if copy.source("rgb", first) == copy.source("depth", first):
            return []
        own = {
            split: [self._hashes_of(image) for image in part] for split, part in self.ids.items()
        }
        return copies(("rgb", "depth"), own)

    def _hashes_of(self, image: int) -> list[str]:
        """The hashes of an image's picture and of its depth."""
        return [self._hashes[self._copy.source(kind, image)] for kind in ("rgb", "depth")]

    # ------------------------------------------------------------------ what is prepared

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(
            self._copy,
            self._size,
            self._classes,
            depth=str(self.values["depth"]),
            depth_unit=str(self.values["depth_unit"]),
            train=self.ids["train"],
        )

    def _tables(self, split: str) -> dict[str, PreparedTable]:
        images = self.ids[split]
        return {kind: self._decoder.table(split, kind, images) for kind in KINDS}

    def prepare(self, progress: Progress) -> list[str]:
        policy = cast(Literal["exclude", "fatal"], self.values["unreadable"])
        _, how_depth_is_read = self._decoder.unit
        sentences: list[str] = [
            f"NYUv2 in the layout of {self._copy.layout}",
            self._selection.origin,
            how_depth_is_read,
            *self._copy.remarks,
        ]
        tables = [table for split in SPLITS for table in self._tables(split).values()]
        prepare(tables, self._cache, policy, progress, sentences.append)
        # The driver asks again what has been prepared.
        for stale in ("_opened", "_median_frequency", "_hashes"):
            self.__dict__.pop(stale, None)
        return sentences + self._left_out() + self._weight_range() + self.remarks()

    def _left_out(self) -> list[str]:
        """How many images cannot be decoded, and which files are to blame."""
        # A file that several splits or kinds need is named once.
        bad: dict[str, None] = {}
        for tables in self._opened.values():
            for table in tables.values():
                bad |= dict.fromkeys(table.unreadable.values())
        if not bad:
            return []
        images = sum(len(rows) for rows in self._excluded.values())
        return [f"{images} images were left out because a file cannot be decoded: {shown(bad)}"]

    def _weight_range(self) -> list[str]:
        """The least and the largest class weight; one of 0 is of a class without a pixel."""
        weights = self._weights
        if weights is None:
            return []
        known = [weight for weight in weights if weight > 0]
        absent = len(weights) - len(known)
        none = f"; {absent} classes occur in no training image" if absent else ""
        return [
            f"class weights of {self.counts()['train']} training images: {min(known):.3g} to"
            f" {max(known):.3g}{none}"
        ]

    # ------------------------------------------------------------------ what is loaded

    @property
    def _cache(self) -> Path:
        if self.cache is None:
            raise UserError(
                "dataset nyuv2 needs a folder for its decoded pictures: dataset.cache=FOLDER"
            )
        return self.cache

    @cached_property
    def _opened(self) -> dict[str, dict[str, Prepared]]:
        found = {}
        for split in SPLITS:
            tables = self._tables(split)
            found[split] = {kind: opened(table, self._cache) for kind, table in tables.items()}
        return found

    @property
    def _excluded(self) -> dict[str, set[int]]:
        """Rows of each split with a file that cannot be decoded; as far as prepared."""
        try:
            found = self._opened
        except UserError:
            return {split: set() for split in SPLITS}
        return {
            split: {row for table in tables.values() for row in table.unreadable}
            for split, tables in found.items()
        }

    def _rows(self, split: str) -> list[int]:
        """The rows of a split whose files can all be decoded."""
        bad = self._excluded[split]
        return [row for row in range(len(self.ids[split])) if row not in bad]

    def counts(self) -> dict[str, int]:
        return {split: len(self._rows(split)) for split in SPLITS}

    def load(self, split: str) -> Split:
        tables, rows = self._opened[split], self._rows(split)
        if not rows:
            raise UserError(f"no {split} image of {self.root} can be decoded; restore the copy")
        inputs = {name: tables[name].array for name in ("rgb", "depth")}
        everything = torch.ones(len(self.ids[split]), 2, dtype=torch.bool)
        varied = Augmentation(ScaleCropFlip(), ("rgb", "depth"), HsvJitter(), ("rgb",))
        whole = Split(
            inputs,
            tables["label"].array,
            everything,
            modalities=self.spec.modalities,
            augmentation=varied if split == "train" else None,
            groups=self._groups(split),
        )
        return whole.select(torch.tensor(rows))

    def raw(self, split: str, modality: str) -> Raw:
        """Depth in millimetres; a hole is 0, or what the study stores holes of raw depth as."""
        found = super().raw(split, modality)
        if found.kind != "depth":
            return found
        return replace(found, metres=0.001, hole=float(HOLE) if self._raw else 0.0)

    def _groups(self, split: str) -> tuple[str, ...]:
        """The scene of each image; runs of neighbouring ids where the copy does not know it."""
        # val is a part of the official training images.
        side = self._copy.ids["test" if split == "test" else "train"]
        scene = {}
        for run in scene_runs(side, self._copy.scenes):
            neighbours = f"images {run[0]} to {run[-1]}"
            for image in run:
                scene[image] = self._copy.scenes.get(image, neighbours)
        return tuple(scene[image] for image in self.ids[split])

    @property
    def _weights(self) -> tuple[float, ...] | None:
        """Class weights, or None.

        They are known once the training labels are prepared, as they are wherever a model is made.
        """
        if self.values["class_weights"] == "none" or self.root is None or self.cache is None:
            return None
        try:
            return self._median_frequency
        except UserError:
            return None

    @cached_property
    def _median_frequency(self) -> tuple[float, ...]:
        labels = self._opened["train"]["label"].array
        return median_frequency((labels[row].long() for row in self._rows("train")), self._classes)
