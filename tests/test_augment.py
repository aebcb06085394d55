"""Batched augmentation against the same steps done image by image with other libraries."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from harness.augment import Geometry, HsvJitter, ResizedCropFlip, RotateCropFlip, ScaleCropFlip, resize, warp

GEOMETRIES = (RotateCropFlip(), ResizedCropFlip(), ScaleCropFlip())


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 pictures with structure at several scales."""
    noise = torch.rand(count, channels, height // 4, width // 4, generator=stream(seed))
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1).mul(255).round().to(torch.uint8)


def pixels(theta: Tensor, stored: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """theta (N, 2, 3) as maps of pixel edges (x, y, 1) of the output to those of the stored image, float64, by matrix algebra."""

    def edges_to_unit(sides: tuple[int, int]) -> Tensor:
        return torch.tensor([[2 / sides[1], 0, -1], [0, 2 / sides[0], -1], [0, 0, 1]], dtype=torch.float64)

    square = torch.cat([theta.double(), torch.tensor([[[0.0, 0.0, 1.0]]]).double().expand(len(theta), 1, 3)], 1)
    return (edges_to_unit(stored).inverse() @ square @ edges_to_unit(size))[:, :2]


# ---------------------------------------------------------------------- RotateCropFlip against its published steps


def angle_offset_flip(theta: Tensor, stored: int, size: int, canvas: float) -> tuple[int, int, int, bool]:
    """What a draw of RotateCropFlip means: its angle in degrees, the crop's offset (x, y), whether it is flipped."""
    matrix = pixels(theta[None], (stored, stored), (size, size))[0].numpy()
    flip = np.linalg.det(matrix[:, :2]) < 0
    if flip:
        matrix = matrix @ np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1]])
    degrees = math.degrees(math.atan2(matrix[0, 1], matrix[0, 0]))
    assert abs(degrees - round(degrees)) < 1e-3
    side = canvas_side(round(degrees), stored, canvas)
    # Pixel (stored / 2, stored / 2) lies on the canvas' pixel (side / 2, side / 2): index = edge - 0.5.
    where = np.linalg.inv(matrix[:, :2]) @ (np.full(2, stored / 2 + 0.5) - matrix[:, 2])
    offset = side / 2 + 0.5 - where
    assert np.abs(offset - offset.round()).max() < 1e-3
    return round(degrees), int(offset[0].round()), int(offset[1].round()), bool(flip)


def canvas_side(degrees: int, stored: int, canvas: float) -> int:
    turn = math.radians(degrees)
    return int(canvas * stored * (abs(math.cos(turn)) + abs(math.sin(turn))))


def published(image: np.ndarray, degrees: int, x: int, y: int, flip: bool, size: int, canvas: float) -> np.ndarray:
    """One picture (H, W, C): rotate onto the canvas (bilinear, zero outside, rounded to bytes), crop, flip."""
    stored = image.shape[0]
    side = canvas_side(degrees, stored, canvas)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = np.array([[cos, -sin], [sin, cos]])  # (row, column) of the canvas -> of the picture
    start = stored / 2 - back @ np.full(2, side / 2)
    planes = [
        ndimage.affine_transform(image[:, :, c].astype(np.float64), back, start, (side, side), order=1, mode="grid-constant")
        for c in range(image.shape[2])
    ]
    turned = np.rint(np.stack(planes, 2)).astype(np.uint8)
    cropped = turned[y : y + size, x : x + size]
    return cropped[:, ::-1] if flip else cropped


@pytest.mark.parametrize(("stored", "size", "canvas"), [(144, 112, 0.8), (60, 40, 0.9), (64, 64, 1.3)])
def test_rotate_crop_flip_is_the_published_pipeline_within_one_grey_level(stored: int, size: int, canvas: float) -> None:
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
    assert len(counts) == 61 and ((counts - samples / 61) ** 2 / (samples / 61)).sum() < 60 + 5 * math.sqrt(120)
    assert abs(flip.mean() - 0.5) < 5 * 0.5 / math.sqrt(samples)
    # Without rotation the canvas has 115 pixels: offsets 0, 1 and 2, each a third.
    still = RotateCropFlip(degrees=0, flip=0).draw(samples, (144, 144), (112, 112), stream(1))
    offsets = (pixels(still, (144, 144), (112, 112))[:, :, 2] - 14.5).round()
    for value in (0, 1, 2):
        assert ((offsets == value).double().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / samples)


def test_a_canvas_smaller_than_the_crop_is_cropped_centrally() -> None:
    theta = RotateCropFlip(degrees=0, flip=0).draw(5, (40, 40), (36, 36), stream())  # canvas 32
    assert torch.allclose(pixels(theta, (40, 40), (36, 36))[:, :, 2], torch.tensor(2.0).double(), atol=1e-4)


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
    assert left.min() > -1e-3 and top.min() > -1e-3 and (left + width).max() < 160.001 and (top + height).max() < 120.001
    # Sides are rounded to whole pixels: half a pixel of the smaller side at the smallest area.
    share, aspect = width * height / (120 * 160), (width / height).log()
    tolerance = 0.5 / math.sqrt(0.1 * 120 * 160 * 0.75)
    assert 0.1 * (1 - 2 * tolerance) < share.min() and share.max() < 0.4 * (1 + 2 * tolerance)
    assert math.log(3 / 4) - 2 * tolerance < aspect.min() and aspect.max() < math.log(4 / 3) + 2 * tolerance
    # All of these fit, so nothing was rejected: uniform share, log-uniform aspect, uniform position, fair coin.
    assert abs(share.mean() - 0.25) < 5 * 0.3 / math.sqrt(12 * samples)
    assert abs(aspect.mean()) < 5 * math.log(16 / 9) / math.sqrt(12 * samples) + tolerance**2
    place = left.round() / (160 - width)
    assert abs(place.mean() - 0.5) < 5 / math.sqrt(12 * samples)
    assert abs(flip.double().mean() - 0.5) < 5 * 0.5 / math.sqrt(samples)


def test_a_crop_that_never_fits_is_the_largest_central_one_with_an_allowed_aspect() -> None:
    wide = ResizedCropFlip(area=(1, 1), flip=0).draw(4, (30, 300), (10, 10), stream())
    matrix = pixels(wide, (30, 300), (10, 10))
    assert torch.allclose(matrix[:, 0, 0] * 10, torch.tensor(40.0).double(), atol=1e-3)  # 30 * 4 / 3
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
        large = F.interpolate(image[None].float(), (height, width), mode="bilinear", align_corners=False)[0]
        left = round(float(matrix[0, 2]) / abs(float(matrix[0, 0]))) - (64 if flip else 0)
        top = round(float(matrix[1, 2]) / float(matrix[1, 1]))
        assert (left, top) == (0, 0) or (0 <= left < width - 64 and 0 <= top < height - 48)
        reference = large[:, top : top + 48, left : left + 64]
        assert ((result.flip(2) if flip else result) - reference).abs().max() < 0.01


def test_enlargement_is_uniform_and_offsets_exclude_their_bound() -> None:
    samples, stored = 20_000, (100, 100)
    matrix = pixels(ScaleCropFlip(flip=0).draw(samples, stored, stored, stream()), stored, stored)
    enlarged = (100 / matrix[:, 0, 0]).round()
    assert enlarged.min() == 100 and enlarged.max() == 140
    assert abs(enlarged.mean() - 120) < 5 * 40 / math.sqrt(12 * samples)
    offset, margin = (matrix[:, :, 2] / matrix[:, :1, 0]).round(), (enlarged - 100)[:, None]
    assert ((offset < margin) | ((margin == 0) & (offset == 0))).all() and (offset >= 0).all()
    assert ((offset == margin - 1) & (margin > 5)).any()
    assert abs(((offset + 0.5) / margin)[margin[:, 0] > 0].mean() - 0.5) < 5 / math.sqrt(12 * 2 * samples)


# ---------------------------------------------------------------------- warp, resize


@pytest.mark.parametrize(
    "geometry",
    [RotateCropFlip(degrees=0, canvas=1, flip=0), ResizedCropFlip((1, 1), (5 / 6, 5 / 6), 0), ScaleCropFlip((1, 1), 0)],
)
def test_draws_that_change_nothing_are_exact(geometry: Geometry) -> None:
    size = (60, 50)
    theta = geometry.draw(6, size, size, stream())
    for image in (smooth(6, 3, *size)[..., :60, :50], torch.randn(6, 2, *size, generator=stream()) * 1e4):
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
    """A ramp of coordinates shows where each output pixel comes from, as a share of the stored image's sides."""

    def ramps(height: int, width: int) -> Tensor:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
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


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_modalities_moved_together_are_those_moved_one_by_one(geometry: Geometry) -> None:
    images = {
        "a": smooth(5, 3, 80, 80),
        "b": smooth(5, 1, 40, 60, 1),
        "c": smooth(5, 1, 80, 80, 2),
        "d": smooth(5, 2, 80, 80).float(),
    }
    theta = geometry.draw(5, (80, 80), (64, 64), stream())
    moved = geometry.apply_all(images, theta, (64, 64))
    assert list(moved) == list(images)
    for name, x in images.items():
        assert torch.equal(moved[name], geometry.apply(x, theta, (64, 64)))


@pytest.mark.parametrize("draw", [*(g.draw for g in GEOMETRIES)])
def test_draws_come_from_the_generator_alone(draw: object) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = (draw(7, (80, 80), (64, 64), stream(seed)) for seed in (4, 4, 5))  # type: ignore[operator]
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert first.dtype == torch.float32 and first.shape == (7, 2, 3) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [(31, 44), (100, 90)])
def test_resizing_for_evaluation(size: tuple[int, int]) -> None:
    image = smooth(3, 2, 48, 64)
    y, x = ((np.arange(side) + 0.5) * full / side - 0.5 for side, full in zip(size, (48, 64), strict=True))
    grid = np.meshgrid(y, x, indexing="ij")
    reference = ndimage.map_coordinates(image[1, 0].numpy().astype(np.float64), grid, order=1, mode="nearest")
    assert np.abs(resize(image, size)[1, 0].numpy() - reference).max() < 1e-2
    nearest = resize(image.long(), size, "nearest")
    rows, columns = (np.floor((np.arange(n) + 0.5) * f / n).astype(int) for n, f in zip(size, (48, 64), strict=True))
    assert nearest.dtype == torch.int64 and torch.equal(nearest, image.long()[:, :, rows][:, :, :, columns])


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = smooth(2, 3, 40, 36)
    assert torch.equal(resize(image, (40, 36)), image.float()) and torch.equal(resize(image, (40, 36), "nearest"), image)


def test_descriptions_hold_every_parameter() -> None:
    assert RotateCropFlip(degrees=15).describe() == "RotateCropFlip(degrees=15, canvas=0.8, flip=0.5)"
    assert HsvJitter().describe() == "HsvJitter(hue=(0.9, 1.1), saturation=(0.9, 1.1), value=(-25.0, 25.0))"


# ---------------------------------------------------------------------- colour


def clip(value: float, top: float) -> float:
    return min(max(value, 0.0), top)


def test_hsv_jitter_is_that_of_colorsys_pixel_by_pixel() -> None:
    images = torch.randint(0, 256, (6, 3, 9, 11), generator=stream()).float()
    images[0, :, 0] = images[0, :1, 0]  # grey
    images[1, :, 0] = 0
    images[2, :, 0] = torch.tensor([255.0, 0.0, 1.0])[:, None]  # a hue near 1, which is clipped and does not wrap
    jitter = HsvJitter()
    draws = jitter.draw(6, stream(1))
    draws[2, 0] = 1.1
    result = jitter.apply(images, draws)
    for b in range(6):
        hue_factor, saturation_factor, more = draws[b].tolist()
        for y in range(9):
            for x in range(11):
                h, s, v = colorsys.rgb_to_hsv(*(images[b, :, y, x].double() / 255).tolist())
                changed = colorsys.hsv_to_rgb(clip(h * hue_factor, 1), clip(s * saturation_factor, 1), clip(v + more / 255, 1))
                assert np.allclose(result[b, :, y, x].numpy() / 255, changed, atol=2e-5)


def test_jitter_draws_keep_their_ranges_and_are_uniform() -> None:
    draws = HsvJitter().draw(20_000, stream())
    low, high = torch.tensor([0.9, 0.9, -25]), torch.tensor([1.1, 1.1, 25])
    assert draws.dtype == torch.float32 and (draws >= low).all() and (draws <= high).all()
    assert ((draws - (low + high) / 2).mean(0).abs() < 5 * (high - low) / math.sqrt(12 * 20_000)).all()
    assert torch.allclose(draws.std(0), (high - low) / math.sqrt(12), rtol=0.03)


def test_jitter_that_changes_nothing_gives_the_image_back() -> None:
    images = torch.randint(0, 256, (4, 3, 20, 20), generator=stream()).float()
    same = HsvJitter().apply(images, torch.tensor([[1.0, 1.0, 0.0]]).expand(4, 3))
    assert (same - images).abs().max() < 1e-3
