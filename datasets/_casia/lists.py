"""The lists of CASIA-SURF as they are distributed: one sample per line.

Every oddity is either understood or said in a sentence. Called by protocols.py beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets._files import text_of
from harness.errors import UserError, shown

WORDS = {"color": "rgb", "depth": "depth", "ir": "ir"}
"""The word in a file's path -> the modality's name, in the order of the distributed lists."""

ARCHIVES = {"train": "Training", "val": "Val", "test": "Testing"}
LIVE, ATTACK = 1, 0
PARTS = {"real_part": LIVE, "fake_part": ATTACK}
LABELS = {"0": ATTACK, "1": LIVE, "0.0": ATTACK, "1.0": LIVE}

_TRAINING = re.compile(
    r"(?P<key>Training/(?P<part>[^/]+)/(?P<subject>[^/]+)/(?P<session>[^/]+))/(?P<word>[a-z]+)/(?P<frame>[^/]+)"
)
_BLOCK = re.compile(r"(?P<key>(?:Val|Testing)/[^/]+/\d+)-(?P<word>[a-z]+)(?P<frame>\.[a-zA-Z]+)")

ON_REQUEST = (
    "the public lists carry no labels; val_private_list.txt and test_private_list.txt, which do,"
    " come from the organisers of the benchmark on request, and dataset.protocol=leave_out_4 needs"
    " train_list.txt alone"
)

AS_DISTRIBUTED = "take the list as it is distributed"
WRITE_LABELS = "write 1 for live and 0 for attack"
TRAPS = {
    "fields": (
        "without the four fields `color depth ir label`, separated by one space",
        AS_DISTRIBUTED,
    ),
    "outside": (
        "with a path that leaves the root (absolute, or with ..)",
        "write paths relative to the root",
    ),
    "prefix": (
        "with something before Training/, Val/ or Testing/",
        "take it out of the list: paths begin at the root",
    ),
    "layout": (
        (
            "with a path that is neither Training/<real_part or fake_part>/SUBJECT/SESSION/<color,"
            " depth or ir>/N.jpg nor <Val or Testing>/BLOCK/NUMBER-<color, depth or ir>.jpg"
        ),
        AS_DISTRIBUTED,
    ),
    "archive": (
        "with files of another archive than the list is for",
        "check that the lists have not changed names",
    ),
    "mixed": (
        "without one color, one depth and one ir file of the same sample",
        "repair or remove what is named",
    ),
    "unlabelled": ("without a label", ON_REQUEST),
    "label": ("with a label that is neither 0 (attack) nor 1 (live)", WRITE_LABELS),
    "folder": (
        "with a label that contradicts the folder (real_part is 1, fake_part is 0)",
        WRITE_LABELS,
    ),
}
"""What can be wrong with lines -> what is said of them, and the way out; the first kind that occurs
is reported.
"""


@dataclass(frozen=True)
class Sample:
    """One line of a list.

    ``files``: rgb, depth and ir relative to the root; ``subject`` and ``session`` are folders'
    names, of Training alone.
    """

    files: tuple[str, str, str]
    label: int
    subject: str = ""
    session: str = ""


@dataclass(frozen=True)
class SampleList:
    """A list's samples, in its order.

    ``remarks`` are sentences about what was unusual and could be understood.
    """

    samples: tuple[Sample, ...]
    remarks: tuple[str, ...] = ()


class _Trap(Exception):
    def __init__(self, kind: str, example: str) -> None:
        super().__init__(kind)
        self.kind, self.example = kind, example


def read_list(path: Path, split: str) -> SampleList:
    """The samples that a list names for ``split``.

    Says which lines cannot be understood, and what to do, in a UserError.
    """
    numbered = list(_lines(path))
    if not numbered:
        raise UserError(f"{path} is empty; take the list as it is distributed")
    samples: list[tuple[int, Sample]] = []
    trapped: dict[str, list[str]] = {}
    reordered: list[str] = []
    for number, line in numbered:
        try:
            sample, in_order = _sample(line, ARCHIVES[split])
        except _Trap as trap:
            trapped.setdefault(trap.kind, []).append(f"line {number} ({trap.example})")
            continue
        samples.append((number, sample))
        if not in_order:
            reordered.append(f"line {number}")
    for kind, (what, way_out) in TRAPS.items():
        if kind in trapped:
            raise UserError(
                f"{path}: {count(len(trapped[kind]), 'line')} {what}: {shown(trapped[kind])};"
                f" {way_out}"
            )
    _refuse_duplicates(path, samples)
    remarks = []
    if reordered:
        remarks.append(
            f"{path.name} does not name color, depth and ir in this order in"
            f" {shown(reordered)}; files were told by name"
        )
    return SampleList(tuple(sample for _, sample in samples), tuple(remarks))


def count(number: int, noun: str) -> str:
    """``1 line``, ``2 lines``, ``9,608 lines``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and lines that are not blank.

    LF or CRLF, with or without a byte-order mark or a final newline.
    """
    text = text_of(path, "take the list as it is distributed")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _sample(line: str, archive: str) -> tuple[Sample, bool]:
    """The sample of a line, and whether its files are in the distributed order."""
    # Split at any white space: lines of the public lists end with a space.
    paths, labels = line.split()[:3], line.split()[3:]
    if len(paths) < 3 or len(labels) > 1:
        raise _Trap("fields", line.strip()[:60])
    found = [_named(path, archive) for path in paths]
    frames = {match["key"] + match["frame"] for match in found}
    words = {match["word"] for match in found}
    if len(frames) > 1 or words != set(WORDS):
        raise _Trap("mixed", " ".join(paths))
    if not labels:
        raise _Trap("unlabelled", paths[0])
    if labels[0] not in LABELS:
        raise _Trap("label", labels[0])
    label, groups = LABELS[labels[0]], found[0].groupdict()
    if PARTS.get(groups.get("part", ""), label) != label:
        raise _Trap("folder", f"{paths[0]} {labels[0]}")
    by_word = {match["word"]: path for match, path in zip(found, paths, strict=True)}
    files = (by_word["color"], by_word["depth"], by_word["ir"])
    sample = Sample(files, label, groups.get("subject", ""), groups.get("session", ""))
    return sample, files == tuple(paths)


def _named(path: str, archive: str) -> re.Match[str]:
    """What a path says; only plain relative paths of the distributed form say something."""
    parts = PurePosixPath(path).parts
    if path.startswith(("/", "\\", "~")) or path[1:2] == ":" or ".." in parts:
        raise _Trap("outside", path)
    inner = [position for position, part in enumerate(parts) if part in ARCHIVES.values()]
    if inner and inner[0] > 0:
        raise _Trap("prefix", path)
    match = _TRAINING.fullmatch(path) or _BLOCK.fullmatch(path)
    if match is None or match["word"] not in WORDS:
        raise _Trap("layout", path)
    if match.groupdict().get("part", "real_part") not in PARTS:
        raise _Trap("layout", path)
    if parts[0] != archive:
        raise _Trap("archive", path)
    return match


def _refuse_duplicates(path: Path, samples: Sequence[tuple[int, Sample]]) -> None:
    seen = Counter(sample.files for _, sample in samples)
    again = {files for files, times in seen.items() if times > 1}
    if again:
        lines = [
            f"line {number} ({sample.files[0]})"
            for number, sample in samples
            if sample.files in again
        ]
        raise UserError(
            f"{path}: {count(len(again), 'sample')} listed more than once: {shown(lines)}; leave"
            " each in one line only"
        )
