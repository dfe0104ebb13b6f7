"""Intervals of a strategy's YAML: which method, how much they should hold, and what they need of the rest of the file.

Lives here: the field `intervals` and its rules. Does not live here: the other fields (`strategy_fields`), the methods
(`research.intervals`).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field, model_validator

from hf_pipelines.research.intervals import INTERVALS, ChosenIntervals, choose_intervals
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.ranges import ranged


class IntervalsSpec(dg.Model, dg.Resolvable):
    """A key of INTERVALS, the share of the outcomes that intervals should hold, and the method's parameters."""

    method: str = Field(description="How bounds are made: a key of INTERVALS.")
    coverage: float = Field(default=0.9, description="Share of the outcomes that should lie inside.")
    params: Mapping[str, Any] = Field(
        default_factory=dict, description="Parameters of the method that differ from the defaults."
    )

    _share = ranged("coverage", low=0.5, high=0.999)

    @model_validator(mode="after")
    def _check(self) -> "IntervalsSpec":
        try:
            self.choice()
        except TypeError as e:
            raise ValueError(str(e)) from e
        return self

    def choice(self) -> ChosenIntervals:
        """What it names, checked."""
        return choose_intervals(self.method, coverage=self.coverage, params=self.params)

    def require_fitting(self, learner: LearnerChoice, target: Target, splitter: str) -> None:
        """Refuse a method for another task, one whose quantiles nothing predicts, and folds without earlier ones.

        Raises
        ------
        ValueError
        """
        method = INTERVALS[self.method]
        task = "classification" if target.is_classification else "regression"
        if method.task != task:
            able = " or ".join(name for name, each in INTERVALS.items() if each.task == task)
            raise ValueError(
                f"`intervals.method` must be for the target {target.name!r}, a {task}, was {self.method!r}; take {able}."
            )
        levels = [f"{level:g}" for level in method.levels(self.coverage)]
        predicted = learner.prediction_columns(target.classes)
        if lacking := [level for level in levels if f"quantile_{level}" not in predicted]:
            raise ValueError(
                f"`intervals.method` must have quantiles {' and '.join(levels)} of the learner to be {self.method} with coverage "
                f"{self.coverage:g}, was without {' and '.join(lacking)}; give a learner that predicts quantiles `quantiles: "
                f"[{', '.join(levels)}]`, or take the method split."
            )
        if SPLITTERS[splitter].trains_on_later:
            able = ", ".join(name for name, each in SPLITTERS.items() if not each.trains_on_later)
            raise ValueError(
                f"`intervals` must have folds that are trained on the past alone, was with cross_validation {splitter!r}, whose folds "
                f"have no earlier ones; take {able}, or leave `intervals` out."
            )
