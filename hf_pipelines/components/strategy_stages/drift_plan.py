"""Drift plan: what is called drift of a strategy, and what an alarm may ask for.

Lives here: its part of the plan. Does not live here: the YAML (`drift_fields`), the asset (`drift`).
"""

from dataclasses import dataclass, field

from hf_pipelines.research.drift.judgement import ERROR
from hf_pipelines.research.drift.triggers import Triggers

WINDOW_SESSIONS = 63


@dataclass(frozen=True)
class DriftPlan:
    """How drift is judged, and what an alarm asks for.

    Attributes
    ----------
    window_sessions : int
        Newest sessions that are held to those of training.
    family_error : float
        Share of days on which any column is called, if nothing has changed.
    triggers : Triggers
        Alarms that ask for a refit; the asset is the same whatever they are.
    """

    window_sessions: int = WINDOW_SESSIONS
    family_error: float = ERROR
    triggers: Triggers = field(default_factory=Triggers)
