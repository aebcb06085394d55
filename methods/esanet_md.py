"""ESANet-MD: the segmentation baseline of DMRNet's paper.

The published RGB-D network with modality dropout at every fusion.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.backbones import Backbone
from harness.method import Method, Output
from harness.protocol.seeds import Noise


class ESANetMD(Method):
    """Modality dropout inside a joint encoder: after the stem and after each of the four stages,
    with one mask per sample.

    t_s and p_s are the stage's maps of the trunk (first) and of another modality: t_s <- delta_1
    stage_s(m_{s-1}), p_s <- delta_2 stage_s(p_{s-1}), m_s = SE(t_s) + SE(p_s); m_1..m_3 are the
    skips, z = context(m_4), logits = decoder(z, skips). Without the trunk modality its stages still
    run on m, and what they return is zeroed. ``released``: p_s <- stage_s(p_{s-1}), m_s = SE(t_s) +
    SE(delta_2 p_s). Loss = sum over four resolutions of the class-weighted cross-entropy. m_s (B,
    c_s, H / 2^(s+1), W / 2^(s+1)), z (B, C, H/32, W/32).
    """

    citation = (
        "Seichter, Koehler, Lewandowski, Wengefeld, Gross: Efficient RGB-D Semantic Segmentation"
        " for Indoor Scene Analysis, ICRA 2021; with modality dropout as baseline of Wei et al.,"
        " DMRNet, ECCV 2024"
    )
    provenance = "re-implemented from the facts of the released ESANet and DMRNet segmentation code"
    float32_only = (
        "its released variant's losses in the first 20 steps are off by up to 14 % of the largest"
    )
    deviations = (
        (
            "masks are uniform over the non-empty combinations as for all methods, and validation"
            " sees every combination; the released segmentation code draws masks in validation too"
            " and selects on them"
        ),
        "more than two modalities: the first is the trunk, the others are added to it",
        (
            "the paper does not say how dropout enters the stages; `paper` reads its Eq. 1 at every"
            " fusion: a dropped modality's stream is zero from there on, and the zeros reach the"
            " batch norm of its later stages"
        ),
        "stems see what is available, dropped or not, in both variants, as in the released code",
        (
            "the two variants have the same logits in evaluation for the same weights; they differ"
            " in training, by what batch norm sees"
        ),
    )
    variants = {
        "paper": "every stream is zeroed where its modality is absent, at every fusion",
        "released": (
            "only what is added to the trunk is zeroed: the layers of the other modalities go on"
            " from their own maps, dropped or not, so that batch norm sees all of them"
        ),
    }
    tasks = ("segmentation",)
    unfit = {"regression": "its network is a decoder of label maps"}
    joint = True
    separate = False

    def build(self, backbone: Backbone) -> None:
        channels = [scale.channels for scale in backbone.mixed]
        self.mixer = backbone.mixer(mask_streams=self.variant == "paper")
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        fused = self.mixer([maps[0] for maps in features], present)
        z = self.trunk(fused)
        return Output(self.head(z, fused), z)
