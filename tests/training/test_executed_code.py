"""Code hashes: what an edit must change, and what it must not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness.training.executed_code
from harness import PROJECT
from harness.registry import METHODS
from harness.training.executed_code import code_hash, environment, source_hash

SOURCE = '''"""Doc."""

LEVEL = 3


class A:
    """Doc."""

    def scaled(self, x: float) -> float:
        """Doc."""
        return x * LEVEL  # why


def empty() -> None:
    """Nothing but this."""
'''
HARMLESS = [
    ('"""Doc."""\n\nLEVEL', '"""Another."""\n\nLEVEL'),
    ('"""Doc."""\n\nLEVEL', "LEVEL"),
    ('    """Doc."""\n\n    def', "    def"),
    ('        """Doc."""\n', ""),
    ("  # why", ""),
    ("LEVEL = 3\n", "# a constant\nLEVEL  =  (3)\n\n\n"),
    ('    """Nothing but this."""\n', "    pass\n"),
]
HARMFUL = [
    ("LEVEL = 3", "LEVEL = 3.0"),
    ("x * LEVEL", "LEVEL * x"),
    ("def scaled", "def times"),
    ("LEVEL = 3", 'LEVEL = 3\nTEXT = "Doc."'),
    ("class A:", "class A(object):"),
]


def hash_of(folder: Path, text: str) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    return source_hash(path)


@pytest.mark.parametrize(("old", "new"), HARMLESS)
def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    edited = SOURCE.replace(old, new, 1)
    assert edited != SOURCE
    assert hash_of(tmp_path, edited) == hash_of(tmp_path, SOURCE)


@pytest.mark.parametrize(("old", "new"), HARMFUL)
def test_code_counts(tmp_path: Path, old: str, new: str) -> None:
    edited = SOURCE.replace(old, new, 1)
    assert edited != SOURCE
    assert hash_of(tmp_path, edited) != hash_of(tmp_path, SOURCE)


def test_an_edit_in_place_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = 1\n")
    first = source_hash(path)
    path.write_text("x = 2\n")
    os.utime(path, ns=(1, 1))
    assert source_hash(path) != first


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's code that may be edited; code hashes are taken from it."""
    for folder in ("harness", "methods", "datasets"):
        shutil.copytree(
            PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    monkeypatch.setattr(harness.training.executed_code, "PROJECT", tmp_path)
    return tmp_path


def edited_hash(
    project: Path, file: str, addition: str, method: str = "methods/dmrnet.py"
) -> tuple[str, str]:
    """The hash of a method of the copied project before and after lines are added to one file."""
    cls = METHODS.get(str(project / method))
    before = code_hash(cls)
    path = project / file
    path.write_text(path.read_text() + addition)
    return before, code_hash(cls)


@pytest.mark.parametrize(
    "file",
    [
        "methods/dmrnet.py",
        "methods/_blocks.py",
        "harness/training/loop.py",
        "harness/training/trial.py",
        "harness/protocol/masks.py",
        "harness/data/augmentation.py",
        "harness/backbones/__init__.py",
        "harness/training/evaluation.py",
    ],
)
def test_a_trials_hash_follows_what_it_executes(project: Path, file: str) -> None:
    before, after = edited_hash(project, file, "\nEXTRA = 1\n")
    assert before != after


def test_a_new_helper_that_the_loop_calls_makes_trials_stale_when_it_changes(
    project: Path,
) -> None:
    loop = project / "harness" / "training" / "loop.py"
    (project / "harness" / "protocol" / "momentum.py").write_text("MOMENTUM = 0.9\n")
    loop.write_text(f"{loop.read_text()}\nfrom harness.protocol.momentum import MOMENTUM\n")
    before, after = edited_hash(project, "harness/protocol/momentum.py", "\nEXTRA = 1\n")
    assert before != after


@pytest.mark.parametrize("file", ["methods/_blocks.py", "harness/training/loop.py"])
def test_a_trials_hash_ignores_comments_in_what_it_executes(project: Path, file: str) -> None:
    before, after = edited_hash(project, file, "\n# EXTRA = 1\n")
    assert before == after


@pytest.mark.parametrize(
    "file",
    [
        "methods/hemis.py",
        "harness/store/files.py",
        "harness/study/config.py",
        "harness/schedule/on_ray/tune.py",
        "harness/analysis/statistics/pairs.py",
        "datasets/digits.py",
    ],
)
def test_a_trials_hash_ignores_what_it_does_not_execute(project: Path, file: str) -> None:
    before, after = edited_hash(project, file, "\nEXTRA = 1\n")
    assert before == after


IMPORTS = [
    "from methods._blocks import masked_concat",
    "from methods import _blocks",
    "import methods._blocks",
    "import methods._blocks as blocks",
]


@pytest.mark.parametrize("line", [*IMPORTS, "from methods.sf_md import SFMD as _Base"])
def test_imports_are_followed_in_every_form_and_through_other_files(
    project: Path, line: str
) -> None:
    own = "from harness.method import Method\n\n\nclass Mine(Method):\n    pass\n"
    (project / "my_method.py").write_text(f"{line}\n{own}")
    before, after = edited_hash(project, "methods/_blocks.py", "\nEXTRA = 1\n", "my_method.py")
    assert before != after


def test_imports_relative_to_the_folder_are_followed(project: Path) -> None:
    relative = (
        (project / "methods" / "sf_md.py")
        .read_text()
        .replace("from methods._blocks", "from ._blocks")
    )
    (project / "methods" / "sf_md.py").write_text(relative)
    followed = harness.training.executed_code._with_local_imports(project / "methods" / "sf_md.py")
    assert project / "methods" / "_blocks.py" in followed


HASH_OF_TRAIN = """
import sys
sys.path.insert(1, sys.argv[1])
import train
from harness.training.executed_code import code_hash
print(code_hash(train.Mine))
"""


def test_two_files_of_one_name_are_hashed_in_a_fixed_order(tmp_path: Path) -> None:
    # A user's train.py beside harness/training/loop.py: the seed of Python's string hashes decides
    # which comes first in a set.
    (tmp_path / "train.py").write_text("class Mine:\n    pass\n")
    hashes = set()
    for seed in range(6):
        command = [sys.executable, "-c", HASH_OF_TRAIN, str(tmp_path)]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        hashes.add(
            subprocess.run(
                command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
    assert len(hashes) == 1


def test_the_environment_is_plain_data_with_versions() -> None:
    facts = environment("cpu")
    assert {"torch", "numpy", "python", "device", "threads"} <= set(facts)
    assert all(isinstance(value, str | int) for value in facts.values())
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
