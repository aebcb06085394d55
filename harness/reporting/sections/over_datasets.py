"""The section over datasets: values, ranks, and a rank test or each dataset's own differences."""

from __future__ import annotations

from harness.analysis.over_datasets import DatasetComparison
from harness.analysis.statistics import SIGNIFICANCE_LEVEL
from harness.reporting.document import (
    Block,
    Figure,
    Section,
    Table,
    bullets,
    section,
    table,
)
from harness.reporting.figures import forest
from harness.reporting.text import number
from harness.reporting.wording import interval, p_value, signed


def over_datasets(found: DatasetComparison | str) -> Section:
    """Values, ranks, and a rank test or each dataset's own gaps; or why there is nothing to say."""
    title = "Across datasets"
    if isinstance(found, str):
        return section(title, f"Nothing is said over datasets: {found}.")
    rows = [
        [label, *(number(value, found.metric) for value in values), f"{found.ranks[label]:.2f}"]
        for label, values in found.values.items()
    ]
    caption = "Average over the combinations on each dataset, and the mean of the ranks"
    values = table(["method", *found.datasets, "mean rank"], rows, caption, paper=True)
    first = min(found.ranks, key=found.ranks.__getitem__)
    lead = (
        f"{first} has the best mean rank over {len(found.datasets)} datasets"
        f" ({found.ranks[first]:.2f} of {len(found.values)} rows)."
    )
    gaps = _gaps(found) if found.tests is None else []
    return section(
        title,
        lead,
        *(block for block in gaps if isinstance(block, Figure)),
        values,
        *(block for block in gaps if not isinstance(block, Figure)),
        _tests(found) if found.tests is not None else None,
        bullets(_across_notes(found)),
    )


def _tests(found: DatasetComparison) -> Table:
    verdicts = {True: "told apart", False: "not told apart"}
    rows = [
        [*pair, p_value(p), verdicts[p < SIGNIFICANCE_LEVEL]]
        for pair, p in (found.tests or {}).items()
    ]
    return table(
        ["row", "other", "p (Holm)", "verdict"], rows, "Signed-rank test over datasets", paper=True
    )


def _gaps(found: DatasetComparison) -> list[Block]:
    metric, against = (
        found.metric,
        found.other + (" (turned so that more is better)" if found.turned else ""),
    )
    rows = [
        [
            one.label,
            signed(one.value, metric),
            interval(one.low, one.high, metric),
            one.verdict or "not told apart",
        ]
        for one in found.gaps
    ]
    caption = f"Each row minus {against}, dataset by dataset"
    drawing = forest("forest", found.gaps, against, metric)
    header = ["method, dataset", f"minus {found.other}", "95 % interval", "verdict"]
    return [
        table(header, rows, caption, paper=True),
        Figure("across", drawing, f"{caption}, with 95 % intervals"),
    ]


def _across_notes(found: DatasetComparison) -> list[str]:
    count, rows = len(found.datasets), len(found.values)
    notes = ["datasets are the units; hyperparameters of a row may differ between datasets"]
    if found.tests is None:
        notes.append(
            f"no rank test: for {rows} rows it could be significant from {found.needed} datasets on"
            f" (2^(1-n) at most 0.05 over the number of pairs), and here are {count}; verdicts are"
            " those of each dataset alone"
        )
    if any("(synthetic)" in name for name in found.datasets):
        notes.append("some of the data are synthetic: they say nothing about real recordings")
    if found.lacking:
        notes.append(f"not on every dataset, and left out here: {', '.join(found.lacking)}")
    return notes
