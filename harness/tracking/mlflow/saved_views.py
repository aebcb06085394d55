"""Saved views of MLflow's page of runs, which answer the study's question (no mlflow here).

MLflow's page opens with columns that hold no result, and offers no setting for it; but a view that
somebody has saved is a tag of the experiment, listed under "Views" and opened by a link. These are
written by us in the form that MLflow 3 (3.17 at hand) reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.store import Json
from harness.tracking.mlflow.trial_facts import by_present_name, legal_name

TAG = "mlflow.sharedViewState."
PLACE, MINUS = "place_by_average", "minus_baseline/average"
BAD_SENSOR, WITH_BAD_SENSOR = "bad_sensor", "with_bad_sensor"
"""The column of the page of runs, and what the names of metrics begin with, of which there are so
many that they had better come behind those of test.
"""

LONGEST = 20_000
"""Characters that a tag of an experiment may have."""

METHODS, DIFFERENCES, TRIALS = "harness-methods", "harness-differences", "harness-trials"
MANY_RUNS = 100
LETTER, MARGIN = 8, 24
"""Pixels that a letter of a column's name needs, and around it: names that are cut off do not tell
combinations apart.
"""


@dataclass(frozen=True)
class SavedView:
    """A saved view: ``columns`` in their order, ``charts`` of a section each (title, cards)."""

    key: str
    name: str
    filter: str
    order_by: str
    ascending: bool
    columns: Sequence[str]
    charts: Sequence[tuple[str, Sequence[Json]]] = ()

    def tag(self, created: int) -> str:
        """The value of the experiment's tag.

        ``created`` in milliseconds orders the list of views.
        """
        text = json.dumps(
            {
                "name": self.name,
                "createdAt": created,
                "updatedAt": created,
                "state": json.dumps(self._state()),
            }
        )
        return text if len(text) <= LONGEST else self._smaller().tag(created)

    def _smaller(self) -> SavedView:
        """The view without the section that has most charts.

        Without charts it keeps half as many columns.
        """
        if not self.charts:
            return replace(self, columns=self.columns[: len(self.columns) // 2])
        largest = max(self.charts, key=lambda section: len(section[1]))
        return replace(self, charts=[section for section in self.charts if section is not largest])

    def _state(self) -> Json:
        sections = [_section(at, title) for at, (title, _) in enumerate(self.charts)]
        cards = [
            _card(at, place, card)
            for at, (_, cards) in enumerate(self.charts)
            for place, card in enumerate(cards)
        ]
        drawn = (
            {
                "compareRunSections": sections,
                "compareRunCharts": cards,
                "isAccordionReordered": True,
            }
            if sections
            else {}
        )
        return {
            "searchFilter": self.filter,
            "orderByKey": self.order_by,
            "orderByAsc": self.ascending,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": list(self.columns),
            "columnOrder": list(self.columns),
            "columnWidths": {
                name: max(90, MARGIN + LETTER * (len(name) - name.index("`") - 2))
                for name in self.columns
            }
            | WIDE,
            "runsHiddenMode": "SHOW_ALL",
            "viewMaximized": False,
            "runListHidden": False,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "groupBy": None,
            **drawn,
        }


def saved_views(
    metric: str,
    higher_is_better: bool,
    combinations: Sequence[str],
    baseline: str | None,
    corrupted: Sequence[str] = (),
) -> list[SavedView]:
    """The views of a study: its methods, their differences from the baseline, its single trials.

    ``corrupted``: the modalities that models were evaluated with as bad sensors.
    """
    headline = [f"test/{metric}_{which}" for which in ("mean", "worst", "full")]
    cells = [legal_name(f"test/{metric}/{name}") for name in combinations]
    minus = ["verdict", "minus_baseline"] if baseline is not None else []
    texts = ["average", "worst_case", "rank", "ties", *minus, *map(on, combinations)]
    values, charts = list(headline), []
    if corrupted:
        texts.insert(2, BAD_SENSOR)
        values.append(with_bad_sensor(metric))
        charts = _bad_sensor_charts(metric, corrupted)
    found = [
        SavedView(
            METHODS,
            "Methods, mean over seeds",
            "tags.kind = 'row'",
            order_by=column("metrics", PLACE),
            ascending=True,
            columns=_tags(texts),
            charts=[*_charts(metric, headline, cells, baseline is not None), *charts],
        ),
        SavedView(
            TRIALS,
            "Single trials",
            "tags.kind = 'trial'",
            order_by=column("metrics", headline[0]),
            ascending=not higher_is_better,
            columns=[
                *_tags(("label", "seed", "status")),
                *(column("metrics", name) for name in (*values, *cells)),
            ],
            charts=[*_charts(metric, headline, cells, False), *charts],
        ),
    ]
    if baseline is not None:
        found.insert(1, _differences(combinations, baseline, not higher_is_better))
    return found


def _differences(combinations: Sequence[str], baseline: str, ascending: bool) -> SavedView:
    names = ("average", "worst", *combinations)
    return SavedView(
        DIFFERENCES,
        f"Each combination, minus {baseline}",
        "tags.kind = 'row'",
        order_by=column("metrics", MINUS),
        ascending=ascending,
        columns=_tags(("verdict", "minus_baseline", *map(difference, names[1:]))),
        charts=[
            (f"Minus {baseline}", [_bar(legal_name(f"minus_baseline/{name}")) for name in names])
        ],
    )


def on(combination: str) -> str:
    """The column of a combination's value.

    >>> on("RGB+depth (left)")
    'on RGB.depth _left_'
    """
    return legal_name(f"on {combination}")


def with_bad_sensor(metric: str, which: str = "mean") -> str:
    """A value over all modalities, corruptions and severities: mean, clean or minus_clean.

    >>> with_bad_sensor("accuracy")
    'with_bad_sensor/accuracy_mean'
    """
    return f"{WITH_BAD_SENSOR}/{metric}_{which}"


def by_severity(modality: str) -> str:
    """The curve over severities 0 to 5 of a modality, which a chart shows on its step axis.

    >>> by_severity("RGB (left)")
    'by_severity/RGB _left_'
    """
    return legal_name(f"by_severity/{modality}")


def difference(summary: str) -> str:
    """The column of a difference from the baseline: in the worst case, or on a combination."""
    return legal_name(f"difference {summary}")


def _charts(
    metric: str, headline: Sequence[str], cells: Sequence[str], minus: bool
) -> list[tuple[str, Sequence[Json]]]:
    across = {
        "type": "PARALLEL",
        "selectedParams": [],
        "selectedMetrics": list(cells),
        "showAllRuns": True,
        "displayName": "",
    }
    curve = by_present_name(metric)
    return [
        (
            "Which method",
            [
                _bar(headline[0]),
                *([_bar(MINUS)] if minus else []),
                _line(curve),
                *map(_bar, headline[1:]),
            ],
        ),
        ("On which combination", [across, *(_bar(name) for name in cells)]),
        ("How it learned", [_line(f"val/{metric}_mean"), _line("train/loss")]),
    ]


def _bad_sensor_charts(metric: str, corrupted: Sequence[str]) -> list[tuple[str, Sequence[Json]]]:
    bars = [_bar(with_bad_sensor(metric, which)) for which in ("mean", "minus_clean")]
    lines = [_line(by_severity(modality)) for modality in corrupted]
    return [("With a bad sensor", [*bars, *lines])]


def column(kind: str, name: str) -> str:
    """A column as the page of runs calls it.

    >>> column("metrics", "test/accuracy_mean")
    'metrics.`test/accuracy_mean`'
    """
    return f"{kind}.`{name}`"


def _tags(names: Sequence[str]) -> list[str]:
    return [column("tags", name) for name in names]


WIDE = {
    column("tags", "minus_baseline"): 190,
    column("tags", "verdict"): 120,
    column("tags", "label"): 150,
    column("tags", BAD_SENSOR): 170,
}


def _section(at: int, title: str) -> Json:
    return {
        "uuid": f"harness-{at}",
        "name": title,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _card(section: int, place: int, card: Json) -> Json:
    where = {"uuid": f"harness-{section}-{place}", "metricSectionId": f"harness-{section}"}
    return {
        "runsCountToCompare": MANY_RUNS,
        "deleted": False,
        "isGenerated": False,
        **where,
        **card,
    }


def _bar(metric: str) -> Json:
    return {"type": "BAR", "metricKey": metric, "displayName": metric.split("/", 1)[-1]}


def _line(metric: str) -> Json:
    shape = {
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "xAxisKey": "step",
        "yAxisKey": "metric",
    }
    flags = {
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "yAxisExpressions": [],
    }
    keys = {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "selectedXAxisMetricKey": "",
        "range": {},
    }
    return {"type": "LINE", "displayName": metric.split("/", 1)[-1], **keys, **shape, **flags}
