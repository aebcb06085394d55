"""The embedded default: 1,797 real handwritten digits, seen through three constructed views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from datasets._tables import (
    Array,
    as_split,
    fingerprint_of,
    scaled,
    standardised,
    stratified_splits,
)
from harness.data.raw import Raw
from harness.dataset import Dataset, DataSpec, Modality, Split

WHITE = 16.0
"""The pixels of a digit are whole numbers up to it."""

VIEWS = "thumb-2x2-threshold/spectrum-log1p-rfft2-3x3/profile-column-sums/v1"


class Digits(Dataset):
    """Real: the 8x8 handwritten digits that scikit-learn ships (UCI, test part). Constructed: the
    three views of each.

    ``thumb`` (1,4,4): 2x2 means, thresholded at 0.5; ``spectrum`` (1,3,3): log(1 + |rfft2|), lowest
    3x3 bins, phase dropped; ``profile`` (1,1,8): column sums. Deterministic; stratified split 1,005
    / 252 / 540 by a fixed seed; each view standardised by the training split's mean and standard
    deviation.
    """

    summary = "1,797 real handwritten digits as three constructed views; embedded, no download"
    embedded = True

    @property
    def spec(self) -> DataSpec:
        return DataSpec(
            name="digits",
            task="classification",
            modalities=(
                Modality(
                    "thumb", (1, 4, 4), "2x2 means of the picture, one bit each", kind="picture"
                ),
                Modality(
                    "spectrum",
                    (1, 3, 3),
                    "log magnitude of the lowest spatial frequencies",
                    kind="picture",
                ),
                Modality("profile", (1, 1, 8), "column sums", kind="picture"),
            ),
            classes=tuple(str(digit) for digit in range(10)),
            metric="accuracy",
            aligned=False,
            notes=(
                "the digits are real handwriting; the three views are constructed from one picture",
            ),
        )

    @cached_property
    def _raw(self) -> tuple[Array, Array]:
        bunch = load_digits()
        return np.asarray(bunch.images), np.asarray(bunch.target)

    @cached_property
    def _index(self) -> dict[str, Array]:
        splits = stratified_splits(self._raw[1], test=0.3, val=0.2, seed=0)
        return {name: index[: self.limit] for name, index in splits.items()}

    @cached_property
    def _views(self) -> dict[str, Array]:
        return {name: standardised(view, self._train) for name, view in self._plain.items()}

    @cached_property
    def _train(self) -> Array:
        """The training split before ``limit``: what standardises every view."""
        return stratified_splits(self._raw[1], test=0.3, val=0.2, seed=0)["train"]

    @cached_property
    def _plain(self) -> dict[str, Array]:
        """The views before standardisation."""
        return views(self._raw[0] / WHITE)

    def fingerprint(self) -> str:
        return fingerprint_of(
            [*self._raw, *self._index.values()], views=VIEWS, protocol=self.protocol
        )

    def counts(self) -> dict[str, int]:
        return {name: len(index) for name, index in self._index.items()}

    def load(self, split: str) -> Split:
        return as_split(self._views, self._raw[1], self._index[split])

    def raw(self, split: str, modality: str) -> Raw:
        """The whole picture (1, 8, 8), as if each view had a camera of its own."""
        pictures, index = self._raw[0], self._index[split]
        return Raw(
            "picture",
            lambda n: pictures[index[n]][None],
            partial(self._seen, modality),
            high=WHITE,
            note=f"the picture is corrupted before {modality} is constructed from it",
        )

    def _seen(self, modality: str, pictures: Sequence[Array]) -> Tensor:
        """One standardised view of pictures (1, 8, 8)."""
        view = views(np.concatenate(list(pictures)) / WHITE)[modality]
        return torch.from_numpy(scaled(view, self._plain[modality][self._train]))


def views(x: Array) -> dict[str, Array]:
    """The three views of pictures x (N, 8, 8) with values in [0, 1], before standardisation."""
    means = x.reshape(-1, 4, 2, 4, 2).mean((2, 4))
    spectrum = np.log1p(np.abs(np.fft.rfft2(x)))[:, :3, :3]
    return {
        "thumb": (means > 0.5).astype(np.float32)[:, None],
        "spectrum": spectrum.astype(np.float32)[:, None],
        "profile": x.sum(1).astype(np.float32)[:, None, None],
    }
