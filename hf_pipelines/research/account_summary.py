"""All numbers of an account in one table: the headline first, then risk, losses, falls, trades, and beside a benchmark.

Lives here: `ACCOUNT_METRICS`, what each number is of, its unit and group. To add one: a line. Not here: the definitions (`metrics`), the
headline that tuning and random strategies need too (`backtest/result.py`), scores by fold (`account_table`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research import metrics
from hf_pipelines.research.account_table import SEED, score_returns
from hf_pipelines.research.backtest.account_baselines import benchmark_panel
from hf_pipelines.research.backtest.result import BacktestResult

Floats = NDArray[np.float64]

SCHEMA: dict[str, type[pl.DataType]] = {
    "group": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "unit": pl.String,
}

HEADLINE, RISK, LOSSES, FALLS, BARS, TRADES, BENCHMARK, ACTIVITY, COSTS = (
    "headline", "risk", "losses", "falls", "bars", "trades", "benchmark", "activity", "costs",
)  # fmt: skip

FRACTION, A_YEAR, RATIO, RATIO_A_YEAR, OF_INITIAL = (
    "fraction", "fraction a year", "ratio", "ratio a year", "fraction of the initial cash",
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What numbers are made of.

    Attributes
    ----------
    result : BacktestResult
    returns : array
        Of each bar after the first.
    own, benchmark : array
        Returns of the account and of a benchmark, from each bar that both have to the next such bar; empty without one.
    """

    result: BacktestResult
    returns: Floats
    own: Floats
    benchmark: Floats

    @property
    def periods_per_year(self) -> float:
        """Bars in a year of the market's calendar."""
        return self.result.periods_per_year

    @property
    def equity(self) -> Floats:
        """The account at the close of each bar."""
        return self.result.account.equity

    def of_trades(self, column: str) -> Floats:
        """A column of the trades from flat to flat, those that are open among them."""
        values: Floats = self.result.round_trips[column].cast(pl.Float64).to_numpy()
        return values


@dataclass(frozen=True, kw_only=True)
class AccountMetric:
    """A number of an account.

    Attributes
    ----------
    name : str
    group : str
        Of the table, in its order.
    unit : str
    meaning : str
        In words, with when it is undefined.
    of : callable
        Makes it; NaN where undefined.
    is_annual : bool
        Undefined for fewer than `metrics.ANNUAL_SESSIONS` sessions.
    """

    name: str
    group: str
    unit: str
    meaning: str
    of: Callable[[Measured], float]
    is_annual: bool = False


def benchmark_index(result: BacktestResult, bars: pl.DataFrame, benchmark: str) -> pl.DataFrame | None:
    """What one unit of a benchmark has grown to, dividends bought in again, without costs.

    Parameters
    ----------
    result : BacktestResult
        Whose bars it is beside.
    bars : DataFrame
        Those of the benchmark among them.
    benchmark : str
        Its symbol.

    Returns
    -------
    DataFrame or None
        `ts`, `value`, on the benchmark's own bars; None where it has none.
    """
    panel = benchmark_panel(result.panel, bars, benchmark)
    if panel is None:
        return None
    close, split_ratio, dividend = panel.close[:, 0], panel.split_ratio[:, 0], panel.dividend[:, 0]
    growth = split_ratio[1:] * (close[1:] + dividend[1:]) / close[:-1]
    return pl.DataFrame({"ts": panel.ts, "value": np.concatenate([[1.0], np.cumprod(growth)])})


def summarise_account(
    result: BacktestResult, *, label_sessions: int = 1, benchmark: pl.DataFrame | None = None
) -> pl.DataFrame:
    """All numbers of an account.

    Parameters
    ----------
    result : BacktestResult
    label_sessions : int, default 1
        Sessions that a label spans, at least 1: so does a block of the bootstrap.
    benchmark : DataFrame, optional
        From `benchmark_index`; without it the numbers beside a benchmark are undefined.

    Returns
    -------
    DataFrame
        A row a number, in the order of `ACCOUNT_METRICS`: `group`, `metric`, `value`, null where it is undefined (NaN); `low` and `high` of
        an interval of 95 %, null where it has none; `unit`. The Sharpe ratio's interval is that of a block bootstrap over sessions, as
        in the table of scores; that of its standard error is Lo's.
    """
    own, other = _beside(result, benchmark)
    measured = Measured(result=result, returns=metrics.returns_of(result.account.equity), own=own, benchmark=other)
    is_short = result.metrics["n_sessions"] < metrics.ANNUAL_SESSIONS
    rows: list[dict[str, object]] = [
        {
            "group": each.group,
            "metric": each.name,
            "value": math.nan if each.is_annual and is_short else float(each.of(measured)),
            "unit": each.unit,
        }
        for each in (*ACCOUNT_METRICS.values(), *_of_own_costs(result))
    ]
    if not is_short:
        for name, (low, high) in _sharpe_intervals(measured, label_sessions).items():
            next(row for row in rows if row["metric"] == name).update(low=low, high=high)
    return pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))


def values_of(summary: pl.DataFrame) -> dict[str, float]:
    """The numbers of a summary by name.

    Parameters
    ----------
    summary : DataFrame
        From `summarise_account`, of one account.

    Returns
    -------
    dict of str to float
        Fractions, ratios, bars and counts, as the table's `unit` says; without those that are undefined.
    """
    return {str(name): float(value) for name, value in summary.select("metric", "value").drop_nulls().rows()}


def _beside(result: BacktestResult, benchmark: pl.DataFrame | None) -> tuple[Floats, Floats]:
    """Returns of the account and of a benchmark over the same spans."""
    if benchmark is None:
        return np.empty(0), np.empty(0)
    both = result.equity.select("ts", "equity").join(benchmark, on="ts", how="inner").sort("ts")
    if both.is_empty():
        return np.empty(0), np.empty(0)
    return metrics.returns_of(both["equity"]), metrics.returns_of(both["value"])


def _sharpe_intervals(measured: Measured, label_sessions: int) -> Mapping[str, tuple[float, float]]:
    earned = measured.result.equity[1:].select("session", value=pl.Series(measured.returns))
    rows, _ = score_returns([earned], label_sessions, measured.periods_per_year, seed=[SEED, 0])
    drawn = next(row for row in rows if row["score"] == "sharpe_ratio")
    los = metrics.sharpe_interval(measured.returns, periods_per_year=measured.periods_per_year)
    return {"sharpe_ratio": (float(str(drawn["low"])), float(str(drawn["high"]))), "sharpe_standard_error": los}


def _of_own_costs(result: BacktestResult) -> list[AccountMetric]:
    """Totals of costs that only this account's engine charges."""
    known = {*ACCOUNT_METRICS}
    return [
        _headline(name, COSTS, OF_INITIAL, "paid of a kind that the engine charges")
        for name in result.metrics
        if name not in known
    ]


def _headline(name: str, group: str, unit: str, meaning: str) -> AccountMetric:
    """A number that every account has by itself, defined or not."""
    return AccountMetric(name=name, group=group, unit=unit, meaning=meaning, of=lambda m: m.result.metrics[name])


def _tail(name: str, measure: Callable[..., float], level: float, meaning: str) -> AccountMetric:
    return AccountMetric(
        name=f"{name}_{level * 100:.0f}",
        group=LOSSES,
        unit=FRACTION,
        meaning=f"{meaning}; undefined with fewer than {round(1.0 / (1.0 - level))} bars",
        of=lambda m: measure(m.returns, level=level),
    )


def _of_bars(
    name: str, unit: str, meaning: str, measure: Callable[[Floats], float], group: str = BARS
) -> AccountMetric:
    return AccountMetric(name=name, group=group, unit=unit, meaning=meaning, of=lambda m: measure(m.returns))


def _of_falls(name: str, unit: str, meaning: str, measure: Callable[[Floats], float]) -> AccountMetric:
    return AccountMetric(name=name, group=FALLS, unit=unit, meaning=meaning, of=lambda m: measure(m.equity))


def _of_trades(name: str, unit: str, meaning: str, measure: Callable[[Floats], float], of: str) -> AccountMetric:
    return AccountMetric(name=name, group=TRADES, unit=unit, meaning=meaning, of=lambda m: measure(m.of_trades(of)))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _annual(name: str, group: str, unit: str, meaning: str, of: Callable[[Measured, float], float]) -> AccountMetric:
    return AccountMetric(
        name=name, group=group, unit=unit, meaning=meaning, of=lambda m: of(m, m.periods_per_year), is_annual=True
    )


_var, _shortfall = metrics.value_at_risk, metrics.expected_shortfall
_bent_var, _bent_shortfall = metrics.cornish_fisher_value_at_risk, metrics.cornish_fisher_expected_shortfall

ACCOUNT_METRICS: dict[str, AccountMetric] = {
    metric.name: metric
    for metric in (
        _headline("total_return", HEADLINE, FRACTION, "last equity over the first, less 1"),
        _headline("annual_return", HEADLINE, A_YEAR, "compound growth (CAGR)"),
        _headline("annual_volatility", HEADLINE, A_YEAR, "sample deviation of the returns of bars"),
        _headline(
            "sharpe_ratio", HEADLINE, RATIO_A_YEAR, "mean over deviation, no risk-free rate; interval: block bootstrap"
        ),
        _headline("max_drawdown", HEADLINE, FRACTION, "largest loss from a peak, positive"),
        _headline("turnover_per_year", HEADLINE, A_YEAR, "traded value, buys and sells, over equity"),
        _headline("costs_total", HEADLINE, OF_INITIAL, "all kinds of costs paid"),
        _annual(
            "sharpe_standard_error",
            RISK,
            RATIO_A_YEAR,
            "of the Sharpe ratio (Lo 2002, Newey-West); interval: the ratio's",
            lambda m, n: metrics.sharpe_standard_error(m.returns, periods_per_year=n),
        ),
        _annual(
            "sortino_ratio",
            RISK,
            RATIO_A_YEAR,
            "mean over downside deviation; undefined where no bar lost",
            lambda m, n: metrics.sortino_ratio(m.returns, periods_per_year=n),
        ),
        _annual(
            "calmar_ratio",
            RISK,
            RATIO_A_YEAR,
            "annual return over the largest drawdown; undefined where it never fell",
            lambda m, n: metrics.calmar_ratio(m.equity, periods_per_year=n),
        ),
        _of_bars(
            "omega_ratio",
            RATIO,
            "gains over losses of bars against a target of 0; undefined where no bar lost",
            metrics.omega_ratio,
            RISK,
        ),
        *(_tail("value_at_risk", _var, level, "loss of a bar that is exceeded so rarely") for level in (0.95, 0.99)),
        *(
            _tail("expected_shortfall", _shortfall, level, "mean loss of the bars beyond (CVaR)")
            for level in (0.95, 0.99)
        ),
        *(
            _tail("cornish_fisher_value_at_risk", _bent_var, level, "the same by skewness and kurtosis")
            for level in (0.95, 0.99)
        ),
        *(
            _tail("cornish_fisher_expected_shortfall", _bent_shortfall, level, "the same by skewness and kurtosis")
            for level in (0.95, 0.99)
        ),
        _of_bars(
            "skewness", RATIO, "of the returns of bars; undefined where they are constant", metrics.skewness, LOSSES
        ),
        _of_bars("kurtosis", RATIO, "of the returns of bars, 3 if normal", metrics.kurtosis, LOSSES),
        _of_bars(
            "tail_ratio",
            RATIO,
            "gain that 1 bar in 20 exceeds over the loss that 1 in 20 exceeds",
            metrics.tail_ratio,
            LOSSES,
        ),
        _of_falls(
            "longest_drawdown_bars",
            "bars",
            "from a peak until it is reached again, or to the end",
            metrics.longest_drawdown,
        ),
        _of_falls(
            "recovery_bars",
            "bars",
            "from the deepest bottom to its peak again; undefined until then",
            metrics.recovery_of_max_drawdown,
        ),
        _of_falls("ulcer_index", FRACTION, "root mean square of the drawdown", metrics.ulcer_index),
        _of_falls("time_under_water", FRACTION, "bars below an earlier peak", metrics.time_under_water),
        _headline("hit_rate", BARS, FRACTION, "bars that gained, of those that moved"),
        _of_bars("profit_factor", RATIO, "gains over losses; undefined where no bar lost", metrics.profit_factor),
        _of_bars("average_win", FRACTION, "mean of the bars that gained", metrics.average_win),
        _of_bars("average_loss", FRACTION, "mean of the bars that lost, positive", metrics.average_loss),
        _of_bars("payoff_ratio", RATIO, "average win over average loss", metrics.payoff_ratio),
        _of_bars("expectancy", FRACTION, "mean of the bars that moved", metrics.expectancy),
        _of_trades(
            "n_round_trips",
            "count",
            "positions from flat to flat, open ones among them",
            lambda v: float(len(v)),
            "pnl",
        ),
        _of_trades(
            "trade_win_rate",
            FRACTION,
            "trades with a profit after costs, of those with a profit or a loss",
            metrics.hit_rate,
            "pnl",
        ),
        _of_trades("trade_profit_factor", RATIO, "profits over losses, in currency", metrics.profit_factor, "pnl"),
        _of_trades(
            "trade_average_win",
            FRACTION,
            "mean profit over entry value, of trades that gained",
            metrics.average_win,
            "return",
        ),
        _of_trades(
            "trade_average_loss", FRACTION, "mean loss over entry value, positive", metrics.average_loss, "return"
        ),
        _of_trades(
            "trade_payoff_ratio", RATIO, "average win over average loss of trades", metrics.payoff_ratio, "return"
        ),
        _of_trades("trade_expectancy", FRACTION, "mean profit over entry value", metrics.expectancy, "return"),
        _of_trades("mean_holding_bars", "bars", "from the first to the last fill", _mean, "holding_bars"),
        AccountMetric(
            name="benchmark_return",
            group=BENCHMARK,
            unit=FRACTION,
            meaning="of the benchmark, dividends with it, no costs",
            of=lambda m: float(np.expm1(np.log1p(m.benchmark).sum())) if len(m.benchmark) else math.nan,
        ),
        _annual(
            "alpha",
            BENCHMARK,
            A_YEAR,
            "mean return that beta does not explain",
            lambda m, n: metrics.alpha(m.own, m.benchmark, periods_per_year=n),
        ),
        AccountMetric(
            name="beta",
            group=BENCHMARK,
            unit=RATIO,
            meaning="slope of the returns on the benchmark's",
            of=lambda m: metrics.beta(m.own, m.benchmark),
        ),
        _annual(
            "information_ratio",
            BENCHMARK,
            RATIO_A_YEAR,
            "Sharpe ratio of the difference to the benchmark",
            lambda m, n: metrics.information_ratio(m.own, m.benchmark, periods_per_year=n),
        ),
        _annual(
            "up_capture",
            BENCHMARK,
            RATIO,
            "growth over the benchmark's, on its rising bars",
            lambda m, n: metrics.up_capture(m.own, m.benchmark, periods_per_year=n),
        ),
        _annual(
            "down_capture",
            BENCHMARK,
            RATIO,
            "growth over the benchmark's, on its falling bars",
            lambda m, n: metrics.down_capture(m.own, m.benchmark, periods_per_year=n),
        ),
        _headline("mean_gross_exposure", ACTIVITY, FRACTION, "absolute value of the positions over equity"),
        AccountMetric(
            name="mean_net_exposure",
            group=ACTIVITY,
            unit=FRACTION,
            meaning="long less short value over equity",
            of=lambda m: _mean(m.result.equity["net_exposure"].to_numpy()),
        ),
        _headline("n_sessions", ACTIVITY, "count", "sessions"),
        _headline("n_bars", ACTIVITY, "count", "bars"),
        _headline("n_trades", ACTIVITY, "count", "fills"),
        _headline("unfilled_orders", ACTIVITY, "count", "orders dropped, or of which a limit left something"),
        _headline("fees_total", COSTS, OF_INITIAL, "commissions paid"),
        _headline("slippage_total", COSTS, OF_INITIAL, "slippage paid"),
        _headline("borrow_total", COSTS, OF_INITIAL, "fees on borrowed shares paid"),
        _headline("dividends_total", COSTS, OF_INITIAL, "received less paid on short positions"),
        _headline("min_cash", COSTS, OF_INITIAL, "least cash; negative: money was borrowed"),
    )
}
