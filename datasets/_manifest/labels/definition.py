"""What labels are: classes, numbers, or the numbers in label maps that are classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import UserError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Labels:
    """What is predicted.

    ``index``: label as in the manifest -> class; for segmentation ``stored``: class number in the
    maps -> class, void left out; for regression ``numbers``: label -> its value.
    """

    task: str
    classes: tuple[str, ...]
    index: Mapping[str, int] = field(default_factory=dict)
    stored: Mapping[int, int] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def class_names(text: str) -> tuple[str, ...]:
    """The names of dataset.options.classes; UserError for fewer than two, or the same twice."""
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise UserError(
            f"dataset.options.classes={text} must be two or more different names, comma-separated"
        )
    return names
