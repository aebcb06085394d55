"""Rows over several datasets: their values and ranks, a rank test where one can be significant at
all, else each dataset's own gap.

The datasets are the units. Values are turned so that more is better; nothing is averaged over
datasets but ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from harness.analysis.findings import Findings, RowDifference
from harness.analysis.results import dataset_name
from harness.analysis.statistics import AVERAGE, datasets_needed, rank_test
from harness.protocol.metrics import Metric

FEWEST = 2


@dataclass(frozen=True)
class DatasetDifference(RowDifference):
    """A gap on one dataset; ``label`` names both, ``row`` the row."""

    row: str

    @property
    def verdict(self) -> str:
        found = self.difference.better_at(self.p)
        if found is None:
            return ""
        return "better" if found == self.row else "worse"


@dataclass(frozen=True)
class DatasetComparison:
    """What several datasets say together about the rows that all of them have.

    Attributes:
        datasets: names, in the order of the groups.
        values: row -> average over the combinations on each dataset, in the metric's own direction.
        ranks: row -> mean over datasets of its rank by the average, 1 is best, ties share.
        tests: pair of rows -> adjusted p of the signed-rank test; None where no difference could be
            significant.
        needed: how many datasets the test takes for these rows.
        other: the row that ``gaps`` are against: a baseline that all have, else the row with the
            best mean rank.
        gaps: per row and dataset, the row minus ``other``, with the interval and verdict of that
            dataset.
        turned: whether gaps of metrics where less is better were turned, because the metrics do not
            agree in that.
        metric: of the unit that all values have.
        lacking: rows that some dataset does not have.
    """

    datasets: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    ranks: Mapping[str, float]
    tests: Mapping[tuple[str, str], float] | None
    needed: int
    other: str
    gaps: tuple[DatasetDifference, ...]
    turned: bool
    metric: Metric
    lacking: tuple[str, ...]


def compare_over_datasets(parts: Sequence[Findings]) -> DatasetComparison | str:
    """The view over datasets of groups of studies, one dataset each.

    A sentence where there is none, and why.
    """
    names = [dataset_name(one.results.plan.spec) for one in parts]
    refusal = _refusal(parts, names)
    if refusal:
        return refusal
    known = [_rows(one) for one in parts]
    common = [key for key in known[0] if all(key in rows for rows in known)]
    labels = [label for label, _, _ in common]
    if len(labels) < FEWEST:
        return "fewer than two rows (label, method and variant) are on every dataset"
    signs = [1 if one.comparison.metric.higher_is_better else -1 for one in parts]
    values = {label: tuple(one.comparison.average[label].mean for one in parts) for label in labels}
    better = {
        label: [sign * value for sign, value in zip(signs, row, strict=True)]
        for label, row in values.items()
    }
    ranks = _mean_ranks(better)
    rows = parts[0].results.plan.rows
    roles = {row.label: row.method_class.role for row in rows}
    baselines = [label for label in labels if roles[label] == "baseline"]
    other = baselines[0] if baselines else min(ranks, key=lambda label: ranks[label])
    turned = len(set(signs)) > 1
    return DatasetComparison(
        datasets=tuple(names),
        values=values,
        ranks=ranks,
        tests=rank_test(better),
        needed=datasets_needed(len(labels)),
        other=other,
        gaps=tuple(_gaps(parts, names, labels, other, turned)),
        turned=turned,
        metric=parts[0].comparison.metric,
        lacking=tuple(
            dict.fromkeys(label for rows in known for label, *_ in rows if label not in labels)
        ),
    )


def _refusal(parts: Sequence[Findings], names: Sequence[str]) -> str:
    count = Counter(one.results.plan.spec.name for one in parts)
    twice = [name for name, times in count.items() if times > 1]
    unranked = [name for name, one in zip(names, parts, strict=True) if AVERAGE not in one.rankings]
    if len(count) < FEWEST:
        return "all studies are on one dataset"
    if twice:
        return (
            f"{', '.join(twice)} stands in several groups on unequal terms, and a dataset can count"
            " only once; give one study of it"
        )
    if len({one.comparison.metric.unit for one in parts}) > 1:
        return "the metrics have different units"
    return f"the rows are not ranked on {', '.join(unranked)}" if unranked else ""


def _rows(one: Findings) -> list[tuple[str, str, str]]:
    return [
        (row.label, row.method, row.variant)
        for row in one.results.plan.rows
        if row.label in one.ranked
    ]


def _mean_ranks(better: Mapping[str, Sequence[float]]) -> dict[str, float]:
    columns = zip(*better.values(), strict=True)  # the values of all rows on one dataset
    by_dataset = [rankdata([-value for value in column]) for column in columns]
    return {
        label: float(sum(ranks[at] for ranks in by_dataset) / len(by_dataset))
        for at, label in enumerate(better)
    }


def _gaps(
    parts: Sequence[Findings], names: Sequence[str], labels: Sequence[str], other: str, turned: bool
) -> list[DatasetDifference]:
    """Row by row, one gap per dataset; labels name both."""
    by_dataset = [{one.label: one for one in part.against(other)} for part in parts]
    found = []
    for label in labels:
        if label == other:
            continue
        for name, gaps, part in zip(names, by_dataset, parts, strict=True):
            gap = gaps[label]
            value, low, high = gap.value, gap.low, gap.high
            if turned and not part.comparison.metric.higher_is_better:
                value, low, high = -gap.value, -gap.high, -gap.low
            found.append(
                DatasetDifference(
                    label=f"{label}, {name}",
                    other=other,
                    value=value,
                    low=low,
                    high=high,
                    difference=gap.difference,
                    p=gap.p,
                    # The verdict is looked up by label: it stays that of the row.
                    row=label,
                )
            )
    return found
