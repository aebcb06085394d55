"""Settings of the wrong kind, and settings that would do nothing: one sentence and exit code 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import PROJECT
from harness.cli import guarded
from harness.errors import UserError
from harness.run import main
from harness.study.config import load_study
from harness.study.plan import Plan

WRONG = {
    "seeds=[[1]]": "seeds=[[1]] must be different whole numbers",
    "search.seeds=[[1]] search.trials=2": "search.seeds=[[1]] must be different whole numbers",
    "search.seeds.first=3": "search.seeds={'first': 3} must be a list",
    "seeds=[12345678901234567890]": "not negative and at most 2147483647",
    "train.epochs=12345678901234567890": "train.epochs=12345678901234567890 must be at most",
    "hparams=[1]": "hparams=[1] must be a block of keys",
    "hparams=null": "hparams=None must be a block of keys",
    "dataset.options=[1]": "dataset.options=[1] must be a block of keys",
    "search.methods=[{method: sf_md}]": "search.methods: {'method': 'sf_md'} must be the name of",
    "[=1": "'[=1' names no key; write key=value",
    "search.space=[1]": "search.space=[1] must be a block of keys",
    "backbone=[small]": "backbone=['small'] must be a block of keys",
    "methods=[{method: sf_md, hparams: [1]}]": "hparams=[1] must be a block of hyperparameters",
    "methods=[{method: sf_md, variant: 5}]": "variant=5 must be one line of text",
    "methods=[{method: sf_md, label: 5}]": "label=5 must be one line of text",
    'methods=[{method: sf_md, label: "a\\nb"}]': "must be one line of text",
    'methods=[{method: sf_md, label: "a\\e[2J"}]': "holds characters that cannot be printed",
    "methods=[{method: [sf_md]}]": "method=['sf_md'] must be one line of text",
    "preset=[a]": "unknown preset '['a']'",
    "study=[a]": "study=['a'] must be the name of a study or a file",
    "name=../../x": "name belongs into a study file",
    "presets={smoke: [1]}": "presets belongs into a study file",
    "hparams.dmrnet.alpha=[]": "hparams.dmrnet.alpha=[] leaves no row of dmrnet",
    "missing.rate=0.5": "missing.rate=0.5 does nothing where missing.train=none",
    "missing.rates.thumb=0.5": "missing.rates does nothing where missing.train=none",
    "missing.train=random missing.rate=0.2 missing.rates.thumb=0.1": "leave one of them out",
    "missing.train=random missing.rates.thum=0.1": "missing.rates: unknown modality 'thum'",
    "missing.train=random missing.rates.thumb=1": "missing.rates.thumb=1 must be a probability",
    "missing.train=random missing.rates.thumb=often": "missing.rates.thumb=often must be a prob",
    "missing.train=random missing.rates=[1]": "missing.rates=[1] must be a block of keys",
    "missing.train=random missing.together=[thumb]": "thumb must be of the form {missing: a+b,",
    "missing.train=random missing.together=[{missing: thumb, probability: 0.1}]": (
        "thumb is one modality; missing.rates.thumb is how often it is missing alone"
    ),
    "missing.train=random missing.together=[{missing: thumb+ir, probability: 0.1}]": (
        "missing.together: unknown modality 'ir'"
    ),
    "missing.train=random missing.together=[{missing: thumb+profile, probability: -1}]": (
        "missing.together, thumb+profile=-1 must be a probability"
    ),
    "missing.train=random missing.rates.thumb=0.9"
    " missing.together=[{missing: thumb+profile, probability: 0.9}]": (
        "leave thumb to 1 % of the training samples; at least 5 % must keep it"
    ),
    "dataset.root=/tmp": "digits comes with a package and is not read from a folder",
    "dataset.manifest=/tmp/x.csv": "digits is not read from it; dataset=manifest is",
    "output=''": "output='' must be the name of a folder",
    'output="a\\0b"': "must be the name of a folder",
    "output=~nobody_of_that_name/x": "there is no such home folder",
    "resources.cpus_per_trial=1e30": "must be between 0.01 and 4096.0",
    "description=${oc.env:HOME}": "${...} is read in dataset.root",
    "output=${oc.env:NO_SUCH_VARIABLE}": "the environment variable NO_SUCH_VARIABLE is not set",
    "output=${seeds}": "only ${oc.env:NAME} and ${oc.env:NAME,default} are read",
    "description='see https://me:secret@host/x'": "description holds credentials",
    "methods=[{method: sf_md, label: 'http://tok@h'}]": "methods.label holds credentials",
}
"""Arguments -> what the sentence says."""


@pytest.mark.parametrize("arguments", WRONG)
def test_each_is_one_sentence(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = re.split(r" (?=search\.|missing\.)", arguments)
    if arguments == "hparams.dmrnet.alpha=[]":
        given = [arguments]
    assert guarded(main, [*given, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert WRONG[arguments] in said


FILES = {
    "base: quickstart\npresets: [a, b]\n": "presets=['a', 'b'] must be a block of keys",
    "base: quickstart\npreset: a\npresets: {a: [1]}\n": "preset a must be a block of keys",
    "methods: [sf_md]\nname: ../../x\n": "name=../../x: a study is called like its file",
    "methods: [sf_md]\ndescription: caf\xe9\n": "is not UTF-8 text",
    "methods: [sf_md]\nseeds: " + "9" * 5000 + "\n": "not a readable study",
    "5": "not a readable study",
    "[1, 2]": "must hold keys and values",
    "x: &a [*a]\n": "not a readable study",
    "methods: [sf_md]\ndescription: ${oc.env:HOME}\n": "whatever else a study says is written to",
    "methods: [sf_md]\npresets: {a: {description: '${oc.env:HOME}'}}\n": "is read in dataset.root",
}


@pytest.mark.parametrize("content", FILES)
def test_each_file_is_one_sentence(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content.encode("latin-1"))
    assert guarded(main, [f"study={path}", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert FILES[content] in said


def test_a_file_of_a_megabyte_is_no_study(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("methods: [sf_md]\n" + "# more\n" * 200_000)
    with pytest.raises(UserError, match="which no study has"):
        load_study([f"study={path}"])


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    study = load_study(["output=~/x"])
    assert study.folder == tmp_path / "x" / "quickstart"


def test_variables_are_read_where_this_machine_keeps_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH_OF_MINE", "/scratch/${oc.env:HOME}")
    file = tmp_path / "own.yaml"
    file.write_text(
        "base: quickstart\noutput: '${oc.env:SCRATCH_OF_MINE}/runs'\n"
        "presets: {here: {output: '${oc.env:NOT_SET_AT_ALL,/tmp/here}'}}\n"
    )
    # What a variable holds is not read again.
    assert load_study([f"study={file}"]).output == "/scratch/${oc.env:HOME}/runs"
    assert load_study([f"study={file}", "preset=here"]).output == "/tmp/here"
    given = load_study(["tracking.uri=${oc.env:SCRATCH_OF_MINE}"])
    assert given.tracking.uri == "/scratch/${oc.env:HOME}"


def test_a_file_called_like_a_built_in_has_its_own_values(tmp_path: Path) -> None:
    """A study's values for dmrnet are none of a user's file of that name."""
    own = tmp_path / "dmrnet.py"
    own.write_text((PROJECT / "methods" / "dmrnet.py").read_text())
    file = tmp_path / "study.yaml"
    file.write_text("methods: [dmrnet]\nhparams: {dmrnet: {alpha: 0.25}}\n")
    assert Plan(load_study([f"study={file}"])).rows[0].hparams["alpha"] == 0.25
    mine = Plan(load_study([f"study={file}", f"methods=[{own}]"])).rows[0]
    assert mine.hparams["alpha"] == mine.method_class.hyperparameters["alpha"].default != 0.25
    given = Plan(load_study([f"methods=[{{method: {own}, hparams: {{alpha: 0.5}}}}]"]))
    assert given.rows[0].hparams["alpha"] == 0.5
    with pytest.raises(UserError, match=r"hparams\.dmrnet is of the built-in method"):
        load_study([f"methods=[{own}]", "hparams.dmrnet.alpha=0.5"])
    both = Plan(
        load_study([f"methods=[dmrnet,{{method: {own}, label: mine}}]", "hparams.dmrnet.alpha=0.5"])
    )
    assert [row.hparams["alpha"] == 0.5 for row in both.rows] == [True, False]


def test_an_output_that_is_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="is a link that leads to itself"):
        load_study([f"output={tmp_path / 'loop'}"])
