"""Which modalities training samples lack: a study's settings, and the samples after them.

``missing.rates`` and ``missing.together`` name causes: a sensor that fails alone, sensors that fail
at once. Plans check and write down what is given, the training loop draws from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from numbers import Real

import torch

from harness.dataset import Split
from harness.errors import TrialFailure, UserError, unknown
from harness.protocol.combinations import Combination, parse
from harness.protocol.masks import draw_left, drop_modalities
from harness.protocol.presence import Presence, after
from harness.protocol.seeds import Streams
from harness.store import Json
from harness.training.recipe import LARGEST_RATE, MissingConfig

RATES, TOGETHER = "missing.rates", "missing.together"
ENTRY = "{missing: a+b, probability: 0.05}"

LATER = ("rates", "together")
"""Settings that trials of older versions did not have."""


def profile(missing: MissingConfig, names: Sequence[str]) -> Presence | None:
    """What a training sample has, as probabilities of combinations; None without rates of its own.

    The causes are independent of each other: each takes its modalities with its probability. A
    sample keeps at least one, see ``draw_left``.
    """
    if not has_causes(missing):
        return None
    found = checked(missing, names)
    # What each cause takes, as bits, and how often.
    causes = [(1 << names.index(name), float(rate)) for name, rate in found.rates.items()]
    for entry in found.together:
        causes.append((parse(entry["missing"], names).bits, float(entry["probability"])))
    return after(causes, tuple(names))


def has_causes(missing: MissingConfig) -> bool:
    """Whether the study says more than one rate for all."""
    return bool(missing.rates) or bool(missing.together)


def checked(missing: MissingConfig, names: Sequence[str]) -> MissingConfig:
    """The same settings in one form: the dataset's order, no rate of 0.

    UserError for a modality that is not there, a rate that is none, a combination given twice, and
    for a modality that hardly any training sample would have.
    """
    rates = {}
    for name in missing.rates:
        if name not in names:
            raise UserError(f"{RATES}: {unknown('modality', str(name), names)}")
    for name in names:
        rate = _rate(missing.rates.get(name, 0.0), f"{RATES}.{name}")
        if rate:
            rates[name] = rate
    joint: dict[int, Json] = {}
    for entry in missing.together:
        bits, cause = _cause(entry, names)
        if bits in joint:
            raise UserError(f"{TOGETHER} gives {cause['missing']} twice; give it once")
        joint[bits] = cause
    together = [joint[bits] for bits in sorted(joint) if joint[bits]["probability"]]
    found = replace(missing, rates=rates, together=together)
    _check_seen(found, names)
    return found


def recorded(missing: MissingConfig) -> Json:
    """The settings as a trial's specification has them: without what was added later and is not
    set, so that ids stay.
    """
    settings = asdict(missing)
    return {key: value for key, value in settings.items() if key not in LATER or value}


def missing_share(missing: MissingConfig, names: Sequence[str]) -> float:
    """The share of all modalities that training samples lack, expected for samples that have all.

    With one rate r for all, r - r^V / V: a sample that would lose all V keeps one.
    """
    if missing.train == "none":
        return 0.0
    left = profile(missing, names)
    if left is None:
        return missing.rate - missing.rate ** len(names) / len(names)
    present = math.fsum(left.chances.values()) / len(names)
    # Given that something is left, as ``draw_left`` draws.
    return 1 - present / (1 - left.nothing)


def missing_sentence(missing: MissingConfig) -> str:
    """What is missing from training samples, in words: ``depth 0.2, ir 0.05, depth+ir at once
    0.1``; the rate where one holds for all.
    """
    if missing.train == "none":
        return "none"
    if not has_causes(missing):
        return f"rate {missing.rate:g}"
    alone = [f"{name} {rate:g}" for name, rate in missing.rates.items()]
    joint = [f"{one['missing']} at once {one['probability']:g}" for one in missing.together]
    return ", ".join([*alone, *joint])


# ---------------------------------------------------------------------- the training split


def incomplete(
    train: Split, missing: MissingConfig, names: Sequence[str]
) -> tuple[Split, list[str]]:
    """The training split without what the study takes away, and sentences on how much it lacks,
    where the study says more than one rate.
    """
    if missing.train != "random":
        return train, []
    pattern = Streams(missing.seed).generator("missing")
    left = profile(missing, names)
    if left is None:
        available = drop_modalities(train.available, missing.rate, pattern)
        return replace(train, available=available), []
    train = replace(train, available=draw_left(train.available, left, pattern))
    shares = (~train.available).double().mean(0).tolist()
    lacking = [f"{name} {100 * share:.1f} %" for name, share in zip(names, shares, strict=True)]
    return train, [f"missing from the {len(train)} training samples: {', '.join(lacking)}"]


def usable(train: Split, needed: Combination | None) -> tuple[Split, list[str]]:
    """The samples that have all of a combination (None: all samples), and a sentence on the others.

    TrialFailure when fewer than two have it.
    """
    if needed is None:
        return train, []
    samples = len(train)
    mask = torch.tensor(needed.mask)
    having = train.available[:, mask].all(1).nonzero().squeeze(1)
    if len(having) < 2:
        raise TrialFailure(
            "fewer than two training samples have all the modalities that this training needs"
        )
    if len(having) == samples:
        return train, []
    what = "all modalities" if needed.size == len(mask) else needed.name
    sentence = f"trained on the {len(having)} of {samples} training samples that have {what}"
    return train.select(having), [sentence]


# ---------------------------------------------------------------------- what is given


def _cause(entry: object, names: Sequence[str]) -> tuple[int, Json]:
    if not isinstance(entry, Mapping) or set(entry) != {"missing", "probability"}:
        raise UserError(f"{TOGETHER}: {entry} must be of the form {ENTRY}")
    try:
        combination = parse(str(entry["missing"]), names)
    except UserError as error:
        raise UserError(f"{TOGETHER}: {error}") from error
    if combination.size < 2:
        raise UserError(
            f"{TOGETHER}: {combination.name} is one modality; {RATES}.{combination.name} is how"
            " often it is missing alone"
        )
    what = f"{TOGETHER}, {combination.name}"
    probability = _rate(entry["probability"], what)
    return combination.bits, {"missing": combination.name, "probability": probability}


def _rate(value: object, what: str) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) <= LARGEST_RATE:  # type: ignore[arg-type]
        raise UserError(
            f"{what}={value} must be a probability that it is missing, from 0 to {LARGEST_RATE:g}"
        )
    return float(value)  # type: ignore[arg-type]


def _check_seen(missing: MissingConfig, names: Sequence[str]) -> None:
    """UserError where the causes together take a modality more often than one rate may."""
    for name in names:
        stays = 1 - float(missing.rates.get(name, 0.0))
        for entry in missing.together:
            if name in str(entry["missing"]).split("+"):
                stays *= 1 - float(entry["probability"])
        if 1 - stays > LARGEST_RATE + 1e-9:
            raise UserError(
                f"{RATES} and {TOGETHER} leave {name} to {100 * stays:.2g} % of the training"
                f" samples; at least {100 * (1 - LARGEST_RATE):.2g} % must keep it to learn from"
            )
