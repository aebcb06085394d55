"""Sound files of every kind, resampling, and the front-ends against other transforms."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from datasets._media.audio import (
    FRONT_ENDS,
    Array,
    FrontEnd,
    front_end,
    is_pointer,
    read_wav,
    resampled,
)
from harness.data.prepared import Unreadable
from harness.errors import UserError

RATE = 16_000
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'5e' * 32}\nsize 73006\n"


def tone(hertz: float, seconds: float, rate: int = RATE, strength: float = 0.5) -> Array:
    return (strength * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def packed(values: Array, bits: int) -> bytes:
    """Samples in [-1, 1) as the bytes of a wav file of so many bits, written by hand."""
    if bits == 8:
        return bytes(round(float(v) * 128) + 128 for v in values)
    width = bits // 8
    return b"".join(
        round(float(v) * 2 ** (bits - 1)).to_bytes(width, "little", signed=True) for v in values
    )


def wav(
    path: Path,
    data: bytes,
    bits: int,
    channels: int = 1,
    claimed: int | None = None,
    extra: bytes = b"",
) -> Path:
    """A wav file written by hand: PCM format chunk, perhaps another one, sound."""
    width = channels * bits // 8
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, RATE, RATE * width, width, bits)
    body = (
        header
        + extra
        + struct.pack("<4sI", b"data", len(data) if claimed is None else claimed)
        + data
    )
    path.write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body)
    return path


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_every_width_of_pcm_has_full_scale_one(tmp_path: Path, bits: int) -> None:
    values = np.array([0.0, 0.5, -0.5, -1.0, 0.25, 0.75])
    sound, rate = read_wav(wav(tmp_path / "a.wav", packed(values, bits), bits))
    assert rate == RATE and sound.dtype == np.float32
    np.testing.assert_array_equal(sound, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_samples_stay_as_they_are(tmp_path: Path, dtype: type) -> None:
    values = np.array([0.0, 0.1, -1.25, 0.7], dtype=dtype)
    wavfile.write(tmp_path / "a.wav", RATE, values)
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav")[0], values, rtol=1e-7)


def test_channels_become_their_mean(tmp_path: Path) -> None:
    left, right = np.array([0.5, 0.5, -1.0]), np.array([0.25, -0.5, 0.5])
    path = wav(tmp_path / "a.wav", packed(np.stack([left, right], 1).ravel(), 16), 16, channels=2)
    np.testing.assert_array_equal(read_wav(path)[0], (left + right) / 2)


def test_tags_before_the_sound_and_streamed_headers_are_read(tmp_path: Path) -> None:
    data = packed(np.full(100, 0.5), 16)
    tagged = wav(tmp_path / "a.wav", data, 16, extra=struct.pack("<4sI", b"LIST", 5) + b"abcde\0")
    streamed = wav(tmp_path / "b.wav", data, 16, claimed=0xFFFFFFFF)
    for path in (tagged, streamed):
        np.testing.assert_array_equal(read_wav(path)[0], np.full(100, 0.5))


def broken(folder: Path) -> dict[str, Path]:
    data = packed(np.zeros(100), 16)
    files = {
        "git lfs pull": folder / "pointer.wav",
        "truncated: 200 of 400": wav(folder / "short.wav", data, 16, claimed=400),
        "no samples": wav(folder / "empty.wav", b"", 16),
        "does not begin as one": folder / "text.wav",
        "no sound in it": folder / "header.wav",
        "not finite": folder / "nan.wav",
    }
    files["git lfs pull"].write_text(POINTER)
    files["does not begin as one"].write_text("these are no sounds at all, but some words")
    files["no sound in it"].write_bytes(wav(folder / "c.wav", data, 16).read_bytes()[:36])
    wavfile.write(files["not finite"], RATE, np.array([0.0, np.nan], dtype=np.float32))
    return files


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    for reason, path in broken(tmp_path).items():
        with pytest.raises(Unreadable, match=reason) as caught:
            read_wav(path)
        assert path.name in str(caught.value)
    assert is_pointer(POINTER.encode()) and not is_pointer(b"RIFF")
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "nowhere.wav")


def test_a_resampled_tone_is_the_same_tone() -> None:
    sound = resampled(tone(440, 1.0), RATE, 22_050)
    assert len(sound) == 22_050
    # The filter rings at both ends.
    np.testing.assert_allclose(sound[500:-500], tone(440, 1.0, 22_050)[500:-500], atol=1e-3)


# Shapes that the papers and their codes assert.
SHAPES = [
    ("A", 0.0, 257, 299),
    ("A", 10.0, 257, 1004),
    ("B", 0.0, 257, 188),
    ("C", 0.0, 257, 188),
    ("D", 0.0, 129, 626),
]


@pytest.mark.parametrize(("name", "seconds", "frequencies", "frames"), SHAPES)
@pytest.mark.parametrize("length", [0.9, 2.5, 12.0])
def test_acceptance_5_shapes_whatever_the_clip_and_finite_silence(
    name: str, seconds: float, frequencies: int, frames: int, length: float
) -> None:
    chosen = front_end(name, seconds)
    assert chosen.shape == (1, frequencies, frames)
    for sound in (tone(700, length), np.zeros(round(length * RATE), dtype=np.float32)):
        values = chosen.features(sound, RATE)
        assert (
            values.shape == chosen.shape
            and values.dtype == np.float32
            and np.isfinite(values).all()
        )


@pytest.mark.parametrize(
    ("fewest", "most", "frames"), [(47_894, 48_052, 299), (159_989, 160_147, 1004)]
)
def test_lengths_that_give_the_frames_of_the_papers(fewest: int, most: int, frames: int) -> None:
    lengths = (fewest - 1, fewest, most, most + 1)
    sound = tone(700, 1.0)
    found = [front_end("A", length / RATE).features(sound, RATE).shape[2] for length in lengths]
    assert found == [frames - 1, frames, frames, frames + 1]


@pytest.mark.parametrize("name", list(FRONT_ENDS))
def test_a_tone_peaks_in_its_own_bin(name: str) -> None:
    chosen = front_end(name)
    bin_number = 20
    sound = tone(bin_number * chosen.rate / chosen.window, 3.0, chosen.rate)
    middle = chosen.features(sound, chosen.rate)[0, :, 5:-5]
    assert (middle.argmax(0) == bin_number).all()


def test_b_is_the_logarithm_of_half_the_windows_length_times_the_amplitude_at_a_tone() -> None:
    # |sum of w(n) a sin| = a / 2 * sum of w = a / 2 * window / 2 in the tone's own bin, for a Hann
    # window.
    chosen = front_end("B")
    values = chosen.features(
        tone(20 * chosen.rate / chosen.window, 3.0, chosen.rate, strength=0.5), chosen.rate
    )
    np.testing.assert_allclose(
        values[0, 20, 5:-5], np.log(0.5 / 2 * chosen.window / 2 + 1e-7), atol=1e-4
    )


@pytest.mark.parametrize("name", ["B", "C", "D"])
def test_magnitudes_are_those_of_torch(name: str) -> None:
    chosen = front_end(name)
    length = round(chosen.rate * max(chosen.seconds, chosen.at_least))
    noise = (np.random.default_rng(0).normal(size=length) * 0.6).astype(np.float32)
    cut = noise[(length - chosen.samples) // 2 :][: chosen.samples].clip(-1, 1)
    window = torch.hann_window(chosen.window, dtype=torch.float64)
    wave = torch.from_numpy(cut).double()
    spectrum = torch.stft(
        wave,
        chosen.window,
        chosen.hop,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    expected = torch.log(spectrum.abs() + 1e-7)
    if name == "C":
        expected = (expected - expected.mean()) / expected.std(correction=0)
    np.testing.assert_allclose(chosen.features(noise, chosen.rate)[0], expected.numpy(), atol=1e-4)


def naive_density(sound: Array, chosen: FrontEnd) -> Array:
    """Front-end A's power density, window by window, by the definition of each step."""
    n, taper = chosen.window, 0.25
    # Periodic Tukey window: a cosine over a quarter of n + 1 points, half of it at each end, the
    # last point left out.
    place = np.arange(n) / n
    window = np.where(place < taper / 2, 0.5 * (1 + np.cos(np.pi * (2 * place / taper - 1))), 1.0)
    window = np.where(
        place > 1 - taper / 2,
        0.5 * (1 + np.cos(np.pi * (2 * place / taper - 2 / taper + 1))),
        window,
    )
    columns = []
    for start in range(0, chosen.samples - n + 1, chosen.hop):
        part = sound[start : start + n].astype(np.float64)
        power = np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2 / (
            chosen.rate * (window**2).sum()
        )
        power[1:-1] *= 2
        columns.append(power)
    return np.stack(columns, 1)


def test_a_is_the_standardised_logarithm_of_the_power_density() -> None:
    chosen = front_end("A")
    noise = (np.random.default_rng(1).normal(size=chosen.samples) * 0.1 + 0.05).astype(np.float32)
    expected = np.log(naive_density(noise, chosen) + 1e-7)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(chosen.features(noise, RATE)[0], expected, atol=1e-4)


def test_short_sound_is_repeated_and_long_sound_cut() -> None:
    noise = (np.random.default_rng(2).normal(size=25 * RATE) * 0.1).astype(np.float32)
    a, d = front_end("A"), front_end("D")
    short = noise[: 2 * RATE]
    np.testing.assert_array_equal(
        a.features(short, RATE), a.features(np.tile(short, 2)[: 3 * RATE], RATE)
    )
    np.testing.assert_array_equal(a.features(noise, RATE), a.features(noise[: 3 * RATE], RATE))
    # D: six seconds twice are twelve, of which five from 3.5 s on.
    six = noise[: 6 * RATE]
    cut = np.concatenate([six[7 * RATE // 2 :], six[: 5 * RATE // 2]])
    np.testing.assert_array_equal(
        d.features(six, RATE), replace(d, at_least=0.0).features(cut, RATE)
    )


def test_half_precision_keeps_the_spectrogram_within_a_hundredth(tmp_path: Path) -> None:
    wavfile.write(
        tmp_path / "a.wav",
        RATE,
        tone(300, 2.0) + (np.random.default_rng(3).normal(size=2 * RATE) * 1e-3).astype(np.float32),
    )
    for chosen in FRONT_ENDS.values():
        stored = chosen.read(tmp_path / "a.wav")
        assert stored.dtype == np.float16
        np.testing.assert_allclose(
            stored.astype(np.float32), chosen.features(*read_wav(tmp_path / "a.wav")), atol=0.01
        )


def test_mistakes_are_sentences_and_descriptions_differ() -> None:
    with pytest.raises(UserError, match="front-end 'a'"):
        front_end("a")
    with pytest.raises(UserError, match=r"0\.032 or more"):
        front_end("A", 0.01)
    variants = [
        front_end(name, seconds).describe() for name in FRONT_ENDS for seconds in (0.0, 2.0)
    ]
    assert len(set(variants)) == len(variants)
