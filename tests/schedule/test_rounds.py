"""Rounds of seeds by the command: run, looked at, gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import report, run
from harness.analysis.rounds.looks import with_rounds
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.study.seed_rounds import Rounds
from tests.support import processes
from tests.support.processes import epochs, start, wait_until

ROUNDS = "seeds={first: 3, most: 5, difference: 0.5}"
STUDY = ("executor=local", "dataset.limit=60", "backbone.width=4", ROUNDS)


def rounds_in(*arguments: str) -> Rounds:
    """What the store says of a study's rounds."""
    study = load_study(list(arguments))
    found = with_rounds(Plan(study), Store.below(study.output)).rounds
    assert found is not None
    return found


def test_rounds_are_run_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        *STUDY,
        "methods=[sf_md,hemis]",
        "train.epochs=1",
        "tracking.enabled=false",
        f"output={tmp_path}",
    )
    assert run.main([*arguments, "--dry-run"]) == 0
    assert "6 trials at least, 10 at most; round 1 of at most 2" in capsys.readouterr().out
    assert run.main(arguments) == 0
    out = capsys.readouterr().out
    assert "[round 1 of at most 2, 0/6] start sf_md seed 0" in out
    assert "look 1: 6 trials, 3 seeds of rows in question" in out
    found = rounds_in(*arguments)
    assert found.ending and len(found.looks) == (2 if "[round 2" in out else 1)
    planned = json.loads((tmp_path / "quickstart" / "plan.json").read_text())["trials"]
    assert len(planned) == sum(found.seeds.values()) == found.looks[-1].trials
    answered = out[out.index("Seeds came in rounds") :].partition("\n")[0]
    # The report says the same from the store alone.
    page = (tmp_path / "quickstart" / "report.md").read_text()
    assert report.main(arguments) == 0
    assert answered in capsys.readouterr().out and "## Rounds of seeds" in page
    assert (tmp_path / "quickstart" / "report.md").read_text() == page


@pytest.mark.slow
def test_a_round_with_a_failed_trial_is_no_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told is the failure; nothing of a later round is run."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from methods.sf_md import SFMD\n\n\nclass Broken(SFMD):\n"
        '    """Fails when it is trained."""\n\n'
        "    def loss(self, output, batch):\n        raise ValueError('no')\n"
    )
    arguments = [
        *STUDY,
        f"methods=[sf_md,{broken}]",
        "train.epochs=1",
        "tracking.enabled=false",
        f"output={tmp_path / 'runs'}",
    ]
    assert run.main(arguments) == 1
    out = capsys.readouterr().out
    assert "round 2" not in out.replace("of at most 2", "") and "look 1" not in out
    assert not rounds_in(*arguments).looks


@pytest.mark.slow
def test_killed_in_the_second_round_it_ends_with_the_same(tmp_path: Path) -> None:
    several = (*STUDY, "methods=[sf_md,hemis,dmrnet]", "train.epochs=8")
    quiet = (*several, f"output={tmp_path / 'quiet'}")
    assert processes.run(*quiet).returncode == 0
    output = tmp_path / "killed"
    arguments = (*several, f"output={output}")
    for done in (4, 10):  # in the first round, and in the second
        driver = start(*arguments)

        def reached(done: int = done) -> bool:
            return len(list(output.glob("store/*/record.json"))) >= done and any(
                0 < count < 8 for count in epochs(output).values()
            )

        wait_until(reached, driver)
        driver.kill()
        driver.communicate()
        assert not rounds_in(*arguments).ending
    assert len(rounds_in(*arguments).looks) == 1
    last = processes.run(*arguments)
    assert last.returncode == 0, last.stdout + last.stderr
    again = processes.run(*arguments)
    assert again.returncode == 0 and " start " not in again.stdout
    assert rounds_in(*arguments) == rounds_in(*quiet)
    tables = [
        (folder / "quickstart" / "report.csv").read_bytes()
        for folder in (output, tmp_path / "quiet")
    ]
    assert tables[0] == tables[1]
    assert sorted(Store.below(output).ids()) == sorted(Store.below(tmp_path / "quiet").ids())


@pytest.mark.slow
def test_rounds_on_ray_are_mirrored(tmp_path: Path) -> None:
    """Each round is a Ray session of its own; MLflow has all trials at the end."""
    arguments = (
        *STUDY[1:],
        "methods=[sf_md,hemis]",
        "train.epochs=1",
        f"output={tmp_path}",
    )
    done = processes.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rounds_in(*arguments)
    trials = json.loads((tmp_path / "quickstart" / "plan.json").read_text())["trials"]
    assert found.ending and len(trials) == sum(found.seeds.values())
    for trial in trials:
        assert list((tmp_path / "quickstart").rglob(f"{trial['trial_id']}.json")), trial
