"""HeMIS: closed forms of the method spec (section 2.6), invariances, a second implementation."""

from __future__ import annotations

import itertools
import statistics

import pytest
import torch
from torch import Tensor

from harness.backbones.small import Small
from harness.conformance.synthetic import ALIKE, synthetic_spec, synthetic_split
from harness.protocol.combinations import lattice
from methods._blocks import mean_and_variance
from methods.hemis import HeMIS, released_moments

VALUES = (1.0, 3.0, 8.0)
TABLE = [
    # mask, mean, variance with divisor n - 1, and the released transplant's
    ("111", 4.0, 13.0, 8.6666667),
    ("110", 2.0, 2.0, 3.0),
    ("101", 4.5, 24.5, 22.375),
    ("011", 5.5, 12.5, 21.375),
    ("100", 1.0, 0.0, 0.0),
    ("010", 3.0, 0.0, 0.0),
    ("001", 8.0, 0.0, 0.0),
]
MOMENTS = {"paper": mean_and_variance, "released": released_moments}


def as_mask(text: str) -> Tensor:
    return torch.tensor([[bit == "1" for bit in text]])


def maps(count: int = 3, batch: int = 6, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, ...]:
    return tuple(
        scale * torch.randn(count, batch, 4, 2, 2, generator=torch.Generator().manual_seed(seed))
    )


def all_masks(count: int) -> Tensor:
    return torch.tensor([c.mask for c in lattice("abcd"[:count])])


@pytest.mark.parametrize(("mask", "mean", "unbiased", "released"), TABLE)
def test_2_6_closed_forms(mask: str, mean: float, unbiased: float, released: float) -> None:
    features = tuple(torch.full((1, 1, 1, 1), value) for value in VALUES)
    for variant, variance in (("paper", unbiased), ("released", released)):
        m, s = MOMENTS[variant](features, as_mask(mask))
        assert m.item() == pytest.approx(mean, rel=1e-6)
        assert s.item() == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_2_6_moments_equal_the_statistics_module(count: int) -> None:
    present = all_masks(count)
    features = maps(count, len(present))
    mean, variance = mean_and_variance(features, present)
    for b, mask in enumerate(present.tolist()):
        for place in itertools.product(range(4), range(2), range(2)):
            values = [features[v][b][place].item() for v in range(count) if mask[v]]
            assert mean[b][place].item() == pytest.approx(statistics.fmean(values), abs=1e-6)
            expected = statistics.variance(values) if len(values) > 1 else 0.0
            assert variance[b][place].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_2_6_released_variance_is_the_population_variance_plus_the_leaked_mean(count: int) -> None:
    present = all_masks(count)
    features = maps(count, len(present))
    mean, variance = released_moments(features, present)
    for b, mask in enumerate(present.tolist()):
        values = torch.stack([features[v][b] for v in range(count) if mask[v]])
        n = len(values)
        expected = values.var(0, correction=0) + (count - n) / n * values.mean(0) ** 2
        torch.testing.assert_close(
            variance[b], expected if n > 1 else torch.zeros_like(expected), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(mean[b], values.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", list(MOMENTS))
def test_2_6_permuting_modalities_with_their_mask_changes_nothing(variant: str) -> None:
    present = all_masks(3)
    features = maps(3, len(present))
    expected = MOMENTS[variant](features, present)
    for order in itertools.permutations(range(3)):
        found = MOMENTS[variant](tuple(features[v] for v in order), present[:, list(order)])
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_2_6_a_constant_shifts_the_mean_and_a_factor_scales_the_variance_by_its_square() -> None:
    present = all_masks(3)
    features = maps(3, len(present))
    mean, variance = mean_and_variance(features, present)
    shifted = mean_and_variance(tuple(f + 2.5 for f in features), present)
    torch.testing.assert_close(shifted[0], mean + 2.5, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shifted[1], variance, rtol=1e-4, atol=1e-5)
    scaled = mean_and_variance(tuple(3.0 * f for f in features), present)
    torch.testing.assert_close(scaled[0], 3.0 * mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaled[1], 9.0 * variance, rtol=1e-5, atol=1e-5)


def test_2_6_identical_maps_have_no_variance() -> None:
    present = all_masks(3)
    same = torch.full((len(present), 4, 2, 2), 0.75)
    mean, variance = mean_and_variance((same, same, same), present)
    assert torch.equal(variance, torch.zeros_like(variance))
    assert torch.equal(mean, same)


def test_the_two_pass_form_survives_a_large_mean() -> None:
    # E[f^2] - m^2 in float32 would lose all digits here and can go negative.
    features = tuple(torch.full((1, 1, 1, 1), 10_000.0 + value) for value in VALUES)
    assert mean_and_variance(features, as_mask("111"))[1].item() == pytest.approx(13.0, rel=1e-4)


@pytest.mark.parametrize("variant", list(MOMENTS))
def test_2_6_gradients_with_one_modality_are_those_of_the_mean_alone(variant: str) -> None:
    features = [f.requires_grad_() for f in maps(3, 2)]
    mean, variance = MOMENTS[variant](
        tuple(features), torch.tensor([[False, True, False]]).expand(2, -1)
    )
    gradients = torch.autograd.grad(mean.sum() + 5 * variance.sum(), features)
    assert [g.unique().tolist() for g in gradients] == [[0.0], [1.0], [0.0]]


@pytest.mark.parametrize("variant", list(MOMENTS))
@pytest.mark.parametrize("count", [2, 3, 4])
def test_logits_equal_a_naive_loop_over_samples(variant: str, count: int) -> None:
    spec = synthetic_spec(count, 5)
    model = HeMIS(Small(spec, {"width": 8}), variant).eval()
    split = synthetic_split(spec, 2**count)
    present = all_masks(count)
    rows = [{name: x[b : b + 1] for name, x in split.inputs.items()} for b in range(len(present))]
    with torch.no_grad():
        ours = model({name: x[: len(present)] for name, x in split.inputs.items()}, present).logits
        theirs = torch.cat(
            [
                naive_logits(model, variant, row, mask)
                for row, mask in zip(rows, present.tolist(), strict=True)
            ]
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def naive_logits(model: HeMIS, variant: str, inputs: dict[str, Tensor], mask: list[bool]) -> Tensor:
    """Logits of one sample.

    Only the encoders of its modalities are called, and moments are sums over a list.
    """
    chosen = [
        e(inputs[n])[0] for e, n, has in zip(model.encoders, inputs, mask, strict=True) if has
    ]
    n = len(chosen)
    mean = sum(chosen) / n
    absent = [torch.zeros_like(mean)] * (len(mask) - n) if variant == "released" else []
    squares = sum((f - mean) ** 2 for f in chosen + absent)
    divisor = n if variant == "released" else max(n - 1, 1)
    variance = squares / divisor if n > 1 else torch.zeros_like(mean)
    logits: Tensor = model.head(model.trunk((torch.cat([mean, variance], 1),)), ())
    return logits


def test_nothing_is_learned_in_the_fusion_and_its_size_does_not_depend_on_v() -> None:
    sizes = []
    for count in (2, 3, 4):
        model = HeMIS(Small(synthetic_spec(count, 5), {"width": 8}))
        modules = {name.split(".")[0] for name, _ in model.named_parameters()}
        assert modules == {"encoders", "trunk", "head"}
        sizes.append(sum(p.numel() for p in model.trunk.parameters()))
    assert sizes == [9 * 16 * 16 + 2 * 16] * 3


def test_one_encoder_for_all_makes_the_order_of_modalities_irrelevant() -> None:
    spec = synthetic_spec(3, 4, aligned=True)
    model = HeMIS(Small(spec, {"width": 8})).eval()
    for encoder in model.encoders[1:]:
        encoder.load_state_dict(model.encoders[0].state_dict())
    x = torch.randn(3, 7, *ALIKE)
    present, order = all_masks(3), [2, 0, 1]
    with torch.no_grad():
        first = model(dict(zip(spec.names, x, strict=True)), present).logits
        second = model(dict(zip(spec.names, x[order], strict=True)), present[:, order]).logits
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
