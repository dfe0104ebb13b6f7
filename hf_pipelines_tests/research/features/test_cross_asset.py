"""Cross-asset features: agreement with numpy and pandas, and the symbol that is its own benchmark."""

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import compute_features, group_names
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars

NAMES = group_names("cross_asset")


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
