"""Pictures are decoded completely or refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.nn import functional as F

from harness.data.images import orientation, read_image, upright_size
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


# ---------------------------------------------------------------------- orientation, depth

ENDINGS = ("jpg", "png", "tif", "webp")


def exif(number: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = number
    return found


def as_stored(upright: np.ndarray, number: int) -> np.ndarray:
    """What a camera stores of a scene, by the definition of the EXIF standard.

    It says where row 0 and column 0 of what is stored are in the scene.
    """
    top_left = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        # Row 0 is the scene's left side; column 0 is its top, top, bottom, bottom.
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: upright.swapaxes(0, 1)[:, ::-1],
    }
    return np.ascontiguousarray(top_left[number])


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_turned_upright(tmp_path: Path, ending: str, number: int) -> None:
    scene = np.zeros((48, 32, 3), dtype=np.uint8)
    scene[:16, :16] = 250
    scene[:16, 16:] = 120
    path = tmp_path / f"a.{ending}"
    Image.fromarray(as_stored(scene, number)).save(path, exif=exif(number))
    item = read_image(path, "RGB")
    assert item.shape == (3, 48, 32)
    assert np.abs(item.transpose(1, 2, 0).astype(int) - scene).mean() < 3
    with Image.open(path) as picture:
        assert upright_size(picture) == (48, 32)


def test_orientation_at_the_end_of_a_png_is_seen_and_damage_in_it_is_not_one(
    tmp_path: Path,
) -> None:
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    end = plain.index(b"IEND") - 4
    for name, content, wanted in (("late", exif(6).tobytes(), 6), ("damaged", b"Exif??", 1)):
        # What precedes the TIFF structure in a JPEG has no place in a PNG.
        body = b"eXIf" + content.removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        (tmp_path / f"{name}.png").write_bytes(plain[:end] + chunk + plain[end:])
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert orientation(picture) == wanted
        shape = (1, 6, 4) if wanted == 6 else (1, 4, 6)
        assert read_image(tmp_path / f"{name}.png", "L").shape == shape


def test_integers_of_32_bits_are_read_as_they_are_and_never_as_16(tmp_path: Path) -> None:
    values = np.array([[70_000, -5], [65_536, 3]], dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert (read_image(tmp_path / "a.tif", "I")[0] == values).all()
    with pytest.raises(Unreadable, match="numbers from -5 to 70000, no 16 bits"):
        read_image(tmp_path / "a.tif", "I;16")
