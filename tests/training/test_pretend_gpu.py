"""What a GPU would refuse or be waited for, seen without one: tensors in two places, values read.

Each test runs in a process of its own, which has a device that computes nothing (support/
pretend_gpu.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.registered import methods_on
from tests.support.trainers import NAMED, NETWORKS

pytestmark = pytest.mark.slow

WORK = 3
"""Pieces of work that are tried for each method."""

SAMPLES = {
    "casia_all_methods": "casia_surf",
    "crema_d_all_methods": "crema_d",
    "kinetics_sounds_all_methods": "kinetics_sounds",
    "nyuv2_segmentation": "nyuv2",
    "nyuv2_esanet_joint": "nyuv2",
}


def lines(*command: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def pretended(*given: str) -> list[dict[str, Any]]:
    return lines("-m", "tests.support.pretend_gpu", *given)


LONG = ("audio_visual", "esanet")
"""Half a minute each, and more on a busy machine."""


@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=[pytest.mark.long] if n in LONG else []) for n in NETWORKS],
)
def test_every_method_trains_and_evaluates_on_the_device_alone(network: str) -> None:
    names = NAMED if network == "small" else methods_on(NETWORKS[network]())
    found = pretended(network)
    assert [one for one in found if one["problem"]] == []
    assert [one["method"] for one in found] == [name for name in names for _ in range(WORK)]


@pytest.mark.parametrize("study", ["quickstart", *SAMPLES])
def test_data_are_augmented_and_handed_out_on_the_device_alone(study: str, tmp_path: Path) -> None:
    given = [f"output={tmp_path / 'runs'}"]
    if study in SAMPLES:
        made = [sys.executable, "-m", "datasets.sample", SAMPLES[study], str(tmp_path / "sample")]
        subprocess.run(made, check=True, capture_output=True)
        given += [f"dataset.root={tmp_path / 'sample'}", "preset=smoke"]
    found = pretended(study, *given)
    assert [one["problem"] for one in found] == [""] * WORK


FAULTS = """
import torch
from methods.sf_md import SFMD
from tests.support.pretend_gpu import evaluate, register, say, train_step
from tests.support.trainers import trainer_of

own = SFMD.loss

def on_the_host(self, output, batch):
    weight = torch.ones(len(batch.target))
    return {"task": (weight * self.task_loss(output.logits, batch.target)).mean()}

def reads(self, output, batch):
    loss = own(self, output, batch)["task"]
    return {"task": loss / max(1.0, float(loss.detach()))}

def decides(self, output, batch):
    present = batch.present[:, 0]
    return {"task": self.task_loss(output.logits[present], batch.target[present]).mean()}

register()
for loss in (own, on_the_host, reads, decides):
    SFMD.loss = loss
    say(loss.__name__, "step", lambda: train_step(trainer_of("sf_md"), 0))
SFMD.fuse = lambda self, features, present, noise: [][0]
say("broken", "evaluation", lambda: evaluate(trainer_of("sf_md")))
"""


def test_the_device_sees_what_it_is_for() -> None:
    found = {one["method"]: one["problem"] for one in lines("-c", FAULTS)}
    assert found["loss"] == ""
    assert found["on_the_host"].startswith("FakeTensorDeviceMismatchError"), found
    assert found["reads"].startswith("DataDependentOutputException"), found
    assert found["decides"].startswith("DynamicOutputShapeException"), found
    assert found["broken"].startswith("IndexError"), found
