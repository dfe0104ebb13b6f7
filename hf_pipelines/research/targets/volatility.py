"""Volatility: the trailing one that barriers and thresholds are measured in, and the forward one as a target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import Number
from hf_pipelines.research.targets.returns import bar_growth, fixed_ends, forward_return, require_possible
from hf_pipelines.research.targets.target import ROUNDING_RETURN, Params, TargetNeeds

Floats = npt.NDArray[np.float64]

VOLATILITY_BARS = Number(
    default=20, low=2, high=10_080, is_whole=True, meaning="bar returns of the trailing volatility"
)


def trailing_volatility(growth: Floats, symbol: npt.NDArray[np.uint32], *, n_returns: int) -> Floats:
    """Sample standard deviation of the last `n_returns` returns at each bar; NaN where the symbol has fewer.

    Parameters
    ----------
    growth : array of shape (n_bars - 1,)
        From `bar_growth`.
    symbol : array of shape (n_bars,)
        A number for each run of rows of one symbol.
    n_returns : int
    """
    found = np.full(len(symbol), np.nan)
    n_rows = len(growth) - n_returns + 1
    if n_rows <= 0:
        return found
    # One addition a step, in the order of the bars: a running sum would make bits depend on the first bar loaded.
    mean, squares = np.zeros(n_rows), np.zeros(n_rows)
    for step in range(n_returns):
        mean += growth[step : step + n_rows]
    mean /= n_returns
    for step in range(n_returns):
        squares += (growth[step : step + n_rows] - mean) ** 2
    is_whole = symbol[n_returns:] == symbol[:-n_returns]
    found[n_returns:] = np.where(is_whole, np.sqrt(squares / (n_returns - 1)), np.nan)
    return found


def needs_volatility(params: Params) -> TargetNeeds:
    """Return the needs: the bars of the volatility before the row, `horizon_bars` after it."""
    return TargetNeeds(horizon_bars=params["horizon_bars"], history_bars=params["volatility_bars"])


def label_volatility_direction(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label a return by thresholds that are as wide as the symbol is volatile.

    `y` is 2 (up) above `upper`, 0 (down) below `lower`, else 1 (flat), of the return over `horizon_bars` in units of the
    standard deviation of the last `volatility_bars` bar returns times the root of `horizon_bars`. A row whose volatility is
    unknown or zero has no label.
    """
    bars = bars.sort("symbol", "ts")
    labels = forward_return(bars, params["horizon_bars"])
    volatility = trailing_volatility(
        bar_growth(bars), bars["symbol"].rle_id().to_numpy(), n_returns=params["volatility_bars"]
    )
    unit = bars.select(*KEY_COLUMNS, unit=pl.Series(volatility * np.sqrt(params["horizon_bars"])))
    labels = labels.join(unit, on=KEY_COLUMNS, how="left", maintain_order="left").filter(
        pl.col("unit").fill_nan(0.0) > ROUNDING_RETURN
    )
    is_up = pl.col("target") > params["upper"] * pl.col("unit") + ROUNDING_RETURN
    is_down = pl.col("target") < params["lower"] * pl.col("unit") - ROUNDING_RETURN
    return labels.with_columns(y=1.0 + is_up.cast(pl.Float64) - is_down.cast(pl.Float64)).drop("unit")


def label_realised_volatility(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by how volatile the next bars are.

    `y` and `target` are the root of the mean square of the next `horizon_bars` total returns of a bar: a volatility of one
    bar, not annualised, with no mean taken off. A row whose bars span an unknown event has no label.
    """
    n_ahead = params["horizon_bars"]
    require_possible(bars)
    bars = bars.sort("symbol", "ts")
    n_rows = max(bars.height - n_ahead, 0)
    square = (bar_growth(bars) - 1.0) ** 2
    total = np.zeros(n_rows)
    for step in range(n_ahead):
        total += square[step : step + n_rows]
    return fixed_ends(bars, n_ahead, np.sqrt(total / n_ahead)).with_columns(y="target")
