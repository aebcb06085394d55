"""Generated pictures for tests, and what an augmentation's draws mean in pixels.

Called by tests of augmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 pictures with structure at several scales."""
    noise = torch.rand(count, channels, height // 4, width // 4, generator=stream(seed))
    return (
        F.interpolate(noise, (height, width), mode="bicubic")
        .clamp(0, 1)
        .mul(255)
        .round()
        .to(torch.uint8)
    )


def pixels(theta: Tensor, stored: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """theta (N, 2, 3) as maps between pixel edges (x, y, 1), float64, by matrix algebra.

    From those of the output to those of the stored image.
    """

    def edges_to_unit(sides: tuple[int, int]) -> Tensor:
        return torch.tensor(
            [[2 / sides[1], 0, -1], [0, 2 / sides[0], -1], [0, 0, 1]], dtype=torch.float64
        )

    square = torch.cat(
        [theta.double(), torch.tensor([[[0.0, 0.0, 1.0]]]).double().expand(len(theta), 1, 3)], 1
    )
    return (edges_to_unit(stored).inverse() @ square @ edges_to_unit(size))[:, :2]
