"""CREMA-D: which frame and sound belong to a clip, bad files, identity, and the sample."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from datasets._synthetic import mark
from datasets.crema_d import CremaD
from datasets.samples import crema_d
from harness.errors import UserError
from harness.testing import check_dataset
from tests.support.clips import (
    POINTER,
    accuracies_by_hand,
    heard,
    published,
    seen,
    write_grey,
    write_number,
)
from tests.support.crema import INDEX, KNOWN_BAD, ids, opened, write_copy, write_list


def remarks(dataset: CremaD) -> str:
    return "\n".join(dataset.prepare(lambda name, done, total: None))


def ids_of(dataset: CremaD, split: str) -> list[str]:
    return [clip.id for clip in dataset._found.splits[split]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "crema_d"
    mark(root, "a test")
    crema_d.write(root, seed=1, actors=12)
    return root


@pytest.mark.parametrize("protocol", ["ogm", "actor"])
def test_the_sample_conforms(sample: Path, protocol: str) -> None:
    dataset = opened(sample, protocol=protocol)
    check_dataset(dataset)
    assert dataset.spec.synthetic and sum(dataset.counts().values()) == 144


def test_sound_and_sight_of_the_sample_tell_the_class_and_together_best(sample: Path) -> None:
    sound, sight, both = accuracies_by_hand(opened(sample, options={"size": 16, "seconds": 1.0}))
    assert min(sound, sight) > 0.4 and max(sound, sight) + 0.04 < both < 0.95


# ---------------------------------------------------------------------- what belongs together


def test_sound_frame_and_label_are_of_the_same_clip_and_evaluation_shows_the_middle_frame(
    tmp_path: Path,
) -> None:
    names = ids(range(1001, 1008))
    numbers = write_copy(tmp_path / "copy", names[:36], names[36:])
    dataset = opened(tmp_path / "copy")
    for split in ("train", "val", "test"):
        own = [numbers[name] for name in ids_of(dataset, split)]
        loaded = dataset.load(split)
        assert heard(loaded) == own and seen(loaded) == own
        # What an accelerator would be given is this split's alone.
        assert [len(x) for x in loaded.inputs.values()] == [len(own), 3 * len(own)]
        assert loaded.target.tolist() == [INDEX[name[9:12]] for name in ids_of(dataset, split)]
    text = remarks(dataset)
    assert (
        "train.csv has 36 clips instead of 6,698" in text
        and "42 sound files instead of 7,442" in text
    )


def test_training_shows_every_frame_of_a_clip_and_numbers_are_sorted_as_numbers(
    tmp_path: Path,
) -> None:
    root = tmp_path / "copy"
    names = ids(range(1001, 1004))
    write_copy(root, names[:12], names[12:])
    for name in names:
        shutil.rmtree(root / "Image-01-FPS" / name)
        write_grey(
            root / "Image-01-FPS" / name,
            [1, 2, 3, 4, 5],
            ["0.jpg", "9.jpg", "10.jpg", "58.jpg", "100.jpg"],
        )
    dataset = opened(root)
    assert set(seen(dataset.load("test"))) == {3}
    train = dataset.load("train")
    shown = [seen(train, train.draw(torch.Generator().manual_seed(epoch))) for epoch in range(30)]
    assert all({row[n] for row in shown} == {1, 2, 3, 4, 5} for n in range(len(train)))
    kept = opened(root, options={"frames": 3})
    assert [set(seen(kept.load(split))) for split in ("train", "test")] == [{3}, {3}]
    shown = [
        seen(kept.load("train"), kept.load("train").draw(torch.Generator().manual_seed(epoch)))
        for epoch in range(20)
    ]
    assert {number for row in shown for number in row} == {1, 3, 5}


def test_clips_with_broken_media_are_left_out_of_all_and_named(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    names = [*ids(range(1001, 1005)), *KNOWN_BAD]
    numbers = write_copy(root, names, ids(range(1005, 1007)))
    (root / "AudioWAV" / "1076_MTI_SAD_XX.wav").unlink()
    shutil.rmtree(root / "Image-01-FPS" / "1064_TIE_SAD_XX")
    dataset = opened(root)
    there = [name for split in ("train", "val", "test") for name in ids_of(dataset, split)]
    assert set(numbers) - set(there) == set(KNOWN_BAD[:3])
    assert sum(dataset.counts().values()) == len(numbers) - 3
    assert all(name in remarks(dataset) for name in KNOWN_BAD)


# ---------------------------------------------------------------- files that are missing or damaged


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    names = ids(range(1001, 1006))
    write_copy(tmp_path / "copy", names[:24], names[24:])
    return tmp_path / "copy"


def test_missing_files_are_counted_and_named(copy: Path) -> None:
    first, second = (f"{actor}_DFA_NEU_XX" for actor in (1001, 1002))
    shutil.rmtree(copy / "Image-01-FPS" / second)
    with pytest.raises(
        UserError, match=f"1 of 30 clips have no pictures in Image-01-FPS/ID .*{second}"
    ):
        opened(copy, prepared=False).counts()
    (copy / "AudioWAV" / f"{first}.wav").unlink()
    with pytest.raises(UserError, match=rf"1 of 30 listed clips have no AudioWAV/ID\.wav: {first}"):
        opened(copy, prepared=False).counts()
    shutil.rmtree(copy / "AudioWAV")
    with pytest.raises(UserError, match=r"no AudioWAV/\*\.wav"):
        opened(copy, prepared=False).counts()


def test_a_damaged_sound_or_frame_takes_the_whole_clip_away(copy: Path) -> None:
    dataset = opened(copy)
    names, before = ids_of(dataset, "train"), dataset.counts()["train"]
    sound, frame = (
        copy / "AudioWAV" / f"{names[2]}.wav",
        copy / "Image-01-FPS" / names[5] / "00058.jpg",
    )
    for path in (sound, frame):
        path.write_bytes(path.read_bytes()[:300])
    again = opened(copy)
    loaded = again.load("train")
    left = [n for place, n in enumerate([*heard(dataset.load("train"))]) if place not in (2, 5)]
    assert again.counts()["train"] == len(loaded) == before - 2
    assert heard(loaded) == left and seen(loaded) == left
    text = remarks(again)
    assert "2 clips" in text and names[2] in text and names[5] in text and "truncated" in text
    with pytest.raises(UserError, match="2 files cannot be read"):
        opened(copy, options={"unreadable": "fatal"})


def test_git_lfs_pointers_are_one_sentence(copy: Path) -> None:
    for path in sorted((copy / "AudioWAV").glob("1001*.wav"))[1:5]:
        path.write_text(POINTER)
    with pytest.raises(
        UserError,
        match=(
            r"4 of 30 files are git-lfs pointers.*1001_DFA_HAP_XX\.wav.* and 1 more.*git lfs pull"
        ),
    ):
        opened(copy)


REAL_POINTER = published("AudioWAV/1001_DFA_ANG_XX.wav")


@pytest.mark.skipif(
    REAL_POINTER is None,
    reason="HARNESS_ACCEPTANCE names no folder with a clone of CREMA-D without its media",
)
def test_acceptance_2_a_real_pointer_is_known(copy: Path) -> None:
    assert REAL_POINTER is not None
    shutil.copy(REAL_POINTER, copy / "AudioWAV" / "1001_DFA_ANG_XX.wav")
    with pytest.raises(UserError, match="1 of 30 files are git-lfs pointers"):
        opened(copy)


# ---------------------------------------------------------------------- identity and the way in


def test_the_fingerprint_is_of_contents_not_of_places(copy: Path) -> None:
    before = opened(copy, prepared=False).fingerprint()
    elsewhere = copy.parent / "elsewhere"
    shutil.copytree(copy, elsewhere)
    for path in elsewhere.rglob("*.wav"):
        os.utime(path, (0, 0))
    assert opened(elsewhere, prepared=False).fingerprint() == before
    changed = [
        opened(copy, prepared=False, protocol="actor"),
        opened(copy, prepared=False, limit=5),
        opened(copy, prepared=False, options={"frontend": "B"}),
        opened(copy, prepared=False, options={"seconds": 0.4}),
        opened(copy, prepared=False, options={"size": 24}),
    ]
    write_number(elsewhere / "AudioWAV" / "1001_DFA_ANG_XX.wav", 3, channels=2)
    changed.append(opened(elsewhere, prepared=False))
    moved = copy.parent / "moved"
    shutil.copytree(copy, moved)
    names = ids(range(1001, 1006))
    write_list(moved / "train.csv", names[:23])
    write_list(moved / "test.csv", names[23:])
    changed.append(opened(moved, prepared=False))
    prints = [before, *(dataset.fingerprint() for dataset in changed)]
    assert len(set(prints)) == len(prints)


def test_without_a_root_the_description_is_there_and_data_are_one_sentence(tmp_path: Path) -> None:
    dataset = CremaD(cache=tmp_path)
    assert [modality.shape for modality in dataset.spec.modalities] == [
        (1, 257, 299),
        (3, 224, 224),
    ]
    assert not dataset.spec.synthetic
    for ask in (
        dataset.fingerprint,
        dataset.counts,
        lambda: dataset.prepare(lambda name, done, total: None),
    ):
        with pytest.raises(
            UserError, match=r"dataset\.root.*CREMA_D_ROOT.*python -m datasets\.sample crema_d DIR"
        ):
            ask()


def test_the_limit_takes_clips_of_all_kinds(sample: Path) -> None:
    dataset = opened(sample, limit=30)
    assert max(Counter(dataset.load("train").target.tolist()).values()) <= 12
    assert len({name[:4] for name in ids_of(dataset, "train")}) >= 6
