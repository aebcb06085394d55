"""What must hold of the input path, beside how fast it is (input_path.py).

Run with ``pytest -m slow tests/benchmarks -s``.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data.augmentation import RotateCropFlip
from harness.data.images import read_image
from harness.data.prepared import Item, Prepared, PreparedTable, opened, prepare
from tests.benchmarks._paired import DEVICE
from tests.benchmarks.input_path import (
    BATCH,
    ROUNDS,
    SAMPLES,
    SIZE,
    STORED,
    Paths,
    augmented_here,
    has_opencv,
    measured,
    repeated,
    sides_of,
    with_opencv,
    with_pillow,
    written,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return written(tmp_path_factory.mktemp("jpegs"))


@pytest.fixture(scope="module")
def large(files: Paths, tmp_path_factory: pytest.TempPathFactory) -> list[Prepared]:
    return repeated(files, tmp_path_factory.mktemp("cache"))


class Counted:
    """Decodes one modality's files and counts."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self.calls = 0

    def __call__(self, row: int) -> Item:
        self.calls += 1
        return read_image(self.paths[row], "RGB", STORED)


def tables(files: Paths) -> list[PreparedTable]:
    return [
        PreparedTable(
            f"train-{name}",
            (3, *STORED),
            "uint8",
            "jpeg -> RGB, bilinear 144x144",
            paths,
            Counted(paths),
        )
        for name, paths in files.items()
    ]


def test_gathering_feeds_a_device_thirty_times_as_fast_as_the_published_steps(
    files: Paths, large: list[Prepared]
) -> None:
    found = measured(files, large)
    middle = {name: statistics.median(values) for name, values in found.items()}
    sizes = [path.stat().st_size for paths in files.values() for path in paths]
    print(
        f"\n{3 * SAMPLES} JPEGs, mean {statistics.mean(sizes) / 1000:.1f} kB; 1 thread; device"
        f" {DEVICE.type}; medians of {ROUNDS}"
    )
    for name, value in middle.items():
        ratios = ", ".join(
            f"{value / middle[base]:.2f} x {base}" for base in middle if base.startswith("A")
        )
        print(
            f"  {name:14} {value:9.0f} samples/s/core (min {min(found[name]):.0f}, max"
            f" {max(found[name]):.0f})  {ratios}"
        )
    for base in (name for name in middle if name.startswith("A")):
        assert middle["G"] >= 30 * middle[base], (
            f"only {middle['G'] / middle[base]:.1f} times {base}"
        )
    assert middle["D"] > middle["A with Pillow"]


def test_every_file_is_decoded_once_however_many_epochs_follow(
    files: Paths, tmp_path: Path
) -> None:
    wanted = tables(files)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):  # two epochs, each in a study of its own
        prepare(wanted, tmp_path, "fatal")
        prepared = [opened(table, tmp_path) for table in wanted]
        theta = RotateCropFlip().draw(SAMPLES, STORED, SIZE, generator)
        augmented_here(prepared, torch.randperm(SAMPLES, generator=generator).split(BATCH), theta)
    files_there = sum(len(set(paths)) for paths in files.values())
    assert files_there == 3 * SAMPLES
    assert sum(one.decoded for one in prepared) == files_there
    assert sum(table.read.calls for table in wanted) == files_there  # type: ignore[attr-defined]


EPOCH = """
import sys
from pathlib import Path
import torch
from harness.data.augmentation import RotateCropFlip
from harness.data.prepared import opened
from tests.benchmarks.test_input_path import one_picture

torch.set_num_threads(1)
rows, folder, peak = int(sys.argv[1]), Path(sys.argv[2]), 0
prepared, generator = opened(one_picture(folder, rows), folder), torch.Generator().manual_seed(0)
theta = RotateCropFlip().draw(rows, (144, 144), (112, 112), generator)
order = torch.cat([torch.randperm(rows, generator=generator) for _ in range(2048 // rows)])
for index in order.split(64):
    RotateCropFlip().apply(prepared.gather(index), theta[index], (112, 112))
    status = Path("/proc/self/status").read_text()
    peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)
print(peak)
"""


FREED_AT_ONCE = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
}


def one_picture(folder: Path, rows: int) -> PreparedTable:
    item = np.random.default_rng(0).integers(0, 256, (3, *STORED), dtype=np.uint8)
    return PreparedTable(
        "train", item.shape, "uint8", "x", (folder / "source",) * rows, lambda row: item
    )


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="reads the kernel's account of a process' own memory",
)
def test_memory_of_reading_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    """The process' own pages: those of the mapped file belong to the page cache, which all trials
    share and can be taken back.

    Equally many batches of a smaller and a larger dataset. Every buffer of a batch is a mapping of
    its own (the fixed threshold), given back when it is freed: what malloc keeps for later would
    vary by as much as is looked for.
    """
    (tmp_path / "source").write_text("x")
    peaks = []
    for rows in (256, 2048):
        prepare([one_picture(tmp_path, rows)], tmp_path, "fatal")
        command = [sys.executable, "-c", EPOCH, str(rows), str(tmp_path)]
        done = subprocess.run(
            command, env=os.environ | FREED_AT_ONCE, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    grown = (2048 - 256) * 3 * 144 * 144
    print(
        f"\nown memory at most {peaks[0] / 2**20:.0f} MiB for 256 samples, {peaks[1] / 2**20:.0f}"
        " MiB for 2048"
    )
    assert peaks[1] - peaks[0] < grown / 4


@pytest.mark.parametrize("library", ["Pillow", "OpenCV"])
def test_what_is_timed_is_the_same_work(files: Paths, library: str, tmp_path: Path) -> None:
    """Path A's pictures and path D's differ by the rounding of bytes (Pillow cuts off, and ends a
    picture more sharply).
    """
    if library == "OpenCV" and not has_opencv():
        pytest.skip("OpenCV is not installed")
    source = read_image(files["rgb"][0], "RGB", STORED)
    path = tmp_path / "stored.png"
    Image.fromarray(source.transpose(1, 2, 0)).save(path)
    both = torch.cat([torch.tensor(source), torch.ones(1, *STORED)])[None]
    for seed in range(30):
        theta = RotateCropFlip().draw(1, STORED, SIZE, torch.Generator().manual_seed(seed))
        *draw, flip = meaning(torch.Generator().manual_seed(seed))
        *batch, inside = RotateCropFlip().apply(both, theta, SIZE)[0].numpy()
        image = (
            with_pillow(path, *draw, flip)
            if library == "Pillow"
            else with_opencv(path, *draw, flip)[:, :, ::-1]
        )
        difference = np.abs(np.stack(batch, 2) - image)
        assert (difference[inside > 0.9999] if library == "Pillow" else difference).max() <= 1.01


def meaning(generator: torch.Generator) -> tuple[int, int, int, bool]:
    """Angle, offset and flip of the first draw of RotateCropFlip.

    Its four uniform numbers are read one by one.
    """
    turn, across, down, coin = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    angle = math.floor(turn * 61) - 30
    margin = sides_of(angle) - SIZE[0]
    return angle, math.floor(across * margin), math.floor(down * margin), coin < 0.5
