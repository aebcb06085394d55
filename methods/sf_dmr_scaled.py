"""DMRNet with a larger loss instead of hard combinations: the control for its loss's scale."""

from __future__ import annotations

from harness.method import EpochContext, Losses, Output, TrainBatch
from methods._scaled import BETA, ScaledTask
from methods.dmrnet import DMRNet


class SFDMRScaled(ScaledTask, DMRNet):
    """DMRNet's network, sampling and KL without hard combinations; from the epoch on in which HCR
    starts the task loss is scaled.

    Loss = (1 + beta * B * |H| / (2^V - 1)) * L_TTL + alpha * L_DR with |H| = V (Eq. 5-7 and 9 of
    DMRNet): the factor that DMRNet's released trainer has in expectation, of which the KL term and
    weight decay have no part: for the task loss it acts like a larger learning rate. What this row
    gains or loses against DMRNet with beta = 0 is due to the loss's scale alone. z, mu, log
    sigma^2, s: (B, C, h, w).
    """

    citation = (
        "Our control; network, KL and the scale are those of Wei et al., ECCV 2024, and of its"
        " released trainer"
    )
    provenance = "our design: a control, not a published method"
    deviations = (
        *DMRNet.deviations[:2],
        (
            "the released factor varies with the batch's number of hard samples; here it is its"
            " expectation"
        ),
    )
    hyperparameters = {"alpha": DMRNet.hyperparameters["alpha"], "beta": BETA}
    role = "control"
    variants = {"paper": "the control as defined here"}

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        terms = super().loss(output, batch)
        # Without DMRNet's own term: no combination is ever hard here, so that it would be zero.
        return {name: terms[name] for name in ("task", "kl", "scale")}

    def end_epoch(self, context: EpochContext) -> None:
        """No combination is mined."""

    def diagnostics(self) -> dict[str, float]:
        return {}
