"""Variances and feature diversity of trained models: against loops, with missing modalities, and
from a real run.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness import run, views
from harness.analysis.results import read
from harness.backbones.small import Small
from harness.errors import UserError
from harness.paper import representation_tables, representations
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from methods.sf_md import SFMD
from tests.support.dmrnet_model import COMBINATIONS, SPEC, SPLIT, model_of

CPU = torch.device("cpu")


def naive_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Eq. 14-15 of one sample, entry by entry: rows of the Gram matrix, each divided by its
    length.
    """
    gram = np.array(
        [
            [sum(a * b) for b in second.reshape(len(second), -1)]
            for a in first.reshape(len(first), -1)
        ]
    )
    return np.array([[1 - entry / math.sqrt(sum(row**2)) for entry in row] for row in gram])


def test_the_variance_of_each_combination_by_a_loop_over_samples() -> None:
    model = model_of().eval()
    found = representations.measure(model, SPLIT, 4, CPU).variance
    for combination in COMBINATIONS:
        mask = torch.tensor([combination.mask])
        alone = [
            {name: x[i : i + 1] for name, x in SPLIT.inputs.items()} for i in range(len(SPLIT))
        ]
        with torch.no_grad():
            each = [float(model(inputs, mask).extra["logvar"].exp().mean()) for inputs in alone]
        assert found[combination.name] == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert len(set(found.values())) == 7


def test_the_distance_of_each_ordered_pair_by_loops() -> None:
    model = model_of().eval()
    found = representations.measure(model, SPLIT, 5, CPU)
    with torch.no_grad():
        maps = {
            name: model.encode(name, x)[-1].double().numpy() for name, x in SPLIT.inputs.items()
        }
    assert list(found.distance) == ["m0|m1", "m0|m2", "m1|m0", "m1|m2", "m2|m0", "m2|m1"]
    for of, mean in found.distance.items():
        first, second = (maps[name] for name in of.split("|"))
        entries = np.array([naive_distance(a, b) for a, b in zip(first, second, strict=True)])
        assert mean == pytest.approx(entries.mean(), rel=1e-5)
        # Entries on the border of two bins may fall on either side in float32.
        expected, _ = np.histogram(entries, bins=representations.BINS, range=(0, 2))
        assert (
            found.histogram[of].sum() == entries.size
            and np.abs(found.histogram[of] - expected).sum() <= 4
        )


def test_samples_without_a_modality_are_left_out_whatever_stands_in_their_place() -> None:
    has = torch.ones(len(SPLIT), 3, dtype=torch.bool)
    has[::2, 1] = False
    inputs = {**SPLIT.inputs, "m1": SPLIT.inputs["m1"].clone()}
    inputs["m1"][::2] = torch.nan
    model = model_of()
    found = representations.measure(model, replace(SPLIT, inputs=inputs, available=has), 4, CPU)
    whole = representations.measure(model, SPLIT.select(torch.arange(1, len(SPLIT), 2)), 4, CPU)
    for name in ("m1", "m0+m1", "m0+m1+m2"):
        assert found.variance[name] == pytest.approx(whole.variance[name], rel=1e-6)
    assert found.distance["m0|m1"] == pytest.approx(whole.distance["m0|m1"], rel=1e-6)
    assert found.distance["m0|m2"] == pytest.approx(
        representations.measure(model, SPLIT, 4, CPU).distance["m0|m2"], rel=1e-6
    )


def test_a_method_without_a_distribution_has_distances_alone() -> None:
    found = representations.measure(SFMD(Small(SPEC, {"width": 8})), SPLIT, 4, CPU)
    assert found.variance == {} and len(found.distance) == 6


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two rows on digits."""
    folder = tmp_path_factory.mktemp("views") / "runs"
    assert run.main(settings(folder)) == 0
    return folder


def settings(folder: Path) -> list[str]:
    recipe = [
        "train.epochs=3",
        "dataset.limit=60",
        "seeds=[0,1]",
        "executor=local",
        "tracking.enabled=false",
    ]
    return ["study=quickstart", "methods=[sf_md,dmrnet]", *recipe, f"output={folder}"]


def test_the_command_measures_each_trial_once_and_keeps_it(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(output, tmp_path / "runs"))
    assert views.main(settings(folder)) == 0
    first = pd.read_csv(folder / "quickstart" / "views.csv")
    assert tuple(first.columns) == representation_tables.COLUMNS
    assert first.groupby(["label", "view"])["value"].size().to_dict() == {
        ("dmrnet", "distance"): 12,
        ("dmrnet", "sigma2"): 14,
        ("sf_md", "distance"): 12,
    }
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("store/*/views.npz")}
    assert len(kept) == 4 and views.main(settings(folder)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "sigma2  dmrnet  thumb+profile  " in capsys.readouterr().out


def test_the_mined_set_is_the_one_the_report_names(output: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(output, tmp_path / "runs"))
    views.main(settings(folder))
    results = read(Plan(load_study(settings(folder))), Store.below(folder))
    table = representation_tables.representation_table(results)
    for done in results.of("dmrnet"):
        of_trial = table[(table["trial_id"] == done.trial.id) & (table["view"] == "sigma2")]
        hard = of_trial[of_trial["mined"].eq(True)]
        assert f": {', '.join(hard['of'])}" in " ".join(done.record["remarks"]) and len(hard) == 3
        assert (
            hard["mined_variance"].min()
            >= of_trial[of_trial["mined"].eq(False)]["mined_variance"].max()
        )
    means = representation_tables.mean_variances(
        representation_tables.representation_table(results)
    )
    values = [
        table[(table["label"] == "dmrnet") & (table["view"] == "sigma2") & (table["seed"] == s)][
            "value"
        ].mean()
        for s in (0, 1)
    ]
    summary = means["sigma2", "dmrnet", "average"]
    assert (summary.mean, summary.std, summary.seeds) == pytest.approx(
        (np.mean(values), np.std(values, ddof=1), 2)
    )
    assert not any(label == "sf_md" for _, label, _ in means)


def test_views_of_other_weights_or_a_broken_file_are_none(output: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(output, tmp_path / "runs"))
    results = read(Plan(load_study(settings(folder))), Store.below(folder))
    done = results.finished[0]
    trial = results.store.trial(done.trial.id)
    assert representations.stored_statistics(trial, done.record) is None
    found = representations.measured(done, results.store)
    again = representations.stored_statistics(trial, done.record)
    assert again is not None and (again.variance, again.distance) == (
        found.variance,
        found.distance,
    )
    other = done.record | {
        "files": done.record["files"] | {"weights.pt": {"bytes": 1, "sha256": "0"}}
    }
    assert representations.stored_statistics(trial, other) is None
    (trial / representations.FILE).write_bytes(b"PK\x03\x04 half a file")
    assert representations.stored_statistics(trial, done.record) is None


def test_nothing_to_measure_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="study 'quickstart' has no finished trial below"):
        views.main(settings(tmp_path))
