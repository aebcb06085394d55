"""The report as people get it: console, files and exit codes, on hand-made stores and on one that
was really trained.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.image import imread
from rich.console import Console

from datasets.digits import Digits
from harness import PROJECT
from harness.analysis.comparison import comparison
from harness.analysis.findings import analyse
from harness.analysis.results import long_table, read
from harness.analysis.verification import verify
from harness.cli import guarded
from harness.errors import UserError
from harness.protocol.combinations import lattice
from harness.protocol.metrics import METRICS
from harness.report import main as report_main
from harness.reporting.console import _fixed_width, plain_lines, show
from harness.reporting.heatmap import draw, ink_on, shade
from harness.reporting.markdown import markdown
from harness.reporting.publish import make_report
from harness.reporting.text import Grid, Shown
from harness.session import publish
from harness.store import Store, write_json
from harness.study.plan import Plan
from harness.tracking.mlflow.tracker import MLflowTracker
from harness.training.trial import run_trial
from tests.support.handmade import (
    ENVIRONMENT,
    MARKS,
    NAMES,
    N,
    ladder,
    planned,
    trial_of,
    write_trial,
)
from tests.support.reports import document_of, write_report

ESCAPE = "\x1b"
FILES = ("report.md", "report.csv", "heatmap.png", "report.html", "report.tex")
BELOW = ("dataset.limit=60",)


def main(arguments: Sequence[str]) -> int:
    """The command as a shell sees it."""
    return guarded(report_main, arguments)


@pytest.fixture
def study(tmp_path: Path) -> tuple[Plan, Store]:
    """Three rows x two seeds: sf_md whole, hemis collapsed once, dmrnet with one failed trial and
    one stale.
    """
    plan, store = planned(tmp_path, "seeds=[0,1]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    write_trial(plan, store, "sf_md", 1, ladder(36), last=ladder(24), remarks=["a phase never ran"])
    write_trial(plan, store, "hemis", 0, [None, *ladder(30)[1:]], starved_encoder_batches=4)
    write_trial(
        plan,
        store,
        "hemis",
        1,
        ladder(30),
        environment=ENVIRONMENT | {"device": "cuda", "torch": "3"},
    )
    write_trial(plan, store, "dmrnet", 0, ladder(33), code="of another day")
    failed = store.trial(trial_of(plan, "dmrnet", 1).id)
    write_json(failed / "spec.json", {})
    write_json(
        failed / "failure.json",
        {"reason": "FileNotFoundError: '/home/somebody/data/x.bin' is gone"},
    )
    return plan, store


def section(text: str, title: str) -> str:
    """What stands below one heading of report.md."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].strip()


# ---------------------------------------------------------------------- console


def test_a_plain_table_of_many_combinations_has_one_in_a_row() -> None:
    """31 combinations of five modalities and their summaries, of two methods."""
    names = [f"c{at}" for at in range(31)]
    rows = tuple(tuple(Shown(f"{10 * at + row}.0") for at in range(33)) for row in (1, 2))
    lines = _fixed_width(Grid(("method", *names, "average", "worst"), ("x", "y"), rows))
    assert lines[0].split() == ["method", "x", "y"] and len(lines) == 2 + 33
    assert lines[2].split() == ["c0", "1.0", "2.0"] and lines[-1].split() == [
        *("worst", "321.0", "322.0")
    ]
    assert max(map(len, lines)) < 40


def test_plain_table_shows_every_number_and_its_marks(study: tuple[Plan, Store]) -> None:
    plan, store = study
    zeros = int((plan.dataset.load("test").target == 0).sum())
    text = "\n".join(plain_lines(analyse(read(plan, store)), "runs/store"))
    table = {line.split()[0]: re.split(r" {2,}", line) for line in text.splitlines()[2:7]}
    assert table["method"] == ["method", *MARKS, "average", "worst"]
    # sf_md: 50, 55, ... 80 % and 60, 65, ... 90 %; the standard deviation of two values 10 apart is
    # 10 / sqrt(2).
    assert table["sf_md"] == [
        "sf_md",
        *(f"{55 + 5 * at:.1f} ± 7.1" for at in range(7)),
        "70.0 ± 7.1",
        "55.0 ± 7.1",
    ]
    mean, std = (100 * zeros / N + 50) / 2, abs(100 * zeros / N - 50) / 2**0.5
    assert table["hemis"][0] == "hemis ‡"
    assert table["hemis"][1] == f"{mean:.1f} ± {std:.1f} †"
    assert table["hemis"][2] == "55.0 ± 0.0"
    assert table["hemis"][8].endswith("†") and table["hemis"][9] == table["hemis"][1]
    assert table["dmrnet"] == [
        "dmrnet §",
        *(f"{55 + 5 * at:.1f} (1/2)" for at in range(7)),
        "70.0 (1/2)",
        "55.0 (1/2)",
    ]
    assert (
        "2 seeds (0, 1); ± is the standard deviation over seeds (n-1), not a confidence interval"
        in text
    )
    assert "highest mean accuracy over all 7 combinations on val, ties to the earlier epoch" in text
    for mark in ("† collapsed", "‡ some trials", "§ stale", "(k/2): only k of 2"):
        assert mark in text
    failed = trial_of(plan, "dmrnet", 1).id
    assert "not in the table: 1 of 6 trials" in text
    assert f"dmrnet seed 1 (trial {failed}), failed: FileNotFoundError" in text
    assert f"(log: runs/store/{failed}/log.txt)" in text
    assert "**" not in text


def test_marks_are_explained_only_where_they_stand(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[4]", "methods=[sf_md]")
    write_trial(plan, store, "sf_md", 4, ladder(30))
    text = "\n".join(plain_lines(analyse(read(plan, store)), "x"))
    assert "one seed (4): no spread can be given" in text
    assert not set("±†‡§") & set(text) and "(k/" not in text and "not in the table" not in text


def test_checkpoint_rule_names_the_first_selectable_epoch(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "train.first_selectable=31", "train.epochs=100", "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    assert "from epoch 31 (counted from 0) on" in "\n".join(
        plain_lines(analyse(read(plan, store)), "x")
    )


def test_rich_table_fits_a_narrow_terminal_and_loses_nothing(study: tuple[Plan, Store]) -> None:
    plan, store = study
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    show(analyse(read(plan, store)), "runs/store", console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    table = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    assert table and max(map(len, table)) <= 60
    cells = {cell.strip() for line in table for cell in re.split("[│┃]", line)}
    assert {f"{55 + 5 * at:.1f} ± 7.1" for at in range(7)} <= cells
    assert {"average", "worst", "●○○", "○○●", "hemis ‡"} <= cells
    assert "…" not in text


def test_piped_output_is_plain_whatever_the_environment_says(study: tuple[Plan, Store]) -> None:
    plan, _ = study
    done = run_report(plan, {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert done.returncode == 1, done.stderr  # one trial has failed
    assert ESCAPE not in done.stdout and "Traceback" not in done.stderr
    head, _, row = done.stdout.splitlines()[2:5]
    assert head.split() == ["method", *MARKS, "average", "worst"] and len(head) > 90
    assert row.split("  ")[0] == "sf_md" and row.endswith("55.0 ± 7.1")


def test_a_real_terminal_gets_the_rich_table(study: tuple[Plan, Store]) -> None:
    plan, _ = study
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command(plan),
        cwd=PROJECT,
        stdout=follower,
        stderr=follower,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(follower)
    received = b""
    while True:
        try:
            received += os.read(leader, 4096)
        except OSError:  # Linux reports the end of a terminal so
            break
    os.close(leader)
    assert process.wait() == 1
    text = received.decode()
    assert ESCAPE in text and "┃" in text and "70.0 ± 7.1" in text


def command(plan: Plan) -> list[str]:
    """The report of the fixture's study."""
    return [
        sys.executable,
        "-m",
        "harness.report",
        "study=quickstart",
        "seeds=[0,1]",
        *BELOW,
        f"output={plan.study.output}",
    ]


def run_report(plan: Plan, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, its output piped."""
    return subprocess.run(
        command(plan),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


# ---------------------------------------------------------------------- files


def test_report_says_everything_a_reader_must_know(study: tuple[Plan, Store]) -> None:
    plan, store = study
    text = (
        write_report(plan, store, ["study=quickstart", "seeds=[0,1]", *BELOW]).folder / "report.md"
    ).read_text()
    assert text.startswith("# quickstart on digits\n\nWhich fusion survives missing views?")
    data = section(text, "Data")
    assert "the digits are real handwriting; the three views are constructed" in data
    assert "train 60, val 60, test 60" in data and plan.dataset.fingerprint() in data
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section(text, "Result").splitlines()
        if line[:1] == "|"
    ]
    assert rows[0] == ["method", *MARKS, "average", "worst"]
    assert rows[2] == [
        "sf_md",
        *(f"{55 + 5 * at:.1f} ± 7.1" for at in range(7)),
        "70.0 ± 7.1",
        "55.0 ± 7.1",
    ]
    assert "![digits, accuracy on test in %, higher is better](heatmap.png)" in section(
        text, "Result"
    )
    # Last epoch of sf_md: 50 .. 80 % (average 65) and 40 .. 70 % (average 55).
    assert re.search(
        r"\| sf_md +\| 70\.0 ± 7\.1 +\| 60\.0 ± 7\.1 +\| 10, 11 ", section(text, "Last epoch")
    )
    trials = section(text, "Seeds and trials")
    assert (
        trial_of(plan, "sf_md", 1).id in trials
        and f"{trial_of(plan, 'dmrnet', 0).id} (stale)" in trials
    )
    assert "5 of 6 planned trials" in section(text, "Holes") and "…/x.bin' is gone" in section(
        text, "Holes"
    )
    assert section(text, "Damaged trials").endswith("the stored scores: all agree.")
    assert "hemis seed 0: 1 of 7 combinations (thumb)" in section(text, "Collapsed models")
    remarks = section(text, "Remarks of the trained models").splitlines()
    assert remarks[0] == "What trained models of 2 rows say of themselves:"
    assert remarks[2] == "- sf_md, seed 1: a phase never ran"
    assert remarks[3].startswith("- hemis, seed 0: 4 times an encoder had fewer than two samples")
    assert re.search(
        r"\| dmrnet +\| 23,994 +\| 22,874 +\| 1\.5 +\| 2\.000 +\| 3\.000 +\| 100 ",
        section(text, "Cost"),
    )
    methods = section(text, "Methods: provenance and deviations")
    assert (
        "ECCV 2024" in methods and "MICCAI 2016" in methods and "Eq. 6 prints log sigma" in methods
    )
    assert "alpha=0.001, beta=0.7" in methods and "none declared" in methods
    assert "beta = 0.7 adds 0.3 times the size of a mean loss here" in methods
    assert "learning rate: schedule=cosine: linear warm-up over 5" in section(text, "Protocol")
    assert "epochs=30, batch_size=64, lr=0.05" in section(text, "Protocol")
    assert re.search(r"\| device +\| cpu, cuda", section(text, "Versions and hardware"))
    assert re.search(r"\| torch +\| 2, 3 ", section(text, "Versions and hardware"))
    assert "python -m harness.run study=quickstart 'seeds=[0,1]' dataset.limit=60" in section(
        text, "How to reproduce"
    )


def test_every_heading_says_so_when_there_is_nothing(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    text = (write_report(plan, store).folder / "report.md").read_text()
    for title, said in {
        "Holes": "1 of 1 planned trials are in the table.",
        "Damaged trials": "the values on val and test computed again from the stored scores: all"
        " agree.",
        "Collapsed models": "No model predicts one class for every test sample.",
        "Remarks of the trained models": "No trained model has a remark.",
    }.items():
        (line,) = section(text, title).splitlines()
        assert line.endswith(said)


def test_equal_remarks_of_several_seeds_are_said_once(tmp_path: Path) -> None:
    plan, store = planned(tmp_path)
    for seed in (0, 1, 2):
        write_trial(
            plan, store, "dmrnet", seed, ladder(30), remarks=["HCR never ran"] if seed != 1 else []
        )
    text = markdown(document_of(analyse(read(plan, store))))
    lines = section(text, "Remarks of the trained models").splitlines()
    assert lines[2:] == ["- dmrnet, seeds 0, 2: HCR never ran"]


def test_regenerated_files_are_identical_in_another_process_and_another_folder(
    study: tuple[Plan, Store], tmp_path: Path
) -> None:
    plan, store = study
    arguments = ["study=quickstart", "seeds=[0,1]", *BELOW]
    first = [
        path.read_bytes()
        for path in write_report(plan, store, [*arguments, f"output={tmp_path}"]).paths
    ]
    for path in plan.study.folder.iterdir():
        path.unlink()
    done = run_report(
        plan, {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYTHONIOENCODING": "ascii"}
    )
    assert "70.0 ? 7.1" in done.stdout  # an encoding without the character is no reason to fail
    second = [path.read_bytes() for path in make_report([plan], store).paths]
    assert first == second
    elsewhere = tmp_path / "moved" / "there"
    shutil.copytree(store.root, elsewhere / "store")
    moved, moved_store = planned(elsewhere, "seeds=[0,1]")
    files = write_report(
        moved,
        moved_store,
        [*arguments, f"output={elsewhere}", "executor=local", "resources.max_concurrent=1"],
    )
    assert [path.read_bytes() for path in files.paths] == first
    assert str(tmp_path) not in first[0].decode() and str(PROJECT) not in first[0].decode()
    assert sorted(path.name for path in (files.folder / "report.md").parent.iterdir()) == sorted(
        FILES
    )


def test_csv_is_the_long_table(study: tuple[Plan, Store]) -> None:
    plan, store = study
    files = write_report(plan, store)
    with (files.folder / "report.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    # accuracy on val, test and test_last_epoch, its macro average on val and test
    assert len(rows) == 5 * (3 + 2) * 7
    wanted = {
        "metric": "accuracy",
        "label": "sf_md",
        "seed": "1",
        "split": "test",
        "combination": "thumb+profile",
    }
    (row,) = [row for row in rows if wanted.items() <= row.items()]
    assert (
        float(row["value"]) == 80.0
        and row["n_present"] == "2"
        and row["status"] == "done"
        and row["collapsed"] == "False"
    )
    assert {row["status"] for row in rows if row["label"] == "dmrnet"} == {"stale"}
    assert list(rows[0]) == list(long_table(plan, store).columns)


def test_synthetic_stands_beside_the_name_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Digits.spec.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Digits, "spec", property(lambda self: dataclasses.replace(real(self), synthetic=True))
    )
    plan, store = planned(tmp_path)
    write_trial(plan, store, "sf_md", 0, ladder(30))
    text = (write_report(plan, store).folder / "report.md").read_text()
    assert text.startswith("# quickstart on digits (synthetic)\n")
    for title in ("Data", "Result"):
        assert "digits (synthetic)" in section(text, title)
    assert plain_lines(analyse(read(plan, store)), "x")[0].startswith(
        "quickstart: digits (synthetic), accuracy"
    )


def test_reproduction_hides_folders_and_quotes_the_rest(study: tuple[Plan, Store]) -> None:
    plan, store = study
    arguments = [
        "methods=[sf_md,/home/me/my_method.py]",
        "dataset.root=/data/mine",
        "study=quickstart",
        "tracking.uri=http://x/y",
    ]
    text = section(markdown(document_of(analyse(read(plan, store)), arguments)), "How to reproduce")
    assert (
        text.splitlines()[3]
        == "python -m harness.run study=quickstart 'methods=[sf_md,…/my_method.py]'"
        " dataset.root=YOUR_COPY"
    )


def test_pipes_in_labels_do_not_break_the_table(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "methods=[{method: sf_md, label: 'a|b'}]", "seeds=[0]")
    write_trial(plan, store, "a|b", 0, ladder(30))
    assert "| a\\|b   | 50.0" in markdown(document_of(analyse(read(plan, store))))


# ---------------------------------------------------------------------- heat map


def luminance(rgb: np.ndarray) -> float:
    """WCAG 2 relative luminance of sRGB in [0, 1]."""
    linear = np.where(rgb[:3] <= 0.04045, rgb[:3] / 12.92, ((rgb[:3] + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_better_is_brighter_in_the_picture(tmp_path: Path, higher_is_better: bool) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    chosen = dataclasses.replace(METRICS["accuracy"], higher_is_better=higher_is_better)
    found = comparison(long_table(plan, store), chosen, ["sf_md"], NAMES, planned=1)
    image = imread(
        io.BytesIO(draw(found, lattice(("thumb", "spectrum", "profile")), ["sf_md"], "t"))
    )
    # Every cell's colour is a colour of the picture; thumb (50 %) and all three (80 %) are the ends
    # of the scale.
    present = {
        tuple(np.rint(pixel[:3] * 255).astype(int))
        for pixel in image.reshape(-1, image.shape[2])[::7]
    }
    ends = [np.array(shade(value, [50.0, 80.0], higher_is_better)) for value in (50.0, 80.0)]
    assert all(tuple(np.rint(end[:3] * 255).astype(int)) in present for end in ends)
    worse, better = (ends[0], ends[1]) if higher_is_better else (ends[1], ends[0])
    assert luminance(better) > 0.7 and luminance(worse) < 0.1


def test_numbers_are_readable_on_every_colour() -> None:
    for place in np.linspace(0, 1, 101):
        colour = np.array(colormaps["cividis"](place))
        low, high = sorted([luminance(colour), {"black": 0.0, "white": 1.0}[ink_on(colour)]])
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG AA for text


def test_a_study_of_one_value_can_be_drawn(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]")
    write_trial(plan, store, "sf_md", 0, [30] * 7)
    assert (write_report(plan, store).folder / "heatmap.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------------- command


def test_damage_is_said_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md,hemis]")
    arguments = ["seeds=[0]", "methods=[sf_md,hemis]", *BELOW, f"output={tmp_path}"]
    write_trial(plan, store, "sf_md", 0, ladder(30))
    bad = write_trial(plan, store, "hemis", 0, ladder(30))
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    path = store.trial(bad.id) / "scores.npz"
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(
        f"error: trial {bad.id} (hemis seed 0) is damaged: scores.npz changed"
    )
    assert bad.id in section((tmp_path / "quickstart" / "report.md").read_text(), "Damaged trials")


def test_nothing_finished_names_the_run_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seeds=[0]", f"output={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("error: study 'quickstart' has no finished trial") and said.count("\n") == 1
    )
    assert f"python -m harness.run 'seeds=[0]' output={tmp_path}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["study=quickstrat"], "did you mean 'quickstart'?"),
        (["--trakc"], "unknown option --trakc; known: --track"),
        (["quickstart"], "did you mean study=quickstart?"),
        (["train.epoch=3"], "train.epochs"),
    ],
)
def test_mistakes_are_one_sentence_and_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (
        said.err.startswith("error: ")
        and said.err.count("\n") == 1
        and sentence in said.err
        and said.out == ""
    )


def test_absent_data_are_one_sentence_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(self: Digits) -> str:
        raise UserError("dataset.root is not set")

    monkeypatch.setattr(Digits, "fingerprint", absent)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: dataset.root is not set\n"


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--track" in said and "study=NAME" in said and "exit codes" in said


def test_publish_names_failed_trials_even_when_none_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md]")
    failed = store.trial(trial_of(plan, "sf_md", 0).id)
    write_json(failed / "spec.json", {})
    write_json(failed / "failure.json", {"reason": "no memory"})
    assert publish(plan, store) == ["sf_md seed 0: no memory"]
    assert "failed: no memory" in capsys.readouterr().out


def test_track_replays_the_study_and_adds_nothing_the_second_time(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    arguments = [
        "seeds=[0]",
        "methods=[sf_md,hemis,{method: dmrnet, hparams: {alpha: 0.01}}]",
        *BELOW,
        f"output={tmp_path}",
    ]
    plan, store = planned(tmp_path, *arguments[:2])
    for label, start in (("sf_md", 30), ("hemis", 33), ("dmrnet[alpha=1e-2]", 36)):
        trial = store.trial(write_trial(plan, store, label, 0, ladder(start)).id)
        trial.save_history([{"step": 0, "time": 1.0e9, "values": {"val/accuracy_mean": 50.0}}])
    for _ in range(2):
        assert main([*arguments, "--track"]) == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quickstart")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(
        run.data.tags["trial_id"] for run in runs if "trial_id" in run.data.tags
    ) == sorted(t.id for t in plan.trials)
    (summary,) = [run for run in runs if run.data.tags.get("kind") == "study"]
    assert summary.data.tags["trials"] == "3 of 3"
    assert summary.data.metrics == {"trials_finished": 3}
    assert {file.path for file in client.list_artifacts(summary.info.run_id)} == {
        *FILES,
        "figures",
        "tables",
    }
    rows = {
        run.info.run_name: run.data.metrics["test/accuracy_mean"]
        for run in runs
        if run.data.tags["kind"] == "row"
    }
    assert rows == {
        "sf_md": pytest.approx(65),
        "hemis": pytest.approx(70),
        "dmrnet[alpha=1e-2]": pytest.approx(75),
    }


def test_a_dead_tracking_server_is_a_warning_at_the_end_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a database")
    plan, store = planned(
        tmp_path, "seeds=[0]", "methods=[sf_md]", f"tracking.uri=sqlite:///{tmp_path}/file"
    )
    trial = store.trial(write_trial(plan, store, "sf_md", 0, ladder(30)).id)
    trial.save_history([{"step": 0, "time": 1.0e9, "values": {"val/accuracy_mean": 50.0}}])
    assert publish(plan, store, tracker=MLflowTracker(plan)) == []
    assert capsys.readouterr().err.startswith("warning: ")


# ------------------------------------------------------------------ a study that was really trained


def test_a_trained_study_is_reported_as_its_scores_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    changes = ("seeds=[0,1]", "train.epochs=2", "train.batch_size=16")
    plan, store = planned(tmp_path, *changes)
    for trial in plan.trials:
        assert run_trial(trial.job).status == "done"
    assert verify(plan, store) == []
    arguments = [*changes, *BELOW, f"output={tmp_path}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for row in plan.rows:
        folders = [store.trial(trial.id) for trial in plan.trials if trial.row == row]
        # (seeds, combinations), from the per-sample scores alone.
        right = np.array(
            [
                (f.scores()["test"].argmax(2) == f.scores()["test_target"]).mean(1) * 100
                for f in folders
            ]
        )
        averages, worsts = right.mean(1), right.min(1)
        line = next(line for line in printed.splitlines() if line.startswith(f"{row.label} "))
        numbers = re.findall(r"(\d+\.\d) ± (\d+\.\d)", line)
        expected = [*zip(right.mean(0), right.std(0, ddof=1), strict=True)]
        expected += [(averages.mean(), averages.std(ddof=1)), (worsts.mean(), worsts.std(ddof=1))]
        assert np.array(numbers, dtype=float) == pytest.approx(np.array(expected), abs=0.0501)
    folder = tmp_path / "quickstart"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (
        json.loads((folder.parent / "store" / plan.trials[0].id / "record.json").read_text())[
            "epochs"
        ]
        == 2
    )
