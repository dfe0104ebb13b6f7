"""Technical features: numbers by hand, agreement with pandas, and what happens when nothing moves."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hf_pipelines.research.bars import adjust
from hf_pipelines.research.features import FEATURES, compute_features, group_names
from hf_pipelines_tests.sample_bars import bars_of, random_bars

NAMES = group_names("technical")
RISING = [float(price) for price in range(101, 221)]
OSCILLATION = [100.0, 110.0] * 60


def _last(name: str, close: list[float], **columns: list[float]) -> float:
    return compute_features(bars_of("A", close, **columns), [name])[name][-1]


@pytest.mark.parametrize(
    ("name", "close", "expected"),
    [
        pytest.param("roc_5", RISING[:6], 106 / 101 - 1, id="roc_5"),
        pytest.param("roc_20", RISING[:21], 121 / 101 - 1, id="roc_20"),
        pytest.param("sma_gap_5", [1.0, 2.0, 3.0, 4.0, 5.0], 2 / 3, id="sma_gap_5"),
        pytest.param("volatility_10", OSCILLATION[:11], math.log(1.1) * math.sqrt(10 / 9), id="volatility_10"),
        # 19 bars at 100 and one at 120: mean 101, population variance (19 * 1 + 361) / 20 = 19.
        pytest.param("bollinger_width_20", [100.0] * 19 + [120.0], 4 * math.sqrt(19) / 101, id="width"),
        pytest.param("bollinger_position_20", [100.0] * 19 + [120.0], 0.5 + 19 / (4 * math.sqrt(19)), id="position"),
        pytest.param("rsi_14", RISING, 100.0, id="rsi only gains"),
        pytest.param("rsi_14", RISING[::-1], 0.0, id="rsi only losses"),
        # On-balance volume rises by one bar's volume a bar.
        pytest.param("obv_slope_20", RISING[:20], 1.0, id="obv rising"),
        pytest.param("obv_slope_20", RISING[:20][::-1], -1.0, id="obv falling"),
        pytest.param("high_distance_20", [200.0] + [150.0] * 19, -0.25, id="high_distance_20"),
        pytest.param("low_distance_20", [100.0] + [150.0] * 19, 0.5, id="low_distance_20"),
    ],
)
def test_technical_hand_computed(name, close, expected):
    assert _last(name, close) == pytest.approx(expected, rel=1e-6)


def test_technical_with_range_hand_computed():
    high, low = [c + 1 for c in RISING], [c - 1 for c in RISING]
    # 14 bars end at close 220: lowest low 206, highest high 221.
    assert _last("stochastic_k", RISING, high=high, low=low) == pytest.approx(100 * 14 / 15)
    assert _last("stochastic_d", RISING, high=high, low=low) == pytest.approx(100 * 14 / 15)
    # The true range is 2 on every bar; every move is upwards.
    assert _last("atr_14", RISING, high=high, low=low) == pytest.approx(2 / 220)
    assert _last("adx_14", RISING, high=high, low=low) == pytest.approx(100.0)


def test_volume_ratio_hand_computed():
    assert _last("volume_ratio_20", [5.0] * 20, volume=[100.0] * 19 + [200.0]) == pytest.approx(200 / 105)


def test_roc_counts_a_dividend_as_return():
    # From 100 to 94 with 5 paid on the way: 99 / 100, reinvested at the close of the ex-date, 94.
    assert _last("roc_5", [100.0] * 5 + [94.0], dividend=[0.0] * 5 + [5.0]) == pytest.approx(-0.01)


def test_adx_of_bars_that_widen_alike_on_both_sides_is_zero():
    high = [round(100 + 0.1 * bar, 2) for bar in range(120)]
    low = [round(60 - 0.1 * bar, 2) for bar in range(120)]
    assert len(set(np.diff(high) + np.diff(low))) > 1, "ties must be inexact for the test to mean something"
    assert _last("adx_14", [80.0] * 120, high=high, low=low) == 0.0


def test_obv_counts_a_fall_by_just_the_dividend_as_no_change():
    # Adjusting 60.01 for the 0.13 that were paid gives 59.88 but for the last bit.
    assert 60.01 * (59.88 / (59.88 + 0.13)) != 59.88
    assert _last("obv_slope_20", [60.01] * 10 + [59.88] * 10, dividend=[0.0] * 10 + [0.13] + [0.0] * 9) == 0.0


def _ema(values: pd.Series, span: int) -> pd.Series:
    return values.ewm(span=span, adjust=False).mean()


def _wilder(values: pd.Series) -> pd.Series:
    values = values.dropna().reset_index(drop=True)
    seeded = pd.concat([pd.Series([values[:14].mean()]), values[14:]])
    return seeded.ewm(alpha=1 / 14, adjust=False).mean()


def _macd(w: pd.DataFrame) -> pd.Series:
    return _ema(w.close, 12) - _ema(w.close, 26)


def _rsi(w: pd.DataFrame) -> float:
    change = w.close.diff()
    strength = _wilder(change.clip(lower=0)).iloc[-1] / _wilder(-change.clip(upper=0)).iloc[-1]
    return 100 - 100 / (1 + strength)


def _true_range(w: pd.DataFrame) -> pd.Series:
    before = w.close.shift()
    ranges = pd.concat([w.high - w.low, (w.high - before).abs(), (w.low - before).abs()], axis=1)
    return ranges.max(axis=1)[1:]


def _adx(w: pd.DataFrame) -> float:
    up, down = w.high.diff(), -w.low.diff()
    average_range = _wilder(_true_range(w))
    plus = 100 * _wilder(up.where((up > down + 1e-9) & (up > 0), 0.0)[1:]) / average_range
    minus = 100 * _wilder(down.where((down > up + 1e-9) & (down > 0), 0.0)[1:]) / average_range
    return _wilder(100 * (plus - minus).abs() / (plus + minus)).iloc[-1]


def _stochastic(w: pd.DataFrame) -> pd.Series:
    low = w.low.rolling(14).min()
    return 100 * (w.close - low) / (w.high.rolling(14).max() - low)


def _obv_slope(w: pd.DataFrame) -> float:
    change = w.close.diff().fillna(0)
    balance = (np.sign(change.where(change.abs() > 1e-9, 0)) * w.volume).cumsum()
    return np.polyfit(np.arange(20), balance, 1)[0] / w.volume.mean()


def _volatility(w: pd.DataFrame) -> float:
    return np.log(w.close).diff().std()


PANDAS: dict[str, Callable[[pd.DataFrame], float]] = {
    "rsi_14": _rsi,
    "macd_line": lambda w: _macd(w).iloc[-1] / w.close.iloc[-1],
    "macd_signal": lambda w: _ema(_macd(w), 9).iloc[-1] / w.close.iloc[-1],
    "macd_histogram": lambda w: (_macd(w) - _ema(_macd(w), 9)).iloc[-1] / w.close.iloc[-1],
    "roc_5": lambda w: w.close.pct_change(5).iloc[-1],
    "roc_10": lambda w: w.close.pct_change(10).iloc[-1],
    "roc_20": lambda w: w.close.pct_change(20).iloc[-1],
    "stochastic_k": lambda w: _stochastic(w).iloc[-1],
    "stochastic_d": lambda w: _stochastic(w).rolling(3).mean().iloc[-1],
    "sma_gap_5": lambda w: (w.close / w.close.rolling(5).mean()).iloc[-1] - 1,
    "sma_gap_10": lambda w: (w.close / w.close.rolling(10).mean()).iloc[-1] - 1,
    "sma_gap_20": lambda w: (w.close / w.close.rolling(20).mean()).iloc[-1] - 1,
    "sma_gap_50": lambda w: (w.close / w.close.rolling(50).mean()).iloc[-1] - 1,
    "ema_gap_12": lambda w: (w.close / _ema(w.close, 12)).iloc[-1] - 1,
    "ema_gap_26": lambda w: (w.close / _ema(w.close, 26)).iloc[-1] - 1,
    "adx_14": _adx,
    "atr_14": lambda w: _wilder(_true_range(w)).iloc[-1] / w.close.iloc[-1],
    "bollinger_width_20": lambda w: 4 * w.close.std(ddof=0) / w.close.mean(),
    "bollinger_position_20": lambda w: 0.5 + (w.close.iloc[-1] - w.close.mean()) / (4 * w.close.std(ddof=0)),
    "volatility_10": _volatility,
    "volatility_20": _volatility,
    "volatility_60": _volatility,
    "obv_slope_20": _obv_slope,
    "volume_ratio_20": lambda w: w.volume.iloc[-1] / w.volume.mean(),
    "high_distance_20": lambda w: w.close.iloc[-1] / w.high.max() - 1,
    "high_distance_60": lambda w: w.close.iloc[-1] / w.high.max() - 1,
    "low_distance_20": lambda w: w.close.iloc[-1] / w.low.min() - 1,
    "low_distance_60": lambda w: w.close.iloc[-1] / w.low.min() - 1,
}


@pytest.fixture(scope="module")
def adjusted_windows() -> list[tuple[dict[str, float], pd.DataFrame]]:
    """Rows of features, each with 120 bars that `bars.adjust` sees from that row."""
    bars = random_bars(symbols=2, sessions=180, seed=11)
    features = compute_features(bars, NAMES)
    found = []
    for symbol in ("S000", "S001"):
        own = bars.filter(pl.col("symbol") == symbol)
        assert (own["dividend"] > 0).any()
        for ts in own["ts"].gather(range(119, 180, 6)):
            row = features.row(by_predicate=(pl.col("symbol") == symbol) & (pl.col("ts") == ts), named=True)
            window = adjust(own, ts).tail(120).select("open", "high", "low", "close", "volume")
            found.append((row, window.to_pandas()))
    return found


def test_pandas_formulas_cover_every_technical_feature():
    assert set(PANDAS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_technical_agrees_with_pandas_on_adjusted_bars(name, adjusted_windows):
    bars = FEATURES[name].lookback_bars
    expected = [PANDAS[name](window.tail(bars).reset_index(drop=True)) for _, window in adjusted_windows]
    np.testing.assert_allclose([row[name] for row, _ in adjusted_windows], expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["rsi_14", "atr_14", "adx_14", "ema_gap_12", "ema_gap_26", "macd_line"])
def test_recursive_windows_are_long_enough_to_agree_with_the_whole_history(name):
    bars = random_bars(symbols=1, sessions=600, seed=5, has_events=False, has_reference=False)
    history = bars.select("open", "high", "low", "close", "volume").to_pandas()
    value = compute_features(bars, [name])[name][-1]
    spread = compute_features(bars, [name])[name].drop_nans().std()
    # In units of how much the feature itself varies: 2 % of that is nothing a model could see.
    assert abs(value - PANDAS[name](history)) < 0.02 * spread


FLAT = {
    "rsi_14": 50.0, "macd_line": 0.0, "macd_signal": 0.0, "macd_histogram": 0.0, "roc_5": 0.0, "roc_10": 0.0,
    "roc_20": 0.0, "stochastic_k": 50.0, "stochastic_d": 50.0, "sma_gap_5": 0.0, "sma_gap_10": 0.0,
    "sma_gap_20": 0.0, "sma_gap_50": 0.0, "ema_gap_12": 0.0, "ema_gap_26": 0.0, "adx_14": 0.0, "atr_14": 0.0,
    "bollinger_width_20": 0.0, "bollinger_position_20": 0.5, "volatility_10": 0.0, "volatility_20": 0.0,
    "volatility_60": 0.0, "obv_slope_20": 0.0, "volume_ratio_20": 1.0, "high_distance_20": 0.0,
    "high_distance_60": 0.0, "low_distance_20": 0.0, "low_distance_60": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("price", [pytest.param(88.99, id="as traded"), pytest.param(0.1 + 0.2, id="not exact")])
def test_technical_with_constant_prices_gives_the_stated_value(price):
    last = compute_features(bars_of("A", [price] * 120), NAMES).row(-1, named=True)
    assert {name: last[name] for name in NAMES} == pytest.approx(FLAT, abs=1e-7)


def test_technical_without_any_volume_is_nan_only_for_volume_features():
    bars = random_bars(symbols=1, sessions=150, has_reference=False).with_columns(volume=pl.lit(0.0))
    last = compute_features(bars, NAMES).row(-1, named=True)
    assert {name for name in NAMES if math.isnan(last[name])} == {"obv_slope_20", "volume_ratio_20"}


@pytest.fixture(scope="module")
def aapl() -> pl.DataFrame:
    """Apple's raw bars around its 2:1 split of 2005-02-28, a year on each side."""
    stocks = pytest.importorskip("bokeh_sampledata.stocks")
    frame = pd.DataFrame(stocks.AAPL).query("'2004-02-28' <= date <= '2006-02-28'")
    days = [date.fromisoformat(str(day)[:10]) for day in frame["date"]]
    columns = {name: frame[name].astype(float).tolist() for name in ("open", "high", "low", "volume")}
    split_ratio = [2.0 if day == date(2005, 2, 28) else 1.0 for day in days]
    return bars_of("AAPL", frame["close"].tolist(), days=days, split_ratio=split_ratio, **columns)


def test_technical_over_the_aapl_split_equals_the_back_adjusted_copy(aapl):
    is_before = pl.col("session") < date(2005, 2, 28)
    back_adjusted = aapl.with_columns(
        pl.col("open", "high", "low", "close") / pl.when(is_before).then(2.0).otherwise(1.0),
        pl.col("volume") * pl.when(is_before).then(2.0).otherwise(1.0),
        split_ratio=pl.lit(1.0),
    )
    ours, theirs = compute_features(aapl, NAMES), compute_features(back_adjusted, NAMES)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_technical_over_the_aapl_split_without_the_event_would_jump(aapl):
    on_split = pl.col("session") == date(2005, 2, 28)
    told, untold = aapl, aapl.with_columns(split_ratio=pl.lit(1.0))
    roc = [compute_features(bars, ["roc_5"]).filter(on_split)["roc_5"][0] for bars in (told, untold)]
    assert abs(roc[0]) < 0.1
    assert roc[1] < -0.45
