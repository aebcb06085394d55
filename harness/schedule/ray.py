"""Executor ``ray``: Ray Tune, for a list of trials, their resources and retries of dead workers.

Resume, ids, results and progress are ours: the store decides what is left to run, so Ray's own
experiment state is thrown away.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.schedule.executor import Executor, Observer, TrialSource, waves, without_blocked
from harness.schedule.private_folder import private_folder
from harness.schedule.ray_source import SourceObserver, payload, searcher
from harness.store import Store
from harness.study.config import ResourcesConfig
from harness.study.plan import PlannedTrial
from harness.training.loop import EpochReport
from harness.training.spec import Job, Outcome, TrialSpec
from harness.training.trial import record_failure, run_trial

# Read by Ray when it is imported: silent, without telemetry, without its own log files per trial.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
OBJECT_STORE_BYTES = 128 * 1024**2
KNOCK_SECONDS = 10.0


class RayExecutor(Executor):
    """Runs trials on a Ray cluster, with Tune's placement and retries.

    UserError when the cluster cannot be reached or can never hold a trial.
    """

    @property
    def where(self) -> str:
        """The cluster."""
        return f"Ray, {self.resources.address or 'this machine'}"

    def run(self, trials: Sequence[PlannedTrial], observer: Observer) -> list[Outcome]:
        """Run each wave of the list as one grid of Tune, which queues all its trials at once."""
        with cluster(self.resources, self.folder) as storage:
            outcomes: list[Outcome] = []
            for number, wave in enumerate(waves(trials)):
                runnable, blocked = without_blocked(wave, observer)
                outcomes += blocked
                if runnable:
                    outcomes += _run_grid(runnable, self.resources, storage / str(number), observer)
            return outcomes

    def run_source(self, source: TrialSource, observer: Observer) -> list[Outcome]:
        """Run what the source hands out, whenever Tune has room for a trial."""
        with cluster(self.resources, self.folder) as storage:
            handed: dict[str, PlannedTrial] = {}
            callback = listener(handed, SourceObserver(observer, source))
            algorithm = searcher(source, observer, handed, callback, self.resources)
            # How many trials there will be is the source's business; -1 is Tune's word for that.
            how = {"search_alg": algorithm, "num_samples": -1}
            tuner(self.resources, storage / "search", callback, {}, **how).fit()
            if not source.over:
                # Tune answers Ctrl-C by stopping its trials and returning as if it were over.
                raise KeyboardInterrupt
            return list(callback.outcomes.values())


def _trainable(config: dict[str, Any]) -> None:
    """What a worker executes: one trial, reporting each epoch."""
    from ray import tune

    facts = json.loads(config["trial"]["job"])
    job = Job(**facts | {"spec": TrialSpec(**facts["spec"])})

    def report(epoch: EpochReport) -> None:
        tune.report({"epoch": epoch.epoch, "epochs": epoch.epochs, "value": epoch.value})

    outcome = run_trial(job, report)
    tune.report({"outcome": asdict(outcome)})


def _run_grid(
    trials: Sequence[PlannedTrial], resources: ResourcesConfig, storage: Path, observer: Observer
) -> list[Outcome]:
    from ray import tune

    by_id = {trial.id: trial for trial in trials}
    callback = listener(by_id, observer)
    points = {"trial": tune.grid_search([payload(trial) for trial in trials])}
    tuner(resources, storage, callback, points).fit()
    for trial_id in callback.errored:
        callback.lost(by_id[trial_id], resources)
    if len(callback.outcomes) < len(by_id):
        # Tune answers Ctrl-C by stopping its trials and returning as if it were over.
        raise KeyboardInterrupt
    return list(callback.outcomes.values())


def tuner(
    resources: ResourcesConfig, storage: Path, callback: Any, points: dict[str, Any], **how: Any
) -> Any:
    """A Tune run of ``_trainable`` over points, or as a search algorithm among ``how`` says."""
    from ray import tune

    return tune.Tuner(
        tune.with_resources(
            _trainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}
        ),
        param_space=points,
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=resources.max_concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            **how,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=resources.retries),
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"]["id"])


def listener(by_id: Mapping[str, PlannedTrial], observer: Observer) -> Any:
    """A Tune callback that speaks to our observer.

    Built here, so that importing this module does not import Ray.
    """
    from ray import tune

    class Listener(tune.Callback):
        def __init__(self) -> None:
            self.outcomes: dict[str, Outcome] = {}
            self.errored: list[str] = []

        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its callbacks with the experiment, which is never restored; observers
            # hold locks and threads.
            return dict, ()

        def on_trial_start(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            observer.started(by_id[_trial_name(trial)])

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            planned = by_id[_trial_name(trial)]
            if "outcome" in result:
                self._end(planned, Outcome(**result["outcome"]))
            elif "epoch" in result:
                observer.epoch(planned, result["epoch"], result["epochs"], result["value"])

        def on_trial_recover(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            observer.interrupted(
                by_id[_trial_name(trial)], "its worker died; it goes on from its last epoch"
            )

        def on_trial_error(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            self.errored.append(_trial_name(trial))

        def lost(self, planned: PlannedTrial, resources: ResourcesConfig) -> None:
            """Record the failure of a trial whose workers died more often than retries allow."""
            reason = f"its worker died {resources.retries + 1} times (killed, or out of memory?)"
            trial = Store(Path(planned.job.store)).trial(planned.id)
            self._end(planned, record_failure(trial, planned.job, reason))

        def _end(self, planned: PlannedTrial, outcome: Outcome) -> None:
            self.outcomes[planned.id] = outcome
            observer.finished(planned, outcome)

    return Listener()


# ---------------------------------------------------------------------- the cluster


@contextmanager
def cluster(resources: ResourcesConfig, folder: Path) -> Iterator[Path]:
    """Connect to the given cluster, or start one of our own with a private folder.

    Yields Tune's storage path.

    UserError when it cannot be reached or can never hold a trial.
    """
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    with _connected(resources, folder) as storage:
        _check_capacity(resources)
        yield storage


@contextmanager
def _connected(resources: ResourcesConfig, folder: Path) -> Iterator[Path]:
    if resources.address is not None:
        yield from _remote(resources.address, folder)
        return
    # A token of our own, before Ray is imported: it would otherwise write one into the home folder,
    # which may be read-only.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = _token()
    with private_folder() as temporary:
        import ray

        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(temporary),
            )
            yield temporary / "tune"
        finally:
            _disconnect()


@cache
def _token() -> str:
    # Ray reads it once: the second cluster of a process has the token of the first.
    return secrets.token_hex(32)


def _remote(address: str, folder: Path) -> Iterator[Path]:
    import ray

    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster answers at resources.address={address} "
            f"({str(error).splitlines()[0]}); if one is running there, give every node and this "
            "driver the same RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        ) from error
    storage = folder / "ray"
    try:
        yield storage
    finally:
        _disconnect()
        shutil.rmtree(storage, ignore_errors=True)


def _disconnect() -> None:
    import ray

    # Tune leaves object references in cycles. Whichever thread frees one while Ray shuts down (the
    # tracker's, say) makes Ray end this process with exit code 1: so they are freed here, before.
    gc.collect()
    ray.shutdown()


def _knock(address: str) -> None:
    """OSError when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _check_capacity(resources: ResourcesConfig) -> None:
    """Refuse what no node could ever run: Tune would wait for ever."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, wanted, key in (
        ("GPU", resources.gpus_per_trial, "gpus"),
        ("CPU", resources.cpus_per_trial, "cpus"),
    ):
        largest = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if wanted > largest:
            raise UserError(
                f"resources.{key}_per_trial={wanted:g}, and no machine of the cluster has more "
                f"than {largest:g} {kind}s; lower it"
            )
