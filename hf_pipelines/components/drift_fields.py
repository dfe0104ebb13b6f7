"""Drift of a strategy's YAML: how drift is judged.

Lives here: the fields. Does not live here: what is made of them (`strategy_stages.drift`).
"""

import dagster as dg
from pydantic import Field

from hf_pipelines.components.strategy_stages.drift_plan import DriftPlan
from hf_pipelines.resources.ranges import ranged

_DEFAULTS = DriftPlan()


class DriftSpec(dg.Model, dg.Resolvable):
    """How drift is judged, day by day."""

    window_sessions: int = Field(
        default=_DEFAULTS.window_sessions,
        description="Newest sessions that are held to those of training; fewer where training does not hold 13 such windows.",
    )
    family_error: float = Field(
        default=_DEFAULTS.family_error,
        description="Share of days on which any feature or output is called, if nothing has changed; 0.05 is one in twenty.",
    )

    _window = ranged("window_sessions", low=5, high=520)
    _error = ranged("family_error", low=0.0, high=0.5, above=True)

    def plan(self) -> DriftPlan:
        """The same for the asset."""
        return DriftPlan(**self.model_dump())
