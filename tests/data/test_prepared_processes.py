"""The prepared cache and real processes: killed, two at once, and how much memory they take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.images import read_image
from harness.data.prepared import PreparedTable, opened

ROWS, PER_CHUNK = 40, 4
# Reads leave a line in a file each, so that what a killed process did can be counted.
BUILD = """
import os, sys, time
from pathlib import Path
from harness.data import _prepared_build
from harness.data.images import read_image
from harness.data.prepared import PreparedTable, prepare

data, cache, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
_prepared_build.CHUNK_BYTES = 4 * 3 * 16 * 16
sources = tuple(data / f"{row}.jpg" for row in range(40))
lines = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def read(row):
    os.write(lines, f"{row}\\n".encode())
    time.sleep(pause)
    return read_image(sources[row], "RGB", (16, 16))

prepare([PreparedTable("train", (3, 16, 16), "uint8", "x", sources, read)], cache, "fatal")
"""
MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from harness.data import _prepared_build
from harness.data.prepared import PreparedTable, prepare

rows, folder = int(sys.argv[1]), Path(sys.argv[2])
_prepared_build.CHUNK_BYTES = 4 << 20
folder.mkdir()
(folder / "source").write_text("x")
items = np.random.default_rng(0).integers(0, 256, (7, 1 << 16), dtype=np.uint8)
sources = (folder / "source",) * rows
table = PreparedTable("train", (1 << 16,), "uint8", "x", sources, lambda row: items[row % 7].copy())
prepare([table], folder / "cache", "fatal")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
            folder / f"{row}.jpg"
        )
    return folder


def start(data: Path, cache: Path, log: Path, pause: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILD, *map(str, (data, cache, log, pause))])


def rows_read(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()]


def check(data: Path, cache: Path) -> None:
    sources = tuple(data / f"{row}.jpg" for row in range(ROWS))
    prepared = opened(
        PreparedTable("train", (3, 16, 16), "uint8", "x", sources, lambda row: np.empty(0)), cache
    )
    for row, path in enumerate(sources):
        assert (prepared.array[row].numpy() == read_image(path, "RGB", (16, 16))).all()
    assert prepared.decoded == ROWS


def finished_rows(cache: Path) -> set[int]:
    """Rows of the chunks that the progress file lists; empty before there is one."""
    found = list(cache.glob("*.progress"))
    chunks = json.loads(found[0].read_text())["done"] if found else {}
    return {
        row
        for chunk in chunks
        for row in range(int(chunk) * PER_CHUNK, int(chunk) * PER_CHUNK + PER_CHUNK)
    }


def kill_after(chunks: int, process: subprocess.Popen[bytes], cache: Path) -> set[int]:
    """SIGKILL once so many chunks are on disk; the rows that are."""
    deadline = time.monotonic() + 60
    while len(finished_rows(cache)) < chunks * PER_CHUNK:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return finished_rows(cache)


def test_a_killed_process_is_continued_and_no_finished_row_is_decoded_again(
    tmp_path: Path, data: Path
) -> None:
    cache = tmp_path / "cache"
    finished = kill_after(3, start(data, cache, tmp_path / "first", 0.02), cache)
    assert 3 * PER_CHUNK <= len(finished) < ROWS
    assert not list(cache.glob("*.json"))
    assert start(data, cache, tmp_path / "last", 0).wait() == 0
    assert sorted(rows_read(tmp_path / "last")) == sorted(set(range(ROWS)) - finished)
    assert sorted(path.suffix for path in cache.iterdir() if path.is_file()) == [".json", ".npy"]
    check(data, cache)


@pytest.mark.slow
def test_a_process_killed_twice_loses_no_finished_chunk(tmp_path: Path, data: Path) -> None:
    cache = tmp_path / "cache"
    first = kill_after(2, start(data, cache, tmp_path / "first", 0.02), cache)
    second = kill_after(5, start(data, cache, tmp_path / "second", 0.02), cache)
    assert start(data, cache, tmp_path / "last", 0).wait() == 0
    assert not set(rows_read(tmp_path / "second")) & first
    assert sorted(rows_read(tmp_path / "last")) == sorted(set(range(ROWS)) - second)
    check(data, cache)


@pytest.mark.slow
def test_work_of_a_killed_process_does_not_count_once_a_source_has_changed(
    tmp_path: Path, data: Path
) -> None:
    cache = tmp_path / "cache"
    kill_after(1, start(data, cache, tmp_path / "first", 0.02), cache)
    changed = (data / "39.jpg").read_bytes() + b"\0"
    (data / "39.jpg").write_bytes(changed)
    assert start(data, cache, tmp_path / "second", 0).wait() == 0
    assert sorted(rows_read(tmp_path / "second")) == list(range(ROWS))
    check(data, cache)


def test_two_processes_at_once_decode_everything_once(tmp_path: Path, data: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    processes = [start(data, cache, log, 0.01) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(rows_read(log)) == list(range(ROWS))
    check(data, cache)


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_items(tmp_path: Path) -> None:
    peaks = []
    for rows in (320, 1280):
        command = [sys.executable, "-c", MEMORY, str(rows), str(tmp_path / str(rows))]
        peaks.append(
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        )
    # The larger file is 60 MiB larger.
    assert peaks[1] - peaks[0] < 8 << 20
