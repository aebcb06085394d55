"""Files as people have them: what is turned, deep, loud, long or damaged is read right or told."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch import Tensor

from datasets.manifest import Manifest
from harness.dataset import SPLITS
from harness.errors import UserError
from tests.datasets.test_manifest import arrays, columns, everything, opened
from tests.support.media import array, classification, picture, read_rows, segmentation, write_csv


def beside(folder: Path, name: str, files: list[str]) -> Path:
    """A manifest of five files and a vector each."""
    return columns(folder, **{name: files}, o=arrays(folder, "o", [np.ones(2)] * 5))


def turned(path: Path, folder: Path, column: str) -> None:
    """Store a column's pictures as a camera held sideways does: turned, and saying so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for row in read_rows(path):
        with Image.open(folder / row[column]) as upright:
            upright.load()
        # Of orientation 6 the first row is the scene's right side.
        stored = np.asarray(upright).swapaxes(0, 1)[::-1]
        Image.fromarray(np.ascontiguousarray(stored)).save(
            folder / row[column], exif=exif, quality=100
        )


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize("column", ["rgb", "depth", "label_path"])
def test_turned_pictures_fit_the_others_and_the_label_map(tmp_path: Path, column: str) -> None:
    path = segmentation(tmp_path)
    plain, _ = opened(path)
    before, target = everything(plain.load("test"))
    turned(path, tmp_path, column)
    fresh = Manifest(manifest=path, cache=tmp_path / "cache2")
    said = fresh.prepare(lambda name, done, total: None)
    after, same = everything(fresh.load("test"))
    assert torch.equal(target, same)
    for name in ("rgb", "depth"):
        assert after[name].shape == before[name].shape
        assert float((after[name] - before[name]).abs().mean()) < 0.05
    if column != "label_path":
        assert any(f"'{column}': 30 pictures are stored turned" in line for line in said)
        assert fresh.fingerprint() != plain.fingerprint()


def test_aligned_modalities_of_different_shapes_are_said(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    for row in read_rows(path):
        depth = np.asarray(Image.open(tmp_path / row["depth"]))
        picture(tmp_path / row["depth"], np.ascontiguousarray(depth.T))
    _, said = opened(path)
    assert any("stored in different shapes (rgb 32x48, depth 48x32)" in line for line in said)


def test_sounds_that_a_study_calls_aligned_have_no_shape_to_compare(tmp_path: Path) -> None:
    dataset, said = opened(classification(tmp_path), aligned="yes")
    assert dataset.spec.aligned
    (line,) = (line for line in said if "stored in different shapes" in line)
    assert "(pic 16x12, vec 1x1) and are received as pic 16x12, vec 1x1:" in line


def test_integers_of_32_bits_are_not_taken_modulo_65536(tmp_path: Path) -> None:
    values = [np.array([[70_000, 5], [-3, n]], dtype=np.int32) for n in range(5)]
    (tmp_path / "deep").mkdir()
    for n, value in enumerate(values):
        Image.fromarray(value).save(tmp_path / f"deep/{n}.tif")
    dataset, said = opened(beside(tmp_path, "deep", [f"deep/{n}.tif" for n in range(5)]))
    assert dataset.load("test").inputs["deep"][0, 0].tolist() == [[70_000.0, 5.0], [-3.0, 4.0]]
    assert any("32 bits" in line for line in said)


def deep_colour(path: Path, values: np.ndarray) -> None:
    """Write (H, W, 3) uint16 as a PNG, which Pillow cannot."""

    def chunk(name: bytes, body: bytes) -> bytes:
        size, check = struct.pack(">I", len(body)), struct.pack(">I", zlib.crc32(name + body))
        return size + name + body + check

    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_colour_of_16_bits_is_said_to_be_read_in_8(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for n in range(5):
        deep_colour(tmp_path / f"c/{n}.png", np.full((4, 4, 3), 300 * (n + 1), dtype=np.uint16))
    dataset, said = opened(beside(tmp_path, "c", [f"c/{n}.png" for n in range(5)]))
    assert dataset.load("test").inputs["c"].unique().tolist() == [1500 // 256]
    assert any("'c': 5 pictures have 16 bits per channel of colour, of which" in s for s in said)


def test_files_of_several_pages_are_said_to_be_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for n in range(5):
        pages = [Image.fromarray(np.full((4, 4), 10 * page + n, np.uint8)) for page in range(3)]
        pages[0].save(tmp_path / f"p/{n}.tif", save_all=True, append_images=pages[1:])
    dataset, said = opened(beside(tmp_path, "p", [f"p/{n}.tif" for n in range(5)]))
    assert dataset.load("test").inputs["p"].unique().tolist() == [4]
    assert any("'p': 5 pictures have several pages, of which the first is read" in s for s in said)


# ---------------------------------------------------------------------- sound


def test_how_loud_a_recording_is_does_not_reach_the_encoder(tmp_path: Path) -> None:
    """The same sound at a hundredth of the level is the same input; front-end B keeps the level."""
    (tmp_path / "snd").mkdir()
    noise = np.random.default_rng(0).normal(size=1600)
    for n in range(5):
        level = 0.2 if n < 4 else 0.002
        wavfile.write(tmp_path / f"snd/{n}.wav", 8000, (level * noise).astype(np.float32))
    path = beside(tmp_path, "snd", [f"snd/{n}.wav" for n in range(5)])

    def sounds(**options: str) -> tuple[Tensor, Tensor]:
        dataset, _ = opened(path, **options)
        train, test = (dataset.load(split).inputs["snd"].float() for split in ("train", "test"))
        return train[:1], test

    loud, quiet = sounds()
    torch.testing.assert_close(loud, quiet, atol=0.02, rtol=0)
    loud, quiet = sounds(front_end="B")
    assert float((loud - quiet).median()) == pytest.approx(math.log(100), abs=0.1)


def test_loud_sound_with_a_decimal_point_is_not_clipped(tmp_path: Path) -> None:
    """A tone of amplitude 20,000 has no overtones; one that is clipped to ±1 is a square."""
    (tmp_path / "snd").mkdir()
    time = np.arange(1600) / 8000
    for n in range(5):
        loud = (20_000 * np.sin(2 * np.pi * 510 * time)).astype(np.float32)
        wavfile.write(tmp_path / f"snd/{n}.wav", 8000, loud)
    path = beside(tmp_path, "snd", [f"snd/{n}.wav" for n in range(5)])
    dataset, _ = opened(path)
    spectrum = dataset.load("test").inputs["snd"][0, 0].float()[:, 4:-4].mean(1)
    tone = 510 * 256 // 8000
    # A square has odd overtones alone; what a window leaks of a tone falls with the distance.
    assert spectrum[tone] > spectrum[2 * tone] > spectrum[3 * tone]
    with pytest.raises(UserError, match="beyond the full scale of 1: divide them"):
        opened(path, front_end="C")


# ---------------------------------------------------------------------- arrays


def test_series_of_sensors_have_one_mean_per_channel(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    levels = np.array([100.0, 0.0, -5.0])[:, None]
    imu = [levels + random.normal(size=(3, 32)) for _ in range(5)]
    path = columns(
        tmp_path,
        imu=arrays(tmp_path, "imu", imu),
        last=arrays(tmp_path, "last", [x.T for x in imu]),
        map=arrays(tmp_path, "map", [random.normal(size=(20, 32)) for _ in range(5)]),
    )
    dataset, said = opened(path, channels_last="last")
    assert [m.shape for m in dataset.spec.modalities] == [(3, 1, 32), (3, 1, 32), (1, 20, 32)]
    train = np.stack(imu[:3])
    for name in ("imu", "last"):
        modality = dataset.load("train").modalities[("imu", "last").index(name)]
        np.testing.assert_allclose(modality.mean, train.mean((0, 2)), rtol=1e-6)
        got = everything(dataset.load("test"))[0][name][0, :, 0].numpy()
        wanted = (imu[4] - train.mean((0, 2))[:, None]) / train.std((0, 2))[:, None]
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert any("'imu' is read as a series of 3 channels over 32 steps" in line for line in said)
    pictures, _ = opened(path, arrays="imu:picture,map:series")
    assert [m.shape for m in pictures.spec.modalities] == [(1, 3, 32), (1, 32, 3), (20, 1, 32)]
    assert any("set dataset.options.channels_last=last" in n for n in pictures.spec.notes)


@pytest.mark.parametrize(
    ("arrays_option", "sentence"),
    [
        ("sequence", "unknown reading in dataset.options.arrays"),
        ("im:series", "did you mean 'imu'"),
    ],
)
def test_a_wrong_reading_of_arrays_is_told(
    tmp_path: Path, arrays_option: str, sentence: str
) -> None:
    imu = arrays(tmp_path, "imu", [np.ones((3, 32))] * 5)
    with pytest.raises(UserError, match=sentence):
        assert Manifest(
            manifest=beside(tmp_path, "imu", imu), options={"arrays": arrays_option}
        ).spec


def header_only(path: Path, shape: Sequence[int], values: int = 4) -> None:
    """Write an npy file whose header promises a shape, and that holds a few values."""
    with path.open("wb") as stream:
        facts = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(stream, facts)
        stream.write(np.ones(values, np.float32).tobytes())


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((30_000, 300_000), "needs 36,000,000,000 bytes, and 16 follow"),
        ((-4,), "which holds no values"),
        ((5,), "needs 20 bytes, and 16 follow"),
    ],
)
def test_headers_that_promise_more_than_the_file_holds(
    tmp_path: Path, shape: tuple[int, ...], reason: str
) -> None:
    path = classification(tmp_path)
    header_only(tmp_path / "vec/train0.npy", shape)
    dataset, said = opened(path)
    assert dataset.spec.modalities[2].shape == (5, 1, 1) and dataset.counts()["train"] == 15
    assert any("train0.npy" in line and reason in line for line in said)
    for row in read_rows(path):
        header_only(tmp_path / row["vec"], shape)
    with pytest.raises(UserError, match=r"no file of column 'vec' can be read: .*" + reason):
        assert Manifest(manifest=path).spec


def with_rate(path: Path, rate: int) -> None:
    """Let a wav file of 16 bits and one channel say another rate."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, 24, rate, 2 * rate % 2**32)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        (1, "says 1 Hz, and sound is recorded with 100 to 8,388,608 Hz"),
        (2**31 - 1, "says 2,147,483,647 Hz, and sound is recorded with 100 to 8,388,608 Hz"),
        # A factor of 80: a tenth of a second would be eight.
        (320_000, "says 320,000 Hz, too far from 4,000 Hz to be brought to it"),
    ],
)
def test_rates_that_no_recording_has(tmp_path: Path, rate: int, reason: str) -> None:
    path = classification(tmp_path)
    with_rate(tmp_path / "snd/train0.wav", rate)
    dataset, said = opened(path)
    assert dataset.counts()["train"] == 15
    assert any("train0.wav" in line and reason in line for line in said)


def test_a_rate_that_lies_in_every_file_is_one_sentence(tmp_path: Path) -> None:
    path = classification(tmp_path)
    for row in read_rows(path):
        with_rate(tmp_path / row["snd"], 1)
    with pytest.raises(UserError, match=r"no file of column 'snd' can be read: .*says 1 Hz"):
        assert Manifest(manifest=path).spec


WITHIN = """
import resource, sys
from pathlib import Path
from datasets.manifest import Manifest

resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
path = Path(sys.argv[1])
data = Manifest(manifest=path, cache=path.parent / "cache")
for line in data.prepare(lambda name, done, total: None):
    print(line)
"""


def test_a_picture_of_100_000_by_100_000_is_left_out_within_a_gibibyte(tmp_path: Path) -> None:
    path = classification(tmp_path)

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(2**20))), (b"IEND", b""))
    body = b"".join(chunk(name, content) for name, content in parts)
    (tmp_path / "pic/train0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    done = subprocess.run(
        [sys.executable, "-c", WITHIN, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert any("train0.png" in s and "10000000000 pixels" in s for s in done.stdout.splitlines())


def test_numbers_that_float32_cannot_hold(tmp_path: Path) -> None:
    path = classification(tmp_path)
    array(tmp_path / "vec/train0.npy", np.array([1, 2, 1e300, 4, 5]))
    dataset, said = opened(path)
    assert dataset.counts()["train"] == 15
    assert any("train0.npy: holds 1e+300, beyond" in line for line in said)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_a_small_variation_far_from_zero_is_told(tmp_path: Path, dtype: type[Any]) -> None:
    """Nanoseconds of one minute: float32 has steps of 137 s there."""
    start = 1_700_000_000 * 10**9
    values = [np.array([start + n * 10**9, n]).astype(dtype) for n in range(5)]
    path = columns(
        tmp_path, t=arrays(tmp_path, "t", values), o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    _, said = opened(path)
    told = [line for line in said if "vary too little for float32" in line]
    assert len(told) == 1 and "'t': channels 0 lie at 1.7e+18" in told[0]
    near = [np.array([n * 10**9, n]).astype(dtype) for n in range(5)]
    for n, value in enumerate(near):
        array(tmp_path / f"t/{n}.npy", value)
    again = Manifest(manifest=path, cache=tmp_path / "cache2")
    assert not any("float32" in s for s in again.prepare(lambda name, done, total: None)[-2:])


# ---------------------------------------------------------------------- samples that are left out


def test_a_class_without_a_readable_training_file_is_told(tmp_path: Path) -> None:
    path = classification(tmp_path)
    for row in read_rows(path):
        if row["split"] == "train" and row["label"] == "cat":
            (tmp_path / row["pic"]).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no sample of class 'cat' in train can be read \(.*png"):
        opened(path)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_a_readable_sample_is_told(tmp_path: Path, split: str) -> None:
    path = classification(tmp_path)
    for row in read_rows(path):
        if row["split"] == split:
            content = (tmp_path / row["pic"]).read_bytes()
            (tmp_path / row["pic"]).write_bytes(content[:-30])
    with pytest.raises(UserError, match=f"no sample of {split} can be read"):
        opened(path)


def test_a_folder_with_the_ending_of_a_picture_is_left_out_by_name(tmp_path: Path) -> None:
    path = classification(tmp_path)
    (tmp_path / "pic/train0.png").unlink()
    (tmp_path / "pic/train0.png").mkdir()
    dataset, said = opened(path)
    assert dataset.counts()["train"] == 15 and any("train0.png: Is a dir" in line for line in said)


def test_what_is_not_there_in_this_case_is_named_as_it_is(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = read_rows(path)
    rows[0]["pic"] = "Pic/Train0.PNG"
    with pytest.raises(UserError, match=r"Pic/Train0.PNG \(row 2\); pic/train0.png is there"):
        assert Manifest(manifest=write_csv(path, rows)).spec
