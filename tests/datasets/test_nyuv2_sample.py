"""The synthetic copy of NYUv2: its layout, its rooms, and what colour and depth tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier

from datasets.nyuv2 import NYUv2
from datasets.samples import nyuv2 as sample
from harness.testing import check_dataset

SIZE = (48, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nyuv2") / "copy"
    sample.write(folder, seed=0, size=SIZE)
    return folder


def test_layout_lists_and_file_types(root: Path) -> None:
    names = {split: (root / f"{split}.txt").read_text().split() for split in ("train", "test")}
    assert (len(names["train"]), len(names["test"])) == (40, 20) and names["test"][:5] == [
        "0001",
        "0002",
        "0003",
        "0004",
        "0013",
    ]
    for split, kind in (
        (s, k) for s in names for k in ("rgb", "depth", "depth_raw", "labels_40", "labels_13")
    ):
        assert sorted(path.stem for path in (root / split / kind).iterdir()) == names[split]
    modes = {
        kind: Image.open(root / "train" / kind / "0005.png").mode
        for kind in ("rgb", "depth", "labels_40")
    }
    assert modes == {"rgb": "RGB", "depth": "I;16", "labels_40": "L"}
    depth, raw = (
        np.asarray(Image.open(root / "train" / kind / "0005.png"))
        for kind in ("depth", "depth_raw")
    )
    assert (
        depth.min() >= 400
        and depth.max() < 9000
        and np.array_equal(depth[raw > 0], raw[raw > 0])
        and (raw == 0).mean() > 0.03
    )
    labels = np.stack(
        [np.asarray(Image.open(path)) for path in sorted(root.glob("*/labels_40/*.png"))]
    )
    assert 0.05 < (labels == 0).mean() < 0.4 and len(np.unique(labels)) == 12


def test_the_same_seed_writes_the_same_files(root: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        sample.write(tmp_path / str(seed), seed=seed, size=SIZE, scenes=2)
    for name in ("rgb", "depth", "labels_13"):
        path = f"train/{name}/0005.png"
        assert (
            (root / path).read_bytes()
            == (tmp_path / "0" / path).read_bytes()
            != (tmp_path / "1" / path).read_bytes()
        )


def test_the_camera_sees_what_geometry_says() -> None:
    # Looking straight ahead from the middle of an empty room of 4 x 3 x 5 m: the far wall is 4.5 m
    # away wherever it is seen, and the floor, 1.5 m below, appears where a ray has fallen by 1.5 m.
    room = sample.Room((4.0, 3.0, 5.0), (), np.ones(3))
    distance, shown, _ = sample._nearest_surface(
        room, np.array([2.0, 1.5, 0.5]), sample._rays((60, 80), yaw=0.0, pitch=0.0)
    )
    assert distance[30, 40] == pytest.approx(4.5) and shown[30, 40] == sample.SHOWN.index("wall")
    drop = (30 - 59 - 0.5) / (0.9 * 80)
    assert distance[59, 40] == pytest.approx(1.5 / -drop) and shown[59, 40] == sample.SHOWN.index(
        "floor"
    )
    assert shown[0, 40] == sample.SHOWN.index("ceiling")


def test_the_sample_conforms(root: Path, tmp_path: Path) -> None:
    dataset = NYUv2(root, options={"height": 32, "width": 64}, cache=tmp_path)
    dataset.prepare(lambda name, done, total: None)
    assert dataset.counts() == {"train": 32, "val": 8, "test": 20} and dataset.spec.synthetic
    check_dataset(dataset)


def pixels(root: Path, split: str, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Some known pixels of a split and their classes.

    What the kinds show there, and six pixels away in 8 directions.
    """
    features, labels = [], []
    for name in (root / f"{split}.txt").read_text().split():
        label = np.asarray(Image.open(root / split / "labels_40" / f"{name}.png"))
        shown = [
            np.asarray(Image.open(root / split / kind / f"{name}.png"))
            .astype(float)
            .reshape(*SIZE, -1)
            for kind in kinds
        ]
        maps = np.concatenate(shown, -1)
        around = [np.roll(maps, (dy, dx), (0, 1)) for dy in (-6, 0, 6) for dx in (-6, 0, 6)]
        row = np.broadcast_to(np.arange(SIZE[0])[:, None, None], (*SIZE, 1))
        features.append(np.concatenate([row, *around], -1)[label > 0][::17])
        labels.append(label[label > 0][::17])
    return np.concatenate(features), np.concatenate(labels)


def test_each_modality_tells_something_and_both_more(root: Path) -> None:
    right = {}
    for kinds in (("rgb",), ("depth",), ("rgb", "depth")):
        train, test = (pixels(root, split, kinds) for split in ("train", "test"))
        found = (
            HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(*train).predict(test[0])
        )
        right[kinds] = np.mean([(found[test[1] == c] == c).mean() for c in np.unique(test[1])])
    # Macro recall; 1/11 is chance.
    assert right["rgb",] > 0.2 and right["depth",] > 0.2
    assert 0.95 > right["rgb", "depth"] > max(right["rgb",], right["depth",]) + 0.05, right
