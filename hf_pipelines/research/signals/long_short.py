"""Long short: positions in proportion to standardised predictions, clipped, smaller where a member moves more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Floats, Params, RuleContext, RuleNeeds, say

Ints = npt.NDArray[np.int64]

# What predictions are held to: the member's own of the last sessions, the other members of the decision, or nothing.
OWN, MEMBERS, NONE = "own", "members", "none"


def needs_scale(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_in_proportion`."""
    return RuleNeeds(
        max_gross=params["max_gross"],
        sessions=params["sessions"] if params["standardise"] == OWN else 1,
        history_bars=0 if params["volatility_target"] is None else params["volatility_bars"] + 1,
    )


def weigh_in_proportion(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Share the gross equally over the members, of each so much as its prediction is of the clip."""
    params = context.params
    value = pl.col("prediction")
    match params["standardise"]:
        case "own":
            scores = predictions.select(pl.lit(pl.Series(_own_scores(predictions, context)))).to_series()
        case "members":
            spread = value.std(ddof=0).over("ts")
            scores = predictions.select(
                pl.when(spread > 0.0).then((value - value.mean().over("ts")) / spread)
            ).to_series()
        case _:
            scores = predictions["prediction"]
    clip = params["clip"]
    share = params["max_gross"] / clip / pl.len().over("ts")
    weight = predictions.select(pl.lit(scores).cast(pl.Float64).fill_nan(None).clip(-clip, clip) * share).to_series()
    if params["volatility_target"] is None:
        return weight
    volatility = trailing_volatility(predictions, context, n_bars=params["volatility_bars"])
    return weight * pl.Series(volatility_scale(volatility, target=params["volatility_target"], most=1.0))


def trailing_volatility(predictions: pl.DataFrame, context: RuleContext, *, n_bars: int) -> Floats:
    """Standard deviation of each row's last returns of one bar, NaN where one of them is unknown."""
    found = np.full(predictions.height, np.nan)
    start = 0
    for (at,), of_ts in predictions.group_by("ts", maintain_order=True):
        returns = context.trailing_returns(at, symbols=of_ts["symbol"].to_list(), n_bars=n_bars)
        found[start : start + of_ts.height] = returns.std(axis=0, ddof=1)
        start += of_ts.height
    return found


def volatility_scale(volatility: Floats, *, target: float, most: float) -> Floats:
    """What a position is multiplied by to have a volatility, `most` at most; 0 where the volatility is unknown or none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.minimum(target / volatility, most)
    return np.where(volatility > 0.0, scale, 0.0)


def _own_scores(predictions: pl.DataFrame, context: RuleContext) -> Floats:
    """Each prediction less the mean of the member's own in the last sessions, over their standard deviation."""
    values = predictions["prediction"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    symbol = predictions["symbol"].rank("dense").to_numpy().astype(np.int64)
    order = np.argsort(symbol, kind="stable")
    scores = np.empty(len(values))
    session = context.session_numbers(predictions)
    scores[order] = _window_scores(values[order], symbol[order], session[order], context.params["sessions"])
    return scores


@window_kernel
def _window_scores(values: Floats, symbol: Ints, session: Ints, n_sessions: int) -> Floats:
    # Each window is summed anew: a running sum would depend on where the frame begins.
    scores = np.full(len(values), np.nan)
    first = 0
    for row in range(len(values)):
        while symbol[first] != symbol[row] or session[first] <= session[row] - n_sessions:
            first += 1
        total, known = 0.0, 0
        for each in range(first, row + 1):
            if not np.isnan(values[each]):
                total += values[each]
                known += 1
        if known < 2 or np.isnan(values[row]):
            continue
        mean = total / known
        squares = 0.0
        for each in range(first, row + 1):
            if not np.isnan(values[each]):
                squares += (values[each] - mean) ** 2
        spread = np.sqrt(squares / known)
        # Of equal values the rounding of their mean would be the spread.
        if spread > 1e-12 * abs(mean):
            scores[row] = (values[row] - mean) / spread
    return scores


def why_not_scored(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """No z-score of the member's own, or a volatility that is not known; else a score of 0."""
    params = context.params
    lacks = np.zeros(predictions.height, dtype=bool)
    if params["standardise"] == OWN:
        lacks |= np.isnan(_own_scores(predictions, context))
    if params["volatility_target"] is not None:
        lacks |= ~(trailing_volatility(predictions, context, n_bars=params["volatility_bars"]) > 0.0)
    return say(predictions, pl.when(pl.lit(pl.Series(lacks))).then(pl.lit(Reason.TOO_LITTLE_HISTORY)))
