"""ShaSpec: a shared encoder beside the specific ones.

What is missing is filled from the shared features that are there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones import Backbone
from harness.method import Features, Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range
from harness.protocol.seeds import Noise
from methods._blocks import masked, masked_concat


class ShaSpec(Method):
    """Shared-specific feature modelling: f_v from shared and specific features where present, from
    the others' shared ones else.

    r_v = f_sha(x_v), one encoder for all modalities, run once on the modalities stacked along the
    batch; s_v = f_spec_v(x_v). Present v: f_v = r_v + f_proj([r_v; s_v]) (residual on the shared
    feature; one linear 1x1 projection for all v). Missing v: f_v = mean of r_j over the present j.
    z = trunk([f_1; ...; f_V]). Loss = mean CE + alpha * DAO + beta * DCO over what is present (Eq.
    4-9): DAO, distribution alignment, = sum over pairs i < j of mean|r_i - r_j| over c,h,w and the
    samples that have both; DCO, domain classification, = mean over present (sample, v) of
    CE(Linear(GAP(s_v)), v). r_v, s_v, f_v (B, c, h, w). Segmentation: this at the deepest scale;
    the skips are the masked shared maps of all modalities.
    """

    citation = (
        "Wang, Chen, Ma, Avery, Hull, Carneiro: Multi-Modal Learning with Missing Modality via"
        " Shared-Specific Feature Modelling, CVPR 2023"
    )
    provenance = (
        "re-implemented from the paper's text and a transcription of its equations; `released` from"
        " the facts of the DMRNet authors' port to CASIA-SURF (the ShaSpec authors released"
        " segmentation code only)"
    )
    deviations = (
        (
            "inputs of unlike shapes get a stem each, to a common shape, before the shared layers;"
            " the paper's share all layers"
        ),
        (
            "the shared trunk and head replace the paper's two fully connected layers with dropout"
            " and its U-Net"
        ),
        (
            "the authors' segmentation code projects by a 3x3x3 convolution, and standardises the"
            " weights of all convolutions of the shared and specific encoders and of the"
            " projection; here the shared backbone's plain convolutions, and a 1x1 projection"
        ),
        (
            "DAO compares maps at the encoder's own size; on backbone=audio_visual these are pooled"
            " vectors, where the DMRNet authors' port pools every map to 7x7 places and compares"
            " those"
        ),
        (
            "DAO is the L1 distance, which the paper chose for BraTS, averaged over c, h, w and"
            " samples, summed over all pairs"
        ),
        (
            "absence acts on features: every available input is encoded, and losses count the"
            " present modalities only"
        ),
        (
            "a missing feature is the mean of the present shared ones, as in the paper; the"
            " authors' segmentation code takes the first"
        ),
        (
            "skips of missing modalities are zeros; the authors' segmentation code has the features"
            " of a zero image there"
        ),
        (
            "`released` leaves out an unused linear layer (c * K + K weights), and tells absence by"
            " the mask, not by a sum of zero"
        ),
        (
            "`released` for V = 2 fills as the authors' audio-visual port does; for V > 3 its order"
            " of filling is our generalisation"
        ),
        "`released` has a pyramid form of our own: the authors ported classification only",
    )
    hyperparameters = {
        "alpha": Range(
            0.1,
            0.02,
            1.0,
            log=True,
            limits=(0.0, 10.0),
            help="weight of DAO, which aligns the shared features",
        ),
        "beta": Range(
            0.02,
            0.02,
            1.0,
            log=True,
            limits=(0.0, 10.0),
            help="weight of DCO, which tells specific features apart",
        ),
    }
    variants = {
        "paper": (
            "residual on the shared feature, one projection, mean of the present shared features,"
            " losses over what is present"
        ),
        "released": (
            "the port: residual on the specific feature, a projection with bias per modality,"
            " shared encoder run per modality, its fill (in slot order, filled slots included; slot"
            " 3 of 3 leaves slot 2 out), MSE over neighbours, DAO and DCO pre-mask"
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation", "regression")
    training_only = ("modality_classifier",)

    alpha: Tensor
    beta: Tensor

    def build(self, backbone: Backbone) -> None:
        count, deepest = len(self.spec.names), backbone.maps[-1].channels
        stems, self.shared = backbone.shared_encoder()
        self.stems = nn.ModuleList(stems)
        released = self.variant == "released"
        projections = count if released else 1
        self.projections = nn.ModuleList(
            nn.Conv2d(2 * deepest, deepest, 1, bias=released) for _ in range(projections)
        )
        channels = [count * scale.channels for scale in backbone.maps]
        self.trunk = backbone.trunk(channels)
        self.head = backbone.head(channels)
        self.modality_classifier = nn.Linear(deepest, count)

    # ------------------------------------------------------------------ encoding

    def encode(self, modality: str, x: Tensor) -> Features:
        v = self.spec.names.index(modality)
        encoded = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        return {
            "specific": self.encoders[v](x),
            "shared": self.shared(self.stems[v](x)),
            "encoded": encoded,
        }

    def encode_all(
        self, inputs: Mapping[str, Tensor], rows: Tensor | None = None
    ) -> list[Features]:
        images = [inputs[name] for name in self.spec.names]
        specific = self._run_each(self.encoders, images, rows)
        stemmed = self._run_each(self.stems, images, rows)
        shared = self._shared(stemmed, rows)
        device = images[0].device
        if rows is None:
            encoded = torch.ones(len(images[0]), len(images), dtype=torch.bool, device=device)
        else:
            encoded = rows.to(device, non_blocking=True)
        parts = zip(specific, shared, encoded.unbind(1), strict=True)
        return [{"specific": s, "shared": r, "encoded": known} for s, r, known in parts]

    def _run_each(
        self, modules: Iterable[nn.Module], inputs: Sequence[Tensor], rows: Tensor | None
    ) -> list[Any]:
        """Each modality's input through its module, on the samples that ``rows`` (B, V) marks."""
        own_rows = [None] * len(inputs) if rows is None else list(rows.T)
        return [
            self._run(module, x, own)
            for module, x, own in zip(modules, inputs, own_rows, strict=True)
        ]

    def _run(self, module: nn.Module, x: Tensor, rows: Tensor | None) -> Any:
        # An identity has no batch norm that other rows could reach, and needs no copy of them.
        if rows is None or isinstance(module, nn.Identity):
            return module(x)
        return self.on_rows(module, module, x, rows)

    def _shared(self, stemmed: Sequence[Tensor], rows: Tensor | None) -> list[tuple[Tensor, ...]]:
        """The shared encoder's maps of each modality.

        One pass over all, so that batch norm sees in training what it sees later.
        """
        if self.variant == "released":
            return self._run_each([self.shared] * len(stemmed), stemmed, rows)
        stacked_rows = None if rows is None else rows.T.flatten()  # (V*B,), as the inputs lie
        maps = self._run(self.shared, torch.cat(list(stemmed)), stacked_rows)
        scales = [scale.chunk(len(stemmed)) for scale in maps]  # (V*B, c, h, w) -> V (B, c, h, w)
        return list(zip(*scales, strict=True))  # from one tuple per scale to one per modality

    def prepare(self, features: Sequence[Features]) -> Any:
        if self.variant == "released":
            return tuple(features)
        project = self.projections[0]
        return tuple(
            {**f, "fused": _residual(f["shared"][-1], f["specific"][-1], project)} for f in features
        )

    # ------------------------------------------------------------------ fusion

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        shared = [f["shared"][-1] for f in features]
        if self.variant == "paper":
            of_present = [f["fused"] for f in features]
            parts = fill(of_present, mean_of_present(shared, present), present)
        else:
            # The residual is on the specific feature, which is zero where it is missing.
            specific = masked([f["specific"][-1] for f in features], present)
            filled = released_fill(shared, present)
            parts = [
                _residual(s, r, project)
                for s, r, project in zip(specific, filled, self.projections, strict=True)
            ]
        skips = masked_concat([f["shared"][:-1] for f in features], present)
        fused = (*skips, torch.cat(parts, 1))
        z = self.trunk(fused)
        return Output(self.head(z, fused), z)

    # ------------------------------------------------------------------ losses

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        terms = super().loss(output, batch)
        shared = [f["shared"][-1] for f in batch.features]
        specific = [f["specific"][-1] for f in batch.features]
        if self.variant == "paper":
            shown = batch.present
            pairs = list(itertools.combinations(range(len(shared)), 2))
            power = 1  # L1
        else:
            # Before the mask, but neither of what a sample lacks nor of what the encode policy left
            # out.
            shown = batch.available & torch.stack([f["encoded"] for f in batch.features], 1)
            pairs = list(itertools.pairwise(range(len(shared))))
            power = 2  # MSE
        terms["dao"] = self.alpha * alignment(shared, shown, pairs, power)
        terms["dco"] = self.beta * domain_classification(self.modality_classifier, specific, shown)
        return terms


def _residual(base: Tensor, other: Tensor, project: nn.Module) -> Tensor:
    """base + project([base; other])."""
    projected: Tensor = project(torch.cat([base, other], 1))
    return base + projected


def mean_of_present(features: Sequence[Tensor], present: Tensor) -> Tensor:
    """(1/n) sum over the present modalities of (B, ...) features."""
    n = present.sum(1).reshape(-1, *[1] * (features[0].dim() - 1))
    return torch.stack(masked(features, present)).sum(0) / n


def fill(features: Sequence[Tensor], filler: Tensor, present: Tensor) -> list[Tensor]:
    """Each modality's features where it is present, ``filler`` where it is missing."""
    shape = (-1, *[1] * (filler.dim() - 1))
    return [torch.where(present[:, v].reshape(shape), f, filler) for v, f in enumerate(features)]


def released_fill(features: Sequence[Tensor], present: Tensor) -> list[Tensor]:
    """The port's filling of missing shared features, slips included.

    Slot after slot, a missing one becomes the sum of the others as they are by then (absent ones
    zero, earlier ones already filled) over the number of modalities present. Of three slots the
    third leaves out the second.
    """
    current = masked(features, present)
    n = present.sum(1).reshape(-1, *[1] * (current[0].dim() - 1))
    for v in range(len(current)):
        left_out = {v, 1} if len(current) == 3 and v == 2 else {v}
        others = [j for j in range(len(current)) if j not in left_out]
        filler = torch.stack([current[j] for j in others]).sum(0) / n
        current[v] = fill([current[v]], filler, present[:, v : v + 1])[0]
    return current


def alignment(
    features: Sequence[Tensor], shown: Tensor, pairs: Sequence[tuple[int, int]], power: int
) -> Tensor:
    """DAO, 0-d: how far the modalities' shared features lie apart.

    Per pair the mean |r_i - r_j|^power over c, h, w and the samples that show both (0 if none),
    summed over pairs.
    """
    total = torch.zeros((), device=shown.device)
    for i, j in pairs:
        # Not shown[:, [i, j]]: a list of positions would be copied to the device in every step.
        both = shown[:, i] & shown[:, j]  # (B,)
        a, b = masked([features[i], features[j]], both[:, None].expand(-1, 2))
        distance = (a - b).abs().pow(power).flatten(1).mean(1)  # (B,), 0 without both
        total = total + distance.sum() / both.sum().clamp_min(1)
    return total


def domain_classification(
    classifier: nn.Module, features: Sequence[Tensor], shown: Tensor
) -> Tensor:
    """DCO, 0-d: the cross-entropy of telling the modality from its pooled features.

    The mean over the shown (sample, modality).
    """
    pooled = torch.stack([f.mean((2, 3)) for f in masked(features, shown)], 1)  # (B, V, c)
    logits = classifier(pooled).flatten(0, 1)  # (B*V, V): the modalities are the classes
    own = torch.arange(len(features), device=shown.device).expand(len(pooled), -1)  # (B, V)
    losses = F.cross_entropy(logits, own.flatten(), reduction="none")
    return (losses * shown.flatten()).sum() / shown.sum()
