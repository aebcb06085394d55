"""Where a study's runs are in MLflow's UI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.reporting.document import Link
from harness.reporting.sections.runs import Address, TrackedRuns

LOCAL = "http://127.0.0.1:5000"
"""Where the UI of a database is opened, unless MLflow is started with another address."""

OPENED = (
    "The UI is opened by `mlflow ui --backend-store-uri sqlite:///OUTPUT/mlflow.db`, with the "
    "study's output folder in OUTPUT; an address below is what follows the server's "
    f"(`{LOCAL}/`)."
)


@dataclass(frozen=True)
class Addresses:
    """The ids that a server has given: ``trials`` by trial id, ``rows`` by label."""

    experiment: str
    study: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, str] = field(default_factory=dict)

    def runs(self, view: str, charts: bool = False) -> str:
        """The page of runs with a saved view."""
        mode = "&compareRunsMode=CHART" if charts else ""
        page = f"#/experiments/{self.experiment}/runs"
        return f"{page}?viewStateShareKey={view}{mode}&workflowType=machine_learning"

    def run(self, run_id: str, page: str = "") -> str:
        """The page of one run."""
        return f"#/experiments/{self.experiment}/runs/{run_id}{page}"

    def tracked(self, server: str | None) -> TrackedRuns:
        """The runs for the report; without a server, addresses are what follows the server's."""

        def address(run: str) -> Address:
            page = self.run(run)
            return page if server is None else Link(run, f"{server.rstrip('/')}/{page}")

        return TrackedRuns(
            "MLflow",
            OPENED if server is None else f"On {server}.",
            {label: address(run) for label, run in self.rows.items()},
            {trial: address(run) for trial, run in self.trials.items()},
        )
