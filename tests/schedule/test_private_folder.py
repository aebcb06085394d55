"""The folder of our own Ray cluster: short enough for sockets, private, and gone at the end."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.schedule import private_folder as module
from harness.schedule.private_folder import private_folder

SOCKET = "session_2026-11-28_13-06-37_123456_{}/sockets/plasma_store"
"""The longest that Ray makes below its folder."""


@pytest.fixture
def tmpdir_is(monkeypatch: pytest.MonkeyPatch) -> object:
    """Sets TMPDIR, and no runtime folder."""

    def change(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    return change


@pytest.mark.parametrize("below", ["", "scratch/job.123456", "var/folders/zz/" + 30 * "x" + "/T"])
def test_a_socket_fits_wherever_tmpdir_is(tmp_path: Path, tmpdir_is, below: str) -> None:
    tmpdir_is(tmp_path / below)
    with private_folder() as folder:
        assert len(os.fsencode(folder / SOCKET.format(os.getpid()))) <= 107
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid() and not list(folder.iterdir())
        (folder / "something").write_text("x", encoding="utf-8")
    assert not folder.exists()


def test_a_short_tmpdir_is_taken(tmpdir_is) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as short:
        tmpdir_is(Path(short))
        with private_folder() as folder:
            assert folder.parent == Path(short)


def test_the_users_runtime_folder_comes_before_shared_places(
    tmp_path: Path, tmpdir_is, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmpdir_is(tmp_path)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        with private_folder() as folder:
            assert folder.parent == Path(short)


def test_without_a_short_folder_the_way_out_is_said(
    tmp_path: Path, tmpdir_is, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmpdir_is(tmp_path / (60 * "x"))
    monkeypatch.setattr(module, "ELSEWHERE", ("/tmp/not there",))
    with (
        pytest.raises(UserError, match="set TMPDIR to a shorter folder, or executor=local"),
        private_folder(),
    ):
        pass


def test_folders_of_killed_drivers_go_and_those_of_living_ones_stay(tmpdir_is) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as short:
        tmpdir_is(Path(short))
        dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
        left = Path(short) / f"harness-ray-{int(dead.stdout)}-abcdefgh"
        kept = [Path(short) / f"harness-ray-{os.getpid()}-abcdefgh", Path(short) / "harness-ray-me"]
        for folder in (left, *kept):
            folder.mkdir()
        with private_folder():
            assert not left.exists() and all(folder.is_dir() for folder in kept)
