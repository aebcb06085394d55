"""What evaluations under corruptions say: how fast a row gets worse, and from where on a bad sensor
is worse than none.

S seeds, N test samples. A modality is *trusted* when the model is told that it is present, and
*left out* when it is told that it is absent. Both are compared on the same combinations of the
others: all that contain the modality and another one, against the same without it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from harness.analysis.evidence import stored_evidence
from harness.analysis.findings import Findings
from harness.analysis.results import Finished, Results
from harness.analysis.statistics import Estimate, RowSamples, estimate, sample_values
from harness.data.raw import Array
from harness.protocol.combinations import Combination
from harness.robust.catalogue import CLEAN, Condition
from harness.robust.definition import SEVERITIES
from harness.robust.evidence import (
    SPLIT,
    StoredCondition,
    code_of,
    combinations_with,
    definition_of,
    stored,
)

ALL = ""
"""In the place of a corruption: the mean over all of the modality's."""

WORST = len(SEVERITIES)


@dataclass(frozen=True)
class BreakEven:
    """The severity from which leaving a modality out beats trusting it.

    0 where it beats it even when nothing is corrupted, infinity where it never does up to severity
    5; between two severities by linear interpolation. ``low`` to ``high`` are where the ends of the
    95 % interval of the difference cross 0.
    """

    severity: float
    low: float
    high: float


@dataclass(frozen=True)
class OneSeed:
    """What one trial has of a Decline; see there."""

    trusted: tuple[float, ...]
    left_out: float


@dataclass(frozen=True)
class Overall:
    """One trial over all modalities, corruptions and severities, each counted equally.

    ``clean`` and ``corrupted`` are the metric over the same combinations: those in which the
    corrupted modality is present together with others.
    """

    clean: float
    corrupted: float


@dataclass(frozen=True)
class Decline:
    """One row as one modality gets worse, by severities 0 to 5.

    Attributes:
        label: of the row.
        modality: the corrupted one.
        corruption: its name; ``ALL`` for the mean over all of the modality's.
        seeds: how many training seeds this is the mean of.
        trusted: the metric with the corrupted modality, mean over its combinations with others.
        left_out: the metric without it, mean over the same combinations of the others.
        each: combination -> the metric at each severity, of all that contain the modality.
        gains: trusted minus left out at each severity, positive where trusting it is better.
        by_seed: training seed -> trusted and left out of its trial.
    """

    label: str
    modality: str
    corruption: str
    seeds: int
    trusted: tuple[float, ...]
    left_out: float
    each: Mapping[str, tuple[float, ...]]
    gains: tuple[Estimate, ...]
    by_seed: Mapping[int, OneSeed]

    @property
    def break_even(self) -> BreakEven:
        """From where on leaving it out is better."""
        ends = [gain.interval() for gain in self.gains]
        return BreakEven(
            crossing([gain.corrected for gain in self.gains]),
            crossing([low for low, _ in ends]),
            crossing([high for _, high in ends]),
        )

    @property
    def untold(self) -> tuple[float, float, float]:
        """What is lost at severity 5 when nobody tells the model, with its 95 % interval."""
        worst = self.gains[WORST]
        low, high = worst.interval()
        return -worst.corrected, -high, -low


@dataclass(frozen=True)
class BadSensors:
    """What is known of a study's rows under corruptions.

    Attributes:
        declines: by row, modality and corruption, in the study's order; ``ALL`` first.
        levels: (modality, corruption) -> the conditions at severities 1 to 5.
        outdated: label -> how many evaluations were made by another version of the code, if any.
        lacking: label -> one sentence per modality that is not complete.
        definition: the fingerprint of what was corrupted how, as this version of the code does it.
    """

    declines: Mapping[tuple[str, str, str], Decline]
    levels: Mapping[tuple[str, str], Sequence[Condition]]
    outdated: Mapping[str, int]
    lacking: Mapping[str, Sequence[str]]
    definition: str

    @property
    def stale(self) -> int:
        """How many evaluations were made by another version of the code, over all rows."""
        return sum(self.outdated.values())

    @property
    def modalities(self) -> list[str]:
        """The modalities of which something is known, in the dataset's order."""
        return list(dict.fromkeys(one.modality for one in self.declines.values()))

    @property
    def lacks(self) -> list[str]:
        """What is not complete, over all rows."""
        return [sentence for sentences in self.lacking.values() for sentence in sentences]

    def overall(self, label: str) -> dict[int, Overall]:
        """A row's trials over all corruptions, by seed; without those that lack a modality."""
        declines = {one.modality: one for one in self.of(label)}
        if not declines or set(declines) != set(self.modalities):
            return {}
        found = {}
        for seed in sorted(set.intersection(*(set(one.by_seed) for one in declines.values()))):
            lines = [one.by_seed[seed].trusted for one in declines.values()]
            corrupted = [fmean(line[1:]) for line in lines]
            found[seed] = Overall(fmean(line[0] for line in lines), fmean(corrupted))
        return found

    def of(self, label: str, corruption: str = ALL) -> list[Decline]:
        """A row's modalities under a corruption."""
        return [
            one
            for one in self.declines.values()
            if (one.label, one.corruption) == (label, corruption)
        ]


def crossing(values: Sequence[float]) -> float:
    """The severity from which on all values are below 0, linear between severities.

    ``values`` are at severities 0, 1, ... Infinity where the last is not below 0.

    >>> crossing([2, 1, -1, -3]), crossing([1, -1, 1, -1]), crossing([-1, -2]), crossing([-1, 1])
    (1.5, 2.5, 0.0, inf)
    """
    below = 0
    for value in reversed(values):
        if not value < 0:
            break
        below += 1
    first = len(values) - below
    if below == 0:
        return math.inf
    if first == 0:
        return 0.0
    above, under = values[first - 1], values[first]
    if math.isinf(above) or math.isinf(under):
        return float(first - 1)
    return first - 1 + above / (above - under)


def current_bad_sensors(findings: Findings, found: BadSensors | None) -> BadSensors:
    """``found`` without what another version of the code made, which ``outdated`` still counts."""
    if found is not None and found.stale:
        found = bad_sensors(findings, with_stale=False)
    return found or BadSensors({}, {}, {}, {}, definition_of([]))


def bad_sensors(findings: Findings, with_stale: bool = True) -> BadSensors | None:
    """What the store's evidence under corruptions says; None where there is none.

    ``with_stale``: what another version of the code made counts where nothing newer is there.
    """
    results = findings.results
    there = {
        done.trial.id: _evidence_of(results, done)
        for done in results.finished
        if done.trial.only is None
    }
    if not any(there.values()):
        return None
    codes = {done.trial.id: code_of(done.trial.job) for done in results.finished}
    outdated: Counter[str] = Counter()
    for done in results.finished:
        ones = there.get(done.trial.id, [])
        old = sum(one.code != codes[done.trial.id] for one in ones)
        if old:
            outdated[done.trial.row.label] += old
    if not with_stale:
        there = {
            trial: [one for one in ones if one.code == codes[trial]]
            for trial, ones in there.items()
        }
    levels = _levels([one for found in there.values() for one in found])
    declines: dict[tuple[str, str, str], Decline] = {}
    lacking: dict[str, list[str]] = {}
    for row in results.plan.rows:
        samples = findings.samples.get(row.label)
        if samples is None:
            continue
        trials = {done.trial.seed: done for done in results.of(row.label)}
        for modality in results.plan.spec.names:
            wanted = [one for (name, _), ones in levels.items() if name == modality for one in ones]
            if not wanted:
                continue
            whole = [
                seed
                for seed in samples.seeds
                if set(wanted) <= {one.condition for one in there[trials[seed].trial.id]}
            ]
            if len(whole) < len(samples.seeds):
                sentence = (
                    f"{row.label}, {modality}: {len(whole)} of {len(samples.seeds)} seeds are"
                    " evaluated to the end"
                )
                lacking.setdefault(row.label, []).append(sentence)
            if whole:
                row_evidence = [
                    (trials[seed], {one.condition: one for one in there[trials[seed].trial.id]})
                    for seed in whole
                ]
                for one in _declines(results, samples, whole, row_evidence, wanted):
                    declines[one.label, one.modality, one.corruption] = one
    definition = definition_of([one for ones in levels.values() for one in ones])
    return BadSensors(declines, levels, outdated, lacking, definition)


def _evidence_of(results: Results, done: Finished) -> list[StoredCondition]:
    trial = results.store.trial(done.trial.id)
    found = stored(trial, done.record, code_of(done.trial.job))
    return [one for one in found if one.condition != CLEAN]


def _levels(found: Sequence[StoredCondition]) -> dict[tuple[str, str], list[Condition]]:
    """The conditions by modality and corruption, severities in order.

    Only those with all severities: what is half evaluated is left to the sentences about that.
    """
    by_name: dict[tuple[str, str], dict[int, Condition]] = {}
    for one in found:
        key = one.condition.modality, one.condition.corruption
        by_name.setdefault(key, {})[one.condition.severity] = one.condition
    return {
        key: [severities[at] for at in SEVERITIES]
        for key, severities in sorted(by_name.items())
        if set(SEVERITIES) <= set(severities)
    }


Evidence = Sequence[tuple[Finished, Mapping[Condition, StoredCondition]]]


def _declines(
    results: Results,
    samples: RowSamples,
    seeds: Sequence[int],
    evidence: Evidence,
    wanted: Sequence[Condition],
) -> list[Decline]:
    """One row and modality: the mean over all corruptions, then each."""
    combinations = results.plan.combinations
    holding = combinations_with(combinations, wanted[0])
    values = {
        condition: np.stack(
            [_values(results, done, of[condition], holding) for done, of in evidence], 1
        )
        for condition in wanted
    }
    clean = samples.on(seeds)
    names = list(dict.fromkeys(condition.corruption for condition in wanted))
    found = []
    for corruption in [ALL, *names]:
        chosen = names if corruption == ALL else [corruption]
        by_severity = [clean[[at for at, _ in holding]]]
        for severity in SEVERITIES:
            parts = [
                values[one]
                for one in wanted
                if one.severity == severity and one.corruption in chosen
            ]
            by_severity.append(np.mean(parts, 0))
        of = wanted[0].modality, corruption
        one = _decline(results, samples, of, by_severity, seeds)
        found += [] if one is None else [one]
    return found


def _decline(
    results: Results,
    samples: RowSamples,
    of: tuple[str, str],
    by_severity: Sequence[Array],
    seeds: Sequence[int],
) -> Decline | None:
    """From values (C', S, N) at each severity, of the combinations that contain the modality.

    ``of`` is modality and corruption. None where no sample has both a combination and the same
    without the modality.
    """
    combinations, clean = results.plan.combinations, samples.on(seeds)
    position = {one.members: at for at, one in enumerate(combinations)}
    holding = [at for at, one in enumerate(combinations) if of[0] in one.members]
    pairs = []
    for place, at in enumerate(holding):
        others = tuple(name for name in combinations[at].members if name != of[0])
        if others and not np.isnan(clean[[at, position[others]]]).any():
            pairs.append((place, at, position[others]))
    if not pairs:
        return None
    without = clean[[other for _, _, other in pairs]].mean(0)
    trusted = [values[[place for place, _, _ in pairs]].mean(0) for values in by_severity]
    used = np.zeros(len(combinations), dtype=bool)
    used[[at for _, *both in pairs for at in both]] = True
    groups, sign = samples.grouping(used), 1 if results.metric.higher_is_better else -1
    each = {
        combinations[at].name: tuple(float(values[place].mean()) for values in by_severity)
        for place, at in enumerate(holding)
    }
    return Decline(
        samples.label,
        *of,
        seeds=clean.shape[1],
        trusted=tuple(float(values.mean()) for values in trusted),
        left_out=float(without.mean()),
        each=each,
        gains=tuple(estimate(sign * (values - without), groups) for values in trusted),
        by_seed={
            seed: OneSeed(
                tuple(float(values[at].mean()) for values in trusted), float(without[at].mean())
            )
            for at, seed in enumerate(seeds)
        },
    )


def _values(
    results: Results,
    done: Finished,
    one: StoredCondition,
    holding: Sequence[tuple[int, Combination]],
) -> Array:
    """Values (C', N) whose means are the metric of the combinations that contain the modality."""
    evidence = stored_evidence(results.store.trial(done.trial.id))
    positions = [at for at, _ in holding]
    val = evidence.scores["val"][positions], evidence.splits["val"]
    held = [combination for _, combination in holding]
    return sample_values(results.metric, one.scores(), evidence.splits[SPLIT], held, val)
