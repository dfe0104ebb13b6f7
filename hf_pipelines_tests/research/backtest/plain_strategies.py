"""Three strategies as others write them, in plain backtrader and plain vectorbt: no adapter, their own idioms.

Each function gives the fills and the account's value by bar, and the decisions: shares wanted of each symbol, by bar. What they
differ by from the contract of engines is in docs/guides/engines.md; `python -m` this module prints the sizes given there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from hf_pipelines.research.backtest import ENGINES, BacktestResult, Execution
from hf_pipelines.research.costs import Costs
from hf_pipelines_tests.research.backtest.small_market import decisions, random_market, sessions

N_BARS, CASH, FEE = 120, 1e6, 0.001
COSTS = Costs(fee_bps=10)
FAST, SLOW, SHARES = 5, 15, 100
EVERY, WINDOW = 10, 20


@dataclass(frozen=True)
class Traded:
    """What a plain strategy did: fills as (bar, symbol, shares, price), wanted shares by bar, value by bar, orders refused."""

    fills: list[tuple[int, str, float, float]]
    wanted: dict[int, dict[str, float]]
    value: np.ndarray
    refused: int = 0


def market() -> tuple[pl.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Bars, and their opens and closes by session."""
    _, bars = random_market(seed=11, n_sessions=N_BARS, n_symbols=4, events=False)
    wide = [
        bars.pivot("symbol", index="session", values=name).to_pandas().set_index("session")
        for name in ("open", "close")
    ]
    return bars, *(each.set_index(pd.to_datetime(each.index)) for each in wide)


def through_frames(bars: pl.DataFrame, traded: Traded) -> BacktestResult:
    """The same decisions as weights, through the reference."""
    close = {(s, d): c for s, d, c in bars.select("symbol", "session", "close").rows()}
    days = sessions(N_BARS)
    weights = {
        bar: {s: n * close[s, days[bar]] / traded.value[bar] for s, n in wanted.items()}
        for bar, wanted in traded.wanted.items()
    }
    return ENGINES["reference"].run(decisions(weights), bars, COSTS, Execution(initial_cash=CASH), periods_per_year=250)


def inverse_volatility(close: pd.DataFrame, gross: float) -> pd.DataFrame:
    """Target weights on every tenth bar, NaN on others."""
    spread = close.pct_change().rolling(WINDOW).std()
    weights = (1.0 / spread).div((1.0 / spread).sum(axis=1), axis=0) * gross
    return weights.where((np.arange(len(close)) % EVERY == 0)[:, None] & spread.notna())


def in_backtrader(strategy: str, *, gross: float = 0.5) -> Traded:
    """One of `cross`, `inverse_volatility` and `ranking`, by backtrader's own orders and defaults."""
    import backtrader as bt

    class Cross(bt.Strategy):
        def __init__(self) -> None:
            self.cross = {
                d: bt.ind.CrossOver(bt.ind.SMA(d.close, period=FAST), bt.ind.SMA(d.close, period=SLOW))
                for d in self.datas
            }

        def next(self) -> None:
            for d in self.datas:
                if self.cross[d][0] > 0 and not self.getposition(d).size:
                    self.buy(data=d, size=SHARES)
                elif self.cross[d][0] < 0 and self.getposition(d).size:
                    self.close(data=d)

    class InverseVolatility(bt.Strategy):
        def __init__(self) -> None:
            self.spread = {
                d: bt.ind.StandardDeviation(bt.ind.PctChange(d.close, period=1), period=WINDOW) for d in self.datas
            }

        def next(self) -> None:
            if (len(self) - 1) % EVERY:
                return
            inverse = {d: 1.0 / self.spread[d][0] for d in self.datas}
            for d in self.datas:
                self.order_target_percent(data=d, target=gross * inverse[d] / sum(inverse.values()))

    class Ranking(bt.Strategy):
        def __init__(self) -> None:
            self.momentum = {d: bt.ind.RateOfChange(d.close, period=WINDOW) for d in self.datas}

        def next(self) -> None:
            if (len(self) - 1) % EVERY:
                return
            ranked = sorted(self.datas, key=lambda d: self.momentum[d][0])
            for d in self.datas:
                side = (d is ranked[-1]) - (d is ranked[0])
                self.order_target_size(data=d, target=side * int(0.4 * self.broker.getvalue() / d.close[0]))

    kind = {"cross": Cross, "inverse_volatility": InverseVolatility, "ranking": Ranking}[strategy]

    class Noted(kind):  # type: ignore[misc, valid-type]  # chosen above
        """The same, noting what it asks for and what becomes of it."""

        def __init__(self) -> None:
            super().__init__()
            self.fills: list[tuple[int, str, float, float]] = []
            self.wanted: dict[int, dict[str, float]] = {}
            self.values = np.full(N_BARS, CASH)
            self.refused, self.asked = 0, dict[str, float]()

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                self.fills.append((len(self) - 1, order.data._name, order.executed.size, order.executed.price))
            self.refused += order.status in (order.Margin, order.Rejected)

        def next(self) -> None:
            bar = len(self) - 1
            self.values[bar] = self.broker.getvalue()
            before = {d._name: self.getposition(d).size for d in self.datas}
            self.asked = {}
            super().next()
            if self.asked:
                self.wanted[bar] = {name: n + self.asked.get(name, 0.0) for name, n in before.items()}

        def buy(self, data: Any = None, size: float = 0, **options: Any) -> Any:
            self.asked[data._name] = abs(size)
            return super().buy(data=data, size=size, **options)

        def sell(self, data: Any = None, size: float = 0, **options: Any) -> Any:
            self.asked[data._name] = -abs(size)
            return super().sell(data=data, size=size, **options)

    engine = bt.Cerebro(stdstats=False)
    _, opened, close = market()
    for name in close.columns:
        table = pd.DataFrame({"open": opened[name], "high": np.maximum(opened[name], close[name]), "low": np.minimum(opened[name], close[name]), "close": close[name], "volume": 0, "openinterest": 0})  # fmt: skip
        engine.adddata(bt.feeds.PandasData(dataname=table), name=name)
    engine.broker.setcash(CASH)
    engine.broker.setcommission(commission=FEE)
    engine.addstrategy(Noted)
    (done,) = engine.run()
    return Traded(sorted(done.fills), done.wanted, done.values, done.refused)


def in_vectorbt(strategy: str, *, gross: float = 0.5, at_once: bool = False) -> Traded:
    """The same by vectorbt's arrays: the next open is its user's to shift to, `at_once` is what it does unasked."""
    import vectorbt as vbt

    _, opened, close = market()
    shared: dict[str, Any] = {"fees": FEE, "init_cash": CASH, "cash_sharing": True, "group_by": np.zeros(4, int)}
    fill = {} if at_once else {"price": opened}
    lag = 0 if at_once else 1
    if strategy == "cross":
        fast, slow = (vbt.MA.run(close, window=n).ma.to_numpy() for n in (FAST, SLOW))
        above = fast > slow
        crossed = np.vstack([np.zeros((1, 4), bool), above[1:] & ~above[:-1] & np.isfinite(slow[:-1])])
        below = np.vstack([np.zeros((1, 4), bool), ~above[1:] & above[:-1]])
        entries, exits = (pd.DataFrame(each, close.index, close.columns) for each in (crossed, below))
        entries, exits = (each.shift(lag, fill_value=False) for each in (entries, exits))
        portfolio = vbt.Portfolio.from_signals(close, entries, exits, size=SHARES, **fill, **shared)
        held = np.asarray(portfolio.assets())
        later = np.vstack([held[lag:], held[-1:].repeat(lag, axis=0)]) if lag else held
    elif strategy == "inverse_volatility":
        weights = inverse_volatility(close, gross)
        valued = {} if at_once else {"val_price": close.shift(1).bfill()}
        portfolio = vbt.Portfolio.from_orders(
            close, weights.shift(lag), size_type="targetpercent", call_seq="auto", **fill, **valued, **shared
        )
        held = np.asarray(portfolio.assets())
        later = np.vstack([held[lag:], held[-1:].repeat(lag, axis=0)]) if lag else held
    else:
        rank = close.pct_change(WINDOW).rank(axis=1)
        side = (rank == 4).astype(float) - (rank == 1).astype(float)
        wanted = (side * np.floor(0.4 * CASH / close)).where((np.arange(N_BARS) % EVERY == 0)[:, None] & rank.notna())
        portfolio = vbt.Portfolio.from_orders(close, wanted.shift(lag), size_type="targetamount", **fill, **shared)
        held = np.asarray(portfolio.assets())
        later = np.vstack([held[lag:], held[-1:].repeat(lag, axis=0)]) if lag else held
    records = portfolio.orders.records
    fills = [
        (int(r.idx), close.columns[r.col], r.size if r.side == 0 else -r.size, r.price) for r in records.itertuples()
    ]
    bars = sorted({bar - lag for bar, *_ in fills})
    wanted_at = {bar: dict(zip(close.columns, later[bar].tolist(), strict=True)) for bar in bars}
    return Traded(sorted(fills), wanted_at, np.asarray(portfolio.value()).ravel())


def main() -> None:
    """Print how far habits of the other engines are from the contract."""
    bars, *_ = market()
    for name in ("cross", "inverse_volatility", "ranking"):
        shifted = in_vectorbt(name)
        at_once = in_vectorbt(name, at_once=True)
        print(
            f"vectorbt {name} filled on the bar of the signal: {apart(at_once.value, shifted.value):.2%} of equity at most"
        )
    for gross in (0.5, 1.0):
        plain = in_backtrader("inverse_volatility", gross=gross)
        ours = through_frames(bars, plain)
        own = ours.account.equity / plain.value[-len(ours.account.equity) :] - 1.0
        print(
            f"backtrader inverse_volatility, gross {gross}: {plain.refused} orders refused, {np.abs(own).max():.2%} of equity at most"
        )


def apart(values: np.ndarray, others: np.ndarray) -> float:
    """Largest difference as a fraction."""
    return float(np.abs(values / others - 1.0).max())


if __name__ == "__main__":
    main()
