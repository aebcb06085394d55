"""MMANet: a complete-data teacher, margin-aware distillation, and help for weak combinations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.method import EpochContext, Losses, Method, Need, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.masks import combination_index
from harness.protocol.seeds import Noise
from methods._blocks import masked_concat, subset_weight_note
from methods.sf_md import SFMD

ACTIVE_FROM = 6
"""Published epoch (of 100) from which distillation and regularisation act."""

MINING = (2, 5)
"""Published epochs [first, end) at whose ends predictions are compared."""


class MMANet(Method):
    """Student with random masks beside a frozen teacher that sees everything; weak combinations get
    an auxiliary predictor.

    L = CE + lambda_mad * MAD + lambda_mar * MAR, the last two from epoch 6 of 100. MAD = sum_i k_i
    sum_j (E^s_ij - E^t_ij)^2, E the row-normalised Gram matrix F F^T of the penultimate maps F (B,
    D), k_i the teacher's prediction entropy over the batch's sum. MAR = (1/B) sum_i 1[combination_i
    in W] CE(a_i, y_i), a from a second trunk and head on the same fused maps. W: the weakest subset
    of V - 1 modalities and all its non-empty subsets, weakest by the sum over epochs 2..4 of
    KL(softmax(q_c) || softmax(q_full)), q the histograms of predicted classes on val (Eq. 9-14). z
    (B, C, h, w), D = C*h*w.
    """

    citation = (
        "Wei, Luo, Luo: MMANet: Margin-aware Distillation and Modality-aware Regularization, CVPR"
        " 2023"
    )
    provenance = (
        "re-implemented from the facts of the released code and the abstract; the paper's full text"
        " was not at hand"
    )
    deviations = (
        (
            "weights of MAD fall on rows (a sample's own relations), as in the released"
            " segmentation code; the classification code's columns are variant `released`"
        ),
        (
            "for V other than 3 the weak set is our generalisation: the weakest V - 1 modalities"
            " and all their non-empty subsets"
        ),
        (
            "mining reads predicted classes of the val samples that have every modality, without"
            " labels, as the released code does; its val samples have all"
        ),
        (
            "segmentation: MAD relates the images of a batch by their penultimate maps, k is the"
            " mean entropy over pixels; the authors' segmentation code relates places on three"
            " scales, and mines by squared gaps in mIoU"
        ),
        "all epochs are trained; the released trainers skip epoch 0",
        "the teacher is selected like every trial of its kind: on val, with all modalities",
    )
    hyperparameters = {
        "mad": Range(
            30.0,
            1.0,
            100.0,
            log=True,
            limits=(0.0, 1e4),
            help="weight of margin-aware distillation",
        ),
        "mar": Range(
            0.5,
            0.01,
            1.0,
            log=True,
            limits=(0.0, 1e4),
            help="weight of modality-aware regularisation",
        ),
    }
    variants = {
        "paper": "each weak sample's own cross-entropy, divided by B; MAD weights on rows",
        "released": (
            "the classification code's broadcasting: MAR = n_weak * mean auxiliary CE; MAD weights"
            " on columns"
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation")
    unfit = {
        "regression": "it weighs samples by the entropy of class scores and ranks combinations by"
        " histograms of predicted classes"
    }
    training_only = ("regulariser_trunk", "regulariser_head")
    needs = {"teacher": Need("dedicated")}
    needs_complete_data = True

    mad: Tensor
    mar: Tensor
    active: Tensor
    weak: Tensor
    distance: Tensor

    def build(self, backbone: Backbone) -> None:
        channels = [len(self.spec.names) * scale.channels for scale in backbone.maps]
        self.trunk, self.head = backbone.trunk(channels), backbone.head(channels)
        self.regulariser_trunk = backbone.trunk(channels)
        self.regulariser_head = backbone.head(channels)
        codes = 1 << len(self.spec.names)
        self.register_buffer("weak", torch.zeros(codes))
        self.register_buffer("distance", torch.zeros(codes))
        self.register_buffer("active", torch.zeros(()))
        # In a list, and so not a submodule: the teacher is neither trained nor saved with the
        # student.
        self._teacher: list[SFMD] = []
        self._backbone = backbone

    def adopt(self, name: str, weights: Mapping[str, Tensor]) -> None:
        teacher = SFMD(self._backbone)
        teacher.load_state_dict(dict(weights))
        teacher.eval().requires_grad_(False).to(self.active.device)
        self._teacher = [teacher]

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        fused = masked_concat(features, present)
        z = self.trunk(fused)
        output = Output(self.head(z, fused), z)
        if noise is not None:
            own = self.regulariser_trunk(fused)
            output.extra["regulariser"] = self.regulariser_head(own, fused)
        return output

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        with torch.no_grad():
            teacher = self._teacher[0](batch.inputs, torch.ones_like(batch.present))
        auxiliary = self.task_loss(output.extra["regulariser"], batch.target)  # (B,)
        weak = self.weak[combination_index(batch.present)]  # (B,), 1 where in W
        if self.variant == "paper":
            regularisation, axis = (weak * auxiliary).mean(), "rows"
        else:
            regularisation, axis = weak.sum() * auxiliary.mean(), "columns"
        distillation = margin_aware_distillation(output.z, teacher.z, teacher.logits, axis)
        return {
            "task": self.task_loss(output.logits, batch.target).mean(),
            "mad": self.mad * self.active * distillation,
            "mar": self.mar * self.active * regularisation,
        }

    def begin_epoch(self, context: EpochContext) -> None:
        self.active.fill_(float(context.epoch >= context.starts(ACTIVE_FROM)))

    def end_epoch(self, context: EpochContext) -> None:
        start = context.starts(ACTIVE_FROM)
        # In short runs the published epochs fall together; one at least is looked at before the
        # terms act.
        first = min(context.starts(MINING[0]), start - 1)
        end = max(first + 1, context.starts(MINING[1]))
        if first <= context.epoch < end and context.val_scores is not None:
            self._compare_predictions(context.predicted_shares())
        if context.epoch + 1 == start:
            self.weak.copy_(self._weak_set())

    def _compare_predictions(self, shares: Tensor) -> None:
        full = shares[-1]  # the last combination has every modality
        for combination, own in zip(self.combinations, shares, strict=True):
            self.distance[combination.bits] += histogram_divergence(own, full)

    def _weak_set(self) -> Tensor:
        """Indicator (2^V,) of the weakest V - 1 modalities and all their non-empty subsets.

        Ties go to the lower index.
        """
        distance = self.distance.tolist()
        size = max(1, len(self.spec.names) - 1)
        candidates = [c.bits for c in self.combinations if c.size == size]
        weakest = min(candidates, key=lambda bits: (-distance[bits], bits))
        # A subset of the weakest has no bit that the weakest lacks.
        inside = [bits > 0 and bits & weakest == bits for bits in range(len(distance))]
        return torch.tensor([float(weak) for weak in inside])

    @classmethod
    def weight_notes(
        cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value], batch_size: int
    ) -> list[str]:
        mar, modalities = float(hparams["mar"]), len(spec.names)
        weak = 2 ** max(1, modalities - 1) - 1
        if not mar:
            return []
        return [subset_weight_note("mar", mar, weak, modalities, batch_size, variant)]

    def remarks(self, epochs: int) -> list[str]:
        names = ", ".join(c.name for c in self.combinations if self.weak[c.bits] > 0)
        start = EpochContext(0, epochs, self.combinations).starts(ACTIVE_FROM)
        if start >= epochs:
            return [
                f"distillation and regularisation never ran: they start at epoch {start} and"
                f" training had {epochs}"
            ]
        if not names:
            return [
                "the selected weights are older than distillation and regularisation, which start"
                f" at epoch {start}"
            ]
        return [f"weak combinations (mined once, from predictions on val): {names}"]


def margin_aware_distillation(
    student: Tensor, teacher: Tensor, logits: Tensor, axis: str
) -> Tensor:
    """MAD, 0-d: how unlike the samples' relations are in student and teacher.

    Squared differences of row-normalised Gram matrices, weighted by the teacher's normalised
    entropy k.

    Args:
        student: (B, ...) maps; gradients flow here only.
        teacher: (B, ...) maps.
        logits: (B, K) of the teacher, or (B, K, H, W).
        axis: ``rows`` for sum_i k_i sum_j, ``columns`` for sum_ij k_j; not divided by B in either
            case.
    """
    squares = (_relations(student) - _relations(teacher.detach())).square()  # (B, B)
    of_each = squares.sum(1) if axis == "rows" else squares.sum(0)
    return of_each @ normalised_entropy(logits.detach())


def _relations(maps: Tensor) -> Tensor:
    """E, (B, B): the Gram matrix of (B, ...) maps, its rows of length 1."""
    flat = maps.flatten(1).float()  # F, (B, D)
    return F.normalize(flat @ flat.T, dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy (nats) of softmax(logits), (B, K) -> (B,), of label maps its mean over pixels.

    Finite for any finite logits.
    """
    p = logits.softmax(1)
    terms: Tensor = torch.special.xlogy(p, p)
    return -terms.sum(1).reshape(len(logits), -1).mean(1)


def normalised_entropy(logits: Tensor) -> Tensor:
    """Each sample's entropy over the batch's sum, (B,)."""
    k: Tensor = entropy(logits)
    return k / (k.sum() + torch.finfo(k.dtype).eps)


def histogram_divergence(shares: Tensor, full: Tensor) -> Tensor:
    """KL(softmax(shares) || softmax(full)) of two class histograms (K,).

    The softmax keeps empty bins finite (released code).
    """
    log_p, log_q = shares.log_softmax(0), full.log_softmax(0)
    return (log_p.exp() * (log_p - log_q)).sum()
