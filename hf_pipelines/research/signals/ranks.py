"""Rules on the ranks of a session: both ends of the ranking, anew at each decision or with hysteresis."""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.signals.holding import held_sides
from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say

# Of a share that was written in decimals: 0.1 of 10 members is one, though 0.1 * 10 may come out below.
SHARE_ROUNDING = 1e-9


def needs_both_ends(params: Params) -> RuleNeeds:
    """Return the needs of a rule on the members at both ends of one session."""
    by_number = {name: params[name] for name in ("n_long", "n_short")}
    return RuleNeeds(
        members=by_number if params["quantile"] is None else {},
        sectors=params["within_sectors"],
        max_gross=params["max_gross"],
    )


def weigh_by_rank(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Half of the gross for each end, nothing where fewer are known than both ends take."""
    half, is_within = context.params["max_gross"] / 2.0, context.params["within_sectors"]
    rows = _with_sectors(predictions, context)
    place, n_known = _place_and_known(is_within)
    n_long, n_short = _ends(context.params, n_known)
    is_long, is_short = place <= n_long, place > n_known - n_short
    is_enough = n_known >= n_long + n_short
    if is_within:
        n_long, n_short = (((each & is_enough).sum().over("ts")) for each in (is_long, is_short))
    side = pl.when(is_long).then(half / n_long).when(is_short).then(-half / n_short)
    return rows.select(pl.when(is_enough).then(side).otherwise(0.0)).to_series()


def needs_buffer(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_with_buffer`."""
    ends = needs_both_ends(params)
    return RuleNeeds(members=ends.members, sectors=ends.sectors, max_gross=ends.max_gross, sessions=params["sessions"])


def weigh_with_buffer(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Enter at either end of the ranking, leave only behind a wider band.

    A member is held long from a decision at which it is among the `n_long` highest, for as long as it is among the `n_long +
    buffer` highest, and short in the same way. It also leaves where nothing is predicted of it, it is no member, it enters
    the other side, or fewer members are known than both ends take; and `sessions` sessions after it was last among the
    highest: what is older is not looked at. Half of the gross is shared by what is held on each side.
    """
    params = context.params
    buffer, half = params["buffer"], params["max_gross"] / 2.0
    place, n_known = _place_and_known(params["within_sectors"])
    n_long, n_short = _ends(params, n_known)
    is_known = (n_known >= n_long + n_short) & place.is_not_null()
    from_below = n_known - place + 1
    flags = (
        _with_sectors(predictions, context)
        .select(
            enters_long=is_known & (place <= n_long),
            enters_short=is_known & (from_below <= n_short),
            stays_long=is_known & (place <= n_long + buffer),
            stays_short=is_known & (from_below <= n_short + buffer),
        )
        .fill_null(False)
    )
    ts = predictions["ts"].rank("dense").to_numpy().astype(np.int64)
    weight = np.zeros(predictions.height)
    for side, rows in held_sides(predictions, context, flags=flags, n_sessions=params["sessions"]).items():
        n_held = np.bincount(ts[rows], minlength=int(ts.max(initial=0)) + 1)
        weight[rows] = side * half / n_held[ts[rows]]
    return pl.Series(weight)


def _with_sectors(predictions: pl.DataFrame, context: RuleContext) -> pl.DataFrame:
    """The rows with their `sector`, where members are ranked within it."""
    if not context.params["within_sectors"]:
        return predictions
    return predictions.with_columns(sector=pl.col("symbol").replace_strict(context.sectors, return_dtype=pl.String))


def _place_and_known(is_within_sectors: bool) -> tuple[pl.Expr, pl.Expr]:
    """Place of each prediction among those of its ts (and sector), the highest first, and how many are known."""
    ranked_with = ["ts", "sector"] if is_within_sectors else ["ts"]
    # Ordinal: equal predictions are ranked in row order, which is by symbol.
    place = pl.col("prediction").rank("ordinal", descending=True).over(ranked_with).cast(pl.Int64)
    return place, pl.col("prediction").count().over(ranked_with).cast(pl.Int64)


def _ends(params: Params, n_known: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """How many members each end takes: the numbers given, or a share of those that are known, one at least."""
    if params["quantile"] is None:
        return pl.lit(params["n_long"]), pl.lit(params["n_short"])
    n_taken = (n_known * params["quantile"] + SHARE_ROUNDING).floor().clip(1.0).cast(pl.Int64)
    return n_taken, n_taken


def why_between(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """At neither end."""
    return say(predictions, pl.lit(Reason.NOT_SELECTED))
