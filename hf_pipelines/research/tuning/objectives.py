"""Objectives: what a study can follow, and which way each runs.

Lives here: `OBJECTIVES`, what of them a strategy names (`Wanted`), constraints. To add one: measure it (`evaluation`), and add a line. Does
not live here: what a score means (`metrics`, `overfitting`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from hf_pipelines.research.metrics.direction import QUANTILE_LOSS
from hf_pipelines.research.tuning.trials import Goal

# Where a number comes from: out-of-fold predictions, the account that follows them, or a fit on all rows.
Source: TypeAlias = Literal["predictions", "account", "fit"]


@dataclass(frozen=True)
class Objective:
    """A number that a configuration is judged by.

    Attributes
    ----------
    name : str
    is_better_higher : bool
    source : {"predictions", "account", "fit"}
    has_folds : bool
        Whether each fold has one, too.
    is_repeatable : bool
        Whether the same configuration gives the same number again.
    """

    name: str
    is_better_higher: bool
    source: Source
    has_folds: bool = True
    is_repeatable: bool = True


_HIGHER, _LOWER = True, False

OBJECTIVES: dict[str, Objective] = {
    each.name: each
    for each in (
        # Classes.
        Objective("log_loss", _LOWER, "predictions"),
        Objective("brier", _LOWER, "predictions"),
        Objective("accuracy", _HIGHER, "predictions"),
        Objective("balanced_accuracy", _HIGHER, "predictions"),
        Objective("precision", _HIGHER, "predictions"),
        Objective("recall", _HIGHER, "predictions"),
        Objective("f1", _HIGHER, "predictions"),
        Objective("auc", _HIGHER, "predictions"),
        # Returns.
        Objective("r2", _HIGHER, "predictions"),
        Objective("rmse", _LOWER, "predictions"),
        Objective("mse", _LOWER, "predictions"),
        Objective("mae", _LOWER, "predictions"),
        Objective("mape", _LOWER, "predictions"),
        Objective("directional_accuracy", _HIGHER, "predictions"),
        # Both.
        Objective("information_coefficient", _HIGHER, "predictions"),
        Objective("information_coefficient_ratio", _HIGHER, "predictions"),
        Objective("information_coefficient_t", _HIGHER, "predictions"),
        Objective("linear_information_coefficient", _HIGHER, "predictions"),
        # The account that follows the predictions.
        Objective("total_return", _HIGHER, "account"),
        Objective("annual_return", _HIGHER, "account"),
        Objective("annual_volatility", _LOWER, "account"),
        Objective("sharpe_ratio", _HIGHER, "account"),
        Objective("max_drawdown", _LOWER, "account"),
        Objective("hit_rate", _HIGHER, "account"),
        Objective("turnover_per_year", _LOWER, "account", has_folds=False),
        Objective("costs_total", _LOWER, "account", has_folds=False),
        # The Sharpe ratio after what was tried.
        Objective("probabilistic_sharpe_ratio", _HIGHER, "account", has_folds=False),
        Objective("deflated_sharpe_ratio", _HIGHER, "account", has_folds=False),
        # What a model costs to keep and to ask.
        Objective("artifact_bytes", _LOWER, "fit", has_folds=False),
        Objective("predict_seconds", _LOWER, "fit", has_folds=False, is_repeatable=False),
    )
}
"""Every objective, by name; losses of quantiles, `quantile_loss_<level>`, beside it."""

# Numbers that may be bounded.
BOUNDS: Mapping[str, Literal["at_most", "at_least"]] = {
    "max_drawdown": "at_most",
    "hit_rate": "at_least",
    "turnover_per_year": "at_most",
}


def objective_of(name: str) -> Objective:
    """An objective by its name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name.startswith(QUANTILE_LOSS):
        return Objective(name, _LOWER, "predictions")
    if name not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {', '.join(sorted(OBJECTIVES))}, was {name!r:.60}.")
    return OBJECTIVES[name]


@dataclass(frozen=True)
class Wanted:
    """An objective as a strategy asks for it.

    Attributes
    ----------
    name : str
    less_deviations : float
        So many standard deviations over the folds are taken off the mean, in the worse direction: what is good in one fold alone is
        worth less. Above 0 only where each fold has the number.
    """

    name: str
    less_deviations: float = 0.0

    def __post_init__(self) -> None:
        """Check that folds have it where it is asked for by fold."""
        if not (math.isfinite(self.less_deviations) and self.less_deviations >= 0):
            raise ValueError(f"`less_deviations` must be at least 0, was {self.less_deviations}.")
        if self.less_deviations and not self.objective.has_folds:
            able = ", ".join(sorted(name for name, each in OBJECTIVES.items() if each.has_folds))
            raise ValueError(
                f"`less_deviations` must be left out for {self.name}, which is no number of a fold, was {self.less_deviations}; "
                f"take one of {able}."
            )

    @property
    def objective(self) -> Objective:
        return objective_of(self.name)

    @property
    def goal(self) -> Goal:
        suffix = f"_less_{self.less_deviations:g}_deviations" if self.less_deviations else ""
        return Goal(self.name + suffix, self.objective.is_better_higher)

    def value(self, by_fold: Sequence[float], whole: float | None = None) -> float:
        """The objective of scores by fold; `whole` is the number of all folds together, where that is not their mean."""
        mean = float(np.mean(by_fold)) if whole is None else whole
        if not self.less_deviations:
            return mean
        if len(by_fold) < 2:
            raise ValueError(f"`less_deviations` must have two folds to deviate, was with {len(by_fold)}.")
        off = self.less_deviations * float(np.std(by_fold, ddof=1))
        return float(np.mean(by_fold)) + (-off if self.objective.is_better_higher else off)


@dataclass(frozen=True)
class Bound:
    """A constraint: a key of `BOUNDS` and its limit."""

    name: str
    limit: float

    def __post_init__(self) -> None:
        """Check that it is known."""
        if self.name not in BOUNDS:
            raise ValueError(f"`constraints` must be among {', '.join(BOUNDS)}, was {self.name!r:.40}.")
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(f"`{self.name}` must be a limit of at least 0, was {self.limit}.")

    def excess(self, value: float) -> float:
        """How far a value is beyond it; at most 0 where it holds."""
        return value - self.limit if BOUNDS[self.name] == "at_most" else self.limit - value
