"""Corruptions of pictures.

Severities and formulas of noise, blur and JPEG are those of Hendrycks and Dietterich (ICLR 2019),
who published them for pictures of 224 (ImageNet-C), 64 (Tiny ImageNet-C) and 32 pixels
(CIFAR-10-C); low light is that of Kar et al. (3D Common Corruptions, CVPR 2022).
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from harness.data.raw import Array
from harness.robust.definition import Corruption, Reading, constant, frozen

HENDRYCKS = "Hendrycks and Dietterich, ICLR 2019"
KAR = "Kar et al., 3D Common Corruptions, CVPR 2022"
PHOTONS, READOUT = 120.0, 0.018
"""Of low light at every level: 10 times severity 3 of shot noise, a tenth of that of Gaussian."""


def gaussian_noise(reading: Reading, deviation: float) -> Array:
    """Normal noise of this standard deviation, white being 1."""
    x = _unit(reading)
    return _scaled(reading, x + deviation * reading.noise.standard_normal(x.shape))


def shot_noise(reading: Reading, photons: float) -> Array:
    """Poisson noise: white is so many photons."""
    x = _unit(reading)
    return _scaled(reading, reading.noise.poisson(x * photons) / photons)


def gaussian_blur(reading: Reading, deviation: float) -> Array:
    """A normal filter of this standard deviation in pixels, the edge repeated."""
    deviations = (0, deviation, deviation)  # channels are not mixed
    return _scaled(reading, gaussian_filter(_unit(reading), deviations, mode="nearest"))


def low_light(reading: Reading, brightest: float) -> Array:
    """The brightest pixel becomes ``brightest``, gamma 2, with the noise of a dark picture."""
    x = _unit(reading)
    span = x.max() - x.min()
    dark = brightest * ((x - x.min()) / span) ** 2 if span > 0 else x
    shot = (reading.noise.poisson(dark * PHOTONS) / PHOTONS).clip(0, 1)
    return _scaled(reading, shot + READOUT * reading.noise.standard_normal(x.shape))


def jpeg(reading: Reading, quality: float) -> Array:
    """Compressed by Pillow with this quality; channels on their own unless they are three."""
    pixels = np.rint(255 * _unit(reading)).astype(np.uint8)
    if len(pixels) == 3:
        channels_last = _compressed(pixels.transpose(1, 2, 0), quality)
        found = channels_last.transpose(2, 0, 1)
    else:
        found = np.stack([_compressed(channel, quality) for channel in pixels])
    return _scaled(reading, found / 255)


def _compressed(pixels: Array, quality: float) -> Array:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream))


def occlusion(reading: Reading, share: float) -> Array:
    """A black rectangle of the picture's proportions over this share of its area."""
    height, width = reading.values.shape[-2:]
    tall, wide = (max(1, round(math.sqrt(share) * side)) for side in (height, width))
    where = reading.noise.random(2)
    top, left = int(where[0] * (height - tall + 1)), int(where[1] * (width - wide + 1))
    found = reading.values.copy()
    found[..., top : top + tall, left : left + wide] = reading.raw.low
    return found


PICTURES = (
    Corruption(
        "gaussian_noise",
        "standard deviation, white is 1",
        HENDRYCKS,
        {
            224: (0.08, 0.12, 0.18, 0.26, 0.38),
            64: (0.04, 0.08, 0.12, 0.15, 0.18),
            32: (0.04, 0.06, 0.08, 0.09, 0.10),
        },
        gaussian_noise,
    ),
    Corruption(
        "shot_noise",
        "photons of white",
        HENDRYCKS,
        {224: (60, 25, 12, 5, 3), 64: (250, 100, 50, 30, 15), 32: (500, 250, 100, 75, 50)},
        shot_noise,
    ),
    Corruption(
        "blur",
        "standard deviation of the filter in pixels",
        HENDRYCKS,
        {224: (1, 2, 3, 4, 6), 64: (0.5, 0.75, 1, 1.25, 1.5), 32: (0.4, 0.6, 0.7, 0.8, 1)},
        gaussian_blur,
    ),
    Corruption(
        "low_light",
        "brightest pixel, white is 1",
        KAR,
        constant(0.6, 0.5, 0.4, 0.3, 0.2),
        low_light,
    ),
    Corruption(
        "jpeg",
        "quality",
        HENDRYCKS,
        {224: (25, 18, 15, 10, 7), 64: (65, 58, 50, 40, 25), 32: (80, 65, 58, 50, 40)},
        jpeg,
    ),
    Corruption(
        "occlusion", "share of the area", "ours", constant(0.1, 0.2, 0.3, 0.4, 0.5), occlusion
    ),
    Corruption(
        "frozen",
        "share of samples that show another sample's picture",
        "ours",
        constant(0.2, 0.4, 0.6, 0.8, 1.0),
        frozen,
    ),
)


def _unit(reading: Reading) -> Array:
    """The picture with black 0 and white 1, float64."""
    low, high = reading.raw.low, reading.raw.high
    return (reading.values.astype(np.float64) - low) / ((high - low) or 1.0)


def _scaled(reading: Reading, x: Array) -> Array:
    """A picture with black 0 and white 1 in the sensor's own numbers, cut off at both ends."""
    low, high = reading.raw.low, reading.raw.high
    return low + x.clip(0, 1) * (high - low)
