"""What a study may be called, where it may write, which values its settings may have, and what its
texts may hold.

Called by harness/study/config.py on studies that have been read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from harness.errors import CONTROL, UserError, is_one_line, nearest
from harness.errors.credentials import holds_credentials
from harness.study.search_space import check_search, check_seeds
from harness.study.seed_rounds import SeedRounds
from harness.study.settings import AUTO, ResourcesConfig, Study
from harness.training.missing import has_causes
from harness.training.recipe import MissingConfig

LONGEST_NAME = 100
SHORTEST_STALL_MINUTES = 0.2
LARGEST = 2**31 - 1
"""The largest whole number of a setting or a seed."""


def checked_name(name: str) -> str:
    """A study's name; UserError for one that could not be a folder or a line of a report."""
    if not is_one_line(name) or name.startswith(".") or set(name) & set("/\\+"):
        raise UserError(
            f"a study cannot be called {name!r}: its name is a folder's and stands in reports;"
            " rename the file"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise UserError(f"a study's name has at most {LONGEST_NAME} bytes, and {name} has more")
    return name


def checked_folder(key: str, text: str) -> str:
    """A folder that a user named, with ``~`` as the home folder; UserError for what is none."""
    if not text.strip() or not is_one_line(text):
        raise UserError(f"{key}={text!r} must be the name of a folder")
    try:
        folder = str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        raise UserError(f"{key}={text}: there is no such home folder") from error
    try:
        Path(folder).resolve()
    except (RuntimeError, OSError) as error:
        raise UserError(f"{key}={text} is a link that leads to itself") from error
    return folder


def check_settings(study: Study) -> None:
    """UserError for a value out of its range, for a list without entries, and for settings that
    contradict each other.
    """
    # Ranges are compared with numbers, and these two settings may be any text until here.
    _check_amounts(study.resources)
    _check_ranges(study, "")
    if not study.methods:
        raise UserError("methods is empty; name at least one, such as methods=[sf_md,hemis]")
    if not study.seeds:
        raise UserError("seeds is empty; name at least one, such as seeds=[0,1,2]")
    check_seeds("seeds", study.seeds)
    rounds: SeedRounds | None = study.seed_rounds
    # All seeds that rounds may ever ask for: a search must not have seen them either.
    check_search(study.search, study.seeds if rounds is None else range(rounds.most))
    _check_missing(study.missing)
    _check_stall_minutes(study.resources.stall_minutes)


def checked_texts(description: str, written: Mapping[str, Any]) -> None:
    """UserError where credentials or control characters would be written to the store.

    ``written``: key -> what of a study decides its trials.
    """
    for key, text in [("description", description), *_texts(written)]:
        if holds_credentials(text):
            raise UserError(
                f"{key} holds credentials, and it is written to the store and to reports; leave"
                " them out"
            )
        if CONTROL.search(text):
            raise UserError(f"{key}={text!r} holds characters that cannot be printed")


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in plain data, keys included, and the key where it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            inner = f"{key}.{name}" if key else str(name)
            yield inner, str(name)
            yield from _texts(part, inner)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)


def _check_amounts(resources: ResourcesConfig) -> None:
    """UserError where CPUs or GPUs are neither a number nor ``auto``."""
    for key in ("cpus_per_trial", "gpus_per_trial"):
        value = getattr(resources, key)
        # Python counts True and False as whole numbers.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != AUTO and not is_number:
            raise UserError(f"resources.{key}={value} must be a number, or {AUTO}")


def _check_ranges(node: Any, prefix: str) -> None:
    """UserError for a value that the metadata of its field does not allow, in blocks too."""
    for f in fields(node):
        value, key = getattr(node, f.name), f"{prefix}{f.name}"
        if is_dataclass(value):
            _check_ranges(value, f"{key}.")
            continue
        if value is None or (value == AUTO and f.default == AUTO):
            continue
        low, high, choices = (f.metadata.get(name) for name in ("low", "high", "choices"))
        if choices and value not in choices:
            raise UserError(f"{key}='{value}' is not a legal value{nearest(str(value), choices)}")
        if isinstance(value, int) and value > LARGEST:
            raise UserError(f"{key}={value} must be at most {LARGEST}")
        # Before the bounds: no comparison with a NaN is true.
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value} must be a finite number")
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{key}={value} must be {bounds}")


def _check_missing(missing: MissingConfig) -> None:
    """UserError where the rates of missing modalities contradict each other or do nothing."""
    causes = has_causes(missing)
    if causes and missing.rate > 0:
        raise UserError(
            f"missing.rate={missing.rate} is one rate for all modalities, and missing.rates or"
            " missing.together says it for each; leave one of them out"
        )
    if missing.train != "none":
        return
    if causes:
        key = "missing.rates" if missing.rates else "missing.together"
        raise UserError(
            f"{key} does nothing where missing.train=none; set missing.train=random, or leave it"
            " out"
        )
    if missing.rate > 0:
        raise UserError(
            f"missing.rate={missing.rate} does nothing where missing.train=none; set"
            " missing.train=random, or leave the rate out"
        )


def _check_stall_minutes(minutes: float | None) -> None:
    """UserError for a limit that would end trials whose worker is only starting; 0 is no limit."""
    if minutes and minutes < SHORTEST_STALL_MINUTES:
        raise UserError(
            f"resources.stall_minutes={minutes:g} is shorter than a worker may need to start;"
            f" give at least {SHORTEST_STALL_MINUTES:g}, or 0 for no limit"
        )
