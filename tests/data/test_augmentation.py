"""Applying an augmentation to batches: exactness, labels, other sizes, colour."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from harness.data.augmentation import (
    Geometry,
    HsvJitter,
    ResizedCropFlip,
    RotateCropFlip,
    ScaleCropFlip,
    resize,
    warp,
)
from tests.support.pictures import smooth, stream

GEOMETRIES = (RotateCropFlip(), ResizedCropFlip(), ScaleCropFlip())


@pytest.mark.parametrize(
    "geometry",
    [
        RotateCropFlip(degrees=0, canvas=1, flip=0),
        ResizedCropFlip((1, 1), (5 / 6, 5 / 6), 0),
        ScaleCropFlip((1, 1), 0),
    ],
)
def test_draws_that_change_nothing_are_exact(geometry: Geometry) -> None:
    size = (60, 50)
    theta = geometry.draw(6, size, size, stream())
    for image in (
        smooth(6, 3, *size)[..., :60, :50],
        torch.randn(6, 2, *size, generator=stream()) * 1e4,
    ):
        assert torch.equal(geometry.apply(image, theta, size), image.float())
        assert torch.equal(geometry.apply(image, theta, size, "nearest"), image)
    wide = torch.randint(0, 1 << 24, (6, 1, *size), generator=stream())
    assert torch.equal(geometry.apply(wide, theta, size, "nearest", fill=255), wide)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_labels_keep_their_type_and_only_get_labels_that_exist(geometry: Geometry) -> None:
    labels = torch.tensor([3, 7, 40])[torch.randint(0, 3, (10, 1, 50, 70), generator=stream())]
    theta = geometry.draw(10, (50, 70), (48, 48), stream())
    for dtype in (torch.uint8, torch.int64, torch.int32):
        out = geometry.apply(labels.to(dtype), theta, (48, 48), "nearest", fill=255)
        assert out.dtype == dtype
        assert set(out.unique().tolist()) <= {3, 7, 40, 255}
        assert (255 in out) == isinstance(geometry, RotateCropFlip)


@pytest.mark.parametrize(("stored", "size"), [(144, 115), (90, 45), (76, 37), (51, 26)])
def test_a_shift_by_half_a_pixel_moves_all_labels_to_the_same_side(stored: int, size: int) -> None:
    """The central crop of a difference that is odd: every point lies half-way between two
    labels.
    """
    columns = torch.arange(stored).expand(1, 1, stored, stored)
    theta = torch.tensor([[[size / stored, 0, 0], [0, size / stored, 0]]])
    row = warp(columns, theta, (size, size), "nearest")[0, 0, 0]
    assert torch.equal(row, torch.arange(size) + (stored - size + 1) // 2)


def test_a_label_map_moves_as_its_picture_does() -> None:
    labels = (smooth(12, 1, 64, 64) > 127).to(torch.uint8) * 200
    for geometry in GEOMETRIES:
        theta = geometry.draw(12, (64, 64), (48, 48), stream())
        soft = geometry.apply(labels, theta, (48, 48))
        hard = geometry.apply(labels, theta, (48, 48), "nearest").float()
        # Where all four pixels around a point agree, so do both.
        sure = (soft < 1e-3) | (soft > 199.999)
        assert sure.float().mean() > 0.6 and torch.equal(hard[sure], soft[sure].round())


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_one_draw_moves_modalities_of_other_stored_sizes_alike(geometry: Geometry) -> None:
    """A ramp of coordinates shows where each output pixel comes from, as a share of the stored
    image's sides.
    """

    def ramps(height: int, width: int) -> Tensor:
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height,
            (torch.arange(width) + 0.5) / width,
            indexing="ij",
        )
        return torch.stack([x, y])[None].expand(16, -1, -1, -1)

    theta = geometry.draw(16, (144, 144), (112, 112), stream())
    large = warp(ramps(144, 144), theta, (112, 112), outside="border")
    small = warp(ramps(72, 96), theta, (112, 112), outside="border")
    inside = ((large > 0.02) & (large < 0.98)).all(1, keepdim=True).expand_as(large)
    assert inside.float().mean() > 0.8 and (large - small)[inside].abs().max() < 1e-4


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_sample_is_the_same_in_every_batch(geometry: Geometry) -> None:
    images = smooth(9, 3, 80, 80)
    theta = geometry.draw(9, (80, 80), (64, 64), stream())
    whole = geometry.apply(images, theta, (64, 64))
    for rows in (torch.tensor([4]), torch.tensor([8, 1, 4])):
        assert torch.equal(geometry.apply(images[rows], theta[rows], (64, 64)), whole[rows])


@pytest.mark.parametrize("draw", [*(g.draw for g in GEOMETRIES)])
def test_draws_come_from_the_generator_alone(draw: object) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = (draw(7, (80, 80), (64, 64), stream(seed)) for seed in (4, 4, 5))  # type: ignore[operator]
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert (
        first.dtype == torch.float32
        and first.shape == (7, 2, 3)
        and torch.equal(torch.get_rng_state(), before)
    )


@pytest.mark.parametrize("size", [(31, 44), (100, 90)])
def test_resizing_for_evaluation(size: tuple[int, int]) -> None:
    image = smooth(3, 2, 48, 64)
    y, x = (
        (np.arange(side) + 0.5) * full / side - 0.5
        for side, full in zip(size, (48, 64), strict=True)
    )
    grid = np.meshgrid(y, x, indexing="ij")
    reference = ndimage.map_coordinates(
        image[1, 0].numpy().astype(np.float64), grid, order=1, mode="nearest"
    )
    assert np.abs(resize(image, size)[1, 0].numpy() - reference).max() < 1e-2
    nearest = resize(image.long(), size, "nearest")
    rows, columns = (
        np.floor((np.arange(n) + 0.5) * f / n).astype(int)
        for n, f in zip(size, (48, 64), strict=True)
    )
    assert nearest.dtype == torch.int64 and torch.equal(
        nearest, image.long()[:, :, rows][:, :, :, columns]
    )


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = smooth(2, 3, 40, 36)
    assert torch.equal(resize(image, (40, 36)), image.float()) and torch.equal(
        resize(image, (40, 36), "nearest"), image
    )


def test_descriptions_hold_every_parameter() -> None:
    assert (
        RotateCropFlip(degrees=15).describe() == "RotateCropFlip(degrees=15, canvas=0.8, flip=0.5)"
    )
    assert (
        HsvJitter().describe()
        == "HsvJitter(hue=(0.9, 1.1), saturation=(0.9, 1.1), value=(-25.0, 25.0))"
    )


# ---------------------------------------------------------------------- colour


def clip(value: float, top: float) -> float:
    return min(max(value, 0.0), top)


def test_hsv_jitter_is_that_of_colorsys_pixel_by_pixel() -> None:
    images = torch.randint(0, 256, (6, 3, 9, 11), generator=stream()).float()
    images[0, :, 0] = images[0, :1, 0]  # grey
    images[1, :, 0] = 0
    images[2, :, 0] = torch.tensor([255.0, 0.0, 1.0])[
        :, None
    ]  # a hue near 1, which is clipped and does not wrap
    jitter = HsvJitter()
    draws = jitter.draw(6, stream(1))
    draws[2, 0] = 1.1
    result = jitter.apply(images, draws)
    for b in range(6):
        hue_factor, saturation_factor, more = draws[b].tolist()
        for y in range(9):
            for x in range(11):
                h, s, v = colorsys.rgb_to_hsv(*(images[b, :, y, x].double() / 255).tolist())
                changed = colorsys.hsv_to_rgb(
                    clip(h * hue_factor, 1), clip(s * saturation_factor, 1), clip(v + more / 255, 1)
                )
                assert np.allclose(result[b, :, y, x].numpy() / 255, changed, atol=2e-5)


def test_jitter_draws_keep_their_ranges_and_are_uniform() -> None:
    draws = HsvJitter().draw(20_000, stream())
    low, high = torch.tensor([0.9, 0.9, -25]), torch.tensor([1.1, 1.1, 25])
    assert draws.dtype == torch.float32 and (draws >= low).all() and (draws <= high).all()
    assert (
        (draws - (low + high) / 2).mean(0).abs() < 5 * (high - low) / math.sqrt(12 * 20_000)
    ).all()
    assert torch.allclose(draws.std(0), (high - low) / math.sqrt(12), rtol=0.03)


def test_jitter_that_changes_nothing_gives_the_image_back() -> None:
    images = torch.randint(0, 256, (4, 3, 20, 20), generator=stream()).float()
    same = HsvJitter().apply(images, torch.tensor([[1.0, 1.0, 0.0]]).expand(4, 3))
    assert (same - images).abs().max() < 1e-3
