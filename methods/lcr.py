"""LCR: every modality re-expressed from the others, then modality and spatial attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.seeds import Noise
from methods._blocks import masked


class LCR(Method):
    """Latent multi-source correlation: model parameter estimation (MPE), linear correlation
    expression (LCE), attention.

    y_v = f_v where present, else 0; Gamma_v = MPE_v(GAP(y_v)), V - 1 coefficients and a bias (MPE:
    Linear c -> c/2, LeakyReLU, Linear). LCE: F_v = sum_{j != v} Gamma_{v,j} y_j + Gamma_{v,bias}
    for every v, absent ones included, and F_v REPLACES f_v. With g_v = mean(F_v): a = sigmoid(W_1
    ReLU(W_2 g)) per modality, S = sigmoid(conv1x1([F_1; ...; F_V])) per place; F_f = a F + S F goes
    to SF-MD's trunk. Loss = mean CE + l1_weight * (1/B) sum_b (1/n) sum_{v present} mean|F_v -
    sg(f_v)|, the inner sum 0 at n = 1. Segmentation: this at the deepest scale, the attention alone
    (on y) at the others. f_v, y_v, F_v (B, c, h, w); F_f (B, V*c, h, w).
    """

    citation = (
        "Zhou, Canu, Vera, Ruan: Brain Tumor Segmentation with Missing Modalities via Latent"
        " Multi-source Correlation Representation, MICCAI 2020"
    )
    provenance = (
        "re-implemented from secondary accounts of the paper (it has no public code) and from the"
        " facts of the DMRNet authors' transplant; the attention formulas are those recalled from"
        " the authors' follow-ups"
    )
    deviations = (
        (
            "the shared backbone replaces the 3D U-Net with dilated residual blocks and deep"
            " supervision"
        ),
        (
            "an absent modality is a zero feature; the paper feeds its encoder the most similar"
            " available image, at test only"
        ),
        (
            "trained on randomly drawn combinations like all methods; the paper trains on complete"
            " data"
        ),
        (
            "the paper does not say what its L1 term compares: here F_v with the detached f_v of"
            " present modalities"
        ),
        "the L1 term has weight 0.1; literally the paper has 1 (hparams.lcr.l1_weight)",
        (
            "the parameter estimation starts from PyTorch's default values, as the transplant's"
            " does, so that coefficients and with them F_v start near 0; the paper's initial values"
            " are not known (hparams.lcr.init=mean: F_v starts as the mean of the others)"
        ),
        (
            "the pyramid form is our design: each scale's V*c channels go to the shared decoder,"
            " whose skips project them by 1x1"
        ),
        (
            "`released` multiplies features by the mask, not images, so that an absent modality"
            " cannot reach an encoder's batch norm"
        ),
        (
            "`released` has a pyramid form of our own, masked concatenation on the skips: the"
            " authors released classification only"
        ),
    )
    hyperparameters = {
        "l1_weight": Range(
            0.1, 0.01, 1.0, log=True, limits=(0.0, 10.0), help="weight of the L1 correlation term"
        ),
        "coefficients": Range(
            "scalar",
            choices=("scalar", "channel"),
            help="Gamma: one value per modality, or one per channel",
        ),
        "init": Range(
            "random",
            choices=("random", "mean"),
            help="mean: F_v starts as the mean of the other modalities",
        ),
    }
    variants = {
        "paper": "MPE, LCE, modality and spatial attention, L1 term",
        "released": (
            "the DMRNet authors' transplant: MPE and LCE with scalars alone, no attention,"
            " cross-entropy only"
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation", "regression")

    l1_weight: Tensor

    def build(self, backbone: Backbone) -> None:
        count, deepest = len(self.spec.names), backbone.maps[-1].channels
        width = deepest if self.settings["coefficients"] == "channel" else 1
        as_mean = self.settings["init"] == "mean"
        self.mpe = nn.ModuleList(
            _ParameterEstimation(deepest, count, width, as_mean) for _ in range(count)
        )
        if self.variant == "paper":
            self.attention = nn.ModuleList(
                _Attention(scale.channels, count) for scale in backbone.maps
            )
        channels = [count * scale.channels for scale in backbone.maps]
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        # One list of y_v per scale; the deepest scale's is replaced by F_v.
        *skips, deepest = [masked(scale, present) for scale in zip(*features, strict=True)]
        parameters = [mpe(y) for mpe, y in zip(self.mpe, deepest, strict=True)]
        expressed = express(deepest, parameters)
        stacks = [torch.stack(maps, 1) for maps in (*skips, expressed)]  # (B, V, c, h, w) each
        if self.variant == "paper":
            stacks = [attend(stack) for attend, stack in zip(self.attention, stacks, strict=True)]
        fused = tuple(stack.flatten(1, 2) for stack in stacks)
        z = self.trunk(fused)
        return Output(self.head(z, fused), z, extra={"expressed": torch.stack(expressed, 1)})

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        terms = super().loss(output, batch)
        if self.variant == "paper":
            deepest = [maps[-1] for maps in batch.features]
            error = expression_error(output.extra["expressed"], deepest, batch.present)
            terms["l1"] = self.l1_weight * error.mean()
        return terms

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        changed = [
            key for key, value in hparams.items() if value != cls.hyperparameters[key].default
        ]
        if variant == "released" and changed:
            raise UserError(
                f"hparams.lcr.{changed[0]} does not apply to lcr:released (scalars, no L1 term);"
                " leave it out"
            )


class _ParameterEstimation(nn.Module):
    """MPE of one modality: its map (B, c, h, w) -> Gamma (B, V, width, 1, 1).

    V - 1 coefficients in listing order, then a bias.
    """

    def __init__(self, channels: int, modalities: int, width: int, as_mean: bool) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.shape = (modalities, width, 1, 1)
        last = nn.Linear(hidden, modalities * width)
        if as_mean:
            _start_as_mean(last, modalities)
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.LeakyReLU(0.01), last)

    def forward(self, y: Tensor) -> Tensor:
        return self.layers(y.mean((2, 3))).unflatten(1, self.shape)  # type: ignore[no-any-return]


def _start_as_mean(last: nn.Linear, modalities: int) -> None:
    """Coefficients 1 / (V - 1) and bias 0, whatever the input."""
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 1.0 / max(1, modalities - 1))
    width = last.out_features // modalities
    with torch.no_grad():
        # The outputs are V groups of ``width``, of which the last is Gamma's bias.
        last.bias[-width:] = 0.0


class _Attention(nn.Module):
    """F (B, V, c, h, w) -> a F + S F.

    a: one weight per modality from the modalities' means; S: one per place from all channels.
    """

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__()
        hidden = max(2, modalities // 2)
        self.modality = nn.Sequential(
            nn.Linear(modalities, hidden), nn.ReLU(), nn.Linear(hidden, modalities), nn.Sigmoid()
        )
        self.place = nn.Sequential(nn.Conv2d(modalities * channels, 1, 1), nn.Sigmoid())

    def forward(self, stack: Tensor) -> Tensor:
        a = self.modality(stack.mean((2, 3, 4)))[:, :, None, None, None]  # (B, V, 1, 1, 1)
        s = self.place(stack.flatten(1, 2)).unsqueeze(1)  # (B, 1, 1, h, w)
        return a * stack + s * stack  # type: ignore[no-any-return]


def express(maps: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """LCE: F_v = sum_{j != v} Gamma_{v,j} y_j + Gamma_{v,bias} for every v.

    Args:
        maps: y_v, (B, c, h, w) each, zero where absent.
        parameters: Gamma_v, (B, V, 1 or c, 1, 1) each: the others' coefficients in their order,
            then the bias.
    """
    expressed = []
    for v, gamma in enumerate(parameters):
        others = [y for j, y in enumerate(maps) if j != v]
        terms = [gamma[:, i] * y for i, y in enumerate(others)]
        expressed.append(torch.stack(terms).sum(0) + gamma[:, -1])
    return expressed


def expression_error(expressed: Tensor, features: Sequence[Tensor], present: Tensor) -> Tensor:
    """(B,): mean over a sample's present modalities of mean|F_v - sg(f_v)|.

    0 where only one is present. ``expressed`` is (B, V, c, h, w). The target is detached, so that
    encoders are not drawn to a constant.
    """
    target = torch.stack(masked(features, present), 1).detach()
    distance = (expressed - target).abs().flatten(2).mean(2)  # (B, V)
    n = present.sum(1, keepdim=True)  # (B, 1)
    # A modality that is there alone has no others to be expressed from.
    counted = present & (n > 1)
    return torch.where(counted, distance / n, torch.zeros_like(distance)).sum(1)
