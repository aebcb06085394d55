"""Archives that cost more than they weigh, or reach further than data can, are refused cheaply."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import report
from harness.cli import guarded
from harness.store import Store
from tests.sharing.test_share_refused import recorded
from tests.support.archives import Files, Refused, edited, forged, imported, trial_in

GIB = 2**30

IMPORT_EACH = """
import sys, time
from harness import share
from harness.cli import guarded

for archive in sys.argv[2:]:
    started = time.monotonic()
    code = guarded(share.main, ["import", archive, f"output={sys.argv[1]}"])
    print("done", code, round(time.monotonic() - started, 1), flush=True)
# getrusage would tell of the process that started this one too.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print("peak", int(peak) * 1024)
"""


def data_in(files: Files) -> str:
    return next(name for name in files if name.startswith("data/"))


def packed_scores(files: Files) -> None:
    """1.2 MB of scores that unpack to 1.2 GB, recorded with their size and sha256."""
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (7, 60, 3_000_000)}
    np.lib.format.write_array_header_1_0(header, shape)
    stream, chunk = io.BytesIO(), bytes(2**24)
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as arrays,
        arrays.open("test.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(75):
            member.write(chunk)
    files[f"{trial_in(files)}/scores.npz"] = stream.getvalue()
    recorded(files, "scores.npz")


def promised_scores(files: Files) -> None:
    """An array whose header promises terabytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (7, 60, 10**10)}
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as arrays:
        arrays.writestr("test.npy", header.getvalue() + bytes(100))
    files[f"{trial_in(files)}/scores.npz"] = stream.getvalue()
    recorded(files, "scores.npz")


def other_shape(files: Files) -> None:
    """More samples than the record tells of."""
    stream = io.BytesIO()
    np.savez(stream, test=np.zeros((7, 61, 10), np.float32))
    files[f"{trial_in(files)}/scores.npz"] = stream.getvalue()
    recorded(files, "scores.npz")


def pickled_weights(files: Files) -> None:
    """A pickle that would run a command when it is loaded."""

    class Command:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    stream = io.BytesIO()
    torch.save({"w": Command()}, stream, pickle_module=pickle)
    files[f"{trial_in(files)}/weights.pt"] = stream.getvalue()
    recorded(files, "weights.pt")


def plain_pickle(files: Files) -> None:
    files[f"{trial_in(files)}/weights.pt"] = pickle.dumps({"w": [1]})
    recorded(files, "weights.pt")


def expanded_weights(files: Files) -> None:
    """A tensor that is one number, seen a million million times."""
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(1).expand(10**12)}, stream)
    files[f"{trial_in(files)}/weights.pt"] = stream.getvalue()
    recorded(files, "weights.pt")


def forty_modalities(files: Files) -> None:
    def change(body: dict) -> None:  # type: ignore[type-arg]
        first = body["spec"]["modalities"][0]
        body["spec"]["modalities"] = [first | {"name": f"m{i}"} for i in range(40)]

    edited(files, data_in(files), change)


def not_a_number(files: Files) -> None:
    key = f"{trial_in(files)}/record.json"
    files[key] = files[key].replace(b'"val_mean": 50.0', b'"val_mean": NaN')


def endless_number(files: Files) -> None:
    key = f"{trial_in(files)}/record.json"
    files[key] = files[key].replace(b'"val_mean": 50.0', b'"val_mean": 1e999')


def long_number(files: Files) -> None:
    edited(files, f"{trial_in(files)}/record.json", lambda body: body.update(epochs=10**400))


def escaped_label(files: Files) -> None:
    """A label that clears the terminal of whoever reads it."""
    edited(files, f"{trial_in(files)}/spec.json", lambda body: body.update(label="a\x1b[2J"))


def escaped_giver(files: Files) -> None:
    edited(files, "manifest.json", lambda body: body.update(by="Ann\x1b]0;title\x07"))


def method_of_a_path(files: Files) -> None:
    edited(files, data_in(files), lambda body: body["facts"].update(name="/tmp/x.py"))


def aliases(files: Files) -> None:
    """A few lines that stand for a thousand million values."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    files["studies/quickstart.yaml"] = "\n".join(lines).encode()


def network_file(files: Files) -> None:
    body = files["studies/quickstart.yaml"]
    files["studies/quickstart.yaml"] = body.replace(b"  name: small", b"  name: ./small.py")


def weights_of_a_path(files: Files) -> None:
    body = files["studies/quickstart.yaml"]
    files["studies/quickstart.yaml"] = body.replace(
        b"backbone:\n", b"backbone:\n  pretrained: /etc/passwd\n"
    )


CHEAP: list[tuple[Callable[[Files], None], str]] = [
    (promised_scores, "its test.npy promises 16,800,000,000,000 bytes and holds 100"),
    (other_shape, "its test.npy has the shape (7, 61, 10), and its record tells of (7, 60)"),
    (pickled_weights, "weights.pt cannot be read (it holds more than tensors"),
    (plain_pickle, "weights.pt cannot be read (File is not a zip file"),
    (expanded_weights, "its tensors would take 4,000,000,000,000 bytes"),
    (forty_modalities, "there are 40 modalities (m0, m1, m2 and 37 more)"),
    (not_a_number, "record.json cannot be read (NaN is no number of a result)"),
    (endless_number, "record.json cannot be read (1e999 is no number of a result)"),
    (long_number, "is larger than anything that is counted"),
    (escaped_label, "has characters that cannot be printed"),
    (escaped_giver, "has characters that cannot be printed"),
    (method_of_a_path, "is no name of a method, a dataset or a network"),
    (aliases, "studies/quickstart.yaml is not a readable study"),
    (network_file, "came in an archive and names ./small.py"),
    (weights_of_a_path, "came in an archive and names backbone.pretrained"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), CHEAP, ids=[change.__name__ for change, _ in CHEAP]
)
def test_what_no_archive_holds(
    change: Callable[[Files], None],
    sentence: str,
    archive: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    said = refused(forged(archive, tmp_path / "forged.zip", change))
    assert sentence in said
    assert all(character.isprintable() for character in said.rstrip("\n"))


def test_bombs_are_refused_within_a_gibibyte_and_in_seconds(archive: Path, tmp_path: Path) -> None:
    """Two megabytes that unpack to more than a gigabyte, two ways, and a manifest of 180 MB."""
    inner = forged(archive, tmp_path / "inner.zip", packed_scores)
    outer = tmp_path / "outer.zip"
    with zipfile.ZipFile(archive) as source:
        held = {name: source.read(name) for name in source.namelist()}
    name, size = f"{trial_in(held)}/scores.npz", 0
    manifest = json.loads(held.pop("manifest.json"))
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        with target.open(name, "w", force_zip64=True) as member:
            for _ in range(70):
                size += member.write(bytes(2**24))
        manifest["files"][name]["bytes"] = size
        held[name] = b""
        for other in held:
            if other != name:
                target.writestr(other, held[other])
        target.writestr("manifest.json", json.dumps(manifest))
    long = tmp_path / "long.zip"
    with zipfile.ZipFile(long, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.writestr("manifest.json", b"{" + b" " * 180_000_000 + b"}")
    many = tmp_path / "many.zip"
    end = b"PK\x05\x06" + bytes(6) + (9).to_bytes(2, "little")
    many.write_bytes(bytes(99) + end + (2**27).to_bytes(4, "little") + bytes(6))
    assert max(path.stat().st_size for path in (inner, outer, long)) < 8e6

    archives = [str(path) for path in (inner, outer, long, many)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, str(tmp_path / "out"), *archives],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    *each, peak = done.stdout.splitlines()
    assert [line.split()[:2] for line in each] == [["done", "2"]] * 4
    assert max(float(line.split()[2]) for line in each) < 30
    assert int(peak.split()[1]) < GIB
    said = done.stderr.splitlines()
    assert len(said) == 4 and all(line.startswith("error: ") for line in said)
    expected = ("its test.npy is packed", "unpacks", "has no manifest.json", "lists more files")
    assert all(why in line for why, line in zip(expected, said, strict=True)), said


# ---------------------------------------------------------------------- what is data stays data


def test_a_description_with_a_variable_tells_nothing_of_the_reader(
    archive: Path, elsewhere: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "hunter2-of-mine")

    def curious(files: Files) -> None:
        old = files["studies/quickstart.yaml"]
        new = b"description: '${oc.env:SECRET_OF_MINE} <script>alert(1)</script>'\n"
        lines = old.splitlines(keepends=True)
        first = next(i for i, line in enumerate(lines) if line.startswith(b"methods:"))
        files["studies/quickstart.yaml"] = new + b"".join(lines[first:])

    assert imported(forged(archive, tmp_path / "curious.zip", curious), elsewhere) == 0
    output = elsewhere.root.parent
    study = output / "imported" / "curious.yaml"
    assert guarded(report.main, [f"study={study}", f"output={output}"]) == 0
    page = (output / "curious" / "report.html").read_text()
    # It has been read, and stands there as text.
    assert "${oc.env:SECRET_OF_MINE} &lt;script&gt;alert(1)" in page
    for path in output.rglob("*"):
        assert not path.is_file() or b"hunter2-of-mine" not in path.read_bytes(), path


def test_a_method_file_is_not_run_because_an_archive_names_it(
    archive: Path,
    elsewhere: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file of that name lies where the reader stands; it is run when he names it himself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("open('ran', 'w').close()\n")

    def own(files: Files) -> None:
        body = files["studies/quickstart.yaml"]
        files["studies/quickstart.yaml"] = body.replace(b"method: hemis", b"method: ./own.py")

    assert imported(forged(archive, tmp_path / "own.zip", own), elsewhere) == 0
    output = elsewhere.root.parent
    arguments = [f"study={output}/imported/own.yaml", f"output={output}"]
    capsys.readouterr()
    assert guarded(report.main, arguments) == 2
    said = capsys.readouterr().err
    assert "its method file ./own.py is not run" in said and said.count("\n") == 1
    assert not (tmp_path / "ran").exists()
    assert "name all rows that own.yaml lists, with your own copy, such as methods=[sf_md,{" in said
    assert guarded(report.main, [*arguments, "methods=[sf_md]"]) == 0
    assert not (tmp_path / "ran").exists()
