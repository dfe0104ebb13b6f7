"""Cross-asset features: agreement with numpy and pandas, members that come and go, and planted leaks."""

from datetime import date

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hf_pipelines.research.features import FEATURES, Feature, build_panel, compute_features, feature_frame, group_names
from hf_pipelines.research.replay import compare_replay
from hf_pipelines_tests.research.features.stocknet import VIX, stocknet_bars, stocknet_sectors
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars, weekdays

NAMES = [name for name in group_names("cross_asset") if "benchmark" in FEATURES[name].inputs]
SECTOR = [name for name in group_names("cross_asset") if "sector" in FEATURES[name].inputs]
INDEX = [name for name in group_names("cross_asset") if "volatility_index" in FEATURES[name].inputs]


def _total_returns(bars: pl.DataFrame, symbol: str) -> np.ndarray:
    own = bars.filter(pl.col("symbol") == symbol)
    gain = own["split_ratio"] * (own["close"] + own["dividend"]) / own["close"].shift() - 1
    return gain.to_numpy()[1:]


def test_cross_asset_agrees_with_numpy_on_total_returns():
    bars = random_bars(symbols=1, sessions=61, seed=8).with_columns(
        # A benchmark that pays: an exchange-traded fund, not an index.
        dividend=pl.when((pl.col("role") == "reference") & (pl.col("ts").rank() > 40)).then(0.5).otherwise("dividend")
    )
    own, other = _total_returns(bars, "S000"), _total_returns(bars, REFERENCE)
    last = compute_features(bars, NAMES).row(-1, named=True)
    assert last["benchmark_correlation_60"] == pytest.approx(np.corrcoef(own, other)[0, 1], rel=1e-6)
    assert last["benchmark_beta_60"] == pytest.approx(np.polyfit(other, own, 1)[0], rel=1e-6)
    growth = np.prod(1 + own) / np.prod(1 + other)
    assert last["relative_strength_60"] == pytest.approx(growth - 1, rel=1e-5)


def test_cross_asset_of_the_benchmark_itself_is_one_one_zero():
    bars = random_bars(symbols=1, sessions=80)
    twin = bars.filter(pl.col("role") == "reference").with_columns(symbol=pl.lit("TWIN"), role=pl.lit("member"))
    both = pl.concat([bars.filter(pl.col("role") == "reference"), twin]).sort("symbol", "ts")
    last = compute_features(both, NAMES).row(-1, named=True)
    assert [last[name] for name in NAMES] == pytest.approx([1.0, 1.0, 0.0], abs=1e-7)


def test_beta_of_a_doubled_benchmark_is_two():
    returns = np.random.default_rng(1).normal(0, 0.01, 60)
    index = [100.0, *(100 * np.cumprod(1 + returns))]
    double = [100.0, *(100 * np.cumprod(1 + 2 * returns))]
    bars = pl.concat([bars_of("A", double), bars_of(REFERENCE, index, role="reference")]).sort("symbol", "ts")
    last = compute_features(bars, NAMES).row(-1, named=True)
    assert last["benchmark_beta_60"] == pytest.approx(2.0)
    assert last["benchmark_correlation_60"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("own", "index", "expected"),
    [
        pytest.param(True, False, [np.nan, 0.0], id="flat symbol"),
        pytest.param(False, True, [np.nan, np.nan], id="flat benchmark"),
    ],
)
def test_cross_asset_with_a_flat_series_gives_the_stated_value(own, index, expected):
    moving = [100.0 + bar % 7 for bar in range(61)]
    flat = [88.99] * 61
    bars = pl.concat(
        [
            bars_of("A", flat if own else moving),
            bars_of(REFERENCE, flat if index else moving, role="reference"),
        ]
    ).sort("symbol", "ts")
    last = compute_features(bars, NAMES).row(-1, named=True)
    np.testing.assert_array_equal([last["benchmark_correlation_60"], last["benchmark_beta_60"]], expected)
    assert np.isfinite(last["relative_strength_60"])


def test_cross_asset_against_a_benchmark_that_only_pays_out_is_nan():
    # It falls by just its dividends: its total returns are rounding, and no line can be fitted to that.
    paid = [0.13 if bar % 9 == 5 else 0.0 for bar in range(61)]
    index = (60.01 - np.cumsum(paid)).round(2).tolist()
    moving = bars_of("A", [100.0 + bar % 7 for bar in range(61)])
    bars = pl.concat([moving, bars_of(REFERENCE, index, role="reference", dividend=paid)])
    last = compute_features(bars, NAMES).row(-1, named=True)
    assert np.isnan(last["benchmark_correlation_60"]) and np.isnan(last["benchmark_beta_60"])


def test_cross_asset_without_reference_bars_is_nan_when_asked_for_by_name():
    features = compute_features(random_bars(has_reference=False), NAMES)
    assert all(features[name].is_nan().all() for name in NAMES)


def _together(**closes: list[float]) -> pl.DataFrame:
    return pl.concat([bars_of(symbol, close) for symbol, close in sorted(closes.items())])


def test_sector_relative_return_by_hand_leaves_the_symbol_out():
    bars = _together(A=[100.0, 110.0], B=[50.0, 51.0], C=[20.0, 22.0], D=[10.0, 30.0])
    sectors = {"A": "oil", "B": "oil", "C": "oil", "D": "cars"}
    last = compute_features(bars, ["sector_relative_return_1"], sectors=sectors)[1::2]
    # A: 10 % less the mean of 2 % and 10 %; B: 2 % less 10 %; C: 10 % less the mean of 10 % and 2 %; D is alone.
    np.testing.assert_allclose(last["sector_relative_return_1"], [0.04, -0.08, 0.04, np.nan], rtol=1e-6)


def test_sector_relative_return_by_hand_compounds_the_bars_that_the_symbol_skipped():
    days = weekdays(3)
    bars = pl.concat(
        [bars_of("A", [100.0, 130.0], days=[days[0], days[2]]), bars_of("B", [10.0, 11.0, 13.2], days=days)]
    )
    features = compute_features(bars, ["sector_relative_return_1"], sectors={"A": "oil", "B": "oil"})
    # B rose by 10 % and 20 %: 1.1 * 1.2 = 1.32. A has no bar the day before, so B stands alone on both days.
    np.testing.assert_allclose(features["sector_relative_return_1"], [np.nan, -0.02, np.nan, np.nan, np.nan], rtol=1e-5)


def test_sector_of_a_symbol_without_one_is_nan():
    features = compute_features(random_bars(symbols=3, sessions=80), SECTOR, sectors={"S000": "oil", "S001": "oil"})
    is_known = features.select(pl.col(SECTOR).is_not_nan().sum().over("symbol"))[[79, 239]].rows()
    assert is_known == [(20, 20, 20, 79, 75, 60), (0, 0, 0, 0, 0, 0)]


def _sector_by_pandas(bars: pl.DataFrame, sectors: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Total return of each symbol to its bar before, and of its sector's other members, at each session."""
    member = bars.filter(pl.col("role") == "member").to_pandas()
    close, split, dividend = (
        member.pivot(index="session", columns="symbol", values=name) for name in ("close", "split_ratio", "dividend")
    )
    one = split * (close + dividend) / close.shift() - 1
    others = {}
    for symbol in close.columns:
        own = sectors.get(symbol)
        peers = [each for each in close.columns if sectors.get(each) == own and own is not None and each != symbol]
        others[symbol] = one[peers].mean(axis=1)
    return one, pd.DataFrame(others)


def _assert_agrees_with_pandas(bars: pl.DataFrame, sectors: dict[str, str], symbols: list[str]) -> int:
    features = compute_features(bars, SECTOR, sectors=sectors, volatility_index=VIX)
    one, others = _sector_by_pandas(bars, sectors)
    n_values = 0
    for symbol in symbols:
        here = features.filter(pl.col("symbol") == symbol)
        own, other = one[symbol], others[symbol]
        growth = (1 + own).rolling(60).apply(np.prod, raw=True) / (1 + other).rolling(60).apply(np.prod, raw=True)
        expected = {
            "sector_correlation_60": own.rolling(60).corr(other),
            "sector_beta_60": own.rolling(60).cov(other) / other.rolling(60).var(),
            "sector_relative_strength_60": growth - 1,
        }
        for bars_back in (1, 5, 20):
            expected[f"sector_relative_return_{bars_back}"] = (1 + own).rolling(bars_back).apply(np.prod, raw=True) - (
                1 + other
            ).rolling(bars_back).apply(np.prod, raw=True)
        for name in SECTOR:
            np.testing.assert_allclose(here[name], expected[name], rtol=2e-4, atol=2e-6, err_msg=f"{symbol} {name}")
            n_values += int(here[name].is_not_nan().sum())
    return n_values


def test_sector_agrees_with_pandas_on_random_bars_with_splits_and_dividends():
    bars = random_bars(symbols=5, sessions=150, seed=11)
    sectors = {f"S{n:03d}": "oil" if n < 3 else "cars" for n in range(5)}
    n_values = _assert_agrees_with_pandas(bars, sectors, list(sectors))
    assert n_values == 5 * (3 * 90 + 149 + 145 + 130)


def test_sector_agrees_with_pandas_on_88_real_stocks():
    bars, sectors = stocknet_bars(date(2014, 1, 1), date(2014, 12, 31)), stocknet_sectors()
    is_whole = bars.filter(pl.col("role") == "member").group_by("symbol").len().filter(pl.col("len") == 252)
    symbols = sorted(is_whole["symbol"].to_list())[::4]
    assert _assert_agrees_with_pandas(bars, sectors, symbols) == len(symbols) * (3 * 192 + 251 + 247 + 232) > 20_000


def test_volatility_index_agrees_with_pandas_on_the_vix():
    bars = stocknet_bars(date(2014, 1, 1), date(2015, 12, 31)).filter(pl.col("symbol").is_in(["AAPL", VIX]))
    features = compute_features(bars, INDEX, volatility_index=VIX)
    index = bars.filter(pl.col("symbol") == VIX)["close"].to_pandas()
    expected = {
        "volatility_index_level": index / 100,
        "volatility_index_change_1": index.pct_change(),
        "volatility_index_change_5": index.pct_change(5),
        "volatility_index_percentile_252": (index.rolling(252).rank() - 1) / 251,
    }
    assert features.height == index.size == 504
    for name in INDEX:
        np.testing.assert_allclose(features[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_volatility_index_by_hand_is_nan_where_the_index_has_no_bar():
    days = weekdays(4)
    index = bars_of(VIX, [20.0, 25.0, 24.0], role="reference", days=[days[0], days[1], days[3]])
    bars = pl.concat([bars_of("A", [1.0] * 4, days=days), index])
    features = compute_features(bars, INDEX[:2], volatility_index=VIX)
    np.testing.assert_allclose(features["volatility_index_level"], [0.2, 0.25, np.nan, 0.24], rtol=1e-6)
    np.testing.assert_allclose(features["volatility_index_change_1"], [np.nan, 0.25, np.nan, np.nan], rtol=1e-6)


def test_index_percentile_by_hand_gives_ties_the_middle():
    level = [10.0] * 100 + [20.0] * 152
    bars = pl.concat([bars_of("A", [1.0] * 252), bars_of(VIX, level, role="reference")])
    last = compute_features(bars, ["volatility_index_percentile_252"], volatility_index=VIX).row(-1)[-1]
    # 100 below, itself one of 152: (100 + 151 / 2) / 251.
    assert last == pytest.approx(175.5 / 251)


# A sector of four: DEAD leaves on day 60, LATE joins on day 70; both have bars before and after.
DAYS = weekdays(100)
SECTORS = dict.fromkeys(["DEAD", "LATE", "S000", "S001"], "oil")
MEMBERSHIP = pl.DataFrame(
    {
        "symbol": ["DEAD", "LATE", "S000", "S001"],
        "since": [DAYS[0], DAYS[70], DAYS[0], DAYS[0]],
        "until": [DAYS[60], None, None, None],
    }
)


def _changing_universe() -> pl.DataFrame:
    bars = random_bars(symbols=4, sessions=100, seed=5, has_reference=False)
    names = {"S002": "DEAD", "S003": "LATE"}
    renamed = bars.with_columns(pl.col("symbol").replace(names)).sort("symbol", "ts")
    # The dead company's last bar is of the day it left.
    return renamed.filter((pl.col("symbol") != "DEAD") | (pl.col("session") <= DAYS[60]))


def _stored_and_replayed(features: list[Feature], day: date) -> list[str]:
    """Names of the features that change when all that came after `day` is cut off, members and spells included."""
    bars = _changing_universe()
    spells = MEMBERSHIP.filter(pl.col("since") <= day).with_columns(
        until=pl.when(pl.col("until") <= day).then("until").otherwise(None)
    )
    known = bars.filter((pl.col("session") <= day) & pl.col("symbol").is_in(spells["symbol"].to_list()))
    whole, cut = (
        feature_frame(build_panel(frame, None, sectors=SECTORS, membership=membership), features)
        for frame, membership in ((bars, MEMBERSHIP), (known, spells))
    )
    at = whole.filter(pl.col("session") == day)["ts"][0]
    return sorted({found.feature for found in compare_replay(whole, cut, at=at)})


@pytest.mark.parametrize("at", [0, 30, 59, 60, 61, 69, 70, 71, 99])
def test_sector_with_members_that_leave_and_join_is_confirmed_by_replay(at):
    assert _stored_and_replayed([FEATURES[name] for name in SECTOR], DAYS[at]) == []


def test_sector_by_hand_counts_members_of_the_day_only():
    bars = _together(A=[100.0, 110.0, 110.0], B=[10.0, 11.0, 11.0], C=[10.0, 13.0, 26.0])
    days = weekdays(3)
    spells = pl.DataFrame(
        {"symbol": ["A", "B", "C"], "since": [days[0], days[0], days[2]], "until": [None, days[1], None]}
    )
    features = compute_features(
        bars, ["sector_relative_return_1"], sectors=dict.fromkeys("ABC", "oil"), membership=spells
    )
    # On day 1 the sector of A is B (10 %), on day 2 it is C (100 %), which had a bar on day 1, when it was no member.
    own = features.filter(pl.col("symbol") == "A")["sector_relative_return_1"]
    np.testing.assert_allclose(own, [np.nan, 0.0, -1.0], atol=1e-7)


def _median_of(panel, counts):
    """Each row's one-bar return less the median, at its time, of those that count: a planted leak."""
    one = panel.close / np.concatenate([[np.nan], panel.close[:-1]]) - 1
    one[panel.starts[:-1]] = np.nan
    frame = panel.keys.with_columns(one=pl.Series(np.where(counts, one, np.nan)).fill_nan(None))
    return one - frame.select(pl.col("one").median().over("ts").fill_null(np.nan))["one"].to_numpy()


def test_a_planted_sector_median_over_future_members_is_caught_by_name():
    planted = Feature(
        "sector_median", "planted", lambda panel: _median_of(panel, panel.sector >= 0), 2, ("close",), "future members"
    )
    honest = Feature(
        "own_median", "planted", lambda panel: _median_of(panel, panel.is_member), 2, ("close",), "members of the day"
    )
    assert _stored_and_replayed([planted, honest], DAYS[65]) == ["sector_median"]
    # Once everyone has joined there is nothing left to foresee.
    assert _stored_and_replayed([planted, honest], DAYS[99]) == []


def test_a_planted_universe_of_survivors_is_caught_by_name():
    def of_survivors(panel):
        last = panel.session.max()
        lives = panel.session[panel.starts[1:] - 1] == last
        return _median_of(panel, panel.is_member & lives.repeat(np.diff(panel.starts)))

    planted = Feature("survivors_median", "planted", of_survivors, 2, ("close",), "symbols that live to the end")
    assert _stored_and_replayed([planted], DAYS[30]) == ["survivors_median"]
    assert _stored_and_replayed([planted], DAYS[99]) == []
