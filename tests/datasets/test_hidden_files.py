"""Companions that a system writes beside files are no data, whatever their endings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from datasets.sample import main
from harness.cli import guarded
from harness.dataset import Dataset
from harness.errors import UserError
from harness.registry import DATASETS
from harness.schedule.driver import Driver
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from tests.support.companions import write_companions

EXPECTED: Mapping[str, Mapping[str, int]] = {
    "crema_d": {"train": 172, "val": 20, "test": 48},
    "kinetics_sounds": {"train": 167, "val": 24, "test": 64},
}
"""The samples' own counts; one video of Kinetics-Sounds has two frames, which are too few."""


def silent(name: str, done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("name", EXPECTED)
def test_counts_of_a_sample_with_companions_are_those_without(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    assert guarded(main, [name, str(root)]) == 0
    assert write_companions(root) > 400
    options = {"size": 16, "seconds": 0.5, "frames": 1}
    dataset: Dataset = DATASETS.get(name)(root=root, options=options, cache=tmp_path / "cache")
    said = dataset.prepare(silent)
    assert dataset.counts() == EXPECTED[name]
    assert not any("._" in sentence or ".DS_Store" in sentence for sentence in said)


@pytest.mark.parametrize("name", ["casia_surf", "nyuv2"])
def test_listed_data_do_not_see_companions(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    assert guarded(main, [name, str(root)]) == 0
    plain = DATASETS.get(name)(root=root).counts()
    write_companions(root)
    assert DATASETS.get(name)(root=root).counts() == plain


def test_a_split_without_any_sample_left_is_one_sentence(tmp_path: Path) -> None:
    root = tmp_path / "crema_d"
    assert guarded(main, ["crema_d", str(root)]) == 0
    for path in (root / "Image-01-FPS").rglob("*.jpg"):
        path.write_bytes(b"no picture")
    settings = [
        "study=crema_d_all_methods",
        f"dataset.root={root}",
        f"output={tmp_path / 'runs'}",
        "methods=[sf_md]",
        "preset=smoke",
    ]
    plan = Plan(load_study(settings))
    with pytest.raises(UserError, match="no sample left in train and val and test: all of them"):
        Driver(plan, Store.below(plan.study.output), settings).prepare(plan.dataset)
