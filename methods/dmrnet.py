"""DMRNet: representations relaxed to Gaussians, and mined hard combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import EpochContext, Losses, Method, Output, TrainBatch
from harness.protocol.combinations import parse
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.masks import combination_index
from harness.protocol.seeds import Noise
from methods._blocks import (
    DistributionHeads,
    gaussian_kl,
    masked_concat,
    sample_gaussian,
    subset_weight_note,
)

HCR_START = 6
"""Published epoch (of 100) from which hard combinations are re-weighted; variances are accumulated
before it.
"""

RELEASED_HARD_SETS = {"casia_surf": ("rgb", "ir", "rgb+ir")}


class DMRNet(Method):
    """The fused map becomes a distribution per combination; combinations of high variance get extra
    weight.

    z = trunk(masked concat), on a network that mixes modalities while encoding trunk(its fused
    maps); mu, log sigma^2 = 1x1 conv + BN of z (Eq. 5-6); s = mu + eps * sigma in training, mu at
    inference (Eq. 7); logits = head(s). Loss = L_TTL + alpha * L_DR + beta * L_HCR with L_TTL the
    mean cross-entropy, L_DR = KL(N(mu, sigma^2) || N(0, I)) summed over D = C*h*w and averaged over
    the batch (Eq. 9; of a segmentation summed over C and averaged over places), L_HCR = (1/B) sum_i
    1[combination_i in H] CE_i (Eq. 11). H: the V combinations of largest mean sigma^2 (Eq. 10),
    accumulated over the epochs before HCR starts, then frozen. z, mu, log sigma^2, s: (B, C, h, w).
    """

    citation = (
        "Wei, Luo, Wang, Luo: Robust Multimodal Learning via Representation Decoupling, ECCV 2024"
    )
    provenance = (
        "re-implemented from the paper; schedule, reductions and head layout from the facts of the"
        " released code"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "the head predicts log sigma^2, as the released code does; Eq. 6 prints log sigma",
        (
            "L_DR is summed over D, of a segmentation over C for each place, as the released code"
            " does; Eq. 9 prints no sum"
        ),
        "when H is mined is not published: here over all epochs before HCR starts, then frozen",
        (
            "segmentation: Table 5's network is esanet with form=joint, on which it runs too;"
            " form=parallel, with encoders of their own, is another network"
        ),
        (
            "`released` has nothing of the authors' segmentation code but where masks act on"
            " form=joint; that code fixes the hard set, detaches the KL and has a second decoder"
        ),
    )
    hyperparameters = {
        "alpha": Range(
            1e-3, 1e-4, 1e-2, log=True, limits=(0.0, 10.0), help="weight of the KL term L_DR"
        ),
        "beta": Range(
            0.7, 0.3, 0.7, limits=(0.0, 10.0), help="weight of the hard-combination term L_HCR"
        ),
        "hard_set": Range(
            "",
            help=(
                "hard combinations by name, comma-separated (`a,a+b`); empty: mined from the"
                " variances"
            ),
        ),
    }
    variants = {
        "paper": "Eq. 11: each hard sample's own cross-entropy, divided by B",
        "released": (
            "the released trainer's broadcasting: L_HCR = n_hard * mean CE of the whole batch;"
            " CASIA-SURF's set is fixed"
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation", "regression")
    training_only = ("heads.logvar",)
    joint = True

    alpha: Tensor
    beta: Tensor
    hard: Tensor
    hcr_on: Tensor
    mining_on: Tensor
    variance_sum: Tensor
    variance_count: Tensor

    def build(self, backbone: Backbone) -> None:
        channels = [len(self.spec.names) * scale.channels for scale in backbone.maps]
        self.mixer: nn.Module | None = None
        if backbone.joint:
            channels = [scale.channels for scale in backbone.mixed]
            self.mixer = backbone.mixer(mask_streams=self.variant == "paper")
        self.trunk = backbone.trunk(channels)
        self.heads = DistributionHeads(backbone.z.channels)
        self.head = backbone.head(channels)
        codes = 1 << len(self.spec.names)
        for name in ("hard", "variance_sum", "variance_count"):
            self.register_buffer(name, torch.zeros(codes))
        for name in ("hcr_on", "mining_on"):
            self.register_buffer(name, torch.zeros(()))
        self._fixed = hard_set(self.spec, self.variant, self.settings)
        for bits in self._fixed:
            self.hard[bits] = 1.0

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        if self.mixer is None:
            fused = masked_concat(features, present)
        else:
            fused = self.mixer([maps[0] for maps in features], present)
        mu, logvar = self.heads(self.trunk(fused))
        s = sample_gaussian(mu, logvar, noise)
        return Output(self.head(s, fused), s, extra={"mu": mu, "logvar": logvar})

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        mu, logvar = output.extra["mu"], output.extra["logvar"]
        code = combination_index(batch.present)
        self._accumulate(code, logvar.detach())
        ce = self.task_loss(output.logits, batch.target)  # (B,)
        hard = self.hard[code]  # (B,), 1 where in H
        focused = (hard * ce).mean() if self.variant == "paper" else hard.sum() * ce.mean()
        return {
            "task": ce.mean(),
            "kl": self.alpha * gaussian_kl(mu, logvar, per_place=self.spec.task == "segmentation"),
            "hcr": self.beta * self.hcr_on * focused,
        }

    def _accumulate(self, code: Tensor, logvar: Tensor) -> None:
        """Add each sample's mean sigma^2 to its combination's sum, while mining is on."""
        variance = logvar.exp().flatten(1).mean(1)  # (B,)
        # A product with membership rows: unlike index_add_ deterministic on every device, unlike
        # one_hot without reading from it.
        codes = torch.arange(self.hard.shape[0], device=code.device)
        member = (code[:, None] == codes).to(variance.dtype)  # (B, 2^V), a 1 in each row
        self.variance_sum += self.mining_on * (variance @ member)
        self.variance_count += self.mining_on * member.sum(0)

    def begin_epoch(self, context: EpochContext) -> None:
        started = context.epoch >= context.starts(HCR_START)
        self.hcr_on.fill_(float(started))
        self.mining_on.fill_(float(not started))

    def end_epoch(self, context: EpochContext) -> None:
        if context.epoch + 1 == context.starts(HCR_START) and not self._fixed:
            self.hard.copy_(top_variance(self.mean_variance(), len(self.spec.names)))

    def mean_variance(self) -> Tensor:
        """d_j, (2^V,): mean sigma^2 of each combination so far.

        -inf where none was seen (index 0 always).
        """
        seen = self.variance_count > 0
        return torch.where(seen, self.variance_sum / self.variance_count.clamp_min(1), -torch.inf)

    def diagnostics(self) -> dict[str, float]:
        variance, hard = self.mean_variance().tolist(), self.hard.tolist()
        seen = [c for c in self.combinations if variance[c.bits] > float("-inf")]
        logged = {f"sigma2/{c.key}": variance[c.bits] for c in seen}
        return logged | {f"hard/{c.key}": hard[c.bits] for c in self.combinations}

    def remarks(self, epochs: int) -> list[str]:
        how = "mined once, from the variances of the training epochs before HCR"
        if self._fixed:
            how = "given"
        sentences = []
        names = ", ".join(c.name for c in self.combinations if self.hard[c.bits] > 0)
        if names:
            sentences.append(f"hard combinations ({how}): {names}")
        start = EpochContext(0, epochs, self.combinations).starts(HCR_START)
        if start >= epochs:
            sentences.append(f"HCR never ran: it starts at epoch {start} and training had {epochs}")
        return sentences

    @classmethod
    def weight_notes(
        cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value], batch_size: int
    ) -> list[str]:
        beta, modalities = float(hparams.get("beta", 0.0)), len(spec.names)
        size = len(hard_set(spec, variant, hparams)) or modalities
        if not beta:
            return []
        return [subset_weight_note("beta", beta, size, modalities, batch_size, variant)]

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        hard_set(spec, variant, hparams)


def hard_set(
    spec: DataSpec, variant: str, settings: Mapping[str, Value], method: str = "dmrnet"
) -> tuple[int, ...]:
    """The combinations that are fixed as hard, as bits; empty where they are to be mined.

    They are given by name, or the released code's constant.
    """
    given = str(settings.get("hard_set", ""))
    names: Sequence[str] = ()
    if given:
        names = given.split(",")
    elif variant == "released":
        names = RELEASED_HARD_SETS.get(spec.name, ())
    try:
        return tuple(parse(name.strip(), spec.names).bits for name in names)
    except UserError as error:
        raise UserError(f"hparams.{method}.hard_set={given}: {error}") from error


def top_variance(variance: Tensor, size: int) -> Tensor:
    """Indicator (2^V,) of the ``size`` largest finite entries of d_j.

    Ties go to the lower index.
    """
    values = variance.tolist()
    finite = [j for j, value in enumerate(values) if value > float("-inf")]
    order = sorted(finite, key=lambda j: (-values[j], j))
    chosen = torch.zeros_like(variance)
    chosen[order[:size]] = 1.0
    return chosen
