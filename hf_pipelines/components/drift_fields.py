"""Drift of a strategy's YAML: how drift is judged, and which alarms ask for a refit.

Lives here: the fields. Does not live here: what is made of them (`strategy_stages.drift`).
"""

from typing import Literal

import dagster as dg
from pydantic import Field, field_validator

from hf_pipelines.components.strategy_stages.drift_plan import DriftPlan
from hf_pipelines.research.drift.triggers import Triggers
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

    retrain_on: list[Literal["drift", "decay", "accuracy", "age"]] = Field(
        default=[],
        description=(
            "Alarms that ask for an extra run of the week under way, once each: drift of a feature or output; decay of the score; accuracy of "
            "the last 100 matured predictions below 0.5; age of the model above 14 days. Nothing is promoted by it."
        ),
    )
    cooldown_days: int = Field(
        default=_DEFAULTS.triggers.cooldown_days,
        description="Days after such a run in which no alarm asks for another.",
    )
    most_a_quarter: int = Field(
        default=_DEFAULTS.triggers.most_a_quarter, description="Such runs in a quarter of a year, at most."
    )

    _window = ranged("window_sessions", low=5, high=520)
    _error = ranged("family_error", low=0.0, high=0.5, above=True)

    _cooldown = ranged("cooldown_days", low=1, high=366)
    _most = ranged("most_a_quarter", low=1, high=92)

    @field_validator("retrain_on")
    @classmethod
    def _require_once(cls, kinds: list[str]) -> list[str]:
        if len({*kinds}) < len(kinds):
            raise ValueError(f"`retrain_on` must name each alarm once, was {kinds}; leave out what stands twice.")
        return kinds

    def plan(self) -> DriftPlan:
        """The same for asset and sensor."""
        triggers = Triggers(tuple(self.retrain_on), self.cooldown_days, self.most_a_quarter)
        return DriftPlan(self.window_sessions, self.family_error, triggers)
