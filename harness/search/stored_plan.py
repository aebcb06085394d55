"""The plan that a report or an archive of a study needs; neither needs the study's data."""

from __future__ import annotations

from harness.search.journal import with_winners
from harness.store import Store
from harness.study.plan import Plan
from harness.study.recorded_data import plan_with_recorded_data
from harness.study.settings import Study


def plan_of(study: Study, store: Store) -> Plan:
    """The study's plan with the rows that its search has found.

    Without its data, what the store recorded about them stands for them; UserError as in
    ``plan_with_recorded_data``.
    """
    return with_winners(plan_with_recorded_data(study, store))
