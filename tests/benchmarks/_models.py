"""Methods on the network of CASIA-SURF and on that of the quick start, for the benchmarks.

V = 3 modalities: of 3x112x112 on ``resnet`` (mid128, width 64), or the digits' on ``small``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datasets.digits import Digits
from harness.dataset import DataSpec, Modality, Split
from harness.method import Method
from harness.protocol.metrics import METRICS
from harness.protocol.seeds import Streams
from harness.registry import BACKBONES, METHODS
from harness.training.loop import Trainer
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig
from tests.benchmarks._paired import DEVICE

METHODS_HERE = (
    "sf_md",
    "hemis",
    "lcr",
    "lcr:released",
    "rfnet",
    "mmformer",
    "mmformer:released",
    "shaspec",
    "shaspec:released",
    "mmanet",
    "dmrnet",
    "sf_pe",
    "sf_pcme",
)
"""One of each fusion; the other methods of the CASIA study differ from these in their loss."""

SIDE = 112
CASIA = DataSpec(
    name="casia_surf",
    task="anti_spoofing",
    modalities=tuple(Modality(name, (3, SIDE, SIDE)) for name in ("rgb", "depth", "ir")),
    classes=("live", "spoof"),
    metric="accuracy",
    aligned=True,
    synthetic=True,
)


@dataclass(frozen=True)
class Setting:
    """A dataset's description, the network for it, and samples of it."""

    name: str
    spec: DataSpec
    backbone: str
    options: dict[str, Any]
    split: Split


def casia(samples: int) -> Setting:
    """Random pictures of the size of CASIA-SURF's."""
    generator = torch.Generator().manual_seed(0)
    inputs = {m.name: torch.randn(samples, *m.shape, generator=generator) for m in CASIA.modalities}
    target = torch.arange(samples) % 2
    split = Split(inputs, target, torch.ones(samples, 3, dtype=torch.bool)).to(DEVICE)
    options = {"fusion": "mid128", "width": 64}
    return Setting(
        f"resnet mid128, 3 x 3x112x112, batch {samples}", CASIA, "resnet", options, split
    )


def digits(samples: int) -> Setting:
    """The first training samples of the quick start, which has its network's default width."""
    data = Digits()
    split = data.load("train").select(torch.arange(samples)).to(DEVICE)
    return Setting(f"small, digits, batch {samples}", data.spec, "small", {}, split)


def model_of(named: str, setting: Setting) -> Method:
    """A model, its teacher included if it needs one; ``named`` is NAME or NAME:VARIANT."""
    name, _, variant = named.partition(":")
    backbone = BACKBONES.get(setting.backbone)(setting.spec, setting.options)
    with Streams(0).initialising("model"):
        model = METHODS.get(name)(backbone, variant or "paper").to(DEVICE)
        for need, wanted in model.needs.items():
            model.adopt(need, METHODS.get(wanted.method)(backbone).state_dict())
    return model


class _Nothing:
    def save(self, state: dict[str, Any]) -> None: ...

    def load(self) -> None: ...


def trainer_of(named: str, setting: Setting, **recipe: Any) -> Trainer:
    """The loop on the setting's samples, one step an epoch."""
    return Trainer(
        model=model_of(named, setting),
        train=setting.split,
        val=setting.split,
        metric=METRICS["accuracy"],
        recipe=TrainConfig(
            **({"epochs": 100, "batch_size": len(setting.split), "lr": 1e-4} | recipe)
        ),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(batch_size=len(setting.split)),
        streams=Streams(0),
        device=DEVICE,
        checkpoints=_Nothing(),
        on_epoch=lambda report: None,
    )


def difference(a: Tensor, b: Tensor) -> str:
    """The largest difference, or that the bits are equal."""
    return "0" if torch.equal(a, b) else f"{float((a - b).abs().max()):.0e}"
