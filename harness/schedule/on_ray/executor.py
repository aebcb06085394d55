"""Executor ``ray``: trials on a Ray cluster, or on a Ray of our own on this machine.

The driver's half: it hands trials to the process that Ray runs in, and keeps a watch on that
process, on Ray and on the trials' progress. What dies is started again, and trials go on from their
last epoch.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.schedule.executor import (
    Executor,
    ExecutorLost,
    Observer,
    TrialSource,
)
from harness.schedule.on_ray.rounds import Rounds
from harness.schedule.on_ray.session import Message, RaySession, SessionEnded
from harness.schedule.on_ray.source import payload
from harness.schedule.watch import TICK_SECONDS, AwakeClock, StallWatch
from harness.store import Store, write_json
from harness.study.plan import PlannedTrial
from harness.training.spec import Outcome
from harness.training.trial import record_failure

LOG = "ray.log"
"""What Ray and Tune print of their own, in the study's folder."""

RESOURCES = "resources.json"
"""What ``resources.gpus_per_trial=auto`` became and why, in the study's folder."""

RESTARTS = 3
"""How often Ray is started again while no trial ends."""

CONNECT_SECONDS = 180.0
START_SECONDS = 120.0
"""How long a worker may take to say that it begins, beside what any step may take; and to end."""

SILENT_SECONDS = 50.0
"""How long the process that Ray runs in, which speaks every second, may be silent."""


class RayExecutor(Executor):
    """Runs trials on a Ray cluster, with Tune's placement.

    UserError when the cluster cannot be reached or can never hold a trial; ExecutorLost when Ray
    dies again and again.
    """

    _ahead: RaySession | None = None
    """Started before there are trials, and used by none yet."""

    @property
    def where(self) -> str:
        """The cluster."""
        return f"Ray, {self.resources.address or 'this machine'}"

    def start(self) -> None:
        """Begin to start a Ray of our own; nothing on a cluster, whose mistakes come later."""
        if self.resources.address is None and self._ahead is None:
            self._ahead = RaySession(None)

    def close(self) -> None:
        """End what was started and is used by no trial."""
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None

    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        """Run what the source hands out, whenever Tune has room for a trial."""
        log = self.folder / LOG
        self.folder.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        run = _Run(self, Rounds(source, self.resources.retries), observer)
        restarts = 0
        while True:
            ended_before = len(run.outcomes)
            reason = self._one_session(run, log)
            if reason is None:
                return list(run.outcomes.values())
            restarts = 1 if len(run.outcomes) > ended_before else restarts + 1
            if restarts > RESTARTS:
                raise ExecutorLost(
                    f"{reason}, {restarts} times without a finished trial between; what Ray says is"
                    f" in {log}"
                )
            run.tell_restart(f"{reason}; Ray is started again ({restarts} of {RESTARTS})", log)

    def _one_session(self, run: _Run, log: Path) -> str | None:
        """Run trials until all are over, or until Ray dies: then what died."""
        session, self._ahead = self._ahead or RaySession(self.resources.address), None
        try:
            session.begin(self.resources, self.folder, log)
            reason = run.follow(session)
            # A cluster is taken leave of. A Ray of our own has nothing left to lose, and takes
            # three seconds to shut down by itself.
            if reason is None and self.resources.address is not None:
                session.wait()
            return reason
        finally:
            session.end()
            shutil.rmtree(self.folder / "ray", ignore_errors=True)


class _Run:
    """What is to be run, over all sessions of Ray, and what is heard of it."""

    def __init__(self, executor: RayExecutor, rounds: Rounds, observer: Observer) -> None:
        self.executor, self.resources = executor, executor.resources
        self.rounds, self.observer = rounds, observer
        self.outcomes: dict[str, Outcome] = {}
        self.clock = AwakeClock()
        self.watch = StallWatch(self.resources.stall_minutes, self.clock)
        self._begun: set[str] = set()
        """Trials that a worker took and that have not ended."""
        self._workers: dict[str, tuple[int, str]] = {}
        self._ending: dict[str, str] = {}
        """Trials whose worker is being ended because they stalled, and the sentence on it."""
        self._unfit: dict[str, str] = {}
        """Trials that a node must not train, and the sentence on it, empty where it was said."""
        self._codes: dict[tuple[str | None, str, str], str] = {}
        self._connected = False
        self._heard = 0.0

    def follow(self, session: RaySession) -> str | None:
        """Hear a session to its end; what died, or None when every trial is over.

        UserError when the session says that the user has to mend something.
        """
        self._connected, self._heard = False, self.clock.tick()
        while True:
            try:
                message = session.receive(TICK_SECONDS)
            except SessionEnded:
                return "the process that Ray runs in died"
            self.clock.tick()
            if message is not None:
                self._heard = self.clock.seconds
                word, *facts = message
                if word == "over":
                    return None
                if word == "died":
                    return str(facts[0])
                self._hear(session, message)
            reason = self._what_is_wrong(session)
            if reason is not None:
                return reason

    def tell_restart(self, sentence: str, log: Path) -> None:
        """Say that Ray died, once, and keep what ran for the next session."""
        running = len(self._begun)
        going_on = "trial goes" if running == 1 else "trials go"
        self.observer.warned(
            f"{sentence} and {running} {going_on} on from the last epoch; what Ray says is in {log}"
        )
        self.rounds.interrupted()
        self.watch.clear()
        self._workers.clear()
        self._ending.clear()
        self._unfit.clear()

    def _hear(self, session: RaySession, message: Message) -> None:
        word, *facts = message
        if word == "next":
            self._answer(session)
        elif word == "refused":
            raise UserError(*facts)
        elif word == "warned":
            self.observer.warned(facts[0])
        elif word == "chosen":
            # For the next session too: what was probed once is not probed again.
            self.executor.resources = facts[0]
            self.observer.warned(facts[1])
            write_json(self.executor.folder / RESOURCES, facts[2])
        elif word == "connected":
            self._connected = True
        elif word != "alive" and facts[0] in self.rounds.out:
            self._hear_of_trial(word, self._placed(self.rounds.out[facts[0]]), facts[1:])

    def _answer(self, session: RaySession) -> None:
        """Tell Tune the next trial."""
        trial = self.rounds.next(self.observer)
        if trial is not None:
            session.send("trial", payload(trial, self._code(trial)))
        else:
            session.send("over" if self.rounds.over else "wait")

    def _code(self, trial: PlannedTrial) -> str:
        """The hash of what a trial executes, as it was for the first trial of its kind: files may
        be changed while a study runs.
        """
        job = trial.job
        kind = (job.method_file, job.spec.method, job.spec.backbone["name"])
        if kind not in self._codes:
            self._codes[kind] = job.code()
        return self._codes[kind]

    def _placed(self, trial: PlannedTrial) -> PlannedTrial:
        """The trial on the device that it has by now, for those who hear of it."""
        job = replace(trial.job, device=self.executor.resources.device)
        return replace(trial, job=job)

    def _hear_of_trial(self, word: str, trial: PlannedTrial, facts: Sequence[object]) -> None:
        if word == "started":
            self._begun.add(trial.id)
            self.watch.started(trial.id, START_SECONDS)
            self.observer.started(trial)
        elif word == "unfit":
            self._unfit[trial.id] = str(facts[0])
        elif word == "lost":
            self._lost(trial)
        elif word == "finished":
            self._end(trial, Outcome(**facts[0]))  # type: ignore[arg-type]
        else:
            self.watch.progressed(trial.id)
            if word == "worker":
                self._workers[trial.id] = facts  # type: ignore[assignment]
            elif word == "epoch":
                self.observer.epoch(trial, *facts)  # type: ignore[arg-type]

    def _lost(self, trial: PlannedTrial) -> None:
        """A worker died: by itself, or because it was ended."""
        self.watch.ended(trial.id)
        self._workers.pop(trial.id, None)
        unfit = self._unfit.pop(trial.id, None)
        if unfit is not None:
            self.rounds.elsewhere(trial)
            if unfit:
                self.observer.interrupted(trial, unfit)
            return
        stalled = self._ending.pop(trial.id, None)
        if stalled is not None:
            if self.rounds.stalled(trial):
                self.observer.interrupted(
                    trial, f"{stalled}; it was ended, and is tried once more alone, later"
                )
                return
            reason = f"{stalled}, also when it ran alone; its log.txt says where it stood"
        elif self.rounds.died(trial):
            self.observer.interrupted(trial, "its worker died; it goes on from its last epoch")
            return
        else:
            deaths = self.resources.retries + 1
            reason = f"its worker died {deaths} times (killed, or out of memory?)"
        directory = Store(Path(trial.job.store)).trial(trial.id)
        self._end(trial, record_failure(directory, trial.job, reason))

    def _end(self, trial: PlannedTrial, outcome: Outcome) -> None:
        self.watch.ended(trial.id)
        self._workers.pop(trial.id, None)
        self._ending.pop(trial.id, None)
        self._begun.discard(trial.id)
        self.outcomes[trial.id] = outcome
        self.observer.finished(trial, outcome)
        self.rounds.ended(trial)

    def _what_is_wrong(self, session: RaySession) -> str | None:
        """End the workers of stalled trials; what is wrong with Ray itself."""
        silent = self.clock.seconds - self._heard
        if silent > (SILENT_SECONDS if self._connected else CONNECT_SECONDS):
            return f"the process that Ray runs in has been silent for {silent:.0f} s"
        for trial_id in self.watch.stalled():
            if trial_id in self._ending or trial_id not in self._workers:
                return f"Ray does not end the worker of a trial with {self.watch.sentence}"
            self._ending[trial_id] = self.watch.sentence
            self.watch.started(trial_id, START_SECONDS)
            session.send("end", *self._workers[trial_id])
        return None
