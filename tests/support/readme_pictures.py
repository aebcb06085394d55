"""Makes the two pictures of the top README from a finished quick start.

python -m tests.support.readme_pictures RUNS

RUNS is the output folder of the quick start: it holds quickstart/report.html and mlflow.db.
Needs playwright and an installed Chromium. Called by hand, when the report or MLflow looks
different from README-report.png and README-mlflow.png; tests/test_readmes.py calls it too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from PIL import Image

from harness import PROJECT
from tests.support.browser import chromium

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


@contextmanager
def server(database: Path) -> Iterator[str]:
    """The address of an MLflow that shows a database, as long as it is needed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [
        *(str(Path(sys.executable).parent / "mlflow"), "ui"),
        *("--backend-store-uri", f"sqlite:///{database.resolve()}"),
        *("--port", str(port), "--workers", "1"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command,
        env=os.environ | quiet,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def wait_until_healthy(address: str) -> None:
    """Wait until the server answers; TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("MLflow did not answer")


def mlflow(browser: Any, runs: Path, file: Path) -> None:
    """Show MLflow's page of runs at the address that a run prints: one run per method."""
    with server(runs / "mlflow.db") as address:
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
