"""The author's contract for a method.

A method is one file in ``methods/`` with one public subclass of :class:`Method`; its file name is
its registry name. It owns its fusion, its extra heads and its losses; the harness owns everything
else. Shape legend: B batch, V modalities, K classes, (c, h, w) a feature map, D = c*h*w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from harness.dataset import DataSpec
from harness.errors import TrialFailure, UserError
from harness.protocol.combinations import Combination, lattice
from harness.protocol.hyperparameters import Range, Value, resolve
from harness.protocol.label_maps import labels_at, pixel_loss, sides_of
from harness.protocol.schedules import epoch_at
from harness.protocol.seeds import Noise

if TYPE_CHECKING:
    from harness.backbones import Backbone

Features = Any
"""Whatever ``encode`` returns for one modality: a tree of tensors whose first dimension is the
batch.
"""

Role = Literal["baseline", "method", "ablation", "control", "reference"]

Losses = dict[str, Tensor]
"""Named 0-d terms, already weighted; the training loss is their sum, and each is logged."""


@dataclass
class Output:
    """What ``fuse`` returns.

    Attributes:
        logits: (B, K), or (B, K, H, W) for segmentation; (B, 1) for regression, standardised as
            training labels are (``Method.predicted`` gives them the labels' unit).
        z: the penultimate representation, before the head.
        aux: auxiliary predictions: name -> (logits, per-sample weight (B,)).
        extra: other tensors that the method's own loss needs.
    """

    logits: Tensor
    z: Tensor
    aux: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TrainBatch:
    """One training batch.

    Attributes:
        inputs: modality -> (B, C, H, W).
        target: (B,), or (B, H, W); of a regression (B,) float32 in the labels' unit.
        available: (B, V) bool, what each sample has.
        present: (B, V) bool, what ``fuse`` was shown; contained in ``available``.
        index: (B,) int64, the samples' positions in the training split.
        features: what ``prepare`` returned for the batch.
        phase: (epoch, epochs), both Python integers.
        noise: the batch's random stream.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    available: Tensor
    present: Tensor
    index: Tensor
    features: Features
    phase: tuple[int, int]
    noise: Noise


@dataclass
class EpochContext:
    """What the epoch hooks may look at: never test data.

    In ``begin_epoch`` there is no validation yet: ``val_scores`` and ``val_target`` are None,
    ``val_values`` is empty.

    Attributes:
        epoch: 0-based.
        epochs: of the whole run.
        combinations: the C = 2^V - 1 combinations.
        val_scores: (C, N, K) scores; of a segmentation (C, N, K, K) confusion counts per image,
            rows = target.
        val_target: (N,); None for a segmentation, whose counts tell what is needed of it.
        val_values: combination name -> the dataset's metric on val, NaN for a combination that no
            sample has.
        val_available: (N, V) bool, what each sample of val has; None where all have everything.
    """

    epoch: int
    epochs: int
    combinations: tuple[Combination, ...]
    val_scores: Tensor | None = None
    val_target: Tensor | None = None
    val_values: Mapping[str, float] = field(default_factory=dict)
    val_available: Tensor | None = None

    def predicted_shares(self) -> Tensor:
        """Share of each class among the predictions on val, (C, K) float32: of samples, or of a
        segmentation's pixels.

        Only samples that have every modality count, so that combinations are compared on the same
        ones. TrialFailure where there is none.
        """
        scores = self.val_scores
        if scores is None:
            raise ValueError("there are no predictions before an epoch's validation")
        if self.val_available is not None:
            complete = self.val_available.all(1)
            if not complete.any():
                raise TrialFailure(
                    "predictions of all combinations are compared on samples of val that have"
                    " every modality, and there is none"
                )
            scores = scores[:, complete]
        if scores.dim() == 4:
            pixels = scores.sum((1, 2))  # (C, K), over samples and true classes
            return pixels / pixels.sum(1, keepdim=True)
        classes = torch.arange(scores.shape[-1])
        predicted = scores.argmax(-1, keepdim=True) == classes  # (C, N, K), a True in each row
        return predicted.float().mean(1)

    def starts(self, published: int) -> int:
        """The epoch at which a phase begins that the paper starts at epoch ``published`` of 100.

        Never before epoch 1.
        """
        return max(1, epoch_at(published, self.epochs))


@dataclass(frozen=True)
class Need:
    """A model that must be trained before: ``method`` with its defaults, same data, network, recipe
    and seed, all modalities.
    """

    method: str


class Method(nn.Module):
    """Base of all methods: builds one encoder per modality from the shared backbone.

    Subclasses build the rest and fuse.

    Hyperparameters whose default is a float are 0-d tensor buffers of the same name
    (``self.alpha``); the others are Python values in ``self.settings``.

    Class attributes an author sets: ``citation``, ``provenance``, ``deviations``,
    ``hyperparameters``, ``variants`` (name -> what it computes), ``tasks``, ``training_only``
    (prefixes of parameters that are not deployed), ``needs`` (name -> model handed to ``adopt``),
    ``role`` (what a row of it is for; baseline and methods make up the entry ``all``),
    ``unfit`` (task -> why the method does not do it),
    ``needs_complete_data``, ``per_combination`` (one model is trained for each combination),
    ``identity`` (the method and hyperparameters that this name is short for; it shares their
    trials), ``joint`` (it works on networks that mix modalities while encoding), ``separate`` (it
    works on networks of one encoder per modality; the default), ``float32_only`` (why its numbers
    do not survive train.precision=bf16, for the plan; empty where they do).
    """

    citation: ClassVar[str]
    provenance: ClassVar[str]
    deviations: ClassVar[tuple[str, ...]] = ()
    hyperparameters: ClassVar[Mapping[str, Range]] = {}
    variants: ClassVar[Mapping[str, str]] = {"paper": "the published operator"}
    tasks: ClassVar[tuple[str, ...]] = ("classification", "anti_spoofing")
    unfit: ClassVar[Mapping[str, str]] = {}
    training_only: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Mapping[str, Need]] = {}
    role: ClassVar[Role] = "method"
    needs_complete_data: ClassVar[bool] = False
    per_combination: ClassVar[bool] = False
    identity: ClassVar[tuple[str, Mapping[str, Value]] | None] = None
    joint: ClassVar[bool] = False
    separate: ClassVar[bool] = True
    float32_only: ClassVar[str] = ""

    class_weights: Tensor | None
    label_scale: Tensor | None

    def __init__(
        self, backbone: Backbone, variant: str = "paper", hparams: Mapping[str, Value] | None = None
    ) -> None:
        super().__init__()
        self.spec: DataSpec = backbone.spec
        self.variant = variant
        self.settings: dict[str, Value] = {}
        self._set_hyperparameters(hparams or {})
        self.check_backbone(backbone)
        self.mixes_while_encoding = backbone.joint
        weights = self.spec.class_weights
        self.register_buffer(
            "class_weights", None if weights is None else torch.tensor(weights), persistent=False
        )
        # With the weights, so that these alone predict in the labels' unit.
        scale = self.spec.label_scale
        self.register_buffer("label_scale", None if scale is None else torch.tensor(scale))
        self.starved_encoders = 0
        # Encoders first: methods that share a seed then start from the same encoder weights.
        self.encoders = nn.ModuleList(backbone.encoder(modality) for modality in self.spec.names)
        self.build(backbone)

    def _set_hyperparameters(self, given: Mapping[str, Value]) -> None:
        values = resolve("hyperparameter", self.hyperparameters, given, type(self).__name__)
        for key, value in values.items():
            if isinstance(value, float):
                self.register_buffer(key, torch.tensor(value), persistent=False)
            else:
                self.settings[key] = value

    # ------------------------------------------------------------------ what an author writes

    def build(self, backbone: Backbone) -> None:
        """Create the modules beyond the encoders (trunk, head, own layers)."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")

    def encode(self, modality: str, x: Tensor) -> Features:
        """Encode one modality, (B, C, H, W) -> features; never sees a mask.

        Default: the backbone's encoder.
        """
        return self.encoders[self.spec.names.index(modality)](x)

    def prepare(self, features: Sequence[Features]) -> Any:
        """Everything beyond the encoders that no mask touches; cached over combinations.

        Default: the features themselves.
        """
        return tuple(features)

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        """Predict from prepared features and the presence mask (B, V) bool.

        Deterministic when ``noise`` is None.

        Features of absent modalities may be anything, NaN included, and must be replaced by
        ``torch.where``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fuse()")

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        """Weighted, named terms.

        Default: the mean task loss, plus each auxiliary prediction's weighted sum over B.
        """
        terms = {"task": self.task_loss(output.logits, batch.target).mean()}
        for name, (logits, weight) in output.aux.items():
            terms[name] = (self.task_loss(logits, batch.target) * weight).sum() / weight.shape[0]
        return terms

    def adopt(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Receive the trained weights of the model that ``needs`` calls ``name``.

        Called once, before training.
        """
        raise NotImplementedError(f"{type(self).__name__} needs {name} and must define adopt()")

    def begin_epoch(self, context: EpochContext) -> None:
        """Called before an epoch's first batch: set the buffers that turn phases on and off."""

    def end_epoch(self, context: EpochContext) -> None:
        """Called after an epoch's validation, with its predictions: mining.

        State goes into buffers.
        """

    def scale_gradients(self, batch: TrainBatch, output: Output) -> None:
        """Called between backward and the optimiser's step (gradient modulation)."""

    def diagnostics(self) -> dict[str, float]:
        """Numbers worth logging at an epoch's end."""
        return {}

    def remarks(self, epochs: int) -> list[str]:
        """Sentences for the report about this trained model: a phase that never ran, a set that was
        mined.
        """
        return []

    @classmethod
    def weight_notes(
        cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value], batch_size: int
    ) -> list[str]:
        """Sentences for the report: what a published weight amounts to with these settings.

        For methods whose released code weighs a loss otherwise than the paper does. Default: none.
        """
        return []

    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Value]) -> None:
        """Refuse, with a UserError, settings that cannot work on this dataset.

        Called before anything starts.
        """

    @classmethod
    def uses_unshown(cls, hparams: Mapping[str, Value]) -> str:
        """The hyperparameter by which the loss uses modalities that are available and not shown.

        Where there is one, train.encode=present is refused: those modalities are not encoded then,
        and zeros stand in their place. Default: none.
        """
        return ""

    @classmethod
    def check_backbone(cls, backbone: Backbone) -> None:
        """Refuse, with a UserError, a network that the method is not defined on.

        Called before anything starts.
        """
        name = cls.__module__.rpartition(".")[2]
        if backbone.joint and not cls.joint:
            raise UserError(
                f"method '{name}' fuses what separate encoders return, and this backbone mixes"
                " modalities while encoding; use backbone.form=parallel"
            )
        if not backbone.joint and not cls.separate:
            raise UserError(
                f"method '{name}' needs a backbone that mixes modalities while encoding"
                " (backbone=esanet backbone.form=joint); sf_md is its counterpart for separate"
                " encoders"
            )

    # ------------------------------------------------------------------ what the harness calls

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """The dataset's 2^V - 1 combinations."""
        return lattice(self.spec.names)

    def encode_all(
        self, inputs: Mapping[str, Tensor], rows: Tensor | None = None
    ) -> list[Features]:
        """Encode every modality, in the dataset's order.

        Args:
            inputs: modality -> (B, C, H, W).
            rows: (B, V) bool on the CPU: encode only these samples of each modality and scatter the
                results into zeros, so that no other input reaches an encoder (or its batch norm).
                None encodes everything.
        """
        if rows is None:
            return [self.encode(name, inputs[name]) for name in self.spec.names]
        return [
            self._encode_rows(name, inputs[name], rows[:, v])
            for v, name in enumerate(self.spec.names)
        ]

    def _encode_rows(self, name: str, x: Tensor, rows: Tensor) -> Features:
        encoder = self.encoders[self.spec.names.index(name)]
        return self.on_rows(encoder, lambda chosen: self.encode(name, chosen), x, rows)

    def on_rows(
        self, module: nn.Module, function: Callable[[Tensor], Features], x: Tensor, rows: Tensor
    ) -> Features:
        """``function``, which runs ``module``, of the samples ``rows`` (B,) bool on the CPU.

        Zeros for the other samples.

        With fewer than two samples in training the module uses its running statistics for this
        batch, which is counted.
        """
        index = rows.nonzero().squeeze(1).to(x.device, non_blocking=True)
        starved = self.training and index.numel() < 2
        if starved:
            # Batch statistics of fewer than two samples are not statistics: this batch uses the
            # running ones.
            self.starved_encoders += 1
            module.eval()
        # Where there are none, the features of zeros have the shape of what is returned.
        chosen = x.index_select(0, index) if index.numel() else torch.zeros_like(x[:1])
        encoded = function(chosen)
        if starved:
            module.train()
        return tree_map(lambda f: _scatter(f, index, x.shape[0]), encoded)

    def combine(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        """``fuse``, after making sure that every row of ``present`` has a modality (ValueError
        otherwise).
        """
        some = present.any(1).all()
        if present.is_cuda:
            torch._assert_async(some, "a sample without any present modality reached fuse")
        elif not some:
            raise ValueError(
                "a sample without any present modality cannot be predicted: every row of `present`"
                " needs a True"
            )
        return self.fuse(features, present, noise)

    def forward(
        self, inputs: Mapping[str, Tensor], present: Tensor, noise: Noise | None = None
    ) -> Output:
        """The plain forward pass: encode, prepare, fuse."""
        return self.combine(self.prepare(self.encode_all(inputs)), present, noise)

    def predicted(self, logits: Tensor) -> Tensor:
        """What logits say: of a regression the predicted values (B, 1) in the labels' unit, else
        the scores themselves.
        """
        if self.label_scale is None:
            return logits
        mean, deviation = self.label_scale.unbind()
        return logits.float() * deviation + mean

    def task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy per sample, (B,).

        Of a regression, (B, 1) and (B,): the absolute error in standard deviations of the training
        labels. It is what weights are selected by, has no scale to be chosen, and is the loss of
        MulT's released trainer on sentiment (Tsai et al., ACL 2019: ``nn.L1Loss``).

        Of a segmentation, (B, K, H, W) and (B, H, W): its mean over the samples is the batch's sum
        of w_y * CE over the sum of w_y, over all pixels that are not void, w the dataset's class
        weights; 0 if all are void. The same of the side predictions that the logits carry, with
        labels of their resolution (nearest neighbour), is added.
        """
        if self.label_scale is not None:
            mean, deviation = self.label_scale.unbind()
            return (logits[:, 0] - (target - mean) / deviation).abs()
        if target.dim() == 1:
            return F.cross_entropy(logits, target, reduction="none")
        scales = (logits, *sides_of(logits))
        losses = [
            pixel_loss(scale, labels_at(target, scale), self.class_weights) for scale in scales
        ]
        return torch.stack(losses).sum(0)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters in training, and at inference (without ``training_only`` modules)."""
        sizes = {name: p.numel() for name, p in self.named_parameters()}
        deployed = sum(n for name, n in sizes.items() if not name.startswith(self.training_only))
        return {"training": sum(sizes.values()), "inference": deployed}


def _scatter(features: Tensor, index: Tensor, batch: int) -> Tensor:
    """(n, ...) features at the positions ``index`` (n,) of (batch, ...) zeros."""
    empty = features.new_zeros(batch, *features.shape[1:])
    return empty.index_copy(0, index, features) if index.numel() else empty
