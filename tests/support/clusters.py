"""Real Ray clusters of several nodes on this machine, started as people start them: ``ray start``.

Called by tests of schedule. Each node is a raylet with a name, ports, a session of processes and,
if asked, a mount namespace of its own, in which other files lie at the same paths.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMESPACE = (
    ("unshare", "--mount") if os.getuid() == 0 else ("unshare", "--map-root-user", "--mount")
)
"""Begins a command that may mount without anybody else seeing it."""

# Ray's workers are nice by default: beside another test process they would hardly run. A node whose
# raylet is killed is taken for dead after seconds instead of half a minute.
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "2",
}


def can_mount() -> bool:
    """Whether this user may have mounts of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


class Node:
    """One ``ray start --block``, and all processes below it."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, setting: dict[str, str]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **SETTINGS, **setting},
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a power cut does: SIGKILL for every process of the node at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """A head and nodes that join it, with one token, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32), encoding="utf-8")
        self.nodes: list[Node] = []
        self.port = _free_port()
        self.address = f"{_own_address()}:{self.port}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a driver is told of the cluster."""
        return (f"resources.address={self.address}",)

    @property
    def environment(self) -> dict[str, str]:
        """What a driver needs beside the address."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def start(
        self, name: str, cpus: int, before: Sequence[str] = (), gpus: int = 0, **environment: str
    ) -> Node:
        """Start a node, the first one as the head.

        Args:
            name: of the node, as Ray's list of nodes has it.
            cpus: that it offers; 0 for a head that takes no trial.
            before: commands in a mount namespace of the node's own, such as a mount.
            gpus: that Ray hands out there, whether they exist or not.
            environment: variables of the node and its workers.
        """
        head = not self.nodes
        where = (
            [
                "--head",
                f"--port={self.port}",
                f"--temp-dir={self.folder}",
                "--include-dashboard=false",
            ]
            if head
            else [f"--address={self.address}"]
        )
        # As `ray start` the program, but of this environment wherever it is.
        begin = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
        options = [f"--node-name={name}", f"--num-cpus={cpus}", "--object-store-memory=80000000"]
        command = [*begin, *where, *options, f"--num-gpus={gpus}"]
        command += ["--disable-usage-stats", "--block"]
        if before:
            script = "; ".join([*before, f"exec {shlex.join(command)}"])
            command = [*NAMESPACE, "sh", "-ec", script]
        setting = {"RAY_AUTH_TOKEN_PATH": str(self.token), **environment}
        node = Node(name, command, self.folder / f"{name}.log", setting)
        self.nodes.append(node)
        self._wait_for(node)
        return node

    def end(self) -> None:
        """End every node that is still there."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.kill()

    def _wait_for(self, node: Node, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while "Ray runtime started" not in node.log.read_text(encoding="utf-8"):
            if node.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(node.log.read_text(encoding="utf-8"))
            time.sleep(0.1)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """An empty cluster; its processes and its folder are gone afterwards."""
    # Short: Ray's sockets lie below it.
    folder = Path(tempfile.mkdtemp(prefix="hc-", dir="/tmp"))
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _own_address() -> str:
    """The address by which Ray knows this machine."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())
