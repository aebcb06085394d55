"""The segmentation loss: torch's weighted cross-entropy with ignored pixels, summed over a head's
scales.
"""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import harness.data.class_weights
from harness.backbones.esanet import ESANet
from harness.conformance.synthetic import synthetic_spec
from harness.data.class_weights import median_frequency
from harness.dataset import DataSpec
from harness.protocol.label_maps import VOID, chunk, labels_at, pixel_loss, sides_of, with_sides
from methods.esanet_md import ESANetMD

WEIGHTS = (0.5, 2.0, 1.0, 4.0)
SIZES = (64, 8, 4, 2)


def weighted(spec: DataSpec, weights: tuple[float, ...] | None) -> DataSpec:
    return DataSpec(**(vars(spec) | {"class_weights": weights}))


def model(weights: tuple[float, ...] | None = WEIGHTS) -> ESANetMD:
    spec = weighted(synthetic_spec(2, 4, "segmentation", side=64), weights)
    return ESANetMD(ESANet(spec, {"encoder": "r18_nbt1d", "width": 4, "form": "joint"}))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(void: float = 0.3) -> Tensor:
    found = torch.randint(4, (3, 64, 64), generator=generator())
    return torch.where(torch.rand(found.shape, generator=generator(1)) < void, VOID, found)


def scales() -> list[Tensor]:
    return [
        torch.randn(3, 4, side, side, generator=generator(side), requires_grad=True)
        for side in SIZES
    ]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_scale_is_torchs_weighted_mean_with_its_gradient(
    weights: tuple[float, ...] | None,
) -> None:
    logits, target = scales()[0], labels()
    w = None if weights is None else torch.tensor(weights)
    ours, theirs = (
        pixel_loss(logits, target, w).mean(),
        F.cross_entropy(logits, target, weight=w, ignore_index=VOID),
    )
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_task_loss_is_the_plain_sum_over_four_scales(weights: tuple[float, ...] | None) -> None:
    (full, *sides), target = scales(), labels()
    w = None if weights is None else torch.tensor(weights)
    # Nearest neighbour by 8, 16 and 32, as cv2 and torch's "nearest" have it: every cell's upper
    # left pixel.
    targets = [target, target[:, ::8, ::8], target[:, ::16, ::16], target[:, ::32, ::32]]
    pairs = zip((full, *sides), targets, strict=True)
    expected = sum(
        F.cross_entropy(logits, labels, weight=w, ignore_index=VOID) for logits, labels in pairs
    )
    found = model(weights).task_loss(with_sides(full, tuple(sides)), target)
    assert tuple(found.shape) == (3,)
    torch.testing.assert_close(found.mean(), expected)
    torch.testing.assert_close(
        model(weights).task_loss(full.detach(), target).mean(),
        F.cross_entropy(full, target, w, ignore_index=VOID),
    )


def test_a_samples_share_is_its_weighted_sum_over_the_batchs_weight() -> None:
    logits, target = scales()[0].detach(), labels()
    expected = []
    for b in range(3):
        total = sum(WEIGHTS[int(y)] for y in target.flatten() if y != VOID)
        own = [
            (-logits[b].log_softmax(0)[y, i, j] * WEIGHTS[y])
            for i, row in enumerate(target[b].tolist())
            for j, y in enumerate(row)
            if y != VOID
        ]
        expected.append(3 * float(torch.stack(own).sum()) / total)
    assert model().task_loss(logits, target).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_batch_without_any_class_has_loss_zero_and_finite_gradients(
    weights: tuple[float, ...] | None,
) -> None:
    (full, *sides), target = scales(), torch.full((3, 64, 64), VOID)
    assert F.cross_entropy(full, target, ignore_index=VOID).isnan()
    loss = model(weights).task_loss(with_sides(full, tuple(sides)), target).mean()
    loss.backward()
    assert loss.item() == 0.0
    assert all(scale.grad is not None and not scale.grad.any() for scale in (full, *sides))


def test_class_weights_are_median_frequencies_over_the_images_that_have_a_class() -> None:
    # f_0 = 6/16, f_1 = f_2 = 4/8: void counts in an image's size, images without a class do not
    # count for it.
    first = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])
    second = torch.tensor([[0, 0, VOID, VOID], [2, 2, 2, 2]])
    third = torch.tensor([[VOID] * 4] * 2)
    expected = [0.5 / 0.375, 1.0, 1.0, 0.0]
    assert median_frequency([first, second, third], 4) == pytest.approx(expected)
    assert (
        doctest.testmod(harness.data.class_weights).attempted == 1
        and doctest.testmod(harness.data.class_weights).failed == 0
    )


@pytest.mark.parametrize("size", [(480, 640), (64, 96), (50, 30)])
@pytest.mark.parametrize("cells", [(15, 20), (2, 3), (7, 4)])
def test_labels_at_a_scale_equal_torchs_nearest_interpolation(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    target = torch.randint(256, (2, *size), generator=generator())
    expected = F.interpolate(target[:, None].double(), size=cells, mode="nearest")[:, 0].long()
    assert torch.equal(labels_at(target, torch.zeros(2, 4, *cells)), expected)


def test_side_predictions_travel_with_their_logits_and_their_parts() -> None:
    full, side = torch.randn(6, 4, 8, 8), torch.randn(6, 4, 2, 2)
    assert sides_of(full) == () and sides_of(with_sides(full, (side,))) == (side,)
    parts = chunk(full, 3)
    assert torch.equal(torch.cat(parts), full) and torch.equal(
        torch.cat([sides_of(part)[0] for part in parts]), side
    )


def test_training_reaches_the_side_predictors_with_the_classes_weights() -> None:
    network, blocks = model((0.0, 1.0, 0.0, 0.0)).train(), (torch.arange(12) % 4).reshape(3, 2, 2)
    target = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)
    inputs = {
        name: torch.randn(3, 3, 64, 64, generator=generator(5)) for name in network.spec.names
    }
    output = network(inputs, torch.ones(3, 2, dtype=torch.bool))
    network.task_loss(output.logits, target).mean().backward()
    assert [scale.shape[-1] for scale in sides_of(output.logits)] == [8, 4, 2]
    ones = [
        F.cross_entropy(s, labels_at(torch.where(target == 1, 1, VOID), s), ignore_index=VOID)
        for s in (output.logits, *sides_of(output.logits))
    ]
    torch.testing.assert_close(
        network.task_loss(output.logits, target).mean(), torch.stack(ones).sum()
    )
    assert all(
        stage.side.weight.grad is not None and stage.side.weight.grad.any()
        for stage in network.head.stages
    )
