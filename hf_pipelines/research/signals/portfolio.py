"""Portfolio: the gross shared by the best members, by softmax, by rank or equally; all long."""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say


def needs_long_only(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_portfolio`."""
    n_held = params["n_held"]
    return RuleNeeds(shorts=False, max_gross=params["max_gross"], members={} if n_held is None else {"n_held": n_held})


def weigh_portfolio(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Share the gross by the scheme over the members that are held: the `n_held` highest, none below `floor`."""
    params = context.params
    value = pl.col("prediction").cast(pl.Float64)
    # Ordinal: equal predictions are ranked in row order, which is by symbol.
    place = value.rank("ordinal", descending=True).over("ts")
    is_held = value.is_not_null()
    if params["n_held"] is not None:
        is_held = is_held & (place <= params["n_held"])
    if params["floor"] is not None:
        is_held = is_held & (value >= params["floor"])
    held = predictions.select("ts", held=pl.when(is_held).then(value), is_held=is_held)
    score = pl.col("held")
    match params["scheme"]:
        case "softmax":
            # In standard deviations, so that a temperature means the same for any target; the highest is 0: nothing overflows.
            spread = score.std(ddof=0).over("ts")
            below = score - score.max().over("ts")
            scaled = pl.when(spread > 0.0).then(below / spread).otherwise(0.0)
            share = (scaled / params["temperature"]).exp()
        case "rank":
            share = score.rank("ordinal").over("ts").cast(pl.Float64)
        case _:
            share = pl.lit(1.0)
    share = pl.when("is_held").then(share)
    return held.select(params["max_gross"] * share / share.sum().over("ts")).to_series()


def why_not_held(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Below the floor, or behind the highest; a share of softmax may be too small to be a number."""
    value, floor, n_held = pl.col("prediction"), context.params["floor"], context.params["n_held"]
    is_below = pl.lit(False) if floor is None else value < floor
    place = value.rank("ordinal", descending=True).over("ts")
    is_behind = pl.lit(False) if n_held is None else place > n_held
    return say(
        predictions,
        pl.when(is_below).then(pl.lit(Reason.BELOW_THRESHOLD)).when(is_behind).then(pl.lit(Reason.NOT_SELECTED)),
    )
