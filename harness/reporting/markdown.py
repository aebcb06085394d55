"""report.md: a document as Markdown.

No clock, no chance and no path of this machine: the same store gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.reporting.document import (
    Block,
    Bullets,
    Code,
    Document,
    Facts,
    Figure,
    Link,
    Paragraph,
    Section,
    Sliders,
    Strong,
    Table,
    portable,
)
from harness.reporting.text import pipe_table

CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""What Markdown takes for the beginning of HTML."""


def markdown(document: Document) -> str:
    """The report as Markdown; figures without a file of their own are left to the HTML."""
    head = f"# {_text(document.title)}\n\n{_text(document.description)}"
    return portable("\n\n".join([head, *map(_section, document.sections)])) + "\n"


def _section(section: Section) -> str:
    shown = [text for text in map(_block, section.blocks) if text]
    return "\n\n".join([f"## {_text(section.title)}", _text(section.lead), *shown])


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return _text(block.text)
        case Bullets():
            return "\n".join(_items(block.lines) or ["none"])
        case Facts():
            return "\n".join(
                [
                    f"### {_text(block.title)}",
                    "",
                    *_items(block.lines),
                    *(f"  - {_text(line)}" for line in block.below),
                ]
            )
        case Table():
            return _table(block)
        case Figure():
            return f"![{_text(block.text)}]({block.file})" if block.file else ""
        case Code():
            return f"```\n{block.text}\n```"
        case Sliders():
            return f"With other chances:\n\n```\n{block.full_command}\n```"


def _items(lines: Sequence[str]) -> list[str]:
    return [f"- {_text(line)}" for line in lines]


def _table(table: Table) -> str:
    rows = [list(map(_cell, row)) for row in table.rows]
    caption = [f"{_text(table.caption)}:", ""] if table.caption else []
    return "\n".join([*caption, *pipe_table(list(map(_text, table.header)), rows)])


def _cell(cell: str) -> str:
    if isinstance(cell, Link):
        return f"[{_text(cell)}]({cell.url})"
    return f"**{_text(cell)}**" if isinstance(cell, Strong) else _text(cell)


def _text(text: str) -> str:
    """A text whose HTML is shown instead of done: labels and reasons may hold anything.

    >>> _text("<b>x</b>, p < 0.05, `<OUTPUT>`")
    '&lt;b>x&lt;/b>, p < 0.05, `<OUTPUT>`'
    """
    parts, at = [], 0
    for code in CODE_SPAN.finditer(text):
        parts += [TAG.sub("&lt;", text[at : code.start()]), code.group()]
        at = code.end()
    return "".join([*parts, TAG.sub("&lt;", text[at:])])
