"""Returns over a fixed number of bars: the return itself, and its direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import Number
from hf_pipelines.research.targets.target import RETURN_COLUMNS, ROUNDING_RETURN, Params, TargetNeeds
from hf_pipelines.research.wording import some_of

# A week of minutes around the clock.
HORIZON_BARS = Number(
    default=None, low=1, high=10_080, is_whole=True, is_required=True, meaning="bars of the symbol to look ahead"
)

# A price cannot lose more than all.
RETURN_RANGE = (-1.0, 10.0)

DIRECTION_CLASSES = ("down", "flat", "up")


def forward_return(bars: pl.DataFrame, horizon_bars: int) -> pl.DataFrame:
    """Total return from each bar's close to the close `horizon_bars` bars of the same symbol later.

    The product of `split_ratio * (close + dividend) / previous close` over the bars t+1 .. t+h, less one:
    splits leave no jump and dividends count as reinvested on the ex-date. A value depends on those bars and
    the close of t alone, to the last bit, wherever the frame begins.

    Parameters
    ----------
    bars : DataFrame
        Bars in any order: `symbol`, `session`, `ts`, `close`, `split_ratio`, `dividend`.
    horizon_bars : int
        Bars to look ahead, at least 1. Counted over each symbol's own bars: a halt lengthens the interval in
        time.

    Returns
    -------
    DataFrame
        Sorted by (symbol, ts): `symbol`, `session`, `ts`, `label_start` (ts of bar t+1), `label_end` (ts of
        bar t+h), `target` (fraction). The last `horizon_bars` bars of each symbol have no row: not known yet.
        So the final bars of a delisted symbol are never trained on. Bars whose interval spans an unknown event
        (NaN) have no row either.

    Raises
    ------
    ValueError
        If `horizon_bars` is below 1; as `require_possible`.
    """
    if horizon_bars < 1:
        raise ValueError(f"`horizon_bars` must be at least 1, was {horizon_bars}.")
    require_possible(bars)
    bars = bars.sort("symbol", "ts")
    n_ahead = max(bars.height - horizon_bars, 0)
    growth = bar_growth(bars)
    # One multiplication a step, in bar order: a running product would make bits depend on the first bar
    # loaded.
    product = np.ones(n_ahead)
    for step in range(horizon_bars):
        product *= growth[step : step + n_ahead]
    return fixed_ends(bars, horizon_bars, product - 1.0)


def fixed_ends(bars: pl.DataFrame, n_ahead: int, target: npt.NDArray[np.float64]) -> pl.DataFrame:
    """Labels that end a fixed number of bars of the symbol after their row.

    Parameters
    ----------
    bars : DataFrame
        Sorted by (symbol, ts).
    n_ahead : int
    target : array of shape (n_bars - n_ahead,)
        Value of each row; NaN where it is unknown.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ts`, `label_start`, `label_end`, `target` of the rows whose end is a bar of the same symbol and whose
        value is known.
    """
    n_rows = len(target)
    labels = bars.head(n_rows).select(
        *KEY_COLUMNS,
        label_start=bars["ts"].slice(1, n_rows),
        label_end=bars["ts"].slice(n_ahead, n_rows),
        target=pl.Series(target, dtype=pl.Float64),
    )
    ends_in_same_symbol = labels["symbol"] == bars["symbol"].slice(n_ahead, n_rows)
    return labels.filter(ends_in_same_symbol & ~labels["target"].is_nan())


def bar_growth(bars: pl.DataFrame) -> npt.NDArray[np.float64]:
    """What a share was worth at each close as a multiple of the close before, events counted: shape (n_bars - 1,).

    In the order of the rows; what lies between two symbols means nothing.
    """
    close, split_ratio, dividend = (bars[name].to_numpy() for name in ("close", "split_ratio", "dividend"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(split_ratio[1:] * (close[1:] + dividend[1:]) / close[:-1])


def require_possible(bars: pl.DataFrame, *, prices: Sequence[str] = ("close",)) -> None:
    """Refuse prices and events that no share can have.

    Raises
    ------
    ValueError
        If one of `prices` is missing or not positive, or an event impossible.
    """
    split, dividend = pl.col("split_ratio"), pl.col("dividend")
    # NaN is an unknown event; a null is none of the contract.
    is_unknown = (split.is_nan() | dividend.is_nan()).fill_null(False)
    is_event = (split.is_finite() & (split > 0.0) & dividend.is_finite() & (dividend >= 0.0)).fill_null(False)
    price = pl.col(prices)
    is_price = pl.all_horizontal((price.is_finite() & (price > 0.0)).fill_null(False))
    for is_right, rule in (
        (is_price, f"{some_of([f'`{each}`' for each in prices])} must be positive and present in every bar"),
        (is_event | is_unknown, "`split_ratio` must be above zero and `dividend` not negative, or NaN where unknown"),
    ):
        if broken := bars.filter(~is_right)["symbol"].unique().sort().to_list():
            raise ValueError(f"{rule}, was not for {broken[:5]}.")


def needs_horizon(params: Params) -> TargetNeeds:
    """Return the needs of a target that looks at the next `horizon_bars` closes and their events."""
    return TargetNeeds(horizon_bars=params["horizon_bars"])


def label_return(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """`y` is the return itself."""
    return forward_return(bars, params["horizon_bars"]).with_columns(y="target")


def label_direction(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """`y` is 2 (up) above `upper`, 0 (down) below `lower`, else 1 (flat)."""
    labels = forward_return(bars, params["horizon_bars"])
    return labels.with_columns(y=pl.Series(direction_codes(labels["target"].to_numpy(), params), dtype=pl.Float64))


def direction_codes(forward: npt.NDArray[np.float64], params: Params) -> npt.NDArray[np.float64]:
    """Class code of each return."""
    # A move of exactly 1 % is 0.010000000000000009 in floats: it is not above a threshold of 1 %.
    is_up = forward > params["upper"] + ROUNDING_RETURN
    return np.asarray(1.0 + is_up - (forward < params["lower"] - ROUNDING_RETURN))


def check_direction(params: Params) -> None:
    """Refuse thresholds in the wrong order."""
    if params["lower"] > params["upper"]:
        raise ValueError(f"`lower` must not exceed `upper`, was {params['lower']} against {params['upper']}.")


def needs_open_return(params: Params) -> TargetNeeds:
    """Return the needs: opens, and one bar more than the position is held."""
    return TargetNeeds(horizon_bars=params["horizon_bars"] + 1, columns=("open", *RETURN_COLUMNS))


def label_open_return(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by what a fill at the next open can earn.

    `y` and `target` are the total return from the open of the next bar to the open `horizon_bars` later, with the splits and
    dividends of the bars after the first of these: who buys at the open of an ex-date has paid without the dividend. The label
    ends with the close of the bar whose open it needs: bars are known at their close.
    """
    n_ahead = params["horizon_bars"] + 1
    require_possible(bars, prices=("open", "close"))
    bars = bars.sort("symbol", "ts")
    n_rows = max(bars.height - n_ahead, 0)
    opens, split_ratio, dividend = (bars[name].to_numpy() for name in ("open", "split_ratio", "dividend"))
    growth = split_ratio[1:] * (opens[1:] + dividend[1:]) / opens[:-1]
    product = np.ones(n_rows)
    for step in range(1, n_ahead):
        product *= growth[step : step + n_rows]
    return fixed_ends(bars, n_ahead, product - 1.0).with_columns(y="target")


def label_up_or_down(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """`y` is 1 (up) where the return exceeds `threshold`, else 0 (down)."""
    labels = forward_return(bars, params["horizon_bars"])
    is_up = pl.col("target") > params["threshold"] + ROUNDING_RETURN
    return labels.with_columns(y=is_up.cast(pl.Float64))


def label_horizons(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by their return over each of `horizons`, told apart by `horizon`; each ends by itself."""
    parts = [
        forward_return(bars, bars_ahead).with_columns(y="target", horizon=pl.lit(bars_ahead, dtype=pl.Int32))
        for bars_ahead in params["horizons"]
    ]
    return pl.concat(parts)


def check_horizons(params: Params) -> None:
    """Refuse a horizon that is named twice."""
    if len(set(params["horizons"])) < len(params["horizons"]):
        raise ValueError(f"`horizons` must differ, was {list(params['horizons'])}.")


def needs_horizons(params: Params) -> TargetNeeds:
    """Return the needs: the bars of the longest horizon."""
    return TargetNeeds(horizon_bars=max(params["horizons"]))
