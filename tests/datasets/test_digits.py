"""The embedded digits: split, views, standardisation, and what outside models reach."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from datasets.digits import Digits, views
from harness.dataset import SPLITS

BUNCH = load_digits()


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_split_sizes(digits: Digits) -> None:
    assert digits.counts() == {"train": 1005, "val": 252, "test": 540}
    assert {name: len(digits.load(name)) for name in SPLITS} == digits.counts()


def test_splits_are_disjoint_and_complete(digits: Digits) -> None:
    indices = [set(digits._index[name].tolist()) for name in SPLITS]
    assert sum(map(len, indices)) == len(set.union(*indices)) == len(BUNCH.target) == 1797


def test_splits_are_stratified(digits: Digits) -> None:
    whole = np.bincount(BUNCH.target) / 1797
    for name in SPLITS:
        found = np.bincount(digits.load(name).target.numpy(), minlength=10)
        # Stratified: each class within one sample per stage of its share (test is one stage; train
        # and val are two).
        assert abs(found - whole * found.sum()).max() <= 2.0


def naive_views(picture: np.ndarray) -> dict[str, np.ndarray]:
    """One (8, 8) picture's views, pixel by pixel, with the Fourier sum written out."""
    x = picture / 16
    thumb, spectrum, profile = np.zeros((4, 4)), np.zeros((3, 3)), np.zeros(8)
    for i in range(4):
        for j in range(4):
            mean = (
                x[2 * i, 2 * j]
                + x[2 * i, 2 * j + 1]
                + x[2 * i + 1, 2 * j]
                + x[2 * i + 1, 2 * j + 1]
            ) / 4
            thumb[i, j] = 1.0 if mean > 0.5 else 0.0
    for u in range(3):
        for w in range(3):
            terms = (
                x[r, c] * cmath.exp(-2j * math.pi * (u * r + w * c) / 8)
                for r in range(8)
                for c in range(8)
            )
            spectrum[u, w] = math.log(1 + abs(sum(terms)))
    for c in range(8):
        profile[c] = sum(x[r, c] for r in range(8))
    return {"thumb": thumb, "spectrum": spectrum, "profile": profile}


def test_views_equal_a_naive_loop_over_pixels() -> None:
    ours = views(BUNCH.images[:40] / 16.0)
    for n in range(40):
        for name, expected in naive_views(BUNCH.images[n]).items():
            np.testing.assert_allclose(
                ours[name][n].reshape(expected.shape), expected, rtol=1e-5, atol=1e-6
            )


def test_shapes_and_the_one_bit_thumb() -> None:
    ours = views(BUNCH.images / 16.0)
    assert {name: view.shape[1:] for name, view in ours.items()} == {
        "thumb": (1, 4, 4),
        "spectrum": (1, 3, 3),
        "profile": (1, 1, 8),
    }
    assert set(np.unique(ours["thumb"])) == {0.0, 1.0}


def test_views_are_standardised_by_the_training_split_alone(digits: Digits) -> None:
    raw = views(BUNCH.images / 16.0)
    for name in digits.spec.names:
        train = raw[name][digits._index["train"]].astype(np.float64)
        for split in SPLITS:
            expected = (raw[name][digits._index[split]] - train.mean()) / train.std()
            np.testing.assert_allclose(
                digits.load(split).inputs[name].numpy(), expected, rtol=1e-4, atol=1e-4
            )
        inputs = digits.load("train").inputs[name]
        assert float(inputs.mean()) == pytest.approx(0, abs=1e-5)
        assert float(inputs.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_limit_takes_the_first_samples_as_they_are(digits: Digits) -> None:
    few = Digits(limit=17)
    assert few.counts() == {"train": 17, "val": 17, "test": 17}
    for split in SPLITS:
        whole, part = digits.load(split), few.load(split)
        assert torch.equal(part.target, whole.target[:17])
        assert all(
            torch.equal(part.inputs[name], whole.inputs[name][:17]) for name in digits.spec.names
        )


def test_targets_are_the_labels_of_their_pictures(digits: Digits) -> None:
    for split in SPLITS:
        assert digits.load(split).target.tolist() == BUNCH.target[digits._index[split]].tolist()


@pytest.mark.parametrize(
    ("names", "published"),
    [
        (["thumb"], 68.3),
        (["spectrum"], 73.3),
        (["profile"], 56.9),
        (["thumb", "spectrum"], 89.8),
        (["thumb", "spectrum", "profile"], 91.7),
    ],
)
def test_logistic_regression_reaches_the_published_accuracy(
    digits: Digits, names: list[str], published: float
) -> None:
    train, test = digits.load("train"), digits.load("test")
    x, y = (
        torch.cat([split.inputs[name].flatten(1) for name in names], 1).numpy()
        for split in (train, test)
    )
    model = LogisticRegression(max_iter=2000).fit(x, train.target.numpy())
    assert 100 * model.score(y, test.target.numpy()) == pytest.approx(published, abs=3)
