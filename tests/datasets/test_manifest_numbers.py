"""Manifests whose labels are numbers, and whose series have unequal lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.dataset import SPLITS
from harness.errors import UserError
from harness.testing import check_dataset
from tests.datasets.test_manifest import opened
from tests.support.media import Rows, array, read_rows, write_csv
from tests.support.numbers import diabetes, opinions


def numbered(folder: Path, labels: list[str], splits: str = "rrrrvt") -> Path:
    """Two vectors per sample; splits by their letters."""
    named = {"r": "train", "v": "val", "t": "test"}
    rows: Rows = []
    for n, label in enumerate(labels):
        row = {"split": named[splits[n]], "label": label}
        for name in ("a", "b"):
            row[name] = f"{name}{n}.npy"
            array(folder / row[name], np.array([n, n + 1.5], dtype=np.float32))
        rows.append(row)
    return write_csv(folder / "manifest.csv", rows)


def test_labels_are_the_numbers_and_their_scale_is_that_of_training(tmp_path: Path) -> None:
    labels = ["-1.5", "2", "+3e1", ".25", "7", "8"]
    dataset, said = opened(numbered(tmp_path, labels), task="regression")
    spec = dataset.spec
    assert (spec.task, spec.metric, spec.classes, spec.outputs) == ("regression", "mae", (), 1)
    train = np.array([-1.5, 2, 30, 0.25])
    assert spec.label_scale == pytest.approx((train.mean(), train.std()))
    target = dataset.load("train").target
    assert target.dtype == torch.float32 and target.tolist() == train.tolist()
    assert any("numbers from -1.5 to 30" in sentence for sentence in said)


def test_the_question_about_numbers_names_the_way_to_predict_them(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["0.5", "1.5", "2.5", "3.5", "4.5", "5.5"])
    with pytest.raises(UserError, match=r"is this a regression\? Say dataset\.options\.task=regr"):
        opened(path)


def test_whole_numbers_that_train_lacks_may_be_measurements(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["1", "12", "23", "34", "45", "56"])
    with pytest.raises(UserError, match=r"say dataset\.options\.task=regression if the labels are"):
        opened(path)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("many", "'many' \\(row 4\\) is no finite number"),
        ("nan", "'nan' \\(row 4\\) is no finite number"),
        ("inf", "'inf' \\(row 4\\)"),
        ("-1e999", "'-1e999' \\(row 4\\)"),
        ("1e38", "'1e38' \\(row 4\\)"),
        ("1,5", "'1,5' \\(row 4\\)"),
    ],
)
def test_a_label_that_is_no_number_is_one_sentence(tmp_path: Path, bad: str, named: str) -> None:
    path = numbered(tmp_path, ["1", "2", bad, "4", "5", "6"])
    with pytest.raises(UserError, match=named):
        opened(path, task="regression")


def test_nothing_to_learn_and_classes_beside_numbers_are_refused(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["2", "2.0", "2", "2", "5", "6"])
    with pytest.raises(UserError, match="every training sample has the label 2"):
        opened(path, task="regression")
    with pytest.raises(UserError, match="classes=a,b does not apply to"):
        opened(path, task="regression", classes="a,b")


def test_a_constant_label_in_test_is_said(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["1", "2", "3", "4", "5", "5"], "rrrvtt")
    said = opened(path, task="regression")[1]
    assert "every sample of test has the label 5: no correlation can be given" in said


def test_val_is_taken_at_random_where_there_is_none(tmp_path: Path) -> None:
    path = numbered(tmp_path, [str(n / 2) for n in range(20)], "r" * 15 + "t" * 5)
    dataset, said = opened(path, task="regression", val_share=0.2)
    assert dataset.counts() == {"train": 12, "val": 3, "test": 5}
    assert any("3 samples of train became val, at random" in sentence for sentence in said)
    target = torch.cat([dataset.load(name).target for name in SPLITS])
    assert sorted(target.tolist()) == [n / 2 for n in range(20)]


def test_the_real_data_conform(tmp_path: Path) -> None:
    dataset, _ = opened(diabetes(tmp_path), task="regression")
    check_dataset(dataset)
    assert dataset.counts() == {"train": 252, "val": 60, "test": 130}


# ---------------------------------------------------------------------- unequal lengths


def test_series_of_unequal_lengths_get_zeros_and_say_where_frames_are(tmp_path: Path) -> None:
    path = opinions(tmp_path, 60)
    dataset, said = opened(path, task="regression")
    check_dataset(dataset)
    words, sound = dataset.spec.modalities
    assert (words.shape, words.frames) == ((5, 1, 12), True)
    assert sound.shape[0] == 3 and sound.kind == "series"
    assert any("'words' is read as series of 3 to 12 frames of 4 features" in one for one in said)
    rows = [row for row in read_rows(path) if row["split"] == "train"]
    files = [np.load(tmp_path / row["words"]) for row in rows]
    frames = np.concatenate(files)
    inputs = dataset.load("train").received().inputs["words"]
    for series, x in zip(files, inputs, strict=True):
        expected = (series - frames.mean(0)) / frames.std(0)
        assert np.allclose(x[:4, 0, : len(series)].T, expected, atol=1e-4)
        assert not x[:, :, len(series) :].any() and bool((x[4, 0, : len(series)] == 1).all())


def test_raw_values_are_the_files_frames(tmp_path: Path) -> None:
    path = opinions(tmp_path, 40)
    dataset, _ = opened(path, task="regression")
    row = next(row for row in read_rows(path) if row["split"] == "test")
    found = dataset.raw("test", "sound")
    assert np.array_equal(found.read(0)[:, 0].T, np.load(tmp_path / row["sound"]))
    assert np.shape(found.std) == (2, 1, 1)


def test_longer_series_are_cut_where_the_study_says_so(tmp_path: Path) -> None:
    path = opinions(tmp_path, 40)
    dataset, said = opened(path, task="regression", frames=8)
    assert [m.shape[2] for m in dataset.spec.modalities] == [8, 8]
    assert any("longer ones are cut" in sentence for sentence in said)
    whole, _ = opened(path, task="regression")
    assert dataset.fingerprint() != whole.fingerprint()


def test_an_option_that_was_declared_later_leaves_ids_as_they_were(tmp_path: Path) -> None:
    dataset, _ = opened(numbered(tmp_path, ["1", "2", "3", "4", "5", "6"]), task="regression")
    assert "frames" in dataset.values and "frames" not in dataset.facts


def test_a_few_odd_shapes_are_a_mistake_and_are_read_where_the_study_says_so(
    tmp_path: Path,
) -> None:
    path = numbered(tmp_path, ["1", "2", "3", "4", "5", "6"])
    for n in range(6):
        array(tmp_path / f"a{n}.npy", np.full((7 if n == 2 else 8, 3), n, dtype=np.float32))
    with pytest.raises(UserError, match=r"row 4.*dataset\.options\.arrays=a:frames"):
        opened(path, task="regression")
    dataset, _ = opened(path, task="regression", arrays="a:frames,b:auto")
    assert dataset.spec.modalities[0].shape == (4, 1, 8)
    turned, _ = opened(path, task="regression", arrays="a:frames,b:auto")
    assert turned.load("train").inputs["a"][2, -1].sum() == 7


def test_channels_and_time_may_stand_the_other_way_round(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["1", "2", "3", "4", "5", "6"])
    for n in range(6):
        array(tmp_path / f"a{n}.npy", np.full((3, 4 + n), n, dtype=np.float32))
    dataset, _ = opened(path, task="regression")
    assert dataset.spec.modalities[0].shape == (4, 1, 9)


def test_both_sides_unequal_are_refused(tmp_path: Path) -> None:
    path = numbered(tmp_path, ["1", "2", "3", "4", "5", "6"])
    for n in range(6):
        array(tmp_path / f"a{n}.npy", np.full((3 + n, 4 + n), n, dtype=np.float32))
    with pytest.raises(UserError, match="a modality has one shape"):
        opened(path, task="regression")
