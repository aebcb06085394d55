"""The same command gives the same result: no order is left to chance or to the machine's language.

One half reads the source; the other plans under several hash seeds and locales.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.sample import write
from harness import PROJECT
from tests.support.media import array, picture, write_csv
from tests.support.order import lets_chance_decide, locale_decides, set_functions

FILES = [
    path
    for folder in ("harness", "methods", "datasets")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
SOURCES = {path: path.read_text(encoding="utf-8") for path in FILES}
SET_FUNCTIONS = frozenset(
    name for source in SOURCES.values() for name in set_functions(ast.parse(source))
)


# ---------------------------------------------------------------------- what the source says


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_order_is_left_to_chance(path: Path) -> None:
    found = lets_chance_decide(SOURCES[path], SET_FUNCTIONS)
    assert not found, (
        f"{path.relative_to(PROJECT)} goes through a set or a folder in an order that differs"
        f" between processes or machines: {'; '.join(found)}. Put sorted(...) around it; where a"
        " sort has a key, sort without one first, because equal keys keep the order they had"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_text_file_is_read_in_the_machines_language(path: Path) -> None:
    found = locale_decides(SOURCES[path])
    assert not found, (
        f'{path.relative_to(PROJECT)}: say encoding="utf-8", the machine\'s may be another:'
        f" {'; '.join(found)}"
    )


REFUSED = [
    "for x in {1, 2}: print(x)",
    "for x in set(names): print(x)",
    "y = [f(x) for x in {a for a in b}]",
    "y = {x: 1 for x in frozenset(b)}",
    "y = list(set(b))",
    "y = ', '.join({str(a) for a in b})",
    "y = [*set(b)]",
    "y = sorted(set(b), key=len)",
    "y = max(set(b), key=len)",
    "y = tuple(a | set(b))",
    "found = set(a)\nfor x in found: print(x)",
    "found: set[str] = f()\ny = list(found)",
    "def f(a: set[int]):\n    return [x for x in a]",
    "def f() -> set[int]: ...\ny = list(f())",
    "class A:\n    b: set[int]\n    def f(self):\n        return list(self.b)",
    "for path in folder.glob('*'): print(path)",
    "for path in os.listdir(folder): print(path)",
    "y = [path for path in folder.iterdir() if path.is_file()]",
    "y = sorted(folder.rglob('*'), key=len)",
    "paths = folder.glob('*')\ny = [*paths]",
    "for folder, _, files in os.walk(top): print(files)",
    "y = dict.fromkeys(a.keys() & set(b))",
    "y = f'{set(b)}'",
]
ALLOWED = [
    "for x in sorted({1, 2}): print(x)",
    "y = sorted(f(x) for x in set(b))",
    "y = sorted(sorted(set(b)), key=len)",
    "y = len({a for a in b}) + any(x in c for x in set(b))",
    "y = {f(x) for x in folder.glob('*')}",
    "y = [x for x in a if x in set(b)]",
    "y = set(a) < set(b)",
    "y = min(set(b))",
    "y = any(folder.iterdir())",
    "for x in [1, 2]: print({x})",
    "found = set(a)\nfound |= set(b)\nfound.update(c)",
    "def f():\n    names = set(a)\ndef g():\n    names = [1]\n    return list(names)",
]


@pytest.mark.parametrize("source", REFUSED)
def test_the_check_finds(source: str) -> None:
    assert lets_chance_decide(source)


@pytest.mark.parametrize("source", ALLOWED)
def test_the_check_lets_pass(source: str) -> None:
    assert lets_chance_decide(source) == []


def test_the_check_finds_text_files_without_an_encoding() -> None:
    refused = ["p.read_text()", "p.write_text(a)", "open(p)", "p.open('w')", "run(a, text=True)"]
    allowed = ["p.read_text(encoding='utf-8')", "open(p, 'rb')", "p.open('xb')", "os.open(p, f)"]
    assert all(locale_decides(source) for source in refused)
    assert not any(locale_decides(source) for source in allowed)


# ---------------------------------------------------------------------- what processes plan

CLASSES = (
    "0.5 mg",
    "0.05 mg",
    "v7",
    "v07",
    "v007",
    "v10",
    "v2",
    "ä",
    "a",
    "İ",
    "ı",
    "i b",
    "b-1",
    "b-01",
)
"""Equal numbers, and letters that languages sort and fold in their own ways."""

PLANNING = """
import sys
from harness.errors import UserError
from harness.study.config import load_study, study_files
from harness.study.plan import Plan

def show(name, *settings):
    plan = Plan(load_study([f"study={name}", *settings]))
    print(name, [row.label for row in plan.rows], plan.spec, plan.combinations)
    try:
        print([(trial.id, trial.job.code()) for trial in [*plan.stages, *plan.trials]])
    except UserError as error:
        print("without data:", error)

# Printed alike whatever the locale can write.
sys.stdout.reconfigure(encoding="utf-8")
manifest, casia = sys.argv[1:]
for name in study_files():
    show(name, *([f"dataset.manifest={manifest}"] if name.startswith("own_") else []))
for protocol in ("paper", "leave_out_4"):
    show("casia_all_methods", f"dataset.root={casia}", f"dataset.protocol={protocol}")
"""
"""Prints what studies are made of: classes, rows, the trials' ids, and the hash of their code."""


def locales() -> list[str]:
    """C, a UTF-8 one, and a third: one with an order and letters of its own where there is one."""
    there = subprocess.run(["locale", "-a"], capture_output=True, check=False).stdout.decode()
    known = there.split()
    utf8 = next((name for name in known if name.lower() in ("c.utf8", "c.utf-8")), "C.UTF-8")
    wanted = ("tr_TR", "de_DE", "et_EE", "en_US")
    other = [name for start in wanted for name in known if name.startswith(start)]
    return ["C", utf8, other[0] if other else "POSIX"]


def _pixels(number: int) -> np.ndarray:
    """(4, 6) uint8 that differ from sample to sample."""
    return np.full((4, 6), number, dtype=np.uint8)


def awkward_manifest(folder: Path) -> Path:
    """Every class of CLASSES in every split, as pictures and arrays."""
    rows = []
    for split in ("train", "val", "test"):
        for number, label in enumerate(CLASSES * 2):
            stem = f"{split}{number}"
            picture(folder / f"pic/{stem}.png", _pixels(number))
            array(folder / f"vec/{stem}.npy", _pixels(number)[0].astype("float32"))
            files = {"pic": f"pic/{stem}.png", "vec": f"vec/{stem}.npy"}
            rows.append({"split": split, "label": label, **files})
    return write_csv(folder / "manifest.csv", rows)


@pytest.mark.slow
def test_plans_are_the_same_under_every_hash_seed_and_locale(tmp_path: Path) -> None:
    manifest = awkward_manifest(tmp_path / "own")
    write("casia_surf", tmp_path / "casia")
    third = locales()
    cases = [("0", third[1]), ("1", third[1]), ("2", third[0]), ("3", third[2])]
    command = [sys.executable, "-c", PLANNING, str(manifest), str(tmp_path / "casia")]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LC_")}
    running = {}
    for seed, language in cases:
        environment = kept | {"PYTHONHASHSEED": seed, "LC_ALL": language}
        running[seed, language] = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    said = {}
    for case, process in running.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        said[case] = output.decode()
    first = said[cases[0]]
    order = (
        *("0.05 mg", "0.5 mg", "a", "b-01", "b-1", "i b"),
        *("v2", "v007", "v07", "v7", "v10", "ä", "İ", "ı"),
    )
    assert f"classes={order}" in first
    for case, text in said.items():
        assert text == first, f"PYTHONHASHSEED={case[0]} LC_ALL={case[1]} plans something else"
