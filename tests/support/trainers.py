"""Training loops on synthetic samples, for every method on every network.

Called by tests of what a GPU would be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from harness.backbones import Backbone
from harness.backbones.esanet import ESANet
from harness.backbones.resnet import ResNet
from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Modality
from harness.protocol.metrics import METRICS
from harness.protocol.seeds import Streams
from harness.registry import METHODS
from harness.training.loop import Trainer
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig
from tests.support.av import narrow
from tests.support.registered import ON_SMALL

SPEC = synthetic_spec(3, 5)
HPARAMS: dict[str, dict[str, Any]] = {
    "mmformer": {"d": 32, "heads": 4, "mlp": 64},
}
NAMED = [
    name if variant == "paper" else f"{name}:{variant}"
    for name in ON_SMALL
    for variant in METHODS.get(name).variants
]
EPOCHS, LATE, BATCHES = 100, 50, 2


class Nothing:
    """Keeps no checkpoint."""

    def save(self, state: dict[str, Any]) -> None: ...

    def load(self) -> None: ...


def trainer_of(
    named: str, clip_norm: float | None = None, backbone: Backbone | None = None
) -> Trainer:
    """The loop on a few synthetic samples; on ``small`` unless another network is given.

    ``named``: a method, or ``METHOD:VARIANT``.
    """
    name, _, variant = named.partition(":")
    backbone = backbone or NETWORKS["small"]()
    spec = backbone.spec
    with Streams(0).initialising("model"):
        hparams = HPARAMS.get(name)
        if name == "sf_md_reweighted":
            hparams = {"hard_set": spec.names[0]}
        model = METHODS.get(name)(backbone, variant or "paper", hparams)
        for need, wanted in model.needs.items():
            model.adopt(need, METHODS.get(wanted.method)(backbone).state_dict())
    return Trainer(
        model=model,
        train=synthetic_split(spec, 16 * BATCHES),
        val=synthetic_split(spec, 50),
        metric=METRICS[spec.metric],
        recipe=TrainConfig(epochs=EPOCHS, batch_size=16, lr=0.01, clip_norm=clip_norm),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(batch_size=16),
        streams=Streams(0),
        device=torch.device("cpu"),
        checkpoints=Nothing(),
        on_epoch=lambda report: None,
    )


def _pictures() -> Backbone:
    spec = synthetic_spec(3, 2, "anti_spoofing", aligned=True)
    modalities = tuple(Modality(name, (3, 48, 48)) for name in spec.names)
    return ResNet(replace(spec, modalities=modalities), {"fusion": "mid128", "width": 8})


def _maps(form: str) -> Backbone:
    spec = synthetic_spec(2, 5, "segmentation", side=64)
    return ESANet(spec, {"encoder": "r18_nbt1d", "width": 8, "form": form})


NETWORKS: dict[str, Callable[[], Backbone]] = {
    "small": lambda: Small(SPEC, {"width": 8}),
    "small, a number": lambda: Small(synthetic_spec(3, 1, "regression"), {"width": 8}),
    "resnet": _pictures,
    "audio_visual": narrow,
    "esanet": partial(_maps, "parallel"),
    "esanet, joint": partial(_maps, "joint"),
}
