"""Synthetic sounds and pictures whose class can be learned from either, and better from both."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.io import wavfile

from datasets._media.audio import Array

RATE = 16_000
SOUND_SPREAD, SIGHT_SPREAD = 0.4, 0.55
"""How far a cue strays from its class' place; places of neighbouring classes of 6 are 1 apart."""

Cue = tuple[float, float]


def cue(label: int, classes: int, spread: float, random: np.random.Generator) -> Cue:
    """A point near the class' place on the unit circle.

    Draw sound's and sight's apart, so that they err independently.
    """
    angle = 2 * math.pi * label / classes
    x, y = np.array([math.cos(angle), math.sin(angle)]) + spread * random.normal(size=2)
    return float(x), float(y)


def write_sound(
    path: Path, place: Cue, seconds: float, random: np.random.Generator, channels: int = 1
) -> None:
    """Write a wav file (16 kHz, 16 bit) whose sound shows a cue.

    A voice of ten partials, whose pitch is the cue's first number and brightness its second.
    """
    octaves, brightness = place
    t = np.arange(round(seconds * RATE)) / RATE
    vibrato = 1 + 0.02 * np.sin(2 * math.pi * 5 * t)
    pitch = 300 * 2**octaves * vibrato
    phase = 2 * math.pi * np.cumsum(pitch) / RATE + random.uniform(0, 2 * math.pi)
    # Each partial has this share of the amplitude of the one below.
    decay = math.exp(-0.8 + 0.6 * brightness)
    voice = sum(decay**k * np.sin((k + 1) * phase) for k in range(10))
    envelope = 0.3 + 0.7 * np.sin(math.pi * t / seconds) ** 2
    loudness = random.uniform(0.2, 0.6)
    hiss = 0.01 * random.normal(size=len(t))
    sound = voice * envelope / np.abs(voice).max() * loudness + hiss
    values = np.round(sound.clip(-1, 1) * 32767).astype(np.int16)
    if channels > 1:
        values = np.stack([values] * channels, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, RATE, values)


def write_frames(
    folder: Path,
    place: Cue,
    names: Sequence[str],
    size: tuple[int, int],
    random: np.random.Generator,
) -> None:
    """Write one jpg of (width, height) per name, whose picture shows a cue.

    A disc whose colour is the cue's first number, with a bar as high as its second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    background = random.integers(60, 140)
    for name in names:
        noise = random.normal(scale=12, size=(size[1], size[0], 3))
        picture = np.asarray(_drawn(place, size, int(background), random), dtype=np.float64)
        pixels: Array = (picture + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=85)


def _drawn(
    place: Cue, size: tuple[int, int], background: int, random: np.random.Generator
) -> Image.Image:
    of_hue, of_bar = place
    width, height = size
    picture = Image.new("RGB", size, (background,) * 3)
    draw = ImageDraw.Draw(picture)
    x, y = width * random.uniform(0.4, 0.6), height * random.uniform(0.4, 0.6)
    radius = min(size) * random.uniform(0.28, 0.38)
    # Far cues are cut off, so that the hue does not run around the circle to another class.
    hue = min(0.72, max(0.0, 0.36 + 0.2 * of_hue))
    red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.55, 0.8))
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(red, green, blue))
    # The bar's height, not its place: mirrored pictures must mean the same.
    half = radius * min(0.8, max(0.06, 0.4 + 0.2 * of_bar))
    draw.rectangle([x - 0.6 * radius, y - half, x + 0.6 * radius, y + half], fill=(30, 30, 30))
    return picture
