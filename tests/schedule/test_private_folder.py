"""The folder of our own Ray cluster: short enough for sockets, private, and gone at the end."""

from __future__ import annotations

import os
import re
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


HOLD = """
import sys, tempfile
from pathlib import Path
from harness.schedule.private_folder import private_folder
tempfile.tempdir = sys.argv[1]
with private_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(parent: Path, *before: str) -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder of its own below ``parent``, and that folder."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", HOLD, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_folders_of_killed_drivers_go_and_those_of_living_ones_stay(tmpdir_is) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as short:
        tmpdir_is(Path(short))
        (killed, left), (living, kept) = holder(Path(short)), holder(Path(short))
        killed.kill()
        killed.communicate()
        theirs = Path(short) / "harness-ray-me"
        theirs.mkdir()
        # A driver of an older version, which holds no lock, may have this number.
        older = Path(short) / f"harness-ray-{os.getpid()}-abcdefgh"
        older.mkdir()
        assert left.is_dir()
        with private_folder() as own:
            assert not left.exists() and older.is_dir()
            assert kept.is_dir() and theirs.is_dir() and own.is_dir()
        living.communicate("", timeout=60)
        assert not kept.exists()


def test_the_folder_of_a_driver_in_another_pid_namespace_stays(tmpdir_is) -> None:
    """Its process number means nothing here: 1 or 2 there is somebody else, or nobody, here."""
    inside = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no other PID namespace may be made here")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as short:
        tmpdir_is(Path(short))
        # Number 1 runs everywhere, so a second process is needed: 2 or 3 may not run here.
        other, kept = holder(Path(short), *inside, "sh", "-c", 'true; "$0" "$@"')
        assert kept.is_dir()
        alias = kept.with_name(re.sub(r"-\d+-", f"-{nobody()}-", kept.name))
        kept.rename(alias)
        with private_folder():
            assert alias.is_dir()
        other.kill()
        other.communicate()
        with private_folder():
            assert not alias.exists()


def nobody() -> int:
    """The number of a process that has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    return int(ended.stdout)
