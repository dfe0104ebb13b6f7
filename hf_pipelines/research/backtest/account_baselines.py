"""Accounts that take no skill, beside that of a strategy: the benchmark held, equal weights, and random strategies.

Lives here: how each is decided, and their table. Not here: baselines of predictions (`research/baselines.py`), the picture (`plots.py`).
All of them are kept by the reference engine with the strategy's costs and fills, over its bars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.grid import Floats
from hf_pipelines.research.backtest.panel import TradingPanel, build_trading_panel
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.backtest.result import BacktestResult, Execution, columns_of, equity_frame, summarise
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.costs import Costs

# Random strategies: enough for quantiles of 5 and 95 % that move by a twentieth.
N_RANDOM = 100
SHOWN_QUANTILES = {"random, 5 % quantile": 0.05, "random, median": 0.5, "random, 95 % quantile": 0.95}

STRATEGY, EQUAL_WEIGHT, RANDOM = "strategy", "equal weight", "random"

SHOWN = (
    "total_return",
    "annual_return",
    "annual_volatility",
    "sharpe_ratio",
    "max_drawdown",
    "turnover_per_year",
    "costs_total",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class AccountBaselines:
    """What a strategy is held to.

    Attributes
    ----------
    table : DataFrame
        A row each for the strategy, the benchmark bought and held, equal weights, and quantiles of random strategies, each number
        by itself: `account`, and the metrics of `SHOWN`, null where undefined.
    curves : mapping of str to DataFrame
        `session`, `equity` of the benchmark and of equal weights.
    band : DataFrame
        `session`, `low`, `high`: 5 and 95 % of the random strategies' equity on each bar.
    beats_random : float
        Share of the random strategies that returned less than the strategy.
    """

    table: pl.DataFrame
    curves: Mapping[str, pl.DataFrame]
    band: pl.DataFrame
    beats_random: float

    @property
    def drawn(self) -> pl.DataFrame:
        """All that is drawn behind the strategy's curve.

        Returns
        -------
        DataFrame
            `account`, `session`, `equity`; of the account `RANDOM` `low` and `high` of its band instead.
        """
        curves = [
            frame.select(pl.lit(name).alias("account"), "session", "equity") for name, frame in self.curves.items()
        ]
        band = self.band.select(pl.lit(RANDOM).alias("account"), "session", "low", "high")
        return pl.concat([*curves, band], how="diagonal")


def account_baselines(
    result: BacktestResult,
    bars: pl.DataFrame,
    *,
    benchmark: str,
    costs: Costs,
    execution: Execution,
    periods_per_year: float,
    seed: int,
) -> AccountBaselines:
    """Keep the accounts that a strategy is held to.

    Parameters
    ----------
    result : BacktestResult
        Of the strategy.
    bars : DataFrame
        What it was made of, those of the benchmark among them.
    benchmark : str
        Symbol of bars of the role "reference"; left out of the table where it has no bar.
    costs, execution, periods_per_year
        Of the strategy.
    seed : int
        Of the random strategies. Each takes the strategy's own decisions at other times (all moved by one number of decisions)
        and of other symbols (exchanged by one permutation): it holds and trades as much, and knows nothing. Where a symbol
        that it draws has no bar it holds nothing of it, so it may trade a little less.

    Returns
    -------
    AccountBaselines
    """
    panel = result.panel
    found: dict[str, dict[str, float]] = {STRATEGY: dict(result.metrics)}
    curves: dict[str, pl.DataFrame] = {}
    held = benchmark_panel(panel, bars, benchmark, columns_of(execution, costs))
    others = {} if held is None else {f"{benchmark}, bought and held": held}
    for name, each in {**others, EQUAL_WEIGHT: _equal_weights(panel)}.items():
        account = simulate_panel(each, costs if each is not held else _without_volume(costs, each), execution)
        frame = equity_frame(account, each)
        found[name] = summarise(frame, account, periods_per_year=periods_per_year)
        curves[name] = frame.select("session", "equity")
    draws = [
        (account.equity, _metrics(account, panel, periods_per_year))
        for account in (simulate_panel(each, costs, execution) for each in _random_panels(panel, seed))
    ]
    for name, level in SHOWN_QUANTILES.items():
        found[name] = {key: _quantile([each[key] for _, each in draws], level) for key in SHOWN}
    equities = np.array([equity for equity, _ in draws])
    returns = np.array([each["total_return"] for _, each in draws])
    low, high = np.quantile(equities, [0.05, 0.95], axis=0)
    table = pl.DataFrame([{"account": name, **{key: each[key] for key in SHOWN}} for name, each in found.items()])
    return AccountBaselines(
        table=table.with_columns(pl.col(pl.Float64).fill_nan(None)),
        curves=curves,
        band=pl.DataFrame({"session": panel.session, "low": low, "high": high}),
        beats_random=float((returns < result.metrics["total_return"]).mean()),
    )


def benchmark_panel(
    panel: TradingPanel, bars: pl.DataFrame, benchmark: str, extra: tuple[str, ...] = ()
) -> TradingPanel | None:
    """The benchmark alone, bought whole after its first bar."""
    own = bars.filter((pl.col("symbol") == benchmark) & pl.col("ts").is_between(panel.ts[0], panel.ts[-1])).sort("ts")
    if own.is_empty():
        return None
    if "role" in own.columns:
        own = own.with_columns(role=pl.lit("member", dtype=own.schema["role"]))
    weights = own.head(1).select("symbol", "session", "ts", weight=pl.lit(1.0))
    return build_trading_panel(weights, own, extra=extra)


def _without_volume(costs: Costs, held: TradingPanel) -> Costs:
    """The same for a benchmark, which may be an index: without the kinds that look at volumes where it has none."""
    if held.volume is None or (np.nan_to_num(held.volume) > 0.0).any():
        return costs
    kept = [each for each in costs.kinds if "volume" not in COST_KINDS[each[0]].columns(each[1])]
    return replace(costs, kinds=tuple(kept))


def _equal_weights(panel: TradingPanel) -> TradingPanel:
    """An equal part of each symbol that has a bar, at each of the strategy's decisions."""
    there = ~np.isnan(panel.close)
    return replace(panel, weights=there / np.maximum(there.sum(axis=1, keepdims=True), 1))


def _random_panels(panel: TradingPanel, seed: int) -> Iterator[TradingPanel]:
    rng = np.random.default_rng(seed)
    decided = panel.weights[panel.is_decision]
    for _ in range(N_RANDOM):
        moved = np.roll(decided, int(rng.integers(len(decided))), axis=0)[:, rng.permutation(decided.shape[1])]
        weights = np.zeros(panel.weights.shape)
        weights[panel.is_decision] = moved
        yield replace(panel, weights=np.where(np.isnan(panel.close), 0.0, weights))


def _metrics(account: Account, panel: TradingPanel, periods_per_year: float) -> dict[str, float]:
    if not (account.equity > 0.0).all():
        # Ruined: all is lost, and nothing else of it is defined.
        return {**dict.fromkeys(SHOWN, float("nan")), "total_return": -1.0, "max_drawdown": 1.0}
    return summarise(equity_frame(account, panel), account, periods_per_year=periods_per_year)


def _quantile(values: list[float], level: float) -> float:
    known: Floats = np.array([each for each in values if each == each])
    return float(np.quantile(known, level)) if len(known) else float("nan")
