"""Corruptions of sound: of waveforms, and of log spectrograms where there is no waveform."""

from __future__ import annotations

import numpy as np

from harness.data.raw import Array
from harness.robust.definition import Corruption, Reading, constant, frozen

PACKET = 0.02
"""Seconds that are lost at once, as in telephony over networks."""

RATIO = "signal to noise in dB"
DECIBELS = constant(20, 15, 10, 5, 0)
LOST = constant(0.1, 0.2, 0.3, 0.4, 0.5)
HANGING = constant(0.2, 0.4, 0.6, 0.8, 1.0)


def noise(reading: Reading, decibels: float) -> Array:
    """White noise, so that the sample has this ratio of signal to noise."""
    x = reading.values.astype(np.float64)
    power = np.mean(x**2) / 10 ** (decibels / 10)
    return np.asarray(x + np.sqrt(power) * reading.noise.standard_normal(x.shape))


def clipping(reading: Reading, share: float) -> Array:
    """Cut off at this share of the loudest moment."""
    loudest = share * np.abs(reading.values).max()
    return reading.values.clip(-loudest, loudest)


def gaps(reading: Reading, share: float) -> Array:
    """Packets of 20 ms are lost, and silent, each with this chance."""
    samples = len(reading.values)
    length = max(1, round(PACKET * reading.raw.rate))
    packets = -(-samples // length)  # the last one may be shorter
    lost = reading.noise.random(packets) < share
    silent = np.repeat(lost, length)[:samples]
    return np.where(silent, 0, reading.values)


FROZEN = Corruption(
    "frozen", "share of samples with another sample's sound", "ours", HANGING, frozen
)

SOUND = (
    Corruption("noise", RATIO, "ours (white noise)", DECIBELS, noise),
    Corruption(
        "clipping",
        "cut off at this share of the loudest moment",
        "ours",
        constant(0.5, 0.25, 0.1, 0.05, 0.02),
        clipping,
    ),
    Corruption("gaps", "chance that 20 ms are lost", "ours", LOST, gaps),
    FROZEN,
)


# ------------------------------------------------------------------ where there is no waveform


def noise_on_spectrogram(reading: Reading, decibels: float) -> Array:
    """The power of white noise added to each bin: exponential, as a periodogram of noise is.

    The values are taken as the logarithm of power.
    """
    x = reading.values.astype(np.float64)
    loudest = x.max()
    power = np.exp(x - loudest)  # relative, as the exponential of loud bins may overflow
    level = power.mean() / 10 ** (decibels / 10)
    noisy = power + level * reading.noise.standard_exponential(x.shape)
    return np.asarray(loudest + np.log(noisy))


def clipping_on_spectrogram(reading: Reading, share: float) -> Array:
    """No bin louder than this share of the loudest one."""
    return np.asarray(np.minimum(reading.values, reading.values.max() + np.log(share)))


def gaps_on_spectrogram(reading: Reading, share: float) -> Array:
    """Each window (along the last axis) is lost with this chance, and as silent as the quietest."""
    lost = reading.noise.random(reading.values.shape[-1]) < share
    return np.where(lost, reading.values.min(), reading.values)


SPECTROGRAMS = (
    Corruption("noise", RATIO, "ours (on the spectrogram)", DECIBELS, noise_on_spectrogram),
    Corruption(
        "clipping",
        "cut off at this share of the loudest bin's power",
        "ours (on the spectrogram)",
        constant(0.5, 0.25, 0.1, 0.05, 0.02),
        clipping_on_spectrogram,
    ),
    Corruption(
        "gaps",
        "chance that a window is lost",
        "ours (on the spectrogram)",
        LOST,
        gaps_on_spectrogram,
    ),
    FROZEN,
)
