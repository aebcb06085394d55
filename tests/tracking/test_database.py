"""The MLflow database: whole or absent, whoever is killed or starts at once.

Real processes, real migrations.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness import PROJECT
from harness.errors import UserError
from harness.tracking.mlflow import database as tracking_db
from harness.tracking.mlflow.database import (
    ensure_database,
    ensure_usable,
    is_complete,
    move_aside,
    sqlite_file,
    sqlite_uri,
)

CREATE = """
import sys
from pathlib import Path
from harness.tracking.mlflow.database import ensure_database
ensure_database(*map(Path, sys.argv[1:]))
"""


def creator(path: Path) -> subprocess.Popen[str]:
    """A real process that makes the database."""
    return subprocess.Popen(
        [sys.executable, "-c", CREATE, str(path), str(path.parent / "mlartifacts")],
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for(condition: object, seconds: float = 60.0) -> None:
    """Until ``condition()`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def experiments(path: Path) -> list[str]:
    """What sqlite itself finds in the table, with the file's integrity checked."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [name for (name,) in database.execute("SELECT name FROM experiments")]


def half_made(path: Path) -> None:
    """What a kill during MLflow's own migrations leaves: tables, and no default experiment."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        database.commit()


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database that three processes wanted, where a half-made one lay before."""
    path = tmp_path_factory.mktemp("two") / "my runs 100%" / "mlflow.db"
    path.parent.mkdir()
    half_made(path)
    processes = [creator(path), creator(path)]
    wait_for(lambda: list(path.parent.glob(".mlflow.db.*.tmp")))
    processes.append(creator(path))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert outputs == ["", "", ""], "nothing may be printed"
    yield path


def test_processes_that_start_at_once_rebuild_a_half_made_database_once(rebuilt: Path) -> None:
    assert is_complete(rebuilt)
    assert experiments(rebuilt) == ["Default"]
    (aside,) = rebuilt.parent.glob("mlflow.db*.incomplete-*")
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == (
            "451aebb31d03",
        )
    assert not list(rebuilt.parent.glob(".mlflow.db.*.tmp*"))


def test_mlflow_opens_the_database_and_keeps_artifacts_beside_it(rebuilt: Path) -> None:
    client = tracking_db.connect(sqlite_uri(rebuilt))
    (default,) = client.search_experiments()
    assert default.artifact_location == f"{(rebuilt.parent / 'mlartifacts').as_uri()}/0"
    assert sqlite_file(sqlite_uri(rebuilt)) == rebuilt


def test_a_complete_database_is_left_alone(rebuilt: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(rebuilt, tmp_path / "mlflow.db"))
    before = copy.read_bytes()
    ensure_database(copy, tmp_path / "mlartifacts")
    assert copy.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def test_sigkill_while_creating_leaves_nothing_half_made_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mlflow.db"
    process = creator(path)
    # The temporary file has tables, so the migrations are under way.
    wait_for(
        lambda: any(file.stat().st_size > 50_000 for file in tmp_path.glob(".mlflow.db.*.tmp"))
    )
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert not path.exists()
    assert list(tmp_path.glob(".mlflow.db.*.tmp")), "the kill came too late to test anything"
    following = creator(path)
    assert following.communicate(timeout=120)[0] == "" and following.returncode == 0
    assert is_complete(path) and experiments(path) == ["Default"]
    assert not list(tmp_path.glob(".mlflow.db.*.tmp*"))


def test_what_counts_as_complete(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    assert not is_complete(path)
    path.touch()
    assert not is_complete(path)
    path.write_bytes(b"this is not a database at all" * 100)
    assert not is_complete(path)
    path.unlink()
    half_made(path)
    assert not is_complete(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO experiments VALUES (0, 'Default')")
        database.commit()
        assert is_complete(path)
        database.execute("DROP TABLE alembic_version")
    assert not is_complete(path)


def test_a_database_that_another_process_writes_is_not_taken_for_a_broken_one(
    rebuilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copy(rebuilt, tmp_path / "mlflow.db"))
    monkeypatch.setattr(tracking_db, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(copy)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            ensure_database(copy, tmp_path)
    assert is_complete(copy)


def test_the_journal_of_a_killed_writer_is_rolled_back(rebuilt: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(rebuilt, tmp_path / "mlflow.db"))
    script = (
        "import os, signal, sqlite3, sys; d = sqlite3.connect(sys.argv[1]);"
        "d.execute('PRAGMA cache_size=1'); names = [(f'{i:05}' * 40,) for i in range(2000)];"
        "d.executemany('INSERT INTO experiments (name) VALUES (?)', names);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(copy)]).returncode == -signal.SIGKILL
    assert copy.with_name("mlflow.db-journal").stat().st_size > 0, (
        "the writer left no journal, so nothing is tested"
    )
    assert is_complete(copy)
    assert experiments(copy) == ["Default"]


def test_moving_aside_twice_within_a_second_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    for content in ("first", "second"):
        path.write_text(content)
        move_aside(path)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["first", "second"]
    assert all(file.name.startswith("mlflow.db.incomplete-") for file in tmp_path.iterdir())


def test_a_journal_is_never_left_for_the_next_database(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.with_name("mlflow.db-journal").write_text("pages of a file that somebody removed")
    move_aside(path)
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("mlflow.db-journal.incomplete-") and aside.read_text().startswith(
        "pages"
    )


def test_a_file_that_the_user_named_is_never_moved(tmp_path: Path) -> None:
    theirs = tmp_path / "customers.db"
    with closing(sqlite3.connect(theirs)) as database:
        database.execute("CREATE TABLE customers (name TEXT)")
    before = theirs.read_bytes()
    with pytest.raises(
        UserError, match=r"tracking\.uri: .*customers\.db is not a complete MLflow database"
    ):
        ensure_usable(theirs, tmp_path)
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////tmp/a b/x.db", Path("/tmp/a b/x.db")),
        ("sqlite:///x.db", Path("x.db")),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://host:5000", None),
        ("postgresql://host/db", None),
    ],
)
def test_the_file_of_a_uri(uri: str, file: Path | None) -> None:
    # A relative one is meant from the working folder, which is each test's own.
    assert sqlite_file(uri) == (file.absolute() if file is not None else None)


def test_importing_the_tracker_does_not_import_mlflow() -> None:
    code = (
        "import sys, harness.tracking.mlflow.tracker; "
        "print([m for m in ('mlflow', 'sqlalchemy', 'alembic') if m in sys.modules])"
    )
    assert (
        subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True).strip()
        == "[]"
    )
