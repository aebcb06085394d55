"""The CASIA-SURF network: published parameters, shapes, cost, a second implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.backbones.resnet import ResNet
from harness.dataset import DataSpec, Modality
from harness.errors import UserError
from harness.method import Method
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.testing import check_method
from harness.training.trial import run_trial
from methods.dmrnet import DMRNet
from methods.hemis import HeMIS
from methods.sf_md import SFMD
from tests.support.naive import FACES, faces, on_resnet


def pictures(spec: DataSpec, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {m.name: torch.randn(batch, *m.shape, generator=generator) for m in spec.modalities}


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---------------------------------------------------------------------- parameter counts


def test_T1_parameters() -> None:
    network = on_resnet(SFMD)
    assert size(network.encoders[0]) == 677_576
    assert network.parameter_counts() == {"training": 13_182_554, "inference": 13_182_554}
    assert on_resnet(DMRNet).parameter_counts() == {"training": 13_709_914, "inference": 13_446_234}


def test_parameters_per_block() -> None:
    encoder = ResNet(faces()).encoder("rgb")
    convolution, norm, *_ = encoder.stem  # type: ignore[misc]
    assert [size(convolution), size(norm), *map(size, encoder.layers)] == [
        1_728,
        128,
        147_968,
        525_568,
        2_184,
    ]
    trunk, head = ResNet(faces()).trunk([384]), ResNet(faces()).head([384])
    assert [*map(size, trunk.layers), size(head)] == [2_755_072, 8_393_728, 1_026]


@pytest.mark.parametrize(
    ("fusion", "encoder", "trunks", "totals"),
    [
        ("mid128", 677_576, (10_822_146, 11_149_826), (12_177_298, 13_182_554)),
        ("mid256", 2_775_104, (9_705_474, 11_016_194), (15_255_682, 19_341_506)),
        ("late512", 11_168_832, (526_338, 788_482), (22_864_002, 34_294_978)),
    ],
)
def test_baseline_table_of_section_6(
    fusion: str, encoder: int, trunks: tuple[int, int], totals: tuple[int, int]
) -> None:
    for modalities, trunk, total in zip((2, 3), trunks, totals, strict=True):
        network = on_resnet(SFMD, faces(modalities), fusion=fusion)
        assert [size(e) for e in network.encoders] == [encoder] * modalities
        assert size(network.trunk) + size(network.head) == trunk  # type: ignore[arg-type]
        assert size(network) == total


@pytest.mark.parametrize(
    ("fusion", "difference"), [("mid128", -327_680), ("mid256", -1_310_720), ("late512", -262_144)]
)
def test_matrix_11_hemis_difference_to_the_baseline(fusion: str, difference: int) -> None:
    for modalities, expected in ((2, 0), (3, difference)):
        spec = faces(modalities)
        assert (
            size(on_resnet(HeMIS, spec, fusion=fusion)) - size(on_resnet(SFMD, spec, fusion=fusion))
            == expected
        )


# ---------------------------------------------------------------------- shapes and cost


def test_T2_shapes_at_112() -> None:
    backbone = ResNet(faces())
    encoder, trunk = backbone.encoder("rgb").eval(), backbone.trunk([384]).eval()
    seen: list[tuple[int, ...]] = []
    for layer in (*encoder.stem, *encoder.layers, *trunk.layers):  # type: ignore[misc]
        layer.register_forward_hook(lambda m, i, output: seen.append(tuple(output.shape[1:])))
    (fmap,) = encoder(torch.zeros(1, 3, 112, 112))
    fused = torch.cat([fmap] * 3, 1)
    z = trunk((fused,))
    stem = [(64, 56, 56)] * 3 + [(64, 28, 28)]
    assert seen == [*stem, (64, 28, 28), (128, 14, 14), (128, 14, 14), (256, 7, 7), (512, 4, 4)]
    assert fused.shape[1:] == (384, 14, 14) and z.shape[1:] == (512, 4, 4)


@pytest.mark.parametrize(("cls", "published"), [(SFMD, 0.940e9), (DMRNet, 0.949e9)])
def test_published_multiply_accumulates(cls: type[Method], published: float) -> None:
    network, spec = on_resnet(cls), faces()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pictures(spec, 1), torch.ones(1, 3, dtype=torch.bool))
    assert counter.get_total_flops() / 2 == pytest.approx(published, abs=0.0005e9)


@pytest.mark.parametrize("fusion", ["mid128", "mid256", "late512"])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (97, 64), (33, 7), (8, 1)])
def test_declared_maps_are_the_maps(fusion: str, height: int, width: int) -> None:
    spec = DataSpec(
        "odd",
        "classification",
        (Modality("a", (2, height, width)),),
        ("x", "y", "z"),
        "accuracy",
        aligned=True,
    )
    backbone = ResNet(spec, {"fusion": fusion, "width": 8})
    (fmap,) = backbone.encoder("a")(torch.randn(2, 2, height, width))
    z = backbone.trunk([fmap.shape[1]])((fmap,))
    assert (tuple(fmap.shape[1:]), tuple(z.shape[1:])) == (
        tuple(backbone.maps[0]),
        tuple(backbone.z),
    )
    assert backbone.head([fmap.shape[1]])(z, (fmap,)).shape == (2, 3)


def test_initial_weights() -> None:
    """Kaiming fan_out for ReLU: std sqrt(2 / (k^2 * C_out)).

    Batch norm 1 and 0; linear layers uniform within 1 / sqrt(inputs).
    """
    network = on_resnet(SFMD)
    layers = dict(network.named_modules())
    convolutions = {
        name: layer for name, layer in layers.items() if isinstance(layer, torch.nn.Conv2d)
    }
    assert len(convolutions) == 3 * (1 + 4 + 4 + 1) + 2 * (4 + 1)
    for convolution in convolutions.values():
        weight = convolution.weight.detach()
        assert convolution.bias is None
        assert float(weight.std()) == pytest.approx(
            (2 / (weight[0, 0].numel() * weight.shape[0])) ** 0.5, rel=0.06
        )
    for norm in (layer for layer in layers.values() if isinstance(layer, torch.nn.BatchNorm2d)):
        assert bool((norm.weight == 1).all()) and bool((norm.bias == 0).all())
    largest = float(dict(network.named_parameters())["head.linear.weight"].detach().abs().max())
    assert 0.98 * 512**-0.5 < largest <= 512**-0.5


# ---------------------------------------------------------------------- a second implementation


def norm(x: Tensor, weights: dict[str, Tensor], key: str) -> Tensor:
    shift, scale = (
        weights[f"{key}.running_mean"],
        (weights[f"{key}.running_var"] + 1e-5).rsqrt() * weights[f"{key}.weight"],
    )
    return (x - shift[:, None, None]) * scale[:, None, None] + weights[f"{key}.bias"][:, None, None]


def block(x: Tensor, weights: dict[str, Tensor], key: str, stride: int) -> Tensor:
    inner = norm(
        F.conv2d(x, weights[f"{key}.residual.0.weight"], stride=stride, padding=1),
        weights,
        f"{key}.residual.1",
    )
    inner = norm(
        F.conv2d(inner.clamp_min(0), weights[f"{key}.residual.3.weight"], padding=1),
        weights,
        f"{key}.residual.4",
    )
    if f"{key}.shortcut.0.weight" in weights:
        x = norm(
            F.conv2d(x[:, :, ::stride, ::stride], weights[f"{key}.shortcut.0.weight"]),
            weights,
            f"{key}.shortcut.1",
        )
    return (inner + x).clamp_min(0)


def encoded(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    x = norm(
        F.conv2d(x, weights["stem.0.weight"], stride=2, padding=1), weights, "stem.1"
    ).clamp_min(0)
    padded = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    x = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
    for layer, stride in ((0, 1), (1, 2)):
        x = block(block(x, weights, f"layers.{layer}.0", stride), weights, f"layers.{layer}.1", 1)
    gates = []
    for sample in x:
        means = torch.stack([channel.mean() for channel in sample])
        hidden = (
            weights["layers.2.gate.0.weight"] @ means + weights["layers.2.gate.0.bias"]
        ).clamp_min(0)
        gates.append(
            1
            / (
                1
                + (
                    -(weights["layers.2.gate.2.weight"] @ hidden + weights["layers.2.gate.2.bias"])
                ).exp()
            )
        )
    return x * torch.stack(gates)[:, :, None, None]


def predicted(inputs: dict[str, Tensor], mask: tuple[bool, ...], network: Method) -> Tensor:
    """Logits of one combination.

    Parameters and running statistics are read from the model, nothing else.
    """
    state = network.state_dict()
    part = {
        name: {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
        for name in ("trunk.", "head.")
    }
    maps = []
    for v, (name, shown) in enumerate(zip(network.spec.names, mask, strict=True)):
        own = {
            k.removeprefix(f"encoders.{v}."): w
            for k, w in state.items()
            if k.startswith(f"encoders.{v}.")
        }
        maps.append(encoded(inputs[name], own) * float(shown))
    x = torch.cat(maps, 1)
    for layer in (0, 1):
        x = block(
            block(x, part["trunk."], f"layers.{layer}.0", 2), part["trunk."], f"layers.{layer}.1", 1
        )
    return x.flatten(2).mean(2) @ part["head."]["linear.weight"].T + part["head."]["linear.bias"]


@torch.no_grad()
def test_naive_second_implementation_agrees_on_all_combinations() -> None:
    spec = faces(side=41)
    network, inputs = on_resnet(SFMD, spec, width=16), pictures(spec)
    network.train()(
        inputs, torch.ones(2, 3, dtype=torch.bool)
    )  # running statistics that are not 0 and 1
    network.eval()
    for combination in network.combinations:
        logits = network(inputs, torch.tensor(combination.mask).expand(2, -1)).logits
        torch.testing.assert_close(
            logits, predicted(inputs, combination.mask, network), atol=1e-5, rtol=1e-5
        )


# ---------------------------------------------------------------------- SF-MD on it


@torch.no_grad()
def test_T4_an_absent_input_leaves_the_logits_bit_for_bit() -> None:
    network, inputs = on_resnet(SFMD), pictures(faces())
    for absent in range(3):
        present = torch.ones(2, 3, dtype=torch.bool)
        present[:, absent] = False
        clean = network(inputs, present).logits
        for value in (1e3 * torch.randn(2, 3, 112, 112), torch.full((2, 3, 112, 112), torch.nan)):
            assert torch.equal(clean, network(inputs | {FACES[absent]: value}, present).logits)


def test_T5_gradient_reaches_present_inputs_only() -> None:
    network = on_resnet(SFMD)
    inputs = {name: x.requires_grad_() for name, x in pictures(faces()).items()}
    present = torch.tensor([[True, False, True], [False, True, True]])
    network(inputs, present).logits.square().sum().backward()
    for v, name in enumerate(FACES):
        for row in range(2):
            gradient = inputs[name].grad
            assert gradient is not None and bool(gradient[row].any()) == bool(present[row, v])


@torch.no_grad()
def test_T6_all_modalities_present_equals_the_unmasked_network() -> None:
    network, inputs = on_resnet(SFMD), pictures(faces())
    maps = [encoder(inputs[name])[0] for name, encoder in zip(FACES, network.encoders, strict=True)]
    fused = (torch.cat(maps, 1),)
    plain = network.head(network.trunk(fused), fused)  # type: ignore[operator]
    assert torch.equal(plain, network(inputs, torch.ones(2, 3, dtype=torch.bool)).logits)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["mid128", "mid256", "late512"])
def test_sf_md_on_it_conforms(fusion: str) -> None:
    check_method(
        SFMD,
        modalities=(3,),
        classes=(2,),
        backbone=lambda spec: ResNet(spec, {"width": 8, "fusion": fusion}),
    )


# ---------------------------------------------------------------------- as a part of a study


def test_modalities_of_unlike_sizes_are_refused_before_anything_starts(tmp_path: Path) -> None:
    tall = DataSpec(
        "tall",
        "classification",
        (Modality("a", (1, 64, 64)), Modality("b", (1, 128, 64))),
        ("x",),
        "accuracy",
        False,
    )
    with pytest.raises(
        UserError, match="needs modalities of one height and width, and tall has a 64x64, b 128x64"
    ):
        ResNet(tall)
    with pytest.raises(UserError, match=r"backbone\.width=20 must be a multiple of 8"):
        Plan(load_study(["backbone.name=resnet", "backbone.width=20", f"output={tmp_path}"]))
    with pytest.raises(UserError, match=r"backbone\.fusion.*late51"):
        Plan(load_study(["backbone.name=resnet", "backbone.fusion=late51", f"output={tmp_path}"]))


def test_a_narrow_one_trains(tmp_path: Path) -> None:
    arguments = [
        "backbone.name=resnet",
        "backbone.width=8",
        "dataset.limit=40",
        "train.epochs=1",
        "seeds=[0]",
        f"output={tmp_path}",
    ]
    for trial in Plan(load_study([*arguments, "methods=[sf_md]"])).trials:
        assert trial.job.spec.backbone == {"name": "resnet", "fusion": "mid128", "width": 8}
        assert run_trial(trial.job).status == "done"
