"""report.md: a document as Markdown.

No clock, no chance and no path of this machine: the same store gives the same bytes.
"""

from __future__ import annotations

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


def markdown(document: Document) -> str:
    """The report as Markdown; figures without a file of their own are left to the HTML."""
    head = f"# {document.title}\n\n{document.description}"
    return portable("\n\n".join([head, *map(_section, document.sections)])) + "\n"


def _section(section: Section) -> str:
    shown = [text for text in map(_block, section.blocks) if text]
    return "\n\n".join([f"## {section.title}", *shown])


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return block.text
        case Bullets():
            return "\n".join(_items(block.lines) or ["none"])
        case Facts():
            return "\n".join(
                [
                    f"### {block.title}",
                    "",
                    *_items(block.lines),
                    *(f"  - {line}" for line in block.below),
                ]
            )
        case Table():
            return _table(block)
        case Figure():
            return f"![{block.text}]({block.file})" if block.file else ""
        case Code():
            return f"```\n{block.text}\n```"
        case Sliders():
            return f"With other chances:\n\n```\n{block.full_command}\n```"


def _items(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(table: Table) -> str:
    rows = [list(map(_cell, row)) for row in table.rows]
    caption = [f"{table.caption}:", ""] if table.caption else []
    return "\n".join([*caption, *pipe_table(table.header, rows)])


def _cell(cell: str) -> str:
    if isinstance(cell, Link):
        return f"[{cell}]({cell.url})"
    return f"**{cell}**" if isinstance(cell, Strong) else cell
