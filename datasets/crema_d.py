"""CREMA-D: emotions acted before camera and microphone, read from the user's copy."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from datasets._files import text_of, visible
from datasets._media.clips import Clip, ClipDataset, Listing, place
from datasets._media.frames import numbered, require_video
from harness.dataset import DataSpec, Modality, Progress
from harness.errors import UserError, shown

EMOTIONS = {
    "NEU": "neutral",
    "HAP": "happy",
    "SAD": "sad",
    "FEA": "fearful",
    "DIS": "disgusted",
    "ANG": "angry",
}
"""In the order of OGM-GE's and DMRNet's class indices; one that sorts names has another order, so
compare by name.
"""

ID = re.compile(r"\d{4}_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(XX|LO|MD|HI)")
FRAMES = "Image-01-FPS"
LISTS = ("train.csv", "test.csv")
LIST_FOLDERS = (".", "data/CREMAD", "CREMAD", "data")
CLIPS = 7442
PUBLISHED = {"train.csv": 6698, "test.csv": 744}
SHARE = 0.1
"""Of the actors (rounded up) for val, and under protocol ``actor`` as many for test."""

BROKEN = {
    "1076_MTI_SAD_XX": "silent, broken picture",
    "1076_MTI_NEU_XX": "video cut short",
    "1064_TIE_SAD_XX": "video without duration, therefore no frames",
}
SEVERAL_EMOTIONS = "1064_IEO_DIS_MD"
SAME_SOUND = (
    ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
    ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
)


class CremaD(ClipDataset):
    """Real: 7,442 clips of 91 actors who speak 12 sentences in 6 emotions (Cao et al., 2014; ODbL);
    the label is the acted emotion.

    Sound as a spectrogram and one frame per clip: ``AudioWAV/ID.wav`` with
    ``Image-01-FPS/ID/NUMBER.jpg``, or with ``VideoFlash/ID.flv`` and the extra ``video``. Protocol
    ``ogm``: the split that OGM-GE published (train.csv and test.csv, 6,698 and 744 clips), in which
    all actors are on both sides. ``actor``: no actor on two sides, 10 % of them for test. In both,
    10 % of the actors left val. Constructed: val, by the order of the hashes of the actors'
    numbers. About 7 GB are prepared: 1.1 GB of sound as float16 (front-end A), 6 GB of frames as
    uint8, 256 pixels high.
    """

    protocols: ClassVar[tuple[str, ...]] = ("ogm", "actor")
    summary = "7,442 clips of acted emotions, sound and face, 6 classes; your copy"
    grouping = "actors"
    root_variable = "CREMA_D_ROOT"
    layout = (
        "AudioWAV/ID.wav, Image-01-FPS/ID/NUMBER.jpg (or VideoFlash/ID.flv and the extra `video`),"
        " and for protocol ogm the lists train.csv and test.csv that OGM-GE published"
        " (GeWu-Lab/OGM-GE_CVPR2022, data/CREMAD)"
    )

    def _spec(self, modalities: tuple[Modality, ...], synthetic: bool) -> DataSpec:
        actors = "no actor is in two splits"
        if self.protocol == "ogm":
            actors = "train and test share all actors"
        return DataSpec(
            name="crema_d",
            task="classification",
            modalities=modalities,
            classes=tuple(EMOTIONS.values()),
            metric="accuracy",
            aligned=False,
            synthetic=synthetic,
            notes=(
                f"protocol {self.protocol}: {actors}; val is a tenth of train's actors",
                "labels are the acted emotions",
            ),
        )

    def prepare(self, progress: Progress) -> list[str]:
        root = self.folder
        if not (root / FRAMES).is_dir():
            require_video(root, FRAMES)
        return super().prepare(progress)

    def _group(self, clip: Clip) -> str:
        return clip.id[:4]

    def _listing(self, root: Path) -> Listing:
        sounds = {path.stem: path for path in visible((root / "AudioWAV").glob("*.wav"))}
        if not sounds:
            raise UserError(f"{root} has no AudioWAV/*.wav; it must hold {self.layout}")
        strange = [name for name in sounds if not ID.fullmatch(name)]
        known = {name: path for name, path in sounds.items() if name not in strange}
        remarks = []
        if strange:
            remarks.append(
                f"left out, because their names are no ids: {len(strange)} sound files:"
                f" {shown(strange)}"
            )
        if len(known) != CLIPS:
            remarks.append(f"{len(known):,} sound files instead of {CLIPS:,}")
        if self.protocol == "ogm":
            lists = _published(root, remarks)
            _require_sounds(lists, known)
            splits = by_actor(lists["train.csv"], ("val",)) | {"test": lists["test.csv"]}
        else:
            splits = by_actor(list(known), ("val", "test"))
        remarks += oddities(splits)
        ids = [name for names in splits.values() for name in names if name not in BROKEN]
        frames, videos = _visuals(root, ids)
        clips = {
            name: Clip(name, label(name), known[name], frames.get(name, ()), videos.get(name))
            for name in ids
        }
        kept = {split: [name for name in names if name in clips] for split, names in splits.items()}
        own = {split: [clips[name] for name in names] for split, names in kept.items()}
        return Listing(own, tuple(remarks))


def label(name: str) -> int:
    """The class index of a clip's id; UserError for an unknown emotion."""
    match = ID.fullmatch(name)
    if match is None or match["emotion"] not in EMOTIONS:
        raise UserError(
            f"'{name}' is no id of CREMA-D: ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_IEO_ANG_HI"
            f" ({', '.join(EMOTIONS)})"
        )
    return list(EMOTIONS).index(match["emotion"])


def by_actor(ids: Sequence[str], held_out: Sequence[str]) -> dict[str, list[str]]:
    """The ids by split: for each of ``held_out`` a tenth of the actors, and train.

    No actor is in two of them. Actors are taken in the order of the sha256 of their numbers.
    """
    actors = sorted(sorted({name[:4] for name in ids}), key=place)
    share = math.ceil(SHARE * len(actors))
    if len(actors) <= share * len(held_out):
        raise UserError(
            f"{len(actors)} actors are too few to keep some for {' and '.join(held_out)}; give the"
            " whole data"
        )
    owner: dict[str, str] = {}
    for n, split in enumerate(held_out):
        owner |= dict.fromkeys(actors[n * share : (n + 1) * share], split)
    splits: dict[str, list[str]] = {"train": [], **{split: [] for split in held_out}}
    for name in ids:
        splits[owner.get(name[:4], "train")].append(name)
    return splits


def read_list(path: Path) -> list[str]:
    """The ids of a list ``ID,EMOTION``, each checked.

    No header; any line ends, byte order mark, final newline or not.
    """
    ids: dict[str, int] = {}
    for number, line in enumerate(text_of(path, "restore the list").splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split(","))
        name = name.removesuffix(".wav")
        try:
            emotion = list(EMOTIONS)[label(name)]
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        if rest and rest[0] != emotion:
            raise UserError(
                f"{path}, line {number}: {name} is listed as {rest[0]} and its id says {emotion};"
                " restore the list"
            )
        if name in ids:
            raise UserError(
                f"{path}, line {number}: {name} is listed twice, first in line {ids[name]}; restore"
                " the list"
            )
        ids[name] = number
    return list(ids)


def oddities(splits: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Sentences about the clips that are known to be bad and are among these."""
    where = {name: split for split, names in splits.items() for name in names}
    broken = [f"{name} ({why})" for name, why in BROKEN.items() if name in where]
    if broken:
        yield f"left out, because their media are broken as published: {', '.join(broken)}"
    if SEVERAL_EMOTIONS in where:
        yield (
            f"{SEVERAL_EMOTIONS} ({where[SEVERAL_EMOTIONS]}) lasts a minute and shows several"
            " emotions; kept"
        )
    same = [
        f"{a} ({where[a]}) = {b} ({where[b]})" for a, b in SAME_SOUND if a in where and b in where
    ]
    if same:
        yield f"the same sound under two labels, kept: {'; '.join(same)}"


def _published(root: Path, remarks: list[str]) -> dict[str, list[str]]:
    """The published lists; UserError where they are not."""
    folders = [root / name for name in LIST_FOLDERS]
    whole = [folder for folder in folders if all((folder / name).is_file() for name in LISTS)]
    if not whole:
        raise UserError(
            f"{root} has no train.csv and test.csv: copy them from data/CREMAD of"
            " github.com/GeWu-Lab/OGM-GE_CVPR2022 into it, or use dataset.protocol=actor, which"
            " needs no lists"
        )
    folder = whole[0]
    lists = {name: read_list(folder / name) for name in LISTS}
    both = sorted(set(lists["train.csv"]) & set(lists["test.csv"]))
    if both:
        raise UserError(
            f"{len(both)} clips are in train.csv and in test.csv of {folder}: {shown(both)};"
            " restore the lists"
        )
    found = {name: len(ids) for name, ids in lists.items()}
    other = [name for name in LISTS if found[name] != PUBLISHED[name]]
    if other:
        parts = [
            f"{name} has {found[name]:,} clips instead of {PUBLISHED[name]:,}" for name in other
        ]
        remarks.append(f"not the published split: {', '.join(parts)}")
    return lists


def _require_sounds(lists: Mapping[str, Sequence[str]], sounds: Collection[str]) -> None:
    listed = [name for ids in lists.values() for name in ids]
    missing = [name for name in listed if name not in sounds and name not in BROKEN]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(listed)} listed clips have no AudioWAV/ID.wav:"
            f" {shown(missing)}; restore the files, or take the clips out of train.csv and test.csv"
        )


def _visuals(root: Path, ids: Sequence[str]) -> tuple[dict[str, tuple[Path, ...]], dict[str, Path]]:
    """The frames of each clip, or the video; UserError when some have none."""
    frames: dict[str, tuple[Path, ...]] = {}
    videos: dict[str, Path] = {}
    if (root / FRAMES).is_dir():
        frames = {name: tuple(numbered(root / FRAMES / name)) for name in ids}
        lacking = [name for name in ids if not frames[name]]
        what = f"pictures in {FRAMES}/ID"
    else:
        videos = {path.stem: path for path in visible((root / "VideoFlash").glob("*.flv"))}
        lacking = [name for name in ids if name not in videos]
        what = f"{FRAMES}/ID and no VideoFlash/ID.flv"
    if lacking:
        raise UserError(
            f"{len(lacking)} of {len(ids)} clips have no {what} in {root}: {shown(lacking)};"
            " extract or restore them, or take the clips out of the lists"
        )
    return frames, videos
