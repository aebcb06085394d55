"""The small backbone's encoder of series of unequal lengths, which padding does not reach.

B batch, C features and the channel that says where frames are, T frames with the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CELLS = 2
"""Cells of the mean over time: halves."""


class FrameEncoder(nn.Module):
    """(B, C, 1, T) -> ((B, width, 2, 2),): convolutions over time, then the mean of either half.

    What ``Encoder`` of small.py does, of each series up to its own end: behind it every layer has
    zeros, as behind the end of a series without padding, batch norm's statistics are those of
    frames, and the halves are of its own length (both rows of the map are the same).
    """

    def __init__(self, channels: int, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        features = channels - 1
        inputs = [features, *[width] * (len(strides) - 1)]
        self.layers = nn.ModuleList(
            _Layer(size, width, stride) for size, stride in zip(inputs, strides, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x, there = x[:, :-1], x[:, -1:]
        for layer in self.layers:
            x, there = layer(x, there)
        averaging = _halves(there[:, 0]).transpose(1, 2)  # (B, T, 2)
        halves = x @ averaging.unsqueeze(1)  # (B, width, 1, 2)
        return (halves.expand(-1, -1, CELLS, -1),)


class _Layer(nn.Module):
    """Convolution over time without bias, batch norm over frames, ReLU.

    ``there`` (B, 1, 1, T): 1 where there is a frame, else 0.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(
            inputs, outputs, (1, 3), stride=(1, stride), padding=(0, 1), bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        # Output t is centred on input t * stride: it stands for a frame where that one does.
        x, there = self.convolution(x), there[..., :: self.stride]
        x = self._over_frames(x, there) if self.training else self.norm(x)
        return x.relu() * there, there

    def _over_frames(self, x: Tensor, there: Tensor) -> Tensor:
        """Batch norm in training, with the statistics of frames alone."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        assert norm.num_batches_tracked is not None and norm.momentum is not None
        count = there.sum().clamp_min(1)
        mean = (x * there).sum((0, 2, 3)) / count  # per channel
        centred = x - mean[:, None, None]
        variance = (centred.square() * there).sum((0, 2, 3)) / count
        with torch.no_grad():
            # As torch's batch norm: biased in this batch, unbiased in the running statistics.
            unbiased = variance * count / (count - 1).clamp_min(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(unbiased, norm.momentum)
            norm.num_batches_tracked += 1
        scale = norm.weight / (variance + norm.eps).sqrt()
        return centred * scale[:, None, None] + norm.bias[:, None, None]


def _halves(there: Tensor) -> Tensor:
    """(B, 1, T) -> (B, 2, T): what averages the first and the second half of each series.

    The windows of adaptive average pooling of L frames: they share the middle one where L is odd.
    Nothing where a series has no frame.
    """
    length = there.sum(2, keepdim=True).long()
    time = torch.arange(there.shape[2], device=there.device)
    cell = torch.arange(CELLS, device=there.device)[:, None]
    # (B, 2, 1) each; the end is rounded up.
    start, end = cell * length // CELLS, -(-(cell + 1) * length // CELLS)
    inside = (time >= start) & (time < end)  # (B, 2, T)
    return inside.to(there.dtype) / (end - start).clamp_min(1)
