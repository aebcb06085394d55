"""CASIA-SURF: colour, depth and infrared pictures of faces, live or attacked with printed faces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from datasets._casia.lists import LIVE, Sample, count
from datasets._casia.protocols import (
    HELD_OUT,
    LAYOUT,
    Splits,
    limited,
    read_lists,
    require_files,
    splits,
    unlike_published,
)
from datasets._copies import copies
from datasets._synthetic import is_synthetic
from harness.data.augmentation import RotateCropFlip
from harness.data.contents import content_hashes
from harness.data.images import read_image
from harness.data.prepared import Item, Prepared, PreparedTable, digest, opened, prepare
from harness.dataset import SPLITS, Augmentation, Dataset, DataSpec, Modality, Progress, Split
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range

NAMES = ("rgb", "depth", "ir")
DESCRIPTIONS = ("colour picture of the face", "depth as grey levels", "infrared picture")
STORED = 144 / 112
"""How much larger training pictures are stored than networks see them, as published."""


class CasiaSurf(Dataset):
    """Cropped faces of 1,000 subjects, RGB, depth and infrared (Zhang et al., CVPR 2019), read as
    they are distributed.

    Live is 1, attacks are 0. Protocol ``paper``: the three labelled lists (29,266 / 9,608 /
    57,710). Protocols ``leave_out_4``, ``_5``, ``_6``: the training archive alone; the named attack
    is in test only, and no subject is in two splits. Preparation as published: each picture resized
    on its own, to 144x144 for training (rotated, cropped to 112, flipped on the device; one draw
    for all three) and 112x112 for val and test; (x - 127.5) / 128. About 13 GB are prepared for
    ``paper``.
    """

    protocols: ClassVar[tuple[str, ...]] = ("paper", *HELD_OUT)
    summary = (
        "faces, live or attacked, in RGB, depth and infrared; your own copy in dataset.root (gated,"
        " never downloaded)"
    )
    root_variable = "CASIA_SURF_ROOT"
    layout = LAYOUT
    grouping = "subjects"
    sampled = True
    options = {
        "size": Range(
            112,
            limits=(16, 512),
            help="side of what networks see; training pictures are stored 144/112 times larger",
        ),
        "unreadable": Range(
            "fatal",
            choices=("fatal", "exclude"),
            help="files that cannot be decoded: refuse, or leave samples out",
        ),
        "counts": Range(
            "fatal",
            choices=("fatal", "report"),
            help="lists unlike the published ones: refuse, or go on and say so",
        ),
    }

    @property
    def spec(self) -> DataSpec:
        side = int(self.values["size"])
        notes = [
            "pictures are fed as RGB, depth and infrared as three equal channels; the released code"
            " feeds BGR"
        ]
        if self.protocol == "paper":
            notes.append(
                "the lists of val and test do not name the subjects: intervals take their frames as"
                " independent, and are too narrow; the protocols leave_out_4 to leave_out_6, whose"
                " subjects are known, give the design effect in their reports"
            )
        else:
            notes.append(
                f"protocol {self.protocol}: no subject and not the test attack in common between"
                " splits; not the paper's"
            )
        return DataSpec(
            name="casia_surf",
            task="anti_spoofing",
            modalities=tuple(
                Modality(
                    name,
                    (3, side, side),
                    text,
                    mean=(127.5,) * 3,
                    std=(128.0,) * 3,
                    kind="depth" if name == "depth" else "picture",
                )
                for name, text in zip(NAMES, DESCRIPTIONS, strict=True)
            ),
            classes=("attack", "live"),
            metric="acer",
            aligned=True,
            synthetic=is_synthetic(self.root),
            notes=tuple(notes),
        )

    # ------------------------------------------------------------------ samples

    @cached_property
    def _lists(self) -> tuple[Splits, list[str]]:
        lists, remarks = read_lists(self.folder, self.protocol)
        unlike = unlike_published(lists)
        if unlike and self.values["counts"] == "fatal" and not is_synthetic(self.root):
            raise UserError(
                f"{'; '.join(unlike)}: take the distributed lists, or go on with"
                " dataset.options.counts=report"
            )
        return lists, [*remarks, *unlike]

    @cached_property
    def _samples(self) -> Splits:
        whole = splits(self._lists[0], self.protocol)
        return {name: limited(samples, self.limit) for name, samples in whole.items()}

    def fingerprint(self) -> str:
        rows = {}
        for name, samples in self._samples.items():
            rows[name] = [[*sample.files, sample.label] for sample in samples]
        operations = [table.operation for table in self._every_table]
        choices = [self.protocol, self.limit, self.values]
        return digest([*choices, operations, rows, list(self._hashes.values())])[:16]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """File as in the lists -> hash of its content, in their order."""
        require_files(self.folder, self._samples)
        every = self._samples.values()
        files = [file for samples in every for sample in samples for file in sample.files]
        root = str(self.folder)
        found = content_hashes([f"{root}/{file}" for file in files], self.cache)
        return {file: found[f"{root}/{file}"] for file in files}

    def remarks(self) -> list[str]:
        every = self._samples.items()
        own = {name: [self._of(sample) for sample in samples] for name, samples in every}
        return copies(NAMES, own)

    def _of(self, sample: Sample) -> list[str]:
        return [self._hashes[file] for file in sample.files]

    def counts(self) -> dict[str, int]:
        return {
            name: len(samples) - len(self._left_out(name))
            for name, samples in self._samples.items()
        }

    # ------------------------------------------------------------------ pictures

    @property
    def _cache(self) -> Path:
        if self.cache is None:
            raise UserError("casia_surf needs a folder for decoded pictures: set dataset.cache")
        return self.cache

    @cached_property
    def _tables(self) -> dict[str, list[PreparedTable]]:
        """Split -> what is stored of rgb, depth and ir."""
        side = int(self.values["size"])
        sides = {name: round(side * STORED) if name == "train" else side for name in SPLITS}
        return {
            name: [self._table(name, number, sides[name]) for number in range(len(NAMES))]
            for name in SPLITS
        }

    @property
    def _every_table(self) -> list[PreparedTable]:
        return [table for name in SPLITS for table in self._tables[name]]

    def _table(self, split: str, number: int, side: int) -> PreparedTable:
        sources = tuple(self.folder / sample.files[number] for sample in self._samples[split])
        return PreparedTable(
            name=f"casia_surf-{split}-{NAMES[number]}",
            shape=(3, side, side),
            dtype="uint8",
            operation=f"picture -> RGB, bilinear {side}x{side}",
            sources=sources,
            read=partial(_read, sources, side),
        )

    def _left_out(self, split: str) -> dict[int, str]:
        """Row -> why its sample cannot be used, of one modality or more.

        Empty before the split is prepared.
        """
        try:
            return _unreadable([opened(table, self._cache) for table in self._tables[split]])
        except UserError:
            return {}

    def prepare(self, progress: Progress) -> list[str]:
        self.fingerprint()  # says which files are missing before anything is decoded
        how = cast(Literal["fatal", "exclude"], self.values["unreadable"])
        prepare(self._every_table, self._cache, how, progress)
        # The driver asks again what has been prepared.
        del self._hashes
        found = [f"{name}: {_described(samples)}" for name, samples in self._samples.items()]
        return [*found, *self._lists[1], *self._exclusions(), *self.remarks()]

    def _exclusions(self) -> list[str]:
        left_out = {name: list(self._left_out(name).values()) for name in SPLITS}
        return [
            f"{name}: {count(len(reasons), 'sample')} left out, because a file cannot be read:"
            f" {shown(reasons)}; all are named in casia_surf-{name}-*.json in {self._cache}"
            for name, reasons in left_out.items()
            if reasons
        ]

    def load(self, split: str) -> Split:
        tables = [opened(table, self._cache) for table in self._tables[split]]
        target = torch.tensor([sample.label for sample in self._samples[split]])
        whole = Split(
            {name: table.array for name, table in zip(NAMES, tables, strict=True)},
            target,
            torch.ones(len(target), len(NAMES), dtype=torch.bool),
            modalities=self.spec.modalities,
            augmentation=Augmentation(RotateCropFlip(), NAMES) if split == "train" else None,
            groups=_subjects(self._samples[split]),
        )
        bad = _unreadable(tables)
        return whole.select(_others(len(target), bad)) if bad else whole


def _read(sources: Sequence[Path], side: int, row: int) -> Item:
    return read_image(sources[row], "RGB", (side, side))


def _subjects(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The subject of each sample; none where paths do not tell, as in the val and test archives."""
    subjects = tuple(sample.subject for sample in samples)
    return subjects if all(subjects) else ()


def _unreadable(tables: Sequence[Prepared]) -> dict[int, str]:
    return {row: reason for table in reversed(tables) for row, reason in table.unreadable.items()}


def _others(number: int, bad: dict[int, str]) -> Tensor:
    return torch.tensor([row for row in range(number) if row not in bad])


def _described(samples: Sequence[Sample]) -> str:
    live = sum(sample.label == LIVE for sample in samples)
    return f"{count(len(samples), 'sample')}, {live:,} live and {len(samples) - live:,} attacks"
