"""Imports go one way: a room imports from rooms above it, and no two files need each other.

Every import is read, those inside functions and for type checking too.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness import PROJECT

ORDER = (
    ("harness",),
    ("harness.errors",),
    ("harness.store",),
    ("harness.protocol",),
    ("harness.data",),
    ("harness.dataset",),
    ("harness.backbones",),
    ("harness.method",),
    ("methods", "datasets"),
    ("harness.registry",),
    ("harness.training",),
    ("harness.conformance",),
    ("harness.testing",),
    ("harness.study",),
    ("harness.schedule",),
    ("harness.search",),
    ("harness.analysis",),
    ("harness.robust",),
    ("harness.paper",),
    ("harness.reporting",),
    ("harness.deploy",),
    ("harness.sharing",),
    ("harness.tracking",),
    ("harness.session",),
    ("harness.cli",),
    (
        *("harness.run", "harness.show", "harness.report", "harness.share", "harness.views"),
        "harness.robust.__main__",
    ),
    ("datasets.sample",),
)
"""From what needs nothing to what people call; a line's names do not import each other."""

LARGEST_ROOM = 15
"""Python files in one folder; methods, datasets and backbones have one per thing and may have
more.
"""


def module_name(path: Path) -> str:
    """``harness/study/plan.py`` is ``harness.study.plan``; a package is named like its folder."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("harness", "methods", "datasets")
    for path in sorted((PROJECT / folder).rglob("*.py"))
}


def imported(name: str) -> Iterator[str]:
    """The project's modules that a module imports, wherever the import stands."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in FILES else node.module
                if found in FILES:
                    yield found


def room(name: str) -> tuple[int, str]:
    """Where a module stands in the order, and the room that it belongs to."""
    rooms = [(at, room) for at, line in enumerate(ORDER) for room in line]
    inside = [(at, room) for at, room in rooms if name == room or name.startswith(f"{room}.")]
    return max(inside, key=lambda found: len(found[1]))


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_from_rooms_above_it_only(name: str) -> None:
    at, own = room(name)
    below = [other for other in imported(name) if room(other)[1] != own and room(other)[0] >= at]
    assert not below, f"{name} imports {', '.join(below)}, which stand below it or beside it"


def test_no_two_files_need_each_other() -> None:
    needs = {name: {other for other in imported(name) if other != name} for name in FILES}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_module_of_the_harness_has_a_room_of_its_own() -> None:
    assert not [name for name in FILES if room(name)[1] == "harness" and name != "harness"]


def test_no_folder_of_the_harness_is_crowded() -> None:
    folders = {path.parent for path in FILES.values() if "harness" in path.parts}
    crowded = {
        str(folder.relative_to(PROJECT)): count
        for folder in folders
        if (count := len(list(folder.glob("*.py")))) > LARGEST_ROOM
    }
    assert not crowded


def test_every_package_is_installed() -> None:
    """Where not the clone itself is installed (``pip install .``), only listed packages are."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    tops = [PROJECT / name for name in ("harness", "methods", "datasets", "studies")]
    folders = sorted(path.parent for top in tops for path in top.rglob("__init__.py"))
    packages = [".".join(folder.relative_to(PROJECT).parts) for folder in folders]
    assert settings["tool"]["setuptools"]["packages"] == sorted(packages)
