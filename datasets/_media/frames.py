"""Frames of clips: folders of numbered pictures, or whole videos, as pictures of one size."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets._files import visible
from datasets._media.audio import Array, is_pointer
from harness.data.images import read_image
from harness.data.prepared import Unreadable
from harness.errors import UserError

Size = tuple[int, int]

PICTURES = {".jpg", ".jpeg", ".png"}
REMEMBERED = 32
"""Videos whose frames are kept in memory while their rows are asked for, one after another, by
several threads.
"""


def numbered(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers, 2 before 10.

    Empty when there is no such folder.
    """
    if not folder.is_dir():
        return []
    pictures = [path for path in visible(folder.iterdir()) if path.suffix.lower() in PICTURES]
    return sorted(pictures, key=_number)


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdecimal() else 0), path.name


def evenly(total: int, at_most: int) -> list[int]:
    """The positions of at most so many of ``total`` things, spread evenly.

    The middle one of an odd number is total // 2.

    >>> evenly(3, 6), evenly(10, 3), evenly(61, 5)
    ([0, 1, 2], [1, 5, 8], [6, 18, 30, 42, 54])
    """
    chosen = min(total, at_most)
    return [(2 * k + 1) * total // (2 * chosen) for k in range(chosen)]


def read_frame(path: Path, size: Size) -> Array:
    """A picture as RGB (3, H, W) uint8 of the size (H, W).

    Resized by Pillow (bilinear, low-pass filtered where it shrinks). Unreadable where read_image
    says so.
    """
    return _resized(read_image(path, "RGB").transpose(1, 2, 0), size)


def _resized(pixels: Array, size: Size) -> Array:
    height, width = size
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def require_video(root: Path, missing: str) -> None:
    """UserError unless the library that reads videos is installed."""
    if importlib.util.find_spec("av") is None:
        raise UserError(
            f"{root} has videos and no {missing}: install the extra `video` (pip install -e"
            ' ".[video]") to read the videos, or extract their frames into that folder'
        )


@lru_cache(maxsize=REMEMBERED)
def read_video(path: Path, frames: int, size: Size) -> Array:
    """So many frames of a video, spread evenly, as RGB (frames, 3, H, W) uint8.

    A video of fewer frames shows some of them twice. Unreadable when it has none that decode.
    """
    import av

    with path.open("rb") as stream:
        if is_pointer(stream.read(64)):
            raise Unreadable(
                path,
                "a git-lfs pointer, not the video itself: run `git lfs pull` in the copy that it"
                " comes from",
            )
    try:
        pictures = list(_chosen(av, path, frames))
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise Unreadable(path, f"no readable video ({error})") from error
    if not pictures:
        raise Unreadable(path, "has no frames that can be decoded")
    return np.stack([_resized(pictures[min(k, len(pictures) - 1)], size) for k in range(frames)])


def _chosen(av: Any, path: Path, frames: int) -> Iterator[Array]:
    """The frames, (H, W, 3) each; fewer than ``frames`` where some do not decode."""
    # Packets are counted without being decoded; an empty one ends the stream.
    with av.open(str(path)) as container:
        total = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    # As ``evenly`` has them, but of fewer frames some twice.
    wanted = [(2 * k + 1) * total // (2 * frames) for k in range(frames)]
    # Decoded a second time instead of kept: a minute of video is a gigabyte.
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            for _ in range(wanted.count(number)):
                yield frame.to_ndarray(format="rgb24")
