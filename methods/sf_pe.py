"""SF-PE: the ablation of DMRNet that samples the pooled vector.

After probabilistic face embeddings.
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.backbones import MapShape
from methods._vector import SampledVector


class SFPE(SampledVector):
    """A distribution over the pooled vector instead of the map; no hard combinations.

    v = GAP(z); mu = BN(FC(v)), log sigma^2 = BN(FC(v)); s = mu + eps * sigma in training, mu at
    inference; logits = FC(s). Loss = mean CE + alpha * KL summed over C (DMRNet paper, Table 4, row
    PE; Eq. 5-7 and 9 on a vector). z (B, C, h, w); v, mu, log sigma^2, s (B, C). As many parameters
    as DMRNet's heads have: 2 (C^2 + 3C).
    """

    citation = (
        "Row SF-MD+PE of Wei et al., Robust Multimodal Learning via Representation Decoupling, ECCV"
        " 2024; after Shi, Jain: Probabilistic Face Embeddings, ICCV 2019"
    )
    provenance = (
        "our design from one line of the paper's ablation and from the heads of the authors'"
        " audio-visual code, which have this form; their code for this row is not released"
        " (confidence: medium)"
    )
    deviations = (
        (
            "probabilistic face embeddings freeze mu, train a log sigma^2 head of their own and use"
            " a mutual-likelihood loss; here, as in the paper's ablation as we read it, two equal"
            " heads are trained with cross-entropy and KL"
        ),
        (
            "alpha is not published for this row: it starts at DMRNet's 1e-3 although the KL has"
            " h*w times fewer terms, and is to be tuned and reported"
        ),
        (
            "the noise of a vector is not averaged by the pooling: at equal sigma it is sqrt(h*w)"
            " times that of DMRNet per logit"
        ),
    )
    training_only = ("distribution.logvar",)

    def heads(self, z: MapShape) -> nn.Module:
        return _Heads(z.channels)


class _Heads(nn.Module):
    """(B, C, h, w) -> (mu, log sigma^2), (B, C) each.

    A linear layer and batch norm on the pooled vector, for each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mu = nn.Sequential(nn.Linear(channels, channels), nn.BatchNorm1d(channels))
        self.logvar = nn.Sequential(nn.Linear(channels, channels), nn.BatchNorm1d(channels))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        v = z.mean((2, 3))
        return self.mu(v), self.logvar(v)
