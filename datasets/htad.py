"""HTAD: real, synchronous sound and wrist acceleration of home tasks, of the extra `real`."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from datasets._tables import Array, as_split, fingerprint_of, standardised, stratified_splits
from harness.dataset import Dataset, DataSpec, Modality, Split
from harness.errors import UserError

LAST_BLOCK = 932
"""The file is three recording blocks of 466, 466 and 454 windows; this is where the last one
begins.
"""

ACTIVITIES = (
    *("brush_teeth", "eat_chips", "mop_floor", "sweep"),
    *("type_on_keyboard", "wash_hands", "watch_tv"),
)
POSTURE = ("v2_mean", "v2_max")


class HTAD(Dataset):
    """Real: 1,386 windows of 7 home activities, sound (36 MFCC features) and wrist acceleration (16
    features), synchronous.

    Constructed: the accelerometer's features are shown as two modalities, ``posture`` (means and
    maxima) and ``motion`` (the rest). Each feature is standardised by the training split. Protocol
    ``random``: stratified 70/30, train and test share recordings, and 20 % of the rest is val;
    ``block``: the last of three recording blocks is the test split, and of the others the shortest
    recording of each activity is val, so that no recording is in two splits.
    """

    grouping = "recordings"
    protocols: ClassVar[tuple[str, ...]] = ("random", "block")
    summary = "1,386 real windows of sound and wrist acceleration, 7 home activities (extra `real`)"
    embedded = True

    @property
    def spec(self) -> DataSpec:
        split = "train and test share recordings"
        if self.protocol == "block":
            split = "test is a recording block of its own"
        return DataSpec(
            name="htad",
            task="classification",
            modalities=(
                Modality("audio", (1, 1, 36), "MFCC features of the sound", kind="features"),
                Modality(
                    "posture",
                    (1, 1, 8),
                    "means and maxima of wrist acceleration",
                    kind="features",
                ),
                Modality(
                    "motion",
                    (1, 1, 8),
                    "deviations, correlations and area of wrist acceleration",
                    kind="features",
                ),
            ),
            classes=ACTIVITIES,
            metric="accuracy",
            aligned=False,
            notes=(
                "real recordings; posture and motion are two parts of one sensor's features",
                split,
            ),
        )

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.read_csv(_file())

    @cached_property
    def _labels(self) -> Array:
        named = pd.Categorical(self._table["class"], categories=list(ACTIVITIES))
        return np.asarray(named.codes, dtype=np.int64)

    @cached_property
    def _splits(self) -> dict[str, Array]:
        if self.protocol == "random":
            return stratified_splits(self._labels, test=0.3, val=0.2, seed=0)
        rest, test = np.arange(LAST_BLOCK), np.arange(LAST_BLOCK, len(self._labels))
        chosen = np.isin(self._recording[rest], self._shortest(rest))
        return {"train": rest[~chosen], "val": rest[chosen], "test": test}

    @cached_property
    def _recording(self) -> Array:
        """The recording of each window, a number: windows in a row that show the same activity."""
        begins = np.flatnonzero(np.diff(self._labels) != 0) + 1
        borders = np.sort(np.append(begins, LAST_BLOCK))
        return np.searchsorted(borders, np.arange(len(self._labels)), side="right")

    def _shortest(self, windows: Array) -> list[int]:
        """The shortest recording of each activity among some windows, the first of equal ones."""
        of_label = self._labels[windows]
        found = []
        for label in range(len(ACTIVITIES)):
            numbers, sizes = np.unique(
                self._recording[windows][of_label == label], return_counts=True
            )
            found.append(int(numbers[sizes.argmin()]))
        return found

    @cached_property
    def _views(self) -> dict[str, Array]:
        columns = list(self._table.columns)
        groups = {
            "audio": [c for c in columns if c.startswith("v1_")],
            "posture": [c for c in columns if c.startswith(POSTURE)],
            "motion": [c for c in columns if c.startswith("v2_") and not c.startswith(POSTURE)],
        }
        train = self._splits["train"]
        raw = {name: self._table[chosen].to_numpy(np.float64) for name, chosen in groups.items()}
        return {name: standardised(x, train, axis=0)[:, None, None] for name, x in raw.items()}

    def fingerprint(self) -> str:
        facts = {
            "protocol": self.protocol,
            "limit": self.limit,
            "file": _file().read_text(encoding="utf-8"),
        }
        return fingerprint_of(list(self._splits.values()), **facts)

    def counts(self) -> dict[str, int]:
        return {name: len(index[: self.limit]) for name, index in self._splits.items()}

    def load(self, split: str) -> Split:
        index = self._splits[split][: self.limit]
        groups = tuple(f"recording {number}" for number in self._recording[index])
        return as_split(self._views, self._labels, index, groups)


def _file() -> Path:
    package = importlib.util.find_spec("multiviewstacking")
    if package is None or package.origin is None:
        raise UserError('dataset htad needs the extra `real`: pip install -e ".[real]"')
    return Path(package.origin).parent / "data" / "htad.csv"
