"""Adjustment: bars as seen from a later time, and events out of adjusted prices.

Lives here: cumulating splits and dividends inside what is read, and the reverse. Does not live here: the columns of bars (`bars`),
which bar an event counts on (`events`).
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from hf_pipelines.research.bars import PRICE_COLUMNS, _shown

# A ratio of prices at or above this is a split, below it a dividend: no cash dividend is a fifth of the price.
SPLIT_RATIO_FLOOR = 1.25

# Splits as companies make them: whole numbers and ratios of small ones, both ways.
SIMPLE_SPLITS = tuple(
    sorted(
        {*(n / d for n in range(1, 6) for d in range(1, 6)), *range(2, 101), *(1 / n for n in range(2, 101))} - {1.0}
    )
)


def price_factor() -> pl.Expr:
    """Backward factor of each bar: prices BEFORE the bar times this are comparable with it.

    A bar with total return r_j = split_ratio_j * (close_j + dividend_j) / close_{j-1} - 1 has the factor
    close_j / (split_ratio_j * (close_j + dividend_j)), 1 on a session without an event. It is known at `ts`.

    Returns
    -------
    Expr
        Over columns `close` (quote currency), `split_ratio` and `dividend` (quote currency a unit); a fraction near 1, NaN where the
        event of the bar is unknown.
    """
    close = pl.col("close")
    return (close / (pl.col("split_ratio") * (close + pl.col("dividend")))).alias("price_factor")


def adjust(bars: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Total-return prices as seen at `as_of`: events inside the window read, nothing later.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, raw.
    as_of : datetime
        Time-zone aware; bars after it are left out.

    Returns
    -------
    DataFrame
        The same columns; the last bar of each symbol keeps its raw prices, earlier prices are scaled by the
        splits and dividends after them, earlier volumes by the splits alone.

    Notes
    -----
    Dividends are reinvested at the close of the ex-date, so close-to-close changes are exact total returns.
    """
    factor_after = pl.col("price_factor").cum_prod(reverse=True).shift(-1, fill_value=1.0).over("symbol")
    split_after = pl.col("split_ratio").cum_prod(reverse=True).shift(-1, fill_value=1.0).over("symbol")
    return (
        bars.filter(pl.col("ts") <= as_of)
        .sort("symbol", "ts")
        .with_columns(price_factor())
        .with_columns(*(pl.col(name) * factor_after for name in PRICE_COLUMNS), pl.col("volume") * split_after)
        .drop("price_factor")
    )


def derive_events(prices: pl.DataFrame) -> pl.DataFrame:
    """Splits and dividends hidden in a vendor's `adj_close` column.

    Parameters
    ----------
    prices : DataFrame
        Columns symbol, session, close (raw, quote currency) and adj_close (adjusted for all later events, rounded to cents).

    Returns
    -------
    DataFrame
        `prices` without adj_close, with `split_ratio` and `dividend` (cash a share) effective on each session.

    Raises
    ------
    ValueError
        If a change of the ratio can be told neither for one simple split nor for a dividend: the total return of that
        session would be wrong. A split with a dividend on the same day, a split such as 7:6 and a dividend of more than
        a fifth of the price are such.

    Notes
    -----
    The vendor scales earlier prices by (1 - dividend / close_{j-1}) on an ex-date, hence
    adj_j / adj_{j-1} = close_j * split_j / (close_{j-1} - dividend_j). A change smaller than what rounding two
    adjusted prices to cents can make is no event. A change by one of `SIMPLE_SPLITS`, as closely as rounding lets one
    see, is a split; any other below 5:4 is a dividend (so are stock dividends such as 11:10: the total return is the
    same). `split_ratio * (close + dividend) / previous close - 1` is the total return that the adjusted prices show.
    """
    ratio, rounding, previous_close = pl.col("_ratio"), pl.col("_rounding"), pl.col("close").shift(1).over("symbol")
    previous_adjusted = pl.col("adj_close").shift(1).over("symbol")
    seen = prices.sort("symbol", "session").with_columns(
        _ratio=(pl.col("adj_close") / previous_adjusted) / (pl.col("close") / previous_close),
        _rounding=2.0 * (0.005 / pl.col("adj_close") + 0.005 / previous_adjusted + 0.005 / pl.col("close")) + 1e-4,
    )
    is_event = ((ratio - 1.0).abs() > rounding).fill_null(False)
    is_split = is_event & ((ratio < 1.0) | (ratio * (1.0 + rounding) >= SPLIT_RATIO_FLOOR))
    seen = seen.with_columns(
        split_ratio=_simple_splits(seen.with_columns(_is_split=is_split)),
        dividend=pl.when(is_event & ~is_split).then((previous_close * (1.0 - 1.0 / ratio)).round(4)).otherwise(0.0),
    )
    return seen.drop("adj_close", "_ratio", "_rounding")


def _simple_splits(seen: pl.DataFrame) -> pl.Series:
    """The simple split of each row that `_is_split`, 1 elsewhere; refused where none or several are within rounding."""
    splits, unclear = np.ones(seen.height), []
    for row in np.flatnonzero(seen["_is_split"]).tolist():
        symbol, session, ratio, rounding = seen.select("symbol", "session", "_ratio", "_rounding").row(row)
        near = [split for split in SIMPLE_SPLITS if abs(ratio / split - 1.0) <= rounding]
        if len(near) == 1:
            splits[row] = near[0]
        else:
            unclear.append(f"{symbol} {session} ({ratio:.4f})")
    if unclear:
        raise ValueError(
            "`adj_close` must change against `close` by a simple split or by a dividend of less than a fifth of the price, "
            f"was with {_shown(unclear)}; give `split_ratio` and `dividend` of those sessions instead of `adj_close`."
        )
    return pl.Series(splits)
