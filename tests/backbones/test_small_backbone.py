"""Backbone ``small``: pooling against torch's own, parameters by formula, shapes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from harness.backbones.small import AdaptiveMean, Small
from harness.conformance.synthetic import UNLIKE, synthetic_spec
from harness.errors import UserError
from harness.registry import DATASETS
from methods.hemis import HeMIS
from methods.sf_md import SFMD

SIZES = sorted({*itertools.product(range(1, 10), repeat=2), (28, 28), (13, 40)})


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_adaptive_mean_equals_adaptive_avg_pool2d(height: int, width: int) -> None:
    x = torch.randn(
        2, 3, height, width, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    ours, theirs = AdaptiveMean(height, width)(x), F.adaptive_avg_pool2d(x, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def counted(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("width", [1, 8, 16])
@pytest.mark.parametrize("classes", [2, 10])
def test_T01_parameter_counts_by_formula(width: int, classes: int) -> None:
    spec = synthetic_spec(4, classes)
    backbone = Small(spec, {"width": width})
    for name, (channels, _, _) in zip(spec.names, UNLIKE, strict=True):
        assert (
            counted(backbone.encoder(name)) == 9 * channels * width + 9 * width * width + 4 * width
        )
    assert counted(backbone.trunk([5 * width])) == 9 * 5 * width * 2 * width + 4 * width
    assert counted(backbone.head([1])) == 2 * width * classes + classes


def test_T01_parameters_of_whole_methods_on_digits() -> None:
    backbone = Small(DATASETS.get("digits")().spec)
    encoders = 3 * (9 * 16 + 9 * 16 * 16 + 64)
    head = 32 * 10 + 10
    assert SFMD(backbone).parameter_counts() == {"training": 21_754, "inference": 21_754}
    assert encoders + 9 * 48 * 32 + 64 + head == 21_754
    # Mean and variance instead of three maps: two thirds of the trunk's weights.
    assert HeMIS(backbone).parameter_counts()["inference"] == encoders + 9 * 32 * 32 + 64 + head


def test_unlike_inputs_meet_in_one_map() -> None:
    spec = synthetic_spec(4, 5)
    backbone = Small(spec, {"width": 8})
    maps = [backbone.encoder(m.name)(torch.zeros(6, *m.shape))[0] for m in spec.modalities]
    assert {tuple(m.shape) for m in maps} == {(6, 8, 2, 2)} == {(6, *backbone.maps[0])}
    z = backbone.trunk([32])((torch.cat(maps, 1),))
    assert tuple(z.shape) == (6, 16, 2, 2) == (6, *backbone.z)
    assert tuple(backbone.head([1])(z, ()).shape) == (6, 5)


def test_the_head_is_linear_in_the_pooled_map() -> None:
    backbone = Small(synthetic_spec(2, 3), {"width": 4})
    head, z = backbone.head([1]).requires_grad_(False), torch.randn(5, 8, 2, 2)
    weight, bias = head.linear.weight, head.linear.bias
    expected = [
        [sum(weight[k] * z[b].sum((1, 2)) / 4) + bias[k] for k in range(3)] for b in range(5)
    ]
    torch.testing.assert_close(head(z, ()), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_every_call_makes_a_fresh_module() -> None:
    backbone = Small(synthetic_spec(2, 3))
    assert backbone.encoder("m0") is not backbone.encoder("m0")
    assert not torch.equal(backbone.head([1]).linear.weight, backbone.head([1]).linear.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 0}, "backbone.width=0"), ({"witdh": 8}, "did you mean 'backbone.width'")],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Small(synthetic_spec(2, 3), options)
