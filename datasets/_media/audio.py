"""Sound files and what encoders receive of them.

Reading, resampling, and the published spectrogram front-ends by name. Called by clips.py beside it
and by manifests.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly, spectrogram, stft
from torch import Tensor

from harness.data.prepared import Unreadable
from harness.data.raw import Raw
from harness.errors import UserError, unknown

Array = np.ndarray[Any, np.dtype[Any]]

POINTER = b"version https://git-lfs"
UNTIL_THE_END = 0xFFFFFFFF
FLOOR = 1e-7
GUARD = 1e-9
SLOWEST, FASTEST = 100, 2**23
"""Rates in Hz that sound is recorded with; others stand in headers that lie."""

FURTHEST = 64
"""Rates further apart than this factor are a header that lies: made equal, seconds become hours."""

LOUDEST = 2.0
"""Samples with a decimal point may pass full scale a little, as peaks do, and not by more."""

DAMAGE = (
    *(ValueError, EOFError, OSError, struct.error),
    *(TypeError, AttributeError, KeyError, ZeroDivisionError),
)
"""What scipy raises on files that are no wav, or a damaged one."""

# Chunks of tags, of which there are many kinds; data that end too early are found here, by name.
warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins like this is a git-lfs pointer.

    It stands for another file, which git-lfs has not fetched.
    """
    return start.startswith(POINTER)


def read_wav(path: Path) -> tuple[Array, int]:
    """The sound of a wav file as float32 (samples,) in about [-1, 1], and its rate in Hz.

    8, 16, 24 or 32 bit, or float. Several channels become their mean.

    Raises:
        Unreadable: no wav, truncated, empty, not finite, or a git-lfs pointer.
        FileNotFoundError: the file is not there.
    """
    content = path.read_bytes()
    if is_pointer(content):
        raise Unreadable(
            path,
            "a git-lfs pointer, not the sound itself: run `git lfs pull` in the copy that it comes"
            " from",
        )
    try:
        _require_whole(content)
        rate, values = wavfile.read(io.BytesIO(content))
    except DAMAGE as error:
        raise Unreadable(path, f"no readable wav file ({error})") from error
    if values.size == 0:
        raise Unreadable(path, "has no samples")
    if not SLOWEST <= rate <= FASTEST:
        raise Unreadable(path, no_rate(rate))
    sound = _unit(values)
    if not np.isfinite(sound).all():
        raise Unreadable(path, "has samples that are not finite")
    return sound, int(rate)


def no_rate(rate: int) -> str:
    """Why a file with a rate out of bounds is not read."""
    return f"says {rate:,} Hz, and sound is recorded with {SLOWEST:,} to {FASTEST:,} Hz"


def resampled(sound: Array, rate: int, wanted: int) -> Array:
    """The sound (samples,) at another rate, by polyphase filtering.

    It has ceil(samples * wanted / rate) samples.
    """
    if rate == wanted:
        return sound
    divisor = math.gcd(rate, wanted)
    return np.asarray(resample_poly(sound, wanted // divisor, rate // divisor), dtype=np.float32)


@dataclass(frozen=True)
class FrontEnd:
    """A spectrogram front-end: sound -> (1, frequencies, frames).

    Sound is resampled to ``rate``, repeated until it lasts ``seconds`` (or ``at_least``, where that
    is longer) and cut: its beginning, or with ``at_least`` its middle. ``power`` takes log(S +
    1e-7) of the power density S (Tukey window 0.25, each window's mean removed, no padding at the
    ends), otherwise of the magnitude (Hann window, centred, ends padded with zeros, sound clipped
    to [-1, 1] unless ``clipped`` is off). ``standardised``: (x - mean) / (std + 1e-9) over the
    clip.
    """

    name: str
    rate: int
    seconds: float
    window: int
    hop: int
    power: bool
    standardised: bool
    at_least: float = 0.0
    clipped: bool = field(default=True, repr=False)

    @property
    def samples(self) -> int:
        """Samples of sound that are used."""
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, frequencies, frames)."""
        padded = self.samples - self.window if self.power else self.samples
        frames = padded // self.hop + 1
        return 1, self.window // 2 + 1, frames

    def describe(self) -> str:
        """Everything that decides the values, in one line."""
        return f"wav -> {self!r}, float16" + ("" if self.clipped else ", not clipped")

    def features(self, sound: Array, rate: int) -> Array:
        """The spectrogram (1, frequencies, frames), float32, of sound (samples,) at ``rate`` Hz.

        Finite for silence too.
        """
        x = self._cut(resampled(sound, rate, self.rate)).astype(np.float64)
        strength = self._density(x) if self.power else self._magnitude(x)
        values = np.log(strength + FLOOR)
        if self.standardised:
            values = (values - values.mean()) / (values.std() + GUARD)
        return np.asarray(values[None], dtype=np.float32)

    def read(self, path: Path) -> Array:
        """The spectrogram of a wav file as it is stored, float16.

        Unreadable where :func:`read_wav` says so, and for a sound so loud that clipping would leave
        nothing but its signs.
        """
        sound, rate = self._recorded(path)
        loudest = float(np.abs(sound).max())
        if self.clipped and not self.power and loudest > LOUDEST:
            raise Unreadable(
                path, f"has samples up to {loudest:g}, beyond the full scale of 1: divide them"
            )
        return self.features(sound, rate).astype(np.float16)

    def raw(self, file: Callable[[int], Path]) -> Raw:
        """Waveforms at this front-end's rate, and how they become stored spectrograms as float32.

        ``file`` is the wav file of the sample at a position.
        """

        def read(n: int) -> Array:
            return resampled(*self._recorded(file(n)), self.rate)

        def receive(sounds: Sequence[Array]) -> Tensor:
            stored = [self.features(sound, self.rate).astype(np.float16) for sound in sounds]
            return torch.from_numpy(np.stack(stored)).float()

        return Raw("sound", read, receive, low=-1.0, rate=self.rate)

    def _recorded(self, path: Path) -> tuple[Array, int]:
        """Sound and rate of a wav file; Unreadable where this rate cannot be made of that one."""
        sound, rate = read_wav(path)
        if not self.rate / FURTHEST <= rate <= self.rate * FURTHEST:
            raise Unreadable(
                path, f"says {rate:,} Hz, too far from {self.rate:,} Hz to be brought to it"
            )
        return sound, rate

    def _cut(self, sound: Array) -> Array:
        wanted = max(self.samples, round(self.rate * self.at_least))
        whole = np.tile(sound, -(-wanted // len(sound))) if len(sound) < wanted else sound
        start = (len(whole) - self.samples) // 2 if self.at_least else 0
        return whole[start : start + self.samples]

    def _density(self, x: Array) -> Array:
        overlap = self.window - self.hop
        return np.asarray(spectrogram(x, self.rate, nperseg=self.window, noverlap=overlap)[2])

    def _magnitude(self, x: Array) -> Array:
        overlap = self.window - self.hop
        values = stft(
            x.clip(-1, 1) if self.clipped else x,
            nperseg=self.window,
            noverlap=overlap,
            boundary="zeros",
            padded=False,
        )[2]
        # Undone: the division by the sum of the window's values, which is half its length.
        return np.asarray(np.abs(values) * (self.window / 2))


FRONT_ENDS = {
    front_end.name: front_end
    for front_end in (
        FrontEnd("A", 16_000, 3.0, 512, 159, power=True, standardised=True),
        FrontEnd("B", 22_050, 3.0, 512, 353, power=False, standardised=False),
        FrontEnd("C", 22_050, 3.0, 512, 353, power=False, standardised=True),
        FrontEnd("D", 16_000, 5.0, 256, 128, power=False, standardised=False, at_least=10.0),
    )
}
"""A: the papers' (OGM-GE, DMRNet), 257x299 for 3 s and 257x1004 for 10 s. B: OGM-GE's code for
CREMA-D, 257x188. C: DMRNet's code for CREMA-D, 257x188. D: DMRNet's code for Kinetics-Sounds,
129x626, whose random five seconds are the middle ones here."""


def front_end(name: str, seconds: float = 0.0) -> FrontEnd:
    """A front-end by name, for another length than the published one where ``seconds`` > 0.

    UserError when it is unknown.
    """
    if name not in FRONT_ENDS:
        raise unknown("front-end", name, list(FRONT_ENDS))
    chosen = FRONT_ENDS[name]
    if seconds:
        at_least = chosen.at_least if seconds < chosen.at_least else 0.0
        chosen = replace(chosen, seconds=seconds, at_least=at_least)
    if chosen.samples < chosen.window:
        raise UserError(
            f"{seconds:g} seconds are less than one window of front-end {name}; take"
            f" {chosen.window / chosen.rate:g} or more"
        )
    return chosen


def _unit(values: Array) -> Array:
    """Stored samples (samples,) or (samples, channels) as float32 (samples,) with full scale 1."""
    scaled: Array
    if values.dtype == np.uint8:
        scaled = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        # 24 bits come as the upper ones of 32.
        scaled = values.astype(np.float32) / -float(np.iinfo(values.dtype).min)
    else:
        scaled = values.astype(np.float32)
    return scaled if scaled.ndim == 1 else np.asarray(scaled.mean(1))


def _require_whole(content: bytes) -> None:
    """ValueError unless the samples are as many as the header says.

    A file that was streamed has no number, and goes to its end.
    """
    for name, size, left in _chunks(content):
        if name == b"data":
            if size > left and size < UNTIL_THE_END - 4096:
                raise ValueError(f"truncated: {left} of {size} bytes of sound")
            return
    raise ValueError("no sound in it")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name and size of each part of a wav file, and how many bytes are left.

    The bytes from the part's beginning to the end of the file.
    """
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64") or content[8:12] != b"WAVE":
        raise ValueError("it does not begin as one")
    order = ">" if content[:4] == b"RIFX" else "<"
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, place)
        yield name, size, len(content) - place - 8
        place += 8 + size + size % 2
