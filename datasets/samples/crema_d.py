"""A small synthetic copy in CREMA-D's layout. Called by datasets/sample.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.samples._media import SIGHT_SPREAD, SOUND_SPREAD, cue, write_frames, write_sound

STUDY = "crema_d_all_methods"
FIRST_ACTOR = 1001
SENTENCES = ("DFA", "ITS")
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
SIZES = ((120, 90), (96, 72), (144, 108))
TEST_SHARE = 0.2
FRAME_RATE = 29.97
KEPT = 29
"""One frame of so many is there, named by its number in the video."""


def write(folder: Path, seed: int = 0, actors: int = 20) -> None:
    """12 clips of each actor: AudioWAV, Image-01-FPS (one frame in 29), train.csv and test.csv.

    About 19 MB for 20.
    """
    random = np.random.default_rng(seed)
    clips = [
        (f"{actor}_{sentence}_{emotion}_XX", label)
        for actor in range(FIRST_ACTOR, FIRST_ACTOR + actors)
        for sentence in SENTENCES
        for label, emotion in enumerate(EMOTIONS)
    ]
    for name, label in clips:
        seconds = float(random.uniform(1.3, 2.5))
        sound = cue(label, len(EMOTIONS), SOUND_SPREAD, random)
        sight = cue(label, len(EMOTIONS), SIGHT_SPREAD, random)
        write_sound(folder / "AudioWAV" / f"{name}.wav", sound, seconds, random)
        frames = [f"{count:05d}.jpg" for count in range(0, int(seconds * FRAME_RATE), KEPT)]
        size = SIZES[random.integers(len(SIZES))]
        write_frames(folder / "Image-01-FPS" / name, sight, frames, size, random)
    order = random.permutation(len(clips))
    test = set(order[: round(TEST_SHARE * len(clips))].tolist())
    parts = {
        "train.csv": [clip for n, clip in enumerate(clips) if n not in test],
        "test.csv": [clip for n, clip in enumerate(clips) if n in test],
    }
    for file, part in parts.items():
        rows = [f"{name},{EMOTIONS[label]}\r\n" for name, label in part]
        (folder / file).write_bytes("".join(rows).encode())
