"""First touch: which side of a band of trailing volatilities the price leaves first, and when."""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.targets.returns import bar_growth, require_possible
from hf_pipelines.research.targets.target import ROUNDING_RETURN, Params, label_rows
from hf_pipelines.research.targets.volatility import trailing_volatility


def label_first_touch(bars: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Label rows by the first close that leaves the band around their own.

    The band is `width` standard deviations of the last `volatility_bars` bar returns, each side. The label ends at the first
    of the next `horizon_bars` bars whose total return since the row lies outside of it, with `y` 2 (up) or 0 (down); where
    none does, at the last of them, with `y` 1 (flat). `target` is the total return to that bar.

    A row has no label where its volatility is unknown or zero, an event inside the label is unknown, or the bars end before
    either has happened.
    """
    require_possible(bars)
    bars = bars.sort("symbol", "ts")
    growth, n_bars = bar_growth(bars), bars.height
    symbol = bars["symbol"].rle_id().to_numpy()
    band = params["width"] * trailing_volatility(growth, symbol, n_returns=params["volatility_bars"])
    rows = np.flatnonzero(np.nan_to_num(band) > ROUNDING_RETURN)
    end, reached = np.full(n_bars, -1), np.full(n_bars, np.nan)
    side = np.ones(n_bars)
    product = np.ones(n_bars)
    for step in range(1, params["horizon_bars"] + 1):
        rows = rows[rows + step < n_bars]
        rows = rows[symbol[rows + step] == symbol[rows]]
        product[rows] *= growth[rows + step - 1]
        move = product[rows] - 1.0
        # Beyond the rounding of a threshold, as a direction is; an unknown event ends the row: no comparison holds.
        is_out = np.abs(move) > band[rows] + ROUNDING_RETURN
        is_over = is_out | ((step == params["horizon_bars"]) & ~np.isnan(move))
        ended = rows[is_over]
        end[ended], reached[ended] = ended + step, move[is_over]
        side[ended] += np.sign(move[is_over]) * is_out[is_over]
        rows = rows[~is_over & ~np.isnan(move)]
    labelled = np.flatnonzero(end >= 0)
    labels = label_rows(bars, labelled, end[labelled], target=reached[labelled])
    return labels.with_columns(y=pl.Series(side[labelled]))
