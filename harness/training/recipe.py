"""How a trial is trained, made incomplete and evaluated: plain typed settings, all part of the
trial's identity.

Field metadata holds each key's legal values and its line of help; harness/study/config.py checks
and prints them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from harness.protocol.schedules import SCHEDULES

PRECISIONS = ("float32", "tf32", "bf16")
"""Arithmetic of forward passes; see precision.py."""


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its range, its legal values and its line of help."""
    return field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


@dataclass
class TrainConfig:
    """SGD recipe, the same for every method of a study."""

    epochs: int = setting(30, "passes over the training split", low=1)
    batch_size: int = setting(64, "samples per step", low=2)
    lr: float = setting(0.05, "base learning rate", low=0.0)
    momentum: float = setting(0.9, "SGD momentum; schedule=onecycle has its own", low=0.0, high=1.0)
    nesterov: bool = setting(True, "Nesterov momentum")
    weight_decay: float = setting(5e-4, "L2 penalty on all parameters", low=0.0)
    schedule: str = setting(
        "paper",
        "learning-rate schedule; a study's card and its report say what it does",
        choices=tuple(SCHEDULES),
    )
    clip_norm: float | None = setting(
        None, "largest norm of all gradients together; null: no limit", low=0.0
    )
    drop_last: bool = setting(True, "leave out the last, smaller batch of an epoch")
    first_selectable: int = setting(
        0, "first epoch (of 100, scaled) whose weights may be selected", low=0, high=99
    )
    encode: str = setting(
        "dense",
        "dense: encode every available modality; present: only those shown",
        choices=("dense", "present"),
    )
    combination: str | None = setting(
        None, "train on this combination alone, and select on it (see method dedicated)"
    )
    precision: str = setting(
        "float32",
        "arithmetic of products: float32; tf32 (a GPU rounds their factors); bf16 (autocast)",
        choices=PRECISIONS,
    )


LARGEST_RATE = 0.95
"""Of what may be missing from training samples."""


@dataclass
class MissingConfig:
    """Training-time missingness: what samples lack before any mask is drawn."""

    train: str = setting(
        "none",
        "none, or random: a fixed pattern over the training split",
        choices=("none", "random"),
    )
    rate: float = setting(
        0.0, "probability that a modality is missing (train=random)", low=0.0, high=LARGEST_RATE
    )
    seed: int = setting(0, "seed of the fixed pattern", low=0)
    complete_subset: bool = setting(
        False, "methods that need complete data train on the complete samples instead of refusing"
    )
    rates: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "a probability per modality instead of one rate (train=random)"},
    )
    together: list[Any] = field(
        default_factory=list,
        metadata={
            "help": "modalities that are missing at once, beside rates: a list of {missing: a+b,"
            " probability: p}"
        },
    )


@dataclass
class EvaluationConfig:
    """Evaluation settings that reach the bits of a score."""

    batch_size: int = setting(256, "samples per evaluation batch", low=1)
    precision: str | None = setting(
        None, "arithmetic of evaluation; default: that of training", choices=PRECISIONS
    )


def evaluated_in(evaluation: EvaluationConfig, train: TrainConfig) -> str:
    """The arithmetic of evaluation: its own, or that of training."""
    return evaluation.precision or train.precision


def evaluation_facts(evaluation: EvaluationConfig, train: TrainConfig) -> dict[str, Any]:
    """The evaluation settings that are part of a trial's identity.

    The arithmetic is not named where it is that of training: it was no setting once.
    """
    facts = asdict(evaluation)
    if evaluated_in(evaluation, train) == train.precision:
        del facts["precision"]
    return facts
