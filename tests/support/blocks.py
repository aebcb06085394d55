"""A small segmentation dataset for whole trials.

Four blocks of colour per image, a void frame, one class that is rare. Called by tests of
conformance, methods, paper and protocol.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.conformance.synthetic import synthetic_spec, synthetic_split
from harness.dataset import Dataset, DataSpec, Split
from harness.protocol.label_maps import VOID

SIZES = {"train": 24, "val": 6, "test": 7}
FRAME = 3


class Blocks(Dataset):
    """32 x 32 pixels of 3 classes in 2 modalities; 3 pixels of void around each label map."""

    @property
    def spec(self) -> DataSpec:
        return synthetic_spec(2, 3, "segmentation")

    def fingerprint(self) -> str:
        return f"blocks-{self.limit}"

    def counts(self) -> dict[str, int]:
        return {name: min(n, self.limit or n) for name, n in SIZES.items()}

    def load(self, split: str) -> Split:
        start = {"train": 0, "val": 24, "test": 30}[split]
        # One draw for all splits: colours of classes are drawn with it.
        everything, rows = (
            synthetic_split(self.spec, 37),
            slice(start, start + self.counts()[split]),
        )
        labels = everything.target[rows]
        target = torch.full_like(labels, VOID)
        inner = (..., slice(FRAME, -FRAME), slice(FRAME, -FRAME))
        target[inner] = labels[inner]
        return Split(
            {name: x[rows] for name, x in everything.inputs.items()},
            target,
            everything.available[rows],
        )


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``dataset=synthetic`` available as an installed third party's dataset."""
    info = folder / "blocks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.datasets]\nsynthetic = tests.support.blocks:Blocks\n"
    )
    monkeypatch.syspath_prepend(str(folder))
