"""SF-PCME: the ablation of DMRNet that samples an attended vector.

After probabilistic cross-modal embeddings.
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.backbones import MapShape
from methods._vector import SampledVector

ONE_PLACE = (
    "the attention is left out: the network's maps have one place, of which any attention is the"
    " mean"
)


class SFPCME(SampledVector):
    """A distribution over a vector that one attention per moment gathers from the map; no hard
    combinations.

    v = GAP(z); r = sum_p a_p z_p with a = softmax over positions of w2 . tanh(W1 z_p), and r'
    likewise with weights of its own; mu = LayerNorm(FC(v) + sigmoid(FC(r))), log sigma^2 = FC(r') +
    FC(v); s = mu + eps * sigma in training, mu at inference; logits = FC(s). Loss = mean CE + alpha
    * KL summed over C (DMRNet paper, Table 4, row PCME). z (B, C, h, w), p one of its h*w
    positions, W1 (C/2, C), w2 (C/2); the vectors (B, C).
    """

    citation = (
        "Row SF-MD+PCME of Wei et al., Robust Multimodal Learning via Representation Decoupling,"
        " ECCV 2024; after Chun et al.: Probabilistic Embeddings for Cross-Modal Retrieval, CVPR"
        " 2021"
    )
    provenance = (
        "our design from one line of the paper's ablation and from the facts of the released PCME"
        " code; which form the DMRNet authors ran is not published (confidence: low)"
    )
    deviations = (
        "mu is not L2-normalised, as it would be for retrieval: a linear classifier follows",
        (
            "the second head is log sigma^2 everywhere; the released PCME code reads it as log"
            " sigma when it samples"
        ),
        (
            "one sample per step and cross-entropy replace the original's several samples and"
            " matching loss"
        ),
        "maps of one place have no attention: it would be that place whatever its weights",
        (
            "all layers start from PyTorch's default values; the released PCME code draws the"
            " attention and the layers behind it Xavier-uniform, with biases of zero"
        ),
        (
            "alpha is not published for this row: it starts at DMRNet's 1e-3 and is to be tuned and"
            " reported"
        ),
    )
    training_only = ("distribution.logvar",)

    def heads(self, z: MapShape) -> nn.Module:
        self.places = z.height * z.width
        return _Heads(z.channels, self.places)

    def remarks(self, epochs: int) -> list[str]:
        return [ONE_PLACE] if self.places == 1 else []


class _Attention(nn.Module):
    """The positions' mean under one head of additive attention: (B, C, h, w) -> (B, C).

    It has no biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.score = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.Tanh(),
            nn.Linear(hidden, 1, bias=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        tokens = z.flatten(2).transpose(1, 2)  # (B, h*w, C)
        weights: Tensor = self.score(tokens).softmax(1)  # (B, h*w, 1)
        return (weights * tokens).sum(1)


class _Moment(nn.Module):
    """What mu and log sigma^2 have in common: attention and two linear layers.

    (B, C, h, w) -> the projected attended vector and the projected pooled one, (B, C) each.
    """

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        # Of one place any attention is that place, and its weights would never learn.
        self.attention = _Attention(channels) if places > 1 else nn.Flatten()
        self.attended = nn.Linear(channels, channels)
        self.pooled = nn.Linear(channels, channels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.attended(self.attention(z)), self.pooled(z.mean((2, 3)))


class _Heads(nn.Module):
    """(B, C, h, w) -> (mu, log sigma^2), (B, C) each."""

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.mu = _Moment(channels, places)
        self.norm = nn.LayerNorm(channels)
        self.logvar = _Moment(channels, places)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        attended, pooled = self.mu(z)
        mu: Tensor = self.norm(pooled + attended.sigmoid())
        attended, pooled = self.logvar(z)
        return mu, attended + pooled
