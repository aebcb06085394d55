"""Archives that are cut off, damaged, or hold what no archive holds are refused in one sentence."""

from __future__ import annotations

import json
import random
import re
import stat
import zipfile
from pathlib import Path

import pytest

from harness.sharing.archive import FORMAT
from harness.store import Store
from tests.support.archives import (
    Refused,
    contents,
    forged,
    imported,
    snapshot,
    trial_in,
    write_zip,
)

# ---------------------------------------------------------------------- damage


def test_an_archive_that_was_cut_off(archive: Path, tmp_path: Path, refused: Refused) -> None:
    body, cut = archive.read_bytes(), tmp_path / "cut.zip"
    for length in (0, 1, 100, len(body) // 2, len(body) - 1):
        cut.write_bytes(body[:length])
        # A file of weights is a zip itself: its end may be taken for that of what was cut off.
        assert re.search(
            "cut.zip: it (is not an archive, or was cut off|has no manifest.json: it was cut off)",
            refused(cut),
        )
    cut.write_bytes(b"this is no zip at all")
    assert "it is not an archive" in refused(cut)


def test_no_changed_byte_gets_in(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An archive with one changed byte is refused, or gives the same store.

    The latter where the byte is one that says nothing of the zip's files.
    """
    body, changed, rng = archive.read_bytes(), tmp_path / "changed.zip", random.Random(0)
    clean = Store.below(tmp_path / "clean")
    assert imported(archive, clean) == 0
    expected = snapshot(clean, without="origin.json")
    refusals = 0
    for at in rng.sample(range(len(body)), 40):
        changed.write_bytes(
            body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :]
        )
        store = Store.below(tmp_path / f"at{at}")
        code = imported(changed, store)
        held = snapshot(store, without="origin.json")
        assert (code, held) in [(2, {}), (0, expected)], f"byte {at}: {capsys.readouterr().err}"
        refusals += code == 2
    assert refusals >= 30


# ---------------------------------------------------------------------- names and kinds of files


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../outside.json",
            "/tmp/outside.json",
            "trials/../../outside.json",
            "trials/0123456789abcdef/../x.json",
        ),
        *(
            "trials/0123456789abcdef/x.py",
            "trials/0123456789abcdef/.hidden.json",
            "trials/0123456789ABCDEF/record.json",
        ),
        *(
            "studies/../x.yaml",
            "studies/.x.yaml",
            "studies/a/b.yaml",
            "studies\\x.yaml",
            "data/x.json",
            "extra.txt",
        ),
        *("trials/0123456789abcdef/record.json/x.json", "trials/0123456789abcdef/\u0661.json"),
    ],
)
def test_names_that_lead_elsewhere(
    name: str, archive: Path, tmp_path: Path, refused: Refused
) -> None:
    path = forged(archive, tmp_path / "names.zip", lambda files: files.update({name: b"{}"}))
    assert "it has names that no archive has" in refused(path)
    assert not (tmp_path / "outside.json").exists() and not Path("/tmp/outside.json").exists()


def test_links_are_no_files(archive: Path, tmp_path: Path, refused: Refused) -> None:
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
    archive: Path, tmp_path: Path, refused: Refused
) -> None:
    path, files = tmp_path / "other.zip", contents(archive)
    extra = f"{trial_in(files)}/extra.json"
    assert f"files that its manifest does not list: '{extra}'" in refused(
        write_zip(path, files | {extra: b"{}"})
    )
    name = f"{trial_in(files)}/weights.pt"
    path.unlink()
    missing = write_zip(path, {key: body for key, body in files.items() if key != name})
    assert f"no file for these names of its manifest: '{name}'" in refused(missing)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice(archive: Path, tmp_path: Path, refused: Refused) -> None:
    path, files = tmp_path / "twice.zip", contents(archive)
    name = f"{trial_in(files)}/record.json"
    with zipfile.ZipFile(path, "w") as target:
        for key, body in [*files.items(), (name, b"{}")]:
            target.writestr(key, body)
    assert f"names that stand in it twice: '{name}'" in refused(path)


def test_a_few_bytes_that_unpack_to_many(archive: Path, tmp_path: Path, refused: Refused) -> None:
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


def test_other_archives_and_other_formats(archive: Path, tmp_path: Path, refused: Refused) -> None:
    other = write_zip(tmp_path / "other.zip", {"readme.txt": b"holiday pictures"})
    assert "it has no manifest.json: it was cut off, or is no archive" in refused(other)
    files = contents(archive)
    manifest = json.loads(files["manifest.json"])
    for change, sentence in (
        ({"kind": "pictures"}, "is not one of trials of the harness"),
        (
            {"format": FORMAT + 1},
            f"it has format {FORMAT + 1}, and this version of the harness reads {FORMAT}; update",
        ),
        ({"files": ["a"]}, "does not list files with their sizes and sha256"),
        ({"trials": {}}, "cannot be read (KeyError"),
    ):
        body = json.dumps(manifest | change).encode()
        assert sentence in refused(
            write_zip(tmp_path / "changed.zip", files | {"manifest.json": body})
        )
        (tmp_path / "changed.zip").unlink()
