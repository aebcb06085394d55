"""Methods on the joint ESANet in training mode with mixed masks, beside a second implementation.

The second implementation is functional and float64: it reads the weights by name, multiplies by
masks, and writes batch norm out with its running statistics. It shares no module with the first,
but for context and decoder, which no mask touches.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.esanet import ESANet
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.method import EpochContext, Losses, Method, Output, TrainBatch
from harness.protocol.combinations import lattice
from harness.protocol.masks import combination_index
from harness.protocol.seeds import Noise, Streams
from methods.dmrnet import DMRNet
from methods.esanet_md import ESANetMD

BATCH = 7
MOMENTUM = 0.1
VARIANTS = ("paper", "released")


def model_of(cls: type[Method], variant: str, modalities: int = 2) -> Method:
    """A narrow joint network in float64 and training mode, every weight away from its start."""
    spec = synthetic_spec(modalities, 4, "segmentation", side=64)
    backbone = ESANet(spec, {"encoder": "r18_basic", "width": 8, "form": "joint"})
    with Streams(5).initialising("model"):
        model = cls(backbone, variant)
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.double().train()


def batch_of(model: Method, epoch: int = 50, seed: int = 4) -> TrainBatch:
    """A batch in which every combination occurs, without its features."""
    split = synthetic_split(model.spec, BATCH)
    inputs = {name: x.double() for name, x in split.inputs.items()}
    masks = torch.tensor([combination.mask for combination in lattice(model.spec.names)])
    present = masks[torch.arange(BATCH) % len(masks)]
    noise = Noise(Streams(seed).generator("noise"))
    everything, index = torch.ones_like(present), torch.arange(BATCH)
    return TrainBatch(inputs, split.target, everything, present, index, None, (epoch, 100), noise)


def step(model: Method, batch: TrainBatch) -> tuple[Output, Losses]:
    """One training step's output and losses, as the loop computes them."""
    model.begin_epoch(EpochContext(*batch.phase, model.combinations))
    batch.features = model.prepare(model.encode_all(batch.inputs))
    output = model.combine(batch.features, batch.present, batch.noise)
    return output, model.loss(output, batch)


# ---------------------------------------------------------------------- the second implementation


@dataclass
class Twin:
    """Weights and running statistics by name; ``seen`` are the statistics after the pass."""

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    seen: dict[str, Tensor] = field(default_factory=dict)

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias")
        return F.conv2d(x, kernel, bias, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch norm by the batch's mean and biased variance; unbiased in the statistics."""
        count = x.numel() / x.shape[1]
        mean = x.sum((0, 2, 3)) / count
        variance = ((x - mean[None, :, None, None]) ** 2).sum((0, 2, 3)) / count
        for key, now in (("mean", mean), ("var", variance * count / (count - 1))):
            before = self.statistics[f"{name}.running_{key}"]
            self.seen[f"{name}.running_{key}"] = (1 - MOMENTUM) * before + MOMENTUM * now.detach()
        normal = (x - mean[None, :, None, None]) / (variance + 1e-5).sqrt()[None, :, None, None]
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return normal * scale[None, :, None, None] + shift[None, :, None, None]

    def block(self, name: str, x: Tensor, stride: int) -> Tensor:
        y = F.relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride)))
        y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y))
        if f"{name}.downsample.0.weight" in self.weights:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        return F.relu(x + y)

    def stage(self, v: int, number: int, x: Tensor) -> Tensor:
        name = f"mixer.streams.{v}.layer{number}"
        x = self.block(f"{name}.0", x, 1 if number == 1 else 2)
        return self.block(f"{name}.1", x, 1)

    def excited(self, place: int, v: int, x: Tensor) -> Tensor:
        name = f"mixer.excite.{place}.{v}.gate"
        squeezed = F.relu(self.conv(f"{name}.0", x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.conv(f"{name}.2", squeezed))

    def fused(self, images: list[Tensor], present: Tensor, variant: str) -> tuple[Tensor, ...]:
        """The four fused maps: p * x goes into every sum; what goes on is the variant's matter."""
        p = present.to(images[0].dtype)[:, :, None, None, None].unbind(1)
        modalities = range(len(images))
        stems = [f"encoders.{v}.stem" for v in modalities]
        maps = [
            F.relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, 2)))
            for name, x in zip(stems, images, strict=True)
        ]
        sums: list[Tensor] = []
        for place in range(5):
            if place:
                maps = [self.stage(v, place, maps[v]) for v in modalities]
            counted = [p[v] * maps[v] for v in modalities]
            sums.append(sum((self.excited(place, v, counted[v]) for v in modalities), p[0] * 0))
            others = {"paper": counted, "released": maps}[variant]
            maps = [sums[-1], *others[1:]]
            if place == 0:
                maps = [F.max_pool2d(x, 3, 2, 1) for x in maps]
        return tuple(sums[1:])


def twin_of(model: Method) -> Twin:
    """Weights as leaves of their own, and the statistics from before the step."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return Twin(weights, statistics)


def check_statistics_and_gradients(model: Method, twin: Twin) -> None:
    """All that the twin has seen and learned before context and decoder."""
    found = dict(model.named_buffers())
    # Mean and variance of 8 blocks' two norms and of three shortcuts, in each stream.
    assert sum(name.startswith("mixer") for name in twin.seen) == 2 * 19 * len(model.encoders)
    for name, expected in twin.seen.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-12, msg=name)
    parameters = dict(model.named_parameters())
    learned = [name for name in parameters if name.startswith(("encoders", "mixer"))]
    for name in learned:
        ours, theirs = parameters[name].grad, twin.weights[name].grad
        assert ours is not None and theirs is not None, name
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_esanet_md_in_training_with_mixed_masks(variant: str, modalities: int) -> None:
    model = model_of(ESANetMD, variant, modalities)
    batch, twin, rest = batch_of(model), twin_of(model), deepcopy(model)
    output, terms = step(model, batch)
    terms["task"].backward()  # type: ignore[no-untyped-call]
    maps = twin.fused(list(batch.inputs.values()), batch.present, variant)
    logits = rest.head(rest.trunk(maps), maps)  # type: ignore[operator]
    torch.testing.assert_close(output.logits, logits, rtol=1e-9, atol=1e-10)
    rest.task_loss(logits, batch.target).mean().backward()  # type: ignore[no-untyped-call]
    check_statistics_and_gradients(model, twin)


def test_the_variants_differ_in_training_and_not_in_evaluation() -> None:
    models = {variant: model_of(ESANetMD, variant) for variant in VARIANTS}
    trained = {v: step(model, batch_of(model))[0].logits for v, model in models.items()}
    assert float((trained["paper"] - trained["released"]).detach().abs().max()) > 0.1
    models["released"].load_state_dict(models["paper"].state_dict())
    batch = batch_of(models["paper"])
    tested = [m.eval()(batch.inputs, batch.present).logits for m in models.values()]
    assert torch.equal(*tested)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dmrnet_in_training_with_mixed_masks(variant: str) -> None:
    """Its heads on the context's output, its loss term by term."""
    model = model_of(DMRNet, variant)
    model.hard[[1, 2]] = 1.0  # type: ignore[index, operator]
    batch, twin, rest = batch_of(model), twin_of(model), deepcopy(model)
    output, terms = step(model, batch)
    torch.stack([term.double() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]

    maps = twin.fused(list(batch.inputs.values()), batch.present, variant)
    z = rest.trunk(maps)  # type: ignore[operator]
    mu, logvar = (twin.norm(f"heads.{k}.1", twin.conv(f"heads.{k}.0", z)) for k in ("mu", "logvar"))
    draw = Streams(4).generator("noise")
    eps = torch.randn(mu.shape, generator=draw, dtype=torch.float64)
    logits = rest.head(mu + eps * logvar.exp().sqrt(), maps)  # type: ignore[operator]
    torch.testing.assert_close(output.logits, logits, rtol=1e-9, atol=1e-10)

    ce = rest.task_loss(logits, batch.target)
    per_place = (logvar.exp() + mu**2 - 1 - logvar).sum(1) / 2
    hard = [float(code in (1, 2)) for code in combination_index(batch.present).tolist()]
    assert 0 < sum(hard) < BATCH
    if variant == "paper":
        hcr = sum((w * loss for w, loss in zip(hard, ce, strict=True)), ce[0] * 0) / BATCH
    else:
        hcr = sum(hard) * ce.sum() / BATCH
    expected: dict[str, Any] = {
        "task": ce.sum() / BATCH,
        "kl": 1e-3 * per_place.mean(),
        "hcr": 0.7 * hcr,
    }
    # The KL is computed in float32, and the weights are float32 buffers.
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].double(), value.double(), rtol=1e-6, atol=1e-8)
    sum(expected.values()).backward()
    found, learned = dict(model.named_parameters()), 0
    for name in found:
        if name.startswith(("encoders", "mixer", "heads")):
            ours, theirs = found[name].grad, twin.weights[name].grad
            assert ours is not None and theirs is not None, name
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, msg=name)
            learned += 1
    assert learned > 100
    for name, value in twin.seen.items():
        torch.testing.assert_close(model.get_buffer(name), value, rtol=1e-10, atol=1e-12)
