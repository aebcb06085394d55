"""HeMIS: parameter-free mean and variance over the modalities that are there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.backbones import Backbone
from harness.errors import UserError
from harness.method import Method, Output
from harness.protocol.seeds import Noise
from methods._blocks import masked, mean_and_variance


class HeMIS(Method):
    """The hetero-modal abstraction layer: z = trunk([m; s]) with first and second moments over the
    present set A, n = |A|.

    m = (1/n) sum_{v in A} f_v and s = (1/(n-1)) sum_{v in A} (f_v - m)^2, s = 0 at n = 1 (the
    abstraction layer of Havaei et al.); loss = mean CE. f_v (B, c, h, w), m and s (B, c, h, w),
    trunk input (B, 2c, h, w): independent of V and of the order of modalities. Nothing is learned
    in the fusion.
    """

    citation = (
        "Havaei, Guizard, Chapados, Bengio: HeMIS: Hetero-Modal Image Segmentation, MICCAI 2016"
    )
    provenance = "re-implemented from the paper's operator, transplanted onto the shared backbone"
    deviations = (
        "the shared backbone replaces the 5x5 full-resolution network",
        "no curriculum: all methods see the same uniformly drawn combinations",
    )
    variants = {
        "paper": "variance over the present modalities, divisor n - 1",
        "released": (
            "variance of the released transplant: absent zeros are counted as samples, divisor n, 0"
            " at n = 1"
        ),
    }

    tasks = ("classification", "anti_spoofing", "segmentation", "regression")

    def build(self, backbone: Backbone) -> None:
        channels = [2 * scale.channels for scale in backbone.maps]
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        moments = mean_and_variance if self.variant == "paper" else released_moments
        fused = tuple(
            torch.cat(moments(scale, present), 1) for scale in zip(*features, strict=True)
        )
        z = self.trunk(fused)
        return Output(self.head(z, fused), z)

    @classmethod
    def check_backbone(cls, backbone: Backbone) -> None:
        super().check_backbone(backbone)
        if backbone.joins:
            raise UserError(
                "method 'hemis' fuses modalities to moments and has none to hand to"
                " backbone.fusion=film or gated; use backbone.fusion=concat or sum, or leave the"
                " method out"
            )


def released_moments(features: tuple[Tensor, ...], present: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the present set, and the spread of the released transplant, (B, c, h, w) each.

    The spread is (1/n) sum over ALL V of (y_v - m)^2 with zeros for absent ones, 0 where n = 1.
    """
    stacked = torch.stack(masked(features, present), 1).float()
    n = present.sum(1).float().reshape(-1, *[1] * (stacked.dim() - 2))
    mean = stacked.sum(1) / n
    spread = (stacked - mean.unsqueeze(1)).square().sum(1) / n
    return mean, torch.where(n > 1, spread, torch.zeros_like(spread))
