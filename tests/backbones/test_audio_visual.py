"""The audio-visual network: published parameters and shapes, fusions, a second implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.audio_visual import AudioVisual
from harness.errors import UserError
from harness.method import Method
from methods.dmrnet import DMRNet
from methods.sf_md import SFMD
from methods.shaspec import ShaSpec
from tests.backbones.test_resnet import block, norm
from tests.support.av import SMALL, heard_and_seen, inputs, narrow, on_narrow, size

FUSIONS = ("concat", "sum", "film", "gated")
BOTH, AUDIO, VISUAL = ([True, True], [True, False], [False, True])

# ---------------------------------------------------------------------- parameter counts and shapes


@pytest.mark.parametrize(
    ("depth", "audio", "visual"), [(18, 11_170_240, 11_176_512), (34, 21_278_400, 21_284_672)]
)
def test_parameters_of_the_encoders(depth: int, audio: int, visual: int) -> None:
    network = AudioVisual(heard_and_seen(), {"depth": depth})
    with torch.device("meta"):
        assert (size(network.encoder("audio")), size(network.encoder("visual"))) == (audio, visual)


@pytest.mark.parametrize(
    ("fusion", "six", "thirty_one", "total"),
    [
        ("concat", 6_150, 31_775, 22_352_902),
        ("sum", 6_156, 31_806, 22_352_908),
        ("film", 528_390, 541_215, 22_875_142),
        ("gated", 528_390, 541_215, 22_875_142),
    ],
)
def test_parameters_of_the_fusions(fusion: str, six: int, thirty_one: int, total: int) -> None:
    with torch.device("meta"):
        for classes, expected in ((6, six), (31, thirty_one)):
            network = AudioVisual(heard_and_seen(classes=classes), {"fusion": fusion})
            assert size(network.trunk([1024]), network.head([1024])) == expected
        assert (
            SFMD(AudioVisual(heard_and_seen(), {"fusion": fusion})).parameter_counts()["inference"]
            == total
        )


def test_parameters_of_the_distribution_on_the_vector() -> None:
    """Twice a linear layer of 1024 x 1024 with batch norm: a 1x1 convolution of a 1x1 map is the
    released code's linear layer.
    """
    with torch.device("meta"):
        counts = DMRNet(AudioVisual(heard_and_seen())).parameter_counts()
    assert counts["training"] - 22_352_902 == 2 * (1024 * 1024 + 1024 + 2 * 1024)


@pytest.mark.parametrize(
    ("modality", "shape", "places"),
    [
        ("audio", (1, 257, 188), (9, 6)),
        ("audio", (1, 257, 299), (9, 10)),
        ("audio", (1, 257, 1004), (9, 32)),
        ("audio", (1, 129, 626), (5, 20)),
        ("visual", (3, 224, 224), (7, 7)),
    ],
)
@pytest.mark.parametrize("depth", [18, 34])
def test_shapes_of_the_maps(
    modality: str, shape: tuple[int, int, int], places: tuple[int, int], depth: int
) -> None:
    shapes = (shape, (3, 224, 224)) if modality == "audio" else ((1, 257, 299), shape)
    with torch.device("meta"):
        encoder: Any = AudioVisual(heard_and_seen(shapes), {"depth": depth}).encoder(modality)
        x = torch.empty(2, *shape)
        assert tuple(encoder.feature_map(x).shape) == (2, 512, *places)
        assert tuple(encoder(x)[0].shape) == (2, 512, 1, 1)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_declared_shapes_are_the_real_ones(fusion: str) -> None:
    network = narrow(fusion=fusion)
    x, channels = inputs(network.spec), [2 * network.maps[0].channels]
    fused = (torch.cat([network.encoder(name)(x[name])[0] for name in network.spec.names], 1),)
    z = network.trunk(channels)(fused)
    assert tuple(fused[0].shape[1:]) == (channels[0], *network.maps[0][1:])
    assert (
        tuple(z.shape[1:])
        == tuple(network.z)
        == ((64 if fusion in ("concat", "sum") else 32), 1, 1)
    )
    assert network.head(channels)(z, fused).shape == (4, 6)


# ---------------------------------------------------------------------- initial weights


def test_initial_weights() -> None:
    """Convolutions N(0, 2 / (k^2 C_out)), linear layers N(0, 2 / (inputs + outputs)) with bias 0,
    batch norm 1 and 0.
    """
    torch.manual_seed(0)
    network = AudioVisual(heard_and_seen(classes=40), {"fusion": "film", "width": 32})
    layers = [
        *network.encoder("audio").modules(),
        *network.trunk([512]).modules(),
        *network.head([512]).modules(),
    ]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 20 and all(layer.bias is None for layer in convolutions)
    for layer in convolutions:
        assert_normal(layer.weight, (2 / (layer.kernel_size[0] ** 2 * layer.out_channels)) ** 0.5)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(256, 512), (256, 40)]
    for layer in linear:
        assert_normal(layer.weight, (2 / (layer.in_features + layer.out_features)) ** 0.5)
        assert not bool(layer.bias.any())
    for layer in (layer for layer in layers if isinstance(layer, nn.BatchNorm2d)):
        assert bool((layer.weight == 1).all()) and not bool(layer.bias.any())


def assert_normal(weight: Tensor, std: float) -> None:
    """Standard deviation to 5 standard errors; kurtosis 3 (a uniform distribution has 1.8)."""
    values = weight.detach().double().flatten()
    assert float(values.std()) == pytest.approx(std, rel=5 / (2 * len(values)) ** 0.5)
    assert float((values / values.std()).pow(4).mean()) == pytest.approx(
        3, abs=5 * (24 / len(values)) ** 0.5
    )


# ---------------------------------------------------------------------- a second implementation


def vector(x: Tensor, weights: dict[str, Tensor], counts: tuple[int, ...]) -> Tensor:
    """One modality's pooled vectors by functions alone; ``weights`` are the encoder's."""
    x = norm(
        F.conv2d(x, weights["stem.layers.0.weight"], stride=2, padding=3), weights, "stem.layers.1"
    ).clamp_min(0)
    x = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
    for layer, count in enumerate(counts):
        for number in range(count):
            x = block(x, weights, f"layers.{layer}.{number}", 2 if layer and not number else 1)
    return x.flatten(2).mean(2)


def naive_logits(a: Tensor, v: Tensor, w: dict[str, Tensor], fusion: str) -> Tensor:
    """Logits (K,) of one sample's vectors (c,), as the fusions are defined."""
    if fusion == "concat":
        return w["head.linear.weight"] @ torch.cat([a, v]) + w["head.linear.bias"]
    if fusion == "sum":
        terms = [
            w[f"head.linear.{m}.weight"] @ x + w[f"head.linear.{m}.bias"]
            for m, x in enumerate((a, v))
        ]
        return terms[0] + terms[1]
    if fusion == "film":
        both = w["trunk.film.weight"] @ a + w["trunk.film.bias"]
        joined = both[: len(a)] * v + both[len(a) :]
    else:
        gate = 1 / (1 + (-(w["trunk.gate.weight"] @ a + w["trunk.gate.bias"])).exp())
        joined = gate * (w["trunk.gated.weight"] @ v + w["trunk.gated.bias"])
    return w["head.linear.weight"] @ joined + w["head.linear.bias"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("fusion", "depth"), [("concat", 18), ("concat", 34), ("sum", 18), ("film", 18), ("gated", 18)]
)
def test_naive_second_implementation_agrees_on_all_combinations(fusion: str, depth: int) -> None:
    """An absent modality is a zero vector in every fusion."""
    network, counts = (
        on_narrow(SFMD, fusion=fusion, depth=depth),
        {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth],
    )
    x = inputs(network.spec)
    network.train()(
        x, torch.ones(4, 2, dtype=torch.bool)
    )  # running statistics that are not 0 and 1
    for name, p in network.eval().named_parameters():
        if name.endswith("bias"):  # biases that are not 0
            p += torch.linspace(-0.2, 0.3, p.numel()).reshape(p.shape)
    state = network.state_dict()
    vectors = []
    for m, name in enumerate(network.spec.names):
        own = {
            key.removeprefix(f"encoders.{m}."): w
            for key, w in state.items()
            if key.startswith(f"encoders.{m}.")
        }
        vectors.append(vector(x[name], own, counts))
    for mask in (BOTH, AUDIO, VISUAL):
        logits = network(x, torch.tensor(mask).expand(4, -1)).logits
        for b in range(4):
            a, v = (each[b] * float(shown) for each, shown in zip(vectors, mask, strict=True))
            torch.testing.assert_close(
                logits[b], naive_logits(a, v, state, fusion), atol=1e-5, rtol=1e-5
            )


# ---------------------------------------------------------------------- unimodal read-outs


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("shapes", [SMALL, (*SMALL, (2, 16, 24))])
def test_readouts_add_up_to_the_logits_and_know_one_modality_each(
    fusion: str, shapes: tuple[tuple[int, int, int], ...]
) -> None:
    network = narrow(heard_and_seen(shapes), fusion=fusion)
    model, x = SFMD(network).eval(), inputs(network.spec)
    for p in model.head.parameters():
        p.normal_()
    everything = torch.ones(4, len(shapes), dtype=torch.bool)
    output = model(x, everything)
    readouts = network.readouts(model.head, output.z)
    torch.testing.assert_close(torch.stack(readouts).sum(0), output.logits)
    alone = everything.clone()
    alone[:, 1] = False
    without = network.readouts(model.head, model(x, alone).z)
    changed = [not torch.equal(old, new) for old, new in zip(readouts, without, strict=True)]
    assert changed == [False, True, *[False] * (len(shapes) - 2)]


@torch.no_grad()
def test_a_readout_of_concat_is_its_half_of_the_weight_and_half_of_the_bias() -> None:
    network = narrow()
    head: Any = network.head([64])
    head.linear.bias.normal_()
    z = torch.randn(3, 64, 1, 1)
    for readout, part in zip(network.readouts(head, z), (slice(0, 32), slice(32, 64)), strict=True):
        expected = z[:, part, 0, 0] @ head.linear.weight[:, part].T + head.linear.bias / 2
        torch.testing.assert_close(readout, expected)


@pytest.mark.parametrize("fusion", ["film", "gated"])
def test_film_and_gated_have_no_readouts(fusion: str) -> None:
    network = narrow(fusion=fusion)
    assert not network.additive and network.joins
    with pytest.raises(UserError, match="not a sum over modalities; use backbone=audio_visual"):
        network.readouts(network.head([64]), torch.zeros(2, 32, 1, 1))


# ----------------------------------------------------- other modalities, frames, the shared encoder


@torch.no_grad()
def test_frames_are_encoded_one_by_one_and_averaged() -> None:
    network = narrow(heard_and_seen((SMALL[0], (9, 32, 32))), frames=3)
    encoder, x = network.encoder("visual").eval(), torch.randn(2, 9, 32, 32)
    assert size(encoder) == size(narrow().encoder("visual"))
    single: Any = narrow().encoder("visual").eval()
    single.load_state_dict(encoder.state_dict())
    each = [single(x[:, 3 * t : 3 * t + 3])[0] for t in range(3)]
    torch.testing.assert_close(encoder(x)[0], (each[0] + each[1] + each[2]) / 3)
    assert network.encoder("audio")(torch.randn(2, 1, 33, 40))[0].shape == (2, 32, 1, 1)


def test_settings_that_cannot_work_are_refused() -> None:
    three = heard_and_seen((*SMALL, SMALL[0]))
    for fusion in ("film", "gated"):
        with pytest.raises(
            UserError,
            match=rf"fusion={fusion} joins two modalities and av has 3 \(audio, visual, more2\)",
        ):
            AudioVisual(three, {"fusion": fusion})
    with pytest.raises(
        UserError, match=r"backbone\.frames=4 needs an input of 12 channels, which av has not"
    ):
        AudioVisual(three, {"frames": 4})
    with pytest.raises(UserError, match=r"unknown value for backbone\.depth"):
        AudioVisual(three, {"depth": 50})


def test_unlike_modalities_share_what_follows_their_stems() -> None:
    network = narrow()
    stems, shared = network.shared_encoder()
    x = inputs(network.spec)
    stemmed = [stem(x[name]) for stem, name in zip(stems, network.spec.names, strict=True)]
    assert [tuple(s.shape) for s in stemmed] == [(4, 4, 9, 10)] * 2  # the largest of 9x10 and 8x8
    assert shared(torch.cat(stemmed))[0].shape == (8, 32, 1, 1)
    visual_stem = 7 * 7 * 3 * 4 + 2 * 4
    assert size(*stems, shared) == size(network.encoder("audio")) + visual_stem


def test_modalities_of_one_shape_share_everything() -> None:
    stems, shared = narrow(heard_and_seen((SMALL[1], SMALL[1]))).shared_encoder()
    assert all(isinstance(stem, nn.Identity) for stem in stems)
    assert size(shared) == size(narrow().encoder("visual"))


def test_shaspec_runs_the_shared_layers_once_on_both_modalities() -> None:
    model = on_narrow(ShaSpec)
    seen: list[tuple[int, ...]] = []
    model.shared.register_forward_hook(
        lambda module, given, result: seen.append(tuple(given[0].shape))
    )  # type: ignore[operator, union-attr]
    model(inputs(model.spec), torch.ones(4, 2, dtype=torch.bool))
    encoded = model.encode_all(inputs(model.spec))
    assert seen[-1] == (8, 4, 9, 10) and len(encoded) == 2


def test_what_a_method_has_fused_itself_goes_to_the_last_layer() -> None:
    for fusion in FUSIONS:
        network = narrow(fusion=fusion)
        fused = (torch.randn(2, 32, 1, 1),)
        assert torch.equal(network.trunk([32])(fused), fused[0])
        assert network.head([32])(fused[0], fused).shape == (2, 6)


# ---------------------------------------------------------------------- gradients


def gradients(network: Method, mask: list[bool]) -> list[bool]:
    x = {name: value.requires_grad_() for name, value in inputs(network.spec).items()}
    network(x, torch.tensor(mask).expand(4, -1)).logits.square().sum().backward()
    return [value.grad is not None and bool(value.grad.any()) for value in x.values()]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_T5_gradient_reaches_present_inputs_only(fusion: str) -> None:
    network = on_narrow(SFMD, fusion=fusion)
    for name, p in network.trunk.named_parameters():  # type: ignore[union-attr]
        if name.endswith(
            "bias"
        ):  # with the initial 0 a lone modality is multiplied by 0 in film and gated
            nn.init.constant_(p, 0.5)
    assert [gradients(network, mask) for mask in (BOTH, AUDIO, VISUAL)] == [BOTH, AUDIO, VISUAL]


def test_depths_differ_in_the_number_of_blocks_alone() -> None:
    layers = [
        [len(layer) for layer in narrow(depth=depth).encoder("audio").layers] for depth in (18, 34)
    ]  # type: ignore[union-attr, arg-type]
    assert layers == [[2, 2, 2, 2], [3, 4, 6, 3]]
    assert [2 + 2 * sum(counts) for counts in layers] == [18, 34]
    strides = [layer[0].residual[0].stride[0] for layer in narrow().encoder("audio").layers]  # type: ignore[union-attr, index]
    assert strides == [1, 2, 2, 2]
