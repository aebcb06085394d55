"""Mean and standard deviation of the training split, per channel.

They are kept beside the prepared arrays that they describe. Called by datasets/manifest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.data.prepared import PreparedTable, digest, opened
from harness.errors import UserError, shown
from harness.store import read_json, write_json

BLOCK = 256
"""Samples that are in memory at once."""

STEP = 2.0**-23
SMALLEST_SHARE = 0.01
"""Steps above this share of a channel's deviation are said."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def statistics(array: Tensor, rows: Sequence[int], frames: bool = False) -> Statistics:
    """Mean and (population) standard deviation of each channel over the samples ``rows``.

    Of ``frames`` (see ``Modality``) over the frames alone; the channel that says where they are
    stays as it is. Of an array (M, C, H, W), streamed in float64. A channel that never changes has
    the deviation 1.
    """
    channels = array.shape[1]
    mean = torch.zeros(channels, dtype=torch.float64)
    spread = torch.zeros(channels, dtype=torch.float64)  # sum of squared deviations from the mean
    count = 0
    for start in range(0, len(rows), BLOCK):
        samples = array[torch.tensor(rows[start : start + BLOCK])].double()
        block = samples.transpose(0, 1).flatten(1)  # (C, values of the block)
        if frames:
            block = block[:, block[-1] > 0]
        size = block.shape[1]
        own = block.mean(1)
        own_spread = ((block - own[:, None]) ** 2).sum(1)
        shift = own - mean
        # Chan, Golub and LeVeque's update of two parts: squares of large means never cancel.
        spread += own_spread + shift**2 * count * size / (count + size)
        mean += shift * size / (count + size)
        count += size
    deviation = (spread / count).sqrt()
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    if frames:
        mean[-1] = 0.0
    return tuple(mean.tolist()), tuple(deviation.tolist())


def too_far_from_zero(name: str, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """A sentence where float32, in which arrays are stored, cannot hold how much a channel varies.

    Around a number m its steps are |m| / 2^23; what varies by little more is rounded away.
    """
    found = [
        channel
        for channel, (middle, deviation) in enumerate(zip(mean, std, strict=True))
        if abs(middle) * STEP > SMALLEST_SHARE * deviation
    ]
    if not found:
        return []
    middle = mean[found[0]]
    return [
        f"'{name}': channels {shown(found)} lie at {middle:.6g} and vary too little for float32,"
        f" whose steps are {abs(middle) * STEP:.2g} there: subtract an offset in the files"
    ]


def save(
    folder: Path, table: PreparedTable, rows: Sequence[int], frames: bool = False
) -> Statistics:
    """Keep the statistics of some rows of a prepared training table beside its file."""
    mean, std = statistics(opened(table, folder).array, rows, frames)
    write_json(_path(folder, table, rows), {"mean": mean, "std": std})
    return mean, std


def saved(folder: Path, table: PreparedTable, rows: Sequence[int]) -> Statistics:
    """The kept statistics; UserError when there are none."""
    content = read_json(_path(folder, table, rows))
    if content is None:
        raise UserError(
            f"the mean and deviation of '{table.name}' are not in {folder} on this machine; the"
            " command that starts the study prepares them, so start the study again, with a cache"
            " folder that all its machines share"
        )
    return tuple(content["mean"]), tuple(content["std"])


def _path(folder: Path, table: PreparedTable, rows: Sequence[int]) -> Path:
    return folder / f"{table.name}-{digest([table.recipe, list(rows)])[:12]}.statistics"
