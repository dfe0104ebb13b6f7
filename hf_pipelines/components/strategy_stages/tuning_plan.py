"""Tuning plan: the folds of a strategy, and what a strategy with a study tries.

Lives here: these parts of the plan. Does not live here: the YAML (`tuning_fields`), the asset (`tuning`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.splitters import SPLITTERS, Splitter, build_splitter
from hf_pipelines.research.tuning import Design
from hf_pipelines.research.tuning.objectives import Bound, Wanted


@dataclass(frozen=True)
class SplitterPlan:
    """A key of `SPLITTERS` and every parameter of it."""

    name: str
    params: Mapping[str, Any]

    def build(self) -> Splitter:
        return build_splitter(self.name, self.params)

    @property
    def trains_on_later(self) -> bool:
        """Whether folds are trained on data after their test rows."""
        return SPLITTERS[self.name].trains_on_later


@dataclass(frozen=True)
class TuningPlan:
    """A study of each week.

    Attributes
    ----------
    design : Design
    wanted : tuple of Wanted
        Its objectives.
    bounds : tuple of Bound
    splitter : SplitterPlan
        Of the study's folds.
    is_nested : bool
        Whether each outer fold has a study of its own.
    is_adaptive : bool
        Whether the space is narrowed around the best of the week before.
    """

    design: Design
    wanted: tuple[Wanted, ...]
    bounds: tuple[Bound, ...]
    splitter: SplitterPlan
    is_nested: bool
    is_adaptive: bool

    @property
    def needs_account(self) -> bool:
        """Whether trials are traded."""
        return bool(self.bounds) or any(each.objective.source == "account" for each in self.wanted)

    def fields(self) -> dict[str, Any]:
        """For code versions, hashes and the ledger."""
        return {
            "design": self.design.to_json(),
            "wanted": [[each.name, each.less_deviations] for each in self.wanted],
            "constraints": {each.name: each.limit for each in self.bounds},
            "cross_validation": [self.splitter.name, dict(self.splitter.params)],
            "nested": self.is_nested,
            "adaptive": self.is_adaptive,
        }
