"""Shared by all tests: one torch thread, and the smallest real study on digits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import PROJECT
from harness.study.config import DatasetConfig, Study
from harness.study.plan import Plan
from harness.training.recipe import TrainConfig
from harness.training.spec import Job
from harness.training.trial import run_trial

MakeStudy = Callable[..., Study]
MakeJob = Callable[..., Job]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest comes first: at the end it would keep one process busy while the
    others wait.
    """
    items.sort(key=lambda item: "test_ray" not in item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on tiny batches are up to 40 times slower than one on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def somewhere_else(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test starts in an empty folder: the one that pytest was started from may hold results.

    Commands that a test starts find this checkout by PYTHONPATH.
    """
    monkeypatch.chdir(tmp_path_factory.mktemp("started_here"))
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture(autouse=True)
def untimed_plans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--dry-run`` in a test's own process does not measure how long a study takes, which costs
    seconds for each method, unless the test is marked ``timed``.
    """
    if request.node.get_closest_marker("timed") is None:
        monkeypatch.setattr("harness.run.timed", lambda *arguments: [])


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """``make_study(methods=[...], seeds=[...], epochs=2, limit=60, **fields of Study)``."""

    def make(
        methods: list[Any] | None = None, epochs: int = 2, limit: int = 60, **fields: Any
    ) -> Study:
        fields = {"name": "tiny", "output": str(tmp_path / "runs"), "executor": "local", **fields}
        train = TrainConfig(epochs=epochs, batch_size=20)
        return Study(
            methods=methods or ["sf_md"], dataset=DatasetConfig(limit=limit), train=train, **fields
        )

    return make


@pytest.fixture
def make_job(make_study: MakeStudy) -> MakeJob:
    """``make_job("dmrnet", seed=1, **arguments of make_study)``: the job of one trial.

    Models that it needs are trained.
    """

    def make(method: Any = "sf_md", seed: int = 0, **arguments: Any) -> Job:
        plan = Plan(make_study(methods=[method], seeds=[seed], **arguments))
        for stage in plan.stages:
            assert run_trial(stage.job).status == "done"
        return plan.trials[0].job

    return make
