"""What the two controls share that scale the task loss as DMRNet's released trainer does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.method import EpochContext, Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from methods.dmrnet import HCR_START

BETA = Range(
    0.7,
    0.3,
    0.7,
    limits=(0.0, 10.0),
    help="DMRNet's beta: the factor is 1 + beta * B * V / (2^V - 1)",
)


class ScaledTask(Method):
    """Adds the term ``scale`` to another class's losses once HCR has started.

    scale = beta * B * |H| / (2^V - 1) * task. With |H| = V hard combinations drawn uniformly, B *
    |H| / (2^V - 1) is the expected number of hard samples of a batch, so the task loss is
    multiplied by the expected factor of the released trainer, which broadcasts DMRNet's Eq. 11:
    20.2 at beta 0.7, B = 64, V = 3.
    """

    beta: Tensor
    scaling_on: Tensor

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.register_buffer("scaling_on", self.beta.new_zeros(()))

    def begin_epoch(self, context: EpochContext) -> None:
        self.scaling_on.fill_(float(context.epoch >= context.starts(HCR_START)))

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        terms = super().loss(output, batch)
        hard_samples = _expected_hard_samples(*batch.present.shape)
        return terms | {"scale": self.scaling_on * self.beta * hard_samples * terms["task"]}

    @classmethod
    def weight_notes(
        cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value], batch_size: int
    ) -> list[str]:
        factor = 1 + float(hparams["beta"]) * _expected_hard_samples(batch_size, len(spec.names))
        return [f"beta = {hparams['beta']:g} multiplies the task loss by {factor:.3g}"]

    def remarks(self, epochs: int) -> list[str]:
        start = EpochContext(0, epochs, self.combinations).starts(HCR_START)
        if start < epochs:
            return []
        return [
            f"the loss was never scaled: that starts at epoch {start} and training had {epochs}"
        ]


def _expected_hard_samples(batch_size: int, modalities: int) -> float:
    """Of a batch: V of the 2^V - 1 equally likely combinations are hard."""
    combinations: int = 2**modalities - 1
    return batch_size * modalities / combinations
