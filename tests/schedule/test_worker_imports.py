"""A worker imports what a trial needs, and nothing that only reports or trackers need."""

from __future__ import annotations

import subprocess
import sys

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


def test_the_process_that_starts_ray_imports_nothing_before() -> None:
    """Neither torch nor numpy, which take seconds: they are imported while Ray's servers start."""
    code = "import sys, harness.schedule.on_ray.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "harness.schedule.on_ray.cluster" in imported
    assert [name for name in ("ray", "torch", "numpy", *OF_NO_USE) if name in imported] == []
