"""Studies: precedence, shorthand, and one sentence for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.study.config import Study, leaves, load_study, study_files
from harness.study.plan import Plan
from tests.support.media import classification


def test_layers_file_then_preset_then_arguments() -> None:
    assert load_study([]).train.epochs == 30
    assert load_study(["preset=smoke"]).train.epochs == 3
    assert load_study(["preset=smoke", "train.epochs=7"]).train.epochs == 7
    assert load_study(["train.epochs=7", "preset=smoke"]).train.epochs == 7


@pytest.mark.parametrize(
    "arguments", [["dataset=htad", "dataset.limit=9"], ["dataset.limit=9", "dataset=htad"]]
)
def test_dataset_shorthand_merges_key_by_key_in_any_order(arguments: list[str]) -> None:
    dataset = load_study(arguments).dataset
    assert (dataset.name, dataset.limit) == ("htad", 9)


def test_another_dataset_forgets_the_old_ones_options() -> None:
    assert load_study(["preset=smoke"]).dataset.limit == 200
    assert load_study(["preset=smoke", "dataset=htad"]).dataset.limit is None


def test_types_arrive_as_declared() -> None:
    study = load_study(
        [
            "train.lr=1e-3",
            "seeds=[4,5]",
            "hparams.dmrnet.alpha=[1e-3,1e-2]",
            "tracking.uri=http://127.0.0.1:5000",
        ]
    )
    assert (study.train.lr, study.seeds, study.tracking.uri) == (
        0.001,
        [4, 5],
        "http://127.0.0.1:5000",
    )
    assert study.hparams["dmrnet"]["alpha"] == [0.001, 0.01]


def test_every_key_has_a_line_of_help() -> None:
    assert [key for key, _, text in leaves(Study()) if not text] == []


MISTAKES = {
    "study=quickstrt": "unknown study 'quickstrt'; did you mean 'quickstart'?",
    "quickstart": "'quickstart' is not of the form key=value; did you mean study=quickstart?",
    "seedz=[1]": "unknown key 'seedz'; did you mean 'seeds'?",
    "train.epoch=3": "unknown key 'train.epoch'; did you mean 'train.epochs'?",
    "train.epochs=abc": "train.epochs: Value 'abc'",
    "train.epochs=2.5": "train.epochs: Value '2.5'",
    "train.epochs=0": "train.epochs=0 must be at least 1",
    "train.lr=nan": "train.lr=nan must be a finite number",
    "train.lr=-1": "train.lr=-1.0 must be at least 0.0",
    "train.nesterov=3": "train.nesterov=3 must be true or false",
    "train=3": "train=3 must be a block of keys",
    "train.schedule=papr": "train.schedule='papr' is not a legal value; did you mean 'paper'?",
    "seeds=3": "seeds=3 must be a list, such as seeds=[3]",
    "seeds=[a]": "seeds[0]: Value 'a'",
    "seeds=[1,1]": "must be different",
    "seeds=[]": "seeds is empty",
    "methods=[]": "methods is empty",
    "methods=[sf_md": "cannot read the value of 'methods=[sf_md'",
    "methods=[sf_m]": "unknown method 'sf_m'; did you mean 'sf_md'?",
    "methods=[./nowhere.py]": "nowhere.py does not exist",
    "methods=[dmrnet:releasd]": "unknown variant of dmrnet 'releasd'; did you mean 'released'?",
    "methods=[{method: dmrnet, hparam: {}}]": (
        "unknown key in methods entry 'hparam'; did you mean 'hparams'?"
    ),
    "dataset=digit": "unknown dataset 'digit'; did you mean 'digits'?",
    "dataset.protocol=blok": "unknown protocol of digits 'blok'",
    "backbone=smal": "unknown backbone 'smal'; did you mean 'small'?",
    "backbone.widht=3": "unknown option 'backbone.widht'; did you mean 'backbone.width'?",
    "hparams.dmrnt.alpha=1": "unknown method in hparams 'dmrnt'; did you mean 'dmrnet'?",
    "hparams.dmrnet=3": "hparams.dmrnet=3 must be a block",
    "hparams.dmrnet.alph=1": (
        "unknown hyperparameter 'hparams.dmrnet.alph'; did you mean 'hparams.dmrnet.alpha'?"
    ),
    "hparams.dmrnet.alpha=high": "hparams.dmrnet.alpha='high' is not a value of type float",
    "hparams.dmrnet.alpha=-1": "hparams.dmrnet.alpha=-1 is outside its range",
    "hparams.dmrnet.hard_set=thum": "unknown modality 'thum'; did you mean 'thumb'?",
    "executor=rai": "executor='rai' is not a legal value; did you mean 'ray'?",
    "preset=smok": "unknown preset 'smok'; did you mean 'smoke'?",
    "rerun=all": "rerun='all' is not a legal value",
    "published_table=8": "published_table=8 must be between 1 and 7",
    "search.trial=3": "unknown key 'search.trial'; did you mean 'search.trials'?",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_each_mistake_is_one_sentence(argument: str) -> None:
    with pytest.raises(UserError) as caught:
        Plan(load_study([argument]))
    assert MISTAKES[argument] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", study_files())
def test_every_shipped_study_loads_and_plans(name: str, tmp_path: Path) -> None:
    given = [
        f"study={name}",
        *([f"dataset.manifest={classification(tmp_path)}"] if name.startswith("own_") else []),
    ]
    study = load_study(given)
    assert study.description
    plan = Plan(study)
    models = sum(
        2 ** len(plan.spec.names) - 1 if row.method == "dedicated" else 1 for row in plan.rows
    )
    assert plan.size == models * len(study.seeds)
    # Trials are named by their data, which a study of the user's copy has not got here.
    assert plan.dataset.root_variable is not None or len(plan.trials) == plan.size
    assert "smoke" in study.presets
    for preset in study.presets:
        Plan(load_study([*given, f"preset={preset}"]))


# ---------------------------------------------------------------------- a study on a base


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "own.yaml"


def test_a_study_has_its_bases_keys_below_its_own(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        own=(
            "base: casia_all_methods\nmethods: [sf_md]\ntrain: {epochs: 7}\npresets: {smoke:"
            " {seeds: [9]}}\n"
        ),
    )
    study, base = load_study([f"study={path}"]), load_study(["study=casia_all_methods"])
    assert (study.name, study.methods, study.train.epochs) == ("own", ["sf_md"], 7)
    assert (study.dataset, study.backbone, study.train.lr, study.seeds) == (
        base.dataset,
        base.backbone,
        1e-3,
        base.seeds,
    )
    # What the base asks, and the table that it is compared with, are its own.
    assert (study.description, study.published_table, base.published_table) == ("", None, 1)
    smoke = load_study([f"study={path}", "preset=smoke", "train.lr=0.5"])
    assert (smoke.seeds, smoke.backbone["width"], smoke.train.epochs, smoke.train.lr) == (
        [9],
        8,
        10,
        0.5,
    )


def test_a_base_that_is_a_file_is_taken_from_the_studys_folder(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        own="base: below.yaml\nseeds: [3]\n",
        below="methods: [hemis]\ntrain: {epochs: 4}\n",
    )
    study = load_study([f"study={path}"])
    assert (study.methods, study.train.epochs, study.seeds) == (["hemis"], 4, [3])


BASES = {
    "base: own.yaml\n": "own.yaml: base=own.yaml is itself; a base must be a study without a base",
    "base: below.yaml\n": (
        "own.yaml: base=below.yaml is a study that has the base own.yaml; a base must be"
    ),
    "base: casia_ablation\n": (
        "own.yaml: base=casia_ablation is a study that has the base casia_all_methods"
    ),
    "base: casia_all_method\n": (
        "base=casia_all_method: unknown study 'casia_all_method'; did you mean 'casia_all_methods'?"
    ),
    "base: nowhere.yaml\n": "nowhere.yaml does not exist",
    "base: wrong.yaml\n": "wrong.yaml: unknown key 'seedz'; did you mean 'seeds'?",
}


@pytest.mark.parametrize("content", BASES)
def test_each_mistake_in_a_base_is_one_sentence(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, own=content, below="base: own.yaml\n", wrong="seedz: [1]\n")
    with pytest.raises(UserError) as caught:
        load_study([f"study={path}"])
    assert BASES[content] in str(caught.value) and "\n" not in str(caught.value)


def test_base_belongs_into_a_file() -> None:
    with pytest.raises(UserError, match="base=quickstart belongs into a study file"):
        load_study(["base=quickstart"])
