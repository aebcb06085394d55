"""RFNet: region-aware fusion, with a unimodal regulariser and a staged start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones import Backbone
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import EpochContext, Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.schedules import epoch_at
from harness.protocol.seeds import Noise
from methods._blocks import masked
from methods._rfnet import (
    FEWEST_PLACES,
    Guide,
    LinearPredictor,
    Predictor,
    RegionFusion,
    RegionMaps,
    grouping,
    norm_for,
)


class RFNet(Method):
    """Soft regions from probability maps (PRM), gated modalities per region (RFM), a unimodal
    predictor as regulariser.

    y_v = f_v where present, else 0. PRM: Q = class logits per place from [y_1; ...; y_V]; P =
    softmax(Q), gradient stopped, the classes beyond K - 1 merged into one region. RFM: A_{v,k} =
    sum(y_v P_k) / sum(P_k); w_k = sigmoid(FC(leaky ReLU(FC([A_{1,k}; ...; A_{V,k}; mean P_k]))));
    R_k = P_k sum_v w_{k,v} y_v; fused = [conv([R_1; ...; R_K]); conv([y_1; ...; y_V])], c channels,
    to the trunk. Loss = omega(e) CE(fused) + sum_v (1/B) sum_b delta_bv CE(sep(f_v)) + CE(PRM);
    omega = 0 during warm-up, then 1. CE(PRM) looks at the mean of Q over places in classification,
    at every place, summed over scales, in segmentation. f_v, y_v, R_k (B, c, h, w); Q (B, M, h, w)
    with M classes; P (B, K, h, w).
    """

    citation = (
        "Ding, Yu, Yang: RFNet: Region-aware Fusion Network for Incomplete Multi-modal Brain Tumor"
        " Segmentation, ICCV 2021"
    )
    provenance = (
        "re-implemented from the facts of the official code, in two dimensions; the classification"
        " form is our design: no transplant of RFNet to classification is public"
    )
    deviations = (
        (
            "the shared backbone and the task loss replace the 3D U-Net and the weighted"
            " cross-entropy plus Dice, for all predictions"
        ),
        (
            "classification has no labels per place: the PRM learns from the image's label, by"
            " cross-entropy on Q's mean over places"
        ),
        (
            "with more than `regions` classes the rarest ones (counted in the first epoch) are one"
            " region; the paper has one per class"
        ),
        (
            "where modalities are not spatially aligned, or maps have one place, K = 1: regions,"
            " PRM and its loss are left out, the gates see plain averages"
        ),
        (
            "the unimodal loss counts present modalities only, by default; the official code counts"
            " all, masked or not (hparams.rfnet.sep_absent=true)"
        ),
        (
            "norm: batch norm without parameters on maps of fewer than 4x4 places, of which"
            " instance norm leaves little"
        ),
        "convolutions pad with zeros, not reflections, which a 1x1 map does not have",
        (
            "PRM, RFM and gates start from PyTorch's default values; the official code draws the"
            " weights of every convolution, of which its gates are two, Kaiming-normal"
        ),
        (
            "segmentation: the guide from the deeper scale is a light path of its own, since the"
            " shared decoder runs after the fusion"
        ),
        (
            "segmentation: PRM losses use labels resized to each scale (nearest); the official code"
            " upsamples the maps"
        ),
        (
            "warm-up takes 7 of 100 epochs (hparams.rfnet.warm_up), the share of the official"
            " launch script (20 of 300; the argument's default is 100 of 300). It takes at least"
            " one epoch and leaves at least one to the fused prediction"
        ),
    )
    hyperparameters = {
        "sep_head": Range(
            "trunk",
            choices=("trunk", "linear"),
            help="unimodal predictor: a trunk of its own, or one layer (after late fusion)",
        ),
        "sep_absent": Range(
            False,
            help=(
                "true: the unimodal loss counts all available modalities, shown or not, as"
                " published (train.encode=dense)"
            ),
        ),
        "regions": Range(
            8, 2, 8, limits=(1, 64), help="at most this many regions K; never more than classes"
        ),
        "norm": Range(
            "auto",
            choices=("auto", "instance", "batch"),
            help="in PRM and RFM; auto: instance on maps of at least 4x4 places",
        ),
        "warm_up": Range(
            7,
            limits=(0, 99),
            added_later=True,
            help=(
                "epochs (of 100, scaled) in which the loss of the fused prediction has weight 0; 0:"
                " none"
            ),
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation")
    unfit = {"regression": "it fuses region by region, and its regions are the classes"}
    training_only = ("sep.",)

    omega: Tensor
    counting: Tensor
    counts: Tensor
    groups: Tensor

    def build(self, backbone: Backbone) -> None:
        scales, classes = backbone.maps, len(self.spec.classes)
        self.places = max(s.height * s.width for s in scales)
        self.k = region_count(self.spec, int(self.settings["regions"])) if self.places > 1 else 1
        self.small_maps = [
            f"{s.height}x{s.width}" for s in scales if s.height * s.width < FEWEST_PLACES
        ]
        self._build_fusion(backbone)
        channels = [scale.channels for scale in scales]
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)
        linear = self.settings["sep_head"] == "linear"
        self.sep = (
            LinearPredictor(channels[-1], classes) if linear else Predictor(backbone, channels)
        )
        self.register_buffer("omega", torch.tensor(1.0), persistent=False)
        self.register_buffer("counting", torch.tensor(0.0), persistent=False)
        self.register_buffer("counts", torch.zeros(classes))
        self.register_buffer("groups", grouping(self.counts, self.k))

    def _build_fusion(self, backbone: Backbone) -> None:
        scales, count, classes = backbone.maps, len(self.spec.names), len(self.spec.classes)
        last = len(scales) - 1
        norms = [norm_for(scale, str(self.settings["norm"])) for scale in scales]
        self.rfm = nn.ModuleList(
            RegionFusion(s.channels, count, self.k, norm)
            for s, norm in zip(scales, norms, strict=True)
        )
        self.prm, self.guides = nn.ModuleList(), nn.ModuleList()
        if self.k == 1:
            return
        for s, scale in enumerate(scales):
            guided = s < last  # by the next deeper scale
            self.prm.append(RegionMaps(scale.channels, count, classes, guided, norms[s]))
        for s in range(last):
            merging = s + 1 < last
            self.guides.append(Guide(scales[s + 1], scales[s], merging, (norms[s + 1], norms[s])))

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        scales = [masked(scale, present) for scale in zip(*features, strict=True)]
        fused: list[Tensor] = []  # deepest scale first, as are the logits
        logits: list[Tensor] = []
        guide = None
        # From the deepest scale up: each PRM is guided by what the deeper one led to.
        for s in reversed(range(len(scales))):
            y = scales[s]
            if self.k > 1:
                guide = self.guides[s](fused[-1], guide) if fused else None
                logits.append(self.prm[s](torch.cat(y, 1), guide))
                regions = self.regions(logits[-1])
            else:
                regions = torch.ones_like(y[0][:, :1])  # one region, which is the whole map
            fused.append(self.rfm[s](y, regions))
        maps = tuple(reversed(fused))
        z = self.trunk(maps)
        extra = {f"prm/{depth}": q for depth, q in enumerate(logits)}
        return Output(self.head(z, maps), z, extra=extra)

    def regions(self, logits: Tensor) -> Tensor:
        """P (B, K, h, w) of class logits Q (B, M, h, w).

        No gradient passes, so that only its own loss trains the PRM.
        """
        p = logits.detach().float().softmax(1)
        if self.k == p.shape[1]:
            return p
        return torch.einsum("bmhw,mk->bkhw", p, self.groups)

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        terms = {"task": self.omega * self.task_loss(output.logits, batch.target).mean()}
        if output.extra:
            maps = [output.extra[f"prm/{depth}"] for depth in range(len(self.prm))]
            terms["prm"] = torch.stack([self._prm_loss(q, batch.target) for q in maps]).sum()
            finest = maps[-1]
            self._count(labels_for(finest, batch.target))
        return terms | self._sep_losses(batch)

    def _prm_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted = logits.mean((2, 3)) if target.dim() == 1 else logits
        return self.task_loss(predicted, labels_for(logits, target)).mean()

    def _sep_losses(self, batch: TrainBatch) -> Losses:
        shown = batch.available if self.settings["sep_absent"] else batch.present
        scales = [masked(scale, shown) for scale in zip(*batch.features, strict=True)]
        losses = {}
        for v, name in enumerate(self.spec.names):
            alone = self.sep(tuple(scale[v] for scale in scales))
            loss = self.task_loss(alone, batch.target)  # (B,)
            losses[f"sep/{name}"] = (loss * shown[:, v]).mean()
        return losses

    def _count(self, labels: Tensor) -> None:
        """Count the classes of the first epoch.

        They decide the regions when there are more classes than regions.
        """
        # By comparison: bincount would read the largest label from the device. Void matches none.
        classes = torch.arange(self.counts.shape[0], device=labels.device)
        member = labels.reshape(-1, 1) == classes  # (labels, M)
        self.counts += self.counting * member.sum(0)

    def begin_epoch(self, context: EpochContext) -> None:
        self.omega.fill_(float(context.epoch >= warm_up(context, self._published)))
        self.counting.fill_(float(context.epoch == 0))
        self.groups.copy_(grouping(self.counts, self.k))

    def remarks(self, epochs: int) -> list[str]:
        names = self.spec.classes
        sentences = []
        if not self.spec.aligned or self.places == 1:
            why = "the network's maps have one place"
            if not self.spec.aligned:
                why = "the modalities are not spatially aligned"
            sentences.append(
                f"K = 1: {why}, so regions, their maps (PRM) and their loss are left out"
            )
        elif 1 < self.k < len(names):
            # All regions but the last have one class each: their columns of `groups` have one 1.
            owners = self.groups[:, : self.k - 1].T.nonzero()[:, 1].tolist()
            alone = [names[m] for m in owners]
            sentences.append(
                f"K = {self.k} regions: {', '.join(alone)}, and the other {len(names) - len(alone)}"
                " classes together"
            )
        if self.small_maps and self.settings["norm"] == "auto":
            sentences.append(
                f"batch norm in place of instance norm on maps of {', '.join(self.small_maps)}"
                " places"
            )
        start = warm_up(EpochContext(0, epochs, self.combinations), self._published)
        scaled = epoch_at(self._published, epochs)
        if self._published and (scaled == 0 or start < scaled):
            sentences.append(
                f"warm-up took {start} of {epochs} epochs, not {self._published} of 100"
            )
        return sentences

    @property
    def _published(self) -> int:
        return int(self.settings["warm_up"])

    @classmethod
    def uses_unshown(cls, hparams: Mapping[str, Value]) -> str:
        return "sep_absent" if hparams["sep_absent"] else ""

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        if spec.task == "segmentation" and hparams.get("sep_head") == "linear":
            raise UserError(
                "hparams.rfnet.sep_head=linear does not segment; use sep_head=trunk, a decoder"
                " shared by the modalities"
            )


def warm_up(context: EpochContext, published: int) -> int:
    """The first epoch that trains the fused prediction; at the latest the last one.

    ``published``: that epoch in a run of 100; 0 for no warm-up.
    """
    return min(context.starts(published), context.epochs - 1) if published else 0


def region_count(spec: DataSpec, most: int) -> int:
    """K: one region per class, at most ``most``; 1 where modalities are not spatially aligned."""
    return min(len(spec.classes), most) if spec.aligned else 1


def labels_for(logits: Tensor, target: Tensor) -> Tensor:
    """The target of a map (B, M, h, w).

    A label map (B, H, W) is resized to (h, w) by nearest neighbour; labels (B,) stay as they are.
    """
    if target.dim() == 1:
        return target
    resized = F.interpolate(
        target.unsqueeze(1).float(), size=logits.shape[-2:], mode="nearest-exact"
    )
    return resized.squeeze(1).long()
