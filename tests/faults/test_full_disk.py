"""A disk that is full, or may not be written to, on small file systems of their own.

One sentence names the folder and exit code 2 says that no trial is to blame; nothing more is
started, and the same command goes on when there is room.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import report, share
from harness.cli import guarded
from harness.data.prepared import PreparedTable, opened, prepare
from harness.errors import DiskError, UserError
from harness.search.journal import writable
from harness.store import Store
from tests.support.faults import (
    TINY,
    command,
    fill,
    method_file,
    small_disk,
    trials,
)

FILL = (
    "open({path!r}, 'wb').write(bytes((lambda f: f.f_bavail * f.f_frsize)(os.statvfs({folder!r}))))"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


def filling(folder: Path, disk: Path, once: str, method: str = "loss") -> Path:
    """A method that fills the disk once, when ``once`` holds, and is a plain one otherwise."""
    flag = folder / "filled"
    action = FILL.format(path=str(disk / "ballast"), folder=str(disk))
    line = f"if {once} and not os.path.exists({str(flag)!r}): open({str(flag)!r}, 'w'); {action}"
    if method == "loss":
        return method_file(folder, "Fills", loss=line)
    after = f"    def remarks(self, epochs):\n        {line}\n        return []\n"
    return method_file(folder, "Fills", after=after)


@pytest.mark.parametrize(
    ("where", "method", "file"),
    [
        pytest.param("self.at == 1", "loss", "checkpoint.pt", id="checkpoint"),
        pytest.param(
            "True",
            "remarks",
            "record.json",
            id="record",
            marks=[pytest.mark.slow, pytest.mark.long],
        ),
    ],
)
def test_a_disk_that_is_full_while_a_trial_runs(
    tmp_path: Path,
    disk: Path,
    where: str,
    method: str,
    file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    methods = f"methods=[{filling(tmp_path, disk, where, method)},sf_md]"
    output = disk / "runs"
    assert command(output, methods) == 2
    said = capsys.readouterr()
    found = trials(output, methods)
    folder = found["fills"].path
    assert f"error: the disk of {folder} is full ({file} could not be written)" in said.err
    assert "make room, and the same command goes on" in said.err and said.err.count("\n") == 1
    # No trial is to blame, and none is started behind it.
    assert found["fills"].failure() is None and not found["sf_md"].path.exists()
    assert not list(folder.glob(".*.tmp"))
    (disk / "ballast").unlink()
    assert command(output, methods) == 0
    assert command(tmp_path / "undisturbed", methods) == 0
    tables = [
        (at / "quickstart/report.csv").read_bytes() for at in (output, tmp_path / "undisturbed")
    ]
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.long
def test_a_full_disk_at_the_report_an_export_and_the_start(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, methods = disk / "runs", "methods=[sf_md]"
    settings = [*TINY, f"output={output}", methods]
    assert command(output, methods) == 0
    table = (output / "quickstart" / "report.csv").read_bytes()
    fill(disk)
    capsys.readouterr()
    archive = disk / "shared.zip"
    for ended in (
        lambda: guarded(report.main, settings),
        lambda: guarded(share.main, ["export", *settings, str(archive)]),
        lambda: command(output, "methods=[sf_md,hemis]"),
    ):
        assert ended() == 2
        error = capsys.readouterr().err
        assert error.startswith("error: the disk of ") and " is full (" in error
        assert error.count("\n") == 1
    assert not archive.exists()
    # The report that was there is still there, whole.
    assert (output / "quickstart" / "report.csv").read_bytes() == table
    (disk / "ballast").unlink()
    assert guarded(report.main, settings) == 0
    assert guarded(share.main, ["export", *settings, str(archive)]) == 0
    assert command(output, "methods=[sf_md,hemis]") == 0


def test_an_import_into_a_full_disk(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "shared.zip"
    settings = [*TINY, f"output={tmp_path / 'runs'}", "methods=[sf_md]"]
    assert command(tmp_path / "runs", "methods=[sf_md]") == 0
    assert guarded(share.main, ["export", *settings, str(archive)]) == 0
    fill(disk, leave=3 * 4096)
    capsys.readouterr()
    arguments = ["import", str(archive), f"output={disk / 'runs'}"]
    assert guarded(share.main, arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(disk) in error
    assert not list(disk.glob("runs/store/*/record.json"))
    (disk / "ballast").unlink()
    assert guarded(share.main, arguments) == 0
    assert len(Store.below(disk / "runs").ids()) == 1


def test_a_full_disk_at_the_journal(tmp_path: Path, disk: Path) -> None:
    import optuna

    path = disk / "search.journal"
    study = optuna.create_study(study_name="x", storage=writable(path))
    # A page that has begun takes a line more: lines that need another page do not fit.
    ballast = fill(disk)
    with pytest.raises(DiskError, match=f"the disk of {disk} is full .search.journal"):
        for _ in range(200):
            study.enqueue_trial({"alpha": 1.0})
    ballast.unlink()
    points = len(optuna.load_study(study_name="x", storage=writable(path)).trials)
    assert 0 < points < 200


def test_a_prepared_cache_that_does_not_fit(tmp_path: Path, disk: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"x")
    table = PreparedTable(
        "train-a",
        (64, 1024),
        "uint8",
        "constant",
        (source,) * 100,
        lambda row: np.full((64, 1024), row, np.uint8),
    )
    with pytest.raises(UserError, match=rf"needs 6,5\d\d,\d\d\d bytes in {disk}.* are free there"):
        prepare([table], disk / "cache", "fatal")
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    ballast: list[Path] = []

    def progress(name: str, done: int, total: int) -> None:
        if not ballast:
            ballast.append(fill(disk))

    # Room is taken for the array at the beginning; what else is written finds none.
    with pytest.raises(UserError, match=r"is full|became full"):
        prepare([table], disk / "cache", "fatal", progress)
    ballast[0].unlink()
    prepare([table], disk / "cache", "fatal")
    assert opened(table, disk / "cache").array[99].eq(99).all()


@pytest.mark.slow
@pytest.mark.long
def test_an_output_that_may_not_be_written_to(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = disk / "runs"
    assert command(output, "methods=[sf_md]") == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    capsys.readouterr()
    assert command(output, "methods=[sf_md,hemis]") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Read-only file system" in error
    assert f"{output / 'quickstart'} cannot be written to (lock: " in error
    assert "name another folder with output=" in error
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert command(output, "methods=[sf_md,hemis]") == 0


@pytest.mark.slow
@pytest.mark.long
def test_a_full_disk_of_mlflow_is_a_warning(
    tmp_path: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, and the study is mirrored when there is room."""
    tracked = ("tracking.enabled=true", f"tracking.uri=sqlite:///{disk}/mlflow.db")
    ballast = fill(disk)
    assert command(tmp_path / "runs", "methods=[sf_md]", *tracked) == 0
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "mlflow" in said.err.lower()
    assert trials(tmp_path / "runs", "methods=[sf_md]")["sf_md"].record() is not None
    ballast.unlink()
    assert command(tmp_path / "runs", "methods=[sf_md]", *tracked) == 0
    assert "warning" not in capsys.readouterr().err
