"""Several trials evaluated at once: the same bits, and what happens when something ends."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.results import Results, read
from harness.errors import DiskError
from harness.robust.evidence import FOLDER
from harness.robust.progress import Steps
from harness.robust.work import work_of
from harness.robust.workers import run, workers_for
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
from tests.support.processes import alive
from tests.support.processes import run as run_command

CONDITIONS = 1 + 3 * 7 * 5

ENDING = """
import os
from pathlib import Path
from methods.sf_md import SFMD

class Ending(SFMD):
    def encode(self, modality, x):
        what = Path(__file__).with_name("what")
        if what.exists() and what.read_text() == "end":
            os._exit(7)
        if what.exists():
            raise ValueError("a stone")
        return super().encode(modality, x)
"""


def below(output: Path, *more: str) -> Results:
    """Three rows, one of a file, one seed and one epoch on 60 digits."""
    methods = f"methods=[{output.parent / 'ending.py'},sf_md,hemis]"
    study = load_study(
        [
            *("study=quickstart", "dataset.limit=60", methods, "seeds=[0]", "train.epochs=1"),
            *("evaluation.batch_size=25", f"output={output}", *more),
        ]
    )
    return read(Plan(study), Store.below(output))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained models."""
    output = tmp_path_factory.mktemp("workers") / "runs"
    (output.parent / "ending.py").write_text(ENDING)
    for trial in below(output).plan.trials:
        assert run_trial(trial.job).status == "done"
    return output


@pytest.fixture
def output(trained: Path, tmp_path: Path) -> Path:
    """A copy of them, with a file of the method of its own."""
    shutil.copy(trained.parent / "ending.py", tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def evidence(output: Path) -> dict[str, bytes]:
    """Scores and facts of each file, by trial and name."""
    found = {}
    for path in sorted(output.rglob(f"{FOLDER}/*.npz")):
        with np.load(path) as arrays:
            content = arrays["scores"].tobytes() + str(arrays["facts"]).encode()
        found[f"{path.parent.parent.name}/{path.name}"] = content
    return found


def trial_folder(output: Path, label: str) -> Path:
    results = below(output)
    return results.store.trial(results.of(label)[0].trial.id).path


def test_two_at_once_give_the_bits_of_one_after_the_other(output: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(output, tmp_path / "other"))
    one = run(work_of(below(output)), Steps(1))
    steps = Steps(10_000)
    two = run(work_of(below(other)), steps, workers=2)
    for found in (one, two):
        assert (found.equal, found.unequal, found.failed) == (3, {}, [])
        assert found.conditions == 3 * CONDITIONS
    assert steps.done == 3 * CONDITIONS * 3 and steps.running == []  # 60 samples, 25 a batch
    assert len(evidence(other)) == 3 * CONDITIONS
    assert evidence(other) == evidence(output)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("end", "ending seed 0: its worker died (exit code 7; killed, out of memory, or ended by"),
        pytest.param("raise", "ending seed 0: ValueError: a stone", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_dies_is_one_sentence_and_the_others_go_on(
    output: Path, what: str, said: str
) -> None:
    (output.parent / "what").write_text(what)
    found = run(work_of(below(output)), Steps(1), workers=2)
    (sentence,) = found.failed
    assert sentence.startswith(said)
    assert not (trial_folder(output, "ending") / FOLDER).exists()
    for label in ("sf_md", "hemis"):
        assert len(list((trial_folder(output, label) / FOLDER).iterdir())) == CONDITIONS
    (output.parent / "what").unlink()
    assert run(work_of(below(output)), Steps(1), workers=2).conditions == CONDITIONS


def test_what_cannot_be_written_ends_all_workers(output: Path) -> None:
    for label in ("ending", "sf_md", "hemis"):
        (trial_folder(output, label) / FOLDER).write_text("no folder")
    with pytest.raises(DiskError, match="cannot be written"):
        run(work_of(below(output)), Steps(1), workers=2)
    assert not multiprocessing.active_children()


def test_as_many_trials_at_once_as_are_trained_at_once(output: Path) -> None:
    def workers(*arguments: str) -> int:
        return workers_for(work_of(below(output, *arguments)))

    cores = os.cpu_count() or 1
    assert workers() == min(3, cores)
    assert workers("resources.cpus_per_trial=0.01") == 3  # trials
    assert workers(f"resources.cpus_per_trial={cores}") == 1
    assert workers("resources.cpus_per_trial=0.01", "resources.max_concurrent=2") == 2
    assert workers("resources.cpus_per_trial=0.01", "executor=local") == 1
    run(work_of(below(output)), Steps(1))
    assert workers("resources.cpus_per_trial=0.01") == 1  # nothing is left


# ---------------------------------------------------------------------- signals

STUDY = (
    *("study=quickstart", "methods=[sf_md,hemis]", "seeds=[0,1]", "train.epochs=1"),
    "dataset.limit=200",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models trained on 200 digits."""
    output = tmp_path_factory.mktemp("whole") / "runs"
    for trial in Plan(load_study([*STUDY, f"output={output}"])).trials:
        assert run_trial(trial.job).status == "done"
    return output


def arguments(output: Path) -> list[str]:
    return [*STUDY, f"output={output}", "tracking.enabled=false", "resources.cpus_per_trial=0.5"]


def start(output: Path) -> subprocess.Popen[str]:
    """The command in a session of its own, as in a terminal; it hears Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.robust", *arguments(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(process: subprocess.Popen[str], output: Path) -> list[int]:
    """Wait until two trials have evidence; the workers, and what else the command started."""
    until(lambda: len(list(output.rglob(FOLDER))) > 1 and len(evidence(output)) > 10)
    assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) > 2
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_workers_and_what_is_evaluated_is_kept(
    whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = Path(shutil.copytree(whole, tmp_path / "runs"))
    process = start(output)
    children = running(process, output)
    # A terminal sends Ctrl-C to all of them, a scheduler its signal to the command.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert said == "interrupted; nothing is lost, the same command goes on\n"
    until(lambda: not any(map(alive, children)))
    assert not list(output.rglob("*.tmp"))
    before = evidence(output)
    assert 10 < len(before) < 4 * CONDITIONS

    done = run_command(*arguments(output), module="harness.robust")
    assert done.returncode == 0, done.stderr
    assert f"{4 * CONDITIONS - len(before)} of {4 * CONDITIONS} to do" in done.stdout
    after = evidence(output)
    assert len(after) == 4 * CONDITIONS and before.items() <= after.items()


@pytest.mark.slow
@pytest.mark.long
def test_a_worker_that_is_killed_is_told_and_a_killed_command_leaves_none_behind(
    whole: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(whole, tmp_path / "runs"))
    process = start(output)
    workers = [
        child
        for child in running(process, output)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert len(workers) > 1
    os.kill(workers[0], signal.SIGKILL)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("error: ") and "its worker died (SIGKILL; killed, out of memory" in line
    whole_ones = [one for one in output.rglob(FOLDER) if len(list(one.iterdir())) == CONDITIONS]
    assert len(whole_ones) == 3

    for folder in whole_ones:
        shutil.rmtree(folder)
    process = start(output)
    children = running(process, output)
    process.kill()
    process.communicate()
    until(lambda: not any(map(alive, children)))
