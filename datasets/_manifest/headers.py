"""The headers of a manifest's files. Called by datasets/manifest.py.

They are read in parallel and kept beside the cache; missing files are named by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets._files import exists, visible
from datasets._manifest.formats import Header, label_map, read_header
from datasets._manifest.sheet import Sheet, rows_named
from harness.data.contents import State, content_hashes, file_state, settled
from harness.data.prepared import Unreadable, digest
from harness.errors import UserError, shown
from harness.store import read_json, write_json

THREADS = 8
FORMAT = 2
"""Of the kept headers; those of another one are read again."""

LOOKED_FOR = 10
"""So many missing files are looked for in another case: a folder is listed for each."""


@dataclass(frozen=True)
class Scan:
    """What is known of a manifest's files without decoding pictures, sounds and arrays.

    ``headers``: path as in the manifest -> header, or the reason why it has none. ``values``: path
    of a label map -> the class numbers in it and its (H, W), or the reason why it cannot be read;
    these are decoded, once.
    """

    headers: Mapping[str, Header | str]
    values: Mapping[str, tuple[tuple[int, ...], tuple[int, int]] | str]
    state: Mapping[str, State]

    def save(self, folder: Path, sheet: Sheet) -> None:
        """Keep it beside the cache.

        No file is then opened again while it is the same one.
        """
        settled_ones = {name: state for name, state in self.state.items() if settled(state)}
        folder.mkdir(parents=True, exist_ok=True)
        headers = {
            name: header if isinstance(header, str) else asdict(header)
            for name, header in self.headers.items()
        }
        write_json(
            _saved(folder, sheet),
            {
                "format": FORMAT,
                "headers": headers,
                "values": dict(self.values),
                "state": settled_ones,
            },
        )


def scan(sheet: Sheet, cache: Path | None) -> Scan:
    """Look at every file of a manifest; UserError naming the rows of those that are not there."""
    files = sorted({name for row in sheet.rows for name in row.files if name})
    maps = sorted({row.label for row in sheet.rows}) if sheet.dense else []
    state = _state(sheet, [*files, *maps])
    old = read_json(_saved(cache, sheet)) if cache is not None else None
    if old is None or old.get("format") != FORMAT:
        old = {"headers": {}, "values": {}, "state": {}}
    known = {name for name, facts in state.items() if old["state"].get(name) == list(facts)}
    headers = {name: _restored(value) for name, value in old["headers"].items() if name in known}
    values = {
        name: _restored_values(value) for name, value in old["values"].items() if name in known
    }
    headers |= _mapped(sheet.folder, [name for name in files if name not in headers], _header)
    values |= _mapped(sheet.folder, [name for name in maps if name not in values], _values)
    return Scan(
        {name: headers[name] for name in files}, {name: values[name] for name in maps}, state
    )


def hashes(sheet: Sheet, names: Iterable[str], cache: Path | None) -> dict[str, str]:
    """The hash of each file's content, by its name in the manifest and in the order of names.

    UserError when some are not there.
    """
    paths = {name: f"{sheet.folder}/{name}" for name in sorted(names)}
    found = content_hashes(paths.values(), cache)
    _refuse_missing(sheet, {name for name, path in paths.items() if path not in found})
    return {name: found[path] for name, path in paths.items()}


def _saved(folder: Path, sheet: Sheet) -> Path:
    return folder / f"manifest-{digest(str(sheet.path))[:12]}.headers"


def _mapped(folder: Path, names: Sequence[str], function: Callable[[Path], Any]) -> dict[str, Any]:
    with ThreadPoolExecutor(THREADS) as threads:
        results = threads.map(function, [folder / name for name in names])
        return dict(zip(names, results, strict=True))


def _header(path: Path) -> Header | str:
    try:
        return read_header(path)
    except Unreadable as error:
        return error.reason


def _values(path: Path) -> tuple[tuple[int, ...], tuple[int, int]] | str:
    try:
        found = label_map(path)
    except Unreadable as error:
        return error.reason
    return tuple(int(value) for value in np.unique(found)), (found.shape[0], found.shape[1])


def _restored(saved: Any) -> Header | str:
    if isinstance(saved, str):
        return saved
    return Header(**saved | {"shape": tuple(saved["shape"]), "facts": tuple(saved["facts"])})


def _restored_values(saved: Any) -> tuple[tuple[int, ...], tuple[int, int]] | str:
    return saved if isinstance(saved, str) else (tuple(saved[0]), tuple(saved[1]))


def _state(sheet: Sheet, names: Iterable[str]) -> dict[str, State]:
    """What tells that a file is the same one; UserError when some are not there."""
    found: dict[str, State] = {}
    for name in names:
        try:
            state = file_state(sheet.folder / name)
        except OSError as error:
            raise UserError(
                f"{sheet.path.name}: {sheet.folder / name} cannot be looked at: {error.strerror}"
            ) from error
        if state is not None:
            found[name] = state
    _refuse_missing(sheet, set(names) - set(found))
    return found


def in_another_case(folder: Path, name: str) -> str | None:
    """The file below a folder whose path is ``name`` but for upper and lower case.

    None when there is none.
    """
    found = folder
    for part in Path(name).parts:
        if exists(found / part):
            found /= part
            continue
        others = visible(found.iterdir()) if found.is_dir() else []
        alike = [path for path in others if path.name.casefold() == part.casefold()]
        if not alike:
            return None
        found = alike[0]
    return found.relative_to(folder).as_posix()


def _refuse_missing(sheet: Sheet, gone: set[str]) -> None:
    if not gone:
        return
    named = [
        (row.number, name)
        for row in sheet.rows
        for name in (row.label if sheet.dense else "", *row.files)
        if name in gone
    ]
    rows = list(dict.fromkeys(number for number, _ in named))
    first = dict.fromkeys(name for _, name in named)
    hint = ""
    for name in list(first)[:LOOKED_FOR]:
        other = in_another_case(sheet.folder, name)
        if other is not None:
            hint = f"; {other} is there, which differs from {name} in upper and lower case"
            break
    raise UserError(
        f"{sheet.path.name}: {len(gone)} file{'s' if len(gone) > 1 else ''} cannot be found:"
        f" {shown(first)} ({rows_named(rows)}){hint}; paths are"
        f" relative to {sheet.folder}; put the files there, correct the paths, or empty a cell"
        " whose sample does not have that modality"
    )
