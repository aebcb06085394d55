"""Any data of the user's from one CSV: what becomes of files, labels and missing cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from datasets.manifest import Manifest
from harness.data import contents
from harness.dataset import SPLITS, Split
from harness.errors import UserError
from harness.protocol.label_maps import VOID
from harness.testing import check_dataset
from tests.support.media import (
    array,
    classification,
    picture,
    read_rows,
    segmentation,
    sound,
    write_csv,
)


def silent(name: str, done: int, total: int) -> None:
    pass


def opened(path: Path, limit: int | None = None, **options: Any) -> tuple[Manifest, list[str]]:
    """The prepared dataset, and what it said."""
    dataset = Manifest(manifest=path, options=options, limit=limit, cache=path.parent / "cache")
    return dataset, dataset.prepare(silent)


def columns(folder: Path, **made: list[str]) -> Path:
    """A manifest of three train, one val and one test sample from five paths per modality.

    Labels alternate.
    """
    splits = ("train", "train", "train", "val", "test")
    rows = [
        {"split": split, "label": "ab"[n % 2], **{name: paths[n] for name, paths in made.items()}}
        for n, split in enumerate(splits)
    ]
    return write_csv(folder / "manifest.csv", rows)


def arrays(folder: Path, name: str, values: list[np.ndarray]) -> list[str]:
    for n, value in enumerate(values):
        array(folder / f"{name}/{n}.npy", value)
    return [f"{name}/{n}.npy" for n in range(len(values))]


def everything(split: Split) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return split.batch(torch.arange(len(split)))


def test_the_contract_for_a_mixture_of_pictures_sounds_and_vectors(tmp_path: Path) -> None:
    dataset, _ = opened(classification(tmp_path))
    check_dataset(dataset)
    spec = dataset.spec
    assert (spec.task, spec.metric, spec.classes) == ("classification", "accuracy", ("cat", "dog"))
    # 4 kHz: windows of 128 samples, every 64; the 95 % quantile of 30 lengths up to 0.25 s is the
    # 29th, 0.24 s = 960 samples.
    assert [m.shape for m in spec.modalities] == [(1, 16, 12), (1, 65, 960 // 64 + 1), (5, 1, 1)]
    assert not spec.aligned and spec.complete is None


def test_the_contract_for_segmentation(tmp_path: Path) -> None:
    dataset, said = opened(segmentation(tmp_path))
    check_dataset(dataset)
    spec = dataset.spec
    assert (spec.task, spec.metric, spec.classes, spec.aligned) == (
        "segmentation",
        "miou",
        ("0", "1"),
        True,
    )
    # 48 is half-way between multiples of 32 and goes up.
    assert [m.shape for m in spec.modalities] == [(3, 32, 64), (1, 32, 64)]
    assert any("pixels of 255 are void" in sentence for sentence in said)


def test_label_maps_are_the_stored_numbers_with_void(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    dataset, _ = opened(path, size="32x48")
    target = everything(dataset.load("val"))[1]
    wanted = [
        np.asarray(Image.open(tmp_path / row["label_path"]))
        for row in read_rows(path)
        if row["split"] == "val"
    ]
    assert torch.equal(target, torch.tensor(np.stack(wanted)).long())
    assert int((target == VOID).sum()) == 3 * len(wanted)


def test_each_channel_is_normalised_by_the_training_split_alone(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    dataset, _ = opened(path, size="32x48")
    rows = [row for row in read_rows(path) if row["split"] == "train"]
    test = [row for row in read_rows(path) if row["split"] == "test"]
    for name in ("rgb", "depth"):
        train = np.stack(
            [np.asarray(Image.open(tmp_path / row[name]), dtype=np.float64) for row in rows]
        )
        mean, std = (getattr(train, f)(axis=(0, 1, 2)) for f in ("mean", "std"))
        pixels = np.asarray(Image.open(tmp_path / test[0][name]), dtype=np.float64)
        wanted = torch.tensor((pixels - mean) / std).float()
        got = everything(dataset.load("test"))[0][name][0]
        torch.testing.assert_close(
            got,
            wanted.permute(2, 0, 1) if wanted.dim() == 3 else wanted[None],
            atol=1e-4,
            rtol=1e-4,
        )


def test_statistics_survive_large_offsets_and_count_blocks(tmp_path: Path) -> None:
    from datasets._manifest.statistics import statistics

    values = (
        torch.randn(700, 2, 3, 4, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 5.0])[:, None, None]
        + 1e4
    )
    rows = list(range(0, 700, 2))
    mean, std = statistics(values, rows)
    chosen = values[rows].double().numpy()
    np.testing.assert_allclose(mean, chosen.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, chosen.std((0, 2, 3)), rtol=1e-9)
    assert statistics(torch.full((4, 1, 2, 2), 7.0), [0, 3])[1] == (1.0,)


def test_pictures_of_8_and_16_bits_grey_and_colour_png_and_jpg_in_one_column(
    tmp_path: Path,
) -> None:
    flat = np.full((6, 8), 100, dtype=np.uint8)
    deep = np.full((6, 8), 100 * 257, dtype=np.uint16)
    kinds = [
        ("0.png", flat),
        ("1.jpg", flat),
        ("2.png", deep),
        ("3.png", np.stack([flat] * 3, 2)),
        ("4.jpg", np.stack([flat] * 3, 2)),
    ]
    for name, pixels in kinds:
        picture(tmp_path / "pic" / name, pixels)
    other = arrays(tmp_path, "vec", [np.arange(3.0) + n for n in range(5)])
    dataset, said = opened(columns(tmp_path, pic=[f"pic/{name}" for name, _ in kinds], vec=other))
    assert dataset.spec.modalities[0].shape == (3, 6, 8)
    for split in SPLITS:
        # The same grey in every notation: its deviation is 0, which normalises to nothing but a
        # shift.
        assert torch.equal(
            everything(dataset.load(split))[0]["pic"], torch.zeros(dataset.counts()[split], 3, 6, 8)
        )
    assert any("mixes 8 and 16 bits" in s for s in said) and any(
        "mixes grey and colour" in s for s in said
    )


def test_16_bit_depth_keeps_its_millimetres(tmp_path: Path) -> None:
    values = [np.array([[0, 65535], [1234, n]], dtype=np.uint16) for n in range(5)]
    for n, value in enumerate(values):
        picture(tmp_path / f"depth/{n}.png", value)
    path = columns(
        tmp_path,
        depth=[f"depth/{n}.png" for n in range(5)],
        other=arrays(tmp_path, "o", [np.ones(2)] * 5),
    )
    dataset, _ = opened(path)
    stored = dataset.load("test").inputs["depth"]
    assert stored.dtype == torch.float32 and stored[0, 0].tolist() == [
        [0.0, 65535.0],
        [1234.0, 4.0],
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_sound_of_any_depth_gives_the_same_spectrogram(
    tmp_path: Path, dtype: type[np.generic]
) -> None:
    for n in range(5):
        sound(tmp_path / f"snd/{n}.wav", 8000, 0.2, 500 + 500 * n, dtype)
    path = columns(
        tmp_path, snd=[f"snd/{n}.wav" for n in range(5)], o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    dataset, _ = opened(path)
    assert dataset.spec.modalities[0].shape == (1, 129, 1600 // 128 + 1)
    strongest = dataset.load("test").inputs["snd"][0, 0].float().mean(1).argmax()
    # 2500 Hz in bins of 8000 / 256 Hz.
    assert int(strongest) == 80


def test_mixed_rates_are_resampled_to_the_most_frequent_one(tmp_path: Path) -> None:
    for n, rate in enumerate((8000, 8000, 8000, 16000, 11025)):
        sound(tmp_path / f"snd/{n}.wav", rate, 0.2, 1000)
    path = columns(
        tmp_path, snd=[f"snd/{n}.wav" for n in range(5)], o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    dataset, said = opened(path)
    assert any("resampled from 8000, 11025, 16000 Hz to 8000 Hz" in sentence for sentence in said)
    for split in SPLITS:
        assert int(dataset.load(split).inputs["snd"][0, 0].float().mean(1).argmax()) == 32


def test_stereo_and_a_given_length_and_rate(tmp_path: Path) -> None:
    (tmp_path / "snd").mkdir()
    for n in range(5):
        wavfile.write(tmp_path / f"snd/{n}.wav", 8000, np.zeros((4000 + n, 2), dtype=np.int16))
    path = columns(
        tmp_path, snd=[f"snd/{n}.wav" for n in range(5)], o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    dataset, _ = opened(path, seconds=0.4, rate=4000)
    assert dataset.spec.modalities[0].shape == (1, 65, 26)
    assert bool(everything(dataset.load("train"))[0]["snd"].isfinite().all())


def test_arrays_of_one_two_and_three_dimensions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    made = {
        "flat": [random.normal(size=4) for _ in range(5)],
        "plane": [random.normal(size=(3, 5)).astype(np.float16) for _ in range(5)],
        "cube": [random.integers(0, 9, (2, 3, 5)) for _ in range(5)],
        "last": [random.normal(size=(3, 5, 2)) for _ in range(5)],
    }
    path = columns(
        tmp_path, **{name: arrays(tmp_path, name, values) for name, values in made.items()}
    )
    dataset, _ = opened(path, channels_last="last")
    assert [m.shape for m in dataset.spec.modalities] == [
        (4, 1, 1),
        (1, 3, 5),
        (2, 3, 5),
        (2, 3, 5),
    ]
    test = {name: x[0].float().numpy() for name, x in dataset.load("test").inputs.items()}
    np.testing.assert_allclose(test["flat"][:, 0, 0], made["flat"][4], rtol=1e-6)
    np.testing.assert_allclose(test["cube"], made["cube"][4])
    np.testing.assert_allclose(test["last"], made["last"][4].transpose(2, 0, 1), rtol=1e-6)
    sequence, _ = opened(path, channels_last="last", vectors="sequence")
    assert sequence.spec.modalities[0].shape == (1, 1, 4)


def test_pictures_of_several_sizes_take_the_median_and_a_given_size_wins(tmp_path: Path) -> None:
    for n, size in enumerate([(10, 20), (12, 24), (12, 24), (12, 24), (30, 24)]):
        picture(tmp_path / f"pic/{n}.png", np.full(size, 50 + n, dtype=np.uint8))
    path = columns(
        tmp_path, pic=[f"pic/{n}.png" for n in range(5)], o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    assert opened(path)[0].spec.modalities[0].shape == (1, 12, 24)
    assert opened(path, size=8)[0].spec.modalities[0].shape == (1, 8, 8)
    dataset, _ = opened(path, size="pic:6x10")
    assert dataset.load("test").inputs["pic"].unique().tolist() == [54]


def test_shrinking_averages_what_a_pixel_covers(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 200], dtype=np.uint8), (8, 4))
    for n in range(5):
        picture(tmp_path / f"pic/{n}.png", stripes)
    path = columns(
        tmp_path, pic=[f"pic/{n}.png" for n in range(5)], o=arrays(tmp_path, "o", [np.ones(2)] * 5)
    )
    stored = opened(path, size=2)[0].load("test").inputs["pic"].float()
    # Plain bilinear sampling at these points would see the mean of two neighbours only by luck.
    assert float((stored - 100).abs().max()) <= 12


def test_missing_cells_are_not_available_and_not_in_the_statistics(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = read_rows(path)
    for row in rows[:4]:
        row["vec"] = ""
    rows[-1]["pic"] = " "
    dataset, said = opened(write_csv(path, rows))
    check_dataset(dataset)
    train = dataset.load("train")
    assert (
        train.available[:, 2].tolist() == [False] * 4 + [True] * 12 and dataset.spec.complete == 12
    )
    assert dataset.load("test").available[-1].tolist() == [False, True, True]
    vectors = np.stack([np.load(tmp_path / row["vec"]) for row in rows[4:16]]).astype(np.float64)
    np.testing.assert_allclose(train.modalities[2].mean, vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(train.modalities[2].std, vectors.std(0), rtol=1e-6)
    assert any("samples without 'vec': 4 of 16 in train" in sentence for sentence in said)


def test_a_modality_that_no_test_sample_has(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = [row | ({"vec": ""} if row["split"] == "test" else {}) for row in read_rows(path)]
    dataset, _ = opened(write_csv(path, rows))
    check_dataset(dataset)
    assert not dataset.load("test").available[:, 2].any()


def test_val_is_taken_from_train_class_by_class_and_repeatably(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = [row for row in read_rows(path) if row["split"] != "val"]
    dataset, said = opened(write_csv(path, rows), val_share=0.25)
    assert dataset.counts() == {"train": 12, "val": 4, "test": 8}
    assert everything(dataset.load("val"))[1].bincount().tolist() == [2, 2]
    assert any("4 samples of train became val" in sentence for sentence in said)
    again, _ = opened(path, val_share=0.25)
    assert again.fingerprint() == dataset.fingerprint()
    assert opened(path, val_share=0.25, split_seed=1)[0].fingerprint() != dataset.fingerprint()


def test_a_limit_keeps_classes_even(tmp_path: Path) -> None:
    path = classification(tmp_path)
    write_csv(path, sorted(read_rows(path), key=lambda row: row["label"]))
    dataset, _ = opened(path, limit=4)
    assert everything(dataset.load("train"))[1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("words", "task", "classes"),
    [(("live", "attack"), "auto", ("attack", "live")), (("1", "0"), "anti_spoofing", ("0", "1"))],
)
def test_anti_spoofing_has_live_as_class_one(
    tmp_path: Path, words: tuple[str, str], task: str, classes: tuple[str, ...]
) -> None:
    path = classification(tmp_path)
    rows = [row | {"label": words[row["label"] == "dog"]} for row in read_rows(path)]
    spec = opened(write_csv(path, rows), task=task)[0].spec
    assert (spec.task, spec.metric, spec.classes) == ("anti_spoofing", "acer", classes)
    assert opened(path, task="classification")[0].spec.metric == "accuracy"


def test_anti_spoofing_needs_both_classes_in_every_combination_that_test_has(
    tmp_path: Path,
) -> None:
    path = classification(tmp_path)
    rows = [
        row | {"label": "live" if row["label"] == "cat" else "attack"} for row in read_rows(path)
    ]
    for row in rows:
        if row["split"] == "test" and row["label"] == "attack":
            row["vec"] = ""
    with pytest.raises(UserError, match="the 4 samples of test that have vec are all 'live'"):
        opened(write_csv(path, rows))


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = [row | {"label": "10" if row["label"] == "cat" else "9"} for row in read_rows(path)]
    assert opened(write_csv(path, rows))[0].spec.classes == ("9", "10")


def test_masks_of_0_and_255_by_values(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    for row in read_rows(path):
        label = np.asarray(Image.open(tmp_path / row["label_path"]))
        picture(tmp_path / row["label_path"], np.where(label == 1, 255, 0).astype(np.uint8))
    with pytest.raises(UserError, match=r"dataset\.options\.values=0,255"):
        opened(path)
    dataset, _ = opened(path, void=-1, values=[0, 255])
    assert everything(dataset.load("test"))[1].unique().tolist() == [
        0,
        1,
    ] and dataset.spec.classes == ("0", "255")


def test_identity_follows_contents_and_preparation_not_places(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        classification(folder)
    first = Manifest(manifest=here / "manifest.csv", cache=tmp_path / "cache")
    second = Manifest(manifest=there / "manifest.csv", cache=tmp_path / "other")
    assert first.fingerprint() == second.fingerprint()
    assert (
        Manifest(manifest=here / "manifest.csv", options={"size": 8}).fingerprint()
        != first.fingerprint()
    )
    # Another array of the same size.
    array(there / "vec/train0.npy", np.zeros(5, dtype=np.float32))
    assert Manifest(manifest=there / "manifest.csv").fingerprint() != first.fingerprint()


def test_a_marker_beside_the_manifest_makes_it_synthetic(tmp_path: Path) -> None:
    path = classification(tmp_path)
    assert not Manifest(manifest=path).spec.synthetic
    (tmp_path / "SYNTHETIC.md").write_text("generated\n")
    assert Manifest(manifest=path).spec.synthetic


def test_a_changed_source_is_seen_and_headers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The files of a test are too young to be remembered.
    monkeypatch.setattr(contents, "RACY_NS", 0)
    path = classification(tmp_path)
    opened(path)
    calls: list[Path] = []
    from datasets._manifest import headers

    real = headers.read_header
    monkeypatch.setattr(headers, "read_header", lambda p: calls.append(p) or real(p))
    array(tmp_path / "vec/train1.npy", np.full(5, 3.0))
    dataset, _ = opened(path)
    assert [p.name for p in calls] == ["train1.npy"]
    assert dataset.load("train").inputs["vec"][1].flatten().tolist() == [3.0] * 5
