"""Probability threshold: an equal share of all members for each that is likely enough to rise or to fall."""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say


def needs_probabilities(params: Params) -> RuleNeeds:
    """Return the needs: the probabilities of up and of down."""
    return RuleNeeds(
        columns=("probability_up", "probability_down"), shorts=params["long_short"], max_gross=params["max_gross"]
    )


def weigh_by_probability(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Long where up is likely enough and likelier than down, short the other way round."""
    params = context.params
    up, down, threshold = pl.col("probability_up"), pl.col("probability_down"), params["threshold"]
    is_long = (up >= threshold) & (up > down)
    is_short = (down >= threshold) & (down > up) & params["long_short"]
    sign = is_long.cast(pl.Float64) - is_short.cast(pl.Float64)
    return predictions.select(sign * params["max_gross"] / pl.len().over("ts")).to_series()


def why_unlikely(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Neither side is likely enough; both are, and alike; or the likely one is short, where nothing is held short."""
    up, down, threshold = pl.col("probability_up"), pl.col("probability_down"), context.params["threshold"]
    return say(
        predictions,
        pl.when(pl.max_horizontal(up, down) < threshold)
        .then(pl.lit(Reason.BELOW_THRESHOLD))
        .when(down > up)
        .then(pl.lit(Reason.LONG_ONLY)),
    )
