"""The report's section that leads to MLflow: the run of each row and of each trial."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Results
from harness.reporting.document import Link, Paragraph, Section, section, table
from harness.tracking.mlflow.addresses import Addresses

BELOW = (
    "The UI is opened by `mlflow ui --backend-store-uri sqlite:///OUTPUT/mlflow.db`, with the study's output folder in OUTPUT; "
    "an address below is what follows the server's (`http://127.0.0.1:5000/`)."
)


def runs(results: Results, where: Addresses, server: str | None) -> Section:
    """Where the runs are; ``server`` is the address of a tracking server, None for a database
    without one.
    """
    lines = [
        _line(label, "mean over seeds", where.rows[label], where, server)
        for label in _labels(results)
        if label in where.rows
    ]
    for done in results.finished:
        run = where.trials.get(done.trial.id)
        if run is not None:
            lines.append(_line(done.trial.row.label, done.trial.job.name, run, where, server))
    found = table(["method", "run", "address in MLflow"], lines, "Runs in MLflow")
    return section("Runs in MLflow", Paragraph(BELOW if server is None else f"On {server}."), found)


def _labels(results: Results) -> list[str]:
    return [row.label for row in results.plan.rows]


def _line(label: str, name: str, run: str, where: Addresses, server: str | None) -> Sequence[str]:
    address = where.run(run)
    return [
        label,
        name,
        address if server is None else Link(run, f"{server.rstrip('/')}/{address}"),
    ]
