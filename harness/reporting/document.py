"""A report as data: sections of paragraphs, lists, tables and figures.

What is said is decided once; files differ in form only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.errors.credentials import masked

FOLDERS = re.compile(r"(?<![\w./~…#])/(?:[^\s/:'\"]+/)+")
"""The folders of an absolute path, as they may stand in the reason of a failed trial or in an
argument.
"""


MOST_COLUMNS = 20
"""Of a table that is read row by row: 15 combinations of four modalities, and their summaries."""


class Strong(str):
    """A text to be emphasised."""

    __slots__ = ()


class Link(str):
    """A text of a table that leads to ``url``."""

    __slots__ = ("url",)
    url: str

    def __new__(cls, text: str, url: str) -> Link:
        link = super().__new__(cls, text)
        link.url = url
        return link


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list; ``none`` is printed when it is empty, so that a heading never stands alone."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What belongs to one row of the study: a heading, facts, and sentences below the last of
    them.
    """

    title: str
    lines: tuple[str, ...]
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Cells of text, the first column naming the rows.

    ``caption`` says what it shows; ``paper`` puts it into the LaTeX file.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    paper: bool = False


Drawing = Callable[[str], str]
"""A prefix for the names inside a drawing, which must differ within a page, to its SVG."""


@dataclass(frozen=True)
class Figure:
    """A drawing, for formats that can hold one.

    ``file`` is the picture beside the report for those that cannot. ``prefix`` begins all names
    inside the drawing.
    """

    name: str
    drawing: Drawing
    text: str
    file: str | None = None
    prefix: str = ""

    @property
    def svg(self) -> str:
        """The drawing as an ``svg`` element."""
        return self.drawing(self.prefix)


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Sliders:
    """Expected values of rows by the chance that each modality is present, for formats that can
    compute them at once; the command that gives their intervals for all.

    Attributes:
        title: what is computed.
        names: the modalities.
        percent: where each one's slider stands at first.
        masks: (C, V) which modalities each combination has.
        rows: label -> the value of each combination, None where there is none.
        decimals: of values.
        higher_is_better: which row comes first.
        command: what computes intervals, without the chances.
        key: what a chance is called behind it, without the modality.
    """

    title: str
    names: tuple[str, ...]
    percent: tuple[int, ...]
    masks: tuple[tuple[bool, ...], ...]
    rows: dict[str, tuple[float | None, ...]]
    decimals: int
    higher_is_better: bool
    command: str
    key: str

    @property
    def full_command(self) -> str:
        """The command for where the sliders stand at first."""
        keys = [
            f"{self.key}.{name}={percent / 100:g}"
            for name, percent in zip(self.names, self.percent, strict=True)
        ]
        return " ".join([self.command, *map(shlex.quote, keys)])


Block = Paragraph | Bullets | Facts | Table | Figure | Code | Sliders


@dataclass(frozen=True)
class Section:
    """A heading, one sentence that says what is seen there, and what shows it: pictures first."""

    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    description: str
    sections: tuple[Section, ...]

    def tables(self) -> Iterator[Table]:
        """All tables, in order."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Table))


@dataclass(frozen=True)
class GroupPlace:
    """The place of a group of studies in a report of several groups, counted from 1."""

    number: int
    name: str

    def place(self, section: Section) -> Section:
        """The section, told from those of other groups by title, captions, figures and files."""
        title = f"Group {self.number}, {self.name}: {section.title}"
        return Section(title, section.lead, tuple(map(self._place, section.blocks)))

    def _place(self, block: Block) -> Block:
        match block:
            case Table() if block.caption:
                return replace(block, caption=f"{self.name}: {block.caption}")
            case Figure():
                file = self.file(block.file) if block.file else None
                return replace(block, prefix=f"g{self.number}-", file=file)
            case _:
                return block

    def file(self, name: str) -> str:
        """The name of a group's file: the first group keeps it.

        >>> GroupPlace(1, "a").file("heatmap.png"), GroupPlace(2, "b").file("heatmap.png")
        ('heatmap.png', 'heatmap-2.png')
        """
        stem, _, suffix = name.rpartition(".")
        return name if self.number == 1 else f"{stem}-{self.number}.{suffix}"


def section(title: str, lead: str, *blocks: Block | None) -> Section:
    """A section; None stands for a block that is not there."""
    return Section(title, lead, tuple(block for block in blocks if block is not None))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", paper: bool = False
) -> Table:
    """A table from any sequences."""
    return Table(tuple(header), tuple(tuple(row) for row in rows), caption, paper)


def readable(found: Table) -> Table:
    """The table, its rows and columns exchanged where it has too many columns to be read.

    >>> readable(table(["method", "a", "b"], [["x", "1", "2"]])).header
    ('method', 'a', 'b')
    """
    if len(found.header) <= MOST_COLUMNS:
        return found
    lines = zip(found.header, *found.rows, strict=True)
    header, *rows = (tuple(line) for line in lines)
    return replace(found, header=header, rows=tuple(rows))


def bullets(lines: Sequence[str]) -> Bullets:
    """A list from any sequence."""
    return Bullets(tuple(lines))


def portable(text: str) -> str:
    """A text without the folders of a machine and without credentials.

    >>> portable("'/home/me/x.bin' is gone")
    "'…/x.bin' is gone"
    """
    return FOLDERS.sub("…/", masked(text))
