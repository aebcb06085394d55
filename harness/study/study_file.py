"""What a study file or a ``key=value`` says, as plain data.

Text alone decides it: nothing of this machine is read but environment variables, and those in keys
alone that say where things lie here. harness/study/config.py merges and checks what comes out.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import UserError

Layer = dict[str, Any]

IMPORTED = "imported"
"""The folder below an output folder where the studies of archives are written."""

ARCHIVE = "archive"
"""The key by which the file of a study says that it came in an archive, and in which."""

LARGEST = 2**20
"""Bytes of a study file."""

HERE = (
    *("dataset.root", "dataset.manifest", "dataset.cache", "backbone.pretrained"),
    *("output", "resources.address", "tracking.uri"),
)
"""Keys that say where things lie on this machine.

They stand in no store and in no archive, so that what an environment variable holds may be in them.
"""

VARIABLE = re.compile(r"\$\{oc\.env:(?P<name>[A-Za-z_]\w*)(?:,(?P<default>[^${}]*))?\}")
OPENING, SHIELDED = "${", "$\ue000{"
"""What OmegaConf would resolve, and what stands for it meanwhile: no text is resolved by it."""

UNREADABLE = (
    *(OmegaConfBaseException, YAMLError),
    *(ValueError, TypeError, OverflowError, RecursionError, OSError),
)
"""What reading YAML that makes no sense can raise: ValueError for numbers of thousands of digits,
OSError for a number alone.
"""


def read_study_file(path: Path, as_data: bool = False) -> Layer:
    """The keys and values of a study file.

    A file that came in an archive, or that is read ``as_data``, is data: nothing in it is
    resolved, and it names no other file. Its key ARCHIVE is there then.
    """
    text = _text(path)
    try:
        # Bounds itself what a few aliases can stand for.
        loaded = OmegaConf.load(io.StringIO(text.replace(OPENING, SHIELDED)))
        content = unshielded(OmegaConf.to_container(loaded, resolve=False))
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable study: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a study file must hold keys and values")
    if as_data or ARCHIVE in content or path.resolve().parent.name == IMPORTED:
        return _as_data(path, content)
    return _resolved(content, str(path))


def read_argument(argument: str) -> Layer:
    """What one ``key=value`` of the command line says."""
    if not argument.partition("=")[0].strip("[]. "):
        raise UserError(f"'{argument}' names no key; write key=value")
    shielded = argument.replace(OPENING, SHIELDED)
    try:
        layer = unshielded(OmegaConf.to_container(OmegaConf.from_dotlist([shielded])))
    except UNREADABLE as error:
        raise UserError(f"cannot read the value of '{argument}': {first_line(error)}") from error
    return _resolved(layer, "the command line")


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    lines = unshielded(str(error)).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__


def shielded(value: Any) -> Any:
    """The same plain data with nothing in it that OmegaConf would resolve."""
    return _mapped(value, lambda text: text.replace(OPENING, SHIELDED))


def unshielded(value: Any) -> Any:
    """The reverse of ``shielded``; dataclasses are changed in place."""
    return _mapped(value, lambda text: text.replace(SHIELDED, OPENING))


def method_files(layer: Mapping[str, Any]) -> list[str]:
    """The files that entries of ``methods`` name, as written."""
    entries = layer.get("methods")
    names = [
        entry.get("method") if isinstance(entry, dict) else entry
        for entry in (entries if isinstance(entries, list) else [])
    ]
    files = [name.partition(":")[0] for name in names if isinstance(name, str)]
    return [file for file in files if file.endswith(".py")]


# ---------------------------------------------------------------------- reading


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} has more than {LARGEST:,} bytes, which no study has")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


# ---------------------------------------------------------------------- texts


def _resolved(layer: Layer, source: str) -> Layer:
    """The layer with its environment variables read; UserError where none may stand."""

    def resolve(value: Any, keys: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: resolve(part, (*keys, str(key))) for key, part in value.items()}
        if isinstance(value, list):
            return [resolve(part, keys) for part in value]
        if not isinstance(value, str) or OPENING not in value:
            return value
        place = keys[2:] if keys[:1] == ("presets",) else keys
        return _with_variables(value, ".".join(place), source)

    found: Layer = resolve(layer, ())
    return found


def _with_variables(text: str, key: str, source: str) -> str:
    if key not in HERE:
        raise UserError(
            f"{source}: {key}={text}: ${{...}} is read in {', '.join(HERE)} alone; whatever else a"
            " study says is written to its store and its report"
        )

    def value(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if name not in os.environ and default is None:
            raise UserError(f"{source}: {key}: the environment variable {name} is not set")
        return os.environ.get(name, (default or "").strip().strip("'\""))

    if OPENING in VARIABLE.sub("", text):
        raise UserError(
            f"{source}: {key}={text}: only ${{oc.env:NAME}} and ${{oc.env:NAME,default}} are read"
        )
    return VARIABLE.sub(value, text)


def _as_data(path: Path, content: Layer) -> Layer:
    """What came in an archive, as it stands there; UserError where it would reach further."""
    body = {ARCHIVE: path.name, **content}
    further = [key for key in ("base", "presets", *HERE) if _has(body, key)]
    names = [_value(body, key) for key in ("dataset", "dataset.name", "backbone", "backbone.name")]
    further += [name for name in names if isinstance(name, str) and name.endswith(".py")]
    if further:
        raise UserError(
            f"{path} came in an archive and names {', '.join(further)}: what an archive holds is"
            " data and reads no other file; give such keys on the command line"
        )
    return body


def _value(layer: Any, key: str) -> Any:
    for part in key.split("."):
        layer = layer.get(part) if isinstance(layer, dict) else None
    return layer


def _has(layer: Layer, key: str) -> bool:
    return _value(layer, key) is not None


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data or a dataclass with each text changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part, change) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            setattr(value, field.name, _mapped(getattr(value, field.name), change))
    return value
