"""What datasets of clips have in common: a sound and some frames per clip.

They are paired by id and prepared as two tables. Called by CREMA-D and Kinetics-Sounds.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch

from datasets._copies import copies
from datasets._media.audio import FRONT_ENDS, FrontEnd, front_end, is_pointer
from datasets._media.frames import evenly, read_frame, read_video
from datasets._synthetic import is_synthetic
from datasets._tables import fingerprint_of
from harness.data.augmentation import ResizedCropFlip
from harness.data.contents import content_hashes
from harness.data.prepared import Prepared, PreparedTable, opened, prepare, vanished
from harness.data.raw import Raw
from harness.dataset import SPLITS, Augmentation, Dataset, DataSpec, Modality, Progress, Split
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range

IMAGENET_MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
IMAGENET_STD = tuple(255 * value for value in (0.229, 0.224, 0.225))
POINTER_BYTES = 1024
"""Files below this size are looked into, for git-lfs pointers."""

OPTIONS: Mapping[str, Range] = {
    "size": Range(
        224, limits=(16, 512), help="side of the picture that the encoder receives, in pixels"
    ),
    "frontend": Range("A", choices=tuple(FRONT_ENDS), help="spectrogram front-end"),
    "seconds": Range(0.0, limits=(0.0, 60.0), help="sound per clip; 0: as published"),
    "frames": Range(
        6, limits=(1, 64), help="at most so many frames per clip are kept, spread evenly"
    ),
    "unreadable": Range(
        "exclude", choices=("exclude", "fatal"), help="clips with a file that cannot be decoded"
    ),
}


@dataclass(frozen=True)
class Clip:
    """One clip.

    ``label``: its class index; ``frames``: in order, or ``video``: the file that has them.
    """

    id: str
    label: int
    sound: Path
    frames: tuple[Path, ...]
    video: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The clips of each split, and sentences about what was left out or looks odd."""

    splits: Mapping[str, Sequence[Clip]]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of the visual table: the kept frames of all clips, one after another.

    ``files``: of each row; ``numbers``: each row's number among its clip's frames; ``spans``: first
    row and count of each clip.
    """

    files: tuple[Path, ...]
    numbers: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class ClipDataset(Dataset):
    """Base of datasets with the modalities ``audio`` (spectrogram) and ``visual`` (one frame).

    Both are always there. Training shows a random frame, cropped and mirrored at random, ImageNet's
    mean and deviation; evaluation the middle frame, resized. An author writes ``_listing``,
    ``_spec``, ``layout``, and ``published_seconds`` where a front-end had another length on these
    data.
    """

    options: ClassVar[Mapping[str, Range]] = OPTIONS
    sampled = True
    published_seconds: ClassVar[Mapping[str, float]] = {}

    @abstractmethod
    def _listing(self, root: Path) -> Listing:
        """All clips below a root, before ``limit``; reads names and lists, no media.

        UserError where the layout is wrong.
        """

    @abstractmethod
    def _spec(self, modalities: tuple[Modality, ...], synthetic: bool) -> DataSpec:
        """The description with these modalities."""

    @abstractmethod
    def _group(self, clip: Clip) -> str:
        """What a clip shares with others that are not independent of it: its actor, its video."""

    @property
    def spec(self) -> DataSpec:
        size = int(self.values["size"])
        front = self._front_end
        modalities = (
            Modality(
                "audio",
                front.shape,
                f"log spectrogram, front-end {front.name}, {front.seconds:g} s at {front.rate} Hz",
                kind="sound",
            ),
            Modality(
                "visual",
                (3, size, size),
                "one frame of the clip",
                IMAGENET_MEAN,
                IMAGENET_STD,
                kind="picture",
            ),
        )
        return self._spec(modalities, is_synthetic(self.root))

    def counts(self) -> dict[str, int]:
        damaged = self._damaged() if self._is_prepared() else {}
        return {name: sum(n not in damaged for n in span) for name, span in self._spans.items()}

    def fingerprint(self) -> str:
        rows = {
            name: [(clip.id, clip.label) for clip in self._found.splits[name]] for name in SPLITS
        }
        tables = []
        for table in self._tables:
            contents = [self._hashes[path] for path in table.files]
            tables.append([table.operation, table.shape, table.dtype, contents])
        return fingerprint_of(
            [],
            rows=rows,
            tables=tables,
            protocol=self.protocol,
            limit=self.limit,
            options=self.values,
        )

    @cached_property
    def _hashes(self) -> dict[Path, str]:
        """What is prepared -> the hash of its content."""
        files = [path for table in self._tables for path in table.files]
        found = content_hashes(files, self.cache)
        gone = [path for path in files if path not in found]
        if gone:
            raise vanished(self.name, gone)
        return found

    def remarks(self) -> list[str]:
        """Which clips of val and test train has too; a clip's picture is all of its frames."""
        rows, hashes = self._rows, []
        for clip, (first, count) in zip(self._clips, rows.spans, strict=True):
            frames = [self._hashes[path] for path in rows.files[first : first + count]]
            hashes.append((self._hashes[clip.sound], " ".join(frames)))
        by_split = {name: hashes[span.start : span.stop] for name, span in self._spans.items()}
        return copies(("audio", "visual"), by_split)

    def prepare(self, progress: Progress) -> list[str]:
        self._require_media()
        policy = cast(Literal["exclude", "fatal"], self.values["unreadable"])
        prepare(self._tables, self._cache, policy, progress)
        # The driver asks again what has been prepared.
        self.__dict__.pop("_hashes", None)
        damaged = self._damaged()
        sizes = ", ".join(f"{name} {n:,}" for name, n in self.counts().items())
        sentences = [
            f"{len(self._clips):,} clips with {len(self._rows.files):,} frames: {sizes}",
            *self._found.remarks,
        ]
        if damaged:
            names = shown(f"{self._clips[n].id} ({reason})" for n, reason in damaged.items())
            sentences.append(
                f"left out, because a file cannot be decoded: {len(damaged)} clips: {names}"
            )
        return [*sentences, *self.remarks()]

    def load(self, split: str) -> Split:
        audio, visual = self._prepared
        damaged, span = self._damaged(), self._spans[split]
        kept = [n for n in span if n not in damaged]
        # The split's part of the tables alone: an accelerator must not be given all of them three
        # times. Rows, and first frames of clips, are counted from where that part begins.
        takes = torch.tensor(self._rows.spans[span.start : span.stop])  # first frame, count
        first, end = int(takes[0, 0]), int(takes[-1].sum())
        inputs = {"audio": audio.array[span.start : span.stop], "visual": visual.array[first:end]}
        return Split(
            inputs,
            torch.tensor([self._clips[n].label for n in kept]),
            torch.ones(len(kept), 2, dtype=torch.bool),
            rows=torch.tensor(kept) - span.start,
            modalities=self.spec.modalities,
            augmentation=Augmentation(ResizedCropFlip(), ("visual",)) if split == "train" else None,
            takes={"visual": takes - torch.tensor([first, 0])},
            groups=tuple(self._group(self._clips[n]) for n in kept),
        )

    def raw(self, split: str, modality: str) -> Raw:
        """Of ``audio`` the waveform of the clip's file at the front-end's rate."""
        if modality != "audio":
            return super().raw(split, modality)
        damaged = self._damaged()
        sounds = [self._clips[n].sound for n in self._spans[split] if n not in damaged]
        return self._front_end.raw(lambda n: sounds[n])

    # ------------------------------------------------------------------ what lies below the root

    @cached_property
    def _front_end(self) -> FrontEnd:
        name, seconds = str(self.values["frontend"]), float(self.values["seconds"])
        return front_end(name, seconds or self.published_seconds.get(name, 0.0))

    @cached_property
    def _found(self) -> Listing:
        listing = self._listing(self.folder)
        empty = [name for name in SPLITS if not listing.splits[name]]
        if empty:
            raise UserError(
                f"{self.root} has no clips for {', '.join(empty)}; it must hold {self.layout}"
            )
        splits = {name: few(listing.splits[name], self.limit) for name in SPLITS}
        return Listing(splits, listing.remarks)

    @cached_property
    def _clips(self) -> tuple[Clip, ...]:
        return tuple(clip for name in SPLITS for clip in self._found.splits[name])

    @cached_property
    def _spans(self) -> dict[str, range]:
        """The positions of each split's clips in ``_clips``, and so in the audio table."""
        spans, start = {}, 0
        for name in SPLITS:
            spans[name] = range(start, start + len(self._found.splits[name]))
            start = spans[name].stop
        return spans

    def _require_media(self) -> None:
        files: list[Path] = []
        for clip in self._clips:
            files += [clip.sound] if clip.video is None else [clip.sound, clip.video]
        small = [path for path in files if path.stat().st_size < POINTER_BYTES]
        pointers = [path for path in small if is_pointer(path.read_bytes())]
        if pointers:
            raise UserError(
                f"{len(pointers)} of {len(files)} files are git-lfs pointers, not sound or video:"
                f" {shown(pointers)}; fetch what they stand for with `git lfs pull` in the"
                " repository that they come from"
            )

    # ------------------------------------------------------------------ what is prepared

    @cached_property
    def _rows(self) -> _Rows:
        files: list[Path] = []
        numbers: list[int] = []
        spans: list[tuple[int, int]] = []
        for clip in self._clips:
            if clip.video:
                # Always as many: a video of fewer frames shows some of them twice.
                own = [clip.video] * self._at_most
            else:
                own = [clip.frames[k] for k in evenly(len(clip.frames), self._at_most)]
            spans.append((len(files), len(own)))
            files += own
            numbers += range(len(own))
        return _Rows(tuple(files), tuple(numbers), tuple(spans))

    @property
    def _at_most(self) -> int:
        return int(self.values["frames"])

    @property
    def _stored(self) -> tuple[int, int]:
        """Height and width of stored frames.

        The height is 8 / 7 of what encoders receive (256 for 224), the width in the usual
        proportion of 4 to 3.
        """
        height = round(int(self.values["size"]) * 8 / 7)
        return height, round(height * 4 / 3)

    @cached_property
    def _tables(self) -> tuple[PreparedTable, PreparedTable]:
        front, (height, width) = self._front_end, self._stored
        source = f"picture, at most {self._at_most} per clip"
        libraries: tuple[str, ...] = ("numpy", "pillow")
        if self._has_videos:
            source = f"video -> {self._at_most} frames"
            libraries += ("av",)
        audio = PreparedTable(
            f"{self.name}-audio",
            front.shape,
            "float16",
            front.describe(),
            tuple(clip.sound for clip in self._clips),
            self._read_sound,
            ("numpy", "scipy"),
        )
        visual = PreparedTable(
            f"{self.name}-visual",
            (3, height, width),
            "uint8",
            f"{source} -> RGB, Pillow bilinear with low-pass {height}x{width}",
            self._rows.files,
            self._read_frame,
            libraries,
        )
        return audio, visual

    @property
    def _has_videos(self) -> bool:
        """Whether frames are in videos: in all clips of a copy, or in none."""
        return self._clips[0].video is not None

    def _read_sound(self, row: int) -> Any:
        return self._front_end.read(self._clips[row].sound)

    def _read_frame(self, row: int) -> Any:
        path = self._rows.files[row]
        if self._has_videos:
            return read_video(path, self._at_most, self._stored)[self._rows.numbers[row]]
        return read_frame(path, self._stored)

    @property
    def _cache(self) -> Path:
        if self.cache is None:
            raise UserError(
                f"dataset {self.name} needs a folder for its prepared arrays: dataset.cache=DIR"
            )
        return self.cache

    @cached_property
    def _prepared(self) -> tuple[Prepared, Prepared]:
        audio, visual = (opened(table, self._cache) for table in self._tables)
        return audio, visual

    def _is_prepared(self) -> bool:
        try:
            return self._prepared is not None
        except UserError:
            return False

    def _damaged(self) -> dict[int, str]:
        """Position -> reason of the clips of which a file cannot be decoded."""
        audio, visual = self._prepared
        owner = [n for n, (_, count) in enumerate(self._rows.spans) for _ in range(count)]
        found = {owner[row]: reason for row, reason in visual.unreadable.items()} | audio.unreadable
        return dict(sorted(found.items()))


def few(clips: Sequence[Clip], limit: int | None) -> Sequence[Clip]:
    """At most so many clips, in their order.

    Those whose ids' hashes come first, whatever class or speaker they belong to.
    """
    if limit is None or len(clips) <= limit:
        return clips
    chosen = sorted(clips, key=lambda clip: place(clip.id))[:limit]
    kept = {clip.id for clip in chosen}
    return [clip for clip in clips if clip.id in kept]


def place(name: str) -> str:
    """A number that shuffles names, the same everywhere and for ever."""
    return hashlib.sha256(name.encode()).hexdigest()
