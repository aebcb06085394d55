"""Frames of clips: their order, evenly spread choices, resizing, and videos."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets._media.frames
from datasets._media.frames import evenly, numbered, read_frame, read_video, require_video
from datasets.crema_d import CremaD
from harness.data.prepared import Unreadable
from harness.errors import UserError
from tests.support.clips import OPTIONS, POINTER, heard, seen, write_grey, write_number

HAS_AV = importlib.util.find_spec("av") is not None


def test_examples() -> None:
    assert doctest.testmod(datasets._media.frames).failed == 0


def test_frames_are_sorted_by_number_and_other_files_are_none(tmp_path: Path) -> None:
    names = ["10.jpg", "9.jpg", "00011.jpg", "100.png"]
    write_grey(tmp_path, range(4), names)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [path.name for path in numbered(tmp_path)] == ["9.jpg", "10.jpg", "00011.jpg", "100.png"]
    assert numbered(tmp_path / "nowhere") == []


@pytest.mark.parametrize("total", range(1, 70))
def test_an_odd_choice_has_the_middle_frame_in_its_middle(total: int) -> None:
    for at_most in range(1, 9):
        chosen = evenly(total, at_most)
        assert (
            len(set(chosen)) == len(chosen) == min(total, at_most)
            and sorted(chosen) == chosen
            and chosen[-1] < total
        )
        assert total > at_most or chosen == list(range(total))
        if len(chosen) % 2:
            assert chosen[len(chosen) // 2] == total // 2


def test_shrinking_is_low_pass_filtered(tmp_path: Path) -> None:
    """Black and white lines of one pixel become grey.

    Picking pixels would make them black or white.
    """
    lines = np.zeros((64, 64, 3), dtype=np.uint8)
    lines[::2] = 255
    Image.fromarray(lines).save(tmp_path / "lines.png")
    small = read_frame(tmp_path / "lines.png", (16, 20))
    assert small.shape == (3, 16, 20) and small.dtype == np.uint8
    assert abs(small.astype(int) - 127).max() <= 16


def write_video(path: Path, levels: list[int], size: tuple[int, int] = (64, 48)) -> None:
    """A flash video as the data set has them, one grey level per frame, 29.97 frames per second."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 2_000_000
        for level in levels:
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (level,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


needs_av = pytest.mark.skipif(not HAS_AV, reason="the extra `video` is not installed")


@needs_av
def test_frames_of_a_video_are_spread_evenly(tmp_path: Path) -> None:
    write_video(tmp_path / "a.flv", [20 + 3 * n for n in range(60)])
    frames = read_video(tmp_path / "a.flv", 3, (30, 40))
    assert frames.shape == (3, 3, 30, 40)
    found = frames.reshape(3, -1).astype(float).mean(1)
    # Frames 10, 30 and 50 of 60; the codec loses a few grey levels.
    np.testing.assert_allclose(found, [50, 110, 170], atol=4)


@needs_av
def test_a_video_that_is_none_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.flv", [20 + 3 * n for n in range(30)])
    broken = {
        "pointer.flv": POINTER.encode(),
        "text.flv": b"this is no video" * 20,
        "empty.flv": b"",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            Unreadable, match="git lfs pull" if name.startswith("pointer") else "no readable video"
        ) as caught:
            read_video(tmp_path / name, 3, (30, 40))
        assert name in str(caught.value)


def write_videos(root: Path) -> list[str]:
    names = [
        f"{actor}_DFA_{emotion}_XX"
        for actor in range(1001, 1005)
        for emotion in ("NEU", "HAP", "ANG")
    ]
    for n, name in enumerate(names):
        write_number(root / "AudioWAV" / f"{name}.wav", n)
        if HAS_AV:
            write_video(root / "VideoFlash" / f"{name}.flv", [20 + 10 * n] * 30)
        else:
            (root / "VideoFlash").mkdir(exist_ok=True)
            (root / "VideoFlash" / f"{name}.flv").write_bytes(b"FLV" + bytes(2000))
    return names


@needs_av
def test_crema_d_reads_video_folders(tmp_path: Path) -> None:
    names = write_videos(tmp_path / "copy")
    dataset = CremaD(
        tmp_path / "copy",
        protocol="actor",
        options=OPTIONS | {"frames": 3},
        cache=tmp_path / "cache",
    )
    dataset.prepare(lambda name, done, total: None)
    assert sum(dataset.counts().values()) == len(names)
    for split in ("train", "val", "test"):
        loaded = dataset.load(split)
        np.testing.assert_allclose(seen(loaded), [5 * n for n in heard(loaded)], atol=3)


@pytest.mark.skipif(HAS_AV, reason="the extra `video` is installed")
def test_without_the_extra_videos_are_a_sentence(tmp_path: Path) -> None:
    write_videos(tmp_path / "copy")
    dataset = CremaD(tmp_path / "copy", protocol="actor", options=OPTIONS, cache=tmp_path / "cache")
    assert sum(dataset.counts().values()) == 12
    with pytest.raises(UserError, match=r'pip install -e "\.\[video\]"'):
        dataset.prepare(lambda name, done, total: None)
    with pytest.raises(UserError, match="extract their frames"):
        require_video(tmp_path, "Image-01-FPS")
