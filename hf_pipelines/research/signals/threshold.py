"""Threshold: an equal share of all members for each whose prediction has passed a level, with hysteresis."""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.signals.holding import held_sides
from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say


def needs_levels(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_by_levels`."""
    return RuleNeeds(shorts=params["long_short"], max_gross=params["max_gross"], sessions=params["sessions"])


def check_levels(params: Params) -> None:
    """Refuse levels in the wrong order, and a hysteresis that reaches the other side.

    Raises
    ------
    ValueError
    """
    buy, sell, hysteresis = params["buy"], params["sell"], params["hysteresis"]
    if not sell < buy:
        raise ValueError(f"`sell` of 'threshold' must be below its `buy` {buy:g}, was {sell:g}; exchange the two.")
    if not hysteresis < buy - sell:
        raise ValueError(
            f"`hysteresis` of 'threshold' must be smaller than `buy` - `sell` ({buy - sell:g}), was {hysteresis:g}: a long position "
            "would stay where the other side is taken."
        )
    if hysteresis and params["sessions"] == 1:
        raise ValueError(
            f"`sessions` of 'threshold' must be above 1 where `hysteresis` is above 0 ({hysteresis:g}), was 1; give the sessions "
            "that an entry counts for, such as 20."
        )


def weigh_by_levels(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Long from `buy` on until below `buy - hysteresis`, short from `sell` down until above `sell + hysteresis`."""
    params = context.params
    value, is_short = pl.col("prediction"), pl.lit(params["long_short"])
    enters_long, enters_short = value >= params["buy"], (value <= params["sell"]) & is_short
    share = params["max_gross"] / pl.len().over("ts")
    if params["sessions"] == 1:
        side = enters_long.cast(pl.Float64) - enters_short.cast(pl.Float64)
        return predictions.select(side * share).to_series()
    flags = predictions.select(
        enters_long=enters_long,
        enters_short=enters_short,
        stays_long=value >= params["buy"] - params["hysteresis"],
        stays_short=(value <= params["sell"] + params["hysteresis"]) & is_short,
    ).fill_null(False)
    sides = np.zeros(predictions.height)
    for side, rows in held_sides(predictions, context, flags=flags, n_sessions=params["sessions"]).items():
        sides[rows] = side
    return predictions.select(pl.lit(pl.Series(sides, dtype=pl.Float64)) * share).to_series()


def why_no_level(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Below the level to buy; or at the one to sell, where nothing is held short."""
    is_refused = (pl.col("prediction") <= context.params["sell"]) & (not context.params["long_short"])
    return say(
        predictions, pl.when(is_refused).then(pl.lit(Reason.LONG_ONLY)).otherwise(pl.lit(Reason.BELOW_THRESHOLD))
    )
