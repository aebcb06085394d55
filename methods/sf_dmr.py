"""SF-DMR: DMRNet without hard-combination regularisation, the first ablation of its paper."""

from __future__ import annotations

import torch

from harness.backbones import Backbone
from methods.dmrnet import DMRNet


class SFDMR(DMRNet):
    """DMRNet with beta = 0 (Table 3 and 4, +DMR): the fused map is a distribution, no combination
    is favoured.

    Loss = L_TTL + alpha * L_DR. It is the same trial as ``dmrnet`` with beta = 0 and shares its id.
    Shapes as in DMRNet.
    """

    hyperparameters = {"alpha": DMRNet.hyperparameters["alpha"]}
    role = "ablation"
    variants = {"paper": "DMRNet with beta = 0"}
    identity = ("dmrnet", {"beta": 0.0})

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        # DMRNet's loss reads it, and this row does not declare it: it is no hyperparameter here.
        self.register_buffer("beta", torch.zeros(()), persistent=False)
