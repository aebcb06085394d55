"""report.tex: the tables of a document for a paper, with booktabs, to be read by \\input."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

from harness.reporting.document import Document, Strong, Table, portable

HEAD = r"""% Tables of the report; read this file by \input. The preamble needs:
%   \usepackage{booktabs}
%   \usepackage{graphicx}
"""

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table wider than the text shrinks; others keep their size."""

HEADING = 12
"""Letters of a heading's line."""

BREAK = r"\\"
NOTHING = "\0"
SPECIAL = {
    NOTHING: "{}",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "−": "$-$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "²": r"$^2$",
    "σ": r"$\sigma$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "●": r"$\bullet$",
    "○": r"$\circ$",
}


def latex(document: Document) -> str:
    """The tables marked for a paper; equal tables give equal bytes."""
    tables = [
        _table(table, document.title) for table in document.tables() if table.paper and table.rows
    ]
    return "\n".join([HEAD, *tables])


def tex(text: str) -> str:
    r"""A text as LaTeX prints it.

    >>> tex("sf_md: 50 % & more")
    'sf\\_md: 50 \\% \\& more'
    """
    # Two hyphens would become a dash.
    apart = re.sub(r"-(?=-)", f"-{NOTHING}", portable(text))
    return "".join(SPECIAL.get(character, character) for character in apart)


def _table(table: Table, title: str) -> str:
    columns = "l" + "".join(
        "r" if _numeric(table, at) else "l" for at in range(1, len(table.header))
    )
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{tex(f'{title}: {table.caption}' if table.caption else title)}}}\smallskip",
        FIT,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(
            _heading(name, column) for name, column in zip(table.header, columns, strict=True)
        )
        + r" \\",
        r"\midrule",
        *map(_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _heading(name: str, side: str) -> str:
    r"""A column's name, on several lines where it is long, so that the table does not shrink for
    it.

    >>> _heading("thumb+spectrum+profile", "r")
    '\\shortstack[r]{thumb+\\\\spectrum+\\\\profile}'
    """
    lines = [
        line.replace("+ ", "+")
        for line in wrap(name.replace("+", "+ "), HEADING, break_long_words=False)
    ]
    return tex(name) if len(lines) < 2 else rf"\shortstack[{side}]{{{BREAK.join(map(tex, lines))}}}"


def _row(cells: Sequence[str]) -> str:
    shown = [
        rf"\textbf{{{tex(cell)}}}" if isinstance(cell, Strong) else tex(cell) for cell in cells
    ]
    # Behind a line's end, a bracket or a star would be an argument of it.
    guard = "{}" if shown[0][:1] in {"[", "*"} else ""
    return guard + " & ".join(shown) + r" \\"


def _numeric(table: Table, at: int) -> bool:
    """Whether a column starts with a number in every row that has one."""
    cells = [row[at] for row in table.rows if row[at] not in {"–", ""}]
    return bool(cells) and all(cell.lstrip("−+< ")[:1].isdigit() or cell == "∞" for cell in cells)
