"""What the two ablations share that sample a pooled vector instead of a map."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from harness.backbones import Backbone, MapShape
from harness.method import Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range
from harness.protocol.seeds import Noise
from methods._blocks import gaussian_kl, masked_concat, sample_gaussian

ALPHA = Range(
    1e-3,
    1e-3,
    1.6e-2,
    log=True,
    limits=(0.0, 10.0),
    help="weight of the KL term; at 1.6e-2 a 512-vector weighs as a 4x4 map does",
)


class SampledVector(Method):
    """SF-MD with a sampled vector between trunk and head.

    z = trunk(masked concat), (mu, log sigma^2) = distribution(z), s = mu + eps * sigma;
    logits = head(s); s = mu without noise. Loss = mean CE + alpha * KL(N(mu, sigma^2) || N(0, I)),
    the KL summed over C and averaged over the batch. z is (B, C, h, w), the others are (B, C).
    Subclasses define ``heads``, which makes ``distribution``.
    """

    hyperparameters = {"alpha": ALPHA}
    tasks = ("classification", "anti_spoofing", "regression")
    role = "ablation"
    variants = {"paper": "the row of the paper's ablation as we read it; no code of it is released"}
    alpha: Tensor

    def build(self, backbone: Backbone) -> None:
        channels = [len(self.spec.names) * scale.channels for scale in backbone.maps]
        self.trunk = backbone.trunk(channels)
        self.distribution = self.heads(backbone.z)
        self.head = backbone.head(channels)

    def heads(self, z: MapShape) -> nn.Module:
        """A module (B, C, h, w) -> (mu, log sigma^2), both (B, C), of z = (C, h, w)."""
        raise NotImplementedError

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        fused = masked_concat(features, present)
        mu, logvar = self.distribution(self.trunk(fused))
        s = sample_gaussian(mu, logvar, noise)
        # The head pools maps: a vector is a map of one pixel.
        return Output(self.head(s[:, :, None, None], fused), s, extra={"mu": mu, "logvar": logvar})

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        kl = gaussian_kl(output.extra["mu"], output.extra["logvar"])
        return {"task": self.task_loss(output.logits, batch.target).mean(), "kl": self.alpha * kl}
