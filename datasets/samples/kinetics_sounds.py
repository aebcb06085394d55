"""A small synthetic copy in the layout of DMRNet's Kinetics-Sounds.

Called by datasets/sample.py.
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np

from datasets._media.kinetics_classes import CLASSES
from datasets.samples._media import SIGHT_SPREAD, SOUND_SPREAD, cue, write_frames, write_sound

STUDY = "kinetics_sounds_all_methods"
NAMES = CLASSES["ks33"][:8]
CLIPS = {"train": 24, "test": 8}
"""Clips of each class."""

FOLDERS = {"train": "train_img", "test": "val_img"}
SIZES = ((128, 72), (96, 72), (72, 108))
SECONDS = (1.0, 1.6)
LETTERS = "-_" + string.ascii_letters + string.digits
SIGHT, SOUND = 0.7 * SIGHT_SPREAD, 0.7 * SOUND_SPREAD
"""Eight places lie closer together than six."""


def write(folder: Path, seed: int = 0, share: float = 1.0) -> None:
    """256 clips of 8 classes: visual/{train_img,val_img}, audio/{train,test}.

    One video has too few frames; about 17 MB.

    Sound lasts one to two seconds instead of ten, and is stereo at times. ``share`` of the clips
    per class are written.
    """
    random = np.random.default_rng(seed)
    used: set[str] = set()
    for part, per_class in CLIPS.items():
        for number in range(round(share * per_class) * len(NAMES)):
            label = number % len(NAMES)
            video, name = _video(random, used), NAMES[label].replace(" ", "_")
            sound = cue(label, len(NAMES), SOUND, random)
            sight = cue(label, len(NAMES), SIGHT, random)
            path = folder / "audio" / part / name / f"{video}.wav"
            seconds = float(random.uniform(*SECONDS))
            every_fifth = number % 5 == 4
            write_sound(path, sound, seconds, random, channels=2 if every_fifth else 1)
            has_too_few = part == "train" and number == 3
            count = 2 if has_too_few else int(random.integers(3, 6))
            frames = [f"{k:05d}.jpg" for k in range(count)]
            pictures = folder / "visual" / FOLDERS[part] / "Image-01-FPS" / name / video
            size = SIZES[random.integers(len(SIZES))]
            write_frames(pictures, sight, frames, size, random)


def _video(random: np.random.Generator, used: set[str]) -> str:
    """A name that no other video has.

    Eleven characters, which may begin with - or _, start and end.
    """
    name = "".join(random.choice(list(LETTERS), 11))
    if name in used:
        return _video(random, used)
    used.add(name)
    start = int(random.integers(0, 300))
    return f"{name}_{start:06d}_{start + 10:06d}"
