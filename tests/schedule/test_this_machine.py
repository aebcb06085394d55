"""A run on this machine: where its servers listen, and what its workers execute."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from harness import PROJECT
from tests.support.processes import epochs, run, start, wait_until


@pytest.mark.slow
@pytest.mark.long
def test_every_server_of_a_local_run_listens_on_loopback_alone(tmp_path: Path) -> None:
    driver = start(
        *("methods=[sf_md]", "seeds=[0,1]", "train.epochs=400", "dataset.limit=200"),
        *("tracking.enabled=false", f"output={tmp_path}"),
    )
    try:
        wait_until(lambda: len(epochs(tmp_path)) == 2, driver)
        found = listening(driver.pid)
    finally:
        driver.kill()
        driver.communicate()
    # The driver's own Ray, its head, its raylet, and a worker for each trial at least.
    assert len(found) >= 5, found
    assert sum("gcs_server" in name for name, _ in found) == 1
    assert sum("ray::" in name for name, _ in found) >= 2
    abroad = [server for server in found if server[1] not in ("127.0.0.1", "::ffff:127.0.0.1")]
    assert abroad == []


def listening(pid: int) -> list[tuple[str, str]]:
    """The name and address of every TCP server of a process and of all below it."""
    process = psutil.Process(pid)
    found = []
    for one in [process, *process.children(recursive=True)]:
        try:
            name = " ".join(one.cmdline()[:1])
            sockets = one.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        found += [(name, each.laddr.ip) for each in sockets if each.status == psutil.CONN_LISTEN]
    return found


@pytest.mark.slow
@pytest.mark.long
def test_code_that_changes_while_a_study_runs_stops_it(tmp_path: Path) -> None:
    """Here and not at the end: what it would train is neither the old code's nor the new one's."""
    method = tmp_path / "mine.py"
    text = (PROJECT / "methods" / "hemis.py").read_text(encoding="utf-8")
    method.write_text(text, encoding="utf-8")
    arguments = (
        *(f"methods=[{method}]", "seeds=[0,1]", "train.epochs=20", "dataset.limit=100"),
        *("resources.max_concurrent=1", "tracking.enabled=false", f"output={tmp_path / 'runs'}"),
    )
    driver = start(*arguments)
    wait_until(lambda: len(epochs(tmp_path / "runs")) == 1, driver)
    method.write_text(text + "\n\nANOTHER = 1\n", encoding="utf-8")
    said = driver.communicate(timeout=120)[0]
    assert driver.returncode == 2, said
    assert "error: this machine has other code for mine" in said
    assert "its files were changed while the study ran; the same command goes on" in said
    assert len(list(tmp_path.glob("runs/store/*/record.json"))) == 1
    assert run(*arguments).returncode == 0
