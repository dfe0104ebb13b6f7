"""Signal quality: how long a prediction is worth something, how fast it changes, how much money it bears.

Lives here: the information coefficient by horizon, turnover of ranks, capacity, a book of several strategies. Not here: the coefficient
(`metrics.ranks`), accounts (`backtest`), what an account lives on (`robustness`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.panel import TradingPanel, growth_of
from hf_pipelines.research.metrics.account import ANNUAL_SESSIONS, sharpe_ratio
from hf_pipelines.research.metrics.ranks import coefficient_summary, information_coefficient
from hf_pipelines.research.targets.returns import forward_return

HORIZONS = (1, 2, 3, 5, 10, 21, 63)

# Bars that the volume and the volatility of a trade are measured over, those before it alone.
TRAILING_BARS = 21

# Of a trade as large as a day's volume: one day's volatility (Torre 1997; Almgren et al. 2005 measure 0.6 to 1).
IMPACT = 1.0


def decay_by_horizon(
    predictions: pl.DataFrame, bars: pl.DataFrame, *, horizons: Sequence[int] = HORIZONS
) -> pl.DataFrame:
    """Rank information coefficient with the return over several horizons, all from the close of the prediction.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `session`, `ts`, `prediction`; one row a symbol and time.
    bars : DataFrame
        Bars of the same symbols.
    horizons : sequence of int
        Bars of the symbol.

    Returns
    -------
    DataFrame
        `horizon_bars`; `n_sessions` in which the coefficient is defined; `mean` of it and `t`, null where undefined. The lags of t do not
        reach over the whole of a long horizon: there it flatters.
    """
    rows = []
    for horizon in horizons:
        realised = forward_return(bars, horizon).select("symbol", "ts", realised="target")
        found = information_coefficient(
            predictions.join(realised, on=["symbol", "ts"]), prediction="prediction", target="realised"
        )
        values = found["information_coefficient"].to_numpy()
        summary = coefficient_summary(values)
        rows.append(
            {
                "horizon_bars": horizon,
                "n_sessions": int(np.isfinite(values).sum()),
                "mean": summary["mean"],
                "t": summary["t"],
            }
        )
    schema = {"horizon_bars": pl.Int64, "n_sessions": pl.Int64, "mean": pl.Float64, "t": pl.Float64}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.col("mean", "t").fill_nan(None))


def rank_turnover(predictions: pl.DataFrame) -> float:
    """How much the order of the symbols changes from one time to the next: one less the mean rank correlation of neighbouring times.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `ts`, `prediction`.

    Returns
    -------
    float
        From 0, the same order, by 1, an order that knows nothing of the one before, to 2; NaN where no two neighbours have two symbols in
        common whose predictions differ.
    """
    known = predictions.select("symbol", "ts", pl.col("prediction").cast(pl.Float64).fill_nan(None)).drop_nulls()
    places = known.select("ts").unique().sort("ts").with_row_index("place")
    placed = known.join(places, on="ts")
    before = placed.select("symbol", (pl.col("place") + 1).cast(pl.UInt32).alias("place"), before="prediction")
    pairs = placed.join(before, on=["symbol", "place"]).select("prediction", "before", session="place")
    found = information_coefficient(pairs, prediction="before", target="prediction")["information_coefficient"]
    mean = found.fill_nan(None).mean()
    return math.nan if mean is None else 1.0 - float(mean)  # type: ignore[arg-type]  # a mean of floats


def capacity(account: Account, panel: TradingPanel, *, impact: float = IMPACT) -> float:
    """Money at which market impact halves the mean return of an account, and so, its volatility unchanged, its Sharpe ratio.

    A trade of a share p of a bar's volume moves the price by `impact * sigma * sqrt(p)` against it, with sigma the volatility of a bar, both
    over the bars before it. The cost of all trades then grows with the root of the money, so that it has eaten half of the mean
    return m at (m / (2 c)) ** 2, where c is the cost of one unit of money.

    Parameters
    ----------
    account : Account
        Before impact.
    panel : TradingPanel
        What it traded, with `volume`.
    impact : float

    Returns
    -------
    float
        In the currency of the prices; 0.0 of an account that earns nothing, inf of one that never trades, NaN where volumes are not there
        for most of what it traded.

    References
    ----------
    Almgren, Thum, Hauptmann & Li (2005), "Direct Estimation of Equity Market Impact", Risk 18(7). Torre (1997), BARRA Market Impact Model
    Handbook.
    """
    if panel.volume is None:
        return math.nan
    returns = account.equity[1:] / account.equity[:-1] - 1.0
    mean = float(returns.mean()) if len(returns) else math.nan
    fills = account.fills
    if not len(fills.bar):
        return math.inf
    if not mean > 0.0:
        return 0.0
    traded = np.abs(fills.shares * fills.price)
    value = panel.volume * panel.close
    per_bar = _trailing_mean(value)
    sigma = np.sqrt(_trailing_mean(np.log(growth_of(panel)) ** 2))
    volume, volatility = per_bar[fills.bar, fills.symbol], sigma[fills.bar, fills.symbol]
    share = traded / account.equity[np.maximum(fills.bar - 1, 0)]
    is_known = np.isfinite(volume) & np.isfinite(volatility) & (volume > 0.0)
    if share[is_known].sum() < 0.5 * share.sum():
        return math.nan
    # Of an account of one unit of money; trades whose market is not known cost what the others do on average.
    cost = float((share[is_known] ** 1.5 * volatility[is_known] / np.sqrt(volume[is_known])).sum()) * impact
    per_session = cost * float(share.sum() / share[is_known].sum()) / len(returns)
    return (mean / (2.0 * per_session)) ** 2 if per_session > 0.0 else math.inf


def _trailing_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the known ones of the rows before each row; NaN where fewer than half of them are."""
    known = np.isfinite(values)
    total = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(np.where(known, values, 0.0), axis=0)])
    count = np.vstack([np.zeros((1, values.shape[1]), np.int64), np.cumsum(known, axis=0)])
    rows = np.arange(len(values))
    first = np.maximum(rows - TRAILING_BARS, 0)
    n = count[rows] - count[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(2 * n >= TRAILING_BARS, (total[rows] - total[first]) / n, np.nan)


def book_of(returns: Mapping[str, Mapping[object, float]], own: str, *, sessions_per_year: float) -> pl.DataFrame:
    """What a strategy is beside others: correlation with each, and the Sharpe ratio of a book with it and without it.

    Parameters
    ----------
    returns : mapping of strategy to (session to return)
    own : str
        One of them.
    sessions_per_year : float

    Returns
    -------
    DataFrame
        A row for each other strategy, and one `book` of all of them, each at the same volatility: `beside`, `n_sessions` in common,
        `correlation`, `sharpe_without`, `sharpe_with` (a year; null under 60 sessions).
    """
    others = [name for name in returns if name != own]
    rows = [_beside(name, returns[own], [returns[name]], sessions_per_year) for name in others]
    if len(others) > 1:
        rows.append(_beside("book", returns[own], [returns[name] for name in others], sessions_per_year))
    schema = {"beside": pl.String, "n_sessions": pl.Int64}
    schema |= dict.fromkeys(("correlation", "sharpe_without", "sharpe_with"), pl.Float64)
    return pl.DataFrame(rows, schema=schema).with_columns(pl.col(pl.Float64).fill_nan(None))


def _beside(
    name: str, own: Mapping[object, float], others: Sequence[Mapping[object, float]], sessions_per_year: float
) -> dict[str, object]:
    common = sorted(set(own).intersection(*others), key=str)
    table = np.array([[each[day] for day in common] for each in (own, *others)])
    undefined = {"correlation": math.nan, "sharpe_without": math.nan, "sharpe_with": math.nan}
    if len(common) < ANNUAL_SESSIONS or not (table.std(axis=1) > 0.0).all():
        return {"beside": name, "n_sessions": len(common), **undefined}
    scaled = table / table.std(axis=1, keepdims=True)
    without, together = scaled[1:].mean(axis=0), scaled.mean(axis=0)
    return {
        "beside": name,
        "n_sessions": len(common),
        "correlation": float(np.corrcoef(scaled[0], without)[0, 1]),
        "sharpe_without": sharpe_ratio(without, periods_per_year=sessions_per_year),
        "sharpe_with": sharpe_ratio(together, periods_per_year=sessions_per_year),
    }
