"""mmFormer: attention within each modality, then across all, missing ones' tokens zeroed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, Passed
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import Losses, Method, Output, TrainBatch
from harness.protocol.hyperparameters import Range, Value
from harness.protocol.label_maps import chunk
from harness.protocol.seeds import Noise
from methods._blocks import masked, masked_concat
from methods._mmformer import (
    MapHead,
    ReleasedBranch,
    ScaleFusion,
    TransformerLayer,
    to_map,
    to_tokens,
)

RELEASED_SIZES = {"d": 512, "heads": 8, "mlp": 4096}
PAPER_ONLY = ("missing_tokens", "sep_head", "unmask_aux")


class MMFormer(Method):
    """Intra-modal transformers, masking, one inter-modal transformer over all modalities' tokens,
    auxiliary predictions.

    t_v = layer_v(conv1x1_v(f_v) + p_v), N = h*w tokens of width d; t_v = 0 where v is missing; u =
    layer([t_1; ...; t_V] + [p_1; ...; p_V]) on V*N tokens, the same positions p_v (zero at first)
    again; u is put back in place, (B, V*d, h, w), and a 1x1 convolution gives V*c channels for
    SF-MD's trunk. layer: x + Drop(Proj(Attn(LN x))), then x + MLP(LN x). Loss = mean CE + aux_scale
    * (sum over v of (1/B) sum_b delta_bv CE of a shared predictor on f_v alone + CE of linear
    predictors on the re-projected map and on maps between fusion and logits). Segmentation: this at
    the deepest scale; at every scale 1x1, 3x3 and 1x1 convolutions fuse V*c channels to c. f_v (B,
    c, h, w).
    """

    citation = (
        "Zhang, He, Yang, Li, Wei, Huang, Zhang, He, Zheng: mmFormer: Multimodal Medical"
        " Transformer for Incomplete Multimodal Learning of Brain Tumor Segmentation, MICCAI 2022"
    )
    provenance = (
        "re-implemented from the facts of the authors' released code; `released` from the facts of"
        " the class that the DMRNet authors' CASIA-SURF test script loads (SURF_Fomer_Auxi_Weak)"
    )
    deviations = (
        (
            "the shared 2D backbone replaces the 3D encoder and decoder; cross-entropy replaces"
            " weighted cross-entropy and Dice"
        ),
        (
            "tokens are put back place by place; the authors' code views V consecutive tokens of"
            " one modality as one place"
        ),
        (
            "the predictor on single modalities counts the present ones, over B, by default; the"
            " authors' counts all, masked or not (hparams.mmformer.unmask_aux=true)"
        ),
        (
            "d = 256 and an MLP of 1024 by default, for their cost; the authors have 512 and 4096"
            " (hparams.mmformer.d=512, hparams.mmformer.mlp=4096)"
        ),
        "the attention's projection is dropped once; the authors' code drops it twice in a row",
        (
            "the convolutions to and from tokens and those of the scale fusion start from PyTorch's"
            " default values; the authors' code draws the weights of every convolution"
            " Kaiming-normal"
        ),
        (
            "classification, its deep supervision and the pyramid's shared decoder are our design:"
            " the paper segments volumes"
        ),
        (
            "the shared backbone pads with zeros; the authors' encoder and decoders by reflection,"
            " their scale fusion with zeros, as here"
        ),
        (
            "deep supervision in classification is linear in a map's layer-normalised mean: the"
            " mean itself is not bounded by any norm here, and on it training diverged (SGD,"
            " learning rate 0.05, d = 256)"
        ),
        (
            "`released`: no training script uses that class, so its loss is inferred from the"
            " auxiliary loop of MMANet's trainer"
        ),
        (
            "`released`: d, heads and mlp are hyperparameters here; the class has 512, 8 and 4096,"
            " and no inter-modal transformer"
        ),
        (
            "`released`: its three auxiliary outputs, identical, are computed once and weighted by"
            " the number of present modalities"
        ),
        (
            "`released` has a pyramid form of our own, masked concatenation on the skips: the"
            " authors released classification only"
        ),
    )
    hyperparameters = {
        "d": Range(256, choices=(16, 32, 64, 128, 256, 512, 1024), help="token width"),
        "heads": Range(8, choices=(1, 2, 4, 8, 16), help="attention heads"),
        "mlp": Range(
            1024, low=64, high=4096, log=True, limits=(1, 65536), help="width of the layers' MLP"
        ),
        "dropout": Range(
            0.1, 0.0, 0.3, limits=(0.0, 0.9), help="dropout probability inside the layers"
        ),
        "aux_scale": Range(
            1.0, 0.1, 1.0, log=True, limits=(0.0, 10.0), help="weight of every auxiliary loss"
        ),
        "missing_tokens": Range(
            "zero_pos",
            choices=("zero_pos", "key_mask"),
            help=(
                "zero_pos: missing tokens are zero plus position and are attended to; key_mask:"
                " they are not attended to"
            ),
        ),
        "sep_head": Range(
            "trunk",
            choices=("trunk", "linear"),
            help="shared single-modality predictor: trunk and head, or linear",
        ),
        "unmask_aux": Range(
            False,
            help=(
                "train the single-modality predictor on available modalities that are not shown,"
                " too (train.encode=dense)"
            ),
        ),
    }
    variants = {
        "paper": "intra- and inter-modal transformers, single-modality and deep supervision",
        "released": (
            "SURF_Fomer_Auxi_Weak: mask, then per modality BN, 3x3 conv, one layer (GELU in its"
            " tanh form) and 3x3 conv; no inter-modal transformer; one auxiliary predictor from the"
            " trunk's last stage on, weighted by the number of present modalities"
        ),
    }
    tasks = ("classification", "anti_spoofing", "segmentation", "regression")
    training_only = ("auxiliary",)

    dropout: Tensor
    aux_scale: Tensor

    # ------------------------------------------------------------------ modules

    def build(self, backbone: Backbone) -> None:
        self.dense = self.spec.task == "segmentation"
        self.shape = backbone.maps[-1]
        self.sizes = [int(self.settings[key]) for key in RELEASED_SIZES]
        if self.variant == "paper":
            build_fusion, auxiliary = self._build_paper, self._paper_auxiliary
        else:
            build_fusion, auxiliary = self._build_released, self._released_auxiliary
        fused = build_fusion(backbone)
        self.trunk, self.head = backbone.trunk(fused), backbone.head(fused)
        # Gives the maps inside trunk and head too, which deep supervision reads.
        self._through = backbone.through
        self.auxiliary = auxiliary(backbone, fused)

    def _build_paper(self, backbone: Backbone) -> list[int]:
        """Tokenisers, layers, re-projection, scale fusion; the channels of the fused maps."""
        count, (c, h, w) = len(self.spec.names), self.shape
        d, heads, mlp = self.sizes
        self.tokenisers = nn.ModuleList(nn.Conv2d(c, d, 1) for _ in range(count))
        self.positions = nn.ParameterList(torch.zeros(1, h * w, d) for _ in range(count))
        self.intra = nn.ModuleList(TransformerLayer(d, heads, mlp) for _ in range(count))
        self.inter = TransformerLayer(d, heads, mlp)
        self.reproject = nn.Conv2d(count * d, count * c, 1)
        channels = [scale.channels for scale in backbone.maps]
        if not self.dense:
            return [count * c]
        if h * w == 1:
            raise UserError(
                "mmformer segments with instance norm, which needs more than 1x1 at the deepest"
                " scale; use larger inputs"
            )
        self.scale_fusion = nn.ModuleList(ScaleFusion(count * each, each) for each in channels)
        return channels

    def _build_released(self, backbone: Backbone) -> list[int]:
        self.branches = nn.ModuleList(
            ReleasedBranch(self.shape, *self.sizes) for _ in self.spec.names
        )
        return [len(self.spec.names) * scale.channels for scale in backbone.maps]

    def _paper_auxiliary(self, backbone: Backbone, fused: Sequence[int]) -> nn.ModuleDict:
        outputs, own = self.spec.outputs, [scale.channels for scale in backbone.maps]
        deep = nn.ModuleList(
            MapHead(channels, outputs, self.dense)
            for channels in (fused[-1], *backbone.inner, *backbone.decoded)
        )
        if self.settings["sep_head"] == "linear":
            return nn.ModuleDict({"deep": deep, "head": MapHead(own[-1], outputs, self.dense)})
        trunk, head = backbone.trunk(own), backbone.head(own)
        return nn.ModuleDict({"deep": deep, "trunk": trunk, "head": head})

    def _released_auxiliary(self, backbone: Backbone, fused: Sequence[int]) -> nn.ModuleDict:
        return nn.ModuleDict({"stage": backbone.last_stage(fused), "head": backbone.head(fused)})

    # ------------------------------------------------------------------ what no mask touches

    def prepare(self, features: Sequence[tuple[Tensor, ...]]) -> Any:
        """The maps, and in evaluation what dropout and batch norm do not forbid to cache:
        intra-modal tokens (released: maps).
        """
        if self.training:
            return tuple({"maps": maps} for maps in features)
        if self.variant == "paper":
            return tuple(
                {"maps": maps, "tokens": self._intra(v, maps[-1], None)}
                for v, maps in enumerate(features)
            )
        return tuple(
            {"maps": maps, **self._branch_outputs(v, maps[-1])} for v, maps in enumerate(features)
        )

    def _intra(self, v: int, deepest: Tensor, noise: Noise | None) -> Tensor:
        tokens = to_tokens(self.tokenisers[v](deepest))
        return self.intra[v](tokens + self.positions[v], self.dropout, noise)  # type: ignore[no-any-return]

    def _branch_outputs(self, v: int, deepest: Tensor) -> dict[str, Tensor]:
        branch = self.branches[v]
        # In evaluation an absent modality's output is the same for every sample.
        absent = branch(torch.zeros_like(deepest[:1]), self.dropout)
        return {"shown": branch(deepest, self.dropout), "absent": absent.expand_as(deepest)}

    # ------------------------------------------------------------------ fusion

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        skips = masked_concat([f["maps"][:-1] for f in features], present)
        fuse_deepest = self._inter if self.variant == "paper" else self._branches
        fused = (*skips, fuse_deepest(features, present, noise))
        if self.variant == "paper" and self.dense:
            fused = tuple(
                fusion(maps) for fusion, maps in zip(self.scale_fusion, fused, strict=True)
            )
        passed = self._through(self.trunk, self.head, fused)
        output = Output(passed.logits, passed.z)
        if noise is not None:
            self._supervise(output, fused, passed, present)
        return output

    def _inter(self, features: Any, present: Tensor, noise: Noise | None) -> Tensor:
        """The re-projected map (B, V*c, h, w) of the transformer over all modalities."""
        tokens = masked(self._tokens(features, present, noise), present)  # V times (B, N, d)
        # Positions are added after the mask: a missing token is its position, not zero.
        placed = [t + p for t, p in zip(tokens, self.positions, strict=True)]
        keys = None
        if self.settings["missing_tokens"] == "key_mask":
            keys = present.repeat_interleave(tokens[0].shape[1], 1)  # (B, V*N)
        mixed = self.inter(torch.cat(placed, 1), self.dropout, noise, keys)  # (B, V*N, d)
        _, h, w = self.shape
        return self.reproject(to_map(mixed, len(tokens), h, w))  # type: ignore[no-any-return]

    def _tokens(self, features: Any, present: Tensor, noise: Noise | None) -> list[Tensor]:
        if all("tokens" in f for f in features):
            return [f["tokens"] for f in features]
        # Masked already here, so that nothing of an absent modality reaches a gradient; masked
        # again, for good, afterwards.
        zeroed = masked([f["maps"][-1] for f in features], present)
        return [self._intra(v, y, noise) for v, y in enumerate(zeroed)]

    def _branches(self, features: Any, present: Tensor, noise: Noise | None) -> Tensor:
        if all("shown" in f for f in features):
            place = (-1, 1, 1, 1)
            outputs = [
                torch.where(present[:, v].reshape(place), f["shown"], f["absent"])
                for v, f in enumerate(features)
            ]
            return torch.cat(outputs, 1)
        zeroed = masked([f["maps"][-1] for f in features], present)
        branches = zip(self.branches, zeroed, strict=True)
        return torch.cat([branch(y, self.dropout, noise) for branch, y in branches], 1)

    # ------------------------------------------------------------------ auxiliary predictions

    def _supervise(
        self, output: Output, fused: tuple[Tensor, ...], passed: Passed, present: Tensor
    ) -> None:
        weight = self.aux_scale.expand(len(present))
        if self.variant == "released":
            # The input of the trunk's last stage; the fused map where that is the only stage.
            before_last = passed.inner[-1] if passed.inner else fused[-1]
            logits = self.auxiliary["head"](self.auxiliary["stage"]((before_last,)), fused)
            output.aux["weak"] = (logits, weight * present.sum(1))
            return
        deep: Any = self.auxiliary["deep"]
        for number, maps in enumerate((fused[-1], *passed.inner, *passed.decoded)):
            output.aux[f"deep{number}"] = (deep[number](maps, output.logits.shape[2:]), weight)

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        if self.variant == "paper":
            shown = batch.available if self.settings["unmask_aux"] else batch.present
            alone = self._single_modality(batch.features, shown, output.logits.shape[2:])
            for v, logits in enumerate(alone):
                output.aux[f"sep_{self.spec.names[v]}"] = (logits, self.aux_scale * shown[:, v])
        return super().loss(output, batch)

    def _single_modality(
        self, features: Any, shown: Tensor, size: Sequence[int]
    ) -> Sequence[Tensor]:
        """Logits of every modality alone from the one predictor.

        It runs once, on all modalities stacked along the batch.
        """
        scales = zip(*(f["maps"] for f in features), strict=True)
        stacked = tuple(torch.cat(masked(maps, shown)) for maps in scales)  # (V*B, c, h, w) each
        head = self.auxiliary["head"]
        if "trunk" in self.auxiliary:
            alone = head(self.auxiliary["trunk"](stacked), stacked)
        else:
            alone = head(stacked[-1], size)
        return chunk(alone, len(features))

    # ------------------------------------------------------------------ for the user

    def remarks(self, epochs: int) -> list[str]:
        if self.variant == "paper" or self.sizes == list(RELEASED_SIZES.values()):
            return []
        used = ", ".join(
            f"{key}={value}" for key, value in zip(RELEASED_SIZES, self.sizes, strict=True)
        )
        theirs = ", ".join(f"{key}={value}" for key, value in RELEASED_SIZES.items())
        return [f"of another size than the released class: {used} instead of {theirs}"]

    @classmethod
    def uses_unshown(cls, hparams: Mapping[str, Value]) -> str:
        return "unmask_aux" if hparams["unmask_aux"] else ""

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        defaults = {key: cls.hyperparameters[key].default for key in PAPER_ONLY}
        idle = [key for key in PAPER_ONLY if hparams.get(key, defaults[key]) != defaults[key]]
        if variant == "released" and idle:
            raise UserError(
                f"hparams.mmformer.{idle[0]} does not apply to mmformer:released, which has no such"
                " part; leave it out"
            )
