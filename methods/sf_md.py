"""SF-MD: shared fusion with modality dropout, the baseline of the comparison."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from harness.backbones import Backbone
from harness.method import Method, Output, Role
from harness.protocol.seeds import Noise
from methods._blocks import masked_concat


class SFMD(Method):
    """Masked concatenation, one shared trunk, plain cross-entropy.

    z = trunk([delta_1 f_1; ...; delta_V f_V]), logits = head(z), loss = mean CE (DMRNet paper, Eq.
    1 and section 3). The masks are the harness's: uniform over the non-empty combinations, per
    sample. f_v (B, c, h, w), z (B, C, h', w').
    """

    citation = (
        "Baseline of Wei et al., Robust Multimodal Learning via Representation Decoupling, ECCV"
        " 2024 (SF-MD)"
    )
    provenance = (
        "re-implemented from the paper and from the facts of the released code (network, masks,"
        " loss)"
    )
    role: ClassVar[Role] = "baseline"
    tasks: ClassVar[tuple[str, ...]] = (
        "classification",
        "anti_spoofing",
        "segmentation",
        "regression",
    )

    def build(self, backbone: Backbone) -> None:
        channels = [len(self.spec.names) * scale.channels for scale in backbone.maps]
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        fused = masked_concat(features, present)
        z = self.trunk(fused)
        return Output(self.head(z, fused), z)
