"""Task and classes of a manifest, inferred from its labels and changed by options."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np

from datasets._manifest.formats import LARGEST, Size, label_map, nearest
from datasets._manifest.headers import Scan
from datasets._manifest.sheet import Row, Sheet, rows_named
from harness.data.prepared import Item, Unreadable
from harness.errors import UserError, shown
from harness.errors import nearest as nearest_name
from harness.protocol.hyperparameters import Value
from harness.protocol.label_maps import VOID

ATTACK = ("attack", "spoof")
LIVE = ("live", "bonafide", "bona fide", "bona_fide", "genuine")
ANTI_SPOOFING = (("0", "fake", "imposter", "impostor", *ATTACK), ("1", "real", *LIVE))
"""Names of class 0 and class 1; the plain ones only where the study says that the task is
anti-spoofing.
"""


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
Scale = tuple[float, float]
MANY_NUMBERS = 6
"""So many different labels that are numbers, some with decimals, may be meant as measurements."""


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


def labels(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> Labels:
    """The task and its classes; UserError, with row numbers, for labels that cannot be meant."""
    if sheet.dense:
        return _dense(sheet, scan, options)
    if options["task"] == "regression":
        return _regression(sheet, str(options["classes"]))
    folded = {
        row.label: row.label.casefold() if options["fold_case"] else row.label for row in sheet.rows
    }
    if options["classes"]:
        names = _known(sheet, folded, _named(str(options["classes"])))
    else:
        names = _found(sheet, folded, str(options["task"]))
    live = _live(sheet, names, str(options["task"]))
    task, remarks = "classification", []
    if live is not None:
        task = "anti_spoofing"
        names = (*(name for name in names if name != live), live)
        remarks.append(
            f"'{live}' is class 1, live; say dataset.options.task=classification for accuracy"
            " instead of ACER"
        )
    index = {label: names.index(name) for label, name in folded.items()}
    if not options["classes"]:
        _check_trained(sheet, index, names)
    return Labels(task, names, index, remarks=tuple(remarks))


def _named(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise UserError(
            f"dataset.options.classes={text} must be two or more different names, comma-separated"
        )
    return names


def _found(sheet: Sheet, folded: Mapping[str, str], task: str) -> tuple[str, ...]:
    """The labels themselves, numbers in their order before words.

    UserError for labels that differ in case alone, or in how a number is written, and for labels
    that look like measurements.
    """
    _check_numbers(sheet, folded, task)
    alike: dict[str, str] = {}
    counts = Counter(folded[row.label] for row in sheet.rows)
    for label, _ in counts.most_common():
        other = alike.setdefault(label.casefold(), label)
        if other != label:
            rows = [row.number for row in sheet.rows if row.label == label]
            raise UserError(
                f"{sheet.path.name}: '{label}' ({rows_named(rows)}) and '{other}' differ in upper"
                " and lower case alone; write them alike, or set dataset.options.fold_case=true"
            )
    # Sorted before: 7 and 007 are the same number, and a set's order is chance.
    names = tuple(sorted(sorted(set(folded.values())), key=_natural))
    if len(names) < 2:
        raise UserError(
            f"{sheet.path.name}: every row has the label '{names[0]}'; there must be two classes or"
            " more"
        )
    return names


def _check_numbers(sheet: Sheet, folded: Mapping[str, str], task: str) -> None:
    """UserError where two labels are one number, or where labels are what a regression has."""
    numbers = {label: Decimal(label) for label in folded if NUMBER.fullmatch(label)}
    first: dict[Decimal, str] = {}
    for label, number in numbers.items():
        other = first.setdefault(number, label)
        if other != label:
            rows = [
                rows_named([row.number for row in sheet.rows if row.label == one])
                for one in (other, label)
            ]
            raise UserError(
                f"{sheet.path.name}: '{other}' ({rows[0]}) and '{label}' ({rows[1]}) are one number"
                " written in two ways; write them alike, or list both in dataset.options.classes if"
                " they are two classes"
            )
    broken = [number for number in first if number != number.to_integral_value()]
    all_numbers = len(numbers) == len(folded)
    if task == "auto" and all_numbers and broken and len(numbers) >= MANY_NUMBERS:
        raise UserError(
            f"{sheet.path.name}: the labels are {len(numbers)} different numbers"
            f" ({shown(sorted(first))}); is this a regression? Say"
            " dataset.options.task=regression to predict the numbers themselves, or"
            " dataset.options.task=classification if each number is a class"
        )


def _regression(sheet: Sheet, classes: str) -> Labels:
    """Labels that are numbers; UserError, with row numbers, for one that is none."""
    if classes:
        raise UserError(
            f"dataset.options.classes={classes} does not apply to dataset.options.task=regression,"
            " which has no classes; leave one of them out"
        )
    numbers: dict[str, float] = {}
    for row in sheet.rows:
        value = float(row.label) if NUMBER.fullmatch(row.label) else math.nan
        if not abs(value) <= LARGEST:
            rows = rows_named([other.number for other in sheet.rows if other.label == row.label])
            raise UserError(
                f"{sheet.path.name}: the label '{row.label}' ({rows}) is no finite number, and"
                " dataset.options.task=regression needs one in every row, such as -1.25; correct"
                " it, or take the row out"
            )
        numbers[row.label] = value
    remarks = []
    tested = {numbers[row.label] for row in sheet.of("test")}
    if len(tested) == 1:
        remarks.append(
            f"every sample of test has the label {min(tested):g}: no correlation can be given"
        )
    return Labels("regression", (), numbers=numbers, remarks=tuple(remarks))


def label_scale(sheet: Sheet, found: Sequence[Row], numbers: Mapping[str, float]) -> Scale:
    """Mean and (population) standard deviation of the labels of training samples.

    UserError where there is nothing to learn, since they are all the same.
    """
    values = np.array([numbers[row.label] for row in found])
    if values.min() == values.max():
        raise UserError(
            f"{sheet.path.name}: every training sample has the label {values[0]:g}; a regression"
            " needs labels that differ"
        )
    return float(values.mean()), float(values.std())


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts 2 before 10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def _known(sheet: Sheet, folded: Mapping[str, str], given: tuple[str, ...]) -> tuple[str, ...]:
    for label, name in folded.items():
        if name not in given:
            rows = [row.number for row in sheet.rows if row.label == label]
            raise UserError(
                f"{sheet.path.name}: label '{label}' ({rows_named(rows)}) is not in"
                f" dataset.options.classes{nearest_name(label, given)}"
            )
    return given


def _live(sheet: Sheet, names: Sequence[str], task: str) -> str | None:
    """The class that is live when the task is anti-spoofing, said or seen from the labels.

    None when it is not.
    """
    plain = {name.casefold(): name for name in names}
    attacks, lives = (ATTACK, LIVE) if task == "auto" else ANTI_SPOOFING
    found = [plain[name] for name in plain if name in lives]
    fits = len(names) == 2 and len(found) == 1 and any(name in attacks for name in plain)
    if task == "anti_spoofing" and not fits:
        raise UserError(
            f"{sheet.path.name}: anti-spoofing needs one label for live"
            f" ({', '.join(ANTI_SPOOFING[1])}) and one for attacks ({', '.join(ANTI_SPOOFING[0])});"
            f" the labels are {shown(names)}"
        )
    return found[0] if fits and task in ("auto", "anti_spoofing") else None


def _check_trained(sheet: Sheet, index: Mapping[str, int], names: Sequence[str]) -> None:
    trained = {index[row.label] for row in sheet.of("train")}
    for split in ("val", "test"):
        unseen = [row for row in sheet.of(split) if index[row.label] not in trained]
        if unseen:
            rows = rows_named([row.number for row in unseen])
            out = f"list all classes in dataset.options.classes={','.join(names)}"
            if len(names) >= MANY_NUMBERS and all(map(NUMBER.fullmatch, names)):
                out = (
                    "say dataset.options.task=regression if the labels are measurements, or list"
                    f" all {len(names)} classes in dataset.options.classes"
                )
            raise UserError(
                f"{sheet.path.name}: label '{unseen[0].label}' is in {split} ({rows}) and not in"
                f" train, so that it cannot be learned; correct the label or add it to train, or"
                f" {out}"
            )


# ---------------------------------------------------------------------- label maps


def _dense(sheet: Sheet, scan: Scan, options: Mapping[str, Value]) -> Labels:
    _check_sizes(sheet, scan)
    void = int(options["void"])
    found: Counter[int] = Counter()
    for value in scan.values.values():
        if not isinstance(value, str):
            found.update(value[0])
    if not found:
        reason = next(str(value) for value in scan.values.values())
        raise UserError(f"{sheet.path.name}: no label map can be read: {reason}")
    stored = _stored(sheet, scan, sorted(found), void, str(options["values"]))
    names = _class_names(str(options["classes"]), stored, max(stored.values()) + 1)
    remarks = []
    if void in found and void not in stored:
        remarks.append(
            f"pixels of {void} are void and count nowhere ({found[void]:,} of {len(scan.values):,}"
            " maps have some)"
        )
    trained: set[int | None] = set()
    for row in sheet.of("train"):
        value = scan.values[row.label]
        if not isinstance(value, str):
            trained |= {stored.get(number) for number in value[0]}
    empty = sorted({name for number, name in enumerate(names) if number not in trained})
    if empty:
        remarks.append(f"classes without a pixel in train: {shown(empty)}")
    return Labels("segmentation", names, stored=stored, remarks=tuple(remarks))


def _stored(
    sheet: Sheet, scan: Scan, found: Sequence[int], void: int, given: str
) -> dict[int, int]:
    """Class number in the maps -> class."""
    if given:
        if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)+\s*", given):
            raise UserError(
                f"dataset.options.values={given} must be the classes' numbers in the maps,"
                " comma-separated, such as 0,255"
            )
        wanted = [int(part) for part in given.split(",")]
        others = [v for v in found if v not in wanted and v != void]
        _refuse_values(sheet, scan, others, "dataset.options.values does not list")
        return {value: number for number, value in enumerate(wanted)}
    proper = [v for v in found if v != void]
    others = [v for v in proper if not 0 <= v < VOID]
    _refuse_values(sheet, scan, others, f"is not a class number below {VOID}")
    if not proper or max(proper) == 0:
        raise UserError(
            f"{sheet.path.name}: the label maps hold {', '.join(map(str, found))}, of which {void}"
            f" is void, so that one class is left; if {void} is a class, set"
            f" dataset.options.void=-1 and dataset.options.values={','.join(map(str, found))}"
        )
    return {value: value for value in range(max(proper) + 1)}


def _refuse_values(sheet: Sheet, scan: Scan, wrong: Sequence[int], why: str) -> None:
    if wrong:
        rows = [
            row.number
            for row in sheet.rows
            if not isinstance(v := scan.values[row.label], str) and wrong[0] in v[0]
        ]
        raise UserError(
            f"{sheet.path.name}: the label maps of {rows_named(rows)} hold the number {wrong[0]},"
            f" which {why}; name the numbers that are classes with dataset.options.values=0,1,..."
            " and the one that is none with dataset.options.void"
        )


def _class_names(text: str, stored: Mapping[int, int], count: int) -> tuple[str, ...]:
    if not text:
        number = {k: v for v, k in stored.items()}
        return tuple(str(number[k]) for k in range(count))
    names = tuple(map(str, range(int(text)))) if text.strip().isdecimal() else _named(text)
    if len(names) < count:
        raise UserError(
            f"dataset.options.classes={text} are {len(names)} classes, and the label maps hold"
            f" class {count - 1}"
        )
    return names


def _check_sizes(sheet: Sheet, scan: Scan) -> None:
    """A label map must have the size of one of its sample's pictures."""
    odd: list[tuple[Row, Size]] = []
    for row in sheet.rows:
        value = scan.values[row.label]
        heads = [scan.headers[name] for name in row.files if name]
        sizes = {
            head.shape[1:] for head in heads if not isinstance(head, str) and head.kind == "image"
        }
        if not isinstance(value, str) and sizes and value[1] not in sizes:
            odd.append((row, value[1]))
    if odd:
        row, (height, width) = odd[0]
        raise UserError(
            f"{sheet.path.name}: {len(odd)} label map{'s have' if len(odd) > 1 else ' has'} another"
            f" size than the row's pictures: {rows_named([row.number for row, _ in odd])}"
            f" ({row.label} is {height}x{width}); store maps at the pictures' size"
        )


def class_map(path: Path, stored: Mapping[int, int], size: Size) -> Item:
    """A label map as classes (h, w) uint8 with VOID where the stored number is none.

    Unreadable where the map is.
    """
    values = label_map(path).astype(np.int64)
    if values.min() < 0:
        raise Unreadable(path, f"holds the number {values.min()}")
    table = np.full(max(int(values.max()), *stored) + 1, VOID, dtype=np.uint8)
    table[list(stored)] = list(stored.values())
    return nearest(table[values], size)
