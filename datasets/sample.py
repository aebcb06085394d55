"""Write a small synthetic copy of a dataset in its true layout.

To try everything before the real data arrive:

python -m datasets.sample NAME DIR [seed=0]
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from datasets._synthetic import MARKER, mark
from harness.cli import flags, guarded
from harness.errors import DONE, UserError, unknown

HELP = """usage: python -m datasets.sample NAME DIR [seed=0]

Writes a small made-up copy of the dataset NAME into the new or empty folder DIR: the true folders,
lists and file types, and a signal that can be learnt. What is computed on it is called synthetic
everywhere.

NAME is one of: """

DESCRIPTION = (
    "Made by `python -m datasets.sample {name}` with seed {seed}. No number computed on these files"
    " says anything about {name}."
)


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, words = flags(arguments, ("--help", "-h"))
    seeds = [word.removeprefix("seed=") for word in words if word.startswith("seed=")]
    words = [word for word in words if not word.startswith("seed=")]
    if options or not words:
        print(HELP + ", ".join(names()))
        return DONE
    if words[0] not in names():
        raise unknown("sample", words[0], names())
    if len(words) != 2:
        raise UserError(f"name one folder for the sample: python -m datasets.sample {words[0]} DIR")
    if not all(seed.isdecimal() for seed in seeds):
        raise UserError(f"seed={seeds[-1]} must be a whole number that is not negative")
    write(words[0], Path(words[1]), int(seeds[-1]) if seeds else 0)
    return DONE


def names() -> list[str]:
    """The datasets that have a sample."""
    folder = Path(__file__).parent / "samples"
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def write(name: str, folder: Path, seed: int = 0) -> None:
    """Write the sample of a dataset and say how to use it.

    UserError when the folder holds something already.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not an empty folder; name one that is empty or does not exist yet"
        )
    started = time.monotonic()
    module = importlib.import_module(f"datasets.samples.{name}")
    # First, so that not even a half-written sample can be taken for the real data.
    mark(folder, DESCRIPTION.format(name=name, seed=seed))
    module.write(folder, seed)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    seconds = time.monotonic() - started
    print(
        f"{name}: {len(files):,} files, {size:.1f} MB, in {folder} ({seconds:.1f} s); {MARKER}"
        " marks them as synthetic"
    )
    study = getattr(module, "STUDY", None)
    if study is not None:
        print(
            f"to try the study on it: python -m harness.run study={study} dataset.root={folder}"
            " preset=smoke"
        )


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
