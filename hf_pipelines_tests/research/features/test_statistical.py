"""Statistical features: numbers by hand, agreement with scipy, statsmodels and numpy, known processes, edge cases."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import special, stats
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.tools import add_constant
from statsmodels.tsa.stattools import acf

from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.features import FEATURES, compute_features, group_names
from hf_pipelines_tests.research.features.stocknet import stocknet_bars_with_events
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars

NAMES = group_names("statistical")
RESIDUAL = "residual_momentum_252_21"
OWN = [name for name in NAMES if name != RESIDUAL]


def _last(name: str, close: list[float], **columns: list[float]) -> float:
    return compute_features(bars_of("A", close, **columns), [name])[name][-1]


def _from_returns(returns: list[float]) -> list[float]:
    return [100.0, *(100.0 * np.exp(np.cumsum(returns))).tolist()]


@pytest.mark.parametrize(
    ("name", "close", "expected"),
    [
        pytest.param("return_1", [100.0, 110.0], 0.1, id="return_1"),
        pytest.param("momentum_5", [100.0] * 5 + [110.0], 0.1, id="momentum_5"),
        pytest.param("momentum_120", [100.0] + [1.0] * 119 + [150.0], 0.5, id="momentum_120"),
        # 252 bars ago 100, 21 bars ago 130, whatever came after.
        pytest.param("momentum_252_21", [100.0] * 231 + [130.0] + [55.0] * 21, 0.3, id="momentum skips a month"),
        # Mean 101, population variance (19 * 1 + 361) / 20 = 19.
        pytest.param("zscore_20", [100.0] * 19 + [120.0], math.sqrt(19), id="zscore"),
        # Mean 101, population variance (9 * 1 + 81) / 10 = 9.
        pytest.param("mean_reversion_10", [100.0] * 9 + [110.0], -3.0, id="mean_reversion"),
        # Returns of +-1 by turns: 59 products of -1 over 60 squares; 55 over 60 at lag 5.
        pytest.param("autocorrelation_1_60", _from_returns([0.01, -0.01] * 30), -59 / 60, id="autocorrelation_1"),
        pytest.param("autocorrelation_5_60", _from_returns([0.01, -0.01] * 30), -55 / 60, id="autocorrelation_5"),
        pytest.param("skewness_60", _from_returns([0.01, -0.01] * 30), 0.0, id="skewness"),
        # Excess kurtosis of two points is -2: (61 * -2 + 6) * 59 / (58 * 57).
        pytest.param("kurtosis_60", _from_returns([0.01, -0.01] * 30), -116 * 59 / (58 * 57), id="kurtosis"),
        # Ever larger returns stand in one order; by turns up and down in two, 29 times each.
        pytest.param("entropy_60", _from_returns([0.001 * n for n in range(60)]), 0.0, id="entropy of one order"),
        pytest.param("entropy_60", _from_returns([0.01, -0.01] * 30), math.log(2) / math.log(6), id="of two orders"),
        # Weights of order 0.4: 1, -0.4, -0.12; only the last close is above the first, then the last two.
        pytest.param("fractional_difference_100", [100.0] * 99 + [110.0], math.log(1.1), id="fractional, 1 bar"),
        pytest.param("fractional_difference_100", [100.0] * 98 + [110.0] * 2, 0.6 * math.log(1.1), id="2 bars"),
        pytest.param("fractional_difference_100", [100.0] * 97 + [110.0] * 3, 0.48 * math.log(1.1), id="3 bars"),
    ],
)
def test_statistical_hand_computed(name, close, expected):
    assert _last(name, close) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_volatility_regime_hand_computed():
    calm, wild = [0.01, -0.01] * 10, [0.02, -0.02] * 10
    # The last 20 returns alone are wild: 251 volatilities lie below, one is equal.
    close = _from_returns(calm * 12 + calm[:11] + wild)
    assert len(close) == 272
    assert _last("volatility_regime_252", close) == pytest.approx((251 + 0.5) / 252)
    # The first 20 alone were calm: one lies below, and 232 of nothing but wild returns are equal.
    close = _from_returns(calm + wild * 12 + wild[:11])
    assert _last("volatility_regime_252", close) == pytest.approx((20 + 0.5 * 232) / 252)


def test_hurst_exponent_of_changes_that_grow_with_the_lag_hand_computed():
    # Log prices k^2: the change over `lag` bars is lag * (2 k + lag); numbers by numpy, of the formula in words.
    price = np.arange(120.0) ** 2 * 1e-4
    drift = (price[-1] - price[0]) / 119
    lags = np.array([1, 2, 4, 8, 16])
    squares = [np.mean((price[lag:] - price[:-lag] - lag * drift) ** 2) for lag in lags]
    expected = np.polyfit(2 * np.log(lags), np.log(squares), 1)[0]
    assert 0.9 < expected < 1.0, "a smooth path is close to 1"
    assert _last("hurst_exponent_120", np.exp(price).tolist()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.7])
def test_hurst_exponent_of_fractional_brownian_motion_finds_its_exponent(exponent):
    at = np.arange(1, 1201.0)
    powers = [(at ** (2 * exponent))[:, None], at ** (2 * exponent), abs(at[:, None] - at) ** (2 * exponent)]
    motion = np.linalg.cholesky(0.5 * (powers[0] + powers[1] - powers[2]))
    paths = motion @ np.random.default_rng(3).normal(size=(1200, 40)) * 0.01
    bars = pl.concat([bars_of(f"S{index:02d}", np.exp(path).tolist()) for index, path in enumerate(paths.T)])
    found = compute_features(bars, ["hurst_exponent_120"])["hurst_exponent_120"].drop_nans()
    # Windows of 120 are short, and taking their drift away makes long memory look shorter: 0.28, 0.46 and 0.62.
    assert exponent - 0.11 < found.mean() < exponent


def _returns(close: pd.Series) -> np.ndarray:
    return np.log(close).diff().dropna().to_numpy()


def _hurst(close: pd.Series) -> float:
    price, lags = np.log(close.to_numpy()), np.array([1, 2, 4, 8, 16])
    drift = (price[-1] - price[0]) / (price.size - 1)
    squares = [np.mean((price[lag:] - price[:-lag] - lag * drift) ** 2) for lag in lags]
    return stats.linregress(np.log(lags), np.log(squares)).slope / 2


def _regime(close: pd.Series) -> float:
    volatility = np.log(close).diff().rolling(20).std().dropna()
    return stats.percentileofscore(volatility.round(12), round(volatility.iloc[-1], 12), kind="mean") / 100


def _entropy(close: pd.Series) -> float:
    triples = np.lib.stride_tricks.sliding_window_view(_returns(close), 3)
    _, counts = np.unique(np.argsort(triples, axis=1, kind="stable"), axis=0, return_counts=True)
    return stats.entropy(counts) / math.log(6)


def _fractional(close: pd.Series) -> float:
    back = np.arange(close.size)
    return float((-1.0) ** back * special.binom(0.4, back) @ np.log(close / close.iloc[0])[::-1])


INDEPENDENT: dict[str, Callable[[pd.Series], float]] = {
    "return_1": lambda c: c.pct_change().iloc[-1],
    **{f"momentum_{n}": lambda c, n=n: c.pct_change(n).iloc[-1] for n in (5, 20, 60, 120)},
    "momentum_252_21": lambda c: c.shift(21).pct_change(231, fill_method=None).iloc[-1],
    "mean_reversion_10": lambda c: -stats.zscore(c.to_numpy())[-1],
    "zscore_20": lambda c: stats.zscore(c.to_numpy())[-1],
    "zscore_60": lambda c: stats.zscore(c.to_numpy())[-1],
    "hurst_exponent_120": _hurst,
    "volatility_regime_252": _regime,
    "autocorrelation_1_60": lambda c: acf(_returns(c), nlags=5)[1],
    "autocorrelation_5_60": lambda c: acf(_returns(c), nlags=5)[5],
    "skewness_60": lambda c: stats.skew(_returns(c), bias=False),
    "kurtosis_60": lambda c: stats.kurtosis(_returns(c), bias=False),
    "entropy_60": _entropy,
    "fractional_difference_100": _fractional,
}

SOURCES: dict[str, Callable[[], pl.DataFrame]] = {
    "random": lambda: random_bars(symbols=2, sessions=420, seed=11, has_reference=False),
    "real": lambda: stocknet_bars_with_events("AAPL", "XOM"),
}


@pytest.fixture(scope="module", params=SOURCES)
def adjusted_closes(request) -> list[tuple[dict[str, float], pd.Series]]:
    """Rows of features, each with 300 closes that `bars.adjust` sees from that row."""
    bars = SOURCES[request.param]()
    features = compute_features(bars, OWN)
    found = []
    for symbol in features["symbol"].unique().sort():
        own = bars.filter(pl.col("symbol") == symbol)
        assert (own["dividend"] > 0).any()
        for ts in own["ts"].gather(range(299, own.height, 17)):
            row = features.row(by_predicate=(pl.col("symbol") == symbol) & (pl.col("ts") == ts), named=True)
            found.append((row, adjust(own, ts).tail(300)["close"].to_pandas()))
    return found


def test_independent_formulas_cover_every_statistical_feature():
    assert set(INDEPENDENT) == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_statistical_agrees_with_scipy_statsmodels_or_numpy_on_adjusted_bars(name, adjusted_closes):
    bars = FEATURES[name].lookback_bars
    expected = [INDEPENDENT[name](close.tail(bars).reset_index(drop=True)) for _, close in adjusted_closes]
    np.testing.assert_allclose([row[name] for row, _ in adjusted_closes], expected, rtol=2e-6, atol=2e-6)


def test_residual_momentum_agrees_with_statsmodels_on_adjusted_bars():
    bars = random_bars(symbols=1, sessions=420, seed=11)
    values = compute_features(bars, [RESIDUAL])
    own, index = (bars.filter(pl.col("symbol") == symbol) for symbol in ("S000", REFERENCE))
    for ts in own["ts"].gather(range(252, 420, 21)):
        x, y = (adjust(each, ts).tail(253)["close"].pct_change().drop_nulls().to_numpy() for each in (index, own))
        residual = (y - OLS(y, add_constant(x)).fit().params[1] * x)[:-21]
        expected = stats.ttest_1samp(residual, 0.0).statistic
        assert values.filter(pl.col("ts") == ts)[RESIDUAL][0] == pytest.approx(expected, rel=1e-5)


def test_residual_momentum_hand_computed_ignores_what_beta_explains():
    rng = np.random.default_rng(1)
    market = rng.normal(0, 0.01, 252)
    index = [100.0, *(100 * np.cumprod(1 + market)).tolist()]
    # Own return 2 x the market's + 0.01 by turns with 0.03 on the market's even days: about one deviation of 0.01.
    twice = [100.0, *(100 * np.cumprod(1 + 2 * market)).tolist()]
    reference = bars_of(REFERENCE, index, role="reference")
    exact = compute_features(pl.concat([bars_of("A", twice), reference]), [RESIDUAL])[RESIDUAL][-1]
    assert exact == 0.0
    extra = np.tile([0.01, 0.03], 126)
    own = [100.0, *(100 * np.cumprod(1 + 2 * market + extra)).tolist()]
    value = compute_features(pl.concat([bars_of("A", own), reference]), [RESIDUAL])[RESIDUAL][-1]
    # Mean 0.02 less half a pair of 231, deviation 0.01, 231 returns; beta is 2 but for chance.
    assert value == pytest.approx(0.02 / 0.01 * math.sqrt(231), rel=0.02)


def test_residual_momentum_with_a_benchmark_that_never_moved_is_nan():
    bars = pl.concat(
        [random_bars(symbols=1, sessions=260, has_reference=False), bars_of(REFERENCE, [50.0] * 260, role="reference")]
    )
    assert compute_features(bars, [RESIDUAL])[RESIDUAL].is_nan().all()


MIDDLES = {"hurst_exponent_120": 0.5, "volatility_regime_252": 0.5}


@pytest.mark.parametrize("price", [pytest.param(88.99, id="as traded"), pytest.param(0.1 + 0.2, id="not exact")])
def test_statistical_with_constant_prices_gives_the_stated_value(price):
    last = compute_features(bars_of("A", [price] * 300), OWN).row(-1, named=True)
    assert {name: last[name] for name in OWN} == pytest.approx(dict.fromkeys(OWN, 0.0) | MIDDLES, abs=1e-7)


def test_statistical_with_a_price_that_falls_by_just_its_dividends_gives_the_stated_value():
    close, dividend = [60.01] * 300, [0.0] * 300
    for bar in range(10, 300, 20):
        dividend[bar] = 0.13
        close[bar:] = [round(close[bar] - 0.13, 2)] * (300 - bar)
    last = compute_features(bars_of("A", close, dividend=dividend), OWN).row(-1, named=True)
    assert {name: last[name] for name in OWN} == pytest.approx(dict.fromkeys(OWN, 0.0) | MIDDLES, abs=1e-7)


def test_statistical_of_a_price_that_grows_by_the_same_share_has_no_shape():
    last = compute_features(bars_of("A", [100.0 * 1.01**bar for bar in range(300)]), OWN).row(-1, named=True)
    flat = ("hurst_exponent_120", "autocorrelation_1_60", "autocorrelation_5_60", "skewness_60", "kurtosis_60")
    assert [last[name] for name in (*flat, "volatility_regime_252", "entropy_60")] == [0.5, 0, 0, 0, 0, 0.5, 0]


def test_statistical_of_a_symbol_with_one_bar_is_nan():
    assert np.isnan(compute_features(bars_of("A", [100.0]), OWN).select(OWN).to_numpy()).all()


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_statistical_at_tiny_and_huge_prices_gives_the_usual_values(factor):
    bars = random_bars(symbols=1, sessions=330, seed=6, has_reference=False)
    usual = compute_features(bars, OWN)
    scaled = compute_features(bars.with_columns(pl.col("open", "high", "low", "close", "dividend") * factor), OWN)
    for name in OWN:
        assert not scaled[name].is_infinite().any()
        np.testing.assert_allclose(scaled[name], usual[name], rtol=1e-5, atol=1e-6, err_msg=name)
