"""Trial ids are hashes of meaning; rows and labels follow from the study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from harness.schedule.driver import describe
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.study.rows import short

MY_METHOD = '''
from harness.protocol.hyperparameters import Range
from methods.sf_md import SFMD


class Mine(SFMD):
    """The baseline under another name."""

    hyperparameters = {"gain": Range(1.0, 0.0, 2.0)}
'''


def plan(*arguments: str) -> Plan:
    return Plan(load_study(list(arguments)))


def ids(*arguments: str) -> list[str]:
    return [trial.id for trial in plan(*arguments).trials]


def test_ids_ignore_paths_devices_tracker_and_scheduling() -> None:
    elsewhere = (
        "output=/elsewhere",
        "resources.gpus_per_trial=0.5",
        "resources.cuda_graph=true",
        "tracking.uri=http://h:1",
        "executor=local",
    )
    assert ids() == ids(*elsewhere)
    assert {trial.job.cuda_graph for trial in plan(*elsewhere).trials} == {True}


def test_cuda_graphs_that_cannot_be_are_said(tmp_path: Path) -> None:
    def described(*arguments: str) -> bool:
        planned = plan(f"output={tmp_path}", *arguments)
        return "which has no graphs" in describe(planned, planned.states(Store.below(tmp_path)))

    assert described("resources.cuda_graph=true", "resources.gpus_per_trial=0")
    assert not described("resources.cuda_graph=true", "resources.gpus_per_trial=1")
    assert not described("resources.gpus_per_trial=0")


def test_ids_ignore_the_study_s_name(tmp_path: Path) -> None:
    copy = tmp_path / "another_name.yaml"
    study = load_study([])
    body = {key: getattr(study, key) for key in ("methods", "seeds", "backbone", "hparams")} | {
        "train": asdict(study.train)
    }
    copy.write_text(yaml.safe_dump(dict(reversed(body.items()))))
    assert ids(f"study={copy}") == ids()


@pytest.mark.parametrize(
    "change",
    [
        "train.lr=0.011",
        "train.epochs=31",
        "evaluation.batch_size=17",
        "missing.train=random",
        "backbone.width=8",
        "dataset.limit=50",
    ],
)
def test_ids_follow_what_changes_the_result(change: str) -> None:
    assert not set(ids(change)) & set(ids())


def test_ids_differ_by_seed_and_method_and_are_sixteen_hex() -> None:
    found = ids()
    assert len(set(found)) == 9
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in found)


def test_given_default_equals_omitted_default() -> None:
    assert ids("hparams.dmrnet.beta=0.7", "hparams.dmrnet.hard_set=''") == ids(
        "hparams.dmrnet.beta=0.7"
    )
    assert ids("hparams.dmrnet.alpha=1", "methods=[dmrnet]") == ids(
        "hparams.dmrnet.alpha=1.0", "methods=[dmrnet]"
    )


def test_a_hyperparameter_that_was_added_later_counts_from_its_default_on() -> None:
    """RFNet's trials had these four before warm_up was declared, and keep their ids."""
    before = {"sep_head": "trunk", "sep_absent": False, "regions": 8, "norm": "auto"}
    trials = plan("methods=[rfnet]").trials
    assert [trial.job.spec.hparams for trial in trials] == [before] * len(trials)
    assert all(trial.row.hparams == before | {"warm_up": 7} for trial in trials)
    assert ids("methods=[rfnet]", "hparams.rfnet.warm_up=7") == ids("methods=[rfnet]")
    changed = plan("methods=[rfnet]", "hparams.rfnet.warm_up=0").trials
    assert changed[0].job.spec.hparams == before | {"warm_up": 0}
    assert not {trial.id for trial in changed} & {trial.id for trial in trials}


def test_seed_by_seed_order() -> None:
    trials = plan("seeds=[3,4]").trials
    assert [(t.seed, t.row.label) for t in trials[:4]] == [
        (3, "sf_md"),
        (3, "hemis"),
        (3, "dmrnet"),
        (4, "sf_md"),
    ]


def test_a_list_is_a_grid_axis() -> None:
    labels = [
        row.label
        for row in plan(
            "methods=[dmrnet]", "hparams.dmrnet.alpha=[1e-3,1e-2]", "hparams.dmrnet.beta=[0.3,0.7]"
        ).rows
    ]
    assert labels == [
        f"dmrnet[alpha={a},beta={b}]" for a in ("1e-3", "1e-2") for b in ("0.3", "0.7")
    ]


def test_entries_with_variant_label_and_hparams() -> None:
    entries = (
        "methods=[dmrnet:released,{method: dmrnet, hparams: {beta: 0.0}},{method: hemis, label:"
        " moments}]"
    )
    rows = plan(entries).rows
    assert [row.label for row in rows] == ["dmrnet:released", "dmrnet[beta=0]", "moments"]
    assert [row.variant for row in rows] == ["released", "paper", "paper"]


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two rows are called 'sf_md'"):
        plan("methods=[sf_md,sf_md]")


def test_a_method_from_a_file_is_identified_by_its_source(tmp_path: Path) -> None:
    here, there = tmp_path / "mine.py", tmp_path / "copy" / "mine.py"
    there.parent.mkdir()
    here.write_text(MY_METHOD)
    there.write_text("# a comment\n" + MY_METHOD)
    assert ids(f"methods=[{here}]") == ids(f"methods=[{there}]")
    there.write_text(MY_METHOD.replace("1.0, 0.0", "1.5, 0.0"))
    assert not set(ids(f"methods=[{here}]")) & set(ids(f"methods=[{there}]"))
    assert [row.label for row in plan(f"methods=[{here}]", "hparams.mine.gain=[0.5,1.0]").rows] == [
        "mine[gain=0.5]",
        "mine[gain=1]",
    ]


def test_labels_of_numbers() -> None:
    assert [short(v, log=True) for v in (1e-4, 0.1, 2.5e-3, 1.0)] == [
        "1e-4",
        "1e-1",
        "2.5e-3",
        "1e0",
    ]
    assert [short(v) for v in (0.3, 0.0, 1.0)] == ["0.3", "0", "1"]


def test_new_trials_are_to_run(tmp_path: Path) -> None:
    planned = plan(f"output={tmp_path}")
    states = planned.states(Store.below(tmp_path))
    assert set(states.values()) == {"new"}
    assert len(planned.to_run(states)) == planned.size
