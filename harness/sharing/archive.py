"""One file that carries trials from a store to another: a zip with a manifest.

The manifest, ``manifest.json``, has the size and sha256 of every other file. These are:
``studies/<name>.yaml``, the studies in full; ``data/<hash>.json``, descriptions of the data, never
the data; ``trials/<trial id>/`` with a trial's files as in the store, evidence under corruptions
(``corrupted/``) included. An archive is read as what a
stranger sent: nothing outside this layout is unpacked, and nothing at all before the whole of it
was checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from harness.errors import UserError
from harness.sharing.file_checks import plain_json
from harness.store import Json, write_atomically

FORMAT, KIND = 1, "trials of the harness"
END_SEARCHED = 2**16 + 200
"""Bytes from the end of a zip in which its end record stands."""

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 2**24
LARGEST_DIRECTORY = 2**24
"""Bytes of the zip's own list of its files, which is read as a whole."""

LARGEST = {".yaml": 2**20, ".json": 2**24, ".jsonl": 2**26}
"""Bytes of the files that are read as a whole, by their ending."""

LIKELY, STEEPEST = 2**24, 100
"""From so many bytes on, what unpacks to more than so many times its size is no evidence: a few
bytes can unpack to any number.
"""

CHUNK = 2**20
ENTRY = re.compile(
    r"studies/[^/\\.\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]*\.yaml|data/[0-9a-f]{16}\.json"
    r"|trials/[0-9a-f]{16}/([a-z_]+\.(json|jsonl|npz|pt)|corrupted/[0-9a-f]{16}\.npz)",
    re.ASCII,
)
"""The names that an archive may hold beside its manifest."""

UNREADABLE = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What the standard library raises on archives that are damaged, encrypted, or compressed in a way
that it does not know.
"""

Entry = tuple[str, Path | bytes]
"""A name in the archive, and the file or the bytes that it gets."""


# ---------------------------------------------------------------------- writing


def pack(path: Path, entries: Iterable[Entry], facts: Json) -> Json:
    """Write an archive, whole or not at all; equal entries give equal bytes.

    Returns the manifest: ``facts`` and the files.
    """
    manifest = {"kind": KIND, "format": FORMAT, **facts}

    def write(stream: IO[bytes]) -> None:
        with ZipFile(stream, "w") as archive:
            manifest["files"] = {name: _add(archive, name, source) for name, source in entries}
            text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
            _add(archive, MANIFEST, text.encode())

    write_atomically(path, write)
    return manifest


def _add(archive: ZipFile, name: str, source: Path | bytes) -> Json:
    # The first day that a zip knows: when an archive was made is no part of what it holds.
    info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    # Weights do not shrink.
    info.compress_type = ZIP_STORED if name.endswith(".pt") else ZIP_DEFLATED
    sha, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as target:
        for chunk in _chunks(source):
            target.write(chunk)
            sha.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": sha.hexdigest()}


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


# ---------------------------------------------------------------------- reading


def unpack(path: Path, folder: Path) -> Json:
    """Write all files of an archive below ``folder``; returns the manifest.

    Each file must have the size and sha256 of the manifest. UserError on the first thing that is
    not as it must be; what has been written by then is the caller's to remove.
    """
    with _opened(path) as archive:
        manifest = _manifest(path, archive)
        infos = _allowed(path, archive, manifest["files"])
        _require_room(path, folder, manifest["files"])
        for name, facts in sorted(manifest["files"].items()):
            _extract(path, archive, infos[name], folder / name, facts)
    return manifest


@contextmanager
def _opened(path: Path) -> Iterator[ZipFile]:
    if not path.is_file():
        raise UserError(
            f"{path} is not a file; give an archive that `python -m harness.share export` made"
        )
    try:
        if _directory_bytes(path) > LARGEST_DIRECTORY:
            raise refused(path, "it lists more files than any archive has")
        with ZipFile(path) as archive:
            yield archive
    except UNREADABLE as error:
        raise refused(path, f"it is not an archive, or was cut off or changed ({error})") from error


def _directory_bytes(path: Path) -> int:
    """How long the zip's list of files says it is; 0 where there is none.

    The standard library reads all of it before anything can be asked.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - END_SEARCHED))
        end = stream.read()
    found = 0
    for mark, layout, offset in ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40)):
        place = end.rfind(mark)
        if 0 <= place <= len(end) - offset - struct.calcsize(layout):
            (size,) = struct.unpack_from(layout, end, place + offset)
            # All ones: the longer form says it.
            found = max(found, 0 if size == 0xFFFFFFFF else size)
    return found


def refused(path: Path, why: str) -> UserError:
    """Why an archive is not imported."""
    return UserError(f"{path.name}: {why}; nothing was imported")


def _manifest(path: Path, archive: ZipFile) -> Json:
    infos = [info for info in archive.infolist() if info.filename == MANIFEST]
    if len(infos) != 1 or infos[0].file_size > LARGEST_MANIFEST:
        raise refused(
            path,
            f"it has no {MANIFEST}: it was cut off, or is no archive that `python -m harness.share"
            " export` made",
        )
    with archive.open(infos[0]) as stream:
        manifest = plain_json(stream.read(LARGEST_MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise refused(path, f"its {MANIFEST} is not one of {KIND}")
    if manifest.get("format") != FORMAT:
        raise refused(
            path,
            f"it has format {manifest.get('format')}, and this version of the harness reads"
            f" {FORMAT}; update",
        )
    if not _listing(manifest.get("files")):
        raise refused(path, f"its {MANIFEST} does not list files with their sizes and sha256")
    return manifest


def _listing(files: object) -> bool:
    if not isinstance(files, dict):
        return False
    return all(
        isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and facts["bytes"] >= 0
        and isinstance(facts.get("sha256"), str)
        for facts in files.values()
    )


def _allowed(path: Path, archive: ZipFile, listed: Json) -> dict[str, ZipInfo]:
    """The archive's files by name.

    They are those that are listed, no more, no fewer, none twice, none that could lie elsewhere.
    """
    infos = [info for info in archive.infolist() if info.filename != MANIFEST]
    names = [info.filename for info in infos]
    strange = {name for name in {*names, *listed} if not ENTRY.fullmatch(name)}
    wrong = {
        "names that no archive has": strange,
        "links or other things that are no files": {i.filename for i in infos if not _regular(i)},
        "names that stand in it twice": {name for name, n in Counter(names).items() if n > 1},
        "files that its manifest does not list": set(names) - set(listed),
        "no file for these names of its manifest": set(listed) - set(names),
    }
    for what, found in wrong.items():
        if found:
            raise refused(path, f"it has {what}: {', '.join(map(ascii, sorted(found)[:3]))}")
    for info in infos:
        if (why := _out_of_bounds(info)) is not None:
            raise refused(path, f"{info.filename} {why}")
    return {info.filename: info for info in infos}


def _out_of_bounds(info: ZipInfo) -> str | None:
    """Why a file is larger than one of its kind can be; None where it may be unpacked."""
    size, packed = info.file_size, max(1, info.compress_size)
    largest = LARGEST.get(Path(info.filename).suffix)
    if largest is not None and size > largest:
        return f"has {size:,} bytes, and none of its kind has more than {largest:,}"
    if size > LIKELY and size > STEEPEST * packed:
        return f"unpacks {packed:,} bytes to {size:,}, which no results do"
    return None


def _regular(info: ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFREG) and not info.is_dir()


def _require_room(path: Path, folder: Path, listed: Json) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(facts["bytes"] for facts in listed.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise refused(
            path, f"it needs {needed / 1e9:.1f} GB below {folder}, and {free / 1e9:.1f} GB are free"
        )


def _extract(path: Path, archive: ZipFile, info: ZipInfo, target: Path, facts: Json) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha, size = hashlib.sha256(), 0
    with archive.open(info) as source, target.open("xb") as stream:
        # Never more than was announced: a few bytes can unpack to any number.
        while size <= facts["bytes"] and (chunk := source.read(CHUNK)):
            stream.write(chunk)
            sha.update(chunk)
            size += len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if size != facts["bytes"] or sha.hexdigest() != facts["sha256"]:
        raise refused(
            path,
            f"{info.filename} is not what the manifest says it is (size or sha256): it was damaged"
            " or changed",
        )
