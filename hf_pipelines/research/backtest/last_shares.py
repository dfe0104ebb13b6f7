"""A panel in units of the last share: splits vanish, values and cash do not change.

Lives here: the translation that the engines of others need, which know no splits, and the way back. Not here: those engines
(`vectorbt_engine.py`, `backtrader_engine.py`); the reference multiplies shares on the day of the split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.panel import TradingPanel, fill_prices, last_known
from hf_pipelines.research.backtest.result import Execution

# Lent by both, so that no order is refused for want of cash, as a multiple of the initial cash: much more would cost digits of their
# sums.
LOAN = 1000.0


@dataclass(frozen=True, eq=False, kw_only=True)
class LastShares:
    """Prices, dividends and limits of a panel for one share as it is after the last split; arrays of shape (n_bars, n_symbols).

    Attributes
    ----------
    later : array
        Shares that one share of the row has become by the last row.
    close, fill_price : array
        NaN where the symbol has no bar.
    last_close : array
        The close, or the last one before: what a position is worth. NaN before the first bar.
    dividend : array
        Cash for one share on the row.
    """

    later: Floats
    close: Floats
    fill_price: Floats
    last_close: Floats
    dividend: Floats


def in_last_shares(panel: TradingPanel, execution: Execution) -> LastShares:
    """Translate a panel."""
    later = np.cumprod(panel.split_ratio[::-1], axis=0)[::-1] / panel.split_ratio
    close = panel.close / later
    return LastShares(
        later=later,
        close=close,
        fill_price=fill_prices(panel, execution.fill) / later,
        last_close=last_known(close),
        dividend=panel.dividend / later,
    )
