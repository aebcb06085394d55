"""A store and its archive, and archives remade by the standard library alone.

Called by tests/sharing and tests/study; fixtures made of it are in tests/sharing/conftest.py.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import share
from harness.cli import guarded
from harness.store import Store
from harness.study.plan import Plan
from tests.support.handmade import ENVIRONMENT, ladder, planned, write_trial

ARGUMENTS = ("methods=[sf_md,hemis]", "seeds=[0,1]")
COMMAND = ("study=quickstart", "dataset.limit=60", *ARGUMENTS)
CORRECT = {("sf_md", 0): 20, ("sf_md", 1): 21, ("hemis", 0): 33, ("hemis", 1): 34}
"""Method and seed -> correct predictions for the first combination; three more for each next."""

Files = dict[str, bytes]
Refused = Callable[[Path], str]


@dataclass(frozen=True)
class Source:
    """A store with four finished trials, and an archive of it."""

    output: Path
    plan: Plan
    store: Store
    archive: Path


def make_source(folder: Path) -> Source:
    """Four trials written by hand with a learning curve each, and ``shared.zip`` of them."""
    plan, store = write_four(folder / "runs")
    for trial in plan.trials:
        curve = [{"step": 0, "time": 1.0, "values": {"val/accuracy_mean": 50.0}}]
        store.trial(trial.id).save_history(curve)
    archive = folder / "shared.zip"
    assert main("export", *COMMAND, f"output={folder / 'runs'}", str(archive), "by=Ann, lab A") == 0
    return Source(folder / "runs", plan, store, archive)


def write_four(
    output: Path, correct: Mapping[tuple[str, int], int] = CORRECT, device: str = "x"
) -> tuple[Plan, Store]:
    """The plan and the store of four finished trials that were made on ``device``."""
    plan, store = planned(output, *ARGUMENTS)
    environment = ENVIRONMENT | {"device_name": device}
    for (label, seed), first in correct.items():
        write_trial(plan, store, label, seed, ladder(first), environment=environment)
    return plan, store


def main(*arguments: str) -> int:
    """The command as a shell sees it."""
    return guarded(share.main, arguments)


def imported(archive: Path, store: Store, *settings: str) -> int:
    """The exit code of an import into a store."""
    return main("import", str(archive), f"output={store.root.parent}", *settings)


def contents(path: Path) -> Files:
    """Name -> bytes of every file of a zip."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip of these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def forged(source: Path, target: Path, change: Callable[[Files], None]) -> Path:
    """An archive with changed files and a manifest that lists them as they are now."""
    files = contents(source)
    change(files)
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {
        name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        for name, body in files.items()
    }
    return write_zip(target, files | {"manifest.json": json.dumps(manifest).encode()})


def edited(files: Files, name: str, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Change a JSON file of an archive."""
    body = json.loads(files[name])
    change(body)
    files[name] = json.dumps(body).encode()


def snapshot(store: Store, without: str = "locks") -> Files:
    """Every file of a store and what it holds, but for locks and files called ``without``."""
    files = (path for path in sorted(store.root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in files
        if not {"locks", without} & set(path.parts)
    }


def refusal(path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which an import is refused; nothing may be left behind."""
    capsys.readouterr()
    assert imported(path, store) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert snapshot(store) == {} and not (store.root / "incoming").exists()
    assert not (store.root.parent / "imported").exists()
    return error


def trial_in(files: Files) -> str:
    """The first trial's folder."""
    return min(name for name in files if name.startswith("trials/")).rpartition("/")[0]
