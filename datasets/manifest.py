"""Any data of the user's, described by one CSV.

No code is needed: everything is inferred, and everything is open to options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch

from datasets._copies import copies
from datasets._manifest.columns import Column, columns, unequal_places
from datasets._manifest.csv_file import read_sheet
from datasets._manifest.headers import Scan, hashes, scan
from datasets._manifest.labels import Labels, label_scale, labels
from datasets._manifest.options import OPTIONS, as_declared
from datasets._manifest.sheet import Row, Sheet
from datasets._manifest.splits import Splits, require_both, splits
from datasets._manifest.statistics import save, saved, too_far_from_zero
from datasets._manifest.tables import LABEL, Arrays
from harness.data.prepared import digest, prepare
from harness.data.raw import Raw
from harness.dataset import SPLITS, Dataset, DataSpec, Modality, Progress, Split
from harness.errors import UserError, shown
from harness.protocol.combinations import lattice

MARKERS = ("SYNTHETIC.md", "SYNTHETIC.json")
METRIC = {
    "classification": "accuracy",
    "anti_spoofing": "acer",
    "segmentation": "miou",
    "regression": "mae",
}
HOW = (
    "dataset manifest needs dataset.manifest=PATH, a CSV with the columns split (train, val, test),"
    " label (a class, or a number) or label_path (a map of classes), and one column per modality"
    " with the path of a picture, wav or npy file relative to the CSV; an empty cell is a modality"
    " that the sample does not have; samples with the same text in a column group belong together"
)


class Manifest(Dataset):
    """Your own data: one CSV with the columns split, label or label_path, and one per modality with
    paths relative to the file; optionally group, the same text for samples that belong together.

    Pictures (8 or 16 bit, grey or colour, turned upright) become (C, H, W) of one size, wav files
    log spectrograms (1, frequencies, frames), npy arrays of one shape: (n,) features (n, 1, 1) or a
    sequence (1, 1, n), (channels, time) a series (channels, 1, time), (H, W) one channel, (C, H, W)
    as they are. Series of unequal lengths, (time, features) or (channels, time), get zeros behind
    their ends and a channel that says where frames are. Every channel is normalised by the training
    split. An empty cell is a modality that the sample does not have: it is not shown in training,
    and in evaluation a sample counts for the combinations that it has. Pixels of label maps that
    are 255 are void.
    """

    summary = "your own pictures, sounds and arrays, described by one CSV (dataset.manifest=PATH)"
    options = OPTIONS
    grouping = "groups"

    @classmethod
    def declared(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return as_declared(options)

    # ------------------------------------------------------------------ what is inferred

    @cached_property
    def _sheet(self) -> Sheet:
        if self.manifest is None:
            raise UserError(HOW)
        names = [name.strip() for name in str(self.values["modalities"]).split(",")]
        wanted = [name for name in names if name]
        folder = self.root or self.manifest.parent
        return read_sheet(self.manifest, folder, wanted, str(self.values["task"]))

    @cached_property
    def _scan(self) -> Scan:
        return scan(self._sheet, self.cache)

    @cached_property
    def _columns(self) -> list[Column]:
        return columns(self._sheet, self._scan, self.values)

    @cached_property
    def _labels(self) -> Labels:
        return labels(self._sheet, self._scan, self.values)

    @cached_property
    def _splits(self) -> Splits:
        share, seed = float(self.values["val_share"]), int(self.values["split_seed"])
        classes = self.values["task"] != "regression"
        return splits(self._sheet, share, seed, self.limit, classes)

    @property
    def spec(self) -> DataSpec:
        return self._spec

    @cached_property
    def _spec(self) -> DataSpec:
        sizes = {column.shape[1:] for column in self._columns}
        sound = any(column.kind == "audio" for column in self._columns)
        pixels = not sound and len(sizes) == 1 and sizes != {(1, 1)}
        aligned = {"auto": pixels, "yes": True, "no": False}[str(self.values["aligned"])]
        if self._labels.task == "anti_spoofing":
            require_both(self._sheet, self._splits, self._labels.index)
        complete = sum(all(row.files) for row in self._splits.rows["train"])
        marked = any((self._sheet.folder / name).is_file() for name in MARKERS)
        return DataSpec(
            name="manifest",
            task=self._labels.task,
            modalities=tuple(column.modality for column in self._columns),
            classes=self._labels.classes,
            metric=METRIC[self._labels.task],
            aligned=aligned,
            synthetic=bool(self.values["synthetic"]) or marked,
            notes=tuple(self._found(aligned)),
            complete=None if complete == len(self._splits.rows["train"]) else complete,
            label_scale=self._label_scale(),
            unselectable=self._unselectable(),
        )

    def _label_scale(self) -> tuple[float, float] | None:
        numbers, train = self._labels.numbers, self._splits.rows["train"]
        return label_scale(self._sheet, train, numbers) if numbers else None

    def _unselectable(self) -> tuple[str, ...]:
        """The combinations that no sample of val has."""
        val = self._splits.rows["val"]
        having = {sum(1 << v for v, file in enumerate(row.files) if file) for row in val}
        return tuple(
            combination.name
            for combination in lattice([column.name for column in self._columns])
            if not any(combination.bits & bits == combination.bits for bits in having)
        )

    def _found(self, aligned: bool) -> list[str]:
        """What was inferred, in sentences."""
        classes = self._labels.classes
        predicted = f"{len(classes)} classes: {shown(classes)}"
        if self._labels.numbers:
            low, high = min(self._labels.numbers.values()), max(self._labels.numbers.values())
            predicted = f"numbers from {low:g} to {high:g}"
        sheet = self._sheet
        given = "the column label_path" if sheet.dense else "the column label"
        if self.values["task"] != "auto":
            given = "dataset.options.task"
        where = "not aligned: places differ between modalities"
        if aligned:
            where = "aligned: a place is the same in all modalities"
        return [
            (f"read from {sheet.path.name}: {self._labels.task} by {given}, {predicted}"),
            f"{where} (dataset.options.aligned=yes|no changes that)",
            *(unequal_places(self._columns) if aligned else []),
            *sheet.remarks,
            *self._splits.remarks,
            *self._labels.remarks,
            *(remark for column in self._columns for remark in column.remarks),
            *self._lacking(),
            *self._left_out(),
        ]

    def _lacking(self) -> list[str]:
        """How many samples of each split lack each modality."""
        found = []
        for position, column in enumerate(self._columns):
            missing = {
                name: sum(not row.files[position] for row in rows)
                for name, rows in self._splits.rows.items()
            }
            if any(missing.values()):
                totals = {name: len(rows) for name, rows in self._splits.rows.items()}
                parts = [f"{n} of {totals[name]} in {name}" for name, n in missing.items() if n]
                found.append(f"samples without '{column.name}': {', '.join(parts)}")
        return found

    def _left_out(self) -> list[str]:
        """The samples that cannot be read, once that is known."""
        if self.cache is None:
            return []
        bad = {name: self._arrays(name).unreadable() for name in SPLITS}
        return [
            f"{len(rows)} samples of {name} cannot be read and are left out: {shown(rows.values())}"
            for name, rows in bad.items()
            if rows
        ]

    def inferred(self) -> Mapping[str, Sequence[str]]:
        sheet, rows = self._sheet, self._splits.rows
        samples = []
        for split, count in self.counts().items():
            own = Counter(row.label for row in rows[split])
            each = ", ".join(f"{label} {n:,}" for label, n in sorted(own.items()))
            plain = sheet.dense or self._labels.numbers
            samples.append(f"{split}: {count:,}" + ("" if plain else f" ({each})"))
        kinds = [f"{one.name}: {one.kind}, {one.operation}" for one in self._columns]
        broken = {
            name: reason for name, reason in self._scan.headers.items() if isinstance(reason, str)
        }
        groups = [
            f"{split}: {len({row.group for row in own}):,} groups" for split, own in rows.items()
        ]
        return {
            "read as": kinds,
            "samples": samples,
            "classes": list(self._labels.classes) or ["none: numbers are predicted"],
            "groups": groups if sheet.grouped else ["unknown: there is no column group"],
            "left aside": list(sheet.aside),
            "files without a readable header": [
                shown(f"{name} ({reason})" for name, reason in broken.items())
            ]
            if broken
            else [],
        }

    # ------------------------------------------------------------------ the contract

    def fingerprint(self) -> str:
        rows = [[row.split, row.label, *row.files] for row in self._sheet.rows]
        if self._sheet.grouped:
            rows = [[*row, own.group] for row, own in zip(rows, self._sheet.rows, strict=True)]
        options = {key: value for key, value in self.facts.items() if key != "synthetic"}
        made = [
            [column.name, column.operation, column.shape, column.dtype] for column in self._columns
        ]
        return digest([self._hashes, rows, options, made, self._labels.classes, self.limit])[:16]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        """File as in the manifest -> the hash of its content."""
        return hashes(self._sheet, self._scan.state, self.cache)

    def remarks(self) -> list[str]:
        own = {
            name: [[self._hashes[file] if file else "" for file in row.files] for row in rows]
            for name, rows in self._splits.rows.items()
        }
        return copies(self._sheet.modalities, own)

    def counts(self) -> dict[str, int]:
        """Samples per split; without those that cannot be read once the data are prepared."""
        if self.cache is None:
            return {name: len(rows) for name, rows in self._splits.rows.items()}
        return {name: len(self._arrays(name).readable()) for name in SPLITS}

    def prepare(self, progress: Progress) -> list[str]:
        folder = self._folder()
        unreadable = cast(Literal["exclude", "fatal"], self.values["unreadable"])
        said: list[str] = []
        tables = [table for split in SPLITS for table in self._arrays(split).tables.values()]
        prepare(tables, folder, unreadable, progress, said.append)
        self._scan.save(folder, self._sheet)
        for split in SPLITS:
            self._require_samples(split)
        self._require_classes()
        # Its notes tell what cannot be read, which is known now; the driver asks again what has
        # been prepared.
        for stale in ("_spec", "_hashes"):
            self.__dict__.pop(stale, None)
        found = [
            f"{column.name}: {column.what} -> {'x'.join(map(str, column.shape))}"
            for column in self._columns
        ]
        return [*said, *self.spec.notes, *found, *self._normalise(), *self.remarks()]

    def load(self, split: str) -> Split:
        arrays, sheet = self._arrays(split), self._sheet
        kept = arrays.readable()
        rows = self._splits.rows[split]
        inputs = {column.name: arrays.stored(column.name, column.shape) for column in self._columns}
        target = arrays.stored(LABEL, ()) if sheet.dense else self._target(rows)
        available = torch.tensor([[bool(name) for name in row.files] for row in rows])
        groups = tuple(row.group for row in rows) if sheet.grouped else ()
        whole = Split(inputs, target, available, modalities=self._received(), groups=groups)
        return whole if len(kept) == len(rows) else whole.select(torch.tensor(kept))

    def _target(self, rows: Sequence[Row]) -> torch.Tensor:
        if self._labels.numbers:
            numbers = [self._labels.numbers[row.label] for row in rows]
            return torch.tensor(numbers, dtype=torch.float32)
        return torch.tensor([self._labels.index[row.label] for row in rows])

    def raw(self, split: str, modality: str) -> Raw:
        """Of sounds the waveform of the file at the front-end's rate."""
        position = self._sheet.modalities.index(modality)
        column = self._columns[position]
        stored = super().raw(split, modality)
        if column.front_end is None:
            return stored
        rows, folder = self._splits.rows[split], self._sheet.folder
        kept = self._arrays(split).readable()
        found = column.front_end.raw(lambda n: folder / rows[kept[n]].files[position])
        # The spectrogram as it is stored, then normalised as every stored array of the column.
        return replace(
            found, receive=lambda sounds: stored.receive(list(found.receive(sounds).numpy()))
        )

    # ------------------------------------------------------------------ prepared arrays

    def _arrays(self, split: str) -> Arrays:
        rows, stored = self._splits.rows[split], self._labels.stored
        return Arrays.of(split, rows, self._sheet.folder, self._columns, stored, self._folder())

    def _folder(self) -> Path:
        if self.cache is None:
            raise UserError(
                "dataset manifest keeps what it decodes in a folder; name one with dataset.cache="
            )
        return self.cache

    def _require_samples(self, split: str) -> None:
        arrays = self._arrays(split)
        if not arrays.readable():
            raise UserError(
                f"{self._sheet.path.name}: no sample of {split} can be read"
                f" ({shown(arrays.unreadable().values())}); repair the files"
            )

    def _require_classes(self) -> None:
        """UserError where a class of train has samples, and none of them can be read."""
        if self._sheet.dense or self._labels.numbers:
            return
        arrays, rows = self._arrays("train"), self._splits.rows["train"]
        bad, index = arrays.unreadable(), self._labels.index
        learned = {index[rows[position].label] for position in arrays.readable()}
        for position, row in enumerate(rows):
            if index[row.label] not in learned:
                raise UserError(
                    f"{self._sheet.path.name}: no sample of class '{row.label}' in train can be"
                    f" read ({bad[position]}); repair the files, or take the class out"
                )

    def _normalise(self) -> list[str]:
        """Compute what normalises each modality from the training split, keep it, and say it."""
        train, said = self._arrays("train"), []
        for position, column in enumerate(self._columns):
            table, having = train.tables[column.name], train.having(position)
            mean, std = save(self._folder(), table, having, column.frames)
            said.append(
                f"{column.name}: normalised by train's mean {_few(mean)} and deviation {_few(std)}"
            )
            said += too_far_from_zero(column.name, mean, std)
        return said

    def _received(self) -> tuple[Modality, ...]:
        """The modalities with the training split's mean and deviation."""
        train, found = self._arrays("train"), []
        for position, column in enumerate(self._columns):
            mean, std = saved(self._folder(), train.tables[column.name], train.having(position))
            found.append(replace(column.modality, mean=mean, std=std))
        return tuple(found)


def _few(values: tuple[float, ...]) -> str:
    return shown(f"{value:.4g}" for value in values)
