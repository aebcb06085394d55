"""Trials from one store to another: one archive, checked before anything of it is believed.

python -m harness.share export [study=NAME] [key=value ...] FILE | import FILE [output=runs]
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cli import flags, guarded
from harness.errors import DONE, SOME_FAILED, UserError, unknown

HELP = """usage: python -m harness.share export [study=NAME] [key=value ...] FILE [by=TEXT]
           [--no-weights]
       python -m harness.share import FILE [output=runs] [keep=ours|theirs]

export writes the finished trials of a study (study=a,b: of several) into one new archive FILE, a
zip: records, scores of every sample, learning curves, selected weights, the study in full, the
description and fingerprint of the data (never the data), and size and sha256 of each file. Give the
same key=value arguments as to python -m harness.run.

import checks the whole archive first: every size and sha256, that each trial's id is the hash of
its spec, and that its values follow from its scores. Then each trial enters the store below the
output folder, whole or not at all; one that is there with equal results is left as it is. The
archive's studies become files in <output>/imported/, which study=... takes.

  by=TEXT        export: who gives it; stands in the report of whoever imports it
  --no-weights   export: leave weights out, but for models that others of the study start from
  keep=ours      import: where a trial is here with other results, leave ours; keep=theirs sets
                 ours aside; without it nothing is imported then, and the trials are listed
  --help         this text

exit codes: 0 done, 1 done, but damaged trials were not exported, or trials in use were not
imported, 2 nothing was done: a mistake in the command, a damaged archive, other results here"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, words = flags(arguments, ("--no-weights", "--help", "-h"))
    if options & {"--help", "-h"} or not words:
        print(HELP)
        return DONE
    commands = {"export": _export, "import": _import}
    if words[0] not in commands:
        raise unknown("command of harness.share:", words[0], commands)
    if words[0] == "import" and options:
        raise UserError("--no-weights goes with export; an import takes what the archive has")
    settings = [word for word in words[1:] if "=" in word]
    files = [word for word in words[1:] if "=" not in word]
    if len(files) != 1:
        named = f": {', '.join(files)}" if files else ""
        raise UserError(
            f"harness.share {words[0]} needs one FILE, and {len(files)} are given{named}"
        )
    return commands[words[0]](Path(files[0]), settings, "--no-weights" in options)


def _taken(settings: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The value of a key of this command alone, and the other settings."""
    own = [word for word in settings if word.startswith(f"{key}=")]
    others = [word for word in settings if word not in own]
    return (own[-1].partition("=")[2] if own else None), others


def _export(path: Path, settings: Sequence[str], bare: bool) -> int:
    from harness.analysis.rounds.looks import with_rounds
    from harness.search.stored_plan import plan_of
    from harness.sharing.export import export
    from harness.store import Store, file_sha256
    from harness.study.merged_plan import load_studies

    by, settings = _taken(settings, "by")
    studies = load_studies(settings)
    store = Store.below(studies[0].output)
    plans = [with_rounds(plan_of(study, store), store) for study in studies]
    found = export(plans, store, path, by or "", weights=not bare)
    names = " and ".join(study.name for study in studies)
    size = path.stat().st_size / 2**20
    print(
        f"exported {len(found.trials)} finished trials of {names}: {path}, {size:.1f} MiB, sha256"
        f" {file_sha256(path)}"
    )
    if found.unfinished:
        print(f"left out: {found.unfinished} trials that are not finished, or in use")
    for sentence in found.damaged:
        print(f"error: {sentence}", file=sys.stderr)
    return SOME_FAILED if found.damaged else DONE


def _import(path: Path, settings: Sequence[str], _: bool) -> int:
    from harness.sharing.import_archive import OURS, THEIRS, import_trials
    from harness.store import Store
    from harness.study.checks import checked_folder
    from harness.study.places import check_places
    from harness.study.settings import Study
    from harness.study.study_file import IMPORTED

    keep, settings = _taken(settings, "keep")
    output, others = _taken(settings, "output")
    if others:
        raise UserError(
            f"'{others[0]}' does not go with import; output=FOLDER and keep=ours|theirs do"
        )
    if keep not in (None, OURS, THEIRS):
        raise UserError(f"keep={keep} must be {OURS} or {THEIRS}")
    output = checked_folder("output", output or Study().output)
    check_places({"output": output})
    found = import_trials(path, Store.below(output), Path(output) / IMPORTED, keep)
    giver = f", by {found.by}" if found.by else ""
    print(f"{path.name}{giver}, into {output}/store; sha256 {found.sha256}")
    for what, trials in found.lines().items():
        print(f"  {what}: {len(trials)}")
    for study in found.studies:
        command = ["python", "-m", "harness.report", f"study={study}", f"output={output}"]
        print(f"report: {shlex.join(command)}")
    return SOME_FAILED if found.busy else DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
