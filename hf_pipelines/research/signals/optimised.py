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

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Floats, Params, RuleContext, RuleNeeds, say

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

METHODS = ("minimum_variance", "risk_budgeting", "hierarchical_risk_parity", "mean_risk")


# Those that take constraints beside the bounds of each member.
CONSTRAINED = ("minimum_variance", "mean_risk")

# Rounding of shares that are added up.
SHARE_ROUNDING = 1e-9


def checked_sector(value: Any, where: str) -> dict[str, Any]:
    """A bound of a sector: its name, and the share that it has at least and at most.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, Mapping) or "sector" not in value or {*value} - {"sector", "least", "most"}:
        raise TypeError(f"`{where}` must be a mapping of `sector`, and `least` or `most`, was {value!r:.60}.")
    name, least, most = value["sector"], value.get("least", 0.0), value.get("most", 1.0)
    if not isinstance(name, str) or not name:
        raise TypeError(f"`{where}.sector` must be the name of a sector, was {name!r:.40}.")
    for bound, share in (("least", least), ("most", most)):
        # Written so that NaN fails too.
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            raise ValueError(f"`{where}.{bound}` must be a share from 0 to 1, was {share!r:.40}.")
    if least > most or (least, most) == (0.0, 1.0):
        rule = "give `least` or `most`" if (least, most) == (0.0, 1.0) else "not be above its `most`"
        raise ValueError(f"`{where}` must {rule}, was least {least:g} and most {most:g}.")
    return {"sector": name, "least": float(least), "most": float(most)}


def check_optimised(params: Params) -> None:
    """Refuse constraints that the method does not take, or that contradict each other.

    Raises
    ------
    ValueError
    """
    sectors, budget = params["sectors"], params["budget"]
    given = [name for name in ("sectors", "max_change") if params[name]] + (["budget"] if budget != 1.0 else [])
    if given and params["method"] not in CONSTRAINED:
        raise ValueError(
            f"`{given[0]}` of 'optimised_portfolio' must be left out for the method {params['method']}, was given; take "
            f"{' or '.join(CONSTRAINED)}."
        )
    names = [each["sector"] for each in sectors]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`sectors` of 'optimised_portfolio' must name each sector once, was with {twice[0]} twice.")
    if (least := sum(each["least"] for each in sectors)) > budget + SHARE_ROUNDING:
        raise ValueError(
            f"`sectors` of 'optimised_portfolio' must have shares `least` of {budget:g}, the `budget`, at most together, was {least:g}."
        )


def needs_trailing(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_by_optimiser`."""
    n_held = params["n_held"]
    return RuleNeeds(
        shorts=False,
        max_gross=params["max_gross"],
        history_bars=params["bars"] + 1,
        members={} if n_held is None else {"n_held": n_held},
        packages=("skfolio",),
        sectors=bool(params["sectors"]),
        block_weeks=0 if params["max_change"] is None else params["memory_weeks"],
    )


def weigh_by_optimiser(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Optimise each decision by itself, or within a change of the one before."""
    weights = np.zeros(predictions.height)
    for rows, found, _ in _decisions(predictions, context):
        weights[rows] = found * context.params["max_gross"]
    return pl.Series(weights)


def count_solutions(predictions: pl.DataFrame, context: RuleContext) -> str:
    """How many decisions had no solution, in words."""
    solved = [is_solved for _, _, is_solved in _decisions(predictions, context)]
    return f"{len(solved):,} decisions with members to optimise, {solved.count(False):,} of them without a solution: equal shares."


def optimised_weights(
    returns: Floats,
    expected: Floats,
    params: Params,
    *,
    sectors: Sequence[str] = (),
    before: Floats | None = None,
) -> tuple[Floats, bool]:
    """Weights that add up to the budget, or equal shares where there is no solution.

    Parameters
    ----------
    returns : array of shape (n_bars, n_members)
        Without NaN, each column with some variance.
    expected : array of shape (n_members,)
        Predictions, which `mean_risk` takes for expected returns.
    params : mapping
        `method`, `max_weight`, `risk_aversion`, `budget`, `sectors` and `max_change`.
    sectors : sequence of str
        Of each member, where `sectors` are bounded.
    before : array of shape (n_members,), optional
        Weights of the decision before, where there was one.

    Returns
    -------
    weights : array of shape (n_members,)
        None below 0 or above `max_weight`.
    is_solved : bool
        False: each has the same, `max_weight` at most.
    """
    from skfolio.exceptions import SkfolioError

    n, most, budget = len(expected), params["max_weight"], params["budget"]
    equal = np.full(n, min(budget / n, most))
    if n < 2 or n * most < budget:
        return equal, False
    # The mean of the sample becomes what is predicted; its covariance stays.
    sample = returns - returns.mean(axis=0) + expected if params["method"] == "mean_risk" else returns
    try:
        found = np.asarray(_optimiser(params, sectors, before).fit(sample).weights_, dtype=np.float64)
    except (SkfolioError, np.linalg.LinAlgError):
        return equal, False
    if not np.isfinite(found).all():
        return equal, False
    # A solver meets its bounds to about 1e-8.
    found = np.clip(found, 0.0, most)
    return found / max(found.sum() / budget, 1.0), True


def _optimiser(params: Params, sectors: Sequence[str], before: Floats | None) -> Any:
    from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction, RiskBudgeting

    bounds: dict[str, Any] = {"min_weights": 0.0, "max_weights": params["max_weight"]}
    match params["method"]:
        case "risk_budgeting":
            return RiskBudgeting(**bounds)
        case "hierarchical_risk_parity":
            return HierarchicalRiskParity(**bounds)
    bounds |= {"budget": params["budget"], **_inequalities(params["sectors"], sectors)}
    if before is not None:
        bounds |= {"previous_weights": before, "max_turnover": params["max_change"]}
    if params["method"] == "minimum_variance":
        return MeanRisk(objective_function=ObjectiveFunction.MINIMIZE_RISK, **bounds)
    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=params["risk_aversion"], **bounds
    )


def _inequalities(bounded: Sequence[Mapping[str, Any]], sectors: Sequence[str]) -> dict[str, Floats]:
    """Bounds of sectors as rows of `left @ weights <= right`."""
    left, right = [], []
    for each in bounded:
        is_in = np.array([name == each["sector"] for name in sectors], dtype=np.float64)
        for sign, bound, trivial in ((1.0, each["most"], 1.0), (-1.0, -each["least"], 0.0)):
            if bound != trivial:
                left.append(sign * is_in)
                right.append(bound)
    return {"left_inequality": np.array(left), "right_inequality": np.array(right)} if left else {}


def why_not_optimised(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Without all trailing returns; else not among the highest, or the optimiser gives it nothing."""
    lacks = np.zeros(predictions.height, dtype=bool)
    for rows, _, is_usable in _candidates(predictions, context):
        lacks[rows[~is_usable]] = True
    word = pl.when(pl.lit(pl.Series(lacks))).then(pl.lit(Reason.TOO_LITTLE_HISTORY))
    return say(predictions, word.otherwise(pl.lit(Reason.NOT_SELECTED)))


def _decisions(predictions: pl.DataFrame, context: RuleContext) -> Iterator[tuple[list[int], Floats, bool]]:
    """Rows of the members that are optimised at each decision, their weights, and whether there was a solution.

    Where weights hang on those before, each block of weeks is replayed from the start of the block before it, as books with limits are.
    """
    known = {*context.sectors.values()}
    if strays := sorted({each["sector"] for each in context.params["sectors"]} - known):
        raise ValueError(
            f"`sectors` of 'optimised_portfolio' must name sectors of the members, {', '.join(sorted(known)[:8])}, was "
            f"{', '.join(strays[:5])}; see `sector` in `universe` of the market."
        )
    candidates = [each for each in _candidates(predictions, context) if each[2].any()]
    if context.params["max_change"] is None:
        for held in candidates:
            yield _solved(held, predictions, context, {})
        return
    n_days = 7 * context.params["memory_weeks"]
    # The first Sunday after the epoch of dates is its fourth day.
    block = (predictions["session"].cast(pl.Int32).to_numpy().astype(np.int64) - 3) // n_days
    symbols = predictions["symbol"].to_list()
    by_block = {number: [*of_block] for number, of_block in groupby(candidates, key=lambda each: block[each[0][0]])}
    for number, of_block in by_block.items():
        before: dict[str, float] = {}
        for is_given, replayed in ((False, by_block.get(number - 1, [])), (True, of_block)):
            for held in replayed:
                rows, weights, is_solved = _solved(held, predictions, context, before)
                before = dict(zip((symbols[row] for row in rows), weights.tolist(), strict=True))
                if is_given:
                    yield rows, weights, is_solved


def _solved(
    held: tuple[Ints, Floats, Bools], predictions: pl.DataFrame, context: RuleContext, before: Mapping[str, float]
) -> tuple[list[int], Floats, bool]:
    """A decision; `before`: weights of the one before, by symbol."""
    (rows, returns, is_usable), params = held, context.params
    kept = rows[is_usable]
    symbols = predictions["symbol"].gather(kept).to_list()
    weights, is_solved = optimised_weights(
        np.ascontiguousarray(returns[:, is_usable]),
        predictions["prediction"].gather(kept).cast(pl.Float64).to_numpy(),
        params,
        sectors=[context.sectors[name] for name in symbols] if params["sectors"] else (),
        before=np.array([before.get(name, 0.0) for name in symbols]) if before else None,
    )
    return kept.tolist(), weights, is_solved


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
