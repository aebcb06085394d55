"""A small DMRNet and its loss on one batch with every combination twice.

Called by tests of methods and paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.method import EpochContext, Losses, Output, TrainBatch
from harness.protocol.combinations import lattice
from harness.protocol.seeds import Noise, Streams
from methods.dmrnet import DMRNet

SPEC = synthetic_spec(3, 5)
COMBINATIONS = lattice(SPEC.names)
MASKS = torch.tensor([c.mask for c in COMBINATIONS])
SPLIT = synthetic_split(SPEC, 14)
PRESENT = MASKS.repeat(2, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(variant: str = "paper", **hparams: float | str) -> DMRNet:
    with Streams(0).initialising("model"):
        return DMRNet(Small(SPEC, {"width": 8}), variant, hparams)


def begin(model: DMRNet, epoch: int, epochs: int = 100) -> None:
    model.begin_epoch(EpochContext(epoch, epochs, COMBINATIONS))


def end(model: DMRNet, epoch: int, epochs: int = 100) -> None:
    model.end_epoch(EpochContext(epoch, epochs, COMBINATIONS))


def losses(
    model: DMRNet, present: Tensor = PRESENT, epoch: int = 50, seed: int = 0
) -> tuple[Losses, Output]:
    noise = Noise(generator(seed))
    features = model.prepare(model.encode_all(SPLIT.inputs))
    output = model.combine(features, present, noise)
    available = torch.ones_like(present)
    index = torch.arange(len(present))
    batch = TrainBatch(
        SPLIT.inputs, SPLIT.target, available, present, index, features, (epoch, 100), noise
    )
    return model.loss(output, batch), output
