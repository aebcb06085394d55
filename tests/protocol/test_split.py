"""Stored rows become what encoders receive: selected, varied, resized and normalised, whatever the
batch.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.data.augmentation import HsvJitter, ResizedCropFlip, RotateCropFlip, ScaleCropFlip
from harness.dataset import Augmentation, Modality, Split
from harness.protocol.label_maps import VOID

RGB = Modality("rgb", (3, 12, 12), mean=(127.5, 100.0, 80.0), std=(128.0, 64.0, 32.0))
DEPTH = Modality("depth", (1, 12, 12), mean=(10.0,), std=(4.0,), interpolation="nearest")
SIDE = 16


def stored(rows: int = 6, classes: bool = False) -> Split:
    """Random pictures of two modalities, stored larger than encoders receive them."""
    random = np.random.default_rng(0)
    rgb = torch.from_numpy(random.integers(0, 256, (rows, 3, SIDE, SIDE), dtype=np.uint8))
    depth = torch.from_numpy(random.integers(0, 100, (rows, 1, SIDE, SIDE)).astype(np.float32))
    maps = torch.from_numpy(random.integers(0, 4, (rows, SIDE, SIDE), dtype=np.uint8))
    target = torch.arange(rows) if classes else maps
    return Split(
        {"rgb": rgb, "depth": depth},
        target,
        torch.ones(rows, 2, dtype=torch.bool),
        modalities=(RGB, DEPTH),
    )


def varied(split: Split) -> Split:
    split.augmentation = Augmentation(RotateCropFlip(), ("rgb", "depth"))
    return split


def test_normalisation_is_per_channel_and_follows_the_resize() -> None:
    split = stored(classes=True)
    split.inputs = {"rgb": split.inputs["rgb"][:, :, 2:14, 2:14], "depth": split.inputs["depth"]}
    inputs, target = split.batch(torch.tensor([4, 1]))
    raw = split.inputs["rgb"][[4, 1]].double()
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (RGB.mean, RGB.std)
    )
    torch.testing.assert_close(inputs["rgb"].double(), (raw - mean) / std, rtol=1e-6, atol=1e-6)
    # Nearest: every value is one of the stored ones.
    assert set((inputs["depth"] * 4 + 10).round().unique().tolist()) <= set(
        split.inputs["depth"].unique().tolist()
    )
    assert inputs["depth"].shape == (2, 1, 12, 12) and target.tolist() == [4, 1]


def test_selecting_copies_nothing_and_keeps_the_order() -> None:
    split = stored(classes=True)
    part = split.select(torch.tensor([5, 2, 3])).select(torch.tensor([1, 0]))
    assert part.inputs["rgb"] is split.inputs["rgb"]
    assert part.target.tolist() == [2, 5]
    whole, chosen = split.batch(torch.tensor([2, 5]))[0], part.batch(torch.arange(2))[0]
    assert all(torch.equal(whole[name], chosen[name]) for name in whole)


def test_dense_targets_follow_the_rows() -> None:
    split = stored()
    part = split.select(torch.tensor([3, 0]))
    assert len(part) == 2 and torch.equal(
        part.batch(torch.tensor([0]))[1][0], split.target[3].long()
    )


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4, 5]], [[5], [0, 3], [4, 2, 1]]])
def test_a_sample_is_varied_alike_whatever_its_batch(batches: list[list[int]]) -> None:
    split = varied(stored())
    draws = split.draw(torch.Generator().manual_seed(7))
    alone = {n: split.batch(torch.tensor([n]), draws) for n in range(6)}
    for numbers in batches:
        inputs, target = split.batch(torch.tensor(numbers), draws)
        for place, n in enumerate(numbers):
            assert all(torch.equal(inputs[name][place], alone[n][0][name][0]) for name in inputs)
            assert torch.equal(target[place], alone[n][1][0])


def pixels(x: Tensor) -> Tensor:
    return (x * 4 + 10).round()


def test_modalities_and_target_move_together() -> None:
    """The target and the depth map hold the same numbers, so they must hold the same ones after
    every variation.
    """
    split = varied(stored())
    split.inputs = {"rgb": split.inputs["rgb"], "depth": split.target[:, None].float()}
    draws = split.draw(torch.Generator().manual_seed(1))
    inputs, target = split.batch(torch.arange(6), draws)
    inside = target != VOID
    assert 0.5 < float(inside.float().mean()) < 1.0
    assert torch.equal(pixels(inputs["depth"])[:, 0][inside], target[inside].float())
    # Outside the picture the label is void and the stored value zero.
    assert float(pixels(inputs["depth"])[:, 0][~inside].abs().max()) == 0


def test_colours_of_named_modalities_alone_are_varied() -> None:
    split = stored()
    plain = Augmentation(ScaleCropFlip(), ("rgb", "depth"))
    coloured = Augmentation(ScaleCropFlip(), ("rgb", "depth"), HsvJitter(), ("rgb",))
    found = []
    for split.augmentation in (plain, coloured):
        found.append(split.batch(torch.arange(6), split.draw(torch.Generator().manual_seed(1)))[0])
    assert torch.equal(found[0]["depth"], found[1]["depth"])
    assert not torch.allclose(found[0]["rgb"], found[1]["rgb"], atol=1e-2)


def test_without_draws_nothing_is_random() -> None:
    split = varied(stored())
    first, second = (split.batch(torch.arange(3))[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    split.augmentation = None
    assert split.draw(torch.Generator()) is None


def clips() -> Split:
    """Four clips of 1, 3, 2 and 4 frames of one modality, every frame of one grey level of its own.

    a map that has one each.
    """
    first, count = torch.tensor([0, 1, 4, 6]), torch.tensor([1, 3, 2, 4])
    frames = (
        torch.arange(10, dtype=torch.uint8)[:, None, None, None]
        .expand(10, 3, SIDE, SIDE)
        .contiguous()
    )
    sound = torch.arange(4).float()[:, None, None, None].expand(4, 1, 12, 12).contiguous()
    plain = (Modality("visual", (3, 12, 12)), Modality("audio", (1, 12, 12)))
    takes = {"visual": torch.stack([first, count], 1)}
    inputs = {"visual": frames, "audio": sound}
    return Split(
        inputs, torch.arange(4), torch.ones(4, 2, dtype=torch.bool), modalities=plain, takes=takes
    )


def grey(inputs: dict[str, Tensor]) -> list[int]:
    assert torch.allclose(inputs["visual"], inputs["visual"][:, :1, :1, :1], atol=1e-4)
    return [round(v) for v in inputs["visual"][:, 0, 0, 0].tolist()]


def test_a_clip_shows_its_middle_frame_when_nothing_is_drawn() -> None:
    split = clips()
    assert grey(split.batch(torch.arange(4))[0]) == [0, 2, 5, 8]
    part = split.select(torch.tensor([3, 1]))
    inputs, target = part.batch(torch.tensor([1, 0]))
    assert (
        grey(inputs) == [2, 8]
        and target.tolist() == [1, 3]
        and inputs["audio"][:, 0, 0, 0].tolist() == [1.0, 3.0]
    )


def test_frames_are_drawn_uniformly_from_the_own_clip_whatever_the_batch() -> None:
    split = clips()
    split.augmentation = Augmentation(ResizedCropFlip(), ("visual",))
    seen = []
    for epoch in range(400):
        draws = split.draw(torch.Generator().manual_seed(epoch))
        seen.append(grey(split.batch(torch.arange(4), draws)[0]))
        if epoch < 5:
            assert grey(split.batch(torch.tensor([2, 0]), draws)[0]) == [seen[-1][2], seen[-1][0]]
    for clip, own in enumerate([[0], [1, 2, 3], [4, 5], [6, 7, 8, 9]]):
        counts = [[row[clip] for row in seen].count(frame) for frame in own]
        # Five standard deviations of a binomial count; nothing from another clip.
        assert sum(counts) == 400 and all(abs(n - 400 / len(own)) <= 50 for n in counts)


def test_takes_leave_the_other_draws_as_they_are() -> None:
    """A dataset that has none keeps its results."""
    split = clips()
    split.augmentation = Augmentation(ResizedCropFlip(), ("visual",))
    with_takes = split.draw(torch.Generator().manual_seed(3))
    split.takes = {}
    without = split.draw(torch.Generator().manual_seed(3))
    assert with_takes is not None and without is not None and without.take is None
    assert torch.equal(with_takes.theta, without.theta)
