"""What code a trial executes, and on what it ran; both stand in its record."""

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

PACKAGES = ("harness", "methods", "datasets")

COMPUTE_NOTHING = ("harness/errors/", "harness/store/")
"""Sentences for users, and files on disk: no result depends on how they are written."""

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
"""What may begin with a docstring."""


def code_hash(*classes: type) -> str:
    """A hash of the code that a trial of these classes executes.

    That is everything in this folder, the classes' own files, and what these import inside the
    project, however indirectly. Comments, docstrings and layout do not count.
    """
    own = sorted((PROJECT / "harness" / "training").glob("*.py"))
    files = _with_local_imports(*own, *(Path(inspect.getfile(cls)) for cls in classes))
    sha = hashlib.sha256()
    # By contents too: two files of one name must not be ordered by chance.
    for name, source in sorted((path.name, source_hash(path)) for path in files):
        sha.update(f"{name}:{source}\n".encode())
    return sha.hexdigest()[:16]


def source_hash(path: Path) -> str:
    """sha256 (16 hex) of a Python file's meaning: its syntax tree without docstrings."""
    return _source_hash(path, path.stat().st_mtime_ns)


@cache
def _source_hash(path: Path, _modified: int) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and _has_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _has_docstring(node: _Documented) -> bool:
    first = node.body[0] if node.body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def _with_local_imports(*paths: Path) -> set[Path]:
    """The files, and those that they import inside the project, directly or through others."""
    kept, queue = set[Path](), list(paths)
    while queue:
        current = queue.pop()
        if current not in kept:
            kept.add(current)
            queue.extend(_local_imports(current, current.stat().st_mtime_ns))
    return kept


@cache
def _local_imports(path: Path, _modified: int) -> list[Path]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = {module for node in nodes for module in _imported(node, path)}
    files = []
    for module in sorted(modules):
        package, _, _ = module.partition(".")
        file = _file_of(module) if package in PACKAGES else None
        if file is None or file.relative_to(PROJECT).as_posix().startswith(COMPUTE_NOTHING):
            continue
        files.append(file)
    return files


def _file_of(module: str) -> Path | None:
    """The project's file of a module or package; None for a name inside of one."""
    place = PROJECT.joinpath(*module.split("."))
    candidates = [place.with_suffix(".py"), place / "__init__.py"]
    return next((file for file in candidates if file.is_file()), None)


def _imported(node: ast.AST, path: Path) -> list[str]:
    """The modules that a node may import: ``from a import b`` names a, and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parts: list[str] = []
    if node.level:  # a relative import: one dot is the file's own folder
        package = path.parents[node.level - 1]
        if package.is_relative_to(PROJECT):
            parts += package.relative_to(PROJECT).parts
    if node.module:
        parts.append(node.module)
    source = ".".join(parts)
    return [source, *(f"{source}.{alias.name}" for alias in node.names)]


def environment(device_type: str) -> dict[str, str | int]:
    """Versions and hardware, for the record."""
    import numpy
    import torch

    name = platform.processor() or platform.machine()
    if device_type == "cuda":
        name = torch.cuda.get_device_name()
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
