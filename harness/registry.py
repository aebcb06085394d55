"""Names to classes, lazily: from the project's folders, a user's file, or a third party's entry
point.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from harness import PROJECT
from harness.backbones import Backbone
from harness.dataset import Dataset
from harness.errors import UserError, one_line, unknown
from harness.method import Method

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """All classes of one kind: one public subclass of ``base`` per file of ``package``, and entry
    points of ``group``.
    """

    kind: str
    package: str
    base: type[T]
    group: str

    def names(self) -> list[str]:
        """Registry names, the project's own first, each group sorted."""
        folder = PROJECT / self.package.replace(".", "/")
        own = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
        excluded = {"sample"} if self.kind == "dataset" else set()
        return [name for name in own if name not in excluded] + sorted(
            set(self._entry_points()) - set(own)
        )

    def get(self, name: str) -> type[T]:
        """The class called ``name`` (a ``.py`` path is loaded as a file).

        UserError when there is none or it does not load.
        """
        if name.endswith(".py"):
            return self._only_class(_load_file(Path(name), self.kind), name)
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        points = self._entry_points()
        if name in points:
            return self._from_entry_point(points[name])
        with _loading(f"{self.kind} '{name}'"):
            module = importlib.import_module(f"{self.package}.{name}")
        return self._only_class(module, name)

    def listing(self) -> dict[str, type[T] | str]:
        """Every name with its class, or with the reason why it is unavailable."""
        found: dict[str, type[T] | str] = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a broken plug-in must not break the others
                found[name] = f"unavailable: {type(error).__name__}: {one_line(error)}"
        return found

    def _entry_points(self) -> dict[str, EntryPoint]:
        return _installed(self.group, tuple(sys.path))

    def _from_entry_point(self, point: EntryPoint) -> type[T]:
        with _loading(f"{self.kind} '{point.name}' ({point.value})"):
            loaded: Any = point.load()
        if not (isinstance(loaded, type) and issubclass(loaded, self.base)):
            raise UserError(
                f"{self.kind} '{point.name}' ({point.value}) is not a subclass of"
                f" {self.base.__name__}"
            )
        return loaded

    def _only_class(self, module: ModuleType, name: str) -> type[T]:
        found = [
            member
            for member in vars(module).values()
            if inspect.isclass(member)
            and issubclass(member, self.base)
            and member.__module__ == module.__name__
            and not member.__name__.startswith("_")
        ]
        if len(found) != 1:
            raise UserError(
                f"{name} must define exactly one public subclass of {self.base.__name__}, and"
                f" defines {len(found)}"
            )
        return found[0]


@cache
def _installed(group: str, _path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The entry points of a group.

    To look for them reads the metadata of every installed package, once for each search path.
    """
    return {point.name: point for point in entry_points(group=group)}


def _load_file(path: Path, kind: str) -> ModuleType:
    if not path.is_file():
        raise UserError(f"the {kind} file {path} does not exist")
    place = path.resolve().as_posix().strip("/").replace("/", "_").removesuffix(".py")
    name = f"_harness_file_{place}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"the {kind} file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _loading(f"the {kind} file {path}"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """UserError for whatever code raises while it is imported, ``sys.exit`` included."""
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:
        raise UserError(
            f"{what} does not load: {type(error).__name__}: {one_line(error)}"
        ) from error


METHODS: Registry[Method] = Registry("method", "methods", Method, "harness.methods")
DATASETS: Registry[Dataset] = Registry(
    "dataset",
    "datasets",
    Dataset,  # type: ignore[type-abstract]
    "harness.datasets",
)
BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    "harness.backbones",
    Backbone,  # type: ignore[type-abstract]
    "harness.backbones",
)
