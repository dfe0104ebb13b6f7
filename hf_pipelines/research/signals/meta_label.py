"""Meta-label: the side of a primary rule, for each member of which the side is likely enough to be right.

References
----------
López de Prado (2018), "Advances in Financial Machine Learning", ch. 3.6.
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say


def needs_primary(params: Params) -> RuleNeeds:
    """Return the needs: the probability of being right, and the feature that the side is taken from, as in the labels."""
    return RuleNeeds(
        columns=("probability_right",),
        features=(params["primary"],),
        target_params={"primary": params["primary"]},
        shorts=params["long_short"],
        max_gross=params["max_gross"],
        direction=False,
    )


def weigh_by_meta_label(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Take the side of the primary rule where it is likely enough to be right."""
    params = context.params
    side = pl.col(params["primary"]).cast(pl.Float64).sign()
    is_taken = (pl.col("probability_right") >= params["threshold"]) & ((side > 0.0) | params["long_short"])
    return predictions.select(pl.when(is_taken).then(side * params["max_gross"] / pl.len().over("ts"))).to_series()


def why_not_right(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """The primary rule is unknown or takes no side, its side is short where nothing is held short, or is not likely enough to be right."""
    primary = pl.col(context.params["primary"])
    return say(
        predictions,
        pl.when(primary.is_null())
        .then(pl.lit(Reason.MISSING_FEATURE))
        .when(pl.col("probability_right") < context.params["threshold"])
        .then(pl.lit(Reason.BELOW_THRESHOLD))
        .when(primary < 0.0)
        .then(pl.lit(Reason.LONG_ONLY)),
    )
