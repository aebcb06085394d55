"""Pictures are decoded completely or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.nn import functional as F

from harness.data.images import read_image
from harness.data.prepared import Unreadable


def noise(*shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, high, shape)


@pytest.mark.parametrize("size", [(24, 20), (71, 80), (40, 20)])
def test_resizing_is_torchs_bilinear_interpolation_rounded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = noise(40, 53, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    reference = F.interpolate(
        torch.tensor(pixels).permute(2, 0, 1)[None].double(),
        size,
        mode="bilinear",
        align_corners=False,
    )[0]
    item = read_image(tmp_path / "a.png", "RGB", size)
    assert item.dtype == np.uint8 and item.shape == (3, *size)
    assert np.abs(item - reference.numpy()).max() <= 0.5 + 1e-3


def test_pixels_arrive_unchanged_when_no_size_differs(tmp_path: Path) -> None:
    grey, deep = noise(9, 7).astype(np.uint8), noise(9, 7, high=65536).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "grey.png", "L", (9, 7))[0] == grey).all()
    assert (read_image(tmp_path / "grey.png", "RGB") == grey[None]).all()
    item = read_image(tmp_path / "deep.png", "I;16")
    assert item.dtype == np.uint16 and (item[0] == deep).all()


def test_a_label_map_with_a_palette_keeps_its_numbers(tmp_path: Path) -> None:
    labels = noise(8, 6, high=5).astype(np.uint8)
    picture = Image.fromarray(labels, "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 200, 200, 0])
    picture.save(tmp_path / "labels.png")
    assert (read_image(tmp_path / "labels.png", "index")[0] == labels).all()
    twice = read_image(tmp_path / "labels.png", "index", (16, 12))[0]
    assert (twice == labels.repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_picture_is_refused_even_if_pillow_was_told_to_accept_it(
    tmp_path: Path, kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(noise(64, 64, 3).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(Unreadable, match=f"a.{kind}: "):
        read_image(path, "RGB")


def test_other_files_and_other_depths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(noise(9, 7, high=65536).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(noise(9, 7, 3).astype(np.uint8)).save(tmp_path / "rgb.png")
    for name, mode, reason in [
        ("text.jpg", "RGB", "cannot identify"),
        ("deep.png", "L", "where 8 bits are expected"),
        ("rgb.png", "I;16", "where one channel of 16 bits is expected"),
        ("rgb.png", "index", "where a map of labels is expected"),
    ]:
        with pytest.raises(Unreadable, match=reason):
            read_image(tmp_path / name, mode)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "absent.png", "RGB")
