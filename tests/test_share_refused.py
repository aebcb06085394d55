"""Archives that are cut off, changed, or forged with care: refused in one sentence, and nothing of them gets in."""

from __future__ import annotations

import io
import json
import random
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness import share
from harness.archive import FORMAT
from harness.cli import guarded
from harness.store import Store
from harness.trial import spec_id
from tests.archives import Files, contents, edited, forged, snapshot, write_zip
from tests.handmade import ladder, planned, write_trial

COMMAND = ("study=quickstart", "dataset.limit=60", "methods=[sf_md]", "seeds=[0,1]")
Change = Callable[[Files], None]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    plan, store = planned(folder, *COMMAND[2:])
    for seed in (0, 1):
        write_trial(plan, store, "sf_md", seed, ladder(20 + seed))
    path = folder / "shared.zip"
    assert guarded(share.main, ["export", *COMMAND, f"output={folder}", str(path)]) == 0
    return path


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """``refused(path)`` imports an archive, and gives the sentence of the refusal; nothing may be left behind."""

    def attempt(path: Path) -> str:
        store = Store.below(tmp_path / "elsewhere")
        capsys.readouterr()
        assert guarded(share.main, ["import", str(path), f"output={store.root.parent}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
        assert snapshot(store) == {} and not (store.root / "incoming").exists()
        assert not (store.root.parent / "imported").exists()
        return error

    return attempt


def trial_in(files: Files) -> str:
    """The first trial's folder."""
    return min(name for name in files if name.startswith("trials/")).rpartition("/")[0]


# ---------------------------------------------------------------------- damage


def test_an_archive_that_was_cut_off(archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    body, cut = archive.read_bytes(), tmp_path / "cut.zip"
    for length in (0, 1, 100, len(body) // 2, len(body) - 1):
        cut.write_bytes(body[:length])
        # A file of weights is a zip itself: its end may be taken for that of what was cut off.
        assert re.search("cut.zip: it (is not an archive, or was cut off|has no manifest.json: it was cut off)", refused(cut))
    cut.write_bytes(b"this is no zip at all")
    assert "it is not an archive" in refused(cut)


def test_no_changed_byte_gets_in(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One byte changed anywhere: refused, or, where a zip keeps what says nothing of its files, the same store."""
    body, changed, rng = archive.read_bytes(), tmp_path / "changed.zip", random.Random(0)
    clean = Store.below(tmp_path / "clean")
    assert guarded(share.main, ["import", str(archive), f"output={clean.root.parent}"]) == 0
    expected = {name: held for name, held in snapshot(clean).items() if not name.endswith("origin.json")}
    refusals = 0
    for at in rng.sample(range(len(body)), 60):
        changed.write_bytes(body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :])
        store = Store.below(tmp_path / f"at{at}")
        code = guarded(share.main, ["import", str(changed), f"output={store.root.parent}"])
        found = {name: held for name, held in snapshot(store).items() if not name.endswith("origin.json")}
        assert (code, found) in [(2, {}), (0, expected)], f"byte {at}: {capsys.readouterr().err}"
        refusals += code == 2
    assert refusals >= 45


# ---------------------------------------------------------------------- forgery


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
    edited(files, f"{trial_in(files)}/record.json", lambda body: body["cells"]["test"]["thumb"].update(value=99.0))


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
    files["studies/quickstart.yaml"] = files["studies/quickstart.yaml"].replace(b"dataset:\n", b"dataset:\n  root: /etc\n")


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


FORGERIES: list[tuple[Change, str]] = [
    (renamed, "is called so, but its spec has the id"),
    (another_seed, "is called so, but its spec has the id"),
    (better_values, "record.json says 99 on 60 samples, and scores.npz gives 33.3333 on 60 samples"),
    (better_scores, "has other bytes in scores.npz than its record says"),
    (real_data, "and the description of its data do not agree"),
    (other_facts, "is not named by the facts that it holds"),
    (a_folder_of_theirs, "studies/quickstart.yaml has keys that no exported study has"),
    (a_root_of_theirs, "studies/quickstart.yaml has keys that no exported study has"),
    (no_scores, "lacks files that its record names: scores.npz"),
    (no_record, "has no record"),
    (no_json, "has no record"),
    (empty_record, "cannot be read (KeyError"),
    (other_record_format, "has a record of format 99, and this version of the harness reads 1"),
    (unknown_metric, "and the description of its data do not agree"),
    (broken_curve, "cannot be read (JSONDecodeError"),
]


@pytest.mark.parametrize(("change", "sentence"), FORGERIES, ids=[change.__name__ for change, _ in FORGERIES])
def test_a_forged_archive(change: Change, sentence: str, archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    assert sentence in refused(forged(archive, tmp_path / "forged.zip", change))


def test_a_forger_who_changes_the_spec_gets_another_trial(archive: Path) -> None:
    """The id is the hash of the spec: whoever changes the spec and the name alike has made another trial, not that one."""
    files = contents(archive)
    body = json.loads(files[f"{trial_in(files)}/record.json"])
    assert spec_id(body["spec"]) == body["trial_id"] == trial_in(files).removeprefix("trials/")
    assert spec_id(body["spec"] | {"seed": 7}) != body["trial_id"]


# ---------------------------------------------------------------------- names and kinds of files


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.json", "/tmp/outside.json", "trials/../../outside.json", "trials/0123456789abcdef/../x.json"),
        *("trials/0123456789abcdef/x.py", "trials/0123456789abcdef/.hidden.json", "trials/0123456789ABCDEF/record.json"),
        *("studies/../x.yaml", "studies/.x.yaml", "studies/a/b.yaml", "studies\\x.yaml", "data/x.json", "extra.txt"),
        *("trials/0123456789abcdef/record.json/x.json", "trials/0123456789abcdef/\u0661.json"),
    ],
)
def test_names_that_lead_elsewhere(name: str, archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    path = forged(archive, tmp_path / "names.zip", lambda files: files.update({name: b"{}"}))
    assert "it has names that no archive has" in refused(path)
    assert not (tmp_path / "outside.json").exists() and not Path("/tmp/outside.json").exists()


def test_links_are_no_files(archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    path = tmp_path / "links.zip"
    files = contents(archive)
    linked = f"{trial_in(files)}/record.json"
    with zipfile.ZipFile(path, "w") as target:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name == linked else stat.S_IFREG) | 0o644) << 16
            target.writestr(info, body)
    assert f"links or other things that are no files: '{linked}'" in refused(path)


def test_files_that_the_manifest_does_not_list_or_the_archive_does_not_have(
    archive: Path, tmp_path: Path, refused: Callable[[Path], str]
) -> None:
    path, files = tmp_path / "other.zip", contents(archive)
    extra = f"{trial_in(files)}/extra.json"
    assert f"files that its manifest does not list: '{extra}'" in refused(write_zip(path, files | {extra: b"{}"}))
    name = f"{trial_in(files)}/weights.pt"
    path.unlink()
    missing = write_zip(path, {key: body for key, body in files.items() if key != name})
    assert f"no file for these names of its manifest: '{name}'" in refused(missing)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice(archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    path, files = tmp_path / "twice.zip", contents(archive)
    name = f"{trial_in(files)}/record.json"
    with zipfile.ZipFile(path, "w") as target:
        for key, body in [*files.items(), (name, b"{}")]:
            target.writestr(key, body)
    assert f"names that stand in it twice: '{name}'" in refused(path)


def test_a_few_bytes_that_unpack_to_many(archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    path, files = tmp_path / "bomb.zip", contents(archive)
    name = f"{trial_in(files)}/metrics.jsonl"
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = {"bytes": 10, "sha256": "0" * 64}
    files |= {name: b"0" * 10_000_000, "manifest.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for key, body in files.items():
            target.writestr(key, body)
    assert path.stat().st_size < 1_000_000
    assert f"{name} is not what the manifest says it is" in refused(path)


def test_other_archives_and_other_formats(archive: Path, tmp_path: Path, refused: Callable[[Path], str]) -> None:
    other = write_zip(tmp_path / "other.zip", {"readme.txt": b"holiday pictures"})
    assert "it has no manifest.json: it was cut off, or is no archive" in refused(other)
    files = contents(archive)
    manifest = json.loads(files["manifest.json"])
    for change, sentence in (
        ({"kind": "pictures"}, "is not one of trials of the harness"),
        ({"format": FORMAT + 1}, f"it has format {FORMAT + 1}, and this version of the harness reads {FORMAT}; update"),
        ({"files": ["a"]}, "does not list files with their sizes and sha256"),
        ({"trials": {}}, "cannot be read (KeyError"),
    ):
        body = json.dumps(manifest | change).encode()
        assert sentence in refused(write_zip(tmp_path / "changed.zip", files | {"manifest.json": body}))
        (tmp_path / "changed.zip").unlink()
