"""Makes the two pictures of the top README from a finished quick start.

python -m tests.support.readme_pictures RUNS

RUNS is the output folder of the quick start: it holds quickstart/report.html and mlflow.db.
Needs playwright and an installed Chromium. Called by hand, when the report or MLflow looks
different from README-report.png and README-mlflow.png; tests/test_readmes.py calls it too.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from PIL import Image

from harness import PROJECT
from tests.support.browser import chromium
from tests.support.mlflow_server import mlflow_server

REPORT, MLFLOW = "README-report.png", "README-mlflow.png"
COLOURS = 256
"""Enough for text and bars; a full palette would make the files three times larger."""

STUDY, VIEW = "quickstart", "harness-methods"
PATIENCE = 60_000
"""Milliseconds that a page may take on a busy machine."""


def save(screenshot: bytes, file: Path) -> None:
    """Write a screenshot with few colours."""
    picture = Image.open(BytesIO(screenshot)).convert("RGB")
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
    print(f"{file.name}: {few.width}x{few.height}, {file.stat().st_size // 1024} KB")


def report(browser: Any, runs: Path, file: Path) -> None:
    """Show the head of report.html: the answer, the ranking and the table."""
    page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
    page.goto((runs / STUDY / "report.html").resolve().as_uri())
    end = page.locator("table").nth(1).bounding_box()
    height = int(end["y"] + end["height"]) + 16
    area = {"x": 0, "y": 0, "width": 1000, "height": height}
    save(page.screenshot(clip=area, full_page=True), file)


def mlflow(browser: Any, runs: Path, file: Path) -> None:
    """Show MLflow's page of runs at the address that a run prints: one run per method."""
    database = f"sqlite:///{(runs / 'mlflow.db').resolve()}"
    with mlflow_server(["ui", "--backend-store-uri", database]) as address:
        query = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={STUDY}"
        with urlopen(query) as answer:
            experiment = json.load(answer)["experiment"]["experiment_id"]
        page = browser.new_page(viewport={"width": 1280, "height": 410}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/#/experiments")
        page.get_by_text("Model training").first.click()
        page.goto(
            f"{address}/#/experiments/{experiment}/runs"
            f"?viewStateShareKey={VIEW}&workflowType=machine_learning"
        )
        page.locator(".ag-root-wrapper").get_by_role("link", name="hemis", exact=True).wait_for()
        # What MLflow puts in the way on a first visit.
        page.get_by_label("Hide banner").click()
        page.get_by_label("Toggle sidebar").click()
        page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]').click()
        page.wait_for_timeout(2000)
        save(page.screenshot(), file)


def make(runs: Path, folder: Path) -> None:
    """Make both pictures in a folder."""
    with chromium() as browser:
        report(browser, runs, folder / REPORT)
        mlflow(browser, runs, folder / MLFLOW)


if __name__ == "__main__":
    make(Path(sys.argv[1]), PROJECT)
