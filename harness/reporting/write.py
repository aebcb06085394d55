"""The files of a report: one path for one study and for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from harness.analysis.results import dataset_name
from harness.reporting.contents import contents, with_runs
from harness.reporting.document import Document, GroupPlace
from harness.reporting.heatmap import heatmap
from harness.reporting.html import html
from harness.reporting.latex import latex
from harness.reporting.markdown import markdown
from harness.reporting.sections.comparison import HEATMAP
from harness.reporting.sections.presence import expected_table
from harness.reporting.sections.runs import TrackedRuns
from harness.reporting.study_group import StudyGroup
from harness.reporting.text import harmless_cells
from harness.robust.evidence import SPLIT
from harness.store import canonical_json, write_atomically

PRESENCE = "presence.csv"


@dataclass(frozen=True)
class Report:
    """A report of one study or of several, and its files below ``folder``.

    ``empty`` names studies without a finished trial, ``arguments`` are those of the command line,
    ``before`` is the same report without the places where a tracker shows it.
    """

    folder: Path
    groups: Sequence[StudyGroup]
    arguments: Sequence[str] = ()
    empty: Sequence[str] = ()
    before: Report | None = None

    @property
    def wrong(self) -> list[str]:
        """One sentence per trial that failed or is damaged."""
        return [sentence for group in self.groups for sentence in group.wrong]

    @property
    def problems(self) -> list[str]:
        """One sentence per damaged trial."""
        return [problem for group in self.groups for problem in group.problems]

    @cached_property
    def document(self) -> Document:
        """What the files say."""
        if self.before is not None:
            (group,) = self.groups
            return with_runs(self.before.document, group)
        return contents(self.folder.name, self.groups, self.arguments, self.empty)

    @property
    def page(self) -> Path:
        """report.html."""
        return self.folder / "report.html"

    @property
    def paths(self) -> list[Path]:
        """All files, the page first."""
        expected = [PRESENCE] if self._expected else []
        names = ("report.html", "report.md", "report.csv", *expected, *self._pictures, "report.tex")
        return [self.folder / name for name in names]

    def tracked(self, runs: TrackedRuns | None) -> Report:
        """The report of one study with the places where a tracker shows it.

        What is drawn already is not drawn again.
        """
        (group,) = self.groups
        return replace(self, groups=[replace(group, tracked=runs)], before=self)

    def write(self, refresh: int | None = None) -> Report:
        """Write all files, each whole or not at all; the same store gives the same bytes.

        With ``refresh`` the page loads itself again after so many seconds.
        """
        table = harmless_cells(_table(self.groups)).to_csv(index=False, lineterminator="\n")
        self._write("report.html", html(self.document, refresh).encode())
        self._write("report.md", markdown(self.document).encode())
        self._write("report.csv", table.encode())
        if self._expected:
            lines = pd.DataFrame(self._expected).to_csv(index=False, lineterminator="\n")
            self._write(PRESENCE, lines.encode())
        for name, picture in zip(self._pictures, self._heatmaps, strict=True):
            self._write(name, picture)
        self._write("report.tex", latex(self.document).encode())
        return self

    @cached_property
    def _expected(self) -> list[dict[str, object]]:
        """The rows under the presence profile; none without one."""
        found = [
            (group.name, line) for group in self.groups for line in expected_table(group.findings)
        ]
        alone = len(self.groups) == 1
        return [line if alone else {"group": name} | line for name, line in found]

    @cached_property
    def _heatmaps(self) -> list[bytes]:
        """Each group's picture."""
        if self.before is not None:
            return self.before._heatmaps
        return [heatmap(group.results) for group in self.groups]

    @property
    def _pictures(self) -> list[str]:
        """The file of each group's picture."""
        places = (GroupPlace(number, group.name) for number, group in enumerate(self.groups, 1))
        return [place.file(HEATMAP) for place in places]

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.folder / name, lambda stream: stream.write(content))


def _table(groups: Sequence[StudyGroup]) -> pd.DataFrame:
    """The long table; with several groups, the group in front."""
    tables = [_long_table(group) for group in groups]
    if len(tables) == 1:
        return tables[0]
    named = [table.copy() for table in tables]
    for group, table in zip(groups, named, strict=True):
        table.insert(0, "group", group.name)
    return pd.concat(named, ignore_index=True)


def _long_table(group: StudyGroup) -> pd.DataFrame:
    """The long table, and below it what was measured under corruptions, where there is something.

    Then it has three columns more: the corrupted modality, the corruption and its severity.
    """
    table, found = group.results.long_table, group.corrupted
    if found is None or not found.declines:
        return table
    results, rows = group.results, {row.label: row for row in group.plan.rows}
    sizes = {one.name: one.size for one in results.plan.combinations}
    lines: list[dict[str, object]] = []
    for one in found.declines.values():
        row = rows[one.label]
        common = {
            "dataset": dataset_name(results.plan.spec),
            "method": row.method,
            "variant": row.variant,
            "hparams": canonical_json(row.hparams),
            "label": one.label,
            "split": SPLIT,
            "metric": results.metric.name,
            "higher_is_better": results.metric.higher_is_better,
            "corrupted": one.modality,
            "corruption": one.corruption or "mean",
        }
        for combination, values in one.each.items():
            place = {"combination": combination, "n_present": sizes[combination]}
            for severity, value in enumerate(values):
                lines.append(common | place | {"value": value, "severity": severity})
    frames = [table, pd.DataFrame(lines)]
    whole = {name: "Int64" for name in ("seed", "n", "n_present", "severity")}
    frames = [part.astype({k: v for k, v in whole.items() if k in part}) for part in frames]
    return pd.concat(frames, ignore_index=True)
