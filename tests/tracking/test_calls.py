"""How often MLflow is called for a trial: each call is a transaction of its database."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.training.trial import run_trial

WRITE = ("create_run", "log_batch", "set_tag", "log_inputs", "log_artifact", "log_text")


class Counting:
    """An MLflow client that counts the calls that write."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name in (*WRITE, "update_run", "set_terminated"):
            self.calls[name] += 1
        return getattr(self.client, name)


def test_an_epoch_is_one_call_whatever_it_logs(study: Any) -> None:
    """The first also makes the run and describes it; the record and the card are files."""
    mirrored = study("calls", "train.epochs=4")
    tracker, after = mirrored.tracker, list[Counter[str]]()
    tracker.open()
    client = Counting(tracker._opened[0])
    tracker._opened = client, tracker._opened[1]

    def mirror(*_: object) -> None:
        client.calls.clear()
        tracker.mirror_trial(mirrored.trial)
        after.append(Counter(client.calls))

    run_trial(mirrored.trial.job, mirror)
    assert after == [{"create_run": 1, "log_batch": 2}, *[{"log_batch": 1}] * 3]
    mirror()
    assert after[-1]["log_batch"] == 2  # what it is now, and what came out
    assert after[-1]["create_run"] == 0
    mirror()
    assert not after[-1]
