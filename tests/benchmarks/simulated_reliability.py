"""What the intervals of calibration errors and risk-coverage areas cover, by simulation: the table
of README.md.

    python -m tests.benchmarks.simulated_reliability [RUNS]

Two rows that differ in how far their confidences are from their accuracies; people whose frames
are harder for both than those of others; seeds that are more or less confident.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import special, stats

from harness.analysis.in_use.reliability import Measures, _Cell, _less, _measures
from harness.analysis.statistics.groups import Groups
from harness.protocol.calibration import Predictions, area
from harness.protocol.segmentation import BINS

Array = np.ndarray[Any, np.dtype[Any]]

CLASSES = 10
SEED, PERSON = 0.15, 0.6
"""Standard deviations in the logit of being right."""


@dataclass(frozen=True)
class Case:
    """Two rows: the logit of being right is slope x that of the confidence + shift."""

    first: tuple[float, float]
    second: tuple[float, float]
    combinations: int = 1


CASES = {
    "perfectly calibrated, slightly off": Case((1.0, 0.0), (1.0, -0.15)),
    "slightly off, overconfident": Case((1.0, -0.15), (0.7, -0.2)),
    "overconfident, much so": Case((0.7, -0.2), (0.5, -0.6)),
    "overconfident, much so; mean of 7 combinations": Case((0.7, -0.2), (0.5, -0.6), 7),
    "perfectly calibrated, slightly off; mean of 7": Case((1.0, 0.0), (1.0, -0.15), 7),
}


def drawn(row: tuple[float, float], base: Array, hard: Array, noise: Any) -> tuple[Array, Array]:
    """Confidences and the chance to be right of one seed's predictions (n,)."""
    logits = base + 0.5 * noise.normal(size=len(base))
    confidence = np.clip(special.expit(logits), 0.15, 0.9999)
    shift = row[1] + SEED * noise.normal() + hard
    return confidence, special.expit(row[0] * special.logit(confidence) + shift)


def bases(noise: Any, n: int) -> Array:
    """How confident models are of each sample."""
    return np.asarray(1.5 + 1.2 * noise.normal(size=n))


@cache
def truth(row: tuple[float, float], combinations: int) -> tuple[float, float]:
    """Calibration error and area in the mean over seeds and combinations, of very many people."""
    noise, n, found = np.random.default_rng(9), 40_000, []
    for combination in range(combinations):
        for _ in range(max(60 // combinations, 12)):
            hard = PERSON * noise.normal(size=n)
            confidence, right = drawn(row, bases(noise, n) - 0.2 * combination, hard, noise)
            bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
            gaps = np.bincount(bins, right - confidence, BINS)
            order = np.argsort(-confidence)
            found.append((np.abs(gaps).sum() / n, area(np.ones(n), 1 - right[order])))
    of_error, of_area = (100 * np.mean(found, 0)).tolist()
    return of_error, of_area


def models(case: Case, number: Array, seeds: int, noise: Any) -> list[list[tuple[Array, Array]]]:
    """Of each row and seed, values (3, N) and gains (2,) in the mean over the combinations."""
    n, groups, everyone = len(number), Groups.of(number), np.ones(len(number), dtype=bool)
    base, difficulty = bases(noise, n), noise.normal(size=n)
    hard = PERSON * noise.normal(size=number.max() + 1)[number]
    found = []
    for row in (case.first, case.second):
        of_seeds = []
        for _ in range(seeds):
            cells = []
            for combination in range(case.combinations):
                confidence, chance = drawn(row, base - 0.2 * combination, hard, noise)
                luck = np.sqrt(0.5) * (difficulty + noise.normal(size=n))
                right = stats.norm.cdf(luck) < chance
                scores = np.repeat(np.log((1 - confidence) / (CLASSES - 1))[:, None], CLASSES, 1)
                scores[:, 0] = np.log(confidence)
                target = torch.from_numpy((~right).astype(int))
                one = Predictions.of_scores(torch.from_numpy(scores), target)
                cells.append(_Cell.of(one, everyone, groups))
            values = np.mean([cell.values for cell in cells], 0)
            of_seeds.append((values, np.mean([cell.gain for cell in cells], 0)))
        found.append(of_seeds)
    return found


def covered(case: Case, runs: int, people: int, frames: int, seeds: int) -> tuple[float, ...]:
    """How often intervals hold the truth, in percent: error and area of the first row, and of the
    difference of the second from it.
    """
    noise = np.random.default_rng(people + frames)
    number = np.repeat(np.arange(people), frames)
    groups, hits = Groups.of(number), np.zeros(4)
    own = truth(case.first, case.combinations)
    other = truth(case.second, case.combinations)
    for _ in range(runs):
        first, second = models(case, number, seeds, noise)
        alone = _measures(first, groups)
        gap = _measures([_less(*pair) for pair in zip(second, first, strict=True)], groups, -100.0)
        hits += [*_holds(alone, own), *_holds(gap, (other[0] - own[0], other[1] - own[1]))]
    return tuple((100 * hits / runs).tolist())


def _holds(found: Measures, true: tuple[float, float]) -> list[bool]:
    return [
        one.low <= value <= one.high
        for one, value in zip((found.calibration, found.area), true, strict=True)
    ]


def main(runs: int) -> None:
    """Print the table."""
    print("| rows | people x frames, seeds | error | area | difference: error | area |")
    print("|---|---|---|---|---|---|")
    for name, case in CASES.items():
        for people, frames, seeds in ((10, 60, 3), (30, 12, 3), (360, 1, 3), (3000, 1, 5)):
            cells = covered(case, runs, people, frames, seeds)
            text = " | ".join(f"{cell:.0f}" for cell in cells)
            print(f"| {name} | {people} x {frames}, {seeds} | {text} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
