"""report.html as a browser shows it: wide, on a phone, in the dark, sorted, without an error and
without a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import chromium
from tests.support.handmade import ladder, planned, write_trial
from tests.support.reports import write_report

pytestmark = pytest.mark.slow
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan, store = planned(
        tmp_path_factory.mktemp("browser"), "seeds=[0,1,2]", "methods=[sf_md,hemis,dmrnet]"
    )
    for label, start in (("sf_md", 24), ("hemis", 42), ("dmrnet", 6)):
        for seed in (0, 1, 2):
            write_trial(plan, store, label, seed, ladder(start))
    return write_report(plan, store, ["study=quickstart"]).folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def opened(
    browser: Any, path: Path, size: tuple[int, int], scheme: str = "light"
) -> tuple[Any, list[str]]:
    """The page, and everything that the browser complained about or asked the network for."""
    page = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    ).new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    return page, heard


@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_asks_for_nothing(
    browser: Any, page_file: Path, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    page, heard = opened(browser, page_file, size, scheme)
    assert heard == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.screenshot(path=tmp_path / "seen.png")
    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("L"))
    # The ground is light or dark, and there is text on it.
    assert (np.median(seen) > 200) == (scheme == "light") and seen.std() > 10


def test_the_answer_is_seen_first(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file, PHONE)
    answer = page.locator("#answer p").first
    assert "hemis is the best of 3 rows" in answer.inner_text()
    assert answer.bounding_box()["y"] < PHONE[1]


def test_a_click_sorts_a_table_by_a_column(browser: Any, page_file: Path) -> None:
    page, heard = opened(browser, page_file, WIDE)
    table = page.locator("#result table").first
    first = "table => [...table.tBodies[0].rows].map(row => row.cells[0].textContent)"
    assert table.evaluate(first) == ["sf_md", "hemis", "dmrnet"]
    average = table.locator("thead button", has_text="average")
    average.click()
    assert table.evaluate(first) == ["dmrnet", "sf_md", "hemis"]
    average.click()
    assert table.evaluate(first) == ["hemis", "sf_md", "dmrnet"] and len(heard) == 1


def test_figures_are_drawn_in_the_ink_of_the_page(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file, WIDE, "dark")
    figures = page.locator("figure svg")
    assert figures.count() >= 5
    ink = page.evaluate("getComputedStyle(document.body).color")
    drawn = page.evaluate(
        "[...document.querySelectorAll('figure svg *')].map(e => [getComputedStyle(e).fill,"
        " getComputedStyle(e).stroke]).flat()"
    )
    assert ink == "rgb(230, 230, 230)" and ink in drawn


def test_sliders_give_means_at_once(browser: Any, page_file: Path) -> None:
    """With the keyboard alone: all modalities half of the time is the average; then never a thumb
    or a spectrum, so that the profile alone is left.
    """
    page, heard = opened(browser, page_file, PHONE)
    box = page.locator("fieldset.presence")
    cells = "table => [...table.tBodies[0].rows].map(row => row.cells[1].textContent)"
    table = box.locator("table")
    # 24, 42 and 6 correct of 60 on the first combination, 9 more on average, 6 more on the third
    assert table.evaluate(cells) == ["85.0", "55.0", "25.0"]
    assert table.evaluate("table => table.tBodies[0].rows[0].cells[0].textContent") == "hemis"
    for at in (0, 1):
        slider = box.locator("input[type=range]").nth(at)
        slider.focus()
        page.keyboard.press("Home")
    assert table.evaluate(cells) == ["80.0", "50.0", "20.0"]
    box.locator("input[type=range]").nth(2).focus()
    page.keyboard.press("ArrowLeft")
    assert box.locator(".nothing").inner_text() == "51 %"
    assert box.locator("pre").inner_text() == (
        "python -m harness.report study=quickstart report.presence.thumb=0"
        " report.presence.spectrum=0 report.presence.profile=0.49"
    )
    page.keyboard.press("Home")
    assert table.evaluate(cells) == ["–", "–", "–"]
    assert heard == [page_file.as_uri()]
