"""From an archive into a store.

Everything is unpacked beside the store and checked there, then each trial enters by one rename. A
trial's id must be the hash of its spec and its recorded values must follow from its scores: numbers
cannot be put under another name, nor changed without changing the evidence. An import that was
killed leaves whole trials only, and is repeated by the same command.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.robust.evidence import FOLDER as CORRUPTED
from harness.sharing.archive import unpack
from harness.sharing.export import as_yaml, finished, held
from harness.sharing.import_checks import checked, descriptions, study
from harness.store import (
    WEIGHTS,
    Json,
    Store,
    TrialDirectory,
    file_sha256,
    only_holder,
    read_json,
    write_atomically,
    write_json,
)
from harness.study.recorded_data import FOLDER
from harness.study.study_file import ARCHIVE

INCOMING = "incoming"
OURS, THEIRS = "ours", "theirs"
SHOWN = 5
"""Conflicts that a sentence lists."""

SAME = ("spec", "metric", "combinations", "selected_epoch", "val_mean", "synthetic")
"""Entries of two records of one trial that must agree, as its values must; times, machines and code
may differ.
"""


@dataclass
class Imported:
    """What became of an archive's trials, by id, and the study files that were written."""

    sha256: str
    by: str
    added: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    furthered: list[str] = field(default_factory=list)
    studies: list[Path] = field(default_factory=list)

    def lines(self) -> dict[str, list[str]]:
        """What there is to say, trials by what became of them.

        What hardly ever happens only where it did.
        """
        always = {"added": self.added, "already there with the same results": self.there}
        seldom = {
            "completed (weights, or the part on test)": self.completed,
            "there, and given evidence under corruptions": self.furthered,
            "replaced by theirs, ours set aside in superseded/": self.replaced,
            "here with other results, ours kept": self.kept,
            "left out, in use by another process; import again when it has ended": self.busy,
        }
        return always | {what: trials for what, trials in seldom.items() if trials}


def import_trials(path: Path, store: Store, studies: Path, keep: str | None = None) -> Imported:
    """Import an archive into a store; its studies become files in the folder ``studies``.

    A trial that is there with other results is a UserError before anything is written, unless
    ``keep`` says whose stays: ``ours``, or ``theirs``, and then ours is set aside.
    """
    lock = store.root / "locks" / "import"
    busy = f"another archive is being imported into {store.root}"
    with only_holder(lock, busy), _incoming(store) as folder:
        manifest = unpack(path, folder)
        found = Imported(file_sha256(path), str(manifest.get("by", "")))
        described = descriptions(path, folder)
        files = sorted((folder / "studies").glob("*.yaml"))
        bodies = {file.stem: study(path, file) for file in files}
        unpacked = [TrialDirectory(trial) for trial in sorted((folder / "trials").glob("*"))]
        trials = [checked(path, trial, manifest, found.sha256, described) for trial in unpacked]
        conflicts = [sentence for trial in trials if (sentence := _conflict(trial, store))]
        if conflicts and keep is None:
            raise UserError(_refusal(path, conflicts))
        for name, description in described.items():
            if not (store.root / FOLDER / name).is_file():
                write_json(store.root / FOLDER / name, description)
        for trial in trials:
            _enter(trial, store, keep, found)
        for name, body in bodies.items():
            file = _write_study(studies, path, found.sha256, name, body, alone=len(bodies) == 1)
            found.studies.append(file)
        return found


@contextmanager
def _incoming(store: Store) -> Iterator[Path]:
    """The folder beside the trials in which an archive is unpacked.

    What a killed import left in it goes first.
    """
    folder = store.root / INCOMING
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------------- is it the same as ours?


def _conflict(theirs: TrialDirectory, store: Store) -> str:
    """How a trial differs from the one of this store, in words.

    Empty when they agree, or when there is none.
    """
    own = finished(store.trial(theirs.path.name))
    other = finished(theirs)
    if own is None or other is None or not (unlike := different(own, other)):
        return ""
    label = (read_json(theirs / "spec.json") or {}).get("label", "")
    environments = [record["environment"] for record in (own, other)]
    made = [f"{machine['device_name']}, torch {machine['torch']}" for machine in environments]
    where = f" (made on {made[0]} here, {made[1]} there)" if made[0] != made[1] else ""
    return f"{label} seed {own['spec']['seed']} (trial {theirs.path.name}): {unlike}{where}"


def different(own: Json, other: Json) -> str:
    """In what two records of one trial disagree that must be the same wherever it ran.

    Empty when they agree. A record may have its part on val only: what both have is compared.
    """
    for split in sorted({*own["cells"]} & {*other["cells"]}):
        if own["cells"][split] != other["cells"][split]:
            here, there = _average(own, split), _average(other, split)
            return f"average on {split} {here:.4f} here, {there:.4f} there"
    unlike = [key for key in SAME if own[key] != other[key]]
    common = [name for name in own["files"] if name in other["files"]]
    unlike += [name for name in common if own["files"][name] != other["files"][name]]
    return f"the same values, but not the same {' and '.join(unlike)}" if unlike else ""


def _average(record: Json, split: str) -> float:
    cells = record["cells"][split].values()
    values: list[float] = [cell["value"] for cell in cells if cell["value"] is not None]
    return sum(values) / len(values)


def _refusal(path: Path, conflicts: Sequence[str]) -> str:
    more = f"; and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
    return (
        f"{path.name}: {len(conflicts)} of its trials are here with other results (another machine"
        " or version gives other last digits, or one of the two was changed):"
        f" {'; '.join(conflicts[:SHOWN])}{more}; nothing was imported: keep=ours leaves those out,"
        " keep=theirs sets ours aside"
    )


# ---------------------------------------------------------------------- entering


def _enter(theirs: TrialDirectory, store: Store, keep: str | None, found: Imported) -> None:
    """Let one trial in while nobody else can touch it."""
    name = theirs.path.name
    with held(store, name) as mine:
        ours, other = store.trial(name), finished(theirs)
        own = finished(ours) if mine else None
        if not mine or other is None:
            found.busy.append(name)
        elif own is None:
            _move(theirs, store, found.added)
        elif different(own, other):
            found.kept.append(name) if keep != THEIRS else _move(theirs, store, found.replaced)
        elif set(other["cells"]) > set(own["cells"]):
            _move(theirs, store, found.completed)
        elif ours.lacks(WEIGHTS) and not theirs.lacks(WEIGHTS):
            (theirs / WEIGHTS).replace(ours / WEIGHTS)
            _further(theirs, ours)
            found.completed.append(name)
        elif _further(theirs, ours):
            found.furthered.append(name)
        else:
            found.there.append(name)


def _further(theirs: TrialDirectory, ours: TrialDirectory) -> int:
    """Take over evidence under corruptions that ours lacks; how many files that is."""
    files = sorted((theirs / CORRUPTED).glob("*.npz"))
    new = [file for file in files if not (ours / CORRUPTED / file.name).exists()]
    for file in new:
        (ours / CORRUPTED).mkdir(exist_ok=True)
        file.replace(ours / CORRUPTED / file.name)
    return len(new)


def _move(theirs: TrialDirectory, store: Store, names: list[str]) -> None:
    """One rename: a trial is in the store with all its files, or not at all."""
    name = theirs.path.name
    if store.trial(name).path.exists():
        store.set_aside(name)
    theirs.path.rename(store.root / name)
    _sync(store.root)
    names.append(name)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_study(folder: Path, path: Path, sha256: str, name: str, body: Json, alone: bool) -> Path:
    """The study's file, named after the archive.

    Another archive's of that name is left as it is.
    """
    text = as_yaml({ARCHIVE: True, **body})
    stem = (path.stem if alone else f"{path.stem}-{name}").replace(",", "_")
    target = folder / f"{stem}.yaml"
    if target.is_file() and target.read_bytes() != text:
        target = folder / f"{stem}-{sha256[:6]}.yaml"
    write_atomically(target, lambda stream: stream.write(text))
    return target
