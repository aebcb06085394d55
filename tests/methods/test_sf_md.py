"""Rows of the method spec's section 10 about masking, for SF-MD and DMRNet."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.small import Small
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Split
from harness.method import Method
from harness.protocol.combinations import lattice
from harness.protocol.metrics import metric
from harness.protocol.seeds import Streams
from harness.training.evaluation import predict
from harness.training.loop import Trainer
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig
from methods.dmrnet import DMRNet
from methods.sf_md import SFMD

METHODS = pytest.mark.parametrize("cls", [SFMD, DMRNet])
SPEC = synthetic_spec(3, 5)
MASKS = torch.tensor([c.mask for c in lattice(SPEC.names)])
SPLIT = synthetic_split(SPEC, 7)


def model_of(cls: type[Method], classes: int = 5) -> Method:
    with Streams(0).initialising("model"):
        model = cls(Small(synthetic_spec(3, classes), {"width": 8}))
    # Running statistics and biases that are not those of the start.
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()


@METHODS
def test_T04_noise_in_a_masked_modality_leaves_the_logits_bit_equal(cls: type[Method]) -> None:
    model = model_of(cls)
    for mask, seed in itertools.product(MASKS, (0, 1)):
        generator = torch.Generator().manual_seed(seed)
        noisy = {
            name: x if has else 50 * torch.randn(x.shape, generator=generator)
            for (name, x), has in zip(SPLIT.inputs.items(), mask.tolist(), strict=True)
        }
        present = mask.expand(7, -1)
        assert torch.equal(model(SPLIT.inputs, present).logits, model(noisy, present).logits)


@METHODS
def test_T05_gradients_reach_present_inputs_and_no_others(cls: type[Method]) -> None:
    model = model_of(cls)
    inputs = {name: x.clone().requires_grad_() for name, x in SPLIT.inputs.items()}
    loss = F.cross_entropy(model(inputs, MASKS).logits, SPLIT.target)
    for v, gradient in enumerate(torch.autograd.grad(loss, list(inputs.values()))):
        for b in range(7):
            assert bool(gradient[b].any()) == bool(MASKS[b, v])


def unmasked(model: Method, inputs: dict[str, Tensor]) -> Tensor:
    """The network without any mask: encoders, concatenation, trunk, (mean head,) head."""
    fused = (
        torch.cat(
            [encoder(x)[0] for encoder, x in zip(model.encoders, inputs.values(), strict=True)], 1
        ),
    )
    z = model.trunk(fused)
    if isinstance(model, DMRNet):
        z = model.heads.mu(z)
    logits: Tensor = model.head.linear(F.adaptive_avg_pool2d(z, 1).flatten(1))
    return logits


@METHODS
def test_T06_a_mask_of_ones_is_the_unmasked_network(cls: type[Method]) -> None:
    model = model_of(cls)
    with torch.no_grad():
        masked = model(SPLIT.inputs, torch.ones(7, 3, dtype=torch.bool)).logits
        torch.testing.assert_close(
            masked, unmasked(model, dict(SPLIT.inputs)), rtol=1e-6, atol=1e-6
        )


@METHODS
def test_a_missing_modality_is_a_block_of_zeros_in_the_concatenation(cls: type[Method]) -> None:
    model = model_of(cls)
    with torch.no_grad():
        maps = [
            encoder(x)[0] for encoder, x in zip(model.encoders, SPLIT.inputs.values(), strict=True)
        ]
        fused = torch.cat(
            [m * MASKS[:, v].float().reshape(-1, 1, 1, 1) for v, m in enumerate(maps)], 1
        )
        z = model.trunk((fused,))
        z = model.heads.mu(z) if isinstance(model, DMRNet) else z
        assert torch.equal(model(SPLIT.inputs, MASKS).logits, model.head(z, ()))


class NoCheckpoints:
    def save(self, state: dict[str, object]) -> None: ...

    def load(self) -> None: ...


def trained(cls: type[Method], split: Split, epochs: int) -> Method:
    model = model_of(cls, classes=4)
    Trainer(
        model=model,
        train=split.select(torch.arange(256) % len(split)),
        val=split,
        metric=metric("accuracy"),
        recipe=TrainConfig(
            epochs=epochs, batch_size=32, lr=0.05, weight_decay=0.0, schedule="cosine"
        ),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(),
        streams=Streams(0),
        device=torch.device("cpu"),
        checkpoints=NoCheckpoints(),
        on_epoch=lambda progress: None,
    ).fit()
    return model


@METHODS
def test_T27_a_label_in_every_modality_is_learned_for_every_combination(cls: type[Method]) -> None:
    split = synthetic_split(synthetic_spec(3, 4), 64)
    scores = predict(trained(cls, split, epochs=25), split, 64, torch.device("cpu"))
    losses = [float(F.cross_entropy(logits, split.target)) for logits in scores]
    assert max(losses) < 0.1


@METHODS
def test_T27_a_label_in_one_modality_leaves_the_others_at_chance(cls: type[Method]) -> None:
    spec, generator = synthetic_spec(3, 4), torch.Generator().manual_seed(9)
    # Both have the same pictures of the classes in m0, with other noise; m1 and m2 become noise
    # alone.
    learn, unseen = synthetic_split(spec, 64), synthetic_split(spec, 400)
    for split in (learn, unseen):
        split.inputs = {
            n: x if n == "m0" else torch.randn(x.shape, generator=generator)
            for n, x in split.inputs.items()
        }
    model = trained(cls, learn, epochs=10)
    scores = predict(model, unseen, 400, torch.device("cpu"))
    for combination, logits in zip(model.combinations, scores, strict=True):
        right = float((logits.argmax(1) == unseen.target).double().mean())
        # 4 classes: chance is 25 % with a standard deviation of 2.2 % over 400 samples.
        assert right > 0.9 if combination.mask[0] else abs(right - 0.25) < 0.09, combination.name
