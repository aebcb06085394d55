"""Kinetics-Sounds: short videos of actions that are heard and seen, read from the user's copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datasets._files import is_number, text_of, visible
from datasets._media.clips import OPTIONS, Clip, ClipDataset, Listing, place
from datasets._media.frames import numbered
from datasets._media.kinetics_classes import CLASSES, OWN, class_names, class_of
from harness.dataset import DataSpec, Modality
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range

SIDES = {
    "train": (("train_img", "train"), ("train",)),
    "test": (("val_img", "val", "test_img", "test"), ("test", "val")),
}
"""Folder names of each part, on the visual side and on the audio side."""

FRAMES = "Image-01-FPS"
PREFIXES = (".", "kinect_sound")
LISTS = {"train": "my_train.txt", "test": "my_test.txt"}
LIST_FOLDERS = (".", "data/KineticSound", "KineticSound")
FEWEST = 3
YOUTUBE = 11
"""Characters of a YouTube id, which may begin with - or _ and hold both."""

VAL_SHARE = 0.1
TELLING = 50
"""From so many ids on, none that begins with i to z is no chance: fewer than one in ten million."""


@dataclass(frozen=True)
class _Part:
    """What one part has: class and video name -> the wav file, and -> the folder of frames."""

    sounds: dict[tuple[int, str], Path]
    pictures: dict[tuple[int, str], Path]


class KineticsSounds(ClipDataset):
    """Real: ten-second YouTube clips of the Kinetics-400 classes that can be heard (after
    Arandjelovic and Zisserman, ICCV 2017).

    Sound as a spectrogram of 10 s and one frame per clip; sound and frames belong together by class
    and name, never by position. Train is K400's train, test its val. Constructed: val, a tenth of
    train by the hashes of YouTube ids, so that no video is in two splits. Class lists of four
    lengths are known; ``classes`` takes one by name. Videos of fewer than 3 frames are left out.
    About 25 GB are prepared for 19,000 clips: 10 GB of sound as float16 (front-end A), 15 GB of
    frames as uint8, 256 pixels high.
    """

    options: ClassVar[Mapping[str, Range]] = {
        **OPTIONS,
        "frames": Range(
            3, limits=(1, 64), help="at most so many frames per clip are kept, spread evenly"
        ),
        "classes": Range(
            "ks33", choices=(*CLASSES, OWN), help="class list; file: the root's classes.txt"
        ),
    }
    protocols: ClassVar[tuple[str, ...]] = ("folders",)
    published_seconds: ClassVar[Mapping[str, float]] = {"A": 10.0}
    summary = "ten-second clips of actions, sound and picture, 31 to 34 classes; your copy"
    grouping = "videos"
    root_variable = "KINETICS_SOUNDS_ROOT"
    layout = (
        "audio/{train,test}/CLASS/VIDEO.wav and"
        " visual/{train_img,val_img}/Image-01-FPS/CLASS/VIDEO/NUMBER.jpg; the videos are"
        " Kinetics-400's (github.com/cvdfoundation/kinetics-dataset)"
    )

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return class_names(str(self.values["classes"]), self.root)

    def _spec(self, modalities: tuple[Modality, ...], synthetic: bool) -> DataSpec:
        return DataSpec(
            name="kinetics_sounds",
            task="classification",
            modalities=modalities,
            classes=self._classes,
            metric="accuracy",
            aligned=False,
            synthetic=synthetic,
            notes=(
                (
                    f"class list {self.values['classes']} with {len(self._classes)} classes; lists"
                    " of other lengths do not compare"
                ),
                "val is a tenth of train's videos; nothing is random at evaluation",
            ),
        )

    def _group(self, clip: Clip) -> str:
        return _key(clip)[0]

    def _listing(self, root: Path) -> Listing:
        top = next(
            (root / prefix for prefix in PREFIXES if (root / prefix / "audio").is_dir()), None
        )
        if top is None:
            raise UserError(f"{root} has no folder audio; it must hold {self.layout}")
        remarks: list[str] = []
        index = {name: n for n, name in enumerate(self._classes)}
        parts = {name: _part(top, name, index, remarks) for name in SIDES}
        clips = {}
        for name in SIDES:
            whole = _paired(name, parts[name], remarks)
            clips[name] = _listed(whole, _list_file(root, name), remarks)
        if not clips["train"] and not clips["test"]:
            raise UserError(
                f"{top} has no clip with sound and frames of the class list"
                f" {self.values['classes']}; it must hold {self.layout}"
            )
        remarks += _absent(clips, self._classes)
        videos = [clip.id.partition("/")[2] for clip in clips["train"]]
        remarks += truncated("the clips of train", videos)
        return Listing(_splits(clips, remarks), tuple(remarks))


def youtube_id(video: str) -> str:
    """The first eleven characters of ``YTID_START_END``."""
    return video[:YOUTUBE]


def start_second(video: str) -> int | None:
    """The start in a name ``YTID_START_END`` or ``YTID_START``, None when there is none."""
    parts = video[YOUTUBE:].split("_")
    return int(parts[1]) if len(parts) > 1 and not parts[0] and is_number(parts[1]) else None


def truncated(what: str, videos: Sequence[str]) -> list[str]:
    """A sentence when many ids are there and none begins with i to z.

    The list that was published is cut short like that.
    """
    if len(videos) < TELLING or any("i" <= video[0] <= "z" for video in videos):
        return []
    return [
        f"{what}: no id of {len(videos):,} begins with a letter from i to z, so about a quarter is"
        " missing; the published my_train.txt is cut short like that"
    ]


def read_list(path: Path) -> dict[tuple[str, int | None], int]:
    """A published list ``YTID_START[_END],SECONDS,LABEL`` as (YouTube id, start) -> label.

    UserError for a line that is none.
    """
    found: dict[tuple[str, int | None], int] = {}
    for number, line in enumerate(text_of(path, "restore the list").splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.rsplit(",", 2)]
        if len(fields) != 3 or not is_number(fields[2]) or len(fields[0]) < YOUTUBE:
            raise UserError(
                f"{path}, line {number}: '{line.strip()}' is not YTID_START_END,SECONDS,LABEL;"
                " restore the list"
            )
        found[youtube_id(fields[0]), start_second(fields[0])] = int(fields[2])
    return found


def _part(top: Path, name: str, index: dict[str, int], remarks: list[str]) -> _Part:
    """Sounds and folders of frames of one part, by class and video name."""
    visual_names, audio_names = SIDES[name]
    audio = _first(top / "audio", audio_names)
    visual = _first(top / "visual", visual_names)
    visual = visual / FRAMES if (visual / FRAMES).is_dir() else visual
    strange: set[str] = set()
    sounds = {
        (k, path.stem): path
        for k, folder in _class_folders(audio, index, strange)
        for path in visible(folder.glob("*.wav"))
    }
    pictures = {
        (k, path.name): path
        for k, folder in _class_folders(visual, index, strange)
        for path in visible(folder.iterdir())
    }
    if strange:
        remarks.append(
            f"{name}: {len(strange)} folders are not in the class list and are left out:"
            f" {shown(sorted(strange))}"
        )
    return _Part(sounds, pictures)


def _first(folder: Path, names: Iterable[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise UserError(
            f"{folder} has none of the folders {', '.join(names)}; the root must hold"
            f" {KineticsSounds.layout}"
        )
    return found


def _class_folders(
    folder: Path, index: dict[str, int], strange: set[str]
) -> list[tuple[int, Path]]:
    found = []
    for path in visible(folder.iterdir()):
        if not path.is_dir():
            continue
        label = class_of(path.name, index)
        if label is None:
            strange.add(path.name)
        else:
            found.append((label, path))
    return found


def _paired(name: str, part: _Part, remarks: list[str]) -> list[Clip]:
    """The clips that have a sound and enough frames, in the order of class and name.

    What is left out is said.
    """
    silent = sorted(set(part.pictures) - set(part.sounds))
    unseen = sorted(set(part.sounds) - set(part.pictures))
    clips, short = [], []
    for label, video in sorted(set(part.sounds) & set(part.pictures)):
        frames = tuple(numbered(part.pictures[label, video]))
        if len(frames) < FEWEST:
            short.append(video)
        else:
            clips.append(Clip(f"{label}/{video}", label, part.sounds[label, video], frames))
    reasons = {
        f"fewer than {FEWEST} frames (left out with their sound)": short,
        "frames and no sound": [video for _, video in silent],
        "sound and no frames": [video for _, video in unseen],
    }
    for why, videos in reasons.items():
        if videos:
            remarks.append(f"{name}: {len(videos)} videos have {why}: {shown(videos)}")
    return clips


def _list_file(root: Path, name: str) -> Path | None:
    paths = [root / folder / LISTS[name] for folder in LIST_FOLDERS]
    return next((path for path in paths if path.is_file()), None)


def _listed(clips: list[Clip], path: Path | None, remarks: list[str]) -> list[Clip]:
    """The clips that a published list has, all where there is no list."""
    if path is None:
        return clips
    rows = read_list(path)
    remarks += truncated(str(path), [video for video, _ in rows])
    keys = {clip.id: _key(clip) for clip in clips}
    kept = [clip for clip in clips if keys[clip.id] in rows]
    remarks.append(f"{path} keeps {len(kept):,} of {len(clips):,} clips and names {len(rows):,}")
    names: dict[int, set[int]] = {}
    for clip in kept:
        names.setdefault(rows[keys[clip.id]], set()).add(clip.label)
    mixed = sorted(number for number, labels in names.items() if len(labels) > 1)
    if mixed:
        remarks.append(
            f"{path}: {len(mixed)} of its labels stand for clips of several classes:"
            f" {shown(mixed)}; classes are the folders'"
        )
    return kept


def _key(clip: Clip) -> tuple[str, int | None]:
    video = clip.id.partition("/")[2]
    return youtube_id(video), start_second(video)


def _absent(clips: Mapping[str, Sequence[Clip]], classes: Sequence[str]) -> list[str]:
    sentences = []
    for part, found in clips.items():
        labels = {clip.label for clip in found}
        names = [name for label, name in enumerate(classes) if label not in labels]
        if names:
            sentences.append(
                f"{part}: {len(names)} of {len(classes)} classes have no clip: {shown(names)}"
            )
    return sentences


def _splits(clips: Mapping[str, Sequence[Clip]], remarks: list[str]) -> dict[str, list[Clip]]:
    """Train and val by YouTube id, without the videos that test has."""
    tested = {_key(clip)[0] for clip in clips["test"]}
    own = [clip for clip in clips["train"] if _key(clip)[0] not in tested]
    if len(own) < len(clips["train"]):
        both = [clip.id for clip in clips["train"] if _key(clip)[0] in tested]
        remarks.append(
            f"{len(both)} clips of train are left out, because test has the same videos:"
            f" {shown(both)}"
        )
    held_out = {clip.id for clip in own if int(place(_key(clip)[0])[:8], 16) < VAL_SHARE * 2**32}
    return {
        "train": [clip for clip in own if clip.id not in held_out],
        "val": [clip for clip in own if clip.id in held_out],
        "test": list(clips["test"]),
    }
