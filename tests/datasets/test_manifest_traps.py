"""Mistakes in a user's data are one sentence each, with the rows, or are put right and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.manifest import Manifest
from harness.errors import UserError
from tests.datasets.test_manifest import opened
from tests.support.media import array, classification, picture, read_rows, segmentation, write_csv

Change = Callable[[Path, list[dict[str, str]]], Any]


def cell(row: int, column: str, value: str, labels: Mapping[str, str] | None = None) -> Change:
    """Write a cell; rows are counted as in the file, whose header is row 1.

    ``labels`` renames all labels before.
    """

    def change(folder: Path, rows: list[dict[str, str]]) -> None:
        if labels:
            numbered(labels)(folder, rows)
        rows[row - 2][column] = value

    return change


def numbered(labels: Mapping[str, str]) -> Change:
    """Rename the labels."""

    def change(folder: Path, rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["label"] = labels[row["label"]]

    return change


def measured(folder: Path, rows: list[dict[str, str]]) -> None:
    for n, row in enumerate(rows):
        row["label"] = str(0.5 + n / 4)


def column(name: str, value: str | None) -> Change:
    """Fill a column, or remove it."""

    def change(folder: Path, rows: list[dict[str, str]]) -> None:
        for row in rows:
            if value is None:
                del row[name]
            else:
                row[name] = value

    return change


def without(split: str) -> Change:
    def change(folder: Path, rows: list[dict[str, str]]) -> None:
        rows[:] = [row for row in rows if row["split"] != split]

    return change


def gone(folder: Path, rows: list[dict[str, str]]) -> None:
    for row in rows[3:8]:
        (folder / row["pic"]).unlink()


def odd_array(folder: Path, rows: list[dict[str, str]]) -> None:
    array(folder / rows[6]["vec"], np.zeros(4))


def twice_in(split: str) -> Change:
    def change(folder: Path, rows: list[dict[str, str]]) -> None:
        rows.append(rows[0] | {"split": split})

    return change


CLASSIFICATION: dict[str, tuple[Change, str]] = {
    "missing files": (
        gone,
        (
            "5 files cannot be found: pic/train3.png, pic/train4.png, pic/train5.png and 2 more"
            " (rows 5, 6, 7 and"
        ),
    ),
    "above the folder": (
        cell(4, "pic", "../pic/train2.png"),
        "column 'pic' leaves the folder of the manifest in row 4",
    ),
    "absolute": (cell(4, "pic", "/pic/train2.png"), "leaves the folder of the manifest in row 4"),
    "hidden way out": (
        cell(4, "pic", "pic/../../x.png"),
        "leaves the folder of the manifest in row 4",
    ),
    "split": (cell(5, "split", "tets"), "unknown split 'tets' in row 5; did you mean 'test'?"),
    "validation": (
        cell(18, "split", "valid"),
        "unknown split 'valid' in row 18; did you mean 'val'?",
    ),
    "label case": (
        cell(3, "label", "Cat"),
        "'Cat' (row 3) and 'cat' differ in upper and lower case alone",
    ),
    "no label": (cell(3, "label", " "), "no label in row 3"),
    "unseen class": (cell(30, "label", "cow"), "label 'cow' is in test (row 30) and not in train"),
    "one class": (column("label", "cat"), "every row has the label 'cat'"),
    "empty column": (column("vec", ""), "column 'vec' is empty in every row"),
    "no file": (
        cell(2, "vec", "3"),
        "column 'vec' has '3' in row 2, which is no picture, wav or npy file",
    ),
    "files of another kind": (
        column("vec", "clips/7.mp4"),
        "column 'vec' has 'clips/7.mp4' in row 2, which is no picture, wav or npy file",
    ),
    "NUL": (cell(4, "pic", "pic/\0train2.png"), "has a NUL character in row 4"),
    "field limit": (
        cell(4, "pic", "x" * 140_000),
        "cannot be read as CSV below row 3 (field larger than field limit (131072))",
    ),
    "long name": (cell(4, "pic", "x" * 3000 + ".png"), "1 file cannot be found: xxx"),
    "one number twice": (
        numbered({"cat": "7", "dog": "007"}),
        "'007' (rows 2, 4, 6 and 12 more) and '7' (rows 3, 5, 7 and 12 more) are one number",
    ),
    "decimals of one number": (
        cell(5, "label", "1.0", {"cat": "1", "dog": "0"}),
        "'1' (rows 3, 7, 9 and 11 more) and '1.0' (row 5) are one number written in two ways",
    ),
    "regression": (
        measured,
        "the labels are 30 different numbers (0.5, 0.75, 1.0 and 27 more); is this a regression?",
    ),
    "maps in the column of classes": (
        column("label", "maps/3.png"),
        "column 'label' names files ('maps/3.png' in row 2)",
    ),
    "two kinds": (
        cell(7, "pic", "vec/train5.npy"),
        "column 'pic' mixes image (row 2) and array (row 7)",
    ),
    "no test": (without("test"), "has no row whose split is test"),
    "no split column": (column("split", None), "has no column 'split'"),
    "no label column": (
        column("label", None),
        "has neither a column 'label' (a class) nor 'label_path'",
    ),
    "shapes": (odd_array, "have the shape (5,), but not in row 8 ((4,))"),
    "sample in two splits": (
        twice_in("test"),
        "rows 2 and 32 are the same sample with split 'train' and 'test'",
    ),
}


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_each_mistake_is_one_sentence_with_its_rows(tmp_path: Path, name: str) -> None:
    change, sentence = CLASSIFICATION[name]
    path = classification(tmp_path)
    rows = read_rows(path)
    change(tmp_path, rows)
    dataset = Manifest(manifest=write_csv(path, rows), cache=tmp_path / "cache")
    with pytest.raises(UserError) as caught:
        assert dataset.spec and dataset.counts()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_one_modality_is_too_few_and_says_what_is_there(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = [{key: row[key] for key in ("split", "label", "pic")} for row in read_rows(path)]
    with pytest.raises(UserError, match=r"has 1 modality column \(pic\)"):
        opened(write_csv(path, rows))


def test_without_a_manifest_or_with_a_wrong_path(tmp_path: Path) -> None:
    for manifest, sentence in (
        (None, "needs dataset.manifest=PATH"),
        (tmp_path / "x.csv", "does not exist"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=sentence):
            assert Manifest(manifest=manifest).spec


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"modalities": "pic,sound"},
            "unknown column in dataset.options.modalities for manifest.csv: 'sound'",
        ),
        ({"size": "big"}, "dataset.options.size=big is not a size"),
        ({"size": "pix:8"}, "did you mean 'pic'"),
        (
            {"classes": "cat,dgo"},
            (
                "label 'dog' (rows 2, 4, 6 and 12 more) is not in dataset.options.classes; did you"
                " mean 'dgo'"
            ),
        ),
        (
            {"task": "segmentation"},
            "has no column 'label_path', which dataset.options.task=segmentation needs",
        ),
        ({"task": "anti_spoofing"}, "anti-spoofing needs one label for live"),
        ({"channels_last": "vek"}, "did you mean 'vec'"),
        ({"front_end": "E"}, "did you mean"),
    ],
)
def test_each_wrong_option_is_one_sentence(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    path = classification(tmp_path)
    with pytest.raises(UserError) as caught:
        assert Manifest(manifest=path, options=options).spec
    assert sentence in str(caught.value) or sentence == "did you mean"


def test_samples_of_columns_that_were_not_chosen_are_left_out_and_said(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = read_rows(path)
    for at in (1, 4):
        rows[at] |= {"pic": "", "snd": ""}
    dataset, said = opened(write_csv(path, rows), modalities="snd,pic")
    assert dataset.counts() == {"train": 14, "val": 6, "test": 8}
    assert "samples that have none of snd, pic are left out: 2 (rows 3, 6)" in said
    assert opened(path)[0].counts()["train"] == 16
    # What has nothing in any column is a mistake, also where columns are chosen.
    rows[4]["vec"] = ""
    with pytest.raises(UserError, match="no modality at all in row 6"):
        opened(write_csv(path, rows), modalities="snd,pic")


def test_columns_that_name_no_files_are_left_aside_and_said(tmp_path: Path) -> None:
    path = classification(tmp_path)
    plain = Manifest(manifest=path)
    before = (plain.spec.names, plain.fingerprint())
    others = {"person": "7", "seen by": "Dr. Ng", "label_name": "a cat" * 99, "when": "3.5"}
    write_csv(path, [row | others for row in read_rows(path)])
    # A person's folder is no file.
    (tmp_path / "7").mkdir()
    dataset, said = opened(path)
    assert (dataset.spec.names, dataset.fingerprint()) == before
    told = [line for line in said if "left aside" in line]
    assert len(told) == 1 and "files are left aside: person, seen by, label_name, when (" in told[0]
    assert opened(path, modalities=["vec", "pic"])[0].spec.names == ("vec", "pic")


def test_numbers_that_are_classes_are_so_once_the_user_says_it(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = read_rows(path)
    values = [str(n / 2) for n in range(7)]
    for n, row in enumerate(rows):
        row["label"] = values[n % 4]
    assert len(Manifest(manifest=write_csv(path, rows)).spec.classes) == 4
    for split, first in (("train", 0), ("val", 16), ("test", 22)):
        for n in range(first, first + 6):
            assert rows[n]["split"] == split
            rows[n]["label"] = values[n - first]
    with pytest.raises(UserError, match="is this a regression"):
        assert Manifest(manifest=write_csv(path, rows)).spec
    for options in ({"task": "classification"}, {"classes": ",".join(values)}):
        assert len(Manifest(manifest=path, options=options).spec.classes) in (6, 7)


@pytest.mark.parametrize(
    "form",
    [
        *("bom", "crlf", "semicolon", "tab", "no newline", "backslash", "empty columns"),
        *("sep=;", "sep=| in quotes"),
    ],
)
def test_other_ways_to_write_the_same_table(tmp_path: Path, form: str) -> None:
    path = classification(tmp_path)
    plain, text = Manifest(manifest=path).fingerprint(), path.read_text()
    written = {
        "bom": "\ufeff" + text,
        "crlf": text.replace("\n", "\r\n"),
        "semicolon": text.replace(",", ";"),
        "tab": text.replace(",", "\t"),
        "no newline": text.rstrip("\n"),
        "backslash": text.replace("/", "\\"),
        "sep=;": "\ufeffsep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n"),
        "sep=| in quotes": '"sep=|"\n' + text.replace(",", "|"),
        "empty columns": text.replace("\n", ",,\n") + ",,,,,,\n",
    }[form]
    path.write_bytes(written.encode())
    assert Manifest(manifest=path).fingerprint() == plain


def test_text_that_is_not_utf_8_and_rows_that_are_too_short(tmp_path: Path) -> None:
    path = classification(tmp_path)
    text = path.read_text()
    path.write_bytes(text.replace("cat", "k\u00e4tzchen").encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        assert Manifest(manifest=path).spec
    path.write_text(text + "test,cat,pic/test0.png\n")
    with pytest.raises(UserError, match="the first row has 5 cells, but not row 32"):
        assert Manifest(manifest=path).spec


def test_rows_are_counted_below_a_line_that_names_the_separator(tmp_path: Path) -> None:
    path = classification(tmp_path)
    text = path.read_text().replace("\nval,", "\nvalid,", 1).replace(",", ";")
    path.write_text("sep=;\n" + text)
    # 16 training rows below the separator and the header.
    with pytest.raises(UserError, match="unknown split 'valid' in row 19"):
        assert Manifest(manifest=path).spec


def test_spaces_and_repeated_rows_are_put_right_and_said(tmp_path: Path) -> None:
    path = classification(tmp_path)
    plain = Manifest(manifest=path).fingerprint()
    rows = read_rows(path)
    rows[3]["label"] = " cat "
    rows.append(dict(rows[2]))
    dataset, said = opened(write_csv(path, rows))
    assert dataset.counts() == {"train": 16, "val": 6, "test": 8} and dataset.fingerprint() == plain
    assert any("1 repeated samples count once (row 32)" in s for s in said) and any(
        "(row 5)" in s for s in said
    )


def test_folded_labels_and_a_class_that_is_never_trained(tmp_path: Path) -> None:
    path = classification(tmp_path)
    rows = read_rows(path)
    rows[1]["label"] = "CAT"
    assert opened(write_csv(path, rows), fold_case=True)[0].spec.classes == ("cat", "dog")
    rows[1]["label"], rows[-1]["label"] = "cat", "cow"
    assert opened(write_csv(path, rows), classes="dog,cat,cow")[0].spec.classes == (
        "dog",
        "cat",
        "cow",
    )


def test_corrupted_files_are_left_out_by_name_or_fatal(tmp_path: Path) -> None:
    path = classification(tmp_path)
    whole = tmp_path / "pic/train2.png"
    whole.write_bytes(whole.read_bytes()[:-30])
    (tmp_path / "snd/train5.wav").write_bytes(b"RIFF")
    (tmp_path / "vec/test1.npy").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    array(tmp_path / "vec/test2.npy", np.array([1, 2, np.nan, 4, 5]))
    dataset, said = opened(path)
    assert dataset.counts() == {"train": 14, "val": 6, "test": 6}
    assert {name: len(dataset.load(name)) for name in dataset.counts()} == dataset.counts()
    named = " ".join(sentence for sentence in said if "left out" in sentence)
    assert all(
        word in named for word in ("train2.png", "train5.wav", "git-lfs pointer", "not finite")
    )
    assert any("left out" in note for note in dataset.spec.notes)
    kept = [
        row for n, row in enumerate(read_rows(path)) if row["split"] == "train" and n not in (2, 5)
    ]
    assert dataset.load("train").target.tolist() == [int(row["label"] == "dog") for row in kept]
    with pytest.raises(UserError, match="4 files cannot be read"):
        opened(path, unreadable="fatal")


def test_label_maps_of_another_size_and_numbers_that_are_no_classes(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    rows = read_rows(path)
    picture(tmp_path / rows[1]["label_path"], np.ones((31, 48), dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"1 label map has another size .* row 3 \(label/train1.png is 31x48\)"
    ):
        opened(path)
    picture(tmp_path / rows[1]["label_path"], np.full((32, 48), 300, dtype=np.uint16))
    with pytest.raises(UserError, match="row 3 hold the number 300"):
        opened(path)
    picture(tmp_path / rows[1]["label_path"], np.full((32, 48), 9, dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"dataset.options.classes=2 are 2 classes, and the label maps hold class 9"
    ):
        opened(path, classes=2)
    assert len(opened(path)[0].spec.classes) == 10


def test_a_label_map_that_is_a_colour_picture_is_left_out_by_name(tmp_path: Path) -> None:
    path = segmentation(tmp_path)
    picture(tmp_path / "label/train0.png", np.zeros((32, 48, 3), dtype=np.uint8))
    dataset, said = opened(path)
    assert dataset.counts()["train"] == 15
    assert any(
        "train0.png: mode RGB where a map of labels is expected" in sentence for sentence in said
    )
