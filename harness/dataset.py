"""The author's contract for a dataset.

A dataset is one file in ``datasets/`` with one public subclass of :class:`Dataset`; its file name
is its registry name. What an author needs is imported from here: the contract is in this file,
``Modality`` and ``Split`` with what they are made of in harness/data/modality.py and split.py.

Shape legend: N samples, V modalities, (C, H, W) the shape that an encoder receives, K classes. What
lies on disk or in memory (``stored``) may be of another type and size: it becomes what encoders
receive on the device, batch by batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from harness.data.contents import Progress
from harness.data.modality import Modality, padded, unpadded
from harness.data.raw import Raw
from harness.data.split import Augmentation, Draws, Split
from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Range, Value, resolve

__all__ = [
    "SPLITS",
    "TASKS",
    "Augmentation",
    "DataSpec",
    "Dataset",
    "Draws",
    "Modality",
    "Progress",
    "Split",
    "padded",
    "unpadded",
]

TASKS = ("classification", "anti_spoofing", "segmentation", "regression")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataSpec:
    """What methods, backbones and reports need to know about a dataset, without its arrays.

    ``complete``: how many training samples have every modality; None when all have.
    """

    name: str
    task: str
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    metric: str
    aligned: bool
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    class_weights: tuple[float, ...] | None = None
    """Segmentation: the weight of each class in the cross-entropy, computed from the training
    labels; None for equal weights.
    """
    complete: int | None = None
    """How many training samples have every modality, where some have not."""
    label_scale: tuple[float, float] | None = None
    """Regression, where ``classes`` is empty: mean and standard deviation of the training labels,
    by which they are standardised in training.
    """
    unselectable: tuple[str, ...] = ()
    """Names of the combinations that no sample of val has, in the lattice's order.

    No weights can be selected on them.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in the dataset's order; masks and combinations follow it."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def outputs(self) -> int:
        """K: a score per class, or the one number of a regression."""
        return 1 if self.task == "regression" else len(self.classes)

    @property
    def predicted(self) -> str:
        """What is predicted, in words: ``10 classes``, or ``one number``."""
        return "one number" if self.task == "regression" else f"{len(self.classes)} classes"


class Dataset(ABC):
    """A source of train, val and test splits.

    Class attributes an author sets: ``protocols``, ``summary``, ``options`` (declared settings,
    ``dataset.options.NAME`` in a study), ``grouping`` (what ``Split.groups`` are, in the plural:
    "subjects", "scenes"), and where the data are the user's, ``root_variable`` (the
    environment variable that names the root when the study does not), ``layout`` (what the root
    holds, in words) and ``sampled`` (``python -m datasets.sample`` writes a synthetic copy);
    ``embedded`` data come with a package and have no root.

    Args:
        root: folder of the user's copy; None for embedded data.
        manifest: a CSV that describes the user's data; None for named datasets.
        protocol: one of ``protocols``; None for the first.
        limit: at most this many samples per split (quick trials); None for all.
        options: values of declared options; the others keep their defaults.
        cache: folder for prepared arrays; None for datasets that need none.
    """

    protocols: ClassVar[tuple[str, ...]] = ("default",)
    summary: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Range]] = {}
    grouping: ClassVar[str] = ""
    root_variable: ClassVar[str | None] = None
    embedded: ClassVar[bool] = False
    layout: ClassVar[str] = ""
    sampled: ClassVar[bool] = False

    def __init__(
        self,
        root: Path | None = None,
        manifest: Path | None = None,
        protocol: str | None = None,
        limit: int | None = None,
        options: Mapping[str, Any] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.protocol = protocol or self.protocols[0]
        self.limit = limit
        self.values: dict[str, Value] = resolve(
            "option", self.options, self.declared(options or {}), "dataset.options"
        )
        self.cache = cache

    @classmethod
    def declared(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The study's options in the types that ``options`` declares.

        A dataset that takes lists or tables turns them into text.
        """
        return options

    @property
    def facts(self) -> dict[str, Value]:
        """The options that are part of a trial's identity: one that was declared later is none at
        its default.
        """
        # Left out, so that trials keep the identity that they had before there was the option.
        later = {key: option.default for key, option in self.options.items() if option.added_later}
        return {
            key: value
            for key, value in self.values.items()
            if key not in later or value != later[key]
        }

    @property
    def name(self) -> str:
        """As it is registered: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def folder(self) -> Path:
        """The root, which is there; UserError with the ways to give one."""
        if self.root is None:
            sample = ""
            if self.sampled:
                sample = (
                    f"; without it, `python -m datasets.sample {self.name} DIR` writes a synthetic"
                    " one"
                )
            raise UserError(
                f"dataset {self.name} needs your copy of the data: dataset.root=DIR or the"
                f" environment variable {self.root_variable} names the folder that holds"
                f" {self.layout}{sample}"
            )
        if not self.root.is_dir():
            raise UserError(
                f"dataset.root={self.root} is not a folder; it must be the one that holds"
                f" {self.layout}"
            )
        return self.root

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """The description; must not need the data itself when the dataset's layout is fixed."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of everything that decides the arrays: contents, split, protocol, limit,
        preparation. UserError without data.
        """

    @abstractmethod
    def load(self, split: str) -> Split:
        """One of ``train``, ``val``, ``test``; deterministic. Needs what ``prepare`` makes."""

    def raw(self, split: str, modality: str) -> Raw:
        """What the sensor of a modality gave for the samples of a split, before normalisation.

        Default: what is stored. A dataset says more where it knows more: the waveform of a
        spectrogram, the picture that a view is constructed from, the unit of a depth map.
        """
        described = next(one for one in self.spec.modalities if one.name == modality)
        return self.load(split).raw(described)

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Samples per split, after ``limit``."""

    def remarks(self) -> list[str]:
        """Sentences about the samples that every report must show, such as test samples that are
        copies of training samples. Read from the data; never called by a worker. Default: none.
        """
        return []

    def inferred(self) -> Mapping[str, Sequence[str]]:
        """What is known of the user's copy without decoding it: heading -> lines.

        Default: the samples of each split.
        """
        return {"samples": [f"{name}: {count:,}" for name, count in self.counts().items()]}

    def prepare(self, progress: Progress) -> list[str]:
        """Decode what ``load`` needs into ``cache``, once; called by the driver, never by a worker.

        Returns sentences for the user: what was found, left out or inferred. Default: nothing to
        prepare.
        """
        return []

    def group_sentences(self) -> list[str]:
        """How many groups each split has, and which are in several; needs prepared data.

        Nothing where some split's are not known, or where each sample is its own.
        """
        splits = {name: self.load(name) for name in SPLITS}
        groups = {name: dict.fromkeys(split.groups) for name, split in splits.items()}
        together = any(len(groups[name]) < len(split) for name, split in splits.items())
        if not all(groups.values()) or not together:
            return []
        counts = ", ".join(f"{name} {len(own)}" for name, own in groups.items())
        what = self.grouping or "groups"
        sentences = [f"{what} of samples that belong together: {counts}"]
        for first, second in combinations(SPLITS, 2):
            both = [group for group in groups[first] if group in groups[second]]
            if both:
                sentences.append(
                    f"{len(both)} {what} are in {first} and in {second}: {shown(both)}; their"
                    " samples are not independent"
                )
        return sentences
