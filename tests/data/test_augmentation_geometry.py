"""Draws of the augmentation: the published steps image by image, ranges, distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from harness.data.augmentation import ResizedCropFlip, RotateCropFlip, ScaleCropFlip
from tests.support.pictures import pixels, smooth, stream

# ------------------------------------------------------- RotateCropFlip against its published steps


def angle_offset_flip(
    theta: Tensor, stored: int, size: int, canvas: float
) -> tuple[int, int, int, bool]:
    """What a draw of RotateCropFlip means.

    Its angle in degrees, the crop's offset (x, y), whether it is flipped.
    """
    matrix = pixels(theta[None], (stored, stored), (size, size))[0].numpy()
    flip = np.linalg.det(matrix[:, :2]) < 0
    if flip:
        matrix = matrix @ np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1]])
    degrees = math.degrees(math.atan2(matrix[0, 1], matrix[0, 0]))
    assert abs(degrees - round(degrees)) < 1e-3
    side = canvas_side(round(degrees), stored, canvas)
    # Pixel (stored / 2, stored / 2) lies on the canvas' pixel (side / 2, side / 2): index = edge -
    # 0.5.
    where = np.linalg.inv(matrix[:, :2]) @ (np.full(2, stored / 2 + 0.5) - matrix[:, 2])
    offset = side / 2 + 0.5 - where
    assert np.abs(offset - offset.round()).max() < 1e-3
    return round(degrees), int(offset[0].round()), int(offset[1].round()), bool(flip)


def canvas_side(degrees: int, stored: int, canvas: float) -> int:
    turn = math.radians(degrees)
    return int(canvas * stored * (abs(math.cos(turn)) + abs(math.sin(turn))))


def published(
    image: np.ndarray, degrees: int, x: int, y: int, flip: bool, size: int, canvas: float
) -> np.ndarray:
    """One picture (H, W, C) through the published steps, with other libraries.

    Rotate onto the canvas (bilinear, zero outside, rounded to bytes), crop, flip.
    """
    stored = image.shape[0]
    side = canvas_side(degrees, stored, canvas)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = np.array([[cos, -sin], [sin, cos]])  # (row, column) of the canvas -> of the picture
    start = stored / 2 - back @ np.full(2, side / 2)
    planes = [
        ndimage.affine_transform(
            image[:, :, c].astype(np.float64),
            back,
            start,
            (side, side),
            order=1,
            mode="grid-constant",
        )
        for c in range(image.shape[2])
    ]
    turned = np.rint(np.stack(planes, 2)).astype(np.uint8)
    cropped = turned[y : y + size, x : x + size]
    return cropped[:, ::-1] if flip else cropped


@pytest.mark.parametrize(
    ("stored", "size", "canvas"), [(144, 112, 0.8), (60, 40, 0.9), (64, 64, 1.3)]
)
def test_rotate_crop_flip_is_the_published_pipeline_within_one_grey_level(
    stored: int, size: int, canvas: float
) -> None:
    geometry = RotateCropFlip(canvas=canvas)
    images = smooth(24, 3, stored, stored)
    theta = geometry.draw(24, (stored, stored), (size, size), stream(3))
    batch = geometry.apply(images, theta, (size, size))
    assert batch.dtype == torch.float32 and batch.shape == (24, 3, size, size)
    flips = 0
    for image, map_, result in zip(images, theta, batch, strict=True):
        degrees, x, y, flip = angle_offset_flip(map_, stored, size, canvas)
        flips += flip
        reference = published(image.permute(1, 2, 0).numpy(), degrees, x, y, flip, size, canvas)
        difference = np.abs(result.permute(1, 2, 0).numpy() - reference)
        # The reference is rounded to bytes; what it cannot be told from is half a grey level.
        assert difference.max() <= 0.51
    assert 4 <= flips <= 20


def test_rotation_fills_with_zeros_what_the_image_does_not_cover() -> None:
    geometry = RotateCropFlip(degrees=30, canvas=1.3)
    theta = geometry.draw(50, (64, 64), (64, 64), stream())
    batch = geometry.apply(torch.full((50, 1, 64, 64), 200, dtype=torch.uint8), theta, (64, 64))
    assert (batch == 0).any() and ((batch - 200).abs() < 1e-2).any() and batch.max() < 200.01


def test_angles_and_offsets_are_uniform_and_keep_their_bounds() -> None:
    samples = 20_000
    theta = RotateCropFlip().draw(samples, (144, 144), (112, 112), stream())
    found = [angle_offset_flip(theta[i], 144, 112, 0.8) for i in range(2_000)]
    for degrees, x, y, _ in found:
        margin = canvas_side(degrees, 144, 0.8) - 112
        assert -30 <= degrees <= 30 and 0 <= x < margin and 0 <= y < margin
    matrix = pixels(theta, (144, 144), (112, 112))
    flip = (matrix[:, 0, 0] < 0).double()
    degrees = torch.rad2deg(torch.atan2(matrix[:, 0, 1], matrix[:, 1, 1])).round()
    counts = torch.bincount((degrees + 30).long(), minlength=61).double()
    # Chi-square with 60 degrees of freedom: mean 60, standard deviation sqrt(120); five of them.
    assert len(counts) == 61 and (
        (counts - samples / 61) ** 2 / (samples / 61)
    ).sum() < 60 + 5 * math.sqrt(120)
    assert abs(flip.mean() - 0.5) < 5 * 0.5 / math.sqrt(samples)
    # Without rotation the canvas has 115 pixels: offsets 0, 1 and 2, each a third.
    still = RotateCropFlip(degrees=0, flip=0).draw(samples, (144, 144), (112, 112), stream(1))
    offsets = (pixels(still, (144, 144), (112, 112))[:, :, 2] - 14.5).round()
    for value in (0, 1, 2):
        assert ((offsets == value).double().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(
            2 / 9 / samples
        )


def test_a_canvas_smaller_than_the_crop_is_cropped_centrally() -> None:
    theta = RotateCropFlip(degrees=0, flip=0).draw(5, (40, 40), (36, 36), stream())  # canvas 32
    assert torch.allclose(
        pixels(theta, (40, 40), (36, 36))[:, :, 2], torch.tensor(2.0).double(), atol=1e-4
    )


# ---------------------------------------------------------------------- the other geometries


def test_resized_crops_have_the_shares_aspects_and_positions_asked_for() -> None:
    stored, size, samples = (120, 160), (64, 48), 20_000
    theta = ResizedCropFlip(area=(0.1, 0.4)).draw(samples, stored, size, stream())
    matrix = pixels(theta, stored, size)
    flip = matrix[:, 0, 0] < 0
    width, height = matrix[:, 0, 0].abs() * size[1], matrix[:, 1, 1] * size[0]
    left = torch.where(flip, matrix[:, 0, 2] - width, matrix[:, 0, 2])
    top = matrix[:, 1, 2]
    for whole in (width, height, left, top):
        assert (whole - whole.round()).abs().max() < 1e-3
    assert (
        left.min() > -1e-3
        and top.min() > -1e-3
        and (left + width).max() < 160.001
        and (top + height).max() < 120.001
    )
    assert (
        left.min() < 0.5
        and top.min() < 0.5
        and (left + width).max() > 159.5
        and (top + height).max() > 119.5
    )
    # Sides are rounded to whole pixels: half a pixel of the smaller side at the smallest area.
    share, aspect = width * height / (120 * 160), (width / height).log()
    tolerance = 0.5 / math.sqrt(0.1 * 120 * 160 * 0.75)
    assert 0.1 * (1 - 2 * tolerance) < share.min() and share.max() < 0.4 * (1 + 2 * tolerance)
    assert (
        math.log(3 / 4) - 2 * tolerance < aspect.min()
        and aspect.max() < math.log(4 / 3) + 2 * tolerance
    )
    # All of these fit, so nothing was rejected: uniform share, log-uniform aspect, uniform
    # position, fair coin.
    assert abs(share.mean() - 0.25) < 5 * 0.3 / math.sqrt(12 * samples)
    assert abs(aspect.mean()) < 5 * math.log(16 / 9) / math.sqrt(12 * samples) + tolerance**2
    place = left.round() / (160 - width)
    assert abs(place.mean() - 0.5) < 5 / math.sqrt(12 * samples)
    assert abs(flip.double().mean() - 0.5) < 5 * 0.5 / math.sqrt(samples)


def test_a_crop_that_never_fits_is_the_largest_central_one_with_an_allowed_aspect() -> None:
    wide = ResizedCropFlip(area=(1, 1), flip=0).draw(4, (30, 300), (10, 10), stream())
    matrix = pixels(wide, (30, 300), (10, 10))
    assert torch.allclose(
        matrix[:, 0, 0] * 10, torch.tensor(40.0).double(), atol=1e-3
    )  # 30 * 4 / 3
    assert torch.allclose(matrix[:, 1, 1] * 10, torch.tensor(30.0).double(), atol=1e-3)
    assert torch.allclose(matrix[:, 0, 2], torch.tensor(130.0).double(), atol=1e-3)


def test_a_resized_crop_is_slicing_and_interpolating() -> None:
    images, size = smooth(12, 2, 64, 80), (40, 40)
    geometry = ResizedCropFlip(area=(0.3, 0.9))
    theta = geometry.draw(12, (64, 80), size, stream(5))
    batch = geometry.apply(images, theta, size)
    for image, matrix, result in zip(images, pixels(theta, (64, 80), size), batch, strict=True):
        flip = bool(matrix[0, 0] < 0)
        width, height = round(abs(float(matrix[0, 0])) * 40), round(float(matrix[1, 1]) * 40)
        left, top = round(float(matrix[0, 2])) - (width if flip else 0), round(float(matrix[1, 2]))
        crop = image[None, :, top : top + height, left : left + width].float()
        reference = F.interpolate(crop, size, mode="bilinear", align_corners=False)[0]
        inner = (result.flip(2) if flip else result)[:, 2:-2, 2:-2]
        # At its edges a slice repeats its last pixel where the image goes on.
        assert (inner - reference[:, 2:-2, 2:-2]).abs().max() < 0.01


def test_enlarged_crops_are_those_of_the_published_steps() -> None:
    images, side = smooth(20, 3, 48, 64), (48, 64)
    geometry = ScaleCropFlip()
    theta = geometry.draw(20, side, side, stream(2))
    batch = geometry.apply(images, theta, side)
    for image, matrix, result in zip(images, pixels(theta, side, side), batch, strict=True):
        flip = bool(matrix[0, 0] < 0)
        height, width = round(48 / float(matrix[1, 1])), round(64 / abs(float(matrix[0, 0])))
        large = F.interpolate(
            image[None].float(), (height, width), mode="bilinear", align_corners=False
        )[0]
        left = round(float(matrix[0, 2]) / abs(float(matrix[0, 0]))) - (64 if flip else 0)
        top = round(float(matrix[1, 2]) / float(matrix[1, 1]))
        assert (left, top) == (0, 0) or (0 <= left < width - 64 and 0 <= top < height - 48)
        reference = large[:, top : top + 48, left : left + 64]
        assert ((result.flip(2) if flip else result) - reference).abs().max() < 0.01


def test_an_image_that_is_larger_on_one_side_only_is_resized_as_a_whole() -> None:
    matrix = pixels(
        ScaleCropFlip((1, 1), 0).draw(3, (48, 64), (48, 40), stream()), (48, 64), (48, 40)
    )
    assert torch.allclose(matrix, torch.tensor([[1.6, 0, 0], [0, 1, 0]]).double(), atol=1e-4)


def test_enlargement_is_uniform_and_offsets_exclude_their_bound() -> None:
    samples, stored = 20_000, (100, 100)
    matrix = pixels(ScaleCropFlip(flip=0).draw(samples, stored, stored, stream()), stored, stored)
    enlarged = (100 / matrix[:, 0, 0]).round()
    assert enlarged.min() == 100 and enlarged.max() == 140
    assert abs(enlarged.mean() - 120) < 5 * 40 / math.sqrt(12 * samples)
    offset, margin = (matrix[:, :, 2] / matrix[:, :1, 0]).round(), (enlarged - 100)[:, None]
    assert ((offset < margin) | ((margin == 0) & (offset == 0))).all() and (offset >= 0).all()
    assert ((offset == margin - 1) & (margin > 5)).any()
    assert abs(((offset + 0.5) / margin)[margin[:, 0] > 0].mean() - 0.5) < 5 / math.sqrt(
        12 * 2 * samples
    )
