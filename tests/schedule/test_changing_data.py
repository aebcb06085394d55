"""Data that change between the plan and the trials: refused, or another plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.manifest import Manifest
from harness import run
from harness.cli import guarded
from harness.dataset import Progress
from tests.support.media import array, classification

QUICK = ("methods=[sf_md]", "seeds=[0]", "train.epochs=1", "backbone.width=4", "executor=local")


def test_data_that_change_while_they_are_prepared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, real = classification(tmp_path), Manifest.prepare
    settings = [
        "study=own_data",
        f"dataset.manifest={manifest}",
        f"output={tmp_path / 'runs'}",
        "tracking.enabled=false",
        *QUICK,
    ]

    def disturbed(self: Manifest, progress: Progress) -> list[str]:
        array(tmp_path / "vec/train1.npy", np.full(5, 3.0, np.float32))
        return real(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "prepare", disturbed)
        assert guarded(run.main, settings) == 2
    said = capsys.readouterr()
    assert "error: the data changed while they were being prepared" in said.err
    assert "start again" in said.err and not list((tmp_path / "runs").glob("store/*/spec.json"))
    assert guarded(run.main, settings) == 0
    assert "1 to run" in capsys.readouterr().out
    # One value of one file, the size as before: the trial is not one on these data.
    array(tmp_path / "vec/test1.npy", np.full(5, 3.0, np.float32))
    assert guarded(run.main, settings) == 0
    assert "0 done, 0 stale, 0 failed, 1 to run" in capsys.readouterr().out
    assert guarded(run.main, settings) == 0
    assert "1 done, 0 stale, 0 failed, 0 to run" in capsys.readouterr().out
