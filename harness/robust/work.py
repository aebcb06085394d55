"""What is to be evaluated of a study, and what it costs; workers.py does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.results import Finished, Results
from harness.protocol.combinations import Combination
from harness.robust.catalogue import CLEAN, Condition, conditions
from harness.robust.evaluation import Inputs
from harness.robust.evidence import SPLIT, code_of, combinations_with, missing, stored
from harness.robust.trial_evaluation import raws_of
from harness.schedule.forecast import spoken
from harness.store import WEIGHTS, Store


@dataclass(frozen=True)
class Work:
    """What is left of a study's evaluations under corruptions.

    Attributes:
        results: the study's finished trials.
        inputs: what encoders receive of the test split.
        wanted: every condition, the clean one first.
        left: each trial that can be evaluated, and its conditions without evidence.
        left_out: one sentence per trial that cannot be evaluated.
    """

    results: Results
    inputs: Inputs
    wanted: Sequence[Condition]
    left: Sequence[tuple[Finished, Sequence[Condition]]]
    left_out: Sequence[str]

    @property
    def evaluations(self) -> int:
        """How many conditions are left, over all trials."""
        return sum(len(todo) for _, todo in self.left)

    @property
    def total(self) -> int:
        """How many conditions there are, over all trials that can be evaluated."""
        return len(self.left) * len(self.wanted)

    @property
    def encodings(self) -> int:
        """How many samples of a modality are encoded for what is left."""
        samples, modalities = len(self.inputs.split), len(self.inputs.raws)
        trials = sum(bool(todo) for _, todo in self.left)
        corrupted = sum(condition != CLEAN for _, todo in self.left for condition in todo)
        return samples * (trials * modalities + corrupted)

    def seconds(self) -> tuple[float, str]:
        """About how long what is left takes, and what that is known from."""
        own = [_measured(self.results.store, done, self.wanted) for done, _ in self.left]
        measured = [seconds for found in own for seconds in found]
        if measured:
            each = sum(measured) / len(measured)
            return each * self.evaluations, f"from {len(measured)} evaluations that are there"
        expected = [
            sum(_expected(done, condition, self.results.plan.combinations) for condition in todo)
            for done, todo in self.left
        ]
        return sum(expected), "from the trials' own evaluation; corrupting comes on top"


def work_of(results: Results) -> Work:
    """What is left to do. Needs prepared data; UserError without."""
    dataset = results.plan.dataset
    split = dataset.load(SPLIT)
    raws = raws_of(dataset)
    wanted = [CLEAN, *conditions(raws, split.available)]
    left, left_out = [], []
    for done in results.finished:
        trial = results.store.trial(done.trial.id)
        if done.trial.only is not None:
            left_out.append(
                f"{done.trial.job.name}: a model for one combination alone has nothing to fall back"
                " on"
            )
        elif trial.lacks(WEIGHTS):
            left_out.append(f"{done.trial.job.name}: imported without its weights")
        else:
            left.append((done, missing(trial, done.record, wanted, code_of(done.trial.job))))
    return Work(results, Inputs(split, raws), wanted, left, left_out)


def description(work: Work, workers: int) -> list[str]:
    """What there is to do, in lines, and how long so many workers take."""
    plan, samples = work.results.plan, len(work.inputs.split)
    lines = [f"study {plan.study.name}: {len(work.left)} trained models, {samples} test samples"]
    for name, raw in work.inputs.raws.items():
        ways = [one.corruption for one in work.wanted if one.modality == name and one.severity == 1]
        note = f" ({raw.note})" if raw.note else ""
        lines.append(f"  {name}, {raw.kind}{note}: {', '.join(ways)}; severities 1 to 5 each")
    to_do = f"{work.evaluations:,} of {work.total:,} to do"
    lines.append(
        f"  evaluations: {to_do}, {work.encodings:,} encodings of one modality of a sample"
    )
    if work.evaluations:
        seconds, known = work.seconds()
        at_once = f"{workers} trials at once, " if workers > 1 else ""
        lines.append(f"  time: about {spoken(seconds / workers)} ({at_once}{known})")
    return [*lines, *(f"  left out: {sentence}" for sentence in work.left_out)]


def steps_of(work: Work) -> int:
    """How many batches are left, over all conditions and trials."""
    samples = len(work.inputs.split)
    count = 0
    for done, todo in work.left:
        batch_size = int(done.trial.job.spec.evaluation["batch_size"])
        count += len(todo) * -(-samples // batch_size)
    return count


def _measured(store: Store, done: Finished, wanted: Sequence[Condition]) -> list[float]:
    """The seconds of a trial's evaluations that are there, without the clean one."""
    there = stored(store.trial(done.trial.id), done.record)
    return [one.seconds for one in there if one.condition != CLEAN and one.condition in wanted]


def _expected(done: Finished, condition: Condition, combinations: Sequence[Combination]) -> float:
    """Seconds of one condition by what the trial's own evaluation took."""
    took = done.record.get("test_evaluation", {})
    if not took.get("samples"):
        return 0.0
    scale = done.record["counts"][SPLIT] / took["samples"]
    modalities = 1 if condition == CLEAN else len(combinations[-1].members)
    share = len(combinations_with(combinations, condition)) / len(combinations)
    return float(scale * (took["encode_seconds"] / modalities + took["fuse_seconds"] * share))
