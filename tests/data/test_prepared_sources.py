"""The prepared cache and its sources: changed, lacking, gone, unreadable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.images import read_image
from harness.data.prepared import Item, PreparedTable, Unreadable, opened
from harness.errors import UserError
from tests.support.prepared_tables import files, make, pictures, table_of


def test_an_item_that_the_data_lacks_is_zero_and_nothing_is_read(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)
    table, read = table_of((paths[0], None, paths[2]))
    make(table, tmp_path)
    prepared = opened(table, tmp_path)
    assert prepared.decoded == 2 and sorted(read.rows) == [0, 2]
    assert not prepared.array[1].any() and prepared.array[0].any() and prepared.array[2].any()
    assert prepared.unreadable == {}


def test_a_changed_source_means_a_new_file_and_the_old_one_goes(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 4), tmp_path / "cache"
    table, read = table_of(paths)
    make(table, folder)
    first = files(folder)
    Image.fromarray(np.full((40, 40, 3), 200, dtype=np.uint8)).save(paths[2])
    (sentence,) = make(table, folder)
    assert "its sources" in sentence and files(folder) != first and len(files(folder)) == 2
    assert (opened(table, folder).array[2] == 200).all() and len(read.rows) == 8


def test_a_source_with_a_new_time_and_the_old_content_is_the_same_data(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 4, "png"), tmp_path / "cache"
    table, read = table_of(paths)
    make(table, folder)
    first = files(folder)
    os.utime(paths[1], ns=(1, 1))
    assert make(table, folder) == [] and files(folder) == first and len(read.rows) == 4


def test_a_source_of_the_old_size_and_time_with_another_content_is_read_again(
    tmp_path: Path,
) -> None:
    sources = tuple(tmp_path / f"{number}.npy" for number in range(3))
    for path in sources:
        np.save(path, np.zeros(4, np.float32))
    table = PreparedTable(
        "array", (4,), "float32", "npy", sources, lambda row: np.load(sources[row])
    )
    make(table, tmp_path / "cache")
    old = sources[1].stat()
    np.save(sources[1], np.ones(4, np.float32))
    os.utime(sources[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    assert sources[1].stat().st_size == old.st_size
    (sentence,) = make(table, tmp_path / "cache")
    assert "sources" in sentence and len(files(tmp_path / "cache")) == 2
    assert opened(table, tmp_path / "cache").array.sum(1).tolist() == [0, 4, 0]


def test_a_copy_of_the_data_elsewhere_has_the_same_files_name(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "one" / "data", 3))
    shutil.copytree(tmp_path / "one" / "data", tmp_path / "two" / "longer" / "data")
    copy, _ = table_of(tuple(sorted((tmp_path / "two" / "longer" / "data").iterdir())))
    make(table, tmp_path / "cache1")
    make(copy, tmp_path / "cache2")
    assert files(tmp_path / "cache1") == files(tmp_path / "cache2")


def test_unreadable_files_are_all_named_or_left_out_as_the_study_says(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 9), tmp_path / "cache"
    for path in paths[2:6]:
        path.write_bytes(path.read_bytes()[:300])
    paths[7].write_text("not a picture")
    table, read = table_of(paths)
    with pytest.raises(UserError) as caught:
        make(table, folder)
    message = str(caught.value)
    assert (
        message.startswith("5 files cannot be read: ")
        and "dataset.options.unreadable=exclude" in message
        and "and 2 more" in message
    )
    assert all(str(path) in message for path in paths[2:5]) and str(paths[5]) not in message
    make(table, folder, "exclude")
    prepared = opened(table, folder)
    assert sorted(prepared.unreadable) == [2, 3, 4, 5, 7]
    assert prepared.unreadable[7].startswith(f"{paths[7]}: ")
    assert (
        not prepared.array[[2, 3, 4, 5, 7]].any()
        and prepared.array[[0, 1, 6, 8]].flatten(1).any(1).all()
    )
    # What is known is not decoded again, whatever the policy.
    with pytest.raises(UserError, match="5 files cannot be read"):
        make(table, folder)
    assert len(read.rows) == 9


def test_a_file_of_another_shape_or_type_is_unreadable(tmp_path: Path) -> None:
    sources = tuple(tmp_path / f"{number}.npy" for number in range(3))
    for path, item in zip(
        sources, [np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2), complex)], strict=True
    ):
        np.save(path, item)
    table = PreparedTable(
        "array", (2, 2), "float32", "npy", sources, lambda row: np.load(sources[row])
    )
    make(table, tmp_path / "cache", "exclude")
    unreadable = opened(table, tmp_path / "cache").unreadable
    assert unreadable == {
        1: f"{sources[1]}: shape (2, 3) instead of (2, 2)",
        2: f"{sources[2]}: type complex128 instead of float32",
    }


def test_files_that_are_not_there_are_a_sentence_before_anything_is_read(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 6)
    for path in paths[1:5]:
        path.unlink()
    table, read = table_of(paths)
    with pytest.raises(
        UserError,
        match=r"4 files of 'train-rgb' cannot be found: .*1.jpg, .*2.jpg, .*3.jpg and 1 more",
    ):
        make(table, tmp_path / "cache")
    assert read.rows == []


def test_a_file_that_vanishes_while_data_is_prepared_is_a_sentence(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)

    def read(row: int) -> Item:
        paths[row].unlink(missing_ok=True)
        return read_image(paths[row], "RGB", (16, 16))

    with pytest.raises(UserError, match="1 file of 'train-rgb' cannot be found"):
        make(PreparedTable("train-rgb", (3, 16, 16), "uint8", "x", paths, read), tmp_path / "cache")


def test_an_error_of_the_reader_itself_is_not_hidden(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)

    def read(row: int) -> Item:
        raise ZeroDivisionError(row)

    with pytest.raises(ZeroDivisionError):
        make(
            PreparedTable("train-rgb", (3, 16, 16), "uint8", "x", paths, read),
            tmp_path / "cache",
            "exclude",
        )


def test_unreadable_carries_its_path_and_reason() -> None:
    error = Unreadable(Path("a/b.jpg"), "truncated")
    assert (error.path, error.reason, str(error)) == (
        Path("a/b.jpg"),
        "truncated",
        "a/b.jpg: truncated",
    )
