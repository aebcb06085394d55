"""A synthetic CASIA-SURF: drawn faces in the true folders, with the true lists.

Called by datasets/sample.py. Depth tells most, infrared least.

Every frame has one number per modality, normal around +d (live) or -d (attack), that decides how
the drawing looks: relief in depth, warmth and contrast of the skin in colour, shading in infrared.
Given the label the three are independent, so who knew these numbers alone would err in 2 % by
depth, 13 % by colour, 18 % by infrared, below 1 % by all; faint cut-outs add a little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STUDY = "casia_all_methods"
WORDS = ("color", "depth", "ir")
"""The modalities as files and folders call them, in the order of the lists."""

STRENGTH = {"depth": 2.0, "color": 1.15, "ir": 0.9}
"""d of each modality."""

FRAME_SHARE = 0.8
"""Share of a modality's variance that differs between the frames of one video."""

COARSE = 48
"""Faces are drawn on this grid and enlarged: writing takes seconds."""

ATTACKS = {1: "e_s", 2: "e_b", 3: "en_s", 4: "en_b", 5: "enm_s", 6: "enm_b"}
"""Number -> parts cut out of the printed face (eyes, nose, mouth) and how the paper is held (still
and flat, bent).
"""

HOLES = {"e": ((-0.35, -0.25), (0.35, -0.25)), "n": ((0.0, 0.05),), "m": ((0.0, 0.45),)}
"""Part -> centres of its holes, in the coordinates of ``_face``."""

SUBJECTS = {"train": 18, "val": 9, "test": 18}
FRAMES = {"train": (3, (3, 2, 2)), "val": (3, (3, 2, 2)), "test": (3, (2, 3, 2))}
"""Split -> frames of a live video, and of each of a subject's three attacks."""

SEEN, UNSEEN = (4, 5, 6), (1, 2, 3)
"""Attacks of train and val, and of test."""

Pixels = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Video:
    """One subject, live (attack 0) or attacked, with what its frames have in common.

    ``level``: modality -> the part of its number that frames share; ``face``: half width, half
    height and tilt.
    """

    subject: str
    attack: int
    level: dict[str, float]
    face: tuple[float, float, float]

    @property
    def label(self) -> int:
        """1 for live."""
        return int(self.attack == 0)

    @property
    def cut_out(self) -> str:
        """The parts of HOLES that are cut out of the printed face; none of a live one."""
        return ATTACKS[self.attack].split("_")[0] if self.attack else ""

    @property
    def bent(self) -> bool:
        """Whether it is a bent paper."""
        return self.attack != 0 and ATTACKS[self.attack].endswith("_b")


def write(folder: Path, seed: int = 0) -> None:
    """Write pictures and lists into ``folder``.

    180 training, 90 val and 180 test samples, test with attacks unseen in training.
    """
    rng = np.random.default_rng(seed)
    train = sorted(_training(folder, rng), key=lambda line: line.split()[0])
    _write_lines(folder / "train_list.txt", train)
    for split, archive, attacks in (("val", "Val", SEEN), ("test", "Testing", UNSEEN)):
        labelled = list(_blocks(folder, split, archive, attacks, rng))
        _write_lines(folder / f"{split}_private_list.txt", labelled)
        # The public lists end their lines with a space and have no label.
        _write_lines(folder / f"{split}_public_list.txt", [line[:-1] for line in labelled])


def _training(folder: Path, rng: np.random.Generator) -> Iterator[str]:
    for video, frames in _videos("train", SEEN, rng):
        part, session = "real_part", "real.rssdk"
        if not video.label:
            part, session = "fake_part", f"0{video.attack}_{ATTACKS[video.attack]}.rssdk"
        place = f"Training/{part}/{video.subject}/{session}"
        for number in 1 + 10 * np.sort(rng.choice(25, frames, replace=False)):
            files = [f"{place}/{word}/{number}.jpg" for word in WORDS]
            yield _frame(folder, files, video, rng)


def _blocks(
    folder: Path, split: str, archive: str, attacks: tuple[int, ...], rng: np.random.Generator
) -> Iterator[str]:
    """Frames of val and test: shuffled, and numbered in folders of a thousand."""
    shown = [video for video, frames in _videos(split, attacks, rng) for _ in range(frames)]
    for number, position in enumerate(rng.permutation(len(shown))):
        files = [f"{archive}/{number // 1000:04}/{number:06}-{word}.jpg" for word in WORDS]
        yield _frame(folder, files, shown[position], rng)


def _videos(
    split: str, attacks: tuple[int, ...], rng: np.random.Generator
) -> Iterator[tuple[Video, int]]:
    """A split's videos with their numbers of frames: every subject live, and with three attacks."""
    live_frames, attack_frames = FRAMES[split]
    spread = np.sqrt(1 - FRAME_SHARE)
    for number in range(SUBJECTS[split]):
        subject = f"CLKJ_{'ABC'[number % 3]}S{5 + 7 * number:04}"
        face = (rng.uniform(0.34, 0.40), rng.uniform(0.40, 0.46), rng.uniform(-0.1, 0.1))
        for attack, frames in zip((0, *attacks), (live_frames, *attack_frames), strict=True):
            sign = 1 if attack == 0 else -1
            level = {
                word: sign * strength + rng.normal(0, spread) for word, strength in STRENGTH.items()
            }
            yield Video(subject, attack, level, face), frames


# ---------------------------------------------------------------------- pictures


def _frame(folder: Path, files: list[str], video: Video, rng: np.random.Generator) -> str:
    """Draw and save the three pictures of one frame; its line in a list."""
    side = rng.integers(230, 330)
    height, width = int(side * rng.uniform(1.0, 1.2)), int(side)
    pose = rng.uniform(-0.04, 0.04, 2)
    x, y, inside = _face(video, pose)
    draw = {"color": _color, "depth": _depth, "ir": _infrared}
    for file, word in zip(files, WORDS, strict=True):
        level = video.level[word] + rng.normal(0, np.sqrt(FRAME_SHARE))
        drawn = draw[word](x, y, level, video, rng)
        noisy = drawn + rng.normal(0, 5, drawn.shape)
        # Black around the face, as in the data.
        pixels = np.where(inside[:, :, None], noisy, 0).clip(0, 255)
        picture = Image.fromarray(pixels.astype(np.uint8).squeeze())
        # Depth and infrared are of another size than colour; infrared is grey that is stored as
        # colour.
        size = (width, height) if word == "color" else (int(width * 0.96), int(height * 0.97))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        picture = picture.convert("L" if word == "depth" else "RGB")
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)
    return f"{' '.join(files)} {video.label}"


def _face(video: Video, pose: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Coordinates of the grid, 0 at the face's centre and 1 at its edge, and where the face is."""
    rows, columns = np.mgrid[:COARSE, :COARSE] / (COARSE - 1) - 0.5
    half_width, half_height, tilt = video.face
    x = (columns - pose[0] + tilt * rows) / half_width
    y = (rows - pose[1]) / half_height
    return x, y, x**2 + y**2 < 1


def _holes(x: Pixels, y: Pixels, video: Video) -> Pixels:
    """Where the printed face of an attack is cut out."""
    found = np.zeros_like(x, dtype=bool)
    for part in video.cut_out:
        for u, v in HOLES[part]:
            found |= (x - u) ** 2 + (y - v) ** 2 < 0.03
    return found


def _features(x: Pixels, y: Pixels) -> Pixels:
    """Eyes and mouth, 0 to 1."""
    eyes = sum(np.exp(-((x - u) ** 2 + (y + 0.25) ** 2) / 0.02) for u in (-0.35, 0.35))
    mouth = np.exp(-(x**2 / 0.08 + (y - 0.45) ** 2 / 0.01))
    return np.asarray(eyes + mouth).clip(0, 1)


def _depth(x: Pixels, y: Pixels, level: float, video: Video, rng: np.random.Generator) -> Pixels:
    head = np.exp(-(x**2 + y**2) / 0.5)
    nose = 0.5 * np.exp(-(x**2 / 0.02 + (y - 0.05) ** 2 / 0.06))
    relief = head + nose
    bend = 14 * x**2 if video.bent else 0 * x
    sockets = rng.normal(0, 10) * _features(x, y) + 8 * _holes(x, y, video)
    pixels = 110 + rng.normal(0, 12) + 14 * level * (relief - 0.5) - bend - sockets
    return np.asarray(pixels)[:, :, None]


def _color(x: Pixels, y: Pixels, level: float, video: Video, rng: np.random.Generator) -> Pixels:
    skin = np.array([165.0, 125.0, 105.0]) + rng.normal(0, 10)
    warmth = np.array([7.0, 0.0, -7.0]) * level
    shade = (14 + 6 * level) * (1 - x**2 - y**2)
    features = (70 + 8 * level + rng.normal(0, 12)) * _features(x, y)
    grey = shade - features - 8 * _holes(x, y, video)
    return np.asarray(skin + warmth + grey[:, :, None])


def _infrared(x: Pixels, y: Pixels, level: float, video: Video, rng: np.random.Generator) -> Pixels:
    features = (40 + rng.normal(0, 10)) * _features(x, y) + 6 * _holes(x, y, video)
    falloff = 26 * level * (0.5 - x**2 - 0.3 * y**2)
    return np.asarray(95 + rng.normal(0, 12) + falloff - features)[:, :, None]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
