"""A study on a cluster of several nodes: real raylets, of which one is killed and one joins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import threading
from pathlib import Path

import psutil
import pytest

from harness import PROJECT
from tests.support.clusters import Node, can_mount, cluster
from tests.support.media import classification
from tests.support.processes import alive, epochs, results, run, start, wait_until, workers

pytestmark = [pytest.mark.slow, pytest.mark.long]

HIDE_INSTALLED = tuple(
    f"mount --bind /dev/null {path}"
    for path in sorted(Path(sysconfig.get_path("purelib")).glob("__editable__*multimodal_harness*"))
)
"""Commands that hide this repository's own installation from a node."""

EPOCHS = 300
"""So many that no trial is over before it is disturbed."""

STUDY = (
    *("methods=[sf_md,dmrnet]", "seeds=[0,1]", "dataset.limit=100", f"train.epochs={EPOCHS}"),
    *("backbone.width=4", "tracking.enabled=false"),
)


def stop(node: Node, output: Path) -> int:
    """Stop the process that trains on a node; its number."""
    (pid,) = (
        pid
        for pid in workers(output).values()
        if alive(pid) and node.process.pid in {one.pid for one in psutil.Process(pid).parents()}
    )
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_node_is_killed_and_another_joins(tmp_path: Path) -> None:
    """Every trial ends once, and the report is that of an undisturbed run, byte for byte."""
    output = tmp_path / "cluster"
    arguments = (*STUDY, f"output={output}")
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        kept, lost = nodes.start("kept", cpus=1), nodes.start("lost", cpus=1)
        driver = start(*arguments, *nodes.arguments, environment=nodes.environment)
        wait_until(lambda: sum(n >= 2 for n in epochs(output).values()) >= 2, driver)
        before = epochs(output)
        # So that what is left can only be trained by the node that joins.
        stopped = stop(kept, output)
        lost.kill()
        nodes.start("third", cpus=1)
        wait_until(lambda: len(epochs(output)) > len(before), driver)
        os.kill(stopped, signal.SIGCONT)
        text = driver.communicate(timeout=300)[0]
    assert driver.returncode == 0, text
    assert text.count("trials train on the CPU: no node of the cluster has a GPU") == 1, text
    assert text.count("its worker died; it goes on from its last epoch") == 1, text
    logs = [path.read_text() for path in output.glob("store/*/log.txt")]
    assert sorted(log.count("process ") for log in logs) == [1, 1, 1, 2]
    # The trial that was cut off repeats at most the epoch whose checkpoint was being written.
    assert all(EPOCHS <= log.count(", val accuracy") <= EPOCHS + 1 for log in logs)
    quiet = (*STUDY, f"output={tmp_path / 'quiet'}", "executor=local")
    assert run(*quiet).returncode == 0
    assert results(*arguments) == results(*quiet)
    tables = [
        (tmp_path / name / "quickstart" / "report.csv").read_bytes()
        for name in ("cluster", "quiet")
    ]
    assert tables[0] == tables[1]


own_files = pytest.mark.skipif(not can_mount(), reason="no mounts of one's own here")


def copied_project(folder: Path) -> Path:
    """A copy of the code, in which the training loop is another one."""
    for package in ("harness", "methods", "datasets", "studies"):
        shutil.copytree(PROJECT / package, folder / package)
    loop = folder / "harness" / "training" / "loop.py"
    loop.write_text(loop.read_text(encoding="utf-8") + "\nANOTHER = 1\n", encoding="utf-8")
    return folder


def store_seen_by(node: Node, output: Path) -> tuple[str, ...]:
    """What a node has of trials in its output, wherever that lies."""
    store = Path(f"/proc/{node.process.pid}/root{output}/store")
    return tuple(sorted(path.name for path in store.glob("*/spec.json")))


@own_files
def test_unfit_nodes_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    """Each lacks something else, in a mount namespace of its own, and is one line."""
    output, other, cache = tmp_path / "runs", tmp_path / "other", tmp_path / "cache"
    output.mkdir()
    cache.mkdir()
    manifest = classification(tmp_path / "data")
    changed = copied_project(other)
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        nodes.start("output", 1, [f"mount -t tmpfs none {output}"])
        nodes.start("code", 1, [f"mount --bind {changed} {PROJECT}"])
        nodes.start("package", 1, [*HIDE_INSTALLED, f"mount -t tmpfs none {PROJECT}"])
        nodes.start("data", 1, [f"mount -t tmpfs none {manifest.parent}"])
        nodes.start("cache", 1, [f"mount -t tmpfs none {cache}"])
        answer = run(
            *("study=own_data", f"dataset.manifest={manifest}", f"dataset.cache={cache}"),
            *("methods=[sf_md]", "seeds=[0]", "train.epochs=1", "tracking.enabled=false"),
            *(f"output={output}", *nodes.arguments),
            environment=nodes.environment,
        )
        there = {node.name: store_seen_by(node, output) for node in nodes.nodes}
    assert answer.returncode == 2, answer.stdout + answer.stderr
    lines = dict(
        re.fullmatch(r"(?:error: )?node (\w+) \(\S+\) (.+)", line).groups()  # type: ignore[union-attr]
        for line in answer.stderr.splitlines()
    )
    assert sorted(lines) == ["cache", "code", "data", "output", "package"]
    assert lines["output"].startswith(f"does not see the driver's store {output}/store: there is")
    assert "put output on a file system that the driver and all nodes mount" in lines["output"]
    assert lines["code"].startswith(f"has other code for sf_md in {PROJECT} than the driver; bring")
    assert lines["package"].startswith("cannot import the harness (No module named 'harness'")
    assert "install this repository there" in lines["package"]
    assert lines["data"].startswith(f"has no data: dataset.manifest={manifest} is not a file")
    assert lines["cache"].startswith(f"does not see the driver's prepared data in {cache}; name")
    assert set(there.values()) == {()}


@own_files
def test_a_node_that_joins_without_the_output_trains_nothing(tmp_path: Path) -> None:
    """Its trials run elsewhere, it is named once, and no record lies where nobody looks."""
    output = tmp_path / "runs"
    output.mkdir()
    with cluster() as nodes:
        nodes.start("head", cpus=0)
        good = nodes.start("good", cpus=1)
        driver = start(
            *(*STUDY, f"output={output}", *nodes.arguments), environment=nodes.environment
        )
        wait_until(lambda: sum(epochs(output).values()) >= 1, driver)
        # So that Ray has nothing but the node that joins for the trials that wait.
        stopped = stop(good, output)
        late = nodes.start("late", 2, [f"mount -t tmpfs none {output}"])
        said = heard(driver, "node late (")
        os.kill(stopped, signal.SIGCONT)
        text = driver.communicate(timeout=300)[0]
        there = store_seen_by(late, output)
    assert driver.returncode == 0, text
    assert "does not see the driver's store" in said
    assert said.rstrip().endswith("it is left out, the other nodes go on")
    assert "node late (" not in text and "its worker died" not in text
    assert there == () and len(list(output.glob("store/*/record.json"))) == 4
    assert not (output / "store" / "nodes").exists()


def heard(driver: subprocess.Popen[str], beginning: str) -> str:
    """The next line of a driver that begins so."""
    assert driver.stdout is not None
    limit = threading.Timer(300, driver.kill)
    limit.start()
    before = ""
    for line in driver.stdout:
        before += line
        if line.startswith(beginning):
            limit.cancel()
            return line
    raise AssertionError(before)
