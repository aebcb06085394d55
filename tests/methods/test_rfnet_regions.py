"""RFNet's region maps and region fusion: closed forms, grouping of classes, parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import MapShape
from harness.errors import UserError
from harness.protocol.label_maps import VOID
from methods._rfnet import RegionFusion, RegionMaps, grouping, norm_for, region_averages
from methods.rfnet import RFNet, labels_for
from methods.sf_md import SFMD
from tests.support import matrix_rows as rows

V, K, C = 3, 4, 6


def fusion(zero_gates: bool = True) -> RegionFusion:
    torch.manual_seed(0)
    rfm = RegionFusion(C, V, K, nn.InstanceNorm2d)
    if zero_gates:
        for parameter in rfm.gates.parameters():
            nn.init.zeros_(parameter)
    return rfm


def maps(batch: int = 2, side: int = 5) -> Tensor:
    return torch.randn(batch, V, C, side, side, generator=torch.Generator().manual_seed(1))


def softmax_maps(batch: int = 2, side: int = 5) -> Tensor:
    return (
        3 * torch.randn(batch, K, side, side, generator=torch.Generator().manual_seed(2))
    ).softmax(1)


@torch.no_grad()
def test_matrix_04_rfnet_uniform_regions_and_zero_gates() -> None:
    y = maps()
    regions = fusion().region_features(y, torch.full((2, K, 5, 5), 1 / K))
    assert torch.allclose(regions, (0.5 / K * y.sum(1))[:, None].expand_as(regions), atol=1e-6)


@torch.no_grad()
def test_matrix_04_rfnet_regions_of_any_softmax_sum_to_half_the_modalities() -> None:
    y = maps()
    assert torch.allclose(
        fusion().region_features(y, softmax_maps()).sum(1), 0.5 * y.sum(1), atol=1e-6
    )


def test_matrix_04_rfnet_averages_are_weighted_means() -> None:
    y, p = maps().double(), softmax_maps().double()
    averages, shares = region_averages(y, p)
    for b in range(2):
        for k in range(K):
            assert shares[b, k].item() == pytest.approx(p[b, k].mean().item(), abs=1e-6)
            for v in range(V):
                expected = (y[b, v] * p[b, k]).sum((1, 2)) / p[b, k].sum()
                assert torch.allclose(averages[b, k, v].double(), expected, atol=1e-5)


def test_matrix_04_rfnet_one_hot_half_gives_that_half_s_plain_mean() -> None:
    y, p = maps(side=4), torch.zeros(2, 2, 4, 4)
    p[:, 0, :2], p[:, 1, 2:] = 1.0, 1.0
    averages, shares = region_averages(y, p)
    assert torch.allclose(averages[:, 0], y[:, :, :, :2].mean((3, 4)), atol=1e-5)
    assert torch.allclose(averages[:, 1], y[:, :, :, 2:].mean((3, 4)), atol=1e-5)
    assert torch.allclose(shares, torch.full((2, 2), 0.5), atol=1e-6)


def test_a_region_that_no_place_belongs_to_is_finite() -> None:
    p = torch.zeros(2, K, 5, 5)
    p[:, 0] = 1.0
    y = maps().requires_grad_()
    averages, _ = region_averages(y, p)
    averages.square().sum().backward()  # type: ignore[no-untyped-call]
    assert not averages[:, 1:].any() and y.grad is not None and y.grad.isfinite().all()


def test_matrix_16_averages_do_not_overflow_half_precision() -> None:
    with torch.autocast(
        "cpu", dtype=torch.float16
    ):  # the sum over 32 x 32 places is 204,800; float16 ends at 65,504
        averages, _ = region_averages(
            torch.full((1, V, C, 32, 32), 200.0), torch.ones(1, 1, 32, 32)
        )
    assert torch.allclose(averages, torch.full_like(averages, 200.0), rtol=1e-5)


@torch.no_grad()
def test_matrix_04_rfnet_gates_lie_between_0_and_1() -> None:
    w = fusion(zero_gates=False).gate_weights(5 * maps(), softmax_maps())
    assert w.shape == (2, K, V) and w.min() > 0 and w.max() < 1 and w.std() > 0.01


# ---------------------------------------------------------------------- regions of many classes


def test_grouping_keeps_the_most_frequent_classes_alone() -> None:
    groups = grouping(torch.tensor([3.0, 9.0, 0.0, 9.0, 5.0]), 3)
    # 1 and 3 are the most frequent (a tie goes to the lower index); 0, 2 and 4 are together.
    assert groups.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert torch.equal(grouping(torch.zeros(4), 4), torch.eye(4))


def test_regions_are_a_partition_of_unity_without_gradient() -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(3, 12))
    model.groups.copy_(grouping(torch.arange(12.0), 8))
    logits = torch.randn(2, 12, 3, 3, requires_grad=True)
    p = model.regions(logits)
    assert p.shape == (2, 8, 3, 3) and not p.requires_grad
    assert torch.allclose(p.sum(1), torch.ones(2, 3, 3), atol=1e-6)
    assert torch.allclose(p[:, 0], logits.softmax(1)[:, 11]) and torch.allclose(
        p[:, 7], logits.softmax(1)[:, :5].sum(1)
    )


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_classes_are_counted_in_the_first_epoch_and_group_the_rest_from_the_second(
    task: str,
) -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(3, 12, task), regions=3).train()
    target = torch.full_like(rows.make_target(model), VOID if task == "segmentation" else 10)
    target[:2], target[2:5] = 10, 7
    batch = rows.make_batch(model, rows.make_inputs(model), rows.mixed_masks(model), target)
    for epoch in range(3):
        rows.begin(model, epoch)
        assert (model.groups[7, 1] == 1 and model.groups[10, 0] == 1) == (
            epoch > 0 and task == "classification"
        )
        assert (model.groups[7, 0] == 1 and model.groups[10, 1] == 1) == (
            epoch > 0 and task == "segmentation"
        )
        rows.losses(model, batch)
    # Segmentation counts the places of the finest map, 16 x 16; void ones do not count.
    each = 1 if task == "classification" else 256
    assert model.counts[7] == 3 * each and model.counts[10] == (
        5 if task == "classification" else 2 * each
    )
    assert model.counts.sum() == (8 if task == "classification" else 5 * each)
    alone = "c10, c7" if task == "classification" else "c7, c10"
    assert model.remarks(100)[0] == f"K = 3 regions: {alone}, and the other 10 classes together"


def test_labels_are_resized_to_each_scale_without_mixing() -> None:
    target = torch.arange(4).reshape(1, 2, 2).repeat_interleave(16, 1).repeat_interleave(16, 2)
    target[:, :16, :16] = VOID
    assert labels_for(torch.zeros(1, 4, 2, 2), target).tolist() == [[[VOID, 1], [2, 3]]]
    assert labels_for(torch.zeros(1, 4, 32, 32), target).equal(target)
    noise = torch.randint(4, (2, 32, 32), generator=torch.Generator().manual_seed(3))
    assert labels_for(torch.zeros(2, 4, 4, 4), noise).equal(noise[:, 4::8, 4::8])


# ---------------------------------------------------------------------- norms


@pytest.mark.parametrize(
    ("side", "wanted", "expected"),
    [
        (4, "auto", nn.InstanceNorm2d),
        (3, "auto", nn.BatchNorm2d),
        (2, "instance", nn.InstanceNorm2d),
        (9, "batch", nn.BatchNorm2d),
    ],
)
def test_norm_without_parameters_by_size_of_the_map(
    side: int, wanted: str, expected: type[nn.Module]
) -> None:
    norm = norm_for(MapShape(8, side, side), wanted)(8)
    assert isinstance(norm, expected) and not list(norm.parameters())


def test_instance_norm_of_one_place_is_refused() -> None:
    with pytest.raises(UserError, match="norm=instance leaves nothing of a 1x1 map"):
        norm_for(MapShape(8, 1, 1), "instance")
    assert norm_for(MapShape(8, 1, 1), "auto")(8).training


# ---------------------------------------------------------------------- parameters


def size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def prm_size(c: int, v: int, classes: int, guided: bool = False) -> int:
    q = c // 4
    return (
        v * c * q
        + q
        + 9 * q * q
        + q
        + q * c
        + c
        + 16 * c * (2 if guided else 1)
        + 16
        + 16 * classes
        + classes
    )


def rfm_size(c: int, v: int, k: int) -> int:
    half = 9 * c * c + c + c * c // 2 + c // 2
    return (
        k * ((v * c + 1) * 128 + 128 + 128 * v + v)
        + (k * c * c + c + half)
        + (v * c * c + c + half)
    )


def first_convolution(c: int) -> int:
    """What a trunk's first layer has per further c input channels: 3x3 and 1x1 to 2c, after late
    fusion 1x1 to 512.
    """
    return c * 512 if c == 512 else 10 * c * 2 * c


TABLE_6 = {  # channels, K: (V = 2, V = 3), difference to masked concatenation
    (128, 2): (140_150, -134_024),
    (256, 2): (420_534, -742_472),
    (512, 2): (6_385_974, 6_582_840),
    (128, 8): (438_248, 263_152),
    (256, 8): (1_210_152, 244_528),
    (512, 8): (8_748_456, 9_339_312),
}


@pytest.mark.parametrize(("c", "k"), TABLE_6)
@pytest.mark.parametrize("v", [2, 3])
def test_matrix_11_parameter_table(c: int, k: int, v: int) -> None:
    blocks = size(RegionMaps(c, v, k, False, nn.InstanceNorm2d)) + size(
        RegionFusion(c, v, k, nn.InstanceNorm2d)
    )
    assert blocks == prm_size(c, v, k) + rfm_size(c, v, k)
    assert blocks + (1 - v) * first_convolution(c) == TABLE_6[c, k][v - 2]


@pytest.mark.parametrize(("k", "millions"), [(4, 10.2), (8, 12.6), (40, 31.6)])
def test_matrix_11_pyramid_table(k: int, millions: float) -> None:
    scales = (64, 128, 256, 512)
    assert sum(
        prm_size(c, 2, k, c < 512) + rfm_size(c, 2, k) for c in scales
    ) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("v", [2, 3, 4])
@pytest.mark.parametrize("classes", [2, 5, 12])
def test_matrix_11_difference_to_sf_md(v: int, classes: int) -> None:
    spec, c, k = rows.make_spec(v, classes), 8, min(classes, 8)
    more = (
        rows.make_model(RFNet, spec).parameter_counts()["inference"]
        - rows.make_model(SFMD, spec).parameter_counts()["inference"]
    )
    # The small trunk is one 3x3 convolution to 2c; the maps have one channel per class, the fusion
    # one part per region.
    assert more == prm_size(c, v, classes) + rfm_size(c, v, k) + (1 - v) * c * 9 * 2 * c
    unaligned = rows.make_model(
        RFNet, rows.make_spec(v, classes, aligned=False)
    ).parameter_counts()["inference"]
    assert (
        unaligned - rows.make_model(SFMD, spec).parameter_counts()["inference"]
        == rfm_size(c, v, 1) + (1 - v) * c * 18 * c
    )


def test_matrix_11_pyramid_blocks_follow_the_formula() -> None:
    model: Any = rows.make_model(RFNet, rows.make_spec(2, 12, "segmentation"))
    for s, c in enumerate((8, 16, 32, 64)):
        assert size(model.prm[s]) == prm_size(c, 2, 12, s < 3) and size(model.rfm[s]) == rfm_size(
            c, 2, 8
        )
    guides = [size(guide) for guide in model.guides]
    merges = [2 * d * d + d for d in (16, 32)]
    assert guides == [9 * 16 * 8 + 8 + merges[0], 9 * 32 * 16 + 16 + merges[1], 9 * 64 * 32 + 32]
