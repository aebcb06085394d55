"""Which samples of CASIA-SURF are train, val and test. Called by datasets/casia_surf.py.

The paper's lists, or one held-out attack of the training archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets._casia.lists import ATTACK, LIVE, ON_REQUEST, Sample, count, read_list
from datasets._files import visible
from datasets._tables import spread
from harness.data.contents import file_state
from harness.errors import UserError, shown

LISTS = {"train": "train_list.txt", "val": "val_private_list.txt", "test": "test_private_list.txt"}
LAYOUT = f"Training/, Val/, Testing/ and {', '.join(LISTS.values())} as they are distributed"
PUBLISHED = {"train": (29_266, 8_942), "val": (9_608, 2_994), "test": (57_710, 17_458)}
"""Split -> samples, and live ones among them, of the lists as they are distributed."""

HELD_OUT = {"leave_out_4": "04", "leave_out_5": "05", "leave_out_6": "06"}
"""Protocol -> how the sessions of its test attack begin."""

PARTS = 6
Splits = dict[str, tuple[Sample, ...]]


def read_lists(root: Path, protocol: str) -> tuple[Splits, list[str]]:
    """The lists that a protocol needs, by the split they are for, and what was unusual about them.

    UserError for what is wrong.
    """
    needed = list(LISTS) if protocol == "paper" else ["train"]
    missing = [LISTS[split] for split in needed if not (root / LISTS[split]).is_file()]
    if "train_list.txt" in missing:
        elsewhere = visible(root.glob("*/train_list.txt"))
        deeper = f"; {elsewhere[0].parent} has one" if elsewhere else ""
        raise UserError(
            f"{root / 'train_list.txt'} does not exist; dataset.root must be the folder that holds"
            f" {LAYOUT}{deeper}"
        )
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} not in {root}; {ON_REQUEST}"
        )
    samples: Splits = {}
    remarks: list[str] = []
    for split in needed:
        listing = read_list(root / LISTS[split], split)
        samples[split] = listing.samples
        remarks += listing.remarks
    return samples, remarks


def unlike_published(lists: Splits) -> list[str]:
    """One sentence for every list that does not have the published numbers of samples."""
    sentences = []
    for split, samples in lists.items():
        total, live = len(samples), sum(sample.label for sample in samples)
        published, published_live = PUBLISHED[split]
        if (total, live) == (published, published_live):
            continue
        swapped = (total, live) == (published, published - published_live)
        hint = ", as if its labels were swapped (1 must be live)" if swapped else ""
        sentences.append(
            f"{LISTS[split]} has {total:,} samples, {live:,} of them live{hint}; published"
            f" are {published:,} and {published_live:,}"
        )
    return sentences


def splits(lists: Splits, protocol: str) -> Splits:
    """Train, val and test of a protocol.

    UserError where one of them lacks live samples or attacks.
    """
    found = lists if protocol == "paper" else leave_one_out(lists["train"], HELD_OUT[protocol])
    for split, samples in found.items():
        for label, name in ((LIVE, "live samples"), (ATTACK, "attacks")):
            if not any(sample.label == label for sample in samples):
                raise UserError(
                    f"protocol {protocol}: {split} has no {name}; the lists in dataset.root are not"
                    " complete"
                )
    return found


def leave_one_out(samples: Sequence[Sample], held_out: str) -> Splits:
    """Train, val and test without a common subject, live or attacked.

    The attack ``held_out`` is in test only, the others never. Subjects are ordered by the sha256 of
    their names and dealt into six parts. For the first, second and third attack, parts 1-2, 3-4 and
    5-6 are the test subjects and the part after them val: over the three folds, every live sample
    is tested once.
    """
    subjects = sorted(
        sorted({sample.subject for sample in samples}),
        key=lambda name: hashlib.sha256(name.encode()).hexdigest(),
    )
    part = {subject: rank % PARTS for rank, subject in enumerate(subjects)}
    first = 2 * sorted(HELD_OUT.values()).index(held_out)
    role = {first: "test", first + 1: "test", (first + 2) % PARTS: "val"}
    found: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        split = role.get(part[sample.subject], "train")
        of_held_out = sample.session.startswith(held_out)
        if sample.label == LIVE or of_held_out == (split == "test"):
            found[split].append(sample)
    return {split: tuple(chosen) for split, chosen in found.items()}


def limited(samples: Sequence[Sample], limit: int | None) -> tuple[Sample, ...]:
    """At most ``limit`` samples, evenly spaced over the list.

    Live samples and attacks keep the list's proportion (at least one of each).
    """
    if limit is None or limit >= len(samples):
        return tuple(samples)
    live = [n for n, sample in enumerate(samples) if sample.label == LIVE]
    attacks = [n for n, sample in enumerate(samples) if sample.label == ATTACK]
    lives = 0
    if limit > 1:
        proportional = round(limit * len(live) / len(samples))
        lives = min(max(proportional, 1), limit - 1)
    chosen = sorted([*spread(live, lives), *spread(attacks, limit - lives)])
    return tuple(samples[n] for n in chosen)


def require_files(root: Path, found: Mapping[str, Sequence[Sample]]) -> None:
    """UserError when some of the files are not there; reads none."""
    files: list[str] = []
    for samples in found.values():
        for sample in samples:
            files += sample.files
    gone = [file for file in files if file_state(f"{root}/{file}") is None]
    if gone:
        raise UserError(
            f"{count(len(gone), 'file')} of {len(files):,} that the lists name cannot be found in"
            f" {root}: {shown(gone)}; {_remedy(root, gone)}"
        )


def _remedy(root: Path, gone: Sequence[str]) -> str:
    tops = {file.split("/")[0] for file in gone}
    absent = sorted(name for name in tops if not (root / name).is_dir())
    for name in absent:
        deeper = visible(root.glob(f"*/{name}"))
        if deeper:
            return f"{name}/ lies in {deeper[0].parent}; move it to the root, beside the lists"
    if absent:
        folders = " and ".join(f"{name}/" for name in absent)
        return f"unpack the archive with {folders} beside the lists"
    return "unpack the archives again, or take the samples out of the lists"
