"""Returns over a fixed number of bars: the return itself, and its direction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import Number
from hf_pipelines.research.targets.target import ROUNDING_RETURN, Params, TargetNeeds

# A week of minutes around the clock.
HORIZON_BARS = Number(
    default=None, low=1, high=10_080, is_whole=True, is_optional=True, meaning="bars of the symbol to look ahead"
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
    labels = bars.head(n_ahead).select(
        *KEY_COLUMNS,
        label_start=bars["ts"].slice(1, n_ahead),
        label_end=bars["ts"].slice(horizon_bars, n_ahead),
        target=pl.Series(product - 1.0, dtype=pl.Float64),
    )
    ends_in_same_symbol = labels["symbol"] == bars["symbol"].slice(horizon_bars, n_ahead)
    return labels.filter(ends_in_same_symbol & ~labels["target"].is_nan())


def bar_growth(bars: pl.DataFrame) -> npt.NDArray[np.float64]:
    """What a share was worth at each close as a multiple of the close before, events counted: shape (n_bars - 1,).

    In the order of the rows; what lies between two symbols means nothing.
    """
    close, split_ratio, dividend = (bars[name].to_numpy() for name in ("close", "split_ratio", "dividend"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(split_ratio[1:] * (close[1:] + dividend[1:]) / close[:-1])


def require_possible(bars: pl.DataFrame) -> None:
    """Refuse prices and events that no share can have.

    Raises
    ------
    ValueError
        If a close is missing or not positive, or an event impossible.
    """
    close, split, dividend = pl.col("close"), pl.col("split_ratio"), pl.col("dividend")
    # NaN is an unknown event; a null is none of the contract.
    is_unknown = (split.is_nan() | dividend.is_nan()).fill_null(False)
    is_event = (split.is_finite() & (split > 0.0) & dividend.is_finite() & (dividend >= 0.0)).fill_null(False)
    is_price = (close.is_finite() & (close > 0.0)).fill_null(False)
    for is_right, rule in (
        (is_price, "`close` must be positive and present in every bar"),
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
