"""Technical features: numbers by hand, agreement with TA-Lib and numpy over the same window, edge cases."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib

from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.features import FEATURES, compute_features, group_names
from hf_pipelines_tests.research.features.stocknet import stocknet_bars_with_events
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
        pytest.param("high_distance_252", [200.0] + [150.0] * 251, -0.25, id="high_distance_252"),
        pytest.param("low_distance_252", [100.0] + [150.0] * 251, 0.5, id="low_distance_252"),
        pytest.param("williams_r_14", [100.0] * 12 + [120.0, 115.0], -25.0, id="williams_r"),
        # Mean 101, mean absolute deviation (19 * 1 + 19) / 20 = 1.9.
        pytest.param("cci_20", [100.0] * 19 + [120.0], 19 / (0.015 * 1.9), id="cci"),
        # Flow up 102, down 101, and 12 bars that did not move: 102 of 203.
        pytest.param("mfi_14", [101.0, 102.0, *[101.0] * 13], 100 * 102 / 203, id="mfi"),
        pytest.param("aroon_up_25", [100.0] * 16 + [110.0] + [105.0] * 9, 100 * 16 / 25, id="aroon_up"),
        pytest.param("aroon_down_25", [100.0] * 16 + [110.0] + [105.0] * 9, 100 * 15 / 25, id="aroon_down"),
        pytest.param("aroon_oscillator_25", [100.0] * 16 + [110.0] + [105.0] * 9, 4.0, id="aroon_oscillator"),
        pytest.param("sma_gap_100", [1.0] * 99 + [2.0], 2 / 1.01 - 1, id="sma_gap_100"),
        # The last close weighs 2 / 6, the others were 100.
        pytest.param("ema_gap_5", [100.0] * 23 + [130.0], 130 / 110 - 1, id="ema_gap_5"),
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


def test_volume_features_hand_computed():
    close, volume = [100.0] * 19 + [110.0], [100.0] * 19 + [300.0]
    # Mean 110, variance (19 * 10^2 + 190^2) / 20 = 1900.
    assert _last("volume_zscore_20", close, volume=volume) == pytest.approx(190 / math.sqrt(1900))
    assert _last("vwap_gap_20", close, volume=volume) == pytest.approx(110 / ((1900 * 100 + 300 * 110) / 2200) - 1)


def test_amihud_illiquidity_hand_computed_leaves_out_bars_without_volume():
    # Dollar volumes of the returns: 18 x 100, one of 330; a bar without volume in between that moved the price.
    close = [100.0] * 19 + [100.0, 110.0]
    volume = [1.0] * 5 + [0.0] + [1.0] * 14 + [3.0]
    usual = (18 * 100 + 330) / 19
    assert _last("amihud_illiquidity_20", close, volume=volume) == pytest.approx(0.1 / 330 * usual / 19)


def test_range_volatilities_hand_computed():
    # Every bar opens and closes where the one before closed, with a range of a tenth in logarithms on each side.
    close, up = [100.0] * 21, math.exp(0.1)
    columns = {"high": [100.0 * up] * 21, "low": [100.0 / up] * 21}
    assert _last("parkinson_volatility_20", close, **columns) == pytest.approx(0.2 / math.sqrt(4 * math.log(2)))
    assert _last("garman_klass_volatility_20", close, **columns) == pytest.approx(0.2 / math.sqrt(2))
    # Rogers-Satchell: 0.1 * 0.1 + 0.1 * 0.1 a bar; nights and bodies do not vary.
    share = 0.34 / (1.34 + 21 / 19)
    assert _last("yang_zhang_volatility_20", close, **columns) == pytest.approx(math.sqrt((1 - share) * 0.02))
    # Nights of +-0.1 by turns and nothing else: sample variance 0.01 * 20 / 19.
    close = [100.0 * up ** (bar % 2) for bar in range(21)]
    assert _last("yang_zhang_volatility_20", close) == pytest.approx(0.1 * math.sqrt(20 / 19))


def test_candle_hand_computed():
    bar = {"open": [100.0, 104.0], "high": [101.0, 110.0], "low": [99.0, 100.0]}
    expected = {
        "overnight_gap": 0.04, "bar_range": 10 / 102, "candle_body": -0.2, "candle_upper_shadow": 0.6,
        "candle_lower_shadow": 0.2,
    }  # fmt: skip
    assert {name: _last(name, [100.0, 102.0], **bar) for name in expected} == pytest.approx(expected)


def test_overnight_gap_counts_a_dividend_as_return():
    # The night took 100 to 95 and paid 5; the day took it back to 100, at which the dividend is reinvested.
    gap = _last("overnight_gap", [100.0, 100.0], open=[100.0, 95.0], dividend=[0.0, 5.0])
    assert gap == pytest.approx(95 / (100 * 100 / 105) - 1)


def test_directional_and_keltner_hand_computed():
    high, low = [c + 1 for c in RISING], [c - 1 for c in RISING]
    # Highs rise by 1 of a true range of 2.
    assert _last("plus_di_14", RISING, high=high, low=low) == pytest.approx(50.0)
    assert _last("minus_di_14", RISING, high=high, low=low) == 0.0
    # An exponential average lags a straight line by (span - 1) / 2 = 9.5 bars, less what 100 bars have not forgotten.
    lag = 9.5 * (1 - (19 / 21) ** 99)
    assert _last("keltner_position_20", RISING, high=high, low=low) == pytest.approx(0.5 + lag / 8, rel=1e-6)


Window = pd.DataFrame


def _arrays(w: Window, *names: str) -> list[np.ndarray]:
    return [w[name].to_numpy() for name in names]


def _hlc(w: Window) -> list[np.ndarray]:
    return _arrays(w, "high", "low", "close")


def _led(close: np.ndarray, bars: int) -> np.ndarray:
    """The window behind copies of its first close: TA-Lib's average of those is where ours starts."""
    return np.concatenate([np.full(bars, close[0]), close])


def _ema(w: Window, span: int) -> float:
    return talib.EMA(_led(w.close.to_numpy(), span - 1), span)[-1]


def _macd(w: Window, which: int) -> float:
    return talib.MACD(_led(w.close.to_numpy(), 25 + 8), 12, 26, 9)[which][-1] / w.close.iloc[-1]


def _stochastic(w: Window, days: int) -> float:
    return talib.STOCHF(*_hlc(w), 14, days, 0)[1][-1]


def _directional(w: Window, *, like_talib: bool = False) -> tuple[float, float, float]:
    """ADX, +DI, -DI from Wilder sums that start with all 14 changes, or with 13 carried on as TA-Lib does."""
    high, low, close = _hlc(w)
    up, down = np.diff(high), -np.diff(low)
    tie = 0.0 if like_talib else 1e-9
    moves = np.array([
        np.where((up > down + tie) & (up > 0), up, 0.0), np.where((down > up + tie) & (down > 0), down, 0.0),
        talib.TRANGE(high, low, close)[1:],
    ])  # fmt: skip
    total = moves[:, :13].sum(axis=1)
    total = total - total / 14 + moves[:, 13] if like_talib else total + moves[:, 13]
    strength = [100 * abs(total[0] - total[1]) / (total[0] + total[1])]
    for move in moves[:, 14:].T:
        total = total - total / 14 + move
        strength.append(100 * abs(total[0] - total[1]) / (total[0] + total[1]))
    adx = np.mean(strength[:14])
    for each in strength[14:]:
        adx = (adx * 13 + each) / 14
    return adx, 100 * total[0] / total[2], 100 * total[1] / total[2]


def _bollinger(w: Window) -> tuple[float, float]:
    upper, middle, lower = (band[-1] for band in talib.BBANDS(w.close.to_numpy(), 20, 2, 2, 0))
    return (upper - lower) / middle, (w.close.iloc[-1] - lower) / (upper - lower)


def _yang_zhang(w: Window) -> float:
    before, now = w.close.shift()[1:], w[1:]
    night, body = np.log(now.open / before), np.log(now.close / now.open)
    up, down = np.log(now.high / now.open), np.log(now.low / now.open)
    share = 0.34 / (1.34 + 21 / 19)
    return math.sqrt(night.var() + share * body.var() + (1 - share) * (up * (up - body) + down * (down - body)).mean())


def _garman_klass(w: Window) -> float:
    spread, body = np.log(w.high / w.low), np.log(w.close / w.open)
    return math.sqrt((spread**2 / 2 - (2 * math.log(2) - 1) * body**2).mean())


def _amihud(w: Window) -> float:
    money = (w.close * w.volume)[1:]
    return (w.close.pct_change()[1:].abs() / (money / money.mean())).mean()


def _vwap(w: Window) -> float:
    return np.average(talib.TYPPRICE(*_hlc(w)), weights=w.volume)


def _volatility(w: Window) -> float:
    return np.log(w.close).diff().std()


INDEPENDENT: dict[str, Callable[[Window], float]] = {
    "rsi_14": lambda w: talib.RSI(w.close.to_numpy(), 14)[-1],
    "macd_line": lambda w: _macd(w, 0),
    "macd_signal": lambda w: _macd(w, 1),
    "macd_histogram": lambda w: _macd(w, 2),
    **{f"roc_{n}": lambda w, n=n: talib.ROC(w.close.to_numpy(), n)[-1] / 100 for n in (5, 10, 20)},
    "stochastic_k": lambda w: _stochastic(w, 1),
    "stochastic_d": lambda w: _stochastic(w, 3),
    "williams_r_14": lambda w: talib.WILLR(*_hlc(w), 14)[-1],
    "cci_20": lambda w: talib.CCI(*_hlc(w), 20)[-1],
    "mfi_14": lambda w: talib.MFI(*_hlc(w), w.volume.to_numpy(), 14)[-1],
    **{
        f"sma_gap_{n}": lambda w, n=n: w.close.iloc[-1] / talib.SMA(w.close.to_numpy(), n)[-1] - 1
        for n in (5, 10, 20, 50, 100, 200)
    },
    **{f"ema_gap_{n}": lambda w, n=n: w.close.iloc[-1] / _ema(w, n) - 1 for n in (5, 10, 12, 20, 26, 50, 100, 200)},
    "adx_14": lambda w: _directional(w)[0],
    "plus_di_14": lambda w: _directional(w)[1],
    "minus_di_14": lambda w: _directional(w)[2],
    "aroon_up_25": lambda w: talib.AROON(*_hlc(w)[:2], 25)[1][-1],
    "aroon_down_25": lambda w: talib.AROON(*_hlc(w)[:2], 25)[0][-1],
    "aroon_oscillator_25": lambda w: talib.AROONOSC(*_hlc(w)[:2], 25)[-1],
    "atr_14": lambda w: talib.ATR(*_hlc(w), 14)[-1] / w.close.iloc[-1],
    "bollinger_width_20": lambda w: _bollinger(w)[0],
    "bollinger_position_20": lambda w: _bollinger(w)[1],
    "keltner_position_20": lambda w: 0.5 + (w.close.iloc[-1] - _ema(w, 20)) / (4 * talib.ATR(*_hlc(w), 10)[-1]),
    "volatility_10": _volatility,
    "volatility_20": _volatility,
    "volatility_60": _volatility,
    "parkinson_volatility_20": lambda w: math.sqrt((np.log(w.high / w.low) ** 2).mean() / (4 * math.log(2))),
    "garman_klass_volatility_20": _garman_klass,
    "yang_zhang_volatility_20": _yang_zhang,
    "obv_slope_20": lambda w: (
        talib.LINEARREG_SLOPE(talib.OBV(*_arrays(w, "close", "volume")), 20)[-1] / w.volume.mean()
    ),
    "vwap_gap_20": lambda w: w.close.iloc[-1] / _vwap(w) - 1,
    "volume_ratio_20": lambda w: w.volume.iloc[-1] / w.volume.mean(),
    "volume_zscore_20": lambda w: (w.volume.iloc[-1] - w.volume.mean()) / w.volume.std(ddof=0),
    "amihud_illiquidity_20": _amihud,
    **{f"high_distance_{n}": lambda w, n=n: w.close.iloc[-1] / talib.MAX(w.high.to_numpy(), n)[-1] - 1
       for n in (20, 60, 252)},
    **{f"low_distance_{n}": lambda w, n=n: w.close.iloc[-1] / talib.MIN(w.low.to_numpy(), n)[-1] - 1
       for n in (20, 60, 252)},
    "overnight_gap": lambda w: w.open.iloc[-1] / w.close.iloc[0] - 1,
    "bar_range": lambda w: (w.high - w.low).iloc[0] / w.close.iloc[0],
    "candle_body": lambda w: (w.close - w.open).iloc[0] / (w.high - w.low).iloc[0],
    "candle_upper_shadow": lambda w: (w.high - w[["open", "close"]].max(axis=1)).iloc[0] / (w.high - w.low).iloc[0],
    "candle_lower_shadow": lambda w: (w[["open", "close"]].min(axis=1) - w.low).iloc[0] / (w.high - w.low).iloc[0],
}  # fmt: skip


def _in_whole_units() -> pl.DataFrame:
    """Prices in whole units of about 100: closes, highs and lows are often equal."""
    bars = random_bars(symbols=2, sessions=420, seed=12, has_events=False)
    first = pl.col("close").first().over("symbol")
    prices = [(pl.col(name) / first * 100).round() for name in ("open", "high", "low", "close")]
    return bars.with_columns(prices)


SOURCES: dict[str, Callable[[], pl.DataFrame]] = {
    "random": lambda: random_bars(symbols=2, sessions=420, seed=11),
    "ties": _in_whole_units,
    "real": lambda: stocknet_bars_with_events("AAPL", "XOM"),
}


@pytest.fixture(scope="module", params=SOURCES)
def adjusted_windows(request) -> list[tuple[dict[str, float], Window]]:
    """Rows of features, each with 300 bars that `bars.adjust` sees from that row."""
    bars = SOURCES[request.param]()
    features = compute_features(bars, NAMES)
    found = []
    for symbol in features["symbol"].unique().sort():
        own = bars.filter(pl.col("symbol") == symbol)
        assert request.param == "ties" or (own["dividend"] > 0).any()
        for ts in own["ts"].gather(range(299, own.height, 7)):
            row = features.row(by_predicate=(pl.col("symbol") == symbol) & (pl.col("ts") == ts), named=True)
            window = adjust(own, ts).tail(300).select("open", "high", "low", "close", "volume")
            found.append((row, window.to_pandas()))
    return found


def test_independent_formulas_cover_every_technical_feature():
    assert set(INDEPENDENT) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_technical_agrees_with_talib_or_numpy_on_adjusted_bars(name, adjusted_windows):
    bars = FEATURES[name].lookback_bars
    with np.errstate(invalid="ignore"):
        rows = [(row[name], INDEPENDENT[name](w.tail(bars).reset_index(drop=True))) for row, w in adjusted_windows]
    ours, theirs = np.array(rows).T
    if name.startswith("candle"):
        # A bar without a range has no candle: numpy says NaN, we say 0.
        assert (ours[np.isnan(theirs)] == 0.0).all()
        theirs = np.nan_to_num(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6 * max(np.abs(theirs).max(), 1e-3))


def test_ema_differs_from_talib_on_the_same_window_by_the_weight_of_the_seed(adjusted_windows):
    for name, span in {f"ema_gap_{n}": n for n in (5, 26, 100)}.items():
        bars = FEATURES[name].lookback_bars
        row, window = adjusted_windows[0]
        close = window.close.to_numpy()[-bars:]
        ours = close[-1] / (1 + row[name])
        theirs = talib.EMA(close, span)[-1]
        seed = close[:span].mean() - _ema(window.tail(bars)[:span].reset_index(drop=True), span)
        assert theirs - ours == pytest.approx(seed * (1 - 2 / (span + 1)) ** (bars - span), abs=2e-7 * close[-1])


def test_adx_and_di_differ_from_talib_on_the_same_window_by_the_first_fourteen_changes_alone(adjusted_windows):
    for _, window in adjusted_windows[::5]:
        window = window.tail(120)
        theirs = [indicator(*_hlc(window), 14)[-1] for indicator in (talib.ADX, talib.PLUS_DI, talib.MINUS_DI)]
        assert _directional(window, like_talib=True) == pytest.approx(theirs, rel=1e-6)
        # What is left of that after 106 more changes, in points of 100.
        assert _directional(window) == pytest.approx(theirs, abs=0.05)


@pytest.mark.parametrize("name", ["rsi_14", "atr_14", "adx_14", "ema_gap_12", "ema_gap_26", "ema_gap_50", "macd_line"])
def test_recursive_windows_are_long_enough_to_agree_with_the_whole_history(name):
    bars = random_bars(symbols=1, sessions=600, seed=5, has_events=False, has_reference=False)
    history = bars.select("open", "high", "low", "close", "volume").to_pandas()
    value = compute_features(bars, [name])[name][-1]
    spread = compute_features(bars, [name])[name].drop_nans().std()
    # In units of how much the feature itself varies: 2 % of that is nothing a model could see.
    assert abs(value - INDEPENDENT[name](history)) < 0.02 * spread


MIDDLES = {
    "rsi_14": 50.0, "stochastic_k": 50.0, "stochastic_d": 50.0, "williams_r_14": -50.0, "mfi_14": 50.0,
    "aroon_up_25": 100.0, "aroon_down_25": 100.0, "bollinger_position_20": 0.5, "keltner_position_20": 0.5,
    "volume_ratio_20": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("price", [pytest.param(88.99, id="as traded"), pytest.param(0.1 + 0.2, id="not exact")])
def test_technical_with_constant_prices_gives_the_stated_value(price):
    last = compute_features(bars_of("A", [price] * 300), NAMES).row(-1, named=True)
    assert {name: last[name] for name in NAMES} == pytest.approx(dict.fromkeys(NAMES, 0.0) | MIDDLES, abs=1e-7)


def test_technical_with_a_price_that_falls_by_just_its_dividends_gives_the_stated_value():
    close, dividend = [60.01] * 300, [0.0] * 300
    for bar in range(10, 300, 20):
        dividend[bar] = 0.13
        close[bar:] = [round(close[bar] - 0.13, 2)] * (300 - bar)
    # Four prices alike: the total return of every bar is 0, but for the last bit.
    last = compute_features(bars_of("A", close, dividend=dividend), NAMES).row(-1, named=True)
    assert {name: last[name] for name in NAMES} == pytest.approx(dict.fromkeys(NAMES, 0.0) | MIDDLES, abs=1e-7)


def test_technical_without_any_volume_is_nan_only_for_volume_features():
    bars = random_bars(symbols=1, sessions=310, has_reference=False).with_columns(volume=pl.lit(0.0))
    last = compute_features(bars, NAMES).row(-1, named=True)
    volume_features = {"obv_slope_20", "vwap_gap_20", "volume_ratio_20", "volume_zscore_20", "amihud_illiquidity_20"}
    assert {name for name in NAMES if math.isnan(last[name])} == volume_features
    assert last["mfi_14"] == 50.0


def test_technical_of_a_symbol_with_one_bar_is_nan_but_for_its_candle():
    only = compute_features(bars_of("A", [100.0], high=[110.0], low=[90.0]), NAMES).row(0, named=True)
    known = {name for name in NAMES if not math.isnan(only[name])}
    assert known == {"bar_range", "candle_body", "candle_upper_shadow", "candle_lower_shadow"}


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_technical_at_tiny_and_huge_prices_and_volumes_gives_the_usual_values(factor):
    bars = random_bars(symbols=1, sessions=330, seed=6, has_reference=False)
    usual = compute_features(bars, NAMES)
    prices = bars.with_columns(pl.col("open", "high", "low", "close", "dividend") * factor)
    volumes = bars.with_columns(pl.col("volume") * factor)
    for name in NAMES:
        for scaled in (prices, volumes):
            values = compute_features(scaled, [name])[name]
            assert not values.is_infinite().any()
            np.testing.assert_allclose(values, usual[name], rtol=1e-5, atol=1e-7, err_msg=name)


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
