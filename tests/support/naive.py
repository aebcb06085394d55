"""Models on the small and the CASIA-SURF network, and the loops of second implementations.

Called by tests of backbones and methods.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.backbones.resnet import ResNet
from harness.backbones.small import Small
from harness.conformance.synthetic import Case, synthetic_spec
from harness.dataset import DataSpec, Modality
from harness.method import Method
from harness.protocol.seeds import Streams

C = 16
"""Channels of z in ``case``."""

Heads = Callable[[dict[str, Tensor], Tensor], tuple[Tensor, Tensor]]
"""Weights of a model and z (C, h, w) of one sample -> mu and log sigma^2, (C,) each."""

FACES = ("rgb", "depth", "ir")


def faces(modalities: int = 3, side: int = 112, channels: int = 3) -> DataSpec:
    shapes = tuple(Modality(name, (channels, side, side)) for name in FACES[:modalities])
    return DataSpec("faces", "anti_spoofing", shapes, ("spoof", "live"), "accuracy", aligned=True)


def on_resnet(cls: type[Method], spec: DataSpec | None = None, **options: str | int) -> Method:
    """A method on the CASIA-SURF benchmark network, in evaluation mode."""
    with Streams(0).initialising("test"):
        return cls(ResNet(spec or faces(), options)).eval()


def case(cls: type[Method], v: int = 3, **hparams: float | str) -> Case:
    return Case(
        cls, "paper", synthetic_spec(v, 5), lambda spec: Small(spec, {"width": C // 2}), hparams
    )


@torch.enable_grad()
def trained(cls: type[Method], v: int = 3) -> tuple[Case, Method]:
    """A case and its model after some steps: batch norms have statistics, every weight moved."""
    made = case(cls, v)
    return made, made.trained


def bottleneck(method: Method, inputs: dict[str, Tensor], mask: tuple[bool, ...], b: int) -> Tensor:
    """z (C, h, w) of one sample with one combination."""
    maps = [
        method.encoders[v](inputs[name][b : b + 1])[0] for v, name in enumerate(method.spec.names)
    ]
    maps = [
        fmap if shown else torch.zeros_like(fmap) for fmap, shown in zip(maps, mask, strict=True)
    ]
    z: Tensor = method.trunk((torch.cat(maps, 1),))  # type: ignore[operator]
    return z[0]


def dense(weights: dict[str, Tensor], key: str, x: list[Tensor]) -> list[Tensor]:
    rows = weights[f"{key}.weight"]
    offset = weights.get(f"{key}.bias", torch.zeros(len(rows)))
    return [sum((rows[j, i] * x[i] for i in range(len(x))), offset[j]) for j in range(len(rows))]


@torch.no_grad()
def check_sampled_vector(cls: type[Method], naive_heads: Heads) -> None:
    """Loops must give mu, log sigma^2 and logits of two samples with every combination."""
    made, method = trained(cls)
    inputs = made.split.inputs
    weights = method.state_dict()
    for combination in method.combinations:
        output = method(inputs, made.constant(torch.tensor(combination.mask)))
        for b in (0, 7):
            mu, logvar = naive_heads(weights, bottleneck(method, inputs, combination.mask, b))
            logits = torch.stack(dense(weights, "head.linear", list(mu)))
            torch.testing.assert_close(output.extra["mu"][b], mu, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(output.extra["logvar"][b], logvar, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(output.logits[b], logits, atol=1e-5, rtol=1e-5)
