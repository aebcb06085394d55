"""Labels that are classes: which, in which order, and whether one of two is live."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from datasets._manifest.labels.definition import NUMBER, Labels, class_names
from datasets._manifest.sheet import Sheet, rows_named
from harness.errors import UserError, nearest, shown
from harness.protocol.hyperparameters import Value

ATTACK = ("attack", "spoof")
LIVE = ("live", "bonafide", "bona fide", "bona_fide", "genuine")
ANTI_SPOOFING = (("0", "fake", "imposter", "impostor", *ATTACK), ("1", "real", *LIVE))
"""Names of class 0 and class 1; the plain ones only where the study says that the task is
anti-spoofing.
"""

MANY_NUMBERS = 6
"""So many different labels that are numbers, some with decimals, may be meant as measurements."""


def labels_of_classes(sheet: Sheet, options: Mapping[str, Value]) -> Labels:
    """The classes that labels name; UserError, with row numbers, where they cannot be meant."""
    folded = {}
    for row in sheet.rows:
        folded[row.label] = row.label.casefold() if options["fold_case"] else row.label
    if options["classes"]:
        names = _known(sheet, folded, class_names(str(options["classes"])))
    else:
        names = _found(sheet, folded, str(options["task"]))
    live = _live(sheet, names, str(options["task"]))
    task, remarks = "classification", []
    if live is not None:
        task = "anti_spoofing"
        # The other class is 0.
        names = (*(name for name in names if name != live), live)
        remarks.append(
            f"'{live}' is class 1, live; say dataset.options.task=classification for accuracy"
            " instead of ACER"
        )
    index = {label: names.index(name) for label, name in folded.items()}
    # A study that lists the classes may have some without a training sample.
    if not options["classes"]:
        _check_trained(sheet, index, names)
    return Labels(task, names, index, remarks=tuple(remarks))


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


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts 2 before 10, and numbers before words."""
    key = []
    for part in filter(None, re.split(r"(\d+)", name)):
        key.append((0, int(part), "") if part.isdecimal() else (1, 0, part))
    return key


def _known(sheet: Sheet, folded: Mapping[str, str], given: tuple[str, ...]) -> tuple[str, ...]:
    """The classes that the study lists; UserError for a label that is none of them."""
    for label, name in folded.items():
        if name not in given:
            rows = [row.number for row in sheet.rows if row.label == label]
            raise UserError(
                f"{sheet.path.name}: label '{label}' ({rows_named(rows)}) is not in"
                f" dataset.options.classes{nearest(label, given)}"
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
    """UserError for a class that is in val or in test, and not in train."""
    trained = {index[row.label] for row in sheet.of("train")}
    for split in ("val", "test"):
        unseen = [row for row in sheet.of(split) if index[row.label] not in trained]
        if not unseen:
            continue
        rows = rows_named([row.number for row in unseen])
        out = f"list all classes in dataset.options.classes={','.join(names)}"
        if len(names) >= MANY_NUMBERS and all(map(NUMBER.fullmatch, names)):
            out = (
                "say dataset.options.task=regression if the labels are measurements, or list"
                f" all {len(names)} classes in dataset.options.classes"
            )
        raise UserError(
            f"{sheet.path.name}: label '{unseen[0].label}' is in {split} ({rows}) and not in"
            f" train, so that it cannot be learned; correct the label or add it to train, or {out}"
        )
