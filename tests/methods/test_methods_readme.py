"""methods/README.md: every method and variant is in it, and what it says holds.

Tasks are the method's, and the tests it names exist.
"""

from __future__ import annotations

import ast
import re
from statistics import fmean

import pytest

from harness import PROJECT
from harness.registry import METHODS

TEXT = (PROJECT / "methods" / "README.md").read_text(encoding="utf-8")
SECTIONS = {
    title: body
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
OWN = [name for name in METHODS.names() if (PROJECT / "methods" / f"{name}.py").exists()]
REFERENCES = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", TEXT)))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def rows(section: str) -> list[list[str]]:
    """The rows of a section's table, without its heading."""
    return [cells(line) for line in SECTIONS[section].splitlines() if line.startswith("|")][2:]


def test_the_overview_has_every_method_once() -> None:
    assert sorted(row[0] for row in rows("Overview")) == sorted(
        f"[{name}](#{name})" for name in OWN
    )


@pytest.mark.parametrize("name", OWN)
def test_every_method_has_a_section_that_names_its_variants_deviations_and_a_test(
    name: str,
) -> None:
    section, variants = SECTIONS[name], METHODS.get(name).variants
    assert [variant for variant in variants if f"`{variant}`" not in section] == []
    assert re.search(r"^- \*\*Tests\.\*\* ", section, re.MULTILINE)
    assert "**Deviations.** " in section or not METHODS.get(name).deviations


@pytest.mark.parametrize("name", OWN)
def test_the_overview_agrees_with_the_classes_on_variants_and_tasks(name: str) -> None:
    row = next(row for row in rows("Overview") if row[0].startswith(f"[{name}]"))
    assert re.findall(r"`(\w+)`", row[3]) == list(METHODS.get(name).variants)
    assert row[4].split(", ") == [
        task for task in METHODS.get(name).tasks if task != "anti_spoofing"
    ]


def test_files_of_tests_in_the_overview_exist() -> None:
    files = [file for row in rows("Overview") for file in row[5].split(", ")]
    assert (
        len(files) >= len(OWN) and [file for file in files if not (PROJECT / file).is_file()] == []
    )


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=[name for _, name in REFERENCES])
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    module = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    assert name in [node.name for node in module.body if isinstance(node, ast.FunctionDef)]


def test_no_reference_to_a_test_escapes_the_check() -> None:
    assert TEXT.count("::") == len(re.findall(r"`tests/[\w/]+\.py::test_\w+`", TEXT)) > 50


def test_slips_follow_from_the_printed_cells() -> None:
    slips = rows("Arithmetic slips of the DMRNet paper")
    assert f"**{len(slips)} differ by more than 0.01**" in " ".join(TEXT.split())
    for _, column, printed, mean, recomputed in slips:
        exact = fmean(float(cell) for cell in printed.split())
        assert f"{exact:.2f}" == recomputed, column
        assert abs(exact - float(mean)) > 0.01, column
