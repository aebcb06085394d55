"""Whole methods on the CASIA-SURF network and on ESANet: published sizes and costs.

Expectations are the tables of the method specs (sections 1, 6 and 7), not sums of our layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.backbones.esanet import ESANet
from harness.backbones.resnet import ResNet
from harness.dataset import DataSpec, Modality
from harness.method import Method
from harness.protocol.hyperparameters import Value
from harness.protocol.masks import draw_present
from harness.protocol.seeds import Noise, Streams
from methods._blocks import gaussian_kl
from methods.dmrnet import DMRNet
from methods.hemis import HeMIS
from methods.lcr import LCR
from methods.mmformer import MMFormer
from methods.rfnet import RFNet
from methods.sf_md import SFMD
from methods.shaspec import ShaSpec
from tests.support.naive import faces, on_resnet

FUSIONS = ("mid128", "mid256", "late512")
D512: dict[str, Value] = {"d": 512, "mlp": 4096}

# ------------------------------------------------------ parameters: section 6 of the second spec

Row = tuple[type[Method], str, dict[str, Value], int, tuple[int, int, int]]
ADDED_AT_THREE: list[
    Row
] = [  # method, variant, hyperparameters, classes, what three modalities add
    (HeMIS, "paper", {}, 2, (-327_680, -1_310_720, -262_144)),
    (LCR, "released", {}, 2, (25_353, 99_849, 396_297)),
    (LCR, "paper", {}, 2, (25_755, 100_635, 397_851)),
    (LCR, "paper", {"coefficients": "channel"}, 2, (100_050, 396_690, 1_579_794)),
    (RFNet, "paper", {}, 2, (-134_024, -742_472, 6_582_840)),
    (RFNet, "paper", {}, 8, (263_152, 244_528, 9_339_312)),
    (MMFormer, "paper", D512, 2, (22_089_600, 22_650_624, 24_224_256)),
    (MMFormer, "paper", {}, 2, (3_700_864, 3_981_568, 4_768_768)),
]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("cls", "variant", "hparams", "classes", "added"), ADDED_AT_THREE)
def test_matrix_11_whole_methods_differ_from_the_baseline_by_the_published_numbers(
    cls: type[Method],
    variant: str,
    hparams: dict[str, Value],
    classes: int,
    added: tuple[int, int, int],
    fusion: str,
) -> None:
    # The table has 7x7 maps at late512, which this network has at 224x224.
    spec = faces(side=224 if fusion == "late512" else 112)
    if classes > 2:
        labels = tuple(f"c{k}" for k in range(classes))
        spec = replace(spec, task="classification", classes=labels)
    # RFNet sorts class counts while it is built, which weights without content cannot.
    with torch.device("cpu" if cls is RFNet else "meta"):
        network = ResNet(spec, {"fusion": fusion})
        ours = cls(network, variant, hparams).parameter_counts()["inference"]
        baseline = SFMD(network).parameter_counts()["inference"]
    assert ours - baseline == added[FUSIONS.index(fusion)]


@pytest.mark.parametrize(("head", "published"), [("trunk", 264_194), ("linear", 1_026)])
def test_matrix_17_unimodal_predictors_after_late_fusion(head: str, published: int) -> None:
    counts = RFNet(
        ResNet(faces(), {"fusion": "late512"}), "paper", {"sep_head": head}
    ).parameter_counts()
    assert counts["training"] - counts["inference"] == published


@pytest.mark.parametrize(("hparams", "millions"), [({}, 7.5), (D512, 21.8)])
def test_matrix_11_mmformers_fusion_of_a_pyramid(
    hparams: dict[str, Value], millions: float
) -> None:
    shapes = (Modality("rgb", (3, 480, 640)), Modality("depth", (1, 480, 640)))
    labels = tuple(f"c{k}" for k in range(40))
    spec = DataSpec("rooms", "segmentation", shapes, labels, "miou", aligned=True)
    with torch.device("meta"):
        model = MMFormer(
            ESANet(spec, {"encoder": "r18_basic", "form": "parallel"}), "paper", hparams
        )
    outside = ("encoders.", "trunk.", "head.", "auxiliary.")
    sizes = {
        name: p.numel() for name, p in model.named_parameters() if not name.startswith(outside)
    }
    scales = sum(size for name, size in sizes.items() if name.startswith("scale_fusion."))
    assert round(sum(sizes.values()) / 1e6, 1) == millions
    assert round(scales / 1e6, 1) == 4.2


# --------------------------------------------------------- multiply-accumulates at 112x112, V = 3


def macs(run: Callable[[], object]) -> float:
    """Multiply-accumulates of convolutions, linear layers and matrix products, in millions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2 / 1e6


def maps(channels: int) -> Tensor:
    return torch.randn(1, channels, 14, 14)


@pytest.mark.parametrize(("channels", "published"), [(384, 269), (256, 253), (128, 237)])
def test_macs_of_the_trunk_behind_concatenation_moments_and_regions(
    channels: int, published: int
) -> None:
    trunk = ResNet(faces()).trunk([channels])
    assert round(macs(lambda: trunk((maps(channels),)))) == published


def test_macs_of_an_encoder_and_of_rfnets_blocks() -> None:
    network = ResNet(faces())
    encoder, model = network.encoder("rgb"), RFNet(network).eval()
    features = [maps(128) for _ in range(3)]
    regions = torch.full((1, 2, 14, 14), 0.5)
    assert round(macs(lambda: encoder(torch.randn(1, 3, 112, 112)))) == 224
    assert round(macs(lambda: model.prm[0](torch.cat(features, 1), None))) == 5
    assert round(macs(lambda: model.rfm[0](features, regions))) == 77


@pytest.mark.parametrize(
    ("hparams", "intra", "inter"), [({}, 174, 639), (D512, 1067, 3437)], ids=["d256", "d512"]
)
def test_macs_of_mmformers_layers(hparams: dict[str, Value], intra: int, inter: int) -> None:
    model = MMFormer(ResNet(faces()), "paper", hparams).eval()
    d, noise = int(model.settings["d"]), Noise(torch.Generator())
    # With noise the attention is written out, so that its products are counted.
    one = macs(lambda: model.intra[0](torch.randn(1, 196, d), model.dropout, noise))
    everything = macs(lambda: model.inter(torch.randn(1, 588, d), model.dropout, noise))
    assert (round(one), round(everything)) == (intra, inter)


def pictures(batch: int) -> dict[str, Tensor]:
    generator = Streams(5).generator("pictures")
    return {m.name: torch.randn(batch, *m.shape, generator=generator) for m in faces().modalities}


def test_macs_of_the_shaspec_port() -> None:
    model = on_resnet(ShaSpec)
    released = ShaSpec(ResNet(faces()), "released").eval()
    present = torch.ones(1, 3, dtype=torch.bool)
    for network in (model, released):
        assert round(macs(lambda network=network: network(pictures(1), present))) == 1631


def test_encoding_once_costs_2_6_instead_of_6_6_billion() -> None:
    model, inputs = on_resnet(SFMD), pictures(1)
    masks = [torch.tensor([combination.mask]) for combination in model.combinations]

    def once() -> None:
        cache = model.prepare(model.encode_all(inputs))
        for mask in masks:
            model.combine(cache, mask)

    def each_time() -> None:
        for mask in masks:
            model(inputs, mask)

    assert round(macs(once) / 1e3, 1) == 2.6
    assert round(macs(each_time) / 1e3, 1) == 6.6


# ----------------------------------------------------------------- the size of the KL at the start


def test_T08_kl_of_dmrnet_on_its_published_network() -> None:
    """6,750 to 6,940, 4096 times the mean variance, which was measured as 1.69 on the real net."""
    model = on_resnet(DMRNet).train()
    generator = Streams(0).generator("masks")
    present = draw_present(torch.ones(16, 3, dtype=torch.bool), generator)
    with torch.no_grad():
        output = model(pictures(16), present, Noise(generator))
    kl = gaussian_kl(output.extra["mu"], output.extra["logvar"]).item()
    variance = output.extra["logvar"].exp().mean().item()
    assert output.extra["mu"][0].numel() == 8192
    assert kl == pytest.approx(4096 * variance, rel=1e-3)
    assert 6_750 <= kl <= 6_940
    assert variance == pytest.approx(1.69, abs=0.03)
