"""Backbone ``esanet``: published parameters and shapes, blocks, the joint form by a naive loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones._esanet_decoder import Context, Decoder, LearnedUpsampling
from harness.backbones._esanet_encoder import Encoder, JointEncoder, NonBottleneck1D, SqueezeExcite
from harness.backbones.esanet import ESANet
from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import DataSpec, Modality
from harness.errors import UserError
from harness.protocol.combinations import lattice
from harness.protocol.hyperparameters import Value
from harness.protocol.label_maps import sides_of
from harness.protocol.seeds import Streams
from methods.esanet_md import ESANetMD
from methods.sf_md import SFMD


def rgbd(
    height: int = 480,
    width: int = 640,
    classes: int = 40,
    names: tuple[str, ...] = ("rgb", "depth"),
) -> DataSpec:
    modalities = tuple(Modality(name, (3 if name == "rgb" else 1, height, width)) for name in names)
    return DataSpec(
        "rooms", "segmentation", modalities, tuple(map(str, range(classes))), "miou", aligned=True
    )


def esanet(spec: DataSpec, **options: Value) -> ESANet:
    return ESANet(spec, {"encoder": "r18_nbt1d", "width": 8, **options})


def counted(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def parts(encoder: str, names: tuple[str, ...] = ("rgb", "depth")) -> dict[str, int]:
    """Parameters of the joint network's columns, without allocating them."""
    with torch.device("meta"):
        backbone = ESANet(rgbd(names=names), {"encoder": encoder, "form": "joint"})
        stems, mixer = [backbone.encoder(name) for name in names], backbone.mixer()
        channels = [scale.channels for scale in backbone.mixed]
        context, decoder = backbone.trunk(channels), backbone.head(channels)
    assert isinstance(mixer, JointEncoder) and isinstance(decoder, Decoder)
    pairs = zip(names, stems, mixer.streams, strict=True)
    skips = counted(decoder.skips)
    found = {name: counted(stem, stream) for name, stem, stream in pairs}
    return found | {
        "se": counted(mixer.excite),
        "skips": skips,
        "context": counted(context),
        "decoder": counted(decoder) - skips,
    }


# In thousands; the published table cuts 173.8 to 173.
COUNTS = {
    "r18_basic": (39_735, 11_177, 11_170, 90, 174, 788, 16_335),
    "r18_nbt1d": (33_458, 8_038, 8_032, 90, 174, 788, 16_335),
    "r34_basic": (59_951, 21_285, 21_278, 90, 174, 788, 16_335),
    "r34_nbt1d": (46_956, 14_787, 14_781, 90, 174, 788, 16_335),
    "r50": (71_734, 23_508, 23_502, 1_402, 690, 6_297, 16_335),
}


@pytest.mark.parametrize("encoder", list(COUNTS))
def test_published_parameter_counts(encoder: str) -> None:
    found = parts(encoder)
    assert (
        tuple(round(count / 1000) for count in (sum(found.values()), *found.values()))
        == COUNTS[encoder]
    )


def test_published_parameter_count_to_the_last_digit() -> None:
    assert sum(parts("r34_nbt1d").values()) == 46_955_840
    with torch.device("meta"):
        backbone = ESANet(rgbd(), {"encoder": "r34_nbt1d", "form": "joint"})
        assert ESANetMD(backbone).parameter_counts() == {
            "training": 46_955_840,
            "inference": 46_955_840,
        }


@pytest.mark.parametrize(("name", "millions"), [("rgb", 32.130), ("depth", 32.124)])
def test_published_parameter_counts_of_one_modality(name: str, millions: float) -> None:
    assert sum(parts("r34_nbt1d", (name,)).values()) / 1e6 == pytest.approx(millions, abs=5e-4)
    with torch.device("meta"):  # the parallel form's encoder is that network's
        parallel = SFMD(ESANet(rgbd(names=(name,))))
    assert parallel.parameter_counts()["inference"] / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(("encoder", "expansion"), [("r34_nbt1d", 1), ("r50", 4)])
def test_published_shapes_at_480x640(encoder: str, expansion: int) -> None:
    with torch.device("meta"):
        backbone = ESANet(rgbd(), {"encoder": encoder, "form": "joint"})
        inputs = {m.name: torch.zeros(2, *m.shape) for m in backbone.spec.modalities}
        stems = [backbone.encoder(name)(x)[0] for name, x in inputs.items()]
        fused = backbone.mixer()(stems, torch.ones(2, 2, dtype=torch.bool))
        channels = [scale.channels for scale in backbone.mixed]
        z, logits, decoded = _through(backbone, channels, fused)
    assert (
        [tuple(x.shape) for x in stems] == [(2, 64, 240, 320)] * 2 == [(2, *backbone.maps[0])] * 2
    )
    pyramid = [(64, 120, 160), (128, 60, 80), (256, 30, 40), (512, 15, 20)]
    assert (
        [tuple(x.shape[1:]) for x in fused]
        == [(c * expansion, h, w) for c, h, w in pyramid]
        == list(backbone.mixed)
    )
    assert tuple(z.shape[1:]) == (512, 15, 20) == backbone.z
    assert tuple(logits.shape) == (2, 40, 480, 640)
    assert [tuple(side.shape[1:]) for side in sides_of(logits)] == [
        (40, 60, 80),
        (40, 30, 40),
        (40, 15, 20),
    ]
    assert [tuple(x.shape[1:]) for x in decoded] == [(512, 15, 20), (256, 30, 40), (128, 60, 80)]
    assert tuple(x.shape[1] for x in decoded) == backbone.decoded


def _through(
    backbone: ESANet, channels: list[int], fused: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    passed = backbone.through(backbone.trunk(channels), backbone.head(channels), fused)
    return passed.z, passed.logits, passed.decoded


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (32, 32)])
@pytest.mark.parametrize("form", ["parallel", "joint"])
@pytest.mark.parametrize("encoder", ["r18_basic", "r34_nbt1d", "r50"])
def test_smaller_inputs_and_side_predictions_in_training_only(
    size: tuple[int, int], form: str, encoder: str
) -> None:
    backbone = esanet(rgbd(*size, classes=5), form=form, encoder=encoder, width=4)
    model = (ESANetMD if form == "joint" else SFMD)(backbone)
    inputs = {m.name: torch.randn(3, *m.shape) for m in backbone.spec.modalities}
    present = torch.tensor([[True, False], [False, True], [True, True]])
    trained = model(inputs, present)
    assert tuple(trained.logits.shape) == (3, 5, *size)
    assert [side.shape[-1] for side in sides_of(trained.logits)] == [
        size[1] // 8,
        size[1] // 16,
        size[1] // 32,
    ]
    assert tuple(trained.z.shape[1:]) == backbone.z
    features = model.encode_all(inputs)
    assert [[tuple(x.shape[1:]) for x in maps] for maps in features] == [list(backbone.maps)] * 2
    assert sides_of(model.eval()(inputs, present).logits) == ()


@pytest.mark.parametrize("modalities", [3, 4])
@torch.no_grad()
def test_parallel_encoders_of_several_modalities_meet_in_the_method(modalities: int) -> None:
    spec = synthetic_spec(modalities, 4, "segmentation", side=64)
    model, split = SFMD(esanet(spec)), synthetic_split(spec, 3)
    single = counted(model.encoders[0])
    assert [counted(encoder) for encoder in model.encoders] == [single] * modalities
    assert isinstance(model.head, Decoder)
    assert [skip[0].in_channels for skip in model.head.skips] == [
        modalities * c for c in (32, 16, 8)
    ]  # type: ignore[index]
    mask = torch.arange(modalities).expand(3, -1) % 2 == 0
    found = model.eval()(split.inputs, mask).logits
    holes = {
        name: x if v % 2 == 0 else torch.full_like(x, torch.nan)
        for v, (name, x) in enumerate(split.inputs.items())
    }
    assert torch.equal(found, model(holes, mask).logits) and bool(found.isfinite().all())


@pytest.mark.parametrize("shapes", [((3, 64, 64), (1, 32, 64)), ((3, 48, 64), (1, 48, 64))])
def test_sizes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, int, int], ...]) -> None:
    spec = DataSpec(
        "x",
        "segmentation",
        tuple(Modality(f"m{i}", s) for i, s in enumerate(shapes)),
        ("a", "b"),
        "miou",
        True,
    )
    with pytest.raises(UserError, match="one height and width divisible by 32"):
        ESANet(spec)


# ---------------------------------------------------------------------- blocks


def test_learned_upsampling_starts_as_linear_interpolation_with_dark_borders() -> None:
    layer, x = LearnedUpsampling(3), torch.randn(2, 3, 6, 7)
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert all(torch.equal(k[0], kernel) for k in layer.conv.weight) and layer.conv.bias is not None
    assert layer.conv.bias.tolist() == [0.0, 0.0, 0.0]
    found, linear = layer(x), F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], linear[..., 1:-1, 1:-1])
    ones = layer(torch.ones(1, 3, 4, 4))
    assert [ones[0, 0, i, j].item() for i, j in ((3, 3), (0, 3), (0, 0))] == [1.0, 0.75, 0.5625]


@pytest.mark.parametrize("stride", [1, 2])
def test_non_bottleneck_1d_layer_by_layer(stride: int) -> None:
    block, x = NonBottleneck1D(6, 6 * stride, stride), torch.randn(3, 6, 8, 10)
    w = dict(block.named_parameters())
    assert block.bn1.eps == block.bn2.eps == 1e-3
    y = F.relu(
        F.conv2d(x, w["conv3x1_1.weight"], w["conv3x1_1.bias"], stride=(stride, 1), padding=(1, 0))
    )
    y = F.conv2d(y, w["conv1x3_1.weight"], w["conv1x3_1.bias"], stride=(1, stride), padding=(0, 1))
    y = F.relu(normalised(y, 1e-3))
    y = F.relu(F.conv2d(y, w["conv3x1_2.weight"], w["conv3x1_2.bias"], padding=(1, 0)))
    y = normalised(F.conv2d(y, w["conv1x3_2.weight"], w["conv1x3_2.bias"], padding=(0, 1)), 1e-3)
    shortcut = (
        x if stride == 1 else normalised(F.conv2d(x, w["downsample.0.weight"], stride=2), 1e-5)
    )
    torch.testing.assert_close(block(x), F.relu(y + shortcut), rtol=1e-4, atol=1e-5)


def normalised(x: Tensor, eps: float) -> Tensor:
    """Batch norm in training with scale 1 and shift 0, written out."""
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt()


def test_squeeze_excite_of_zeros_is_exactly_zero_and_otherwise_a_gate_per_channel() -> None:
    layer, x = SqueezeExcite(32), torch.randn(2, 32, 3, 4)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    assert not layer(torch.zeros_like(x)).any()
    first, second = layer.gate[0], layer.gate[2]
    hidden = F.relu(x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias)
    assert hidden.shape == (2, 2)
    gate = torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)
    torch.testing.assert_close(layer(x), x * gate[:, :, None, None])


@pytest.mark.parametrize("size", [(15, 20), (3, 4), (2, 2), (1, 1)])
def test_context_is_pyramid_pooling_over_1_and_5_cells(size: tuple[int, int]) -> None:
    layer, x = Context(16, 16, 8, size).eval(), torch.randn(2, 16, *size)
    means = [F.adaptive_avg_pool2d(x, cells) for cells in (1, 5)]
    torch.testing.assert_close(layer.pool(x), means[1], rtol=1e-6, atol=1e-6)
    branches = [
        branch(mean) for branch, mean in zip((layer.coarse, layer.fine), means, strict=True)
    ]
    resized = [F.interpolate(branch, size=size, mode="nearest") for branch in branches]
    torch.testing.assert_close(layer((x,)), layer.join(torch.cat([x, *resized], 1)))


# ---------------------------------------------------------------------- the joint form


def joint_model(modalities: int = 2) -> ESANetMD:
    spec = synthetic_spec(modalities, 4, "segmentation", side=64)
    with Streams(3).initialising("model"):
        model = ESANetMD(esanet(spec, form="joint"))
    split = synthetic_split(spec, 8)
    with torch.no_grad():  # running statistics that are not those of the start
        model.train()(split.inputs, torch.ones(8, modalities, dtype=torch.bool))
    return model.eval()


def naive_fusion(
    model: ESANetMD, inputs: dict[str, Tensor], mask: tuple[bool, ...]
) -> list[Tensor]:
    """The fused maps of ONE sample, modality by modality and stage by stage.

    Absent streams are left out instead of zeroed.
    """
    mixer = model.mixer
    assert isinstance(mixer, JointEncoder)
    there = [v for v, is_there in enumerate(mask) if is_there]
    streams = {v: model.encoders[v](inputs[model.spec.names[v]])[0] for v in there}
    fused = sum(mixer.excite[0][v](streams[v]) for v in there)  # type: ignore[index, operator]
    pure = {v: F.max_pool2d(streams[v], 3, 2, 1) for v in there if v > 0}
    trunk, maps = F.max_pool2d(fused, 3, 2, 1), []  # type: ignore[arg-type]
    for stage in range(1, 5):
        layers = [stages[f"layer{stage}"] for stages in mixer.streams]  # type: ignore[index]
        pure = {v: layers[v](x) for v, x in pure.items()}
        terms = [mixer.excite[stage][v](x) for v, x in pure.items()]  # type: ignore[index, operator]
        if 0 in there:
            terms.append(mixer.excite[stage][0](layers[0](trunk)))  # type: ignore[index, operator]
        trunk = torch.stack(terms).sum(0)
        maps.append(trunk)
    return maps


@pytest.mark.parametrize("modalities", [2, 3])
@torch.no_grad()
def test_naive_loop_agrees_on_all_combinations(modalities: int) -> None:
    model = joint_model(modalities)
    inputs = synthetic_split(model.spec, 3).inputs
    for combination in lattice(model.spec.names):
        found = model(inputs, torch.tensor(combination.mask).expand(3, -1))
        for b in range(3):
            maps = tuple(
                naive_fusion(
                    model, {name: x[b : b + 1] for name, x in inputs.items()}, combination.mask
                )
            )
            logits = model.head(model.trunk(maps), maps)
            torch.testing.assert_close(found.logits[b : b + 1], logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_mixed_batch_equals_one_pass_per_combination_and_absent_nan_stays_out() -> None:
    model = joint_model()
    split, masks = (
        synthetic_split(model.spec, 3),
        torch.tensor([[True, False], [False, True], [True, True]]),
    )
    mixed = model(split.inputs, masks).logits
    for b, mask in enumerate(masks):
        alone = model({name: x[b : b + 1] for name, x in split.inputs.items()}, mask[None]).logits
        torch.testing.assert_close(mixed[b : b + 1], alone, rtol=1e-5, atol=1e-5)
    names = model.spec.names
    holes = {
        n: torch.where(masks[:, v, None, None, None], split.inputs[n], torch.nan)
        for v, n in enumerate(names)
    }
    assert torch.equal(model(holes, masks).logits, mixed)


def test_without_the_trunk_modality_its_layers_run_but_do_not_count() -> None:
    model = joint_model().train()
    inputs, only_second = (
        synthetic_split(model.spec, 4).inputs,
        torch.tensor([[False, True]]).expand(4, -1),
    )
    assert isinstance(model.mixer, JointEncoder)
    trunk = model.mixer.streams[0]
    before = [
        norm.running_mean.clone() for norm in trunk.modules() if isinstance(norm, nn.BatchNorm2d)
    ]  # type: ignore[union-attr]
    model(inputs, only_second).logits.square().sum().backward()
    after = [norm.running_mean for norm in trunk.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))  # type: ignore[arg-type]
    assert not any(
        p.grad is not None and p.grad.any()
        for p in itertools.chain(trunk.parameters(), model.encoders[0].parameters())
    )
    assert all(p.grad is not None and p.grad.any() for p in model.mixer.streams[1].parameters())


@torch.no_grad()
def test_one_modality_alone_runs_the_same_network_in_both_forms() -> None:
    spec = synthetic_spec(1, 4, "segmentation", side=64)
    joint, parallel = ESANetMD(esanet(spec, form="joint")), SFMD(esanet(spec))
    encoder, mixer = parallel.encoders[0], joint.mixer
    assert isinstance(encoder, Encoder) and isinstance(mixer, JointEncoder)
    encoder.stem.load_state_dict(joint.encoders[0].stem.state_dict())  # type: ignore[union-attr, operator]
    encoder.stages.load_state_dict(mixer.streams[0].state_dict())
    for ours, theirs in zip(encoder.excite, mixer.excite, strict=True):
        ours.load_state_dict(theirs[0].state_dict())  # type: ignore[index]
    parallel.trunk.load_state_dict(joint.trunk.state_dict())
    parallel.head.load_state_dict(joint.head.state_dict())
    inputs, present = synthetic_split(spec, 3).inputs, torch.ones(3, 1, dtype=torch.bool)
    torch.testing.assert_close(
        joint.eval()(inputs, present).logits,
        parallel.eval()(inputs, present).logits,
        rtol=1e-5,
        atol=1e-6,
    )
