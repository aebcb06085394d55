"""Files of an archive, looked at before anything reads them: none may cost more than it weighs.

Numbers are finite, texts can be printed, arrays are as long as they say, weights are tensors.
Called by the other files of this folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch

from harness.errors import CONTROL
from harness.store import Json

LONGEST_INTEGER = 19
"""Digits of a whole number, a sign among them."""

KINDS = "biufU"
"""The kinds of numpy types that evidence has: numbers, and names as text."""

MOST_NUMBERS, MOST_FACTS = 2**16, 2**16
"""Numbers of evidence that a sample has under one combination, and bytes of other arrays."""


def plain_json(text: bytes) -> Any:
    """The value of a JSON text; ValueError for NaN, infinities and what no terminal should print.

    Such numbers are no JSON, but Python reads them, and they would decide a ranking.
    """
    value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_countable)
    for found in _texts(value):
        if CONTROL.search(found):
            raise ValueError(f"the text {found[:40]!a} has characters that cannot be printed")
    return value


def check_json_lines(text: bytes) -> None:
    """ValueError unless each line is such a JSON text."""
    for line in text.splitlines():
        plain_json(line)


def check_arrays(path: Path, record: Json) -> None:
    """ValueError unless a file of arrays holds what it says, in the shapes that its record tells.

    Nothing but headers is read.
    """
    counts, combinations = record.get("counts", {}), len(record.get("combinations", ()))
    for member, shape, dtype in _headers(path, packed=False):
        if dtype.kind not in KINDS:
            raise ValueError(f"its {member} holds {dtype}, and no numbers")
        wanted = _wanted(member.removesuffix(".npy"), counts, combinations)
        if wanted and shape[: len(wanted)] != wanted:
            raise ValueError(
                f"its {member} has the shape {shape}, and its record tells of {wanted}"
            )


def check_corrupted(path: Path, record: Json) -> None:
    """ValueError unless a file of evidence under a corruption can be read within bounds.

    Counts of segmentations are packed: their shape bounds them. Nothing but headers is read.
    """
    samples, combinations = record["counts"]["test"], len(record["combinations"])
    for member, shape, dtype in _headers(path, packed=True):
        size = math.prod(shape) * dtype.itemsize
        if member == "scores.npy":
            most = combinations * samples * MOST_NUMBERS * dtype.itemsize
            right = dtype.kind in KINDS and shape[1:2] == (samples,) and size <= most
        else:
            right = dtype.kind in KINDS and size <= MOST_FACTS
        if not right:
            raise ValueError(f"its {member} is {dtype} of the shape {shape}, which no evidence is")


def _headers(path: Path, packed: bool) -> Iterator[tuple[str, tuple[int, ...], np.dtype[Any]]]:
    """Name, shape and type of the arrays of a file; ValueError for one that holds another number
    of bytes than it promises, and unless ``packed`` for one that is packed.
    """
    with ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != ZIP_STORED and not packed:
                raise ValueError(f"its {info.filename} is packed, which no evidence is")
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                shape, _, dtype = read[version](stream)
                there = info.file_size - stream.tell()
            promised = math.prod(shape) * dtype.itemsize
            if promised != there and dtype.kind != "O":
                raise ValueError(
                    f"its {info.filename} promises {promised:,} bytes and holds {there:,}"
                )
            yield info.filename, shape, dtype


def check_tensors(path: Path) -> None:
    """ValueError unless a file of torch holds tensors and plain data alone, no longer than it is.

    Nothing is unpickled but what torch knows to be harmless.
    """
    with ZipFile(path) as archive:
        if any(info.compress_type != ZIP_STORED for info in archive.infolist()):
            raise ValueError("it is packed, which no weights are")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # torch's own sentence is a paragraph on how to load it all the same, with colours.
        raise ValueError(f"it holds more than tensors: {type(error).__name__}") from error
    if not isinstance(held, dict):
        raise ValueError("it holds no weights by name")
    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(held))
    if size > path.stat().st_size:
        raise ValueError(f"its tensors would take {size:,} bytes")


def _wanted(name: str, counts: Mapping[str, int], combinations: int) -> tuple[int, ...]:
    """How the shape of an array of the evidence begins; empty where that is not known."""
    split, _, what = name.partition("_")
    if split not in counts:
        return ()
    samples = int(counts[split])
    return (combinations, samples) if what in ("", "calibration") else (samples,)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of a result")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _no_number(text)
    return value


def _countable(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"{text[:LONGEST_INTEGER]}... is larger than anything that is counted")
    return int(text)


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain data, keys included."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
