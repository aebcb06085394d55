"""Archives made and remade by the standard library alone, as a stranger would: what an import must see through."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.store import Store

Files = dict[str, bytes]


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
    manifest["files"] = {name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()}
    return write_zip(target, files | {"manifest.json": json.dumps(manifest).encode()})


def edited(files: Files, name: str, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Change a JSON file of an archive."""
    body = json.loads(files[name])
    change(body)
    files[name] = json.dumps(body).encode()


def snapshot(store: Store) -> dict[str, bytes]:
    """Every file of a store but locks, and what it holds."""
    files = (path for path in sorted(store.root.rglob("*")) if path.is_file())
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files if "locks" not in path.parts}
