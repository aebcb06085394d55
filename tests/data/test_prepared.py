"""The prepared cache: decoded once, whole or made again, whatever happens to the file."""

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

from harness.data._prepared_build import Build, Files
from harness.data._prepared_table import ArrayFacts
from harness.data.contents import content_hashes
from harness.data.images import read_image
from harness.data.prepared import PreparedTable, opened, prepare
from harness.errors import UserError
from harness.store import write_json
from tests.support.prepared_tables import Counted, files, make, pictures, table_of


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
    assert (
        sorted(read.rows) == list(range(12))
        and prepared.decoded == 12
        and prepared.unreadable == {}
    )
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
    scalars = PreparedTable(
        "label", (), dtype, "first", (tmp_path / "all.npy",) * 5, lambda row: rows[row, 0, 0]
    )
    arrays = PreparedTable(
        "array", (3, 2), dtype, "rows", (tmp_path / "all.npy",) * 5, lambda row: rows[row]
    )
    prepare([arrays, scalars], tmp_path / "cache", "fatal")
    assert (opened(arrays, tmp_path / "cache").array.numpy() == rows).all()
    assert (opened(scalars, tmp_path / "cache").array.numpy() == rows[:, 0, 0]).all()


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
        assert torch.equal(opened(table, folder).array, expected) and len(read.rows) == 5 * (
            number + 2
        )
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


def test_an_altered_file_is_not_taken_for_unfinished_work(tmp_path: Path) -> None:
    """A process killed after sealing a file, before its list of finished chunks was gone."""
    table, read = table_of(pictures(tmp_path / "data", 5))
    make(table, tmp_path / "cache")
    array = next((tmp_path / "cache").glob("*.npy"))
    build = Build(
        table,
        ArrayFacts.of(table, content_hashes(table.files, None)),
        Files(array.parent, array.stem),
    )
    for altered in (False, True):
        write_json(build.files.progress, {"key": build.key, "done": {"0": {}}})
        if altered:
            array.write_bytes(array.read_bytes()[:-1] + b"x")
        make(table, tmp_path / "cache")
        assert len(read.rows) == 5 * (1 + altered)
    assert not build.files.progress.exists()
    assert (opened(table, tmp_path / "cache").array[4].numpy() == read(4)).all()


def test_tables_of_one_name_with_other_operations_live_side_by_side(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)
    table, _ = table_of(paths)
    small = PreparedTable(
        "train-rgb",
        (3, 8, 8),
        "uint8",
        "picture -> RGB, bilinear 8x8",
        paths,
        Counted(paths, (8, 8)),
    )
    prepare([table, small], tmp_path / "cache", "fatal")
    assert opened(table, tmp_path / "cache").array.shape == (3, 3, 16, 16)
    assert opened(small, tmp_path / "cache").array.shape == (3, 3, 8, 8)


def test_names_that_a_file_cannot_have_and_equal_tables_of_other_names(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "data", 3)
    wanted = [
        table_of(paths, name)[0]
        for name in ("train/left [1]-2", "train/left [1]", "train-left", "train")
    ]
    for _ in range(2):
        prepare(wanted, tmp_path / "cache", "fatal")
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 4
    assert all(opened(table, tmp_path / "cache").decoded == 3 for table in wanted)


def test_a_table_of_many_small_items_is_made_in_chunks(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("x")
    told: list[int] = []
    table = PreparedTable(
        "label", (), "int64", "x", (tmp_path / "labels",) * 5000, lambda row: np.asarray(row * row)
    )
    prepare([table], tmp_path / "cache", "fatal", lambda name, done, total: told.append(done))
    assert told == [0, 1024, 2048, 3072, 4096, 5000]
    assert torch.equal(opened(table, tmp_path / "cache").array, torch.arange(5000) ** 2)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, read = table_of(pictures(tmp_path / "data", 5))
    folder = tmp_path / "cache"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 3 * 16 * 16 - 1))
    with pytest.raises(UserError) as caught:
        make(table, folder)
    assert (
        "3,840 bytes" in str(caught.value)
        and "3,839 are free" in str(caught.value)
        and str(folder) in str(caught.value)
    )
    assert files(folder) == [] and read.rows == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 3 * 16 * 16))
    make(table, folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    assert make(table, folder) == []


def test_a_worker_finds_nothing_it_can_use_before_the_driver_has_prepared_it(
    tmp_path: Path,
) -> None:
    table, read = table_of(pictures(tmp_path / "data", 2))
    with pytest.raises(UserError, match=r"'train-rgb' is not prepared in .*start the study again"):
        opened(table, tmp_path / "cache")
    assert read.rows == []


def test_the_sidecar_says_what_the_file_is(tmp_path: Path) -> None:
    table, _ = table_of(pictures(tmp_path / "data", 2))
    make(table, tmp_path / "cache")
    facts = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())
    assert (
        facts["operation"] == table.operation
        and facts["shape"] == [2, 3, 16, 16]
        and facts["decoded"] == 2
    )
    assert set(facts["facts"]["versions"]) == {"numpy", "pillow"}
