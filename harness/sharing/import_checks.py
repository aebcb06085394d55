"""Whether an unpacked archive is what it says it is.

The data's descriptions, the studies, and each trial are checked against themselves and each other.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

from harness.analysis.evidence import EVIDENCE_SPLITS, different_cells
from harness.errors import TrialFailure, UserError
from harness.paper.representations import FILE as REPRESENTATIONS
from harness.paper.representations import stored_statistics
from harness.protocol.combinations import lattice
from harness.robust.evidence import FOLDER as CORRUPTED
from harness.robust.evidence import combinations_with, read_facts
from harness.sharing.archive import refused
from harness.sharing.export import DATASET_KEYS, RECORDS, STUDY_KEYS, finished
from harness.sharing.file_checks import (
    check_arrays,
    check_corrupted,
    check_json_lines,
    check_tensors,
    plain_json,
)
from harness.store import (
    CURVE_FILE,
    ORIGIN,
    WEIGHTS,
    Json,
    TrialDirectory,
    read_json,
    write_json,
)
from harness.store.record import RECORD_FORMAT, fault, shapeless
from harness.study.checks import checked_name
from harness.study.recorded_data import FOLDER, description_name, spec_of
from harness.study.study_file import ARCHIVE, read_study_file
from harness.training.spec import spec_id

UNREADABLE = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, AssertionError),
    *(EOFError, BadZipFile, zlib.error, TrialFailure),
)
"""What code that expects a record, a curve or an array meets in something else."""

NAME = re.compile(r"\w[\w-]*")
"""A name of a registry; those of user's files are their stems."""


def descriptions(path: Path, folder: Path) -> dict[str, Json]:
    """The descriptions of the data by their file names, each readable and named by its facts."""
    found = {}
    for file in sorted((folder / FOLDER).glob("*.json")):
        try:
            description = plain_json(file.read_bytes())
            spec = spec_of(description["spec"])
            lattice(spec.names)
            _check_names(description["facts"]["name"])
            counted = all(int(n) >= 0 for n in description["counts"].values())
            said = all(isinstance(text, str) for text in description.get("remarks", []))
            named = description_name(description) == file.name and counted and said
        except (*UNREADABLE, UserError) as error:
            raise refused(path, f"data/{file.name} does not describe data ({error})") from error
        if not named:
            raise refused(path, f"data/{file.name} is not named by the facts that it holds")
        found[file.name] = description
    return found


def study(path: Path, file: Path) -> Json:
    """A study of the archive.

    Only what decides trials may be in it: no folder of another machine, nothing to write to.
    """
    try:
        checked_name(file.stem)
        # The loader of studies bounds what aliases stand for, and refuses what reaches further.
        body = read_study_file(file, as_data=True)
        plain_json(json.dumps(body, allow_nan=False).encode())
    except UserError as error:
        why = str(error).removeprefix(str(file)).lstrip(": ")
        raise refused(path, f"studies/{file.name} is not a readable study ({why})") from error
    except UNREADABLE as error:
        raise refused(path, f"studies/{file.name} is not a readable study ({error})") from error
    body.pop(ARCHIVE, None)
    own = body.get("dataset") if isinstance(body, dict) else None
    if (
        not isinstance(own, dict)
        or not set(body) <= set(STUDY_KEYS)
        or not set(own) <= set(DATASET_KEYS)
    ):
        raise refused(path, f"studies/{file.name} has keys that no exported study has")
    return body


def checked(
    path: Path, trial: TrialDirectory, manifest: Json, sha256: str, descriptions: dict[str, Json]
) -> TrialDirectory:
    """A trial of the archive, with its origin written down.

    UserError when it contradicts itself.
    """
    name = trial.path.name
    _check_files(path, trial)
    try:
        bodies = [read_json(trial / file) for file in RECORDS]
        record = next(body for body in bodies if body is not None)
        lacking = sorted(file for file in record["files"] if not (trial / file).is_file())
        archives = _archives(path, manifest, sha256, name)
        write_json(trial / ORIGIN, {"left_out": lacking, "archives": archives})
        why = _shapeless(trial, record) or _contradiction(trial, record, lacking, descriptions)
    except StopIteration as error:
        raise refused(path, f"trial {name} has no record") from error
    except UNREADABLE as error:
        raise refused(
            path, f"the record of trial {name} cannot be read ({type(error).__name__}: {error})"
        ) from error
    if why:
        raise refused(path, f"trial {name} {why}")
    return trial


def _check_files(path: Path, trial: TrialDirectory) -> None:
    """UserError for a file of a trial that is damaged, or that no trial has."""
    record: Json = {}
    # Text first: it says how long arrays may be.
    for file in sorted(sorted(trial.path.iterdir()), key=lambda f: not f.suffix.startswith(".js")):
        try:
            if file.name == CORRUPTED:
                for evidence in sorted(file.iterdir()):
                    check_corrupted(evidence, record)
            elif file.suffix == ".json":
                body = plain_json(file.read_bytes())
                record = body if file.name in RECORDS else record
            elif file.suffix == ".jsonl":
                check_json_lines(file.read_bytes())
            elif file.suffix == ".npz":
                check_arrays(file, record)
            else:
                check_tensors(file)
        except UNREADABLE as error:
            reason = str(error) or type(error).__name__
            where = f"trials/{trial.path.name}/{file.name}"
            raise refused(path, f"{where} cannot be read ({reason})") from error


def _check_names(*names: object) -> None:
    """ValueError unless names are those of registries: a path would be a file to run."""
    for name in names:
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            raise ValueError(f"{name!a} is no name of a method, a dataset or a network")


def _shapeless(trial: TrialDirectory, record: Json) -> str:
    """What in a record, its curve or its views is not of the kind that a report expects.

    Empty when all is.
    """
    spec = record["spec"]
    _check_names(spec["method"], spec["backbone"]["name"], spec["dataset"]["name"])
    if wrong := shapeless(record):
        return f"has no usable {', '.join(wrong)}"
    if CURVE_FILE in trial.damaged_notes(record):
        return f"has no usable {CURVE_FILE}"
    if (trial / REPRESENTATIONS).is_file():
        stored_statistics(trial, record)
    return ""


def _archives(path: Path, manifest: Json, sha256: str, name: str) -> list[Json]:
    """The way of a trial: the archives that the exporter had it from, then this one."""
    earlier = [dict(archive) for archive in manifest["trials"][name]["archives"]]
    own = {
        "archive": path.name,
        "sha256": sha256,
        "by": str(manifest["by"]),
        "environment": dict(manifest["environment"]),
    }
    return [*earlier, own]


def _contradiction(
    trial: TrialDirectory, record: Json, lacking: Sequence[str], descriptions: dict[str, Json]
) -> str:
    """What in a trial cannot be; empty when all agrees."""
    spec = read_json(trial / "spec.json") or {}
    identity = spec_id(record["spec"])
    if record["format"] != RECORD_FORMAT:
        return (
            f"has a record of format {record['format']}, and this version of the harness reads"
            f" {RECORD_FORMAT}; update"
        )
    if why := fault(record):
        return f"has a record that {why}"
    if not trial.path.name == record["trial_id"] == identity:
        return f"is called so, but its spec has the id {identity}: trials cannot be renamed"
    if {key: value for key, value in spec.items() if key != "label"} != record["spec"]:
        return "has a spec.json and a record.json that tell of different trials"
    if set(lacking) - {WEIGHTS} or finished(trial) is None:
        return (
            f"lacks files that its record names: {', '.join(lacking) or 'not of the recorded size'}"
        )
    if changed := trial.corrupted(record):
        return f"has other bytes in {' and '.join(changed)} than its record says (sha256)"
    return (
        _wrong_data(record, descriptions)
        or _wrong_values(trial, record)
        or _wrong_corrupted(trial, record)
    )


def _wrong_data(record: Json, descriptions: dict[str, Json]) -> str:
    facts = record["spec"]["dataset"]
    description = descriptions.get(description_name({"facts": facts}))
    if description is None:
        return "is on data that the archive does not describe"
    spec = spec_of(description["spec"])
    told = (
        spec.name,
        spec.synthetic,
        spec.metric,
        [c.name for c in lattice(spec.names)],
        description["counts"],
    )
    recorded = (
        facts["name"],
        facts["synthetic"],
        record["metric"],
        record["combinations"],
        record["counts"],
    )
    if told != recorded or record["synthetic"] != facts["synthetic"]:
        return "and the description of its data do not agree"
    return ""


def _wrong_corrupted(trial: TrialDirectory, record: Json) -> str:
    """Whether evidence under corruptions is of this trial's weights and test samples."""
    combinations = lattice(record["combinations"][-1].split("+"))
    for file in sorted((trial / CORRUPTED).glob("*.npz")):
        one = read_facts(file, record)
        if one is None:
            return f"has {CORRUPTED}/{file.name}, which is no evidence of its weights"
        expected = len(combinations_with(combinations, one.condition)), record["counts"]["test"]
        if tuple(one.scores().shape[:2]) != expected:
            return f"has {CORRUPTED}/{file.name}, which is not of its combinations and samples"
    return ""


def _wrong_values(trial: TrialDirectory, record: Json) -> str:
    """Whether the recorded values follow from the evidence.

    Those of the last epoch cannot be checked, its evidence is not kept.
    """
    splits = [split for split in EVIDENCE_SPLITS if split in record["cells"]]
    combinations = lattice(record["combinations"][-1].split("+"))
    different = different_cells(trial, record, combinations, splits)
    return f"has values that its evidence contradicts: {different}" if different else ""
