"""What code a trial executes, and on what it ran."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import platform
import sys
from functools import cache
from pathlib import Path

from harness import PROJECT

EXECUTED = ("train", "evaluate", "masks", "seeds", "metrics", "method", "phases", "combinations")
LOCAL_PACKAGES = ("methods", "datasets", "harness.backbones")


def code_hash(*classes: type) -> str:
    """A hash of the modules that a trial executes: the harness' share, the given classes' files and the local files they import.

    Comments, docstrings and layout do not count.
    """
    files = {PROJECT / "harness" / f"{name}.py" for name in EXECUTED}
    for cls in classes:
        files |= _with_local_imports(Path(inspect.getfile(cls)))
    sha = hashlib.sha256()
    for path in sorted(files, key=lambda p: p.name):
        sha.update(f"{path.name}:{source_hash(path)}\n".encode())
    return sha.hexdigest()[:16]


def source_hash(path: Path) -> str:
    """sha256 (16 hex) of a Python file's meaning: its syntax tree without docstrings."""
    return _source_hash(path, path.stat().st_mtime_ns)


@cache
def _source_hash(path: Path, _modified: int) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _with_local_imports(path: Path) -> set[Path]:
    found, queue = set[Path](), [path]
    while queue:
        current = queue.pop()
        if current not in found:
            found.add(current)
            queue.extend(_local_imports(current))
    return found


def _local_imports(path: Path) -> list[Path]:
    modules = [
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(LOCAL_PACKAGES)
    ]
    files = [PROJECT / f"{module.replace('.', '/')}.py" for module in modules]
    return [file for file in files if file.is_file()]


def environment(device_type: str) -> dict[str, str | int]:
    """Versions and hardware, for the record."""
    import numpy
    import torch

    name = torch.cuda.get_device_name() if device_type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": device_type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count() or 0,
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
