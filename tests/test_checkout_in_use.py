"""The two commands of the README in order: tests pass where a study ran, and leave it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import PROJECT

PARTS = ("harness", "methods", "datasets", "studies", "tests", "pyproject.toml")
STUDY = ("methods=[sf_md]", "seeds=[0]", "train.epochs=1", "executor=local")
"""The quick start on all of its data, in little time: its data are what a report finds again."""

TESTS = (
    "tests/test_store.py",
    "tests/test_show.py",
    "tests/study/test_config.py",
    "tests/reporting/test_report.py",
    "tests/datasets/test_digits.py",
)
CHOSEN = "not test_report or absent or sentence or help or names"
"""Some of every kind that reads a store, a report, settings or a plan, and takes no minutes."""


def checkout(folder: Path) -> Path:
    """A copy of the project, without what was made in it."""
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc", "runs", "*.egg-info")
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=skipped)
        else:
            shutil.copy(source, folder / part)
    for readme in PROJECT.glob("*.md"):
        shutil.copy(readme, folder / readme.name)
    return folder


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: time of change, size, content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (facts.st_mtime_ns, len(content), content)
    return found


@pytest.mark.slow
def test_tests_neither_see_nor_touch_the_folder_they_are_started_from(tmp_path: Path) -> None:
    here = checkout(tmp_path / "checkout")
    environment = os.environ | {"PYTHONPATH": str(here), "PYTHONDONTWRITEBYTECODE": "1"}
    started = [sys.executable, "-m", "harness.run", *STUDY]
    subprocess.run(started, cwd=here, env=environment, check=True, capture_output=True)
    assert (here / "runs" / "mlflow.db").is_file() and (here / "runs" / "store").is_dir()
    before = state(here)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-k",
        CHOSEN,
        *TESTS,
    ]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'temporary'}"],
        cwd=here,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]
    assert " passed" in done.stdout.decode() or b"[100%]" in done.stdout
    after = state(here)
    assert sorted(after) == sorted(before)
    assert [name for name in before if before[name] != after[name]] == []
