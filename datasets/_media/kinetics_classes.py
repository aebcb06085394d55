"""The class lists that are called Kinetics-Sounds.

They differ, so accuracies on them do not compare.
"""

from __future__ import annotations

from pathlib import Path

from datasets._files import text_of
from harness.errors import UserError

INSTRUMENTS = (
    *("accordion", "bagpipes", "bass guitar", "clarinet", "drums", "guitar", "harmonica"),
    *("keyboard", "organ", "piano", "saxophone", "trombone", "trumpet", "violin", "xylophone"),
)
PLAYING = tuple(f"playing {instrument}" for instrument in INSTRUMENTS)
FIRST = (
    "blowing nose",
    "bowling",
    "chopping wood",
    "ripping paper",
    "shuffling cards",
    "singing",
    "tapping pen",
)
AFTER = (
    "laughing",
    "mowing lawn",
    "shoveling snow",
    "stomping grapes",
    "tap dancing",
    "tapping guitar",
    "tickling",
)
KS31 = tuple(sorted((*FIRST, *AFTER, *PLAYING, "blowing out candles", "dribbling basketball")))

CLASSES: dict[str, tuple[str, ...]] = {
    "ks31": KS31,
    "ks32": tuple(sorted((*KS31, "strumming guitar"))),
    "ks33": (
        *FIRST,
        "tying tie",
        "blowing out candles",
        "dribbling basketball",
        *AFTER,
        "finger snapping",
        *PLAYING,
    ),
    "lll34": (
        *FIRST,
        "typing",
        "blowing out",
        "dribbling ball",
        "laughing",
        "mowing the lawn by pushing lawnmower",
        "shoveling snow",
        "stomping",
        "tap dancing",
        "tapping guitar",
        "tickling",
        "fingerpicking",
        "patting",
        *PLAYING,
    ),
}
"""``ks31``: what is mostly meant (AdaMML); ``ks32``: with strumming guitar (CrissCross); ``ks33``:
DMRNet's, in its order; ``lll34``: the names of the first paper (Look, Listen and Learn), before
Kinetics-400 had its own."""

RENAMED = {
    "blowing out candles": "blowing out",
    "dribbling basketball": "dribbling ball",
    "mowing lawn": "mowing the lawn by pushing lawnmower",
    "stomping grapes": "stomping",
}
"""Kinetics-400's names of classes that the first paper called otherwise."""

OWN = "file"
CLASS_FILES = ("classes.txt", "class.txt")


def class_names(version: str, root: Path | None) -> tuple[str, ...]:
    """The classes of a version in the order of their indices.

    ``file``: those of the root's classes.txt, by commas or lines.
    """
    if version != OWN:
        return CLASSES[version]
    paths = [root / name for name in CLASS_FILES] if root is not None else []
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            f"dataset.options.classes={OWN} needs classes.txt in dataset.root={root}: names by"
            f" commas or lines; or take one of the lists {', '.join(CLASSES)}"
        )
    parts = (
        text_of(path, "write the names of the classes, one a line").replace("\n", ",").split(",")
    )
    names = tuple(spoken(part) for part in parts if part.strip())
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(
            f"{path} names {len(names)} classes, {len(set(names))} of them different; name two or"
            " more, each once"
        )
    return names


def spoken(folder: str) -> str:
    """A class' name from a folder's: blanks for underscores, small letters."""
    return " ".join(folder.replace("_", " ").lower().split())


def class_of(folder: str, index: dict[str, int]) -> int | None:
    """The class index of a folder, None when its class is not in the list ``index``."""
    name = spoken(folder)
    return index.get(name, index.get(RENAMED.get(name, name)))
