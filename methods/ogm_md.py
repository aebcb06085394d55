"""OGM-MD: SF-MD's modality dropout while the gradient of the modality that leads is held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import EpochContext, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.schedules import epoch_at
from methods.sf_md import SFMD

NAME = "ogm_md"
CONVOLUTION = 4
"""Dimensions of the weights that are modulated."""

SMALLEST_SCORE = 1e-12


class OGMMD(SFMD):
    """SF-MD on two modalities, their encoders' convolutions trained by on-the-fly gradient
    modulation (OGM, OGM-GE).

    Per batch, s_u = sum over the samples that show both modalities of softmax(r_u)[y], r_u the
    read-out of modality u alone (concat: W_u z_u + b / 2; sum: W_u z_u + b_u); rho_u = s_u /
    s_other. Gradients of the 4-D weights of encoder u become k_u g, k_u = 1 - tanh(alpha * rho_u)
    where rho_u > 1, else 1 (Eq. 10); OGM-GE adds N(0, (std(g) + 1e-8)^2) to each of them, of both
    encoders, std over the weight's own gradient before scaling. In epochs ``begin`` to ``end`` of
    100, both included. Logits, loss and masks are SF-MD's. r_u (B, K), z_u (B, c).
    """

    citation = (
        "Peng, Wei, Deng, Wang, Hu: Balanced Multimodal Learning via On-the-fly Gradient"
        " Modulation, CVPR 2022; with modality dropout the row OGM-MD of Wei et al., Robust"
        " Multimodal Learning via Representation Decoupling, ECCV 2024"
    )
    provenance = (
        "re-implemented from the facts of the released OGM-GE code; its combination with modality"
        " dropout is our design, and `released` is what the DMRNet authors' audio-visual script"
        " computes"
    )
    deviations = (
        (
            "scores count the samples of a batch that show both modalities; a batch without any is"
            " not modulated (OGM trains on complete data and counts all)"
        ),
        "epochs are fractions of the run's length: 0 to 50 of 100",
        (
            "film and gated are refused: the OGM-GE code cuts their last layer's weight in two,"
            " which is not two modalities wide"
        ),
    )
    hyperparameters = {
        "modulation": Range(
            "ogm_ge",
            choices=("ogm_ge", "ogm"),
            help="ogm_ge: scaled gradients plus noise; ogm: scaled only",
        ),
        "alpha": Range(
            0.8,
            0.1,
            1.0,
            limits=(0.0, 10.0),
            help="how fast the leading modality is held back; 0.8 on CREMA-D",
        ),
        "begin": Range(0, limits=(0, 100), help="first modulated epoch of 100"),
        "end": Range(50, limits=(0, 100), help="last modulated epoch of 100"),
    }
    variants = {
        "paper": "on-the-fly gradient modulation, OGM-GE by default",
        "released": (
            "no modulation: the DMRNet authors' script trains concatenation with modality dropout"
            " (the numbers of sf_md)"
        ),
    }
    role = "method"
    tasks = ("classification", "anti_spoofing")
    unfit = {"regression": "it compares modalities by the probability of the true class"}

    alpha: Tensor
    coefficient_sum: Tensor
    steps: Tensor

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self._readouts = backbone.readouts
        self.register_buffer("coefficient_sum", torch.zeros(len(self.spec.names)), persistent=False)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def scale_gradients(self, batch: TrainBatch, output: Output) -> None:
        if not self._active(*batch.phase):
            return
        readouts = self._readouts(self.head, output.z)
        k = coefficients(readouts, batch.target, batch.present.all(1), self.alpha)
        self.coefficient_sum += k
        self.steps += 1
        for v, encoder in enumerate(self.encoders):
            for weight in encoder.parameters():
                # A modality that no sample of the batch showed may have no gradient at all.
                if weight.dim() == CONVOLUTION and weight.grad is not None:
                    weight.grad = self._modulated(weight.grad, k[v], batch)

    def _modulated(self, gradient: Tensor, k: Tensor, batch: TrainBatch) -> Tensor:
        if self.settings["modulation"] == "ogm":
            return gradient * k
        return gradient * k + batch.noise.normal_like(gradient) * (gradient.std() + 1e-8)

    def _active(self, epoch: int, epochs: int) -> bool:
        first, last = self._epochs(epochs)
        return self.variant == "paper" and first <= epoch <= last

    def _epochs(self, epochs: int) -> tuple[int, int]:
        """First and last modulated epoch of a run; no epoch where the last is smaller."""
        return (
            epoch_at(int(self.settings["begin"]), epochs),
            epoch_at(int(self.settings["end"]) + 1, epochs) - 1,
        )

    def begin_epoch(self, context: EpochContext) -> None:
        self.coefficient_sum.zero_()
        self.steps.zero_()

    def diagnostics(self) -> dict[str, float]:
        """The epoch's mean k_u, where it was modulated."""
        if not float(self.steps):
            return {}
        return {
            f"k/{name}": float(k / self.steps)
            for name, k in zip(self.spec.names, self.coefficient_sum, strict=True)
        }

    def remarks(self, epochs: int) -> list[str]:
        first, last = self._epochs(epochs)
        if self.variant == "released":
            return [
                "no gradient was modulated: this is sf_md, as the DMRNet authors' audio-visual"
                " script is"
            ]
        if first > min(last, epochs - 1):
            return [
                "no gradient was modulated: the run is too short for any epoch of the modulation"
            ]
        return [
            f"gradients were modulated ({self.settings['modulation']}) in epochs {first} to"
            f" {min(last, epochs - 1)} of {epochs}"
        ]

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        if len(spec.names) != 2:
            raise UserError(
                f"method '{NAME}' weighs two modalities against each other and {spec.name} has"
                f" {len(spec.names)} ({', '.join(spec.names)}); leave it out"
            )
        given = {
            key: hparams.get(key, declared.default) for key, declared in cls.hyperparameters.items()
        }
        changed = [key for key, value in given.items() if value != cls.hyperparameters[key].default]
        if variant == "released" and changed:
            raise UserError(
                f"hparams.{NAME}.{changed[0]} does not apply to {NAME}:released, which modulates"
                " nothing; leave it out"
            )
        if int(given["begin"]) > int(given["end"]):
            raise UserError(
                f"hparams.{NAME}.begin={given['begin']} is after hparams.{NAME}.end={given['end']}"
            )

    @classmethod
    def check_backbone(cls, backbone: Backbone) -> None:
        super().check_backbone(backbone)
        if not backbone.additive:
            raise UserError(
                f"method '{NAME}' compares the logits of each modality alone, and this network's"
                " are not a sum over modalities; use backbone=audio_visual with"
                " backbone.fusion=concat or sum"
            )


def coefficients(readouts: Sequence[Tensor], target: Tensor, both: Tensor, alpha: Tensor) -> Tensor:
    """k (2,), what each modality's gradient is multiplied by.

    1 - tanh(alpha * rho_u) for the modality that leads (the first in a tie), 1 for the other; 1 for
    both without samples.

    Args:
        readouts: (B, K) logits of each modality alone.
        target: (B,) classes.
        both: (B,) bool, the samples to score.
        alpha: 0-d.
    """
    first, second = (_score(logits, target, both) for logits in readouts)
    rho = second / first  # of the second modality; that of the first is its inverse
    held_back = torch.stack([1 - (alpha / rho).tanh(), 1 - (alpha * rho).tanh()])
    leads = torch.stack([rho <= 1, rho > 1]) & both.any()
    return torch.where(leads, held_back, torch.ones_like(held_back))


def _score(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """The counted samples' summed probability of their class.

    At least SMALLEST_SCORE, so that a ratio exists.
    """
    right = logits.float().softmax(1).gather(1, target[:, None]).squeeze(1)
    return torch.where(counted, right, torch.zeros_like(right)).sum().clamp_min(SMALLEST_SCORE)
