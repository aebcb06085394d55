"""The study's driver as Ray Tune's search algorithm: Tune asks for a trial whenever it has room.

schedule/on_ray/trials.py uses it. Ray is imported when the algorithm is built, and torch by who
wants a trial's job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.study.plan import PlannedTrial
    from harness.training.spec import Job


def payload(trial: PlannedTrial, code: str) -> dict[str, str]:
    """A trial as a worker gets it, with the hash of the code that it must execute."""
    # As text, so that Tune finds nothing in it to resolve as a search space.
    return {"id": trial.id, "job": json.dumps(asdict(trial.job)), "code": code}


def job_of(payload: Mapping[str, str]) -> Job:
    """The job in a trial's payload."""
    from harness.training.spec import Job, TrialSpec

    facts = json.loads(payload["job"])
    return Job(**facts | {"spec": TrialSpec(**facts["spec"])})


def device_of(payload: Mapping[str, str]) -> str:
    """What the plan trains a trial on, cuda or cpu."""
    return str(json.loads(payload["job"])["device"])


def on_device(payload: Mapping[str, str], device: str) -> dict[str, str]:
    """A trial's payload with the device that it is trained on, cuda or cpu."""
    job = json.loads(payload["job"]) | {"device": device}
    return dict(payload) | {"job": json.dumps(job)}


def searcher(ask: Callable[[], tuple[Any, ...]]) -> Any:
    """Tune's ``Searcher`` over what ``ask`` answers: ``trial PAYLOAD``, ``wait`` or ``over``.

    Built here, so that importing this module does not import Ray.
    """
    from ray.tune.search import Searcher

    class FromDriver(Searcher):
        def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
            # Tune pickles its searcher with the experiment, which is never restored.
            return dict, ()

        def suggest(self, trial_id: str) -> Any:
            word, *facts = ask()
            if word == "trial":
                return {"trial": facts[0]}
            return Searcher.FINISHED if word == "over" else None

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            """The listener has told the driver."""

        def save(self, checkpoint_path: str) -> None:
            # Nothing of it is restored, but Tune moves the file.
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError("the driver knows what is left from what the store holds")

    return FromDriver()
