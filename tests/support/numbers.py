"""Manifests whose labels are numbers. Called by tests of regressions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

from tests.support.media import Rows, array, write_csv

DIABETES = {"person": [0, 1, 2], "pressure": [3], "blood": [4, 5, 6, 7, 8, 9]}
"""Modality -> columns of scikit-learn's copy of the diabetes data (Efron et al., 2004)."""


def diabetes(folder: Path) -> Path:
    """Real: 442 patients, how far their disease is a year later, 25 to 346; 130 of them test."""
    found = load_diabetes(scaled=False)
    rows: Rows = []
    for place, patient in enumerate(np.random.default_rng(0).permutation(len(found.target))):
        row = {"split": split_of(place, 130, 60), "label": f"{found.target[patient]:g}"}
        for name, columns in DIABETES.items():
            row[name] = f"{name}/{patient}.npy"
            array(folder / row[name], found.data[patient, columns].astype(np.float32))
        rows.append(row)
    return write_csv(folder / "manifest.csv", rows)


def opinions(folder: Path, samples: int = 150, seed: int = 0) -> Path:
    """Synthetic: features (frames, features) of unequal lengths that carry a number from -3 to 3.

    ``words`` has 3 to 12 frames of 4 features, ``sound`` 10 to 40 of 2; the number is in the mean
    over the frames of the first feature of either, each with noise of its own.
    """
    random, rows = np.random.default_rng(seed), []
    sizes = {"words": (3, 12, 4), "sound": (10, 40, 2)}
    for place in range(samples):
        label = round(float(random.uniform(-3, 3)), 2)
        row = {"split": split_of(place, samples // 4, samples // 5), "label": f"{label:g}"}
        for name, (least, most, features) in sizes.items():
            frames = random.integers(least, most + 1)
            values = random.standard_normal((frames, features)) + 5.0
            values[:, 0] += label + 0.5 * random.standard_normal()
            row[name] = f"{name}/{place}.npy"
            array(folder / row[name], values.astype(np.float32))
        rows.append(row)
    return write_csv(folder / "manifest.csv", rows)


def split_of(place: int, test: int, val: int) -> str:
    """The first are test, the next val, the others train."""
    if place < test:
        return "test"
    return "val" if place < test + val else "train"
