"""The layers of mmFormer.

B batch, V modalities, T tokens, N = h*w tokens per modality, d token width, (c, h, w) a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.protocol.seeds import Noise

SLOPE = 0.2
"""Negative slope of the leaky ReLU of the authors' convolutions."""


class TransformerLayer(nn.Module):
    """One pre-norm transformer layer, (B, T, d) -> (B, T, d).

    x <- x + Drop(Proj(Attn(LN x))); x <- x + MLP(LN x). No bias in q, k, v.

    Dropout with probability ``p`` (0-d) acts on attention weights, projection and both halves of
    the MLP, and draws from ``noise``; without noise there is none. 4d^2 + 2dm + 6d + m weights, m
    the MLP's width. The MLP's GELU is exact, or its tanh form with ``tanh_gelu``.
    """

    def __init__(self, d: int, heads: int, mlp: int, tanh_gelu: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.gelu = "tanh" if tanh_gelu else "none"
        self.attention_norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.projection = nn.Linear(d, d)
        self.mlp_norm = nn.LayerNorm(d)
        self.widen = nn.Linear(d, mlp)
        self.narrow = nn.Linear(mlp, d)

    def forward(
        self, x: Tensor, p: Tensor, noise: Noise | None = None, keys: Tensor | None = None
    ) -> Tensor:
        """``keys`` (B, T) bool: the tokens that may be attended to; None for all."""
        attended = self._attend(self.attention_norm(x), p, noise, keys)
        x = x + _dropped(self.projection(attended), p, noise)
        wide = self.widen(self.mlp_norm(x))  # (B, T, m)
        wide = _dropped(F.gelu(wide, approximate=self.gelu), p, noise)
        return x + _dropped(self.narrow(wide), p, noise)

    def _attend(self, x: Tensor, p: Tensor, noise: Noise | None, keys: Tensor | None) -> Tensor:
        by_head = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, d / heads)
        q, k, v = by_head.permute(2, 0, 3, 1, 4)  # each (B, heads, T, d / heads)
        allowed = None if keys is None else keys[:, None, None, :]  # (B, 1, 1, T)
        if noise is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        else:
            # By hand, as the library's own dropout cannot draw from a given stream.
            scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5  # (B, heads, T, T)
            if allowed is not None:
                # Every sample has a modality, so no row is -inf throughout, of which softmax would
                # make NaN.
                scores = scores.masked_fill(~allowed, -torch.inf)
            weights = _dropped(scores.softmax(3), p, noise)
            mixed = weights @ v
        return mixed.transpose(1, 2).flatten(2)  # (B, T, d)


def _dropped(x: Tensor, p: Tensor, noise: Noise | None) -> Tensor:
    return x if noise is None else noise.dropout(x, p)


def to_tokens(maps: Tensor) -> Tensor:
    """(B, d, h, w) -> (B, N, d), row by row."""
    return maps.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, modalities: int, height: int, width: int) -> Tensor:
    """Tokens (B, V*N, d), modality after modality, as a map (B, V*d, h, w).

    Channel block v of a place holds modality v's token of that place.
    """
    # (B, V, h, w, d), then d next to V: viewed as (B, h, w, V*d) right away, as in the authors'
    # code, V consecutive tokens of one modality would become one place.
    apart = tokens.reshape(len(tokens), modalities, height, width, -1)
    return apart.permute(0, 1, 4, 2, 3).flatten(1, 2)


class ScaleFusion(nn.Module):
    """The fusion of one scale of a segmentation: (B, V*c, h, w) -> (B, c, h, w).

    1x1, 3x3 and 1x1 convolutions, each after instance norm (not affine) and a leaky ReLU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_pre_norm(inputs, outputs, kernel=1),
            *_pre_norm(outputs, outputs, kernel=3),
            *_pre_norm(outputs, outputs, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def _pre_norm(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [
        nn.InstanceNorm2d(inputs),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
    ]


class MapHead(nn.Module):
    """A linear prediction from a map (B, c, h, w), for deep supervision and single modalities.

    (B, K) from the map's layer-normalised mean, or (B, K, H, W) per place, resized to ``size``. No
    norm bounds the bare mean here, and on it training diverged.
    """

    def __init__(self, channels: int, classes: int, dense: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, classes, 1) if dense else nn.Linear(channels, classes)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if not size:
            pooled = x.mean((2, 3))
            return self.layer(F.layer_norm(pooled, pooled.shape[1:]))  # type: ignore[no-any-return]
        return F.interpolate(self.layer(x), size=list(size), mode="bilinear", align_corners=False)


class ReleasedBranch(nn.Module):
    """One modality in the DMRNet authors' transplant: masked map (B, c, h, w) -> (B, c, h, w).

    Batch norm, leaky ReLU, 3x3 convolution to d, learned positions (zero at first), dropout, one
    layer with the tanh form of GELU, 3x3 convolution back. An absent modality's zeros become a map
    that depends on the weights alone.
    """

    def __init__(self, shape: tuple[int, int, int], d: int, heads: int, mlp: int) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.widen = nn.Sequential(
            nn.BatchNorm2d(channels), nn.LeakyReLU(0.01), nn.Conv2d(channels, d, 3, padding=1)
        )
        self.position = nn.Parameter(torch.zeros(1, self.height * self.width, d))
        self.layer = TransformerLayer(d, heads, mlp, tanh_gelu=True)
        self.narrow = nn.Conv2d(d, channels, 3, padding=1)

    def forward(self, x: Tensor, p: Tensor, noise: Noise | None = None) -> Tensor:
        tokens = to_tokens(self.widen(x)) + self.position  # (B, N, d)
        tokens = self.layer(_dropped(tokens, p, noise), p, noise)
        return self.narrow(to_map(tokens, 1, self.height, self.width))  # type: ignore[no-any-return]
