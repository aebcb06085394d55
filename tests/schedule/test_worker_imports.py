"""A worker imports what a trial needs, and nothing that only reports or trackers need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OF_NO_USE = ("matplotlib", "mlflow", "optuna", "pandas", "rich", "scipy", "sklearn", "sqlalchemy")
WORKER = """
import sys
import harness.schedule.on_ray.nodes.worker
from harness.registry import BACKBONES, DATASETS, METHODS
METHODS.get("dmrnet"), BACKBONES.get("resnet"), DATASETS.get("casia_surf")
print(*sys.modules)
"""


def test_a_worker_imports_no_reports_trackers_or_tables() -> None:
    """Ray itself is not imported here: its Tune needs pandas, which is nothing of ours."""
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "torch" in imported and "datasets.casia_surf" in imported
    assert [name for name in OF_NO_USE if name in imported] == []


def test_the_process_that_ray_runs_in_imports_nothing_before_and_no_torch() -> None:
    """A second of each: on one machine it has no use for them, and Ray starts as soon as it can."""
    code = "import sys, harness.schedule.on_ray.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "harness.schedule.on_ray.cluster" in imported
    assert [name for name in ("ray", "torch", "numpy", *OF_NO_USE) if name in imported] == []


TRAINS = """
import sys
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.trial import run_trial
(trial,) = Plan(load_study(sys.argv[1:])).trials
assert run_trial(trial.job, lambda report: None).status == "done"
print(*sys.modules)
"""


def test_a_trial_imports_no_compiler(tmp_path: Path) -> None:
    """Torch imports its own wherever its optimisers and its switch for determinism are used: more
    than a second of each process.
    """
    tiny = ["methods=[dmrnet]", "seeds=[0]", "train.epochs=1", "dataset.limit=64"]
    given = [*tiny, "backbone.width=4", "train.clip_norm=1", f"output={tmp_path}"]
    command = [sys.executable, "-c", TRAINS, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "torchmetrics" in imported and "harness.protocol.optimiser" in imported
    compilers = ("torch._dynamo", "torch._inductor", "sympy")
    assert [name for name in compilers if name in imported] == []
