"""Figures of the report as SVG that lies inside a page: charts of rows, sensors that get worse, the
search.
"""

from __future__ import annotations

from harness.reporting.figures.charts import bars, curves, forest, heatmap_drawing, scatter
from harness.reporting.figures.search import grid_surface, point_surface, search_curve
from harness.reporting.figures.sensors import Panel, trust_panels

__all__ = [
    "Panel",
    "bars",
    "curves",
    "forest",
    "grid_surface",
    "heatmap_drawing",
    "point_surface",
    "scatter",
    "search_curve",
    "trust_panels",
]
