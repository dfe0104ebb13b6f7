"""Sweep plan: what a strategy with a sweep tries.

Lives here: its part of the plan. Does not live here: the YAML (`sweep_fields`), the asset (`sweep`).
"""

from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.tuning.samplers import draw_ahead, sampler_of
from hf_pipelines.research.tuning.space import Space, Value


@dataclass(frozen=True)
class SweepPlan:
    """A sweep of each week.

    Attributes
    ----------
    space : Space
        Names below `rule` and `costs`.
    sampler : str
        A key of `SAMPLERS` that looks at no result.
    n_points : int
        Of a sampler that draws.
    seed : int
    choice : {"best", "plateau"}
    deadline_s : float or None
    """

    space: Space
    sampler: str
    n_points: int
    seed: int
    choice: str
    deadline_s: float | None

    @property
    def is_grid(self) -> bool:
        """Whether every point of the space is tried."""
        return self.sampler == "grid"

    def points(self) -> list[dict[str, Value]]:
        """In the order in which they are tried; what is drawn twice is tried once."""
        drawn = draw_ahead(sampler_of(self.sampler), self.space, seed=self.seed, batch=1, trials=self.n_points)
        seen: dict[str, dict[str, Value]] = {}
        for each in drawn:
            seen.setdefault(repr(each), each)
        return [*seen.values()]

    def fields(self) -> dict[str, Any]:
        """For code versions."""
        return {
            "space": self.space.to_json(),
            "sampler": self.sampler,
            "points": self.n_points,
            "seed": self.seed,
            "choice": self.choice,
            "deadline_s": self.deadline_s,
        }
