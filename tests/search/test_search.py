"""The search: its space and refusals, exact grids, val only, and the rows that it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from harness.dataset import Dataset
from harness.errors import UserError
from harness.search.journal import evaluated_points, studies, winners, with_winners
from harness.search.plan import SearchPlan
from harness.session import Session
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.trial import run_trial
from tests.support.processes import run
from tests.support.searches import BIASED, GRID, TINY, VARIED, MakePlan, done, search_below


@pytest.fixture
def searched(tmp_path: Path) -> MakePlan:
    """``searched(*arguments, to="runs")``: the search of a tiny quick start below tmp_path."""
    return lambda *arguments, to="runs": search_below(tmp_path / to, *arguments)


# ---------------------------------------------------------------------- the space


def test_ranges_are_the_declared_ones_unless_given(searched: MakePlan) -> None:
    declared = searched("methods=[sf_md,dmrnet]", "search.trials=5").subjects
    assert [(subject.row.label, subject.points) for subject in declared] == [("dmrnet", 5)]
    assert [axis.describe() for axis in declared[0].space.axes] == [
        "alpha 0.0001..0.01 (log)",
        "beta 0.3..0.7",
    ]
    (given,) = searched("methods=[dmrnet]", "search.space.dmrnet.alpha={high: 1e-1}").subjects
    assert ([axis.describe() for axis in given.space.axes], given.points) == (
        ["alpha 0.0001..0.1 (log)"],
        20,
    )
    (whole,) = searched("methods=[rfnet]", "search.space.rfnet.regions={low: 2, high: 4}").subjects
    assert whole.points == 3 and [axis.describe() for axis in whole.space.axes] == ["regions 2..4"]


@pytest.mark.parametrize("count", [1, 3, 5, 6, 9])
def test_a_grid_has_each_point_once_and_the_studys_own_first(
    searched: MakePlan, count: int
) -> None:
    lists = (
        "methods=[dmrnet]",
        "search.space.dmrnet={alpha: [1e-4, 1e-3], beta: [0.3, 0.5, 0.7]}",
        f"search.trials={count}",
    )
    search = searched(*lists)
    points = search.listed(search.subjects[0])
    assert points[0] == {"alpha": 1e-3, "beta": 0.7}
    assert (
        len({tuple(point.values()) for point in points})
        == len(points)
        == min(count, 6)
        == search.subjects[0].points
    )
    more = searched(*lists[:-1], "search.trials=5").listed(search.subjects[0])
    assert count > 5 or more[:count] == points  # a larger budget continues a smaller one


def test_own_values_outside_of_the_space_are_no_point_of_it(searched: MakePlan) -> None:
    search = searched("methods=[dmrnet]", "search.space.dmrnet.alpha=[1e-4,1e-2]")
    assert search.listed(search.subjects[0]) == [{"alpha": 1e-4}, {"alpha": 1e-2}]


MISTAKES = {
    "search.trials=0": "search.trials=0 must be at least 1",
    "search.sampler=tp": "search.sampler='tp' is not a legal value; did you mean 'tpe'?",
    "search.sampler=grid": "search.sampler=grid needs lists of values, and dmrnet is searched over "
    "an interval",
    "search.seeds=[]": "search.seeds is empty",
    "search.seeds=[7,7]": "search.seeds=[7, 7] must be different",
    "search.seeds=[0,100]": "search.seeds=[0, 100] and seeds=[0] share 0",
    "search.methods=[dmrnt]": "unknown row in search.methods 'dmrnt'; did you mean 'dmrnet'?",
    "search.methods=[sf_md]": "search.methods: sf_md declares no range to search",
    "methods=[sf_md]": "no method of this study has a hyperparameter to search",
    "search.space.dmrnt.alpha=[1,2]": "unknown method in search.space 'dmrnt'; "
    "did you mean 'dmrnet'?",
    "search.space.dmrnet=3": "search.space.dmrnet=3 must be a block of hyperparameters, such as "
    "search.space.dmrnet.alpha=[...]",
    "search.space.dmrnet.alph=[1,2]": "'search.space.dmrnet.alph'; "
    "did you mean 'search.space.dmrnet.alpha'?",
    "search.space.dmrnet.alpha=1e-3": "must be a list of values or {low: ..., high: ...}; "
    "one value belongs into hparams",
    "search.space.dmrnet.alpha=[1e-3]": "must hold at least two values, all different",
    "search.space.dmrnet.alpha=[1,1]": "must hold at least two values, all different",
    "search.space.dmrnet.alpha=[1,-1]": "search.space.dmrnet.alpha=-1 is outside its range",
    "search.space.dmrnet.alpha=[low]": "search.space.dmrnet.alpha='low' is not a value of "
    "type float",
    "search.space.dmrnet.alpha={lo: 1}": "'search.space.dmrnet.alpha.lo'; "
    "did you mean 'search.space.dmrnet.alpha.low'?",
    "search.space.dmrnet.alpha={low: 0, high: 1}": "low=0.0 must be less than high=1.0, "
    "and above 0 where log is true",
    "search.space.dmrnet.beta={low: 2, high: 1}": "low=2.0 must be less than high=1.0",
    "search.space.dmrnet.beta={log: 2}": "search.space.dmrnet.beta.log=2 must be true or false",
    "search.space.dmrnet.hard_set={low: 1}": "search.space.dmrnet.hard_set has no order",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_each_mistake_is_one_sentence(searched: MakePlan, argument: str) -> None:
    with pytest.raises(UserError) as caught:
        searched("methods=[sf_md,dmrnet]", "search.trials=4", argument)
    assert MISTAKES[argument] in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- val only


def test_a_search_reads_no_test_data_and_a_later_plan_completes_without_training(
    searched: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, splits = searched("methods=[dmrnet]", "search.trials=1", "train.epochs=3"), list[str]()
    load = Dataset.load
    owner = type(search.plan.dataset)
    load = owner.load
    monkeypatch.setattr(
        owner, "load", lambda self, split: splits.append(split) or load(self, split)
    )
    done(search)
    assert set(splits) == {"train", "val"}
    store, (point,) = (
        Store.below(search.plan.study.output),
        evaluated_points(search)[search.subjects[0]],
    )
    trials = search.trials_of(search.subjects[0], point.point)
    for trial in trials:
        found = store.trial(trial.id)
        assert (
            found.record() is None
            and not (found / "scores.npz").exists()
            and not (found / "record.json").exists()
        )
        assert set((found.selection() or {})["cells"]) == {"val"} and set(
            np.load(found / "val.npz")
        ) == {
            "val",
            "val_available",
            "val_target",
        }
        assert store.state(trial.id, trial.job.code()) == "validated"
        assert store.state(trial.id, trial.job.code(), test=False) == "done"
    later = Plan(
        load_study(
            [
                *TINY,
                "train.epochs=3",
                "methods=[dmrnet]",
                "seeds=[100]",
                f"output={search.plan.study.output}",
            ]
        )
    )
    assert later.trials[0].id == trials[0].id  # identity does not depend on who asked
    assert [trial.id for trial in later.to_run(later.states(store))] == [trials[0].id]
    never = Plan(
        load_study(
            [
                *TINY,
                "train.epochs=3",
                "methods=[dmrnet]",
                "seeds=[100]",
                f"output={store.root.parent}-never",
            ]
        )
    )
    whole = [_completed(plan.trials[0]) for plan in (never, later)]
    assert whole[0] == whole[1]
    assert (store.trial(trials[0].id) / "log.txt").read_text().count("epoch 1/3") == 1
    left = {path.name for path in store.trial(trials[0].id).path.iterdir()}
    assert left == {
        "spec.json",
        "log.txt",
        "metrics.jsonl",
        "weights.pt",
        "scores.npz",
        "record.json",
    }


def _completed(trial: PlannedTrial) -> Any:
    """Run a trial to its record; what of it must not depend on its history."""
    assert run_trial(trial.job).status == "done"
    record = Store(Path(trial.job.store)).trial(trial.id).record()
    assert record is not None
    return record["files"], record["cells"], record["selected_epoch"], record["val_mean"]


# ---------------------------------------------------------------------- what is told


def test_each_point_is_told_the_mean_of_its_seeds_on_val(searched: MakePlan) -> None:
    search = searched(*GRID, *VARIED)
    names = done(search)
    assert len(names) == len(set(names)) == 8 and names[0] == "dmrnet[alpha=1e-3,beta=0.7] seed 100"
    ((_, study),) = studies(search)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert study.direction.name == "MAXIMIZE"
    for trial in study.trials:
        assert trial.value == pytest.approx(
            np.mean([by_hand(search, name) for name in trial.user_attrs["trial_ids"]]), rel=1e-12
        )
    means = {trial.number: trial.value for trial in study.trials}
    assert len(set(means.values())) > 2
    best = study.trials[max(means, key=lambda number: (means[number], -number))].params
    assert [row.hparams | best for row in winners(search)] == [
        row.hparams for row in winners(search)
    ]
    assert len(winners(search)) == (best != search.subjects[0].own)
    assert done(search) == []  # a search that is over asks for nothing
    assert all(json.loads(line) for line in search.journal.read_text().splitlines())
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(search.journal))
    )
    assert optuna.get_all_study_names(storage) == [search.name(search.subjects[0])]


def by_hand(search: SearchPlan, trial_id: str) -> float:
    """Mean accuracy over the combinations, from the stored scores of each sample on val."""
    found = np.load(Store.below(search.plan.study.output).trial(trial_id) / "val.npz")
    return float(
        np.mean([100 * np.mean(scores.argmax(1) == found["val_target"]) for scores in found["val"]])
    )


FAILING = '''
from harness.errors import TrialFailure
from harness.protocol.hyperparameters import Range
from methods.sf_md import SFMD


class Failing(SFMD):
    """Fails above 2."""

    hyperparameters = {"weight": Range(1.0, 0.0, 4.0, help="fails above 2")}

    def loss(self, output, batch):
        if self.weight > 2:
            raise TrialFailure(f"weight {float(self.weight):g} is too large")
        return super().loss(output, batch)
'''


def test_a_failed_seed_fails_its_point_once_and_is_said(searched: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    given = (f"methods=[{tmp_path / 'failing.py'}]", "search.space.failing.weight=[1.0,2.0,3.0]")
    search = searched(*given)
    assert len(done(search)) == 5  # the other seed of the failed point is not run
    points = evaluated_points(search)[search.subjects[0]]
    assert [point.value is None for point in points] == [False, False, True]
    assert "weight 3 is too large" in points[2].reason
    assert done(search) == []
    again = SearchPlan(search.plan)
    assert done(again, "failed") == ["failing[weight=3] seed 100"]
    assert [point.value for point in evaluated_points(again)[again.subjects[0]]] == [
        point.value for point in points
    ]


def test_what_a_methods_trials_need_is_trained_before_and_on_val_only(searched: MakePlan) -> None:
    names = done(
        searched("methods=[mmanet]", "search.space.mmanet.mad=[1.0,30.0]", "train.epochs=2")
    )
    teachers = [f"mmanet teacher seed {seed} on thumb+spectrum+profile" for seed in (100, 101)]
    assert names[:3] == [*teachers, "mmanet[mad=3e1] seed 100"]
    assert len(names) == 6 and sum("teacher" in name for name in names) == 2


# ---------------------------------------------------------------------- the study


def test_the_winner_is_a_row_on_fresh_seeds_beside_the_studys_own_values(
    searched: MakePlan, tmp_path: Path
) -> None:
    (tmp_path / "biased.py").write_text(BIASED)
    rows = f"methods=[sf_md,{tmp_path / 'biased.py'},hemis]"
    search = searched(
        rows,
        "search.space.biased.bias=[1000.0,0.0]",
        "train.epochs=3",
        "dataset.limit=96",
        "backbone.width=4",
    )
    store = Store.below(search.plan.study.output)
    assert Session(search.plan, store, []).run(search.plan.states(store)) == 0
    plan = with_winners(search.plan)
    assert [row.label for row in plan.rows] == ["sf_md", "biased", "biased[searched]", "hemis"]
    assert plan.rows[2].hparams == {"bias": 0.0, "more": 0.0}
    assert {trial.seed for trial in plan.trials} == {0}
    records = [store.trial(trial.id).record() for trial in plan.trials]
    assert all(record is not None and "test" in record["cells"] for record in records)


def test_own_values_that_win_are_no_second_row(searched: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "biased.py").write_text(BIASED)
    search = searched(
        f"methods=[{tmp_path / 'biased.py'}]", "search.space.biased.bias=[1000.0,999.0]"
    )
    assert winners(search) == [] and with_winners(search.plan) is search.plan
    done(search)
    # Both say one class for everything: equal values, and the first of equals wins.
    assert len({point.value for point in evaluated_points(search)[search.subjects[0]]}) == 1
    assert winners(search) == [] and with_winners(search.plan) is search.plan


def test_the_plan_is_told_before_anything_starts(tmp_path: Path) -> None:
    answer = run(*TINY, *GRID, f"output={tmp_path}", "--dry-run")
    assert answer.returncode == 0
    assert (
        "search: dmrnet over alpha 0.0001, 0.001 x beta 0.3, 0.7: 4 points, the whole grid"
        in answer.stdout
    )
    assert "8 trials: 2 seeds per point (100, 101), val only" in answer.stdout
    assert "points: 0 of 4 are told" in answer.stdout
    # The search's, those of its winner and of the study's own row, each with the study's seeds.
    assert f" ({8 + 2 * len(load_study(TINY).seeds)} trials of " in answer.stdout
    assert not (tmp_path / "quickstart").exists()
