"""python -m datasets.sample: what it writes, says and refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from datasets import sample
from datasets.samples import casia_surf
from harness.cli import guarded


def contents(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_it_writes_says_and_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casia_surf, "SUBJECTS", {"train": 2, "val": 1, "test": 2})
    folders = [tmp_path / name for name in ("a", "b", "c")]
    assert guarded(sample.main, ["casia_surf", str(folders[0])]) == 0
    said = capsys.readouterr().out
    assert (
        "156 files" in said
        and f"harness.run study=casia_all_methods dataset.root={folders[0]} preset=smoke" in said
    )
    assert "seed 0" in (folders[0] / "SYNTHETIC.md").read_text()
    assert guarded(sample.main, ["casia_surf", str(folders[1]), "seed=0"]) == 0
    assert guarded(sample.main, ["casia_surf", str(folders[2]), "seed=1"]) == 0
    first, again, other = map(contents, folders)
    assert first == again and first != other


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["casia_surff", "x"], "did you mean 'casia_surf'"),
        (["casia_surf"], "name one folder"),
        (["casia_surf", "x", "y"], "name one folder"),
        (["casia_surf", "x", "seed=-1"], "seed=-1"),
        (["--folder", "x"], "unknown option --folder"),
    ],
)
def test_mistakes(
    words: list[str],
    part: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(sample.main, words) == 2
    message = capsys.readouterr().err
    assert part in message and message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert guarded(sample.main, ["casia_surf", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert contents(tmp_path) == {"thesis.txt": hashlib.sha256(b"mine").hexdigest()}


def test_help_names_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(sample.main, ["--help"]) == 0
    assert "casia_surf" in capsys.readouterr().out
