"""report.tex: what LaTeX must be told, and that a real TeX reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.reporting.document import Document, Paragraph, Section, Strong, Table
from harness.reporting.latex import latex, tex
from tests.support.handmade import ladder, planned, write_trial
from tests.support.reports import write_report

ENGINE = next(
    (
        found
        for name in ("pdflatex", "tectonic", "xelatex", "lualatex")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sf_md", r"sf\_md"),
        ("50 %", r"50 \%"),
        ("a & b # c", r"a \& b \# c"),
        ("$x^2$", r"\$x\textasciicircum{}2\$"),
        ("{a}~b", r"\{a\}\textasciitilde{}b"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("78.5 ± 0.4 †", r"78.5 $\pm$ 0.4 \dag{}"),
        ("−0.40 ▼", r"$-$0.40 $\downarrow$"),
        ("1–3", "1--3"),
        ("a < b > c | d", r"a \textless{} b \textgreater{} c \textbar{} d"),
        ('say "x"', "say ''x''"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("∞", r"$\infty$"),
        ("/home/me/data/x.bin", r"\ldots{}/x.bin"),
        ("dmrnet[alpha=1e-3]", "dmrnet[alpha=1e-3]"),
    ],
)
def test_special_characters(text: str, expected: str) -> None:
    assert tex(text) == expected


def document(*rows: tuple[str, ...], paper: bool = True) -> Document:
    table = Table(("method", "value", "note"), rows, "What it shows", paper)
    return Document("a_b", "", (Section("S", "lead", (Paragraph("text"), table)),))


def test_a_table_with_booktabs() -> None:
    lines = latex(document((Strong("x_1"), "+1.5", "yes"), ("y", "–", "no"))).splitlines()
    start = lines.index(r"\begin{table}")
    assert lines[start + 1 :] == [
        r"\centering",
        r"\caption{a\_b: What it shows}\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{lrl}",
        r"\toprule",
        r"method & value & note \\",
        r"\midrule",
        r"\textbf{x\_1} & +1.5 & yes \\",
        r"y & -- & no \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


def test_only_tables_for_a_paper_with_rows() -> None:
    assert r"\begin{table}" not in latex(document(("x", "1", ""), paper=False))
    assert r"\begin{table}" not in latex(document())


def test_a_label_is_no_argument_of_the_line_before() -> None:
    # \\[x] would be a distance, and \\* forbids a page break.
    text = latex(document(("[x]", "1", ""), ("*", "2", "")))
    assert "\n{}[x] & 1 &" in text and "\n{}* & 2 &" in text


def test_the_report_of_a_study(tmp_path: Path) -> None:
    text = report(tmp_path)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") >= 5
    assert r"\textbf{hemis} & 1 & \textbf{85.0 $\pm$ 0.0} & a &" in text
    # Every line of a table has as many cells as columns.
    for columns, body in re.findall(
        r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines and all(
            len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 for line in lines
        )
    assert all(ord(character) < 128 for character in text)


@pytest.mark.skipif(
    ENGINE is None, reason="no TeX (pdflatex, tectonic, xelatex or lualatex) is installed here"
)
def test_a_real_tex_reads_it(tmp_path: Path) -> None:
    (tmp_path / "report.tex").write_text(report(tmp_path))
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    body = r"\begin{document}\input{report.tex}\end{document}"
    (tmp_path / "main.tex").write_text(rf"\documentclass{{article}}{packages}{body}")
    assert ENGINE is not None
    options = (
        [] if Path(ENGINE).name == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    )
    done = subprocess.run(
        [ENGINE, *options, "main.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000


def report(folder: Path) -> str:
    """The tables of a study with a leader."""
    plan, store = planned(folder / "runs", "seeds=[0,1,2]", "methods=[sf_md,hemis]")
    for label, start in (("sf_md", 24), ("hemis", 42)):
        for seed in (0, 1, 2):
            write_trial(plan, store, label, seed, ladder(start))
    return (write_report(plan, store).folder / "report.tex").read_text()
