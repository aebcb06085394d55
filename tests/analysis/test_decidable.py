"""Row 15 of the test matrix: modality v alone shows bit v of the class, so that each combination's
accuracy is known exactly.
"""

from __future__ import annotations

import pytest
import torch

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec
from harness.dataset import DataSpec, Split
from harness.method import Method
from harness.protocol.hyperparameters import Value
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.training.evaluation import predict
from harness.training.loop import Trainer
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig
from methods.mmformer import MMFormer
from methods.shaspec import ShaSpec

BITS = 3
CASES = [
    (MMFormer, "paper", {"d": 32, "heads": 4, "mlp": 64}),
    (MMFormer, "released", {"d": 32, "heads": 4, "mlp": 64}),
    (ShaSpec, "paper", {}),
    (ShaSpec, "released", {}),
]


class NoCheckpoints:
    def save(self, state: dict[str, object]) -> None: ...

    def load(self) -> None: ...


def bits(spec: DataSpec) -> Split:
    """Every class four times.

    Modality v is one fixed picture, with the sign of bit v, without noise.
    """
    target, generator = torch.arange(4 << BITS) % (1 << BITS), torch.Generator().manual_seed(0)
    signs = [(2.0 * ((target >> v) & 1) - 1.0).reshape(-1, 1, 1, 1) for v in range(BITS)]
    pictures = [
        torch.randn(1, *modality.shape, generator=generator) for modality in spec.modalities
    ]
    inputs = {
        name: sign * picture
        for name, sign, picture in zip(spec.names, signs, pictures, strict=True)
    }
    return Split(inputs, target, torch.ones(len(target), BITS, dtype=torch.bool))


@pytest.mark.parametrize(("cls", "variant", "hparams"), CASES)
def test_matrix_15_each_combination_decides_exactly_the_bits_that_it_sees(
    cls: type[Method], variant: str, hparams: dict[str, Value]
) -> None:
    spec = synthetic_spec(BITS, 1 << BITS)
    split = bits(spec)
    with Streams(0).initialising("model"):
        model = cls(Small(spec, {"width": 8}), variant, hparams)
    Trainer(
        model=model,
        train=split.select(torch.arange(256) % len(split)),
        val=split,
        metric=metric("accuracy"),
        recipe=TrainConfig(epochs=15, batch_size=32, lr=0.05, weight_decay=0.0, schedule="cosine"),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(),
        streams=Streams(0),
        device=torch.device("cpu"),
        checkpoints=NoCheckpoints(),
        on_epoch=lambda report: None,
    ).fit()
    scores = predict(model, split, 32, torch.device("cpu"))
    for combination, logits in zip(model.combinations, scores, strict=True):
        accuracy = float((logits.argmax(1) == split.target).double().mean())
        # Samples with the same visible bits look the same: one of their 2^unseen classes is right.
        assert accuracy == 0.5 ** (BITS - combination.size), combination.name
