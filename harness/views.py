"""Measure what trained models show beyond predictions: variances and feature diversity.

python -m harness.views [study=NAME] [key=value ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.analysis.results import read
from harness.analysis.rounds.looks import with_rounds
from harness.cli import flags, guarded
from harness.errors import DONE, UserError
from harness.paper.representation_tables import representation_table
from harness.paper.representations import SPLIT, measure_all
from harness.reporting.text import harmless_cells
from harness.schedule.progress import preparation_view
from harness.store import Store, write_atomically
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.study.settings import DEFAULT_STUDY

HELP = f"""usage: python -m harness.views [study=NAME] [key=value ...] [--help]

Measures the mean sigma^2 of each combination (methods that predict a distribution) and the
inter-channel distance of each ordered pair of modalities (methods whose encoders return maps) on
{SPLIT}, once for each finished trial, and writes <output>/<study>/views.csv. Needs the data and the
finished trials. No study means study={DEFAULT_STUDY}.

exit codes: 0 written, 2 bad configuration or nothing to measure"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    options, settings = flags(arguments, ("--help", "-h"))
    if options:
        print(HELP)
        return DONE
    study = load_study(settings)
    store = Store.below(study.output)
    plan = with_rounds(Plan(study), store)
    results = read(plan, store)
    if not results.finished:
        raise UserError(
            f"study '{plan.study.name}' has no finished trial below {plan.study.output}; run it"
            " first"
        )
    with preparation_view() as progress:
        plan.dataset.prepare(progress)
    measure_all(results, lambda text: print(text, flush=True))
    table, path = representation_table(results), plan.study.folder / "views.csv"
    cells = harmless_cells(table)
    write_atomically(
        path, lambda stream: stream.write(cells.to_csv(index=False, lineterminator="\n").encode())
    )
    means = table.groupby(["view", "label", "of"], sort=False)["value"].mean().reset_index()
    for line in means.itertuples(index=False):
        print(line.view, line.label, line.of, f"{line.value:.4f}", sep="  ")
    print(f"views: {path}", flush=True)
    return DONE


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
