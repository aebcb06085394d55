"""SF-MD with a larger loss.

The control that separates DMRNet's hard combinations from the scale of its loss.
"""

from __future__ import annotations

from methods._scaled import BETA, ScaledTask
from methods.sf_md import SFMD


class SFMDScaled(ScaledTask, SFMD):
    """SF-MD whose task loss is multiplied by 1 + beta * B * |H| / (2^V - 1), |H| = V, from the
    epoch on in which HCR starts.

    DMRNet's released trainer multiplies the mean CE of a whole batch by 1 + beta * (number of its
    hard samples): no combination is favoured, and the factor is this one in expectation. What this
    row gains over SF-MD is a matter of learning rate and weight decay, not of representation.
    Network and shapes: SF-MD's.
    """

    citation = "Our control; the scale is a fact of the released trainer of Wei et al., ECCV 2024"
    provenance = "our design: a control, not a published method"
    deviations = (
        (
            "the released factor varies with the batch's number of hard samples; here it is its"
            " expectation"
        ),
    )
    hyperparameters = {"beta": BETA}
    role = "control"
    variants = {"paper": "the control as defined here"}
