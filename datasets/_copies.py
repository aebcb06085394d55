"""Samples of val and test that have the bytes of training samples. Called by datasets of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.data.contents import UNREADABLE

Sample = Sequence[str]
"""The hash of each modality's content; '' for a modality that the sample lacks."""


def copies(names: Sequence[str], splits: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Sentences with the numbers of val and test samples that train has too, whole or in part.

    Args:
        names: of the modalities.
        splits: split -> hash of each modality of each sample, in the order of ``names``.
    """
    train = [_readable(sample) for sample in splits["train"]]
    parts = [{sample[position] for sample in train} - {""} for position in range(len(names))]
    whole: dict[tuple[int, ...], set[tuple[str, ...]]] = {}
    said = []
    for split in ("val", "test"):
        same, shared = 0, dict.fromkeys(names, 0)
        partly = 0
        for sample in map(_readable, splits[split]):
            having = tuple(position for position, text in enumerate(sample) if text)
            if having not in whole:
                whole[having] = {_of(other, having) for other in train}
            if having and _of(sample, having) in whole[having]:
                same += 1
                continue
            found = [position for position in having if sample[position] in parts[position]]
            partly += bool(found)
            for position in found:
                shared[names[position]] += 1
        said += _sentences(split, len(splits[split]), same, partly, shared)
    return said


def _readable(sample: Sample) -> tuple[str, ...]:
    return tuple("" if text.startswith(UNREADABLE) else text for text in sample)


def _of(sample: Sample, having: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(sample[position] for position in having)


def _sentences(
    split: str, total: int, same: int, partly: int, shared: Mapping[str, int]
) -> list[str]:
    said = []
    if same:
        are = "is a copy" if same == 1 else "are copies"
        said.append(
            f"{same:,} of {total:,} samples of {split} {are} of samples of train: all their files"
            " have the same bytes (copied, linked or listed twice), so that results on them are"
            " not those of unseen data"
        )
    if partly:
        have = "has" if partly == 1 else "have"
        where = ", ".join(f"{name} in {number:,}" for name, number in shared.items() if number)
        said.append(
            f"{partly:,} of {total:,} samples of {split} {have} one modality in common with a"
            f" sample of train, byte for byte ({where}), and the others not"
        )
    return said
