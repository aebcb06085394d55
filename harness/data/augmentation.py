"""Augmentation: drawn for a whole epoch at once on the CPU, applied to batches on the device.

Shape legend: N samples of an epoch, B of a batch, (H, W) an image as stored, (h, w) as the network
sees it. A draw is an affine map ``theta`` (2, 3) from output to stored coordinates, both normalised
to [-1, 1] at the outer edges of the corner pixels: it does not know how large an image is stored,
so one draw moves all modalities of a sample, and its label, alike. All steps of a geometry are
composed into this one map; images are interpolated once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
"""(height, width); points and sides that are computed with are (x, y) and (width, height)."""

Mode = Literal["bilinear", "nearest"]
ATTEMPTS = 10
"""Random crops among which ``ResizedCropFlip`` takes the first that fits."""

TIE = 1e-3
"""Pixels by which points are moved before the nearest pixel is taken, see ``_tie``."""


class Geometry(ABC):
    """A random geometric augmentation; plain data, so that it can be part of a trial's identity."""

    outside: ClassVar[Literal["zeros", "border"]] = "border"

    @abstractmethod
    def draw(self, samples: int, stored: Size, size: Size, generator: torch.Generator) -> Tensor:
        """One map per sample, (N, 2, 3) float32 on the CPU.

        It takes images stored as (H, W) to the size wanted, (h, w).
        """

    def apply(
        self, x: Tensor, theta: Tensor, size: Size, mode: Mode = "bilinear", fill: float = 0
    ) -> Tensor:
        """:func:`warp`, with this geometry's rule for what lies outside the stored image."""
        return warp(x, theta, size, mode, fill, self.outside)

    def describe(self) -> str:
        """Name and parameters: ``RotateCropFlip(degrees=30, canvas=0.8, flip=0.5)``."""
        return repr(self)


@dataclass(frozen=True)
class RotateCropFlip(Geometry):
    """Rotation onto a smaller canvas, crop, horizontal flip: the published CASIA-SURF pipeline.

    That of MMANet and DMRNet. The angle is an integer in [-degrees, degrees]; the canvas has the
    sides int(W c |cos| + H c |sin|) and int(H c |cos| + W c |sin|) with c = ``canvas``; pixel (W/2,
    H/2) comes to lie on the canvas' pixel of half its sides; zero outside the image. The crop's
    offset is uniform below canvas - size, that bound excluded; a canvas that is not larger is
    cropped centrally.
    """

    outside = "zeros"
    degrees: int = 30
    canvas: float = 0.8
    flip: float = 0.5

    def draw(self, samples: int, stored: Size, size: Size, generator: torch.Generator) -> Tensor:
        u = _uniform(samples, 4, generator)
        for_angle, for_offset, for_flip = u[:, 0], u[:, 1:3], u[:, 3]
        image, crop = _sides(stored), _sides(size)
        degrees = _below(for_angle, torch.tensor(2 * self.degrees + 1)) - self.degrees
        angle = degrees * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        shrunk = torch.stack([cos.abs() * self.canvas, sin.abs() * self.canvas], 1)  # (N, 2)
        canvas = torch.stack([shrunk @ image, shrunk @ image.flip(0)], 1).floor()  # (N, 2)
        margin = canvas - crop
        offset = torch.where(margin > 0, _below(for_offset, margin), (margin / 2).floor())
        row_x, row_y = torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)
        turn = torch.stack([row_x, row_y], 1)  # (N, 2, 2), from the canvas to the image
        # Half a pixel: the published code turns about the pixel of index side / 2, coordinates here
        # are index + 0.5.
        from_centre = offset - canvas / 2 - 0.5
        turned = (turn @ from_centre.unsqueeze(2)).squeeze(2)
        start = turned + image / 2 + 0.5
        matrix, start = _flipped(turn, start, size, for_flip < self.flip)
        return _normalised(matrix, start, stored, size)


@dataclass(frozen=True)
class ResizedCropFlip(Geometry):
    """Random resized crop, horizontal flip.

    A crop of a random share of the area and a random aspect is resized to the size wanted. Share
    uniform in ``area``, aspect (width / height) log-uniform in ``ratio``, position uniform; the
    first of ten attempts that fits into the image is taken, else the largest central crop with an
    allowed aspect. Plain bilinear interpolation: shrinking is not low-pass filtered.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def draw(self, samples: int, stored: Size, size: Size, generator: torch.Generator) -> Tensor:
        u = _uniform(samples, 2 * ATTEMPTS + 3, generator)
        for_area, for_aspect = u[:, :ATTEMPTS], u[:, ATTEMPTS:-3]
        for_offset, for_flip = u[:, -3:-1], u[:, -1]
        image = _sides(stored)
        area = _between(for_area, *self.area) * stored[0] * stored[1]  # (N, ATTEMPTS)
        aspect = _between(for_aspect, math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        crops = torch.stack([widths, heights], 2)  # (N, ATTEMPTS, 2)
        fits = ((crops > 0) & (crops <= image)).all(2)
        first_fitting = crops[torch.arange(samples), fits.int().argmax(1)]  # (N, 2)
        any_fits = fits.any(1, keepdim=True)
        crop = torch.where(any_fits, first_fitting, self._central(image))
        margin = image - crop
        offset = torch.where(any_fits, _below(for_offset, margin + 1), (margin / 2).floor())
        scale = torch.diag_embed(crop / _sides(size))
        matrix, start = _flipped(scale, offset, size, for_flip < self.flip)
        return _normalised(matrix, start, stored, size)

    def _central(self, image: Tensor) -> Tensor:
        """(width, height) of the largest crop with an allowed aspect."""
        width, height = image.tolist()
        if width < self.ratio[0] * height:
            height = round(width / self.ratio[0])
        elif width > self.ratio[1] * height:
            width = round(height * self.ratio[1])
        return torch.tensor([width, height], dtype=torch.float64)


@dataclass(frozen=True)
class ScaleCropFlip(Geometry):
    """Random enlargement, crop, horizontal flip: the NYUv2 pipeline of ESANet.

    The factor is uniform in ``scale``, the enlarged sides are rounded; the crop's offset is uniform
    below enlarged - size, that bound excluded; where the enlarged image is not larger on both
    sides, the whole image is resized instead.
    """

    scale: tuple[float, float] = (1.0, 1.4)
    flip: float = 0.5

    def draw(self, samples: int, stored: Size, size: Size, generator: torch.Generator) -> Tensor:
        u = _uniform(samples, 4, generator)
        for_scale, for_offset, for_flip = u[:, :1], u[:, 1:3], u[:, 3]
        image, crop = _sides(stored), _sides(size)
        enlarged = (_between(for_scale, *self.scale) * image).round()  # (N, 2)
        margin = enlarged - crop
        larger = (margin > 0).all(1, keepdim=True)
        # Stored pixels per pixel of the crop, which is cut from the enlarged image.
        scale = torch.where(larger, image / enlarged, image / crop)
        offset = torch.where(larger, _below(for_offset, margin), torch.zeros_like(margin))
        matrix, start = _flipped(
            torch.diag_embed(scale), offset * scale, size, for_flip < self.flip
        )
        return _normalised(matrix, start, stored, size)


def warp(
    x: Tensor,
    theta: Tensor,
    size: Size,
    mode: Mode = "bilinear",
    fill: float = 0,
    outside: Literal["zeros", "border"] = "zeros",
) -> Tensor:
    """Images x (B, C, H, W) of any type under the maps theta (B, 2, 3), as (B, C, h, w).

    ``bilinear`` gives float32; ``nearest`` keeps type and values (labels: whole numbers below
    2**24). What lies outside the stored image is ``fill``, or with ``outside="border"`` the nearest
    pixel of the image. The identity map is exact.
    """
    image = x.float()
    # ``grid_sample`` fills with zeros.
    shifted = image - fill if fill else image
    grid = _grid(theta + _tie(theta, x) if mode == "nearest" else theta, size)
    out = F.grid_sample(shifted, grid, mode, outside, align_corners=False)
    out = out + fill if fill else out
    if tuple(x.shape[2:]) == tuple(size):
        identity = torch.eye(2, 3, dtype=theta.dtype, device=theta.device)
        unmoved = (theta == identity).all(2).all(1)  # (B,)
        out = torch.where(unmoved[:, None, None, None], image, out)
    return out.to(x.dtype) if mode == "nearest" else out


def _grid(theta: Tensor, size: Size) -> Tensor:
    """What ``affine_grid`` computes, (B, h, w, 2), without its matrix product.

    That product may round to TF32, and differs by batch.
    """
    # Centres of the pixels of the output, (h,) and (w,), in normalised coordinates.
    y, x = ((2 * torch.arange(side, device=theta.device) + 1) / side - 1 for side in size)
    across, down, start = theta[:, None, None].unbind(-1)  # the columns, (B, 1, 1, 2) each
    return across * x[:, None] + (down * y[:, None, None] + start)


def _tie(theta: Tensor, x: Tensor) -> Tensor:
    """A shift of the maps (2, 3) by TIE of a pixel of x.

    Points half-way between pixels would otherwise go where rounding errors send them.
    """
    shift = theta.new_zeros(2, 3)
    shift[0, 2] = TIE * 2 / x.shape[3]
    shift[1, 2] = TIE * 2 / x.shape[2]
    return shift


def resize(x: Tensor, size: Size, mode: Mode = "bilinear") -> Tensor:
    """Images x (B, C, H, W) as (B, C, h, w), for evaluation.

    Pixel centres are aligned, and shrinking is not low-pass filtered. ``bilinear`` gives float32;
    ``nearest`` keeps type and values. Exact where the sizes agree.
    """
    image = x.float()
    if tuple(x.shape[2:]) != tuple(size):
        image = F.interpolate(image, size, mode="nearest-exact" if mode == "nearest" else mode)
    return image.to(x.dtype) if mode == "nearest" else image


@dataclass(frozen=True)
class HsvJitter:
    """Colour jitter of the NYUv2 pipeline, ESANet as published.

    Hue and saturation are multiplied by random factors, a random number is added to value. Its
    range is in grey levels of 0..255; hue, saturation and value are clipped to their ranges, hue
    does not wrap around.
    """

    hue: tuple[float, float] = (0.9, 1.1)
    saturation: tuple[float, float] = (0.9, 1.1)
    value: tuple[float, float] = (-25.0, 25.0)

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Hue factor, saturation factor and value offset per sample, (N, 3) float32 on the CPU."""
        u = _uniform(samples, 3, generator)
        ranges = (self.hue, self.saturation, self.value)
        draws = [_between(u[:, i], *limits) for i, limits in enumerate(ranges)]
        return torch.stack(draws, 1).float()

    def apply(self, x: Tensor, draws: Tensor) -> Tensor:
        """RGB images x (B, 3, H, W), float in 0..255, changed by their draws (B, 3).

        The result is float32 in 0..255.
        """
        hue, saturation, value = _hsv(x.float())
        hue_factor, saturation_factor, value_offset = draws[:, :, None, None].unbind(1)
        hue = (hue * hue_factor).clamp(0, 1)
        saturation = (saturation * saturation_factor).clamp(0, 1)
        value = (value + value_offset).clamp(0, 255)
        return _rgb(hue, saturation, value)

    def describe(self) -> str:
        """Name and parameters."""
        return repr(self)


def _hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue and saturation in [0, 1] and value in the range of x (B, 3, H, W), each (B, H, W).

    Grey has hue 0.
    """
    value, strongest = x.max(1)
    chroma = value - x.amin(1)
    divisor = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    red, green, blue = x.unbind(1)
    # Hue in sixths of the circle: around 0 where red is strongest, 2 where green is, 4 blue.
    around_red = (green - blue) / divisor % 6
    around_green = (blue - red) / divisor + 2
    around_blue = (red - green) / divisor + 4
    sixths = torch.where(strongest == 1, around_green, around_blue)
    sixths = torch.where(strongest == 0, around_red, sixths)
    hue = torch.where(chroma > 0, sixths / 6, torch.zeros_like(sixths))
    saturation = chroma / torch.where(value > 0, value, torch.ones_like(value))
    return hue, saturation, value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB (B, 3, H, W) of what ``_hsv`` returns, without cases.

    A channel is value - value * saturation * clip(min(k, 4 - k), 0, 1) with k = (n + 6 * hue) mod 6
    and n = 5 for red, 3 for green, 1 for blue.
    """

    def channel(turn: int) -> Tensor:
        k = (turn + 6 * hue) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], 1)


def _sides(size: Size) -> Tensor:
    """(height, width) -> (width, height), float64."""
    return torch.tensor(size[::-1], dtype=torch.float64)


def _uniform(samples: int, numbers: int, generator: torch.Generator) -> Tensor:
    return torch.rand(samples, numbers, generator=generator, dtype=torch.float64)


def _below(u: Tensor, bound: Tensor) -> Tensor:
    """Whole numbers in [0, bound) from uniform ones in [0, 1)."""
    return (u * bound).floor()


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _flipped(matrix: Tensor, start: Tensor, size: Size, flip: Tensor) -> tuple[Tensor, Tensor]:
    """The maps q = matrix p + start, in pixels, of p mirrored where ``flip`` (N,) says so.

    ``matrix`` (N, 2, 2), ``start`` (N, 2), p = (x, y).
    """
    width = size[1]
    along_x, along_y = matrix.unbind(2)  # where a step of p in x, and in y, leads: (N, 2)
    # x becomes width - x.
    start = torch.where(flip[:, None], start + along_x * width, start)
    sign = torch.where(flip, -1.0, 1.0).to(matrix.dtype)
    return torch.stack([along_x * sign[:, None], along_y], 2), start


def _normalised(matrix: Tensor, start: Tensor, stored: Size, size: Size) -> Tensor:
    """The maps q = matrix p + start as theta (N, 2, 3) in normalised coordinates, float32.

    They are given in pixels, outer edges at 0 and the side.
    """
    output, image = _sides(size), _sides(stored)
    # p = output * (p' + 1) / 2 and q' = 2 * q / image - 1 for p', q' in [-1, 1].
    linear = matrix * output / image[:, None]
    shift = (matrix @ output + 2 * start) / image - 1
    return torch.cat([linear, shift[:, :, None]], 2).float()
