"""Rules on the ranks of a session: both ends of the ranking, anew at each decision or with hysteresis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds

Bools = npt.NDArray[np.bool_]


def needs_both_ends(params: Params) -> RuleNeeds:
    """Return the needs of a rule on the members at both ends of one session."""
    return RuleNeeds(members={name: params[name] for name in ("n_long", "n_short")}, max_gross=params["max_gross"])


def weigh_by_rank(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Half of the gross for each end, nothing where fewer are known than both ends take."""
    n_long, n_short, half = context.params["n_long"], context.params["n_short"], context.params["max_gross"] / 2.0
    place, n_known = _place_and_known()
    is_short = place > n_known - n_short
    side = pl.when(place <= n_long).then(half / n_long).when(is_short).then(-half / n_short)
    return predictions.select(pl.when(n_known >= n_long + n_short).then(side).otherwise(0.0)).to_series()


def needs_buffer(params: Params) -> RuleNeeds:
    """Return the needs of `weigh_with_buffer`."""
    ends = needs_both_ends(params)
    return RuleNeeds(members=ends.members, max_gross=ends.max_gross, sessions=params["sessions"])


def weigh_with_buffer(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Enter at either end of the ranking, leave only behind a wider band.

    A member is held long from a decision at which it is among the `n_long` highest, for as long as it is among the `n_long +
    buffer` highest, and short in the same way. It also leaves where nothing is predicted of it, it is no member, it enters
    the other side, or fewer members are known than both ends take; and `sessions` sessions after it was last among the
    highest: what is older is not looked at. Half of the gross is shared by what is held on each side.
    """
    params = context.params
    n_long, n_short, buffer = params["n_long"], params["n_short"], params["buffer"]
    half = params["max_gross"] / 2.0
    place, n_known = _place_and_known()
    is_known = (n_known >= n_long + n_short) & place.is_not_null()
    from_below = n_known - place + 1
    flags = predictions.select(
        enters_long=is_known & (place <= n_long),
        enters_short=is_known & (from_below <= n_short),
        stays_long=is_known & (place <= n_long + buffer),
        stays_short=is_known & (from_below <= n_short + buffer),
    ).fill_null(False)
    enters_long, enters_short, stays_long, stays_short = (each.to_numpy() for each in flags.get_columns())
    numbers = context.session_numbers(predictions)
    ts = predictions["ts"].rank("dense").to_numpy().astype(np.int64)
    symbol = predictions["symbol"].rank("dense").to_numpy().astype(np.int64)
    order = np.argsort(symbol, kind="stable")
    held = {
        side: _held(
            enters[order],
            (~stays | others)[order],
            symbol=symbol[order],
            ts=ts[order],
            session=numbers[order],
            n_sessions=params["sessions"],
        )
        for side, enters, stays, others in (
            (1.0, enters_long, stays_long, enters_short),
            (-1.0, enters_short, stays_short, enters_long),
        )
    }
    weight = np.zeros(len(order))
    for side, of_side in held.items():
        n_held = np.bincount(ts[order][of_side], minlength=int(ts.max(initial=0)) + 1)
        rows = order[of_side]
        weight[rows] = side * half / n_held[ts[rows]]
    return pl.Series(weight)


def _held(
    enters: Bools,
    leaves: Bools,
    *,
    symbol: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    session: npt.NDArray[np.int64],
    n_sessions: int,
) -> Bools:
    """Whether each row is held: its last entry lies within the window and after its last exit. Rows by (symbol, ts)."""
    row = np.arange(len(enters))
    is_first = np.diff(symbol, prepend=-1) != 0
    # Absent between two rows: it has left before the later one.
    is_back = ~is_first & (np.diff(ts, prepend=0) > 1)
    entered = np.maximum.accumulate(np.where(enters, row, -1))
    left = np.maximum.accumulate(np.maximum(np.where(leaves, row, -1), np.where(is_back | is_first, row - 1, -1)))
    is_entered = entered > left
    return np.asarray(is_entered & (session[np.maximum(entered, 0)] > session - n_sessions))


def _place_and_known() -> tuple[pl.Expr, pl.Expr]:
    """Place of each prediction among those of its ts, the highest first, and how many are known."""
    # Ordinal: equal predictions are ranked in row order, which is by symbol.
    place = pl.col("prediction").rank("ordinal", descending=True).over("ts").cast(pl.Int64)
    return place, pl.col("prediction").count().over("ts").cast(pl.Int64)
