"""Dedicated: one model per combination, the reference that a robust method is held against."""

from __future__ import annotations

from methods.sf_md import SFMD


class Dedicated(SFMD):
    """The baseline's network trained, selected and shown on one combination alone: 2^V - 1 models
    in one row.

    z = trunk([delta_1 f_1; ...; delta_V f_V]) with delta fixed to the model's combination; loss =
    mean CE. What a robust method loses against this row is the price of serving all combinations
    with one model; it is a reference, never ranked. The model of the full combination is also
    MMANet's teacher. f_v (B, c, h, w), z (B, C, h', w').
    """

    citation = (
        "reference of this benchmark; the full-modality model is the teacher of Wei et al., MMANet,"
        " CVPR 2023"
    )
    provenance = "our design: the baseline's network without modality dropout"
    role = "reference"
    per_combination = True
