"""Signal quality: planted decay, orders that turn, capacity and books worked out by hand."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from hf_pipelines.research.backtest import Execution
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.signal_quality import book_of, capacity, decay_by_horizon, rank_turnover
from hf_pipelines_tests.research.robustness.test_robustness import ahead, gross_one, panel_of, walk


def long_of(values: np.ndarray, name: str = "prediction") -> pl.DataFrame:
    n, symbols = values.shape
    days = pl.Series([date(2010, 1, 4) + timedelta(days=at) for at in range(n)])
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{at:02d}" for at in range(symbols)], n),
            "session": pl.concat([days] * symbols),
            "ts": pl.concat([days.cast(pl.Datetime("us", "UTC"))] * symbols),
            name: values.T.ravel(),
        }
    )


def bars_of(close: np.ndarray) -> pl.DataFrame:
    return long_of(close, "close").with_columns(open=pl.col("close"), split_ratio=pl.lit(1.0), dividend=pl.lit(0.0))


def test_decay_finds_the_horizon_of_what_was_planted_and_equals_scipy():
    rng = np.random.default_rng(0)
    _, close = walk(rng, n=600, symbols=20)
    logs = np.log(close)
    known = np.zeros_like(close)
    # It knows the second bar after its own and nothing else.
    known[:-2] = logs[2:] - logs[1:-1]
    prediction = known / known.std() + 2.0 * rng.normal(size=close.shape)
    found = decay_by_horizon(long_of(prediction), bars_of(close), horizons=(1, 2, 5, 21)).to_dicts()
    means = {row["horizon_bars"]: row["mean"] for row in found}
    assert abs(means[1]) < 0.03 and means[2] > 0.25 > means[5] > 0.1 > means[21] > 0.0
    assert {row["horizon_bars"]: row["n_sessions"] for row in found} == {1: 599, 2: 598, 5: 595, 21: 579}
    by_session = [spearmanr(prediction[at], close[at + 2] / close[at]).statistic for at in range(598)]
    assert means[2] == pytest.approx(np.mean(by_session), abs=1e-12)


def test_turnover_of_ranks_of_orders_that_stay_turn_and_know_nothing():
    order = np.arange(6.0)
    assert rank_turnover(long_of(np.tile(order, (10, 1)))) == pytest.approx(0.0)
    assert rank_turnover(long_of(np.stack([order, -order] * 5))) == pytest.approx(2.0)
    rng = np.random.default_rng(1)
    assert rank_turnover(long_of(rng.normal(size=(2_000, 6)))) == pytest.approx(1.0, abs=0.03)
    # 0 1 2 to 0 2 1: a rank correlation of one half. A symbol that is not there on both sides takes no part.
    values = np.array([[0.0, 1.0, 2.0, np.nan], [0.0, 2.0, 1.0, 5.0]])
    assert rank_turnover(long_of(values)) == pytest.approx(0.5)
    assert np.isnan(rank_turnover(long_of(np.ones((3, 4))))) and np.isnan(rank_turnover(long_of(values[:1])))


def test_capacity_by_hand_and_halves_the_mean_return():
    # A share that gains 1 % each bar, traded between all and nothing: 100 shares of volume a bar.
    n = 60
    close = 50.0 * 1.01 ** np.arange(n)[:, None]
    weights = np.tile([[1.0], [0.0]], (n // 2, 1))
    panel = replace(panel_of(weights, close, close), volume=np.full((n, 1), 100.0))
    account = simulate_panel(panel, Costs(), Execution())
    found = capacity(account, panel)
    fills, returns = account.fills, account.equity[1:] / account.equity[:-1] - 1.0
    cost = 0.0
    for bar, shares, price in zip(fills.bar, fills.shares, fills.price, strict=True):
        if bar < 21 / 2 + 1:
            continue
        before = slice(max(bar - 21, 0), bar)
        volume = float(np.mean(100.0 * close[before, 0]))
        part = abs(shares * price) / account.equity[bar - 1]
        cost += part**1.5 * np.log(1.01) / np.sqrt(volume)
    known = fills.bar >= 21 / 2 + 1
    share = np.abs(fills.shares * fills.price) / account.equity[fills.bar - 1]
    per_session = cost * share.sum() / share[known].sum() / len(returns)
    assert found == pytest.approx((returns.mean() / (2.0 * per_session)) ** 2, rel=1e-9)
    # Four times the volume bears four times the money; twice the impact a quarter.
    more = replace(panel, volume=4.0 * panel.volume)
    assert capacity(account, more) == pytest.approx(4.0 * found)
    assert capacity(account, panel, impact=2.0) == pytest.approx(found / 4.0)


def test_capacity_that_cannot_be_told_is_stated():
    n = 60
    close = 50.0 * 1.01 ** np.arange(n)[:, None]
    falling = close[::-1].copy()
    held = panel_of(np.tile([[1.0], [0.0]], (n // 2, 1)), falling, falling)
    assert np.isnan(capacity(simulate_panel(held, Costs(), Execution()), held))
    with_volume = replace(held, volume=np.full((n, 1), 100.0))
    assert capacity(simulate_panel(with_volume, Costs(), Execution()), with_volume) == 0.0
    idle = replace(with_volume, weights=np.zeros((n, 1)))
    assert capacity(simulate_panel(idle, Costs(), Execution()), idle) == np.inf
    unknown = replace(panel_of(held.weights, close, close), volume=np.full((n, 1), np.nan))
    assert np.isnan(capacity(simulate_panel(unknown, Costs(), Execution()), unknown))


def test_book_with_and_without_a_strategy_by_hand():
    rng = np.random.default_rng(2)
    days = [date(2012, 1, 2) + timedelta(days=at) for at in range(300)]
    base = rng.normal(0.001, 0.01, (300, 3))
    series = {name: dict(zip(days, base[:, at].tolist(), strict=True)) for at, name in enumerate("abc")}
    series["b"] = dict(list(series["b"].items())[:200])
    series["short"] = dict(list(series["a"].items())[:59])
    table = book_of(series, "a", sessions_per_year=252)
    assert table["beside"].to_list() == ["b", "c", "short", "book"]
    assert table["n_sessions"].to_list() == [200, 300, 59, 59]
    rows = {row["beside"]: row for row in table.to_dicts()}
    assert rows["short"]["correlation"] is None and rows["book"]["sharpe_with"] is None
    assert rows["c"]["correlation"] == pytest.approx(np.corrcoef(base[:, 0], base[:, 2])[0, 1])
    both = base[:, 0] / base[:, 0].std() + base[:, 2] / base[:, 2].std()
    assert rows["c"]["sharpe_with"] == pytest.approx(both.mean() / both.std(ddof=1) * np.sqrt(252), rel=1e-6)
    alone = base[:, 2]
    assert rows["c"]["sharpe_without"] == pytest.approx(alone.mean() / alone.std(ddof=1) * np.sqrt(252), rel=1e-6)


def test_a_forecast_of_five_bars_is_worth_most_after_them():
    rng = np.random.default_rng(3)
    _, close = walk(rng, n=600, symbols=20)
    signal = ahead(close, 5)
    prediction = gross_one(signal / signal.std() + rng.normal(size=close.shape))
    found = decay_by_horizon(long_of(prediction), bars_of(close))
    assert found.sort("mean", descending=True)["horizon_bars"][0] == 5
