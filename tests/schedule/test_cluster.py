"""A study on a cluster of several nodes: real raylets, of which one is killed and one joins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import cluster
from tests.support.processes import epochs, results, run, start, wait_until

STUDY = (
    *("methods=[sf_md,dmrnet]", "seeds=[0,1]", "dataset.limit=200", "train.epochs=30"),
    *("backbone.width=8", "tracking.enabled=false"),
)


@pytest.mark.slow
def test_a_node_is_killed_and_another_joins(tmp_path: Path) -> None:
    """Every trial ends once, and the report is that of an undisturbed run, byte for byte."""
    output = tmp_path / "cluster"
    arguments = (*STUDY, f"output={output}")
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        nodes.start("left", cpus=1)
        lost = nodes.start("right", cpus=1)
        driver = start(*arguments, *nodes.arguments, environment=nodes.environment)
        wait_until(lambda: sum(n >= 5 for n in epochs(output).values()) >= 2, driver)
        before = epochs(output)
        lost.kill()
        nodes.start("third", cpus=1)
        text = driver.communicate(timeout=300)[0]
    assert driver.returncode == 0, text
    assert text.count("its worker died; it goes on from its last epoch") == 1
    logs = {trial: (output / "store" / trial / "log.txt").read_text() for trial in before}
    started = {trial: log.count("process ") for trial, log in logs.items()}
    assert sorted(started.values()) == [1, 2], text
    # The trial that was cut off repeats at most the epoch whose checkpoint was being written.
    for log in logs.values():
        assert 30 <= log.count(", val accuracy") <= 31
    quiet = (*STUDY, f"output={tmp_path / 'quiet'}", "executor=local")
    assert run(*quiet).returncode == 0
    assert results(*arguments) == results(*quiet)
    tables = [
        (tmp_path / name / "quickstart" / "report.csv").read_bytes()
        for name in ("cluster", "quiet")
    ]
    assert tables[0] == tables[1]
