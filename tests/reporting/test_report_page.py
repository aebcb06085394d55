"""report.html as a browser reads it: well-formed, alone, escaped, sortable, in light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from harness.reporting.document import (
    Bullets,
    Code,
    Document,
    Facts,
    Figure,
    Paragraph,
    Section,
    Strong,
    Table,
    readable,
)
from harness.reporting.figures import curves
from harness.reporting.html import html
from harness.reporting.html_page import SCRIPT
from harness.reporting.markdown import markdown
from tests.support.handmade import MARKS, ladder, planned, write_trial
from tests.support.reports import write_report

DRAWN = ("ranking", "heatmap", "forest", "present", "presence", "risk", "pareto")
"""The drawings of a page, in order."""

VOID = {"meta", "br", "wbr", "hr", "img", "input", "link"}
NASTY = "<script>alert(1)</script> & \"x\" 'y' $1"


class Page(HTMLParser):
    """The elements of a page, its texts, and what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"th", "td"}:
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.titles.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data
        elif "h2" in self.open:
            self.titles[-1] += data


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a study with one row whose label is an attack."""
    label = json.dumps(NASTY)
    plan, store = planned(
        tmp_path_factory.mktemp("page"),
        "seeds=[0,1,2]",
        f"methods=[sf_md,hemis,{{method: dmrnet, label: {label}}}]",
    )
    for at, row in enumerate(plan.rows):
        for seed in (0, 1, 2):
            write_trial(plan, store, row.label, seed, ladder(6 + 18 * at))
    return (write_report(plan, store, ["study=quickstart"]).folder / "report.html").read_text()


def test_the_page_is_whole(text: str) -> None:
    page = Page(text)
    assert page.wrong == [] and page.open == []
    names = [name for _, attributes in page.elements if (name := attributes.get("id"))]
    assert len(names) == len(set(names)) > 100
    targets = [
        a[key][1:]
        for _, a in page.elements
        for key in ("href", "xlink:href")
        if (a.get(key) or "").startswith("#")
    ]  # type: ignore[index]
    targets += re.findall(r"url\(#([^)]+)\)", text)
    assert targets and set(targets) <= set(names)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)


def test_the_page_needs_nothing_else(text: str) -> None:
    page = Page(text)
    loading = [
        (tag, key, value)
        for tag, a in page.elements
        for key, value in a.items()
        if key in {"src", "href", "xlink:href", "data"}
    ]
    assert loading and all((value or "").startswith("#") for _, _, value in loading)
    assert not {tag for tag, _ in page.elements} & {
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "image",
    }
    assert (
        "@import" not in text
        and "fetch(" not in text
        and set(re.findall(r"url\((.)", text)) == {"#"}
    )
    (policy,) = [
        a["content"] or ""
        for tag, a in page.elements
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    # The only script that may run is the page's own, byte for byte.
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert (
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    )


def test_text_of_others_is_text(text: str) -> None:
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "alert(1)</script>" not in text
    first_columns = {row[0] for table in page.tables for row in table}
    assert {"sf_md", "hemis", NASTY} <= first_columns


def test_sections_and_tables_of_the_page(text: str) -> None:
    page = Page(text)
    assert page.titles[:5] == [
        "Answer",
        "Ranking",
        "Presence profile",
        "Result",
        "Differences",
    ]
    # 6, 24 and 42 correct of 60 for the first combination, 9 more on average: 25, 55 and 85 %.
    ranking = page.tables[0]
    assert [row[:4] for row in ranking[1:]] == [
        [NASTY, "1", "85.0 ± 0.0", "a"],
        ["hemis", "2", "55.0 ± 0.0", "b"],
        ["sf_md", "3", "25.0 ± 0.0", "c"],
    ]
    # Behind the table that the sliders fill.
    assert page.tables[2][0] == ["method", *MARKS, "average", "worst"]
    drawings = [
        a["id"]
        for tag, a in page.elements
        if tag == "g" and (a.get("id") or "").endswith("-figure_1")
    ]
    assert drawings == [f"{name}-figure_1" for name in DRAWN]


def test_each_section_opens_with_a_sentence_and_shows_before_it_lists(text: str) -> None:
    """A sentence of what is seen; of a section's pictures and tables the first is a picture."""
    sections = re.findall(r"<section id=.*?</section>", text, re.DOTALL)
    assert len(sections) > 15
    pictured = 0
    for section in sections:
        below = re.match(
            r'<section id="[\w-]+">\s*<h2>.*?</h2>\s*<p class="lead">(.*?)</p>', section
        )
        assert below is not None, section[:200]
        assert below[1].endswith((".", ":")), below[1]
        picture, table = section.find("<svg"), section.find("<table")
        pictured += picture >= 0
        assert picture < 0 or table < 0 or picture < table, section[:200]
    assert pictured == 5


def test_phone_light_and_dark(text: str) -> None:
    page = Page(text)
    views = [a["content"] for tag, a in page.elements if a.get("name") == "viewport"]
    assert views == ["width=device-width, initial-scale=1"]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", part))
        for part in re.findall(r":root \{(.*?)\}", style[1])
    )
    assert light.keys() == dark.keys() and "@media (prefers-color-scheme: dark)" in style[1]
    for theme in (light, dark):
        for ink in ("ink", "link"):
            for ground in ("page", "soft"):
                assert contrast(theme[ink], theme[ground]) >= 4.5  # WCAG AA for text
    # The ink of drawings is the page's.
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "#222222" not in drawings and "var(--ink)" in drawings
    # Whatever is wide scrolls in itself, so that the page does not.
    assert text.count('<div class="scroll"') == len(page.tables) + len(DRAWN)
    # A phone of 390 pixels has 268 points beside its margins; the heat map may scroll.
    least = [int(width) for width in re.findall(r"--least: (\d+)pt", text)]
    assert len(least) == len(DRAWN) and sorted(least)[-2] <= 268


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def test_labels_stay_what_they_are_in_drawings() -> None:
    """matplotlib hides labels with a leading underscore, reads $ as mathematics, and warns of
    letters that its font lacks.
    """
    labels = ["_hidden", "a$b$ c_1^2", "方法", "x < y & z"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = curves(
            "n", {label: ([0.0, 1.0], [1.0, 2.0 + at]) for at, label in enumerate(labels)}, "x", "y"
        )
    texts = {
        "".join(node.itertext()).strip("\u200b \n")
        for node in ET.fromstring(drawn("")).iter()
        if node.tag.endswith("}text")
    }
    assert set(labels) <= texts


def test_more_columns_than_can_be_read_become_rows() -> None:
    wide = Table(
        ("method", *(f"c{at}" for at in range(31)), "average"),
        tuple((name, *map(str, range(31)), "15.0") for name in ("x", Strong("y"))),
        "what",
        paper=True,
    )
    tall = readable(wide)
    assert tall.header == ("method", "x", "y") and isinstance(tall.header[2], Strong)
    assert len(tall.rows) == 32 and tall.rows[30] == ("c30", "30", "30")
    assert tall.rows[-1] == ("average", "15.0", "15.0")
    assert (tall.caption, tall.paper) == ("what", True)
    # 15 combinations of four modalities, average and worst.
    narrow = Table(("method", *map(str, range(17))), (("x", *map(str, range(17))),))
    assert readable(narrow) is narrow


# ---------------------------------------------------------------------- forms of a document

DOCUMENT = Document(
    "a & b",
    "what /home/me/data/x.bin says",
    (
        Section(
            "One: <two>",
            "seen <here>",
            (Paragraph("p < 0.05 with `code`"), Bullets(()), Bullets(("x", "/tmp/a/b/y"))),
        ),
        Section(
            "Rows",
            "r leads",
            (
                Table(("m", "v|w"), ((Strong("r"), "1"), ("s", "−2"))),
                Facts("f", ("fact",), ("below",)),
                Code("a <b>"),
            ),
        ),
        Section(
            "Seen",
            "two pictures",
            (
                Figure("n", "<svg>{}</svg>".format, "t & u", "n.png"),
                Figure("o", "<svg>{}</svg>".format, "only here"),
            ),
        ),
    ),
)


def test_a_document_as_a_page() -> None:
    text = html(DOCUMENT)
    assert "<h1>a &amp; b</h1>" in text and "what …/x.bin says" in text
    assert (
        '<section id="one-two">\n<h2>One: &lt;two&gt;</h2>\n<p class="lead">seen &lt;here&gt;</p>'
        "\n<p>p &lt; 0.05 with"
        " <code>code</code></p>" in text
    )
    assert "<ul><li>none</li></ul>" in text and "<li>…/y</li>" in text
    assert '<tr><th scope="row"><strong>r</strong></th><td class="n">1</td></tr>' in text
    assert "<pre>a &lt;b&gt;</pre>" in text and "<figcaption>t &amp; u</figcaption>" in text
    assert 'http-equiv="refresh"' not in text and '<meta http-equiv="refresh" content="7">' in html(
        DOCUMENT, 7
    )


def test_a_document_as_markdown() -> None:
    assert markdown(DOCUMENT).split("\n\n") == [
        "# a & b",
        "what …/x.bin says",
        "## One: &lt;two>",
        "seen &lt;here>",
        "p < 0.05 with `code`",
        "none",
        "- x\n- …/y",
        "## Rows",
        "r leads",
        "| m     | v\\|w |\n| ----- | ---- |\n| **r** | 1    |\n| s     | −2   |",
        "### f",
        "- fact\n  - below",
        "```\na <b>\n```",
        "## Seen",
        "two pictures",
        "![t & u](n.png)\n",
    ]


# ---------------------------------------------------------------------- the script

NODE = shutil.which("node")


def sorted_by_script(texts: Sequence[str], sign: int) -> list[str]:
    """Texts in the order that the page's script gives a column's cells."""
    functions = SCRIPT.split("for (const head", 1)[0]
    program = (
        f"{functions}\nprocess.stdout.write(JSON.stringify({json.dumps(texts)}.sort((a, b) =>"
        f" compare(a, b, {sign}))));"
    )
    assert NODE is not None
    done = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(NODE is None, reason="no node here to run the page's script")
@pytest.mark.parametrize(
    ("rising", "absent"),
    [
        (["−12.17 ▼", "−0.40", "0.00", "+1.46", "+10.00 ▲"], ["–"]),
        (["9.4", "12.5 ± 0.3", "50.0 †", "100.0"], ["–", ""]),
        (["999", "22,874", "208,173", "1,000,000"], []),
        (["< 0.001", "0.038", "1.000"], []),
        (["3", "12", "∞"], ["–"]),
        (["1", "2–12", "13–14"], []),
        (["dmrnet", "hemis", "sf_md"], []),
    ],
)
def test_the_script_sorts_numbers_as_numbers(rising: list[str], absent: list[str]) -> None:
    mixed = [*absent, *rising[::2], *rising[1::2]]
    assert sorted_by_script(mixed, 1) == [*rising, *absent]
    # What is absent stays last.
    assert sorted_by_script(mixed, -1)[: len(rising)] == rising[::-1]


BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.mark.skipif(BROWSER is None, reason="no headless Chromium on this machine")
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_a_browser_shows_it(text: str, tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "report.html").write_text(text)
    window = f"--window-size={size[0]},{size[1]}"
    options = [
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        window,
        f"--screenshot={tmp_path / 'shot.png'}",
    ]
    assert BROWSER is not None
    subprocess.run(
        [BROWSER, *options, f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    image = imread(tmp_path / "shot.png")
    assert image.shape[:2] == (size[1], size[0])
    # Text and boxes: many colours, the ground in most places.
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20


def test_the_page_is_kept_where_it_was(tmp_path: Path) -> None:
    plan, store = planned(tmp_path, "seeds=[0]", "methods=[sf_md]")
    write_trial(plan, store, "sf_md", 0, ladder(30))
    first = write_report(plan, store)
    before = [path.read_bytes() for path in first.paths]
    assert [path.read_bytes() for path in write_report(plan, store).paths] == before
    assert (first.folder / "report.html") == tmp_path / "quickstart" / "report.html"
