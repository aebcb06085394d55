"""The MLflow database of an output folder: made whole or not at all, rebuilt when not whole.

MLflow creates a database in place, by seconds of migrations: a kill leaves a half-made file that it
then refuses, and two processes that start at once destroy each other's work. So it is made under a
temporary name, by the holder of a lock, and renamed.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.errors.credentials import encoded
from harness.store import exclusive

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own defaults keep trying for minutes when a server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
NOISY = ("mlflow", "alembic", "urllib3.connectionpool")
SIDE_FILES = ("-journal", "-wal", "-shm")
BUSY_SECONDS = 20.0


def connect(uri: str) -> Any:
    """A quiet ``MlflowClient`` of ``uri`` that gives up on a dead server within seconds."""
    import_quietly()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=encoded(uri))


def import_quietly() -> None:
    """Import MLflow without its lines on the console.

    Our settings hold where the user has none.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401  # sets the levels of its loggers

    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)


def is_database(uri: str) -> bool:
    """Whether MLflow opens ``uri`` itself, without a server."""
    return re.match(r"(sqlite|postgresql|mysql|mssql)\b", uri) is not None


def sqlite_uri(path: Path) -> str:
    """The absolute URI of a database file."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file that a sqlite URI names; None for other URIs and databases in memory."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name).absolute() if name and name != ":memory:" else None


def is_complete(path: Path) -> bool:
    """Whether ``path`` is an MLflow database whose creation was finished.

    Raises sqlite3.OperationalError while it is locked.

    The last step of MLflow's creation is the row of the default experiment, so both tables must
    hold something.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return False
    # Not read-only: a killed writer's journal may have to be rolled back first.
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    ) as database:
        try:
            return _holds(database, "alembic_version") and _holds(database, "experiments")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False


def _holds(database: sqlite3.Connection, table: str) -> bool:
    """Whether a table is there and has a row."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if database.execute(there, (table,)).fetchone() is None:
        return False
    return database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def ensure_database(path: Path, artifacts: Path) -> None:
    """Make sure that ``path`` is a complete MLflow database.

    A file that is none is moved aside, under a name that says so.
    """
    if is_complete(path):
        return
    with exclusive(path.with_name(f".{path.name}.lock")):
        if is_complete(path):
            return
        for leftover in sorted(path.parent.glob(f".{path.name}.*.tmp*")):
            # Whoever made it was killed: a living maker would hold the lock.
            leftover.unlink()
        move_aside(path)
        _create(path, artifacts)


def ensure_usable(path: Path, artifacts: Path) -> None:
    """The same for a file that a user named, which is created when absent.

    UserError when it is something else than MLflow's.
    """
    if not path.exists():
        ensure_database(path, artifacts)
    elif not is_complete(path):
        raise UserError(
            f"tracking.uri: {path} is not a complete MLflow database; "
            "name another file, or move this one away"
        )


def move_aside(path: Path) -> None:
    """Rename a half-made database, and its journals, to ``<name>.incomplete-<time>``."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    names = [path.with_name(path.name + suffix) for suffix in (*SIDE_FILES, "")]
    number, ending = 0, f".incomplete-{stamp}"
    while any(name.with_name(name.name + ending).exists() for name in names):
        number += 1
        ending = f".incomplete-{stamp}.{number}"
    for name in names:
        # A journal that stayed behind would be replayed into the new database.
        if name.exists():
            name.rename(name.with_name(name.name + ending))


def _create(path: Path, artifacts: Path) -> None:
    import_quietly()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # A new name each time: MLflow keeps connections to a name under which this failed before.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    store = SqlAlchemyStore(sqlite_uri(temporary), artifacts.absolute().as_uri())
    store.engine.dispose()
    temporary.replace(path)
