"""Task and classes of a manifest, inferred from its labels and changed by options.

classes.py, numbers.py and maps.py are the three kinds of labels that there are.
"""

from __future__ import annotations

from collections.abc import Mapping

from datasets._manifest.headers import Scan
from datasets._manifest.labels.classes import labels_of_classes
from datasets._manifest.labels.definition import Labels
from datasets._manifest.labels.maps import class_map, labels_of_maps
from datasets._manifest.labels.numbers import label_scale, labels_of_numbers
from datasets._manifest.sheet import Sheet
from harness.protocol.hyperparameters import Value

__all__ = ["Labels", "class_map", "label_scale", "labels"]


def labels(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> Labels:
    """The task and its classes; UserError, with row numbers, for labels that cannot be meant."""
    if sheet.dense:
        return labels_of_maps(sheet, scan, options)
    if options["task"] == "regression":
        return labels_of_numbers(sheet, str(options["classes"]))
    return labels_of_classes(sheet, options)
