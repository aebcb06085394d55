"""Archives that were forged with care are refused in one sentence."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.training.spec import spec_id
from tests.support.archives import Files, Refused, contents, edited, forged, trial_in

Change = Callable[[Files], None]


def renamed(files: Files) -> None:
    """The trial under another id, everywhere but in its spec."""
    old = trial_in(files)
    name = old.removeprefix("trials/")
    for key in [key for key in files if key.startswith(old)]:
        files[key.replace(name, "0" * 16)] = files.pop(key).replace(name.encode(), b"0" * 16)
    manifest = files["manifest.json"]
    files["manifest.json"] = manifest.replace(name.encode(), b"0" * 16)


def another_seed(files: Files) -> None:
    """A trial that says it had another seed."""
    for name in ("record.json", "spec.json"):
        key = f"{trial_in(files)}/{name}"
        edited(files, key, lambda body: body.get("spec", body).update(seed=7))


def better_values(files: Files) -> None:
    """A record with better values than its scores give."""
    edited(
        files,
        f"{trial_in(files)}/record.json",
        lambda body: body["cells"]["test"]["thumb"].update(value=99.0),
    )


def better_scores(files: Files) -> None:
    """Other scores than were recorded, and a record that was not touched."""
    key = f"{trial_in(files)}/scores.npz"
    with np.load(io.BytesIO(files[key])) as arrays:
        held = dict(arrays)
    held["test"] = np.eye(10, dtype=np.float32)[np.stack([held["test_target"]] * 7)]
    stream = io.BytesIO()
    np.savez(stream, **held)
    files[key] = stream.getvalue()


def real_data(files: Files) -> None:
    """Data that are said to be something else."""
    name = next(name for name in files if name.startswith("data/"))
    edited(files, name, lambda body: body["spec"].update(metric="acer"))


def other_facts(files: Files) -> None:
    name = next(name for name in files if name.startswith("data/"))
    edited(files, name, lambda body: body["facts"].update(fingerprint="0" * 16))


def a_folder_of_theirs(files: Files) -> None:
    files["studies/quickstart.yaml"] += b"output: /tmp/elsewhere\n"


def a_root_of_theirs(files: Files) -> None:
    files["studies/quickstart.yaml"] = files["studies/quickstart.yaml"].replace(
        b"dataset:\n", b"dataset:\n  root: /etc\n"
    )


def no_scores(files: Files) -> None:
    del files[f"{trial_in(files)}/scores.npz"]


def no_record(files: Files) -> None:
    del files[f"{trial_in(files)}/record.json"]


def no_json(files: Files) -> None:
    files[f"{trial_in(files)}/record.json"] = b"[1, 2"


def empty_record(files: Files) -> None:
    files[f"{trial_in(files)}/record.json"] = b'{"format": 1}'


def other_record_format(files: Files) -> None:
    edited(files, f"{trial_in(files)}/record.json", lambda body: body.update(format=99))


def unknown_metric(files: Files) -> None:
    edited(files, f"{trial_in(files)}/record.json", lambda body: body.update(metric="luck"))


def broken_curve(files: Files) -> None:
    files[f"{trial_in(files)}/metrics.jsonl"] = b"not json\n"


def other_kinds(files: Files) -> None:
    """Values that a report would add up, as text."""
    edited(
        files,
        f"{trial_in(files)}/record.json",
        lambda body: body.update(
            train_seconds="1.5", parameters={"training": None}, normalisation={"m": {"mean": [0]}}
        ),
    )


def strange_scores(files: Files) -> None:
    """Scores of an odd shape, recorded with their own size and sha256."""
    key = f"{trial_in(files)}/scores.npz"
    stream = io.BytesIO()
    np.savez(
        stream,
        val=np.zeros(3),
        test=np.zeros((2, 2)),
        val_available=np.zeros(1),
        test_available=np.zeros(1),
    )
    files[key] = stream.getvalue()
    recorded(files, "scores.npz")


def scores_that_are_no_arrays(files: Files) -> None:
    files[f"{trial_in(files)}/scores.npz"] = b"PK\x03\x04 nothing"
    recorded(files, "scores.npz")


def pickled_scores(files: Files) -> None:
    """An array of objects would be unpickled, and that can run anything."""
    stream = io.BytesIO()
    np.savez(stream, val=np.array([{1: 2}], dtype=object), allow_pickle=True)
    files[f"{trial_in(files)}/scores.npz"] = stream.getvalue()
    recorded(files, "scores.npz")


def recorded(files: Files, name: str) -> None:
    """The record tells of the file as it is now."""
    body = files[f"{trial_in(files)}/{name}"]
    facts = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    edited(
        files,
        f"{trial_in(files)}/record.json",
        lambda record: record["files"].update({name: facts}),
    )


def views_that_are_none(files: Files) -> None:
    stream = io.BytesIO()
    np.savez(stream, other=np.zeros(1))
    files[f"{trial_in(files)}/views.npz"] = stream.getvalue()


def deep_record(files: Files) -> None:
    files[f"{trial_in(files)}/record.json"] = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


FORGERIES: list[tuple[Change, str]] = [
    (renamed, "is called so, but its spec has the id"),
    (another_seed, "is called so, but its spec has the id"),
    (better_values, "record.json says 99 on 60 samples, and scores.npz gives"),
    (better_scores, "has other bytes in scores.npz than its record says"),
    (real_data, "and the description of its data do not agree"),
    (other_facts, "is not named by the facts that it holds"),
    (a_folder_of_theirs, "came in an archive and names output"),
    (a_root_of_theirs, "came in an archive and names dataset.root"),
    (no_scores, "lacks files that its record names: scores.npz"),
    (no_record, "has no record"),
    (no_json, "record.json cannot be read (Expecting"),
    (empty_record, "cannot be read (KeyError"),
    (other_record_format, "has a record of format 99, and this version of the harness reads 1"),
    (unknown_metric, "and the description of its data do not agree"),
    (broken_curve, "metrics.jsonl cannot be read (Expecting value"),
    (other_kinds, "has no usable train_seconds, parameters, normalisation"),
    (strange_scores, "cannot be read ("),
    (scores_that_are_no_arrays, "scores.npz cannot be read (File is not a zip file"),
    (pickled_scores, "its val.npy holds object, and no numbers"),
    (views_that_are_none, "cannot be read (KeyError"),
    (deep_record, "record.json cannot be read (maximum recursion depth"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), FORGERIES, ids=[change.__name__ for change, _ in FORGERIES]
)
def test_a_forged_archive(
    change: Change, sentence: str, archive: Path, tmp_path: Path, refused: Refused
) -> None:
    assert sentence in refused(forged(archive, tmp_path / "forged.zip", change))


def test_a_forger_who_changes_the_spec_gets_another_trial(archive: Path) -> None:
    """The id is the hash of the spec.

    Whoever changes the spec and the name alike has made another trial, not that one.
    """
    files = contents(archive)
    body = json.loads(files[f"{trial_in(files)}/record.json"])
    assert spec_id(body["spec"]) == body["trial_id"] == trial_in(files).removeprefix("trials/")
    assert spec_id(body["spec"] | {"seed": 7}) != body["trial_id"]
