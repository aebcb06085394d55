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


def write(folder: Path, seed: int = 0, actors: int = 20) -> None:
    """12 clips of each actor: AudioWAV, Image-01-FPS (one frame in 29), train.csv and test.csv.

    About 19 MB for 20.
    """
    random = np.random.default_rng(seed)
    names = [
        (f"{actor}_{sentence}_{emotion}_XX", EMOTIONS.index(emotion))
        for actor in range(FIRST_ACTOR, FIRST_ACTOR + actors)
        for sentence in SENTENCES
        for emotion in EMOTIONS
    ]
    for name, label in names:
        seconds = float(random.uniform(1.3, 2.5))
        sound = cue(label, len(EMOTIONS), SOUND_SPREAD, random)
        sight = cue(label, len(EMOTIONS), SIGHT_SPREAD, random)
        write_sound(folder / "AudioWAV" / f"{name}.wav", sound, seconds, random)
        frames = [f"{count:05d}.jpg" for count in range(0, int(seconds * FRAME_RATE), KEPT)]
        size = SIZES[random.integers(len(SIZES))]
        write_frames(folder / "Image-01-FPS" / name, sight, frames, size, random)
    order = random.permutation(len(names))
    test = set(order[: round(TEST_SHARE * len(names))].tolist())
    train = [n for n in range(len(names)) if n not in test]
    for file, chosen in (("train.csv", train), ("test.csv", sorted(test))):
        rows = [f"{names[n][0]},{EMOTIONS[names[n][1]]}" for n in chosen]
        (folder / file).write_bytes("".join(f"{row}\r\n" for row in rows).encode())
