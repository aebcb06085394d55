"""What it takes to add something, done in a copy of the project: the recipes of harness/README.md.

A tracker is added in tests/tracking/test_second_tracker.py, an executor in
tests/schedule/test_executors.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness import PROJECT

METHOD = '''"""Mean of what is there."""

import torch

from harness.method import Method, Output


class MeanFusion(Method):
    """The mean of the present modalities' maps; loss = mean CE."""

    citation = "nobody"
    provenance = "written for a test"
    deviations = ()

    def build(self, backbone):
        self.trunk = backbone.trunk([scale.channels for scale in backbone.maps])
        self.head = backbone.head([scale.channels for scale in backbone.maps])

    def fuse(self, features, present, noise=None):
        fused = tuple(mean(scale, present) for scale in zip(*features))
        z = self.trunk(fused)
        return Output(self.head(z, fused), z)


def mean(maps, present):
    weights = present[:, :, None, None, None]
    stacked = torch.stack(maps, 1)
    kept = stacked.where(weights, stacked.new_zeros(()))
    return kept.sum(1) / weights.sum(1)
'''

DATASET = '''"""Numbers whose mean tells the class."""

import torch

from harness.dataset import Dataset, DataSpec, Modality, Split

COUNTS = {"train": 60, "val": 30, "test": 30}


class Numbers(Dataset):
    """Two modalities of noise around the class."""

    summary = "made for a test"

    @property
    def spec(self):
        modalities = (Modality("a", (1, 4, 4)), Modality("b", (2, 3, 3)))
        return DataSpec(
            name="numbers",
            task="classification",
            modalities=modalities,
            classes=("low", "high"),
            metric="accuracy",
            aligned=False,
        )

    def fingerprint(self):
        return f"numbers-{self.limit}"

    def counts(self):
        return {split: min(self.limit or count, count) for split, count in COUNTS.items()}

    def load(self, split):
        count = self.counts()[split]
        target = torch.arange(count) % 2
        draws = torch.Generator().manual_seed(len(split))
        inputs = {
            modality.name: torch.randn(count, *modality.shape, generator=draws)
            + target[:, None, None, None]
            for modality in self.spec.modalities
        }
        return Split(inputs, target, torch.ones(count, 2, dtype=torch.bool))
'''

BACKBONE = '''"""One linear map for everything."""

from torch import nn

from harness.backbones import Backbone, MapShape


class First(nn.Module):
    """A linear layer to one place."""

    def __init__(self, size, channels):
        super().__init__()
        self.layer = nn.Linear(size, channels)

    def forward(self, x):
        return (self.layer(x.flatten(1))[:, :, None, None],)


class Linear(Backbone):
    """Linear layers alone."""

    def __init__(self, spec, options=None):
        super().__init__(spec, options)
        self.maps = (MapShape(8, 1, 1),)
        self.z = MapShape(8, 1, 1)

    def encoder(self, modality):
        shape = self.spec.modalities[self.spec.names.index(modality)].shape
        return First(shape[0] * shape[1] * shape[2], 8)

    def trunk(self, channels):
        return Trunk(channels[0])

    def head(self, channels):
        return Head(len(self.spec.classes))


class Trunk(nn.Module):
    """One 1x1 convolution."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, 8, 1)

    def forward(self, fused):
        return self.layer(fused[0])


class Head(nn.Module):
    """One linear layer."""

    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(8, classes)

    def forward(self, z, fused):
        return self.layer(z.flatten(1))
'''

METRIC = '''

def error_rate(scores: Tensor, target: Tensor) -> float:
    """Share of samples whose largest score is not the target's, in percent."""
    return 100.0 - accuracy(scores, target)


METRICS = (
    *METRICS,
    Metric(
        "error_rate",
        "classification",
        higher_is_better=False,
        definition="wrong argmax predictions / all samples, in percent",
        compute=error_rate,
    ),
)
'''

SECTION = '''"""The section on sizes."""

from harness.analysis.results import Results
from harness.reporting.document import Section, section


def sizes(results: Results) -> Section:
    """How many trials there are."""
    return section("Sizes", f"There are {len(results.finished)} trials here.")
'''
SECTIONS = "harness/reporting/contents.py"
IMPORT = "    search,\n"
ENTRY = "    lambda of: store_state.seeds(of.results),\n"

ADDED = {
    "methods/mean_fusion.py": METHOD,
    "datasets/numbers.py": DATASET,
    "harness/backbones/linear.py": BACKBONE,
}
"""What a method, a dataset and a backbone take: one file each, and no line anywhere else."""

CHECKS = """
from datasets.numbers import Numbers
from harness import show
from harness.backbones.linear import Linear
from harness.testing import check_dataset, check_method
from methods.mean_fusion import MeanFusion

check_dataset(Numbers())
check_method(MeanFusion, modalities=(2,), classes=(2,), backbone=Linear)
show.main(["method=mean_fusion"])
"""

STUDY = (
    *("methods=[sf_md,mean_fusion]", "seeds=[0,1]", "dataset=numbers", "backbone.name=linear"),
    *("train.epochs=2", "train.batch_size=20", "executor=local", "tracking.enabled=false"),
)
FOLDERS = ("harness", "methods", "datasets", "studies")


def scratch_copy(folder: Path) -> Path:
    """Copy the project's code into a folder."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    return folder


def python(folder: Path, *arguments: str) -> str:
    """The output of Python on the copied project, which must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report_table(folder: Path) -> pd.DataFrame:
    """The long table of the study's report."""
    return pd.read_csv(folder / "runs" / "quickstart" / "report.csv")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with a method, a dataset and a backbone more, and a finished study of them."""
    folder = scratch_copy(tmp_path_factory.mktemp("scratch"))
    for name, text in ADDED.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    python(folder, "-m", "harness.run", *STUDY)
    return folder


def test_a_method_is_one_file(ran: Path) -> None:
    assert set(report_table(ran)["method"]) == {"sf_md", "mean_fusion"}


def test_a_dataset_is_one_file(ran: Path) -> None:
    assert set(report_table(ran)["dataset"]) == {"numbers"}


def test_a_backbone_is_one_file(ran: Path) -> None:
    specs = [json.loads(path.read_text()) for path in ran.glob("runs/store/*/spec.json")]
    assert [spec["backbone"]["name"] for spec in specs] == ["linear"] * 4


@pytest.mark.slow
def test_they_pass_the_conformance_checks_and_have_a_card(ran: Path) -> None:
    said = python(ran, "-c", CHECKS)
    assert "The mean of the present modalities' maps; loss = mean CE." in said


def test_a_metric_is_one_entry_in_the_file_of_its_task(ran: Path) -> None:
    file = ran / "harness" / "protocol" / "metrics" / "classification.py"
    file.write_text(file.read_text() + METRIC)
    python(ran, "-m", "harness.report", *STUDY)
    table = report_table(ran)
    by_metric = table[table["split"] == "test"].groupby("metric")["value"].mean()
    assert by_metric["error_rate"] == pytest.approx(100 - by_metric["accuracy"])


def test_a_section_is_one_file_and_its_place_in_the_list(ran: Path) -> None:
    (ran / "harness" / "reporting" / "sections" / "sizes.py").write_text(SECTION)
    contents = (ran / SECTIONS).read_text()
    assert IMPORT in contents and ENTRY in contents
    contents = contents.replace(IMPORT, f"{IMPORT}    sizes,\n")
    contents = contents.replace(ENTRY, f"{ENTRY}    lambda of: sizes.sizes(of.results),\n")
    (ran / SECTIONS).write_text(contents)
    python(ran, "-m", "harness.report", *STUDY)
    for name in ("report.md", "report.html"):
        assert "There are 4 trials here." in (ran / "runs" / "quickstart" / name).read_text()
