"""SF-MD with static weights on given combinations.

The control that separates DMRNet's re-weighting from its representation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import Losses, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.masks import combination_index
from methods.dmrnet import hard_set
from methods.sf_md import SFMD

NAME = "sf_md_reweighted"


class SFMDReweighted(SFMD):
    """SF-MD with the loss (1/B) sum_i (1 + beta * 1[combination_i in H]) CE_i, H given, in all
    epochs.

    DMRNet's L_HCR (Eq. 11) shares its predictor and its sample with the task loss, so it is such a
    weighting; this row has the weights without the distribution. H: the names in ``hard_set``; on
    CASIA-SURF by default the released code's constant (rgb, ir, rgb+ir), elsewhere it must be
    given. Network and shapes: SF-MD's.
    """

    citation = "Our control; the weights are those of Eq. 11 of Wei et al., ECCV 2024"
    provenance = "our design: a control, not a published method"
    deviations = (
        "the weights act from the first epoch on; DMRNet's from the epoch on in which HCR starts",
    )
    hyperparameters = {
        "beta": Range(
            0.7,
            0.3,
            0.7,
            limits=(0.0, 10.0),
            help="extra weight of the samples with a hard combination",
        ),
        "hard_set": Range(
            "",
            help=(
                "hard combinations by name, comma-separated (`a,a+b`); has a default on CASIA-SURF"
                " alone"
            ),
        ),
    }
    role = "control"
    variants = {"paper": "the control as defined here"}

    beta: Tensor
    hard: Tensor

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.register_buffer("hard", torch.zeros(1 << len(self.spec.names)))
        for bits in _given(self.spec, self.settings):  # empty only where `check` was not asked
            self.hard[bits] = 1.0

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        ce = self.task_loss(output.logits, batch.target)
        weight = self.hard[combination_index(batch.present)]
        return {"task": ce.mean(), "hard": self.beta * (weight * ce).mean()}

    def remarks(self, epochs: int) -> list[str]:
        names = [c.name for c in self.combinations if self.hard[c.bits] > 0]
        return [f"hard combinations (given): {', '.join(names)}"]

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        if not _given(spec, hparams):
            raise UserError(
                f"hparams.{NAME}.hard_set has no default on {spec.name}: give the combinations to"
                f" weight, comma-separated, such as hparams.{NAME}.hard_set={spec.names[0]}"
                " (dmrnet's remarks in the report name those it mined)"
            )


def _given(spec: DataSpec, settings: Mapping[str, Value]) -> tuple[int, ...]:
    """H as bits: from ``hard_set``, or the constant of the released code.

    Empty where there is neither.
    """
    return hard_set(spec, "released", settings, NAME)
