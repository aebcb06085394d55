"""A search does not depend on where a driver is killed: at any line of the journal, twice."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from harness.search.journal import sample, studies, winners
from harness.search.plan import SearchPlan
from harness.session import Session
from harness.store import Store
from harness.study.search_space import Axis
from tests.support.searches import GRID, LEARNED, VARIED, MakePlan, done, search_below


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchPlan:
    """A grid of four points that has been searched."""
    search = search_below(tmp_path_factory.mktemp("finished"), *GRID, *VARIED)
    assert len(done(search)) == 8
    return search


@pytest.fixture
def searched(tmp_path: Path) -> MakePlan:
    """``searched(*arguments, to="runs")``: the search of a tiny quick start below tmp_path."""
    return lambda *arguments, to="runs": search_below(tmp_path / to, *arguments)


def journal(search: SearchPlan) -> list[tuple[Any, ...]]:
    """Everything of the points but times."""
    ((_, study),) = studies(search)
    return [
        (trial.number, trial.state.name, trial.params, trial.value, trial.user_attrs)
        for trial in study.trials
    ]


class Killed(BaseException):
    """Stands for a process that ends here: nothing may catch it."""


def interrupted(search: SearchPlan, after: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Search until the journal has grown by so many lines; whether it came to its end before."""
    from optuna.storages.journal import JournalFileBackend

    left, append = [after], JournalFileBackend.append_logs

    def stop(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        for log in logs:
            if not left[0]:
                raise Killed
            left[0] -= 1
            append(self, [log])

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", stop)
        try:
            done(search)
        except Killed:
            return False
    return True


def check_kills(
    whole: SearchPlan, broken: SearchPlan, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill a search after every ``step`` lines of the journal; it must end as if not killed."""
    # The trials themselves are copied: what is asked must not depend on what the store knows
    # already.
    shutil.copytree(
        Store.below(whole.plan.study.output).root, Store.below(broken.plan.study.output).root
    )
    times = 0
    while not interrupted(broken, step, monkeypatch):
        times += 1
        assert times < 500, "a search that is killed again and again makes no progress"
    assert times > 1
    assert journal(broken) == journal(whole)
    assert winners(broken) == winners(whole)


@pytest.mark.parametrize("step", [1, 7])
def test_wherever_a_driver_is_killed_a_grid_is_told_as_if_it_had_not_been(
    searched: MakePlan, finished: SearchPlan, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [state for _, state, *_ in journal(finished)] == ["COMPLETE"] * 4
    check_kills(finished, searched(*GRID, *VARIED), step, monkeypatch)


@pytest.mark.slow
def test_wherever_a_driver_is_killed_points_that_learn_are_the_same(
    searched: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = searched(*LEARNED, to="whole")
    done(whole)
    found = journal(whole)
    assert [state for _, state, *_ in found] == ["COMPLETE"] * 14 and len(
        {value for *_, value, _ in found}
    ) > 5
    for step in (1, 2, 3, 5, 11):
        check_kills(whole, searched(*LEARNED, to=f"broken{step}"), step, monkeypatch)


STOPPING = '''
from pathlib import Path

from harness.protocol.hyperparameters import Range
from methods.sf_md import SFMD


class Stopping(SFMD):
    """Presses Ctrl-C at its second weight, once."""

    hyperparameters = {"weight": Range(1.0, 0.0, 4.0)}

    def loss(self, output, batch):
        once = Path(__file__).with_name("once")
        if self.weight == 2 and not once.exists():
            once.touch()
            raise KeyboardInterrupt
        return super().loss(output, batch)
'''


def test_ctrl_c_says_how_to_go_on_and_ends_with_130(
    searched: MakePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stopping.py").write_text(STOPPING)
    search = searched(
        f"methods=[{tmp_path / 'stopping.py'}]", "search.space.stopping.weight=[1.0,2.0]"
    )
    store = Store.below(search.plan.study.output)
    assert Session(search.plan, store, ["study=x"]).run(search.plan.states(store)) == 130
    assert "To go on: python -m harness.run study=x" in capsys.readouterr().err
    assert [state for _, state, *_ in journal(search)] == ["COMPLETE", "RUNNING"]
    assert Session(search.plan, store, ["study=x"]).run(search.plan.states(store)) == 0
    assert [state for _, state, *_ in journal(search)] == ["COMPLETE"] * 2
    assert "search: stopping: the best of 2 points is stopping[weight=" in capsys.readouterr().out


def test_half_a_line_and_a_lock_of_a_killed_driver_are_removed(
    searched: MakePlan, finished: SearchPlan
) -> None:
    search = searched(*GRID, *VARIED)
    shutil.copytree(finished.plan.study.output, search.plan.study.output)
    lines = search.journal.read_bytes().splitlines(keepends=True)
    search.journal.write_bytes(b"".join(lines[:-5]) + lines[-5][:7])
    search.journal.with_name("search.journal.lock").symlink_to(search.journal)
    assert done(search) == []  # every trial is in the store
    assert journal(search) == journal(finished)


def test_what_is_suggested_depends_on_the_seed_and_on_what_was_told() -> None:
    axes, seeds = [Axis("alpha", (), 1e-4, 1e-2, True), Axis("kind", ("a", "b"))], range(20)
    studies = [optuna.create_study() for _ in range(3)]
    for study, best in zip(studies, (2e-4, 2e-4, 5e-3), strict=True):
        for number in range(20):
            point = {"alpha": 1e-4 * 100 ** (number / 19), "kind": "ab"[number % 2]}
            space = {
                "alpha": FloatDistribution(1e-4, 1e-2, log=True),
                "kind": CategoricalDistribution(["a", "b"]),
            }
            value = abs(math.log(point["alpha"] / best))
            study.add_trial(
                optuna.trial.create_trial(params=point, distributions=space, value=value)
            )
    first, same, other = (
        [sample(study, "tpe", seed, axes)["alpha"] for seed in seeds] for study in studies
    )
    assert first == same and len(set(first)) == 20
    # What it has learned: most points are nearer to the best one, on the logarithmic scale, than to
    # the other study's.
    assert sum(alpha < 1e-3 for alpha in first) > 15 and sum(alpha > 1e-3 for alpha in other) > 15
    drawn = [[sample(study, "random", seed, axes) for seed in seeds] for study in studies]
    assert drawn[0] == drawn[2]
    assert len(studies[0].trials) == 20


def test_other_settings_are_another_search_and_more_points_are_the_same(searched: MakePlan) -> None:
    search = searched(*GRID)
    name = search.name(search.subjects[0])
    assert name.startswith("quickstart/dmrnet ")
    for argument in (
        "train.epochs=2",
        "search.seeds=[100]",
        "search.space.dmrnet.beta=[0.3,0.5]",
        "hparams.dmrnet.alpha=1e-4",
    ):
        other = searched(*GRID, argument)
        assert other.name(other.subjects[0]) != name
    more = searched(*GRID, "search.trials=2")
    assert more.name(more.subjects[0]) == name
