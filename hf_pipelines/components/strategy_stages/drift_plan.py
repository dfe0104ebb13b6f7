"""Drift plan: what is called drift of a strategy, and what an alarm may ask for.

Lives here: its part of the plan. Does not live here: the YAML (`drift_fields`), the asset (`drift`).
"""

from dataclasses import dataclass

from hf_pipelines.research.drift.judgement import ERROR

WINDOW_SESSIONS = 63


@dataclass(frozen=True)
class DriftPlan:
    """How drift is judged.

    Attributes
    ----------
    window_sessions : int
        Newest sessions that are held to those of training.
    family_error : float
        Share of days on which any column is called, if nothing has changed.
    """

    window_sessions: int = WINDOW_SESSIONS
    family_error: float = ERROR
