"""Blocks of RFNet: region maps, region-aware fusion, unimodal predictors.

B batch, V modalities, M classes, K regions, (c, h, w) a feature map; ``norm`` makes a normalisation
without parameters for a number of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones import Backbone, MapShape
from harness.errors import UserError

SLOPE = 0.2
"""Negative slope of the leaky ReLU, as in the official code; so are the next three."""

GATE_WIDTH = 128
"""Hidden units of a region's gate."""

EMBEDDING = 16
"""Channels from which a PRM classifies."""

EPSILON = 1e-7
"""Added to a region's share, by which its averages are divided: no place may belong to it."""

FEWEST_PLACES = 16
"""Places that a map needs for instance norm, see ``norm_for``."""

Norm = Callable[[int], nn.Module]


def norm_for(scale: MapShape, wanted: str) -> Norm:
    """The norm of one scale: ``instance``, ``batch``, or what ``auto`` chooses.

    ``auto`` is instance norm where a map has at least FEWEST_PLACES places. An instance norm over N
    places takes two of the N numbers of every channel away: nothing is left of one place, and half
    of 2x2.
    """
    places = scale.height * scale.width
    if wanted == "instance" and places == 1:
        raise UserError(
            "hparams.rfnet.norm=instance leaves nothing of a 1x1 map, which this backbone has; use"
            " auto or batch"
        )
    if wanted == "instance" or (wanted == "auto" and places >= FEWEST_PLACES):
        return nn.InstanceNorm2d
    return partial(nn.BatchNorm2d, affine=False)


def convolution(inputs: int, outputs: int, kernel: int, norm: Norm) -> nn.Sequential:
    """Convolution with bias, norm, leaky ReLU; keeps the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), norm(outputs), nn.LeakyReLU(SLOPE)
    )


class RegionMaps(nn.Module):
    """The probability maps (PRM) of one scale, Q (B, M, h, w).

    Q are logits, of which the method makes probabilities. Of [y_1; ...; y_V] (B, V*c, h, w) and,
    when guided, (B, c, h, w) from the deeper scale: 1x1 to c/4, 3x3, 1x1 to c; [guide; this] -> 1x1
    to 16 -> 1x1 to M.
    """

    def __init__(
        self, channels: int, modalities: int, classes: int, guided: bool, norm: Norm
    ) -> None:
        super().__init__()
        quarter = max(1, channels // 4)
        self.embed = nn.Sequential(
            convolution(modalities * channels, quarter, 1, norm),
            convolution(quarter, quarter, 3, norm),
            convolution(quarter, channels, 1, norm),
        )
        known_channels = 2 * channels if guided else channels
        self.classify = nn.Sequential(
            convolution(known_channels, EMBEDDING, 1, norm), nn.Conv2d(EMBEDDING, classes, 1)
        )

    def forward(self, stacked: Tensor, guide: Tensor | None) -> Tensor:
        embedding = self.embed(stacked)
        known = embedding if guide is None else torch.cat([guide, embedding], 1)
        return self.classify(known)  # type: ignore[no-any-return]


class Guide(nn.Module):
    """What the PRM of one scale receives from the deeper one, (B, c, h, w).

    The deeper scale's fused map and its own guide are merged, upsampled and projected. ``merging``:
    the deeper scale has a guide, as all but the deepest do. ``norms``: those of the two scales,
    deeper first.
    """

    def __init__(
        self, deeper: MapShape, scale: MapShape, merging: bool, norms: tuple[Norm, Norm]
    ) -> None:
        super().__init__()
        norm_of_deeper, norm = norms
        self.size = (scale.height, scale.width)
        self.merge = (
            convolution(2 * deeper.channels, deeper.channels, 1, norm_of_deeper)
            if merging
            else None
        )
        self.project = convolution(deeper.channels, scale.channels, 3, norm)

    def forward(self, fused: Tensor, guide: Tensor | None) -> Tensor:
        if self.merge is not None and guide is not None:
            fused = self.merge(torch.cat([fused, guide], 1))
        resized = F.interpolate(fused, size=self.size, mode="bilinear", align_corners=False)
        return self.project(resized)  # type: ignore[no-any-return]


class RegionFusion(nn.Module):
    """The region-aware fusion (RFM) of one scale, (B, c, h, w).

    Of y_v (B, c, h, w) each and region probabilities P (B, K, h, w). One half of the channels comes
    from [R_1; ...; R_K], the other from [y_1; ...; y_V], each by 1x1 to c, 3x3, 1x1.
    """

    def __init__(self, channels: int, modalities: int, regions: int, norm: Norm) -> None:
        super().__init__()
        if channels < 2:
            raise UserError(
                "method 'rfnet' needs maps of at least 2 channels; give the backbone more width"
            )
        # A gate knows each modality's average over the region, and the region's share.
        known = modalities * channels + 1
        self.gates = nn.ModuleList(_gate(known, modalities) for _ in range(regions))
        half = channels // 2
        self.regions = _half(regions * channels, channels, half, norm)
        self.shortcut = _half(modalities * channels, channels, channels - half, norm)

    def forward(self, maps: Sequence[Tensor], probabilities: Tensor) -> Tensor:
        stack = torch.stack(list(maps), 1)  # (B, V, c, h, w)
        regions = self.region_features(stack, probabilities)
        halves = [
            self.regions(regions.flatten(1, 2)),  # of (B, K*c, h, w)
            self.shortcut(stack.flatten(1, 2)),  # of (B, V*c, h, w)
        ]
        return torch.cat(halves, 1)

    def region_features(self, stack: Tensor, probabilities: Tensor) -> Tensor:
        """R_k = P_k sum_v w_{k,v} y_v, (B, K, c, h, w), of y (B, V, c, h, w).

        The modalities are summed first, so that V*K maps never exist at once.
        """
        w = self.gate_weights(stack, probabilities)
        mixed = torch.einsum("bkv,bvchw->bkchw", w.to(stack.dtype), stack)
        return probabilities.unsqueeze(2) * mixed

    def gate_weights(self, stack: Tensor, probabilities: Tensor) -> Tensor:
        """w (B, K, V) in (0, 1), one net per region.

        w_k = sigmoid(FC(leaky ReLU(FC([A_{1,k}; ...; A_{V,k}; mean P_k])))).
        """
        averages, shares = region_averages(stack, probabilities)
        known = torch.cat([averages.flatten(2), shares.unsqueeze(2)], 2)  # (B, K, V*c + 1)
        return torch.stack([gate(known[:, k]) for k, gate in enumerate(self.gates)], 1)


def _gate(inputs: int, modalities: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, GATE_WIDTH),
        nn.LeakyReLU(SLOPE),
        nn.Linear(GATE_WIDTH, modalities),
        nn.Sigmoid(),
    )


def _half(inputs: int, channels: int, outputs: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, channels, 1, norm),
        convolution(channels, channels, 3, norm),
        convolution(channels, outputs, 1, norm),
    )


def region_averages(stack: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """A_{v,k} = sum(y_v P_k) / sum(P_k), (B, K, V, c), and the shares mean(P_k), (B, K).

    Of y (B, V, c, h, w) and P (B, K, h, w). In float32 under autocast too: a sum over places
    overflows float16.
    """
    with torch.autocast(stack.device.type, enabled=False):
        p = probabilities.float()
        shares = p.mean((2, 3)) + EPSILON
        places = p.shape[2] * p.shape[3]
        # mean(y_v P_k) / mean(P_k), the means over places.
        means = torch.einsum("bvchw,bkhw->bkvc", stack.float(), p) / places
        return means / shares[:, :, None, None], shares


def grouping(counts: Tensor, regions: int) -> Tensor:
    """(M, K) of 0 and 1: the K - 1 most frequent classes are a region each, the rest are the last.

    Ties go to the lower index.
    """
    numbers = counts.tolist()
    by_frequency = sorted(range(len(numbers)), key=lambda m: (-numbers[m], m))
    groups = torch.zeros(len(numbers), regions)
    for rank, m in enumerate(by_frequency):
        groups[m, min(rank, regions - 1)] = 1.0
    return groups


class Predictor(nn.Module):
    """A trunk and a head of its own for one modality's maps, (B, c, h, w) per scale -> logits."""

    def __init__(self, backbone: Backbone, channels: Sequence[int]) -> None:
        super().__init__()
        self.trunk, self.head = backbone.trunk(channels), backbone.head(channels)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        return self.head(self.trunk(maps), maps)  # type: ignore[no-any-return]


class LinearPredictor(nn.Module):
    """((B, c, h, w),) -> (B, M): global average pooling and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        return self.linear(maps[-1].mean((2, 3)))  # type: ignore[no-any-return]
