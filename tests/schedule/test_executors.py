"""Executors: those that a study may name, the order of a list, and a third executor."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from harness.run import main
from harness.schedule.executor import Executor, Observer, TrialList, TrialSource
from harness.schedule.registry import EXECUTORS
from harness.study.config import Study, load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.spec import Outcome
from harness.training.trial import run_trial

TINY = (
    *("dataset.limit=40", "train.epochs=1", "train.batch_size=20", "backbone.width=2"),
    *("seeds=[0]", "tracking.enabled=false"),
)


class Pairs(Executor):
    """Takes two trials at a time, where there are two, and runs the second one first."""

    where = "in pairs"

    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while not source.over:
            pair = [trial for _ in range(2) if (trial := source.next(observer)) is not None]
            for trial in reversed(pair):
                observer.started(trial)
                outcomes.append(run_trial(trial.job))
                observer.finished(trial, outcomes[-1])
                source.ended(trial)
        return outcomes


class Silent:
    """Observes nothing but what was finished."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def started(self, trial: PlannedTrial) -> None: ...

    def epoch(self, trial: PlannedTrial, epoch: int, epochs: int, value: float) -> None: ...

    def interrupted(self, trial: PlannedTrial, reason: str) -> None: ...

    def warned(self, sentence: str) -> None: ...

    def finished(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.ended.append(trial.id)


def test_a_study_may_name_every_executor_and_no_other() -> None:
    (field,) = (field for field in fields(Study) if field.name == "executor")
    assert set(field.metadata["choices"]) == set(EXECUTORS)


def test_a_third_executor_runs_a_study_and_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(EXECUTORS, "local", Pairs)
    search = ("search.space.dmrnet.alpha=[1e-4,1e-3]", "search.seeds=[100,101]")
    tables = []
    for name in ("pairs", "local"):
        output = tmp_path / name
        arguments = [*TINY, *search, "methods=[sf_md,dmrnet]", "executor=local"]
        assert main([*arguments, f"output={output}"]) == 0
        tables.append((output / "quickstart" / "report.csv").read_bytes())
        monkeypatch.undo()
    assert "executor: in pairs; 1 CPU" in capsys.readouterr().out
    assert tables[0] == tables[1]


def test_a_list_hands_out_what_others_need_first_and_waits_for_it(tmp_path: Path) -> None:
    plan = Plan(load_study([*TINY, "methods=[mmanet,sf_md]", f"output={tmp_path}"]))
    (teacher,), (student, plain) = plan.stages, plan.trials
    source, observer = TrialList([student, plain, teacher]), Silent()
    assert source.next(observer) is plain and source.next(observer) is teacher
    assert source.next(observer) is None and not source.over
    source.ended(plain)
    assert source.next(observer) is None
    # The teacher left nothing behind: the student cannot run, and that is its recorded failure.
    source.ended(teacher)
    assert source.next(observer) is None and source.over
    assert observer.ended == [student.id] and source.blocked[0].status == "failed"
    assert "it has no record" in str(source.blocked[0].reason)
