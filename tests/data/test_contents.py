"""Hashes of what files hold: always true, remembered only where that is safe."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import contents
from harness.data.contents import MEMORY, UNREADABLE, content_hashes


def sha(path: Path) -> str:
    """What a hash must be."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(folder: Path, count: int = 5) -> list[Path]:
    """Small files that all have the same size."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"file {number}.bin" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%4d" % number)
    return paths


@pytest.fixture
def no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a test, which are never two seconds old, may be remembered."""
    monkeypatch.setattr(contents, "RACY_NS", 0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are read."""
    found: list[str] = []
    real: Callable[[Path], object] = contents._hash

    def counted(path: Path) -> object:
        found.append(path.name)
        return real(path)

    monkeypatch.setattr(contents, "_hash", counted)
    return found


def test_hashes_are_those_of_the_contents_with_and_without_a_memory(tmp_path: Path) -> None:
    paths = written(tmp_path / "data", 600)
    expected = {path: sha(path) for path in paths}
    assert content_hashes(paths, None) == expected
    assert content_hashes([*paths, *paths], tmp_path / "cache") == expected


def test_a_second_start_reads_nothing(tmp_path: Path, no_race: None, reads: list[str]) -> None:
    paths = written(tmp_path / "data")
    first = content_hashes(paths, tmp_path / "cache")
    assert len(reads) == 5
    assert content_hashes(paths, tmp_path / "cache") == first and len(reads) == 5


def test_any_sign_of_a_change_means_reading_again(
    tmp_path: Path, no_race: None, reads: list[str]
) -> None:
    """A new size, a new time, the old size and time, another inode of the same size and time."""
    paths, cache = written(tmp_path / "data"), tmp_path / "cache"
    content_hashes(paths, cache)
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in paths]
    reads.clear()
    paths[0].write_bytes(b"longer")
    paths[1].write_bytes(b"same")
    paths[2].write_bytes(b"date")
    os.utime(paths[2], ns=times[2])
    (tmp_path / "other").write_bytes(b"move")
    os.utime(tmp_path / "other", ns=times[3])
    (tmp_path / "other").replace(paths[3])
    assert content_hashes(paths, cache) == {path: sha(path) for path in paths}
    assert sorted(reads) == [path.name for path in paths[:4]]


def test_a_file_as_young_as_the_hash_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    """It could change within the tick of its clock, with the same size and inode."""
    paths, cache = written(tmp_path / "data"), tmp_path / "cache"
    content_hashes(paths, cache)
    content_hashes(paths, cache)
    assert len(reads) == 10
    later = contents.time.time_ns() + 3_000_000_000
    monkeypatch.setattr(contents.time, "time_ns", lambda: later)
    content_hashes(paths, cache)
    content_hashes(paths, cache)
    assert len(reads) == 15


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, no_race: None, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    (path,), cache = written(tmp_path / "data", 1), tmp_path / "cache"
    real = hashlib.file_digest

    def slow(stream: object, name: str) -> object:
        found = real(stream, name)  # type: ignore[arg-type]
        path.write_bytes(b"new ")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", slow)
        content_hashes([path], cache)
    assert content_hashes([path], cache) == {path: sha(path)} and len(reads) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "other text", "folder"])
def test_a_damaged_memory_is_not_believed_and_made_again(
    tmp_path: Path, no_race: None, reads: list[str], damage: str
) -> None:
    paths, cache = written(tmp_path / "data"), tmp_path / "cache"
    content_hashes(paths, cache)
    memory = cache / MEMORY
    whole = memory.read_bytes()
    if damage == "flipped":
        digest = sha(paths[0]).encode()
        assert digest in whole
        memory.write_bytes(whole.replace(digest, digest[::-1]))
    elif damage == "folder":
        memory.unlink()
        memory.mkdir()
    else:
        text = {"cut": whole[:-20], "emptied": b"", "other text": b"{}\n[]\n"}[damage]
        memory.write_bytes(text)
    reads.clear()
    assert content_hashes(paths, cache) == {path: sha(path) for path in paths}
    assert len(reads) == 5
    if damage != "folder":
        content_hashes(paths, cache)
        assert len(reads) == 5


def test_files_that_are_not_there_are_left_out_and_unreadable_ones_say_why(tmp_path: Path) -> None:
    paths = written(tmp_path / "data", 2)
    folder, absent = tmp_path / "data", tmp_path / "data" / "none"
    below = paths[0] / "below a file"
    found = content_hashes([*paths, absent, below, folder], tmp_path / "cache")
    assert set(found) == {*paths, folder}
    assert found[folder].startswith(UNREADABLE) and "directory" in found[folder]


def test_a_link_has_the_content_of_its_target(tmp_path: Path, no_race: None) -> None:
    (path, other), cache = written(tmp_path / "data", 2), tmp_path / "cache"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert content_hashes([link], cache) == {link: sha(path)}
    link.unlink()
    link.symlink_to(other)
    assert content_hashes([link], cache) == {link: sha(other)}


def test_a_folder_that_cannot_be_written_means_reading_again(
    tmp_path: Path, no_race: None, reads: list[str]
) -> None:
    paths = written(tmp_path / "data")
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    for _ in range(2):
        assert content_hashes(paths, tmp_path / "cache") == {path: sha(path) for path in paths}
    assert len(reads) == 10


def _hash_part(folder: Path, cache: Path, start: int) -> None:
    contents.RACY_NS = 0
    for number in range(start, start + 40):
        content_hashes([folder / f"file {number}.bin"], cache)


def test_several_processes_add_to_one_memory(
    tmp_path: Path, no_race: None, reads: list[str]
) -> None:
    paths, cache = written(tmp_path / "data", 120), tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_hash_part, args=(tmp_path / "data", cache, start))
        for start in (0, 40, 80)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert content_hashes(paths, cache) == {path: sha(path) for path in paths}
    assert reads == []


def test_long_hashing_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = written(tmp_path / "data", 600)
    told: list[tuple[str, int, int]] = []
    content_hashes(paths, None, lambda *facts: told.append(facts))
    assert told == []
    monkeypatch.setattr(contents, "QUIET_SECONDS", -1.0)
    content_hashes(paths, None, lambda *facts: told.append(facts))
    assert [done for _, done, _ in told] == [256, 512, 600]
    assert {total for _, _, total in told} == {600}
    content_hashes(paths, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["hashes of the files: 256/600", "hashes of the files: 600/600"]
