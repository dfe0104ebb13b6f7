"""Sizing: how large a position is that a rule takes, before the limits.

Lives here: the steps, a function and a line each, applied in the order in which they are listed. Not here: what bounds the book
(`limits`).

References
----------
Kelly (1956), "A New Interpretation of Information Rate", Bell System Technical Journal 35(4); Thorp (2006), "The Kelly Criterion in
Blackjack, Sports Betting and the Stock Market", Handbook of Asset and Liability Management 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from hf_pipelines.research.params import Choice, Number, Param
from hf_pipelines.research.signals.long_short import trailing_volatility, volatility_scale
from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Floats, Params, RuleContext

# Where the payoffs of Kelly come from.
STATED, TARGET, OUTCOMES = "stated", "target", "outcomes"

# Ended outcomes of each side below which their means say nothing.
LEAST_OUTCOMES = 20

Sizer: TypeAlias = Callable[[pl.Series, pl.DataFrame, RuleContext, Params], pl.Series]


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """One step that sizes positions.

    Attributes
    ----------
    name : str
        Key in `SIZINGS`.
    size : callable
        `(weights, predictions, context, params) -> weights`, of the same sign or 0.
    params : mapping of str to Param
    columns : tuple of str
        Columns of the predictions that it reads.
    history_bars : callable
        `params -> bars` of each member up to the decision.
    zero : Reason
        Why it would give 0 to a position.
    is_calibrated : bool
        Whether it takes probabilities at their word: then the learner must be calibrated.
    formula : str
        The definition, for people.
    """

    name: str
    size: Sizer
    params: Mapping[str, Param]
    columns: tuple[str, ...] = ()
    history_bars: Callable[[Params], int] = lambda params: 0
    zero: Reason = Reason.NO_POSITION
    is_calibrated: bool = False
    formula: str


def size_by_fraction(weights: pl.Series, predictions: pl.DataFrame, context: RuleContext, params: Params) -> pl.Series:
    """The same fraction of equity for each position."""
    return weights.sign() * float(params["fraction"])


def size_by_volatility(
    weights: pl.Series, predictions: pl.DataFrame, context: RuleContext, params: Params
) -> pl.Series:
    """Larger where the member's own returns move less; nothing where that is unknown."""
    volatility = trailing_volatility(predictions, context, n_bars=params["bars"])
    return weights * pl.Series(volatility_scale(volatility, target=params["volatility"], most=params["most"]))


def size_by_kelly(weights: pl.Series, predictions: pl.DataFrame, context: RuleContext, params: Params) -> pl.Series:
    """The part of equity that would grow fastest at these odds, times a fraction; nothing at odds that lose."""
    short, source = params["payoff_short"], params["payoff_from"]
    if (source == TARGET and short is None) or (source == OUTCOMES and params["horizon_bars"] is None):
        raise ValueError(
            f"`payoff_from` of kelly must be stated outside of a strategy, which knows its target, was {source}."
        )
    is_long = weights > 0.0
    if source == OUTCOMES:
        ratio = pl.Series(outcome_payoffs(predictions, context, params))
        payoff = pl.when(pl.lit(is_long)).then(pl.lit(ratio)).otherwise(1.0 / pl.lit(ratio))
    else:
        payoff = pl.when(pl.lit(is_long)).then(params["payoff"]).otherwise(params["payoff"] if short is None else short)
    up, down = (predictions[name].cast(pl.Float64) for name in ("probability_up", "probability_down"))
    frame = pl.DataFrame({"win": up.zip_with(is_long, down), "lose": down.zip_with(is_long, up)})
    win, lose = pl.col("win"), pl.col("lose")
    # The third outcome neither wins nor loses: it shrinks nothing of what is staked.
    best = (win * payoff - lose) / (payoff * (win + lose))
    staked = frame.select(pl.when(win + lose > 0.0).then(best.clip(0.0))).to_series().fill_nan(0.0).fill_null(0.0)
    return weights.sign() * staked * float(params["fraction"])


def outcome_payoffs(predictions: pl.DataFrame, context: RuleContext, params: Params) -> Floats:
    """What a rise has brought on average over what a fall has cost, of outcomes that had ended at each row's decision.

    An outcome is the total return of a member over the target's `horizon_bars`; one above `upper` is a rise, one below `lower` a fall, as in
    the target's labels. Those of all members at the decision count alike, over the last `bars` bars.

    Returns
    -------
    array of shape (n_rows,)
        Of a long position; that of a short one is 1 over it. NaN where either side has fewer than `LEAST_OUTCOMES` outcomes, or rises lose on
        average, or falls gain: nothing is staked then.
    """
    horizon = int(params["horizon_bars"])
    found = np.full(predictions.height, np.nan)
    start = 0
    for (at,), of_ts in predictions.group_by("ts", maintain_order=True):
        returns = context.trailing_returns(at, symbols=of_ts["symbol"].to_list(), n_bars=params["bars"])
        # Rows of a window that begins at each bar; one with an unknown return is no outcome.
        windows = np.lib.stride_tricks.sliding_window_view(1.0 + returns, horizon, axis=0)
        outcomes = windows.prod(axis=2) - 1.0
        rises, falls = outcomes[outcomes > params["upper"]], outcomes[outcomes < params["lower"]]
        # Around a level that is not 0 a rise may lose: that is no payoff.
        if min(len(rises), len(falls)) >= LEAST_OUTCOMES and rises.mean() > 0.0 > falls.mean():
            found[start : start + of_ts.height] = rises.mean() / -falls.mean()
        start += of_ts.height
    return found


def _bars_of_outcomes(params: Params) -> int:
    return int(params["bars"]) + 1 if params["payoff_from"] == OUTCOMES else 0


def _bars_of_volatility(params: Params) -> int:
    return int(params["bars"]) + 1


SIZINGS: dict[str, Sizing] = {
    "fixed_fraction": Sizing(
        name="fixed_fraction",
        size=size_by_fraction,
        params={
            "fraction": Number(
                default=0.05, low=1e-6, high=10.0, search=(0.01, 0.2), meaning="of equity in each position"
            )
        },
        formula="fraction on the side of the rule",
    ),
    "volatility_target": Sizing(
        name="volatility_target",
        size=size_by_volatility,
        params={
            "volatility": Number(
                default=0.01,
                low=1e-6,
                high=10.0,
                search=(0.005, 0.03),
                meaning="standard deviation of returns of one bar at which a position keeps its size",
            ),
            "bars": Number(
                default=20, low=2, high=1_000, is_whole=True, meaning="trailing returns that it is measured on"
            ),
            "most": Number(default=3.0, low=0.01, high=100.0, meaning="factor of a position at most"),
        },
        history_bars=_bars_of_volatility,
        zero=Reason.TOO_LITTLE_HISTORY,
        formula="weight * volatility / standard deviation of the member's trailing returns, the factor at most `most`",
    ),
    "kelly": Sizing(
        name="kelly",
        size=size_by_kelly,
        params={
            "fraction": Number(
                default=0.25, low=1e-6, high=1.0, search=(0.05, 0.5), meaning="of what Kelly would stake"
            ),
            "payoff": Number(
                default=1.0, low=0.01, high=100.0, meaning="what a right position wins, over what a wrong one loses"
            ),
            "payoff_short": Number(
                default=None,
                low=0.01,
                high=100.0,
                is_optional=True,
                meaning="the same of a short position; null: as payoff",
            ),
            "payoff_from": Choice(
                default=STATED,
                names=(STATED, TARGET, OUTCOMES),
                meaning="stated: the two numbers; target: both from the widths of the strategy's target, such as profit / stop; outcomes: mean "
                "rise over mean fall of the labels that had ended",
            ),
            "bars": Number(
                default=252,
                low=40,
                high=1_000,
                is_whole=True,
                meaning="last bars whose outcomes count, of payoff_from outcomes",
            ),
            "horizon_bars": Number(
                default=None,
                low=1,
                high=1_000,
                is_whole=True,
                is_optional=True,
                meaning="of an outcome; a strategy's is that of its target",
            ),
            "upper": Number(
                default=0.0, low=-1.0, high=10.0, meaning="return above which an outcome is a rise; as the target's"
            ),
            "lower": Number(
                default=0.0, low=-1.0, high=10.0, meaning="return below which an outcome is a fall; as the target's"
            ),
        },
        columns=("probability_up", "probability_down"),
        history_bars=_bars_of_outcomes,
        zero=Reason.NO_EDGE,
        is_calibrated=True,
        formula=(
            "fraction * (win * payoff - lose) / (payoff * (win + lose)) on the side of the rule, win and lose its calibrated "
            "probabilities; 0 where that is negative"
        ),
    ),
}


def sized(
    weights: pl.Series, predictions: pl.DataFrame, context: RuleContext, steps: tuple[Mapping[str, Any], ...]
) -> pl.Series:
    """Weights after the steps, in their order.

    Raises
    ------
    ValueError
        If a step takes a side that was not given to it.
    """
    for step in steps:
        given, size = weights, SIZINGS[step["type"]].size
        weights = size(given, predictions, context, step["params"]).fill_nan(None).fill_null(0.0)
        if len(weights) != len(given) or not ((weights == 0.0) | (weights * given > 0.0)).all():
            raise ValueError(
                f"`size` of sizing {step['type']!r} must give a weight of the same sign, or 0, for each of {len(given)} rows, was not "
                "so; the side is the rule's."
            )
    return weights
