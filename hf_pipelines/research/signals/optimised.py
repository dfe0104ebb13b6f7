"""Optimised portfolio: the gross shared by an optimiser of skfolio, over the covariance of trailing bars.

Lives here: which members are optimised, the call, and what is held where there is no solution. skfolio is imported where it is used: it takes
seconds.

References
----------
Markowitz (1952), "Portfolio Selection", Journal of Finance 7(1); Maillard, Roncalli and Teiletche (2010), "The Properties of Equally
Weighted Risk Contribution Portfolios", J. Portfolio Management 36(4); López de Prado (2016), "Building Diversified Portfolios that Outperform Out
of Sample", J. Portfolio Management 42(4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Floats, Params, RuleContext, RuleNeeds, say

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

METHODS = ("minimum_variance", "risk_budgeting", "hierarchical_risk_parity", "mean_risk")


def needs_trailing(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_by_optimiser`."""
    n_held = params["n_held"]
    return RuleNeeds(
        shorts=False,
        max_gross=params["max_gross"],
        history_bars=params["bars"] + 1,
        members={} if n_held is None else {"n_held": n_held},
        packages=("skfolio",),
    )


def weigh_by_optimiser(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Optimise each decision by itself."""
    weights = np.zeros(predictions.height)
    for rows, found, _ in _decisions(predictions, context):
        weights[rows] = found * context.params["max_gross"]
    return pl.Series(weights)


def count_solutions(predictions: pl.DataFrame, context: RuleContext) -> str:
    """How many decisions had no solution, in words."""
    solved = [is_solved for _, _, is_solved in _decisions(predictions, context)]
    return f"{len(solved):,} decisions with members to optimise, {solved.count(False):,} of them without a solution: equal shares."


def optimised_weights(returns: Floats, expected: Floats, params: Params) -> tuple[Floats, bool]:
    """Weights that add up to 1, or equal shares where there is no solution.

    Parameters
    ----------
    returns : array of shape (n_bars, n_members)
        Without NaN, each column with some variance.
    expected : array of shape (n_members,)
        Predictions, which `mean_risk` takes for expected returns.
    params : mapping
        `method`, `max_weight` and `risk_aversion`.

    Returns
    -------
    weights : array of shape (n_members,)
        None below 0 or above `max_weight`.
    is_solved : bool
        False: each has the same, `max_weight` at most.
    """
    from skfolio.exceptions import SkfolioError

    n, most = len(expected), params["max_weight"]
    equal = np.full(n, min(1.0 / n, most))
    if n < 2 or n * most < 1.0:
        return equal, False
    # The mean of the sample becomes what is predicted; its covariance stays.
    sample = returns - returns.mean(axis=0) + expected if params["method"] == "mean_risk" else returns
    try:
        found = np.asarray(_optimiser(params).fit(sample).weights_, dtype=np.float64)
    except (SkfolioError, np.linalg.LinAlgError):
        return equal, False
    if not np.isfinite(found).all():
        return equal, False
    # A solver meets its bounds to about 1e-8.
    found = np.clip(found, 0.0, most)
    return found / max(found.sum(), 1.0), True


def _optimiser(params: Params) -> Any:
    from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting

    bounds = {"min_weights": 0.0, "max_weights": params["max_weight"]}
    match params["method"]:
        case "minimum_variance":
            return MeanRisk(objective_function=ObjectiveFunction.MINIMIZE_RISK, **bounds)
        case "risk_budgeting":
            return RiskBudgeting(**bounds)
        case "hierarchical_risk_parity":
            return HierarchicalRiskParity(**bounds)
    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=params["risk_aversion"], **bounds
    )


def why_not_optimised(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Without all trailing returns; else not among the highest, or the optimiser gives it nothing."""
    lacks = np.zeros(predictions.height, dtype=bool)
    for rows, _, is_usable in _candidates(predictions, context):
        lacks[rows[~is_usable]] = True
    word = pl.when(pl.lit(pl.Series(lacks))).then(pl.lit(Reason.TOO_LITTLE_HISTORY))
    return say(predictions, word.otherwise(pl.lit(Reason.NOT_SELECTED)))


def _decisions(predictions: pl.DataFrame, context: RuleContext) -> Iterator[tuple[list[int], Floats, bool]]:
    """Rows of the members that are optimised at each decision, their weights, and whether there was a solution."""
    expected = predictions["prediction"].to_numpy()
    for held, returns, is_usable in _candidates(predictions, context):
        if not is_usable.any():
            continue
        rows = held[is_usable]
        weights, is_solved = optimised_weights(
            np.ascontiguousarray(returns[:, is_usable]), expected[rows], context.params
        )
        yield rows.tolist(), weights, is_solved


def _candidates(predictions: pl.DataFrame, context: RuleContext) -> Iterator[tuple[Ints, Floats, Bools]]:
    """Rows of the members that the rule may hold at each decision, their trailing returns, and of whom these are all known."""
    params = context.params
    value = pl.col("prediction")
    is_held = value.is_not_null()
    if params["n_held"] is not None:
        is_held &= value.rank("ordinal", descending=True).over("ts") <= params["n_held"]
    held = predictions.with_row_index().filter(predictions.select(is_held.fill_null(False)).to_series())
    for (at,), of_ts in held.group_by("ts", maintain_order=True):
        returns = context.trailing_returns(at, symbols=of_ts["symbol"].to_list(), n_bars=params["bars"])
        # Nothing is known of the risk of one that was not traded throughout, or never moved.
        is_usable = np.isfinite(returns).all(axis=0) & (returns.max(axis=0) > returns.min(axis=0))
        yield of_ts["index"].to_numpy().astype(np.int64), returns, is_usable
