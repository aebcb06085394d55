"""report.html: a document as one page that needs nothing else, neither network nor files.

Plain functions and one escape (html.escape of the standard library): a document is a flat list of
blocks, so that a template language would have no work here, and would be one more dependency.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from string import Template

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
from harness.reporting.html_page import PAGE, SCRIPT, STYLE
from harness.reporting.text import ABSENT

NUMBER = re.compile(r"[−+<]?\s?[\d∞]")
"""How a cell with a number begins."""

LONG = 33
"""Rows above which a table starts folded: 31 combinations with their average and worst."""

WIDTH = re.compile(r'<svg[^>]* width="([\d.]+)pt"')
SMALLEST = 0.45
"""Of its width, what a drawing keeps: so that all of a curve is seen at once on a phone."""


def html(document: Document, refresh: int | None = None) -> str:
    """The page; with ``refresh`` it loads itself again after so many seconds."""
    body = "\n".join(_section(section) for section in document.sections)
    links = "".join(
        f'<li><a href="#{anchor(s.title)}">{text(s.title)}</a></li>' for s in document.sections
    )
    reload = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return Template(PAGE).substitute(
        title=text(document.title),
        description=text(document.description),
        links=links,
        body=body,
        reload=reload,
        style=STYLE,
        script=SCRIPT,
        hash=b64encode(sha256(SCRIPT.encode()).digest()).decode(),
    )


def text(value: str) -> str:
    """A text as HTML: without the folders of a machine, escaped, ``code`` as such.

    Everything shown passes through here.
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(portable(value)))


def anchor(title: str) -> str:
    """The name of a section.

    >>> anchor("Methods: provenance and deviations")
    'methods-provenance-and-deviations'
    """
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def _section(section: Section) -> str:
    lead = f'<p class="lead">{text(section.lead)}</p>'
    blocks = "\n".join([lead, *map(_block, section.blocks)])
    return (
        "<section"
        f' id="{anchor(section.title)}">\n<h2>{text(section.title)}</h2>\n{blocks}\n</section>'
    )


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return f"<p>{text(block.text)}</p>"
        case Bullets():
            return _list(block.lines or ("none",))
        case Facts():
            inner = _list(block.lines) + (
                f'<div class="below">{_list(block.below)}</div>' if block.below else ""
            )
            return f"<details><summary>{text(block.title)}</summary>\n{inner}</details>"
        case Table():
            return _table(block)
        case Figure():
            # The drawing is this project's own; its texts are escaped by the library that drew it.
            caption = f"<figcaption>{text(block.text)}</figcaption>"
            return (
                f'<figure><div class="scroll" style="--least: {_least_width(block.svg)}">'
                f"{block.svg}</div>{caption}</figure>"
            )
        case Code():
            return f"<pre>{escape(portable(block.text))}</pre>"
        case Sliders():
            return _sliders(block)


def _least_width(svg: str) -> str:
    """How narrow a drawing may become before it scrolls.

    >>> _least_width('<svg width="500pt" height="9pt">')
    '225pt'
    """
    width = WIDTH.search(svg)
    return f"{SMALLEST * float(width[1]):.0f}pt" if width else "auto"


def _sliders(block: Sliders) -> str:
    """The script computes what stands in the table; without it the command is left."""
    inputs = "".join(
        f'<label>{text(name)} <input type="range" min="0" max="100" step="1" value="{percent}">'
        f" <output>{percent} %</output></label>"
        for name, percent in zip(block.names, block.percent, strict=True)
    )
    facts = {
        "names": block.names,
        "masks": block.masks,
        "rows": block.rows,
        "decimals": block.decimals,
        "higher": block.higher_is_better,
        "command": portable(block.command),
        "key": block.key,
    }
    head = f"<legend>{text(block.title)}</legend>"
    note = (
        "Means alone, for where the sliders stand (arrow keys move them); nothing present:"
        ' <output class="nothing"></output> of the time, which counts for no row. The command'
        " computes the intervals:"
    )
    return (
        f'<fieldset class="presence" data-facts="{escape(json.dumps(facts))}">{head}'
        f'<div class="sliders">{inputs}</div><p>{note}</p>'
        f"<pre>{escape(portable(block.full_command))}</pre>"
        '<div class="scroll"><table><thead><tr><th scope="col">method</th>'
        '<th scope="col" class="n">expected</th></tr></thead><tbody></tbody></table></div>'
        "</fieldset>"
    )


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def _table(table: Table) -> str:
    head = "".join(_head(table, at) for at in range(len(table.header)))
    body = "\n".join(f"<tr>{_row(row)}</tr>" for row in table.rows)
    # Not a <caption>: that would scroll away with a table wider than a phone.
    caption = f"<figcaption>{text(table.caption)}</figcaption>" if table.caption else ""
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    found = f'<figure class="table">{caption}<div class="scroll">{inner}</div></figure>'
    if len(table.rows) <= LONG:
        return found
    return (
        f"<details><summary>{text(table.caption or 'Table')}: {len(table.rows)}"
        f" rows</summary>\n{found}</details>"
    )


def _head(table: Table, at: int) -> str:
    numeric = at > 0 and any(NUMBER.match(row[at]) for row in table.rows)
    kind = ' class="n"' if numeric else ""
    name = text(table.header[at]).replace("+", "+<wbr>")
    return f'<th scope="col"{kind}><button type="button">{name}</button></th>'


def _row(row: Sequence[str]) -> str:
    return "".join(_cell(cell, at) for at, cell in enumerate(row))


def _cell(cell: str, at: int) -> str:
    inner = f"<strong>{text(cell)}</strong>" if isinstance(cell, Strong) else text(cell)
    if isinstance(cell, Link):
        return f'<td><a href="{escape(cell.url)}">{inner}</a></td>'
    if at == 0:
        return f'<th scope="row">{inner}</th>'
    return (
        f'<td class="n">{inner}</td>'
        if NUMBER.match(cell) or cell == ABSENT
        else f"<td>{inner}</td>"
    )
