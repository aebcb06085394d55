"""The commands as a user meets them: exit codes, one sentence per mistake, plans, plain output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from harness import report, show
from harness.cli import guarded
from harness.run import main as run_main
from harness.study.config import load_study
from harness.study.rows import ALL
from tests.support.processes import epochs, results, run, start, wait_until

QUICK = (
    "executor=local",
    "tracking.enabled=false",
    "dataset.limit=64",
    "train.epochs=2",
    "seeds=[0]",
    "backbone.width=4",
)


def test_help_of_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for main in (run_main, report.main, show.main):
        assert guarded(main, ["--help"]) == 0
        assert "usage: python -m harness." in capsys.readouterr().out


THREADS = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
except SystemExit:
    import torch
    print(torch.get_num_threads())
"""


@pytest.mark.parametrize("command", ["harness.report", "harness.run"])
def test_commands_compute_in_one_thread(command: str) -> None:
    """The one has imported torch before it begins, the other has not; the user's number wins."""
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    for given, threads in ((free, 1), (free | {"OMP_NUM_THREADS": "2"}, 2)):
        ran = subprocess.run(
            [sys.executable, "-c", THREADS, command],
            env=given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split()[-1] == str(threads)


def test_help_lists_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(run_main, ["--help"])
    text = capsys.readouterr().out
    for key in (
        "dataset.root",
        "train.epochs",
        "resources.gpus_per_trial",
        "tracking.uri",
        "missing.rate",
        "rerun",
        "executor",
    ):
        assert re.search(rf"^  {re.escape(key)} ", text, re.MULTILINE)
    # An entry that stands for several methods is no method's name, and is found here alone.
    assert re.search(rf"^  methods .*; {ALL}: the baseline and every method", text, re.MULTILINE)


@pytest.mark.parametrize(
    "argument", ["study=quickstrt", "methods=[sf_m]", "train.epoch=1", "--dry", "quickstart"]
)
def test_a_mistake_is_one_line_and_exit_code_two(
    argument: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert guarded(run_main, [argument, f"output={tmp_path / 'out'}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert guarded(run_main, [*QUICK, f"output={tmp_path / 'file' / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"error: {tmp_path / 'file'}")
        and "Not a directory" in error
        and error.count("\n") == 1
    )


def test_ctrl_c_outside_of_training_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: Sequence[str]) -> int:
        raise KeyboardInterrupt

    assert guarded(interrupted, []) == 130
    assert capsys.readouterr().err == "interrupted; nothing is lost, the same command goes on\n"


def test_asking_for_a_gpu_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert guarded(run_main, [*QUICK, "resources.gpus_per_trial=1", f"output={tmp_path}"]) == 2
    assert "resources.gpus_per_trial=1 and this machine has no GPU" in capsys.readouterr().err


def test_dry_run_plans_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(run_main, ["--dry-run", f"output={tmp_path / 'out'}"]) == 0
    text = capsys.readouterr().out
    assert "3 rows, 3 seeds, 9 trials on digits" in text
    assert "trials: 0 done, 0 stale, 0 failed, 9 to run" in text
    assert "thumb+spectrum+profile" in text and "1 CPU and 0 GPU per trial" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.timed
def test_dry_run_says_how_long_it_will_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"output={tmp_path / 'out'}", "methods=[sf_md]", "executor=local"]
    assert guarded(run_main, ["--dry-run", *given]) == 0
    last = r"1 of 1: sf_md\n  time: about \d+ s on this machine \(3 trials of \d+ s, 1 at once: "
    assert re.search(last, capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


def test_a_study_to_its_table_and_a_second_start_that_does_nothing(tmp_path: Path) -> None:
    arguments = (*QUICK, f"output={tmp_path}")
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    assert "\x1b" not in first.stdout and "thumb+spectrum+profile" in first.stdout
    files = {"report.md", "report.html", "report.tex", "report.csv", "heatmap.png", "plan.json"}
    assert files <= {path.name for path in (tmp_path / "quickstart").iterdir()}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    second = run(*arguments)
    assert second.returncode == 0 and "3 done, 0 stale, 0 failed, 0 to run" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")} == before


BROKEN = '''
from methods.sf_md import SFMD


class Broken(SFMD):
    """Fails in its loss."""

    def loss(self, output, batch):
        raise RuntimeError("no loss today")
'''


def test_a_failed_trial_is_listed_with_its_log_and_run_again_on_request(tmp_path: Path) -> None:
    method = tmp_path / "broken.py"
    method.write_text(BROKEN)
    arguments = (*QUICK, f"methods=[sf_md,{method}]", f"output={tmp_path / 'out'}")
    first = run(*arguments)
    assert first.returncode == 1
    assert "no loss today" in first.stdout and "log.txt" in first.stdout
    second = run(*arguments)
    assert second.returncode == 1 and "1 done, 0 stale, 1 failed, 0 to run" in second.stdout
    third = run(*arguments, "rerun=failed")
    assert third.returncode == 1 and "1 done, 0 stale, 1 failed, 1 to run" in third.stdout
    assert len(list((tmp_path / "out" / "store" / "superseded").iterdir())) == 1


def test_two_studies_share_a_trained_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*QUICK, f"output={tmp_path}", "methods=[sf_md]")
    other = tmp_path / "other.yaml"
    other.write_text("description: another question\nmethods: [sf_md, hemis]\n")
    recipe = [
        f"train.{key}={value}"
        for key, value in asdict(load_study([]).train).items()
        if value is not None and key != "epochs"
    ]
    backbone = [f"backbone.{key}={value}" for key, value in load_study([]).backbone.items()]
    given = [f"study={other}", *recipe, *backbone, *QUICK, f"output={tmp_path}"]
    assert guarded(run_main, [*given, "--dry-run"]) == 0
    assert "1 done, 0 stale, 0 failed, 1 to run" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_in_process_keeps_the_last_epoch_and_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = (*QUICK, "methods=[dmrnet]", "train.epochs=60", f"output={tmp_path / 'cut'}")
    driver = start(*arguments)
    wait_until(lambda: any(n >= 3 for n in epochs(tmp_path / "cut").values()), driver)
    driver.send_signal(signal.SIGINT)
    text = driver.communicate(timeout=120)[0]
    assert driver.returncode == 130
    assert "To go on: python -m harness.run" in text and "Traceback" not in text
    assert run(*arguments).returncode == 0
    whole = (*arguments[:-1], f"output={tmp_path / 'whole'}")
    assert run(*whole).returncode == 0
    assert results(*arguments) == results(*whole)
