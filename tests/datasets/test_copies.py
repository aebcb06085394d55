"""Val and test samples that have the bytes of training samples: counted, whole and in part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets._copies import copies
from datasets.casia_surf import CasiaSurf
from datasets.crema_d import CremaD
from datasets.kinetics_sounds import KineticsSounds
from datasets.manifest import Manifest
from datasets.nyuv2 import NYUv2
from datasets.sample import write
from harness.data.contents import UNREADABLE
from harness.dataset import Dataset
from tests.support.media import classification

TAIL = (
    "of samples of train: all their files have the same bytes (copied, linked or listed twice), so"
    " that results on them are not those of unseen data"
)


def test_nothing_is_said_where_nothing_is_shared() -> None:
    splits = {"train": [("a", "b"), ("", "c")], "val": [("d", "e")], "test": [("b", "a")]}
    assert copies(("x", "y"), splits) == []


def test_whole_copies_and_single_modalities_are_told_apart() -> None:
    train = [("a", "b"), ("c", "d"), ("e", "")]
    # Of two training samples one modality each: no sample of train has both.
    test = [("a", "b"), ("c", "b"), ("a", "z"), ("y", "z"), ("e", ""), ("", "d"), ("", "")]
    assert copies(("x", "y"), {"train": train, "val": [("c", "d")], "test": test}) == [
        f"1 of 1 samples of val is a copy {TAIL}",
        f"3 of 7 samples of test are copies {TAIL}",
        "2 of 7 samples of test have one modality in common with a sample of train, byte for byte"
        " (x in 2, y in 1), and the others not",
    ]


def test_files_that_cannot_be_read_are_not_copies_of_each_other() -> None:
    bad = f"{UNREADABLE}Permission denied"
    assert copies(("x",), {"train": [(bad,)], "val": [], "test": [(bad,)]}) == []


def test_a_manifest_says_its_copies_links_and_shared_modalities(tmp_path: Path) -> None:
    path = classification(tmp_path)
    before = Manifest(manifest=path, cache=tmp_path / "cache")
    # Its sounds are pure tones: number n of every split and class lasts equally long.
    shared = "samples of {} have one modality in common with a sample of train, byte for byte"
    tones = [
        f"6 of 6 {shared.format('val')} (snd in 6), and the others not",
        f"8 of 8 {shared.format('test')} (snd in 8), and the others not",
    ]
    assert before.remarks() == tones
    for column, ending in (("pic", "png"), ("vec", "npy")):
        shutil.copy(tmp_path / f"{column}/train0.{ending}", tmp_path / f"{column}/test0.{ending}")
        link = tmp_path / f"{column}/test1.{ending}"
        link.unlink()
        link.symlink_to(tmp_path / f"{column}/train1.{ending}")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("pic/test2.png", "pic/train2.png"), encoding="utf-8")
    dataset = Manifest(manifest=path, cache=tmp_path / "cache")
    said = dataset.prepare(lambda *facts: None)
    expected = [
        tones[0],
        f"2 of 8 samples of test are copies {TAIL}",
        f"6 of 8 {shared.format('test')} (pic in 1, snd in 6), and the others not",
    ]
    assert dataset.remarks() == expected and said[-3:] == expected
    assert dataset.fingerprint() != before.fingerprint()


def sources(dataset: Dataset, split: str, of: int | None = None) -> list[Path]:
    """The files of the first sample of a split; of the first that has so many."""
    if isinstance(dataset, CasiaSurf):
        return [dataset.folder / name for name in dataset._samples[split][0].files]
    if isinstance(dataset, NYUv2):
        image = dataset.ids[split][0]
        return [dataset._copy.source("rgb", image), dataset._copy.source("depth", image)]
    assert isinstance(dataset, CremaD | KineticsSounds)
    found = [[clip.sound, *clip.frames] for clip in dataset._found.splits[split]]
    return next(files for files in found if of in (None, len(files)))


@pytest.mark.parametrize("cls", [CasiaSurf, CremaD, KineticsSounds, NYUv2])
def test_datasets_of_files_follow_contents_and_say_copies(
    tmp_path: Path, cls: type[Dataset]
) -> None:
    name = cls.__module__.rpartition(".")[2]
    write(name, tmp_path / "root", seed=1)

    def opened() -> Dataset:
        return cls(tmp_path / "root", cache=tmp_path / "cache")

    plain = opened()
    assert not [said for said in plain.remarks() if "cop" in said]
    fingerprints = [plain.fingerprint()]
    # One byte in the middle, the size as before.
    source = sources(plain, "test")[0]
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    source.write_bytes(content)
    fingerprints.append(opened().fingerprint())
    files = sources(plain, "test")
    for here, there in zip(sources(plain, "train", len(files)), files, strict=True):
        shutil.copy(here, there)
    dataset = opened()
    fingerprints.append(dataset.fingerprint())
    assert len(set(fingerprints)) == 3
    assert [s for s in dataset.remarks() if s.startswith("1 of") and "of test is a copy" in s]
