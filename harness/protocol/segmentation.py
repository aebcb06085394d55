"""What is kept of a segmentation's predictions: counts per image, never the logits.

B images, H x W pixels, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.protocol.label_maps import VOID

BINS = 15
"""Bins of equal width over the confidence, [i/15, (i+1)/15); the last one holds 1 too."""

AT_ONCE = 1 << 24
"""Entries of the largest intermediate tensor, unless one image alone has more: 64 MiB of float32.
"""


def counted(logits: Tensor, target: Tensor, calibration: bool = False) -> dict[str, Tensor]:
    """Evidence of one batch from its logits (B, K, h, w) and targets (B, H, W).

    Logits are resized to the target (bilinear, corners not aligned) and the class of the largest is
    predicted; void pixels are in no count. Every result is the same on each repetition, on any
    device.

    Returns:
        ``scores``: (B, K, K) int32 confusion counts, rows = target, columns = prediction.
        ``finite``: (B,) bool, whether all logits of the image are finite.
        ``labelled``: (B,) int64, the pixels that are not void.
        ``calibration``, if asked for: (B, BINS, 3) float32, of each bin the pixels, the sum of
            their confidence, the correct ones.
    """
    classes, pixels = logits.shape[1], target[0].numel()
    images = max(1, AT_ONCE // (classes * pixels))
    parts = [
        _counted(x, y, calibration)
        for x, y in zip(torch.split(logits, images), torch.split(target, images), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _counted(logits: Tensor, target: Tensor, calibration: bool) -> dict[str, Tensor]:
    at_size = resized(logits, target)  # (B, K, H, W)
    predicted, target = at_size.argmax(1).flatten(1), target.flatten(1)  # (B, H * W)
    labelled = target != VOID
    evidence = {
        "scores": confusion(predicted, target, logits.shape[1]),
        "finite": logits.flatten(1).isfinite().all(1),
        "labelled": labelled.sum(1),
    }
    if calibration:
        correct = predicted == target
        evidence["calibration"] = histogram(_confidence(at_size), correct, labelled)
    return evidence


def resized(logits: Tensor, target: Tensor) -> Tensor:
    """Float32 logits (B, K, H, W) at the size of the target (B, H, W)."""
    logits = logits.float()
    if logits.shape[-2:] == target.shape[-2:]:
        return logits
    return F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)


def confusion(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Confusion counts (B, K, K) int32 of predicted and target classes (B, P), rows = target.

    Void counts nowhere.

    Membership matrices are multiplied: unlike scattered additions this has one order on every
    device, and float32 holds each count exactly (P < 2^24, ValueError otherwise).
    """
    if target.shape[1] >= 1 << 24:
        raise ValueError(
            f"an image of {target.shape[1]} pixels is too large to be counted in float32"
        )
    labels = torch.arange(classes, device=target.device)
    rows = (target[:, None, :] == labels[:, None]).float()  # (B, K, P)
    columns = (predicted[:, :, None] == labels).float()  # (B, P, K)
    return (rows @ columns).to(torch.int32)


def histogram(confidence: Tensor, correct: Tensor, valid: Tensor) -> Tensor:
    """Calibration histogram (B, BINS, 3) float32 of (B, P) confidences in [0, 1]: pixels, sum of
    confidence, correct ones.
    """
    edges = torch.linspace(0, 1, BINS + 1, device=confidence.device)[1:-1]
    bins = torch.bucketize(confidence, edges, right=True)
    of_bin = bins[:, None, :] == torch.arange(BINS, device=bins.device)[:, None]
    member = (of_bin & valid[:, None, :]).float()  # (B, BINS, P)
    summed = torch.stack([torch.ones_like(confidence), confidence, correct.float()], 2)
    return member @ summed  # multiplied for the reason that ``confusion`` gives


def _confidence(logits: Tensor) -> Tensor:
    """The largest softmax probability of each pixel, (B, P), without making the others."""
    return (logits.amax(1) - logits.logsumexp(1)).exp().flatten(1)
