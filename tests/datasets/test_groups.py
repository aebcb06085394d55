"""Which samples each dataset says belong together, and that its own val splits keep them whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.casia_surf import CasiaSurf
from datasets.crema_d import CremaD
from datasets.digits import Digits
from datasets.htad import HTAD, LAST_BLOCK
from datasets.kinetics_sounds import KineticsSounds
from datasets.nyuv2 import NYUv2
from datasets.sample import write
from harness.dataset import SPLITS, Dataset, Split

SMALL: dict[type[Dataset], dict[str, Any]] = {
    CasiaSurf: {"size": 16},
    CremaD: {"size": 16, "seconds": 1.0},
    KineticsSounds: {"size": 16, "seconds": 1.0},
    NYUv2: {"height": 32, "width": 32},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


def opened(root: Path, cls: type[Dataset], protocol: str | None = None) -> Dataset:
    """A synthetic copy of a dataset, prepared."""
    name = cls.__module__.rpartition(".")[2]
    if not (root / name).exists():
        write(name, root / name)
    dataset = cls(root / name, None, protocol, None, SMALL[cls], root / f"{name}-cache")
    dataset.prepare(lambda what, done, total: None)
    return dataset


def groups(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {split: dataset.load(split).groups for split in SPLITS}


def shared(found: dict[str, tuple[str, ...]], first: str, second: str) -> set[str]:
    return set(found[first]) & set(found[second])


def test_clips_of_crema_d_belong_to_actors(root: Path) -> None:
    dataset = opened(root, CremaD, "actor")
    found = groups(dataset)
    assert dataset.grouping == "actors"
    for split in SPLITS:
        ids = [clip.id for clip in dataset._found.splits[split]]  # type: ignore[attr-defined]
        assert found[split] == tuple(name.partition("_")[0] for name in ids)
    assert not shared(found, "train", "val") | shared(found, "train", "test")
    assert dataset.group_sentences() == [
        "actors of samples that belong together: "
        + ", ".join(f"{split} {len(set(found[split]))}" for split in SPLITS)
    ]


def test_the_published_lists_of_crema_d_have_actors_on_both_sides(root: Path) -> None:
    dataset = opened(root, CremaD, "ogm")
    found = groups(dataset)
    both = shared(found, "train", "test")
    assert both and not shared(found, "train", "val")
    assert any(
        line.startswith(f"{len(both)} actors are in train and in test: ")
        for line in dataset.group_sentences()
    )


def test_clips_of_kinetics_belong_to_videos(root: Path) -> None:
    found = groups(opened(root, KineticsSounds))
    assert all(re.fullmatch(r".{11}", group) for group in found["test"])
    assert not shared(found, "train", "val")


def test_pictures_of_nyuv2_belong_to_scenes(root: Path) -> None:
    """The sample has four frames a room; where a copy names no scenes, runs of neighbours."""
    dataset = opened(root, NYUv2)
    found = groups(dataset)
    for split in SPLITS:
        sizes = [found[split].count(group) for group in dict.fromkeys(found[split])]
        assert min(sizes) >= 4
    assert not shared(found, "train", "val") | shared(found, "train", "test")


def test_faces_of_casia_surf_belong_to_subjects_where_paths_tell(root: Path) -> None:
    found = groups(opened(root, CasiaSurf, "leave_out_4"))
    assert all(re.fullmatch(r"CLKJ_[A-C]S\d+", group) for group in found["test"])
    assert not shared(found, "train", "val") | shared(found, "train", "test")
    paper = opened(root, CasiaSurf, "paper")
    assert groups(paper)["val"] == groups(paper)["test"] == ()
    assert paper.group_sentences() == []
    assert any("do not name the subjects" in note for note in paper.spec.notes)


def test_windows_of_htad_belong_to_recordings() -> None:
    """22 runs of one activity in the file; block takes the last seven of them for test."""
    pytest.importorskip("multiviewstacking")
    block = groups(HTAD(protocol="block"))
    whole = {group for found in block.values() for group in found}
    assert len(whole) == 22 and len(set(block["test"])) == 7
    assert sum(map(len, block.values())) == 1386 and len(block["test"]) == 1386 - LAST_BLOCK
    assert not shared(block, "train", "val") | shared(block, "train", "test")
    for split in SPLITS:
        assert len(set(HTAD(protocol="block").load(split).target.tolist())) == 7
    assert len(shared(groups(HTAD(protocol="random")), "train", "test")) == 22


def test_digits_do_not_say_who_wrote_them() -> None:
    assert groups(Digits()) == {split: () for split in SPLITS}
    assert Digits().group_sentences() == []


def test_a_chosen_part_keeps_its_groups() -> None:
    split = Split(
        {}, torch.arange(4), torch.ones(4, 1, dtype=torch.bool), groups=("a", "b", "c", "a")
    )
    assert split.select(torch.tensor([3, 1])).groups == ("a", "b")
