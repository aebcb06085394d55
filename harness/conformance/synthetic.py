"""What conformance checks share: synthetic data whose label shows in every modality, and a model
led through its phases.

Shape legend: B samples, V modalities, K classes, C = 2^V - 1 combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from harness.backbones import Backbone
from harness.dataset import DataSpec, Modality, Split
from harness.method import EpochContext, Losses, Method, Output, TrainBatch
from harness.protocol.combinations import lattice
from harness.protocol.hyperparameters import Value
from harness.protocol.metrics import of_task
from harness.protocol.seeds import Noise, Streams
from harness.registry import METHODS

UNLIKE = ((1, 4, 4), (1, 3, 3), (1, 1, 8), (3, 6, 6))
ALIKE = (2, 4, 4)
LABEL_SIDE = 32
LATE, EPOCHS = 50, 100
STEP_EPOCHS = (0, 2, 4, 6, 8, LATE, EPOCHS - 1)
"""Epochs of 100 with a training step: in, at the border of and after every phase that a paper of
the comparison has.
"""
RATE = 0.02
LABEL_SCALE = (100.0, 20.0)
"""Mean and deviation of a regression's labels: far from 0 and from 1, which predictions start
near.
"""

Factory = Callable[[DataSpec], Backbone]
Check = Callable[["Case"], None]
REGISTERED: dict[str, Check] = {}


class Violation(Exception):
    """What a check found, in one sentence."""


def require(condition: bool, sentence: str) -> None:
    """Violation(sentence) unless the condition holds."""
    if not condition:
        raise Violation(sentence)


def check(function: Check) -> Check:
    """Register a check under its function's name."""
    REGISTERED[function.__name__] = function
    return function


def synthetic_spec(
    modalities: int,
    classes: int,
    task: str = "classification",
    aligned: bool = False,
    side: int = LABEL_SIDE,
) -> DataSpec:
    """A dataset's description with V modalities of unlike shapes (of one shape when aligned, or for
    label maps of a side).
    """
    shapes = [UNLIKE[v % len(UNLIKE)] for v in range(modalities)]
    if task == "segmentation" or aligned:
        shapes = [(3, side, side) if task == "segmentation" else ALIKE] * modalities
    return DataSpec(
        name="synthetic",
        task=task,
        modalities=tuple(Modality(f"m{v}", shape) for v, shape in enumerate(shapes)),
        classes=() if task == "regression" else tuple(f"c{k}" for k in range(classes)),
        metric=of_task(task)[0].name,
        aligned=aligned or task == "segmentation",
        synthetic=True,
        label_scale=LABEL_SCALE if task == "regression" else None,
    )


def synthetic_split(spec: DataSpec, samples: int, seed: int = 0) -> Split:
    """Samples whose label (or label map, made of four blocks, or number, times a pattern) shows in
    each modality, plus noise of a third of its size.
    """
    generator, classes = Streams(seed).generator("synthetic"), len(spec.classes)
    if spec.label_scale is not None:
        return _numbers(spec, samples, generator)
    dense = spec.task == "segmentation"
    target = torch.arange(samples) % classes
    if dense:
        blocks = torch.randint(classes, (samples, 2, 2), generator=generator)
        _, height, width = spec.modalities[0].shape
        target = blocks.repeat_interleave(height // 2, 1).repeat_interleave(width // 2, 2)
    inputs = {}
    for modality in spec.modalities:
        # A pattern for each class: of a whole input, or of one pixel's channels.
        shape = modality.shape[:1] if dense else modality.shape
        clean = torch.randn(classes, *shape, generator=generator)[target]
        if dense:
            clean = clean.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        inputs[modality.name] = clean + 0.3 * torch.randn(clean.shape, generator=generator)
    return Split(inputs, target, torch.ones(samples, len(spec.modalities), dtype=torch.bool))


def _numbers(spec: DataSpec, samples: int, generator: torch.Generator) -> Split:
    assert spec.label_scale is not None
    mean, deviation = spec.label_scale
    standard = torch.randn(samples, generator=generator)
    inputs = {}
    for modality in spec.modalities:
        pattern = torch.randn(modality.shape, generator=generator)
        clean = standard[:, None, None, None] * pattern
        inputs[modality.name] = clean + 0.3 * torch.randn(clean.shape, generator=generator)
    available = torch.ones(samples, len(spec.modalities), dtype=torch.bool)
    return Split(inputs, mean + deviation * standard, available)


class Case:
    """One method, variant, V and K, with a batch in which every combination occurs."""

    def __init__(
        self,
        method: type[Method],
        variant: str,
        spec: DataSpec,
        factory: Factory,
        hparams: Mapping[str, Value] | None = None,
    ) -> None:
        self.method = method
        self.variant = variant
        self.spec = spec
        self.factory = factory
        self.hparams = hparams or {}
        self.masks = torch.tensor([combination.mask for combination in lattice(spec.names)])
        self.size = max(16, len(self.masks) + 1)
        self.split = synthetic_split(spec, self.size)
        self.mixed = self.masks[torch.arange(self.size) % len(self.masks)]
        """(B, V), every combination in turn."""

    def fresh(self, seed: int = 0) -> Method:
        """A new model with the weights of ``seed``; what it needs from other models comes from
        untrained ones.
        """
        with Streams(seed).initialising("model"):
            model = self.method(self.factory(self.spec), self.variant, self.hparams)
        for name, need in self.method.needs.items():
            with Streams(99).initialising("needed", name):
                model.adopt(name, METHODS.get(need.method)(self.factory(self.spec)).state_dict())
        return model

    @cached_property
    def trained(self) -> Method:
        """A model that went through all phases, in evaluation mode; checks must not change it."""
        model = self.fresh()
        self.lead(model)
        return model.eval()

    def constant(self, mask: Tensor) -> Tensor:
        """The presence mask (B, V) in which every sample has the combination ``mask`` (V,)."""
        return mask.expand(self.size, -1)

    def only(self, v: int) -> Tensor:
        """The presence mask (B, V) with nothing but modality ``v``."""
        return self.constant(torch.arange(len(self.spec.names)) == v)

    def replaced(self, present: Tensor, value: Tensor) -> dict[str, Tensor]:
        """The inputs with ``value`` where ``present`` (B, V) is False."""
        kept = {name: present[:, v].reshape(-1, 1, 1, 1) for v, name in enumerate(self.spec.names)}
        return {
            name: torch.where(kept[name], x, value.to(x)) for name, x in self.split.inputs.items()
        }

    def disturbed(self, present: Tensor) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Inputs that differ from the clean ones in absent modalities only, with a word for what
        stands there.
        """
        yield "NaN", self.replaced(present, torch.tensor(torch.nan))
        generator = Streams(1).generator("disturbed")
        for scale in (1e4, -1e4):
            value = scale * (1 + torch.rand((), generator=generator))
            yield f"{scale:g}", self.replaced(present, value)

    @torch.no_grad()
    def logits(
        self, model: Method, present: Tensor, inputs: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Logits of the plain forward pass."""
        logits: Tensor = model(inputs or self.split.inputs, present).logits
        return logits

    # ------------------------------------------------------------------ training

    def begin(self, model: Method, epoch: int) -> None:
        """Training mode, and the hook before an epoch of 100."""
        model.train()
        model.begin_epoch(EpochContext(epoch, EPOCHS, model.combinations))

    def losses(
        self,
        model: Method,
        present: Tensor,
        epoch: int = LATE,
        noise: Noise | None = None,
        inputs: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        available: Tensor | None = None,
    ) -> tuple[Losses, Output, TrainBatch]:
        """The loss terms of one training step, as the training loop computes them."""
        inputs = inputs or self.split.inputs
        noise = noise or self.noise(epoch)
        everything = torch.ones_like(present) if available is None else available
        features = model.prepare(model.encode_all(inputs, rows))
        index = torch.arange(self.size)
        batch = TrainBatch(
            inputs=inputs,
            target=self.split.target,
            available=everything,
            present=present,
            index=index,
            features=features,
            phase=(epoch, EPOCHS),
            noise=noise,
        )
        output = model.combine(features, present, noise)
        return model.loss(output, batch), output, batch

    @staticmethod
    def noise(seed: int) -> Noise:
        """A noise stream that depends on ``seed`` alone."""
        return Noise(Streams(seed).generator("noise"))

    def walk(self, model: Method, start: int = 0, stop: int = EPOCHS) -> Iterator[Losses]:
        """Lead a model through its epochs, with one step of SGD in some of them; yields while a
        step's gradients are in place.
        """
        scores = self._val_scores()
        for epoch in range(start, stop):
            self.begin(model, epoch)
            if epoch in STEP_EPOCHS:
                terms, output, batch = self.losses(model, self.mixed, epoch)
                backward(model, terms)
                model.scale_gradients(batch, output)
                yield terms
                torch.optim.SGD(model.parameters(), lr=RATE).step()
            model.end_epoch(
                EpochContext(epoch, EPOCHS, model.combinations, scores, self.split.target)
            )

    def _val_scores(self) -> Tensor:
        """Made-up evidence: scores (C, B, K), or confusion counts (C, B, K, K)."""
        generator = Streams(2).generator("val")
        shape = (len(self.masks), self.size, self.spec.outputs)
        if self.spec.task == "segmentation":
            return torch.randint(9, (*shape, shape[-1]), generator=generator)
        return torch.randn(shape, generator=generator)

    def lead(self, model: Method, start: int = 0, stop: int = EPOCHS) -> Losses:
        """``walk`` to its end; the terms of the last step."""
        return list(self.walk(model, start, stop))[-1]

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """What follows the batch dimension: (K,), or (K, H, W); (1,) of a regression."""
        return (self.spec.outputs, *self.split.target.shape[1:])


def backward(model: Method, terms: Losses) -> None:
    """Gradients of the sum of the terms."""
    model.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]


def close(a: Tensor, b: Tensor) -> bool:
    """Equal to 1e-5, absolutely and relative to the largest entry: batches of other sizes are added
    up in another order.
    """
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-5 * (1 + a.abs().max()))


def finite_gradients(model: Method) -> list[str]:
    """Names of parameters whose gradient has an entry that is not finite."""
    return [
        name
        for name, p in model.named_parameters()
        if p.grad is not None and not bool(p.grad.isfinite().all())
    ]


def same(a: Losses, b: Losses) -> bool:
    """The same terms with the same values, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gap(a: Tensor, b: Tensor) -> str:
    """The largest difference, for a sentence."""
    return f"{float((a - b).abs().max()):.3g}"
