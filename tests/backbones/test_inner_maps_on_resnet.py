"""mmFormer and ShaSpec on the CASIA-SURF network: parameters, and its inner map."""

from __future__ import annotations

import pytest
import torch

from harness.backbones.resnet import ResNet
from methods.mmformer import MMFormer
from methods.sf_md import SFMD
from methods.shaspec import ShaSpec
from tests.support.naive import faces

TABLE = [
    ("mid128", {"d": 256, "mlp": 1024}, 2_664_704, 3_700_864),
    ("mid128", {"d": 512, "mlp": 4096}, 16_345_344, 22_089_600),
    ("mid256", {"d": 256, "mlp": 1024}, 2_786_304, 3_981_568),
]
"""The spec's table; its late512 rows are for 7x7 maps, and this network's are 4x4 at 112x112."""


@pytest.mark.parametrize(("fusion", "sizes", "two", "three"), TABLE)
def test_matrix_11_mmformer_adds_what_the_table_says(
    fusion: str, sizes: dict[str, int], two: int, three: int
) -> None:
    for count, expected in ((2, two), (3, three)):
        network = ResNet(faces(count), {"fusion": fusion})
        ours, baseline = (
            method.parameter_counts()["inference"]
            for method in (MMFormer(network, hparams=sizes), SFMD(network))
        )
        assert ours - baseline == expected


@pytest.mark.parametrize(
    ("fusion", "trunk", "inner"), [("mid128", 10_494_466, (256,)), ("mid256", 8_394_754, ())]
)
def test_matrix_17_training_only_heads(fusion: str, trunk: int, inner: tuple[int, ...]) -> None:
    network = ResNet(faces(), {"fusion": fusion})
    assert network.inner == inner
    counts = MMFormer(network).parameter_counts()
    deep = sum(2 * channels + 2 for channels in (3 * network.maps[0].channels, *inner))
    assert counts["training"] - counts["inference"] == trunk + deep


def test_the_released_transplant_adds_19_59_million() -> None:
    network = ResNet(faces())
    counts = MMFormer(network, "released", {"d": 512, "mlp": 4096}).parameter_counts()
    assert (
        round((counts["inference"] - SFMD(network).parameter_counts()["inference"]) / 1e6, 2)
        == 19.59
    )
    # The auxiliary predictor: layer 4 and a linear layer, on the shared layer 3.
    assert counts["training"] - counts["inference"] == 8_393_728 + 1_026


def test_T01_shaspec() -> None:
    assert ShaSpec(ResNet(faces())).parameter_counts()["training"] == 13_893_285
    assert ShaSpec(ResNet(faces()), "released").parameter_counts()["training"] == 13_959_463 - 258


def test_stages_are_the_trunk_cut_in_two() -> None:
    network = ResNet(faces(side=32), {"width": 8})
    trunk, head = network.trunk([48]).eval(), network.head([48])
    fused = (torch.randn(2, 48, 4, 4),)
    passed = network.through(trunk, head, fused)
    assert tuple(passed.inner[0].shape) == (2, 32, 2, 2) == (2, network.inner[0], 2, 2)
    assert torch.equal(passed.z, trunk(fused)) and torch.equal(
        passed.logits, head(trunk(fused), fused)
    )
    last = network.last_stage([48]).eval()
    last.layers[0].load_state_dict(trunk.layers[1].state_dict())
    assert torch.equal(last((passed.inner[0],)), passed.z)
