"""Labels and reasons are whatever somebody called them: shown in reports, never done."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harness.reporting.document import Bullets, Code, Document, Paragraph, section, table
from harness.reporting.markdown import markdown
from harness.reporting.publish import make_report
from tests.support.handmade import ladder, planned, write_trial

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)"]
TAG = "<img src=x onerror=alert(1)>"


def test_no_cell_of_report_csv_is_a_formula_and_every_number_is_one(tmp_path: Path) -> None:
    rows = ",".join(f'{{method: sf_md, label: "{label}"}}' for label in FORMULAS)
    labels = [*FORMULAS, "hemis"]
    plan, store = planned(tmp_path, f"methods=[{rows},hemis]", "seeds=[0]")
    for label in labels:
        write_trial(plan, store, label, 0, ladder(20))
    report = make_report([plan], store).write()
    with (report.folder / "report.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    found = list(dict.fromkeys(line["label"] for line in lines))
    assert found == [*(f"'{label}" for label in FORMULAS), "hemis"]
    for line in lines:
        texts = [cell for name, cell in line.items() if name != "value"]
        assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@"))]
        assert line["value"] == "" or float(line["value"]) >= 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TAG, TAG.replace("<", "&lt;")),
        ("</b><script>x", "&lt;/b>&lt;script>x"),
        ("<!-- x", "&lt;!-- x"),
        ("p < 0.05 and 3 <4", "p < 0.05 and 3 <4"),
        ("`<OUTPUT>/store`", "`<OUTPUT>/store`"),
        # Two backticks are closed by two: what one would close is no code to Markdown.
        (f"``{TAG}`", f"``{TAG}`".replace("<", "&lt;")),
        (f"`{TAG}", f"`{TAG}".replace("<", "&lt;")),
    ],
)
def test_markdown_shows_html_wherever_it_stands(text: str, shown: str) -> None:
    parts = section(
        text, text, Paragraph(text), Bullets((text,)), table([text], [[text]], text), Code("a <b>")
    )
    written = markdown(Document(text, text, (parts,)))
    assert written.count(shown) >= 8
    assert shown == text or text not in written
    assert "```\na <b>\n```" in written


def test_a_label_with_html_in_report_md(tmp_path: Path) -> None:
    label = "<script>alert(1)</script>"
    plan, store = planned(
        tmp_path, f'methods=[{{method: sf_md, label: "{label}"}},hemis]', "seeds=[0]"
    )
    for name in (label, "hemis"):
        write_trial(plan, store, name, 0, ladder(20))
    report = make_report([plan], store).write()
    text = (report.folder / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script>alert(1)" in text
