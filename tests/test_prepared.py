"""The prepared cache: decoded once, whole or made again, whatever happens to the process, the file or the sources."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import UserError
from harness.images import read_image
from harness.prepared import Item, Table, Unreadable, opened, prepare

Said = list[str]


def pictures(folder: Path, count: int, kind: str = "jpg") -> tuple[Path, ...]:
    """Small real files of random noise, sizes that vary."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    paths = tuple(folder / f"{number}.{kind}" for number in range(count))
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + number % 5, 18, 3), dtype=np.uint8)).save(path)
    return paths


class Counted:
    """Reads pictures and counts the reads of each."""

    def __init__(self, paths: tuple[Path | None, ...], size: tuple[int, int] = (16, 16)) -> None:
        self.paths = paths
        self.size = size
        self.rows: list[int] = []

    def __call__(self, row: int) -> Item:
        self.rows.append(row)
        path = self.paths[row]
        assert path is not None
        return read_image(path, "RGB", self.size)


def table_of(paths: tuple[Path | None, ...], name: str = "train-rgb") -> tuple[Table, Counted]:
    read = Counted(paths)
    return Table(name, (3, 16, 16), "uint8", "picture -> RGB, bilinear 16x16", paths, read), read


def make(table: Table, folder: Path, policy: str = "fatal") -> Said:
    said: Said = []
    prepare([table], folder, policy, say=said.append)  # type: ignore[arg-type]
    return said


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_every_row_is_its_picture_and_each_is_decoded_once(tmp_path: Path, kind: str) -> None:
    paths = pictures(tmp_path / "data", 11, kind)
    table, read = table_of((*paths, paths[0]))
    told: list[tuple[str, int, int]] = []
    for _ in range(2):
        prepare([table], tmp_path / "cache", "fatal", lambda *facts: told.append(facts))
    prepared = opened(table, tmp_path / "cache")
    assert prepared.array.dtype == torch.uint8 and prepared.array.shape == (12, 3, 16, 16)
    for row, path in enumerate(table.sources):
        assert path is not None
        assert (prepared.array[row].numpy() == read_image(path, "RGB", (16, 16))).all()
    assert sorted(read.rows) == list(range(12)) and prepared.decoded == 12 and prepared.unreadable == {}
    assert told == [("train-rgb", 0, 12), ("train-rgb", 12, 12)]


def test_batches_are_gathered_in_the_order_asked_for(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "data", 7))
    make(table, tmp_path)
    prepared = opened(table, tmp_path)
    rows = torch.tensor([6, 0, 3, 3])
    assert torch.equal(prepared.gather(rows), prepared.array[rows])


def test_what_is_written_to_an_opened_array_never_reaches_the_file(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "data", 3))
    make(table, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = opened(table, tmp_path).array
    before = first.clone()
    first.zero_()
    assert torch.equal(opened(table, tmp_path).array, before)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8"])
def test_other_types_and_shapes_come_back_exactly(tmp_path: Path, dtype: str) -> None:
    rows = (np.random.default_rng(0).random((5, 3, 2)) * 100).astype(dtype)
    np.save(tmp_path / "all.npy", rows)
    scalars = Table("label", (), dtype, "first", (tmp_path / "all.npy",) * 5, lambda row: rows[row, 0, 0])
    arrays = Table("array", (3, 2), dtype, "rows", (tmp_path / "all.npy",) * 5, lambda row: rows[row])
    prepare([arrays, scalars], tmp_path / "cache", "fatal")
    assert (opened(arrays, tmp_path / "cache").array.numpy() == rows).all()
    assert (opened(scalars, tmp_path / "cache").array.numpy() == rows[:, 0, 0]).all()


def test_an_item_that_the_data_lacks_is_zero_and_nothing_is_read(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)
    table, read = table_of((paths[0], None, paths[2]))
    make(table, tmp_path)
    prepared = opened(table, tmp_path)
    assert prepared.decoded == 2 and sorted(read.rows) == [0, 2]
    assert not prepared.array[1].any() and prepared.array[0].any() and prepared.array[2].any()
    assert prepared.unreadable == {}


def test_a_table_of_nothing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'train-rgb' has no items"):
        table_of((None, None))


def test_a_flipped_byte_a_lost_tail_and_a_lost_file_are_made_again(tmp_path: Path) -> None:
    table, read = table_of(pictures(tmp_path / "data", 5))
    folder = tmp_path / "cache"
    make(table, folder)
    expected = opened(table, folder).array.clone()
    array = next(folder.glob("*.npy"))

    def flip() -> None:
        data = bytearray(array.read_bytes())
        data[-100] ^= 4
        array.write_bytes(data)

    damages: list[tuple[Callable[[], object], str]] = [
        (flip, "altered or truncated"),
        (lambda: os.truncate(array, 999), "altered or truncated"),
        (array.unlink, "is gone"),
    ]
    for number, (damage, reason) in enumerate(damages):
        damage()
        (sentence,) = make(table, folder)
        assert reason in sentence and "'train-rgb' is prepared again" in sentence
        assert torch.equal(opened(table, folder).array, expected) and len(read.rows) == 5 * (number + 2)
    assert make(table, folder) == [] and len(read.rows) == 20


def test_a_sidecar_that_is_not_whole_does_not_count(tmp_path: Path) -> None:
    table, read = table_of(pictures(tmp_path / "data", 4))
    make(table, tmp_path / "cache")
    sidecar = next((tmp_path / "cache").glob("*.json"))
    sidecar.write_text(sidecar.read_text()[:40])
    with pytest.raises(UserError, match="is not prepared"):
        opened(table, tmp_path / "cache")
    make(table, tmp_path / "cache")
    assert len(read.rows) == 8 and opened(table, tmp_path / "cache").decoded == 4


def test_a_changed_source_means_a_new_file_and_the_old_one_goes(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 4), tmp_path / "cache"
    table, read = table_of(paths)
    make(table, folder)
    first = files(folder)
    Image.fromarray(np.full((40, 40, 3), 200, dtype=np.uint8)).save(paths[2])
    (sentence,) = make(table, folder)
    assert "sizes" in sentence and files(folder) != first and len(files(folder)) == 2
    assert (opened(table, folder).array[2] == 200).all() and len(read.rows) == 8


def test_a_source_with_a_new_time_and_the_old_size_is_read_again(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 4, "png"), tmp_path / "cache"
    table, _ = table_of(paths)
    make(table, folder)
    os.utime(paths[1], ns=(1, 1))
    (sentence,) = make(table, folder)
    assert "sources have changed" in sentence and len(files(folder)) == 2


def test_a_copy_of_the_data_elsewhere_has_the_same_files_name(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "one" / "data", 3))
    shutil.copytree(tmp_path / "one" / "data", tmp_path / "two" / "longer" / "data")
    copy, _ = table_of(tuple(sorted((tmp_path / "two" / "longer" / "data").iterdir())))
    make(table, tmp_path / "cache1")
    make(copy, tmp_path / "cache2")
    assert files(tmp_path / "cache1") == files(tmp_path / "cache2")


def test_tables_of_one_name_with_other_operations_live_side_by_side(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)
    table, _ = table_of(paths)
    small = Table("train-rgb", (3, 8, 8), "uint8", "picture -> RGB, bilinear 8x8", paths, Counted(paths, (8, 8)))
    prepare([table, small], tmp_path / "cache", "fatal")
    assert opened(table, tmp_path / "cache").array.shape == (3, 3, 16, 16)
    assert opened(small, tmp_path / "cache").array.shape == (3, 3, 8, 8)


def test_unreadable_files_are_all_named_or_left_out_as_the_study_says(tmp_path: Path) -> None:
    paths, folder = pictures(tmp_path / "data", 9), tmp_path / "cache"
    for path in paths[2:6]:
        path.write_bytes(path.read_bytes()[:300])
    paths[7].write_text("not a picture")
    table, read = table_of(paths)
    with pytest.raises(UserError) as caught:
        make(table, folder)
    message = str(caught.value)
    assert message.startswith("5 files cannot be read: ") and "options.unreadable=exclude" in message and "and 2 more" in message
    assert all(str(path) in message for path in paths[2:5]) and str(paths[5]) not in message
    make(table, folder, "exclude")
    prepared = opened(table, folder)
    assert sorted(prepared.unreadable) == [2, 3, 4, 5, 7]
    assert prepared.unreadable[7].startswith(f"{paths[7]}: ")
    assert not prepared.array[[2, 3, 4, 5, 7]].any() and prepared.array[[0, 1, 6, 8]].flatten(1).any(1).all()
    # What is known is not decoded again, whatever the policy.
    with pytest.raises(UserError, match="5 files cannot be read"):
        make(table, folder)
    assert len(read.rows) == 9


def test_a_file_of_another_shape_or_type_is_unreadable(tmp_path: Path) -> None:
    sources = tuple(tmp_path / f"{number}.npy" for number in range(3))
    for path, item in zip(sources, [np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2), complex)], strict=True):
        np.save(path, item)
    table = Table("array", (2, 2), "float32", "npy", sources, lambda row: np.load(sources[row]))
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
    with pytest.raises(UserError, match=r"4 files of 'train-rgb' cannot be found: .*1.jpg, .*2.jpg, .*3.jpg and 1 more"):
        make(table, tmp_path / "cache")
    assert read.rows == []


def test_a_file_that_vanishes_while_data_is_prepared_is_a_sentence(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)

    def read(row: int) -> Item:
        paths[row].unlink(missing_ok=True)
        return read_image(paths[row], "RGB", (16, 16))

    with pytest.raises(UserError, match="1 file of 'train-rgb' cannot be found"):
        make(Table("train-rgb", (3, 16, 16), "uint8", "x", paths, read), tmp_path / "cache")


def test_an_error_of_the_reader_itself_is_not_hidden(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)

    def read(row: int) -> Item:
        raise ZeroDivisionError(row)

    with pytest.raises(ZeroDivisionError):
        make(Table("train-rgb", (3, 16, 16), "uint8", "x", paths, read), tmp_path / "cache", "exclude")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, read = table_of(pictures(tmp_path / "data", 5))
    folder = tmp_path / "cache"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 3 * 16 * 16 - 1))
    with pytest.raises(UserError) as caught:
        make(table, folder)
    assert "3,840 bytes" in str(caught.value) and "3,839 are free" in str(caught.value) and str(folder) in str(caught.value)
    assert files(folder) == [] and read.rows == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 3 * 16 * 16))
    make(table, folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    assert make(table, folder) == []


def test_a_worker_finds_nothing_it_can_use_before_the_driver_has_prepared_it(tmp_path: Path) -> None:
    table, read = table_of(pictures(tmp_path / "data", 2))
    with pytest.raises(UserError, match=r"'train-rgb' is not prepared in .*start the study again"):
        opened(table, tmp_path / "cache")
    assert read.rows == []


def test_the_sidecar_says_what_the_file_is(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "data", 2))
    make(table, tmp_path / "cache")
    facts = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())
    assert facts["operation"] == table.operation and facts["shape"] == [2, 3, 16, 16] and facts["decoded"] == 2
    assert set(facts["facts"]["versions"]) == {"numpy", "pillow"}


def test_unreadable_carries_its_path_and_reason() -> None:
    error = Unreadable(Path("a/b.jpg"), "truncated")
    assert (error.path, error.reason, str(error)) == (Path("a/b.jpg"), "truncated", "a/b.jpg: truncated")
