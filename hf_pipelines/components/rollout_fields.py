"""Rollout of a strategy's YAML: how a challenger is given capital.

Lives here: the fields. Does not live here: what is made of them (`research.promotion.rollout`).
"""

import dagster as dg
from pydantic import Field

from hf_pipelines.research.promotion.rollout import RolloutSettings
from hf_pipelines.resources.ranges import ranged

_DEFAULTS = RolloutSettings()


class RolloutSpec(dg.Model, dg.Resolvable):
    """How a challenger is given capital, step by step: read when a rollout is started, and kept by it until it ends."""

    shadow_sessions: int = Field(
        default=_DEFAULTS.shadow_sessions, description="Matured sessions before the challenger gets any capital."
    )
    block_sessions: int = Field(
        default=_DEFAULTS.block_sessions,
        description="Sessions that are one observation of the test; more of them where differences of returns persist for longer.",
    )
    level: float = Field(
        default=_DEFAULTS.level,
        description="Probability with which a challenger that earns no more than the champion reaches 100 %, at most.",
    )
    worse_level: float = Field(
        default=_DEFAULTS.worse_level,
        description="Probability with which a challenger that earns no less is stopped by the test, at most.",
    )
    max_drawdown: float = Field(
        default=_DEFAULTS.max_drawdown,
        description="Loss of the challenger from its peak since the start at which it is stopped; 0.2 is 20 %.",
    )

    _shadow = ranged("shadow_sessions", low=0, high=2_600)
    _block = ranged("block_sessions", low=1, high=63)
    _levels = ranged("level", "worse_level", low=1e-6, high=0.5)
    _drawdown = ranged("max_drawdown", low=0.0, high=1.0, above=True)

    def settings(self) -> RolloutSettings:
        """The same for the rule."""
        return RolloutSettings(**self.model_dump())
