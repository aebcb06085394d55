"""Series of unequal lengths: what is behind their ends reaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.backbones._frames import FrameEncoder
from harness.backbones.small import Encoder, Small
from harness.dataset import DataSpec, Modality, padded, unpadded

LENGTHS = [5, 40, 17, 1, 33]
STRIDES = [2, 2, 2, 1, 1]


def batch(frames: int = 40, features: int = 3) -> tuple[Tensor, list[Tensor]]:
    """(B, C + 1, 1, T), and each series alone."""
    noise = np.random.default_rng(0)
    alone = [noise.standard_normal((features, 1, length)).astype(np.float32) for length in LENGTHS]
    stacked = np.stack([padded(one, frames) for one in alone])
    return torch.from_numpy(stacked), [torch.from_numpy(one)[None] for one in alone]


def trained(encoder: nn.Module) -> nn.Module:
    """The module with statistics and affine parameters of batch norm that are not 0 and 1."""
    noise = torch.Generator().manual_seed(1)
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(generator=noise)
            layer.running_var.uniform_(0.5, 2, generator=noise)
            nn.init.uniform_(layer.weight, 0.5, 2, generator=noise)
            nn.init.normal_(layer.bias, generator=noise)
    return encoder.eval()


def test_padding_and_taking_it_away_are_inverse_and_cut_what_is_longer() -> None:
    series = np.arange(6, dtype=np.float32).reshape(2, 1, 3)
    stored = padded(series, 5)
    assert stored.tolist() == [[[0, 1, 2, 0, 0]], [[3, 4, 5, 0, 0]], [[1, 1, 1, 0, 0]]]
    assert np.array_equal(unpadded(stored), series)
    assert np.array_equal(unpadded(padded(series, 2)), series[:, :, :2])


@torch.no_grad()
def test_each_series_is_encoded_as_if_it_were_alone() -> None:
    encoder = trained(FrameEncoder(4, 6, STRIDES))
    x, alone = batch()
    together = encoder(x)[0]
    assert together.shape == (5, 6, 2, 2)
    for row, one in enumerate(alone):
        there = torch.ones(1, 1, 1, one.shape[3])
        single = encoder(torch.cat([one, there], 1))[0][0]
        torch.testing.assert_close(together[row], single)
    longer = torch.cat([x, torch.zeros(5, 4, 1, 24)], 3)
    torch.testing.assert_close(encoder(longer)[0], together)


@torch.no_grad()
def test_of_one_series_it_is_the_small_encoder() -> None:
    """Its 3x3 convolutions see one row: their middle one. Torch's pooling is the reference."""
    small, frames = Encoder((3, 1, 40), 6), FrameEncoder(4, 6, STRIDES)
    mine = [m for m in frames.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    theirs = [m for m in small.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    assert len(mine) == len(theirs) == 10
    for own, other in zip(mine, theirs, strict=True):
        if isinstance(own, nn.Conv2d):
            own.weight.copy_(other.weight[:, :, 1:2])
    x = torch.randn(7, 3, 1, 40, generator=torch.Generator().manual_seed(2))
    whole = torch.cat([x, torch.ones(7, 1, 1, 40)], 1)
    torch.testing.assert_close(frames.train()(whole)[0], small.train()(x)[0])
    for own, other in zip(mine, theirs, strict=True):
        if isinstance(own, nn.BatchNorm2d):
            torch.testing.assert_close(own.running_mean, other.running_mean)
            torch.testing.assert_close(own.running_var, other.running_var)
    torch.testing.assert_close(frames.eval()(whole)[0], small.eval()(x)[0])


@torch.no_grad()
def test_batch_norm_learns_from_frames_alone() -> None:
    encoder = FrameEncoder(4, 6, [1, 1])
    x, alone = batch()
    encoder.train()(x)
    first = encoder.layers[0]
    frames = torch.cat([first.convolution(one)[0, :, 0].T for one in alone])
    reference = nn.BatchNorm1d(6).train()
    reference(frames)
    torch.testing.assert_close(first.norm.running_mean, reference.running_mean)
    torch.testing.assert_close(first.norm.running_var, reference.running_var)
    assert len(frames) == sum(LENGTHS)


def test_gradients_are_finite_also_where_a_sample_has_no_frame() -> None:
    encoder = FrameEncoder(4, 6, STRIDES).train()
    x = batch()[0]
    x[1] = 0
    maps = encoder(x)[0]
    maps.square().sum().backward()
    assert maps.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("frames", [1, 6, 9, 200])
def test_the_network_has_maps_of_its_size_whatever_the_longest_series(frames: int) -> None:
    spec = DataSpec(
        "synthetic",
        "regression",
        (Modality("a", (4, 1, frames), frames=True), Modality("b", (2, 1, 1))),
        (),
        "mae",
        False,
        label_scale=(0.0, 1.0),
    )
    encoder = Small(spec, {"width": 8}).encoder("a")
    assert isinstance(encoder, FrameEncoder)
    assert encoder(torch.ones(3, 4, 1, frames))[0].shape == (3, 8, 2, 2)
