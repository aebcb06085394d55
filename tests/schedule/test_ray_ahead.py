"""Ray is started while a study is still planned: its trials use it, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.run import expects_trials
from harness.schedule.driver import PLAN
from harness.schedule.executor import Observer
from harness.schedule.on_ray.executor import LOG, RayExecutor
from harness.schedule.private_folder import NAME, _parents
from harness.store import Store, write_json
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.spec import Outcome
from tests.support.processes import run
from tests.support.ray_processes import members, ray_leader

TINY = (
    *("methods=[sf_md]", "seeds=[0]", "train.epochs=1", "dataset.limit=64", "backbone.width=4"),
    "tracking.enabled=false",
)


class Heard(Observer):
    """Which process runs Ray when a trial starts, and what is said."""

    def __init__(self) -> None:
        self.leaders: list[int] = []
        self.sentences: list[str] = []

    def started(self, trial: PlannedTrial) -> None:
        self.leaders.append(ray_leader(os.getpid()))

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None:
        pass

    def interrupted(self, trial: PlannedTrial, reason: str) -> None:
        self.sentences.append(reason)

    def warned(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        pass


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def folders(leader: int) -> list[Path]:
    """The private folders of the Ray of one process; other tests may run others."""
    return [path for parent in _parents() for path in sorted(parent.glob(f"{NAME}-{leader}-*"))]


def test_trials_use_the_ray_that_was_started_for_them(tmp_path: Path) -> None:
    plan = Plan(load_study([*TINY, f"output={tmp_path}"]))
    executor, heard = RayExecutor(plan.study.resources, plan.study.folder), Heard()
    executor.start()
    leader = ray_leader(os.getpid())
    assert leader and not plan.study.folder.exists()
    # No trial yet: Ray starts all the same.
    wait_for(lambda: len(members(leader)) > 1)
    (outcome,) = executor.run(plan.trials, heard)
    executor.close()
    assert outcome.status == "done" and heard.sentences == []
    assert heard.leaders == [leader] and members(leader) == []


def test_ray_that_dies_before_there_are_trials_is_started_again(tmp_path: Path) -> None:
    plan = Plan(load_study([*TINY, f"output={tmp_path}"]))
    executor, heard = RayExecutor(plan.study.resources, plan.study.folder), Heard()
    executor.start()
    leader = ray_leader(os.getpid())
    os.kill(leader, signal.SIGKILL)
    (outcome,) = executor.run(plan.trials, heard)
    assert outcome.status == "done" and leader not in heard.leaders
    (sentence,) = heard.sentences
    assert sentence.startswith("the process that Ray runs in died; Ray is started again (1 of 3)")


@pytest.mark.slow
def test_what_it_printed_before_there_was_a_folder_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(load_study([*TINY, f"output={tmp_path}"]))
    executor = RayExecutor(plan.study.resources, plan.study.folder)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    executor.start()
    leader = ray_leader(os.getpid())
    # Each import is a line of its stderr, long before it is told of a folder.
    wait_for(lambda: len(members(leader)) > 1)
    executor.run(plan.trials, Heard())
    lines = (plan.study.folder / LOG).read_text().splitlines()
    named = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    first, last = named.index("encodings"), named.index("ray.tune")
    assert first < last and named.count("ray.tune") == 1


def test_nothing_is_left_of_it_where_nothing_is_run(tmp_path: Path) -> None:
    executor = RayExecutor(load_study([*TINY, f"output={tmp_path}"]).resources, tmp_path / "x")
    executor.start()
    leader = ray_leader(os.getpid())
    wait_for(lambda: len(members(leader)) > 1)
    assert len(set(folders(leader))) == 1
    executor.close()
    assert members(leader) == [] and folders(leader) == [] and list(tmp_path.iterdir()) == []
    executor.close()


def test_a_mistake_that_only_the_plan_finds_leaves_nothing(tmp_path: Path) -> None:
    answer = run(*TINY, f"output={tmp_path / 'out'}", "train.combination=taste")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: unknown modality 'taste'"), answer.stderr
    assert answer.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_trials_are_expected_of_a_study_that_is_new_or_not_over(tmp_path: Path) -> None:
    study = load_study([*TINY, f"output={tmp_path}"])
    store = Store.below(study.output)
    assert expects_trials(study, store)
    planned = [{"trial_id": name, "label": "sf_md", "seed": 0} for name in ("one", "two")]
    write_json(study.folder / PLAN, {"study": study.name, "trials": planned})
    assert expects_trials(study, store)
    write_json(store.trial("one") / "record.json", {})
    store.trial("two").save_failure({"reason": "it failed"})
    assert not expects_trials(study, store)
    (store.trial("one") / "record.json").unlink()
    assert expects_trials(study, store)
    for damaged in ("", "{", "[]", '{"trials": 3}', '{"trials": ["one"]}', '{"trials": [{}]}'):
        (study.folder / PLAN).write_text(damaged)
        assert expects_trials(study, store), damaged
