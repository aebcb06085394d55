"""The READMEs: every command in them is run or said to need something, what they name is there.

A command is a line of a ``bash`` block or an inline `python -m ...`. Each stands in one list below.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from harness import PROJECT
from harness.cli import guarded
from harness.registry import BACKBONES, DATASETS, METHODS
from harness.study.config import Study
from tests.support import readme_pictures
from tests.support.media import classification

READMES = {
    name: (PROJECT / name).read_text(encoding="utf-8")
    for name in (
        *("README.md", "harness/README.md", "datasets/README.md"),
        *("studies/README.md", "methods/README.md"),
    )
}
TOP, HARNESS = READMES["README.md"], READMES["harness/README.md"]

# ---------------------------------------------------------------------- run by a test

AS_IT_STANDS = (
    "python -m harness.run --dry-run",
    "python -m harness.run --help",
    "python -m harness.run study=digits_all_methods --dry-run",
    "python -m harness.run study=digits_alpha_beta --dry-run",
    "python -m harness.show methods",
    "python -m harness.show studies",
    "python -m harness.show datasets",
    "python -m harness.show method=dmrnet",
    "python -m harness.show dataset=casia_surf",
    "python -m harness.show dataset=manifest",
    "python -m harness.show dataset=manifest dataset.manifest=PATH/manifest.csv",
    "python -m harness.show study=quickstart",
    "python -m harness.show study=digits_all_methods",
    "python -m datasets.sample casia_surf sample",
    "python -m datasets.sample nyuv2 rooms seed=1",
)
"""Seconds: run to the end."""

LONG = (
    "python -m harness.run preset=smoke",
    "python -m harness.run study=quickstart seeds=[0,1,2,3,4] train.epochs=60",
    "python -m harness.run 'seeds={first: 3, most: 8, difference: 1.0}'",
    "python -m harness.run 'seeds={first: 3, most: 8, difference: 1.0}'"
    " 'methods=[sf_md,hemis,dmrnet,sf_dmr_scaled]'",
    "python -m harness.run methods=[sf_md,dmrnet,./my_method.py] dataset=htad",
    "python -m harness.run methods=[dmrnet] 'hparams.dmrnet.alpha=[1e-4,1e-3,1e-2]'",
    "python -m harness.run search.trials=20",
    "python -m harness.run methods=[dmrnet] 'search.space.dmrnet.alpha=[1e-4,1e-3]'",
    "python -m harness.run study=digits_all_methods",
    "python -m harness.run study=htad_all_methods",
    "python -m harness.run study=digits_alpha_beta",
    "python -m harness.run study=digits_claims",
    "python -m harness.run study=quickstart_missing_30",
    "python -m harness.run study=quickstart_missing_unlike",
    "python -m harness.run dataset=htad dataset.protocol=block",
    "python -m harness.run study=own_data dataset.manifest=PATH/manifest.csv",
    "python -m harness.run study=own_claims dataset.manifest=PATH/manifest.csv",
)
"""Minutes: planned (--dry-run); with `pytest -m slow` also run, with fewer epochs and less data."""

ON_A_SAMPLE = {
    "python -m harness.run study=casia_all_methods dataset.root=sample preset=smoke": (
        "python -m datasets.sample casia_surf sample"
    ),
    "python -m harness.run study=nyuv2_segmentation dataset.root=rooms preset=smoke": (
        "python -m datasets.sample nyuv2 rooms seed=1"
    ),
}
"""Minutes: planned on the sample that the second command writes; run by the dataset's tests."""

QUICK_START = (
    "python -m harness.run",
    "python -m harness.run",
    "python -m harness.report",
    "python -m harness.report report.presence.thumb=0.99 report.presence.spectrum=0.8",
    "python -m harness.report --watch",
    "python -m harness.report report.presence.thumb=0.99 report.presence.spectrum=0.8",
    "python -m harness.views study=quickstart",
    "python -m harness.robust study=quickstart --dry-run",
    "python -m harness.robust study=quickstart",
    'python -m harness.share export study=quickstart quickstart.zip by="who gives it"',
    "python -m harness.share import quickstart.zip output=elsewhere",
    "python -m tests.support.readme_pictures runs",
)
"""With `pytest -m slow`: run in this order in one folder, as a reader does."""

UI = "tests/tracking/test_mlflow_ui.py"
ELSEWHERE = {
    "mlflow ui --backend-store-uri sqlite:///runs/mlflow.db": UI,
    "mlflow ui": UI,
    "python -m harness.show trial=ID": "tests/test_show.py",
    "python -m harness.report study=quickstart,digits_all_methods": (
        "tests/reporting/test_several_studies.py"
    ),
    (
        "python -m harness.report study=quickstart,quickstart_missing_30,quickstart_missing_60,"
        "quickstart_missing_unlike"
    ): "tests/reporting/test_several_studies.py",
    "python -m harness.report study=quickstart tracking.uri=http://HOST:5000 --track": (
        "tests/tracking/test_background.py"
    ),
    "pip install optuna-dashboard && optuna-dashboard runs/digits_alpha_beta/search.journal": (
        "tests/search/test_search_processes.py"
    ),
    "pytest tests/methods/test_methods_conformance.py -k NAME": (
        "tests/methods/test_methods_conformance.py"
    ),
}
"""The file of tests that runs it, on its own data or its own server."""

# ---------------------------------------------------------------------- needs something

NEEDS = {
    "python3 -m venv venv && source venv/bin/activate": "a fresh machine: .ci/run does it",
    "pip install -e . && python -m harness.run": "a package index: .ci/run installs",
    'pip install -e ".[test]" && pytest': "a package index: .ci/run does it",
    'pip install -e ".[real]"': "a package index: a part of the extra test",
    "ruff check . && ruff format --check . && mypy && pytest": "would run itself: .ci/run does it",
    "pytest -m slow": "would run itself: .ci/run does it",
    "bash .ci/run": "would run itself",
    "mlflow gc": "deletes for good what a user has thrown away",
    (
        "python -m harness.run study=casia_all_methods dataset.root=/data/CASIA-SURF"
        " resources.gpus_per_trial=0.25"
    ): "the gated data and a GPU",
    "python -m harness.run resources.address=HOST:PORT output=/shared/runs": "a cluster",
    "python -m harness.run tracking.uri=http://HOST:5000": "a tracking server",
    "python -m tests.benchmarks.gpu_step": "a GPU for all of it",
}

RUN = {*AS_IT_STANDS, *LONG, *ON_A_SAMPLE, *QUICK_START, *ELSEWHERE}

# ---------------------------------------------------------------------- what the READMEs have

PROGRAMS = r"(?:python3? -m|pip install|mlflow|optuna-dashboard|pytest|ruff|mypy|bash)"
SMALL = ("preset=smoke", "train.epochs=1", "executor=local", "tracking.enabled=false")


def commands(text: str) -> Iterator[str]:
    """Every command of a README, without the comment behind it."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = re.sub(r"\s+# .*$", "", line).strip()
            if command:
                yield command
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", prose):
        if re.match(rf"{PROGRAMS} ", span):
            yield " ".join(span.split())


FOUND = {command: name for name, text in READMES.items() for command in commands(text)}


def test_every_command_is_run_or_needs_something() -> None:
    unknown = [f"{FOUND[command]}: {command}" for command in FOUND.keys() - RUN - NEEDS.keys()]
    assert sorted(unknown) == []


def test_every_listed_command_is_in_a_readme_and_in_one_list() -> None:
    listed = [*AS_IT_STANDS, *LONG, *ON_A_SAMPLE, *dict.fromkeys(QUICK_START), *ELSEWHERE, *NEEDS]
    assert sorted(set(listed) - FOUND.keys()) == []
    assert len(listed) == len(set(listed))


def test_the_top_readme_has_the_two_commands() -> None:
    assert "\npip install -e . && python -m harness.run  " in TOP
    assert '\npip install -e ".[test]" && pytest  ' in TOP


# ---------------------------------------------------------------------- running them


def call(command: str, *more: str) -> int:
    """Run ``python -m MODULE arguments`` in this process; its exit code."""
    python, option, module, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-m")
    return guarded(importlib.import_module(module).main, [*arguments, *more])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with the files that commands of the READMEs call the reader's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    source = PROJECT / "methods" / "hemis.py"
    (tmp_path / "my_method.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "PATH").mkdir()
    assert classification(tmp_path / "PATH").name == "manifest.csv"
    return tmp_path


@pytest.mark.parametrize("command", AS_IT_STANDS)
def test_a_command_of_seconds(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


@pytest.mark.parametrize("command", LONG)
def test_the_plan_of_a_long_command(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, "--dry-run") == 0
    assert "0 failed" in capsys.readouterr().out
    assert not (folder / "runs" / "store").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG)
def test_a_long_command_with_less_of_everything(command: str, folder: Path) -> None:
    module, *given = shlex.split(command)[2:]
    keys = {setting.partition("=")[0] for setting in given}
    smaller = [setting for setting in SMALL if setting.partition("=")[0] not in keys]
    if any(key.startswith("search.") for key in keys):
        smaller = [*smaller, "search.seeds=[100]"]
    assert call(shlex.join(["python", "-m", module, *given]), *smaller) == 0
    assert list((folder / "runs").glob("*/report.html"))


@pytest.mark.parametrize("command", ON_A_SAMPLE)
def test_the_plan_of_a_study_on_a_sample(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(ON_A_SAMPLE[command]) == 0
    assert call(command, "--dry-run") == 0
    assert "(synthetic)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_quick_start_and_what_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    said = []
    for command in QUICK_START[:-1]:
        arguments = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(
            arguments, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    assert "9 to run" in said[0] and "9 done, 0 stale, 0 failed, 0 to run" in said[1]
    for label, cells in table(said[0], r"\s{2,}").items():
        for measured, printed in zip(cells, table(TOP, r"\s*\|\s*")[label], strict=True):
            assert abs(measured - printed) < 3.0, label
    readme_pictures.make(tmp_path / "runs", tmp_path)
    check_pictures(tmp_path)


def table(text: str, separator: str) -> dict[str, list[float]]:
    """The means of the quick start's table by method."""
    rows = {}
    for line in text.splitlines():
        label, *cells = re.split(separator, line.strip().strip("|").strip())
        if label in ("sf_md", "hemis", "dmrnet") and len(cells) == 9:
            rows[label] = [float(cell.split()[0]) for cell in cells]
    assert len(rows) == 3
    return rows


@pytest.mark.parametrize("file", sorted(set(ELSEWHERE.values())))
def test_the_tests_that_run_a_command_exist(file: str) -> None:
    module = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    tests = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    assert any(test.name.startswith("test_") for test in tests)


# ---------------------------------------------------------------------- what the READMEs name


def test_the_top_readme_is_short() -> None:
    assert len(TOP.splitlines()) <= 150


def check_pictures(folder: Path) -> None:
    for file in (readme_pictures.REPORT, readme_pictures.MLFLOW):
        assert (folder / file).stat().st_size < 150_000
        with Image.open(folder / file) as picture:
            assert 800 <= picture.width <= 1400 and picture.height > 300


def test_the_pictures_are_small_and_shown() -> None:
    check_pictures(PROJECT)
    shown = re.findall(r"^!\[[^\]]+\]\((.+)\)$", TOP, re.MULTILINE)
    assert shown == [readme_pictures.REPORT, readme_pictures.MLFLOW]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a text's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", READMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", READMES[name]):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (PROJECT / name).parent / file if file else PROJECT / name
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_is_named_exists(name: str) -> None:
    here, missing = (PROJECT / name).parent, []
    for span in re.findall(r"`([^`\s]+)`", READMES[name]):
        path = span.partition("::")[0]
        ours = re.match(r"(harness|methods|datasets|studies|tests)/", path)
        readers = path.startswith("./") or re.search(r"NAME|[<*]", path)
        if readers or not (ours or path.endswith(".py")):
            continue
        if not ((PROJECT / path).exists() or (here / path).exists()):
            missing.append(span)
    assert missing == []


GROUPS = {METHODS.group, DATASETS.group, BACKBONES.group}
"""Entry points have names like modules."""


@pytest.mark.parametrize("name", READMES)
def test_every_module_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"(?<![\w./])harness(?:\.[A-Za-z_]+)+", READMES[name]))
    assert [span for span in sorted(named - GROUPS) if not importable(span)] == []


def importable(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something inside one."""
    parts = name.split(".")
    at = len(parts)
    while at > 1 and not is_module(parts[:at]):
        at -= 1
    value = importlib.import_module(".".join(parts[:at]))
    for attribute in parts[at:]:
        value = getattr(value, attribute, None)
    return value is not None


def is_module(parts: list[str]) -> bool:
    path = PROJECT.joinpath(*parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert level is not None, title
    rest = text[level.end() :]
    return re.split(rf"^#{{1,{len(level[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_the_map_has_every_room_once() -> None:
    rows = re.findall(r"^\| (`.+?) \|", section(HARNESS, "The map"), re.MULTILINE)
    named = [room for row in rows for room in re.findall(r"`([^`]+)`", row)]
    rooms = [
        f"{path.name}/" if path.is_dir() else path.name
        for path in (PROJECT / "harness").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    assert sorted(named) == sorted(set(rooms) - {"__init__.py"})


def test_seven_recipes_of_six_lines() -> None:
    recipes = re.findall(
        r"^### (.+)\n\n((?:\d\. .+\n)+)\n", section(HARNESS, "Ways to add something"), re.MULTILINE
    )
    assert len(recipes) == 7
    for title, steps in recipes:
        numbers = [line[0] for line in steps.splitlines()]
        assert numbers == list("123456"), title


IN_A_FILE = {"name", "description", "presets", "published_table", "views"}
"""Keys that a study's file has and nobody gives on the command line."""


def test_tables_name_every_dataset_study_and_key() -> None:
    for name in DATASETS.names():
        assert f"| `{name}` |" in READMES["datasets/README.md"]
    for path in (PROJECT / "studies").glob("*.yaml"):
        assert f"`{path.stem}`" in section(READMES["studies/README.md"], "Studies")
    keys = section(HARNESS, "Keys")
    for field in fields(Study):
        if field.name not in IN_A_FILE and not field.metadata.get("derived"):
            assert re.search(rf"`{field.name}[`.]", keys), field.name


def test_what_happens_when_names_a_test_in_every_row() -> None:
    table = section(HARNESS, "What happens when").split("|---|---|---|---|\n")[1]
    rows = table.strip().splitlines()
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.rsplit(" | ", 1)[1])
        assert named, row
        for file, test in named:
            text = (PROJECT / file).read_text(encoding="utf-8")
            assert f"def {test or 'test_'}" in text, f"{file}::{test}"
