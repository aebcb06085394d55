"""Backbone ``small`` on spectrograms, series and large pictures: what it halves and sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.small import Small, halvings
from harness.conformance.synthetic import synthetic_spec
from harness.dataset import DataSpec, Modality
from harness.protocol.seeds import Streams
from methods.sf_md import SFMD
from methods.shaspec import ShaSpec

WIDTH = 8
SPECTROGRAM = (1, 16, 72)
GAP = 12
"""Frames from one tone to the other."""


def spec_of(*shapes: tuple[int, int, int]) -> DataSpec:
    modalities = tuple(Modality(f"m{v}", shape) for v, shape in enumerate(shapes))
    return replace(synthetic_spec(2, 2), modalities=modalities)


def encoder_of(shape: tuple[int, int, int], width: int = WIDTH) -> nn.Module:
    return Small(spec_of(shape), {"width": width}).encoder("m0")


class TwoConvolutions(nn.Module):
    """The network of small pictures, written out: (B, C, H, W) -> ((B, width, 2, 2),)."""

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (F.adaptive_avg_pool2d(self.layers(x), 2),)


UNHALVED = [
    *[(1, 4, 4), (1, 3, 3), (1, 1, 8), (12, 1, 1), (1, 8, 8), (2, 8, 3)],
    *[(1, 28, 28), (3, 48, 64), (1, 32, 16), (3, 64, 64)],
]


@pytest.mark.parametrize("shape", UNHALVED)
def test_nearly_square_pictures_and_tiny_inputs_have_two_convolutions(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    ours = encoder_of(shape)
    torch.manual_seed(0)
    theirs = TwoConvolutions(shape[0])
    pairs = list(zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    x = torch.randn(4, *shape)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "strides"),
    [
        ((64, 64), []),
        ((65, 64), [(2, 2), (2, 2), (2, 2), (2, 1)]),
        ((64, 31), [(2, 2), (2, 2), (2, 1)]),
        ((129, 42), [(2, 2), (2, 2), (2, 2), (2, 1), (2, 1)]),
        ((1, 9), [(1, 2)]),
        ((1, 36), [(1, 2)] * 3),
        ((1, 1000), [(1, 2)] * 7),
        ((1000, 1), [(2, 1)] * 7),
        ((1, 1024), [(1, 2)] * 7),
        ((1, 1025), [(1, 2)] * 8),
    ],
)
def test_sides_are_halved_until_none_is_longer_than_8(
    size: tuple[int, int], strides: list[tuple[int, int]]
) -> None:
    assert list(halvings(*size)) == strides


@pytest.mark.parametrize(
    ("shape", "stages"),
    [((1, 129, 42), 5), ((6, 1, 100), 4), ((3, 120, 160), 5), ((1, 28, 28), 0)],
)
def test_parameters_by_formula(shape: tuple[int, int, int], stages: int) -> None:
    """One convolution from the channels, stages + 1 of the width, and a norm after each."""
    counted = sum(p.numel() for p in encoder_of(shape).parameters())
    assert counted == 9 * shape[0] * WIDTH + 9 * WIDTH**2 * (stages + 1) + 2 * WIDTH * (stages + 2)


@pytest.mark.parametrize(("length", "seen"), [(8, 5), (32, 23), (128, 95), (512, 383)])
def test_receptive_field_of_a_series_is_6_times_2_to_the_stages_less_1(
    length: int, seen: int
) -> None:
    encoder = encoder_of((1, 1, length), 2).eval()
    for parameter in encoder.parameters():
        # Nothing cancels and no unit is off, so that every path shows in the gradient.
        nn.init.ones_(parameter) if parameter.dim() > 1 else None
    x = torch.ones(1, 1, 1, length, dtype=torch.float64, requires_grad=True)
    before_pooling = nn.Sequential(*list(encoder.double().layers)[:-1])(x)
    middle = before_pooling[..., before_pooling.shape[-1] // 2]
    (gradient,) = torch.autograd.grad(middle.sum(), x)
    assert int((gradient != 0).sum()) == seen


def test_long_inputs_give_the_map_of_the_others_and_train_in_methods() -> None:
    spec = spec_of((1, 129, 42), (1, 28, 28), (6, 1, 100))
    data = {m.name: torch.randn(4, *m.shape) for m in spec.modalities}
    present = torch.tensor([[True, True, True], [True, False, False]] * 2)
    for method in (SFMD, ShaSpec):
        with Streams(0).initialising("model"):
            model = method(Small(spec, {"width": WIDTH}))
        features = model.prepare(model.encode_all(data))
        output = model.combine(features, present)
        assert tuple(output.logits.shape) == (4, 2) and bool(output.logits.isfinite().all())
        output.logits.sum().backward()
        assert all(p.grad is not None for p in model.encoders.parameters())


def test_stems_of_a_shared_encoder_halve_before_they_meet() -> None:
    spec = spec_of((1, 129, 42), (1, 20, 24), (6, 1, 100))
    stems, shared = Small(spec, {"width": WIDTH}).shared_encoder()
    for stem, modality in zip(stems, spec.modalities, strict=True):
        common = stem(torch.randn(2, *modality.shape))
        assert tuple(common.shape) == (2, WIDTH, 20, 24)
        assert tuple(shared(common)[0].shape) == (2, WIDTH, 2, 2)


# ---------------------------------------------------------------------- an arrangement in time


def tones(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spectrograms of a low and a high tone in one half of the time; the class is their order.

    The same frames in another order: whatever is averaged over a half says nothing of the class.
    """
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, *SPECTROGRAM, generator=draws) * 0.3
    label = torch.randint(2, (samples,), generator=draws)
    frames = SPECTROGRAM[2] // 2
    for n in range(samples):
        half = int(torch.randint(2, (1,), generator=draws)) * frames
        first = half + int(torch.randint(6, frames - GAP - 6, (1,), generator=draws))
        low, high = (first, first + GAP) if label[n] else (first + GAP, first)
        x[n, 0, 3:5, low : low + 2] += 3
        x[n, 0, 11:13, high : high + 2] += 3
    return x, label


def accuracy_of(encoder: nn.Module, width: int) -> float:
    """Share of right answers on unseen tones, in percent, after a short training."""
    torch.manual_seed(1)
    head = nn.Linear(width * 4, 2)
    model = nn.ModuleList([encoder, head])
    x, label = tones(384, 0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(8):
        for index in torch.randperm(len(x)).split(32):
            loss = F.cross_entropy(head(encoder(x[index])[0].flatten(1)), label[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    unseen, expected = tones(256, 1)
    with torch.no_grad():
        answers = head(encoder(unseen)[0].flatten(1)).argmax(1)
    return float((answers == expected).float().mean()) * 100


def test_the_order_of_tones_is_learnt_where_two_convolutions_cannot_tell_it() -> None:
    torch.manual_seed(0)
    assert accuracy_of(TwoConvolutions(1), WIDTH) < 65
    torch.manual_seed(0)
    assert accuracy_of(encoder_of(SPECTROGRAM), WIDTH) > 90
