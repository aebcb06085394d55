"""Where a study's runs are in MLflow's UI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Addresses:
    """Where things are in MLflow's UI: the ids that a server has given. ``trials`` is by trial id,
    ``rows`` by label.
    """

    experiment: str
    study: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, str] = field(default_factory=dict)

    def runs(self, view: str, charts: bool = False) -> str:
        """The page of runs with a saved view."""
        mode = "&compareRunsMode=CHART" if charts else ""
        return f"#/experiments/{self.experiment}/runs?viewStateShareKey={view}{mode}&workflowType=machine_learning"

    def run(self, run_id: str, page: str = "") -> str:
        """The page of one run."""
        return f"#/experiments/{self.experiment}/runs/{run_id}{page}"
