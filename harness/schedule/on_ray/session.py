"""The process that Ray's side of a run lives in, as the study's driver sees it.

Ray ends a process whose gcs_server died, and blocks one whose raylet died: neither can be repaired
in the same process. So Ray runs in a process of its own (main.py), which can be ended with all that
it started, and started again. executor.py is the only caller.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from harness import PROJECT
from harness.schedule.private_folder import sweep
from harness.study.settings import ResourcesConfig

Message = tuple[Any, ...]

END_SECONDS = 20.0
"""How long processes may take to end, by themselves or after SIGKILL."""


class SessionEnded(Exception):
    """The process that Ray runs in has ended."""


class RaySession:
    """One process with Ray in it, and the messages to and from it (see main.py).

    Ray begins to start at once; ``begin`` says for what.

    Args:
        address: of a cluster; None for a Ray of our own on this machine.
    """

    def __init__(self, address: str | None) -> None:
        self._link, theirs = Pipe()
        self._log: Path | None = None
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115
        """What it prints before it has a log: Ray may start before a study's folder is there."""
        self._logged = 0
        # A session of its own: Ctrl-C is this process's business, and everything that it starts can
        # be found again.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.schedule.on_ray.main", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=self._printed,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": _python_path()},
        )
        theirs.close()
        self.send("ray", address)

    def begin(self, resources: ResourcesConfig, folder: Path, log: Path) -> None:
        """Let it run the trials of a study with this folder, and print into a file from now on."""
        self._log = log
        self._log_what_was_printed()
        self.send("begin", resources, folder, log)

    def receive(self, seconds: float) -> Message | None:
        """The next message; None when there is none for so long, SessionEnded at the end."""
        try:
            if not self._link.poll(seconds):
                return None
            message: Message = self._link.recv()
            return message
        except (EOFError, OSError):
            raise SessionEnded from None

    def send(self, *message: Any) -> None:
        """Tell the process something; one that has ended is noticed by ``receive``."""
        with suppress(OSError):
            self._link.send(message)

    def wait(self) -> None:
        """Let the process end by itself, for a while."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def end(self) -> None:
        """End the process and all that it started, and remove what they leave."""
        end_session(self._process.pid)
        self._process.kill()
        self._process.wait()
        self._link.close()
        self._log_what_was_printed()
        self._printed.close()
        sweep()

    def _log_what_was_printed(self) -> None:
        """Copy what it has printed without a log, and what it prints until it has opened it."""
        if self._log is None:
            return
        # It writes at the position that a read would move.
        size = os.fstat(self._printed.fileno()).st_size
        printed = os.pread(self._printed.fileno(), size - self._logged, self._logged)
        self._logged += len(printed)
        with self._log.open("ab") as log:
            log.write(printed)


def _python_path() -> str:
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def end_session(leader: int) -> None:
    """SIGKILL for all processes of a session, and wait until none runs.

    ``leader`` is the process that began it. Only the leader's group without /proc.
    """
    deadline = time.monotonic() + END_SECONDS
    while (left := _members(leader)) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _members(leader: int) -> list[int]:
    """The processes of a session that still run (zombies do not), but for this one."""
    members = []
    for path in sorted(Path("/proc").glob("[0-9]*/stat")):
        try:
            # The name in brackets may hold anything; then: state, parent, group, session.
            facts = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        process = int(path.parent.name)
        if int(facts[3]) == leader and facts[0] not in "ZX" and process != os.getpid():
            members.append(process)
    return members
