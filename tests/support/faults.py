"""Studies of seconds whose trials, files or disks are then made to fail for real.

Called by tests/faults.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import run
from harness.cli import guarded
from harness.store import Store, TrialDirectory
from harness.study.config import load_study
from harness.study.plan import Plan, PlannedTrial
from harness.training.loop import EpochReport
from harness.training.trial import run_trial

TINY = (
    *("dataset.limit=40", "train.epochs=3", "train.batch_size=20", "backbone.width=2"),
    *("seeds=[0]", "tracking.enabled=false", "executor=local"),
)

METHOD = '''
import os
import resource
import sys

import torch
from methods.sf_md import SFMD


class {name}(SFMD):
    """A method with a fault."""

    steps = 0

    def build(self, backbone):
        super().build(backbone)
        {build}

    def begin_epoch(self, context):
        super().begin_epoch(context)
        self.at = context.epoch

    def loss(self, output, batch):
        type(self).steps += 1
        {loss}
        return super().loss(output, batch)
'''


def method_file(
    folder: Path, name: str, loss: str = "", build: str = "", before: str = "", after: str = ""
) -> Path:
    """A file with a method that does ``loss`` in each step and ``build`` when it is built.

    ``before`` and ``after`` stand around the class.
    """
    path = folder / f"{name.lower()}.py"
    body = METHOD.format(name=name, loss=loss or "pass", build=build or "pass")
    path.write_text(f"{before}\n{body}\n{after}\n", encoding="utf-8")
    return path


def study_file(folder: Path, name: str, methods: str) -> str:
    """``study=PATH`` of a study of digits."""
    path = folder / f"{name}.yaml"
    path.write_text(f"methods: {methods}\ndataset: {{name: digits}}\n", encoding="utf-8")
    return f"study={path}"


def command(output: Path, *arguments: str) -> int:
    """``python -m harness.run`` in this process: its exit code."""
    return guarded(run.main, [*TINY, f"output={output}", *arguments])


def in_background(output: Path, *arguments: str) -> int:
    """``command`` in a child of this process, which may die: the child."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = command(output, *arguments)
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(output: Path, *arguments: str) -> int:
    """``command`` in a child of this process, which may die: its exit code."""
    return exit_code(in_background(output, *arguments))


def trials(output: Path, *arguments: str) -> dict[str, TrialDirectory]:
    """Label -> directory of the trials of a study with one seed."""
    plan = Plan(load_study([*TINY, f"output={output}", *arguments]))
    store = Store.below(output)
    return {trial.row.label: store.trial(trial.id) for trial in plan.trials}


class Killed(BaseException):
    """Stands for a process that ends here: nothing may catch it."""


def stopped_after(trial: PlannedTrial, epoch: int) -> None:
    """Run a trial, and let its process end after this epoch."""

    def stop(told: EpochReport) -> None:
        if told.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        run_trial(trial.job, stop)


@contextmanager
def small_disk(folder: Path, size: str, options: str = "") -> Iterator[Path]:
    """A file system of its own below ``folder``; the test is skipped where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """A file that takes what is free on a file system, but for ``leave`` bytes."""
    path = folder / "ballast"
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_frsize - leave
    with path.open("wb") as stream:
        stream.write(b"\0" * max(0, size))
    return path


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file, so far from its beginning."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
