"""What runs in the process of a Ray session: Ray's driver, Tune, and a watch on Ray itself.

``python -m harness.schedule.on_ray.main FD``, started by session.py beside it. FD is a connection
to the study's driver. It says ``ray ADDRESS``, upon which Ray is started, or the cluster there is
connected to; and ``begin RESOURCES FOLDER LOG`` when it has trials, which may be later. This
process answers, in any order::

    alive                            every second
    connected                        Ray is there
    next                             Tune has room: answered by trial PAYLOAD, wait or over
    started ID, worker ID PID NODE   a worker took a trial
    epoch ID EPOCH EPOCHS VALUE      and so on: what the trial does
    beat ID
    finished ID OUTCOME
    unfit ID SENTENCE                its worker is on a node that must not train: it is lost next
    lost ID                          its worker died
    warned SENTENCE                  on a node that joined and is left out
    chosen RESOURCES SENTENCE FACTS  how many trials share a GPU, by a probe; or that none has one
    refused SENTENCE ...             a user's mistake, or several
    died SENTENCE                    a part of Ray died, or does not answer
    over                             no trial is left

The driver may say ``end PID NODE`` of a worker that does nothing any more. When the driver is gone,
this process ends with all that it started.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.schedule.on_ray.cluster import check_capacity, cluster, keep_quiet
from harness.schedule.on_ray.session import end_session
from harness.schedule.on_ray.trials import train
from harness.schedule.on_ray.tune import end_worker
from harness.schedule.watch import TICK_SECONDS, AwakeClock
from harness.study.settings import ResourcesConfig

ANSWER_SECONDS = 30.0
"""How long Ray's head may take for a question that it answers in milliseconds."""

QUESTION_SECONDS = 5.0


class Link:
    """Messages to and from the study's driver, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._begun: queue.Queue[tuple[ResourcesConfig, Path]] = queue.Queue()
        self._answers: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def address(self) -> str | None:
        """What the driver says first: of which cluster; None for a Ray of our own."""
        address: str | None = self._connection.recv()[1]
        return address

    def begin(self) -> tuple[ResourcesConfig, Path]:
        """The study's resources and folder, once the driver has trials."""
        return self._begun.get()

    def say(self, *message: Any) -> None:
        """Tell the driver."""
        with self._lock, suppress(OSError):
            self._connection.send(message)

    def tell(self, *message: Any) -> None:
        """What happens to trials; when a worker died, first whether it did so with all of Ray."""
        if message[0] == "lost":
            self._say_what_died()
        self.say(*message)

    def _say_what_died(self) -> None:
        for sentence in _dead_parts():
            self.say("died", sentence)

    def ask(self) -> tuple[Any, ...]:
        """The driver's answer to ``next``."""
        self.say("next")
        return self._answers.get()

    def listen(self) -> None:
        """Hear the driver until it is gone; then end this process with all that it started."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                end_session(os.getpid())
                os._exit(1)
            if message[0] == "begin":
                _print_into(message[3])
                self._begun.put(message[1:3])
            elif message[0] == "end":
                with suppress(Exception):  # the driver notices that the worker is still there
                    end_worker(*message[1:])
            else:
                self._answers.put(message)

    def beat(self) -> None:
        """Say every second that this process runs, and at once when a part of Ray has died."""
        while True:
            self.say("alive")
            self._say_what_died()
            time.sleep(TICK_SECONDS)

    def question(self) -> None:
        """Ask Ray's head something now and then, and say so when it does not answer."""
        clock, asked = AwakeClock(), _Question()
        while True:
            time.sleep(TICK_SECONDS)
            if asked.answered is None:
                if clock.tick() > ANSWER_SECONDS:
                    self.say("died", f"Ray's head has not answered for {ANSWER_SECONDS:g} s")
                    return
            elif not asked.answered:
                self.say("died", "Ray's head says that no machine of its cluster is alive")
                return
            elif clock.tick() > QUESTION_SECONDS:
                clock, asked = AwakeClock(), _Question()


class _Question(threading.Thread):
    """Whether a machine of the cluster is alive; None as long as Ray's head does not say."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.answered: bool | None = None
        self.start()

    def run(self) -> None:
        import ray

        with suppress(Exception):  # no answer either
            self.answered = any(node["Alive"] for node in ray.nodes())


def _dead_parts() -> list[str]:
    """A sentence for each process of a Ray of our own that trials need and that has ended."""
    ray = sys.modules.get("ray")
    node = getattr(getattr(getattr(ray, "_private", None), "worker", None), "_global_node", None)
    if node is None:
        return []
    dead = [(kind, process.poll()) for kind, process in node.dead_processes()]
    return [f"Ray's {kind} died ({_ending(code)})" for kind, code in dead if kind in NEEDED]


NEEDED = ("raylet", "gcs_server")


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _wake_when_the_driver_dies() -> None:
    """Let ``Link.listen`` notice it also where this process is stopped. Linux only."""
    # Not SIGKILL: what Ray started would outlive this process by minutes.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGCONT)  # PR_SET_PDEATHSIG


def _print_into(log: Path) -> None:
    """Let this process, and what it starts from now on, print at the end of a file."""
    with log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)


def _run(link: Link) -> None:
    address = link.address()
    for work in (link.listen, link.beat):
        threading.Thread(target=work, daemon=True).start()
    keep_quiet(address)
    with cluster(address) as private:
        link.say("connected")
        threading.Thread(target=link.question, daemon=True).start()
        # Tune's import takes a second, while the study is still being planned.
        from ray import tune  # noqa: F401

        resources, folder = link.begin()
        check_capacity(resources)
        while (first := link.ask())[0] == "wait":
            time.sleep(TICK_SECONDS)
        if first[0] == "trial":
            storage = folder / "ray" if private is None else private / "tune"
            train(first, link.ask, link.say, link.tell, resources, storage)
        link.say("over")


def main(descriptor: int) -> None:
    """Run what the driver hands out."""
    _wake_when_the_driver_dies()
    link = Link(Connection(descriptor))
    try:
        _run(link)
    except UserError as error:
        link.say("refused", *map(str, error.args))
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().partition("\n")[0]
        link.say("died", f"Ray gave up ({type(error).__name__}: {words})")


if __name__ == "__main__":
    main(int(sys.argv[1]))
