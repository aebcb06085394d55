"""Deliberately broken methods, one fault each, and a small network for label maps.

Called by tests of conformance and training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Backbone, MapShape
from harness.dataset import DataSpec
from harness.errors import UserError
from harness.method import EpochContext, Features, Losses, Output, TrainBatch
from harness.protocol.hyperparameters import Range
from harness.protocol.seeds import Noise
from methods.sf_md import SFMD


class Multiplied(SFMD):
    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        fused = torch.cat(
            [f[0] * present[:, v].reshape(-1, 1, 1, 1) for v, f in enumerate(features)], 1
        )
        z = self.trunk((fused,))
        return Output(self.head(z, (fused,)), z)


class MixedWhilePreparing(SFMD):
    def prepare(self, features: Sequence[Features]) -> Any:
        mean = torch.stack([f[0] for f in features]).mean(0)
        return tuple((f[0] - mean,) for f in features)


class SeesTheMask(SFMD):
    shown: Tensor | None = None

    def forward(
        self, inputs: Mapping[str, Tensor], present: Tensor, noise: Noise | None = None
    ) -> Output:
        self.shown = present
        output = super().forward(inputs, present, noise)
        self.shown = None
        return output

    def encode(self, modality: str, x: Tensor) -> Features:
        scale = 1.0 if self.shown is None else self.shown.sum(1).reshape(-1, 1, 1, 1)
        return super().encode(modality, x * scale)


class HiddenNoise(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return {
            "task": self.task_loss(
                output.logits + 0.01 * torch.randn(output.logits.shape), batch.target
            ).mean()
        }


class HiddenPythonNoise(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return {"task": self.task_loss(output.logits, batch.target).mean() * (1 + random.random())}


class NoisyEvaluation(SFMD):
    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        output = super().fuse(features, present, noise)
        return Output(
            output.logits if self.training else output.logits + 0.01 * torch.rand(()), output.z
        )


class Cancels(SFMD):
    """A large constant is added and taken away again: of 8 bits nothing is left."""

    def encode(self, modality: str, x: Tensor) -> Features:
        return tuple((f + 300.0) - 300.0 for f in super().encode(modality, x))


class UnusedParameter(SFMD):
    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.projection = nn.Linear(3, 3)


class GateThatNeverOpens(UnusedParameter):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return super().loss(output, batch) | {"extra": 0.0 * self.projection(torch.ones(3)).sum()}


class PredictsNothing(SFMD):
    def combine(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        return self.fuse(features, present, noise)


class BatchMean(SFMD):
    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        output = super().fuse(features, present, noise)
        return Output(output.logits - output.logits.mean(0), output.z)


class RowNumber(SFMD):
    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        output = super().fuse(features, present, noise)
        return Output(output.logits + 0.01 * torch.arange(len(present))[:, None], output.z)


class Mined(SFMD):
    """Remembers the losses of its early epochs, and weighs the task by them later."""

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.seen, self.mining = 0.0, False

    def begin_epoch(self, context: EpochContext) -> None:
        self.mining = context.epoch < context.starts(6)

    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        task = self.task_loss(output.logits, batch.target).mean()
        self.seen += float(task.detach()) if self.mining else 0.0
        return {"task": task if self.mining else task * (1 + self.seen)}


class NotPersistent(SFMD):
    mined: Tensor

    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.register_buffer("mined", torch.zeros(()), persistent=False)

    def end_epoch(self, context: EpochContext) -> None:
        self.mined.fill_(1.0)

    def remarks(self, epochs: int) -> list[str]:
        return [f"mined: {bool(self.mined)}"]


class FrozenEncoder(SFMD):
    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.encoders[1].requires_grad_(False)


class TrainsAbsentEncoders(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return super().loss(output, batch) | {
            "size": 0.01 * sum(f[0].square().mean() for f in batch.features)
        }


class NeedsPairs(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        pairs = (batch.present.sum(1) > 1).float()
        return {"task": (self.task_loss(output.logits, batch.target) * pairs).sum() / pairs.sum()}


class WrongLabels(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return {
            "task": self.task_loss(
                output.logits, (batch.target + 1) % len(self.spec.classes)
            ).mean()
        }


class PerSampleLoss(SFMD):
    def loss(self, output: Output, batch: TrainBatch) -> Losses:
        return {"task": self.task_loss(output.logits, batch.target)}


class ForgetsRows(SFMD):
    def encode_all(
        self, inputs: Mapping[str, Tensor], rows: Tensor | None = None
    ) -> list[Features]:
        return super().encode_all(inputs)


class NeedsItsTrainingHead(SFMD):
    training_only = ("head",)


class NamesNoModule(SFMD):
    training_only = ("auxiliary",)


class NoCitation(SFMD):
    citation = " "


class ListOfDeviations(SFMD):
    deviations = ["one"]  # type: ignore[assignment]


class DefaultOutOfRange(SFMD):
    hyperparameters = {"alpha": Range(2.0, 0.0, 1.0)}


class NoPaper(SFMD):
    variants = {"released": "what the code does"}


class OtherTask(SFMD):
    tasks = ("segmentation",)


class Refuses(SFMD):
    @classmethod
    def check(cls, spec: DataSpec, variant: str, hparams: Mapping[str, Any]) -> None:
        raise UserError("not on this dataset")


class ThreeModalities(SFMD):
    """Written for V = 3: the fourth modality is left out, and two are not enough."""

    def fuse(self, features: Any, present: Tensor, noise: Noise | None = None) -> Output:
        a, b, c = features
        return super().fuse((a, b, c), present, noise)


class ConfusesVAndK(SFMD):
    def build(self, backbone: Backbone) -> None:
        super().build(backbone)
        self.gates = nn.Parameter(torch.ones(len(self.spec.classes)))

    def prepare(self, features: Sequence[Features]) -> Any:
        return tuple((f[0] * self.gates[v],) for v, f in enumerate(features))


class Pixels(Backbone):
    """A segmentation network of three convolutions: maps and predictions at full resolution."""

    tasks = ("segmentation",)

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        side = spec.modalities[0].shape[1]
        self.maps, self.z = (MapShape(8, side, side),), MapShape(16, side, side)

    def encoder(self, modality: str) -> nn.Module:
        layers = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        return _Tuple(layers)

    def trunk(self, channels: Sequence[int]) -> nn.Module:
        return _First(
            nn.Sequential(nn.Conv2d(channels[0], 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        )

    def head(self, channels: Sequence[int]) -> nn.Module:
        return _First(nn.Conv2d(16, len(self.spec.classes), 1), of_tuple=False)


class _Tuple(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


class _First(nn.Module):
    def __init__(self, layers: nn.Module, of_tuple: bool = True) -> None:
        super().__init__()
        self.layers, self.of_tuple = layers, of_tuple

    def forward(self, first: Any, fused: Any = None) -> Tensor:
        result: Tensor = self.layers(first[0] if self.of_tuple else first)
        return result
