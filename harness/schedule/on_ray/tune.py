"""Ray's side of the executor ``ray``: Tune places trials on a cluster, and workers execute them.

Resume, retries, ids, results and progress are ours: the store decides what is left to run, so Ray's
own experiment state is thrown away. All of it runs in a process of its own (main.py).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.schedule.on_ray.nodes import STACK
from harness.schedule.on_ray.nodes.admission import refusal
from harness.schedule.on_ray.nodes.placement import placement
from harness.study.settings import ResourcesConfig

STACK_SECONDS = 0.5
END_SECONDS = 30.0


def end_worker(process: int, node: str) -> None:
    """End the worker with this process number on a node, after it wrote down where it stands."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if node == ray.get_runtime_context().get_node_id():
        _end_process(process)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, scheduling_strategy=there)(_end_process)
    ray.get(task.remote(process), timeout=END_SECONDS)


def _end_process(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, STACK)
        # A process that is stopped writes nothing; nothing stops SIGKILL.
        time.sleep(STACK_SECONDS)
        os.kill(process, signal.SIGKILL)


def tuner(
    trainable: Any, resources: ResourcesConfig, storage: Path, callback: Any, algorithm: Any
) -> Any:
    """A Tune run of ``trainable`` over what a search algorithm suggests."""
    from ray import tune

    return tune.Tuner(
        tune.with_resources(trainable, placement(resources)),
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=resources.max_concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            search_alg=algorithm,
            # How many trials there will be is the driver's business; -1 is Tune's word for that.
            num_samples=-1,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            callbacks=[callback],
            # A trial whose worker died is the driver's business too.
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"]["id"])


def listener(say: Callable[..., None], resources: ResourcesConfig) -> Any:
    """A Tune callback that passes on what happens to trials; see schedule/on_ray/main.py.

    Built here, so that importing this module does not import Ray.
    """
    from ray import tune

    class Listener(tune.Callback):
        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its callbacks with the experiment, which is never restored; ours hold a
            # connection.
            return dict, ()

        def on_trial_start(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            say("started", _trial_name(trial))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            trial_id = _trial_name(trial)
            if "outcome" in result:
                say("finished", trial_id, result["outcome"])
            elif "worker" in result:
                say("worker", trial_id, *result["worker"])
            elif "epoch" in result:
                say("epoch", trial_id, result["epoch"], result["epochs"], result["value"])
            elif "beat" in result:
                say("beat", trial_id)
            elif "unfit" in result:
                node, problem = result["unfit"]
                say(*refusal(trial_id, node, problem, resources))

        def on_trial_error(
            self, iteration: int, trials: list[Any], trial: Any, **info: Any
        ) -> None:
            say("lost", _trial_name(trial))

    return Listener()
