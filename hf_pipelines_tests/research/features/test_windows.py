"""The drivers: what a kernel is given."""

import numpy as np
import polars as pl
import pytest
from numba.core.errors import NumbaError

from hf_pipelines.research.bars import adjust
from hf_pipelines.research.features.panel import build_panel
from hf_pipelines.research.features.windows import paired, window_kernel, windowed
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars

COLUMNS = ("open", "high", "low", "close", "volume")


@window_kernel
def _first_close(open_, high, low, close, volume):
    return close[0]


@window_kernel
def _fingerprint(open_, high, low, close, volume):
    total = 0.0
    for bar in range(close.size):
        weight = bar + 1.0
        total += weight * (open_[bar] + 2 * high[bar] + 3 * low[bar] + 5 * close[bar]) + weight * volume[bar] * 1e-6
    return total


@window_kernel
def _size(open_, high, low, close, volume):
    return float(close.size)


@window_kernel
def _overwrite(open_, high, low, close, volume):
    close[0] = 0.0
    return 0.0


@window_kernel
def _pair_first(close, benchmark):
    return close[0] + 1000.0 * benchmark[0]


def test_windowed_adjusts_for_a_split_and_a_dividend_inside_the_window_by_hand():
    # 100 -> split 2:1 at 52 -> dividend 2 at 48: seen from the last bar the first close is 100 * 1/2 * 48/50.
    bars = bars_of("A", [100.0, 52.0, 48.0], split_ratio=[1, 2, 1], dividend=[0, 0, 2.0])
    values = windowed(_first_close, 3)(build_panel(bars, None))
    np.testing.assert_allclose(values, [np.nan, np.nan, 48.0], rtol=1e-15)


def test_windowed_ignores_an_event_on_the_first_bar_of_the_window():
    bars = bars_of("A", [100.0, 52.0, 48.0], split_ratio=[1, 2, 1])
    assert windowed(_first_close, 2)(build_panel(bars, None)).tolist()[1:] == [50.0, 52.0]


def test_windowed_agrees_with_adjust_of_bars_at_every_row():
    bars = random_bars(symbols=2, sessions=60, seed=13).filter(pl.col("role") == "member")
    assert (bars["dividend"] > 0).any() and (bars["split_ratio"] != 1).any()
    values = windowed(_fingerprint, 25)(build_panel(bars, None))
    expected = []
    for symbol, ts in bars.select("symbol", "ts").rows():
        window = adjust(bars.filter((pl.col("symbol") == symbol) & (pl.col("ts") <= ts)), ts).tail(25)
        arrays = [window[name].to_numpy() for name in COLUMNS]
        expected.append(_fingerprint.py_func(*arrays) if window.height == 25 else np.nan)
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_windowed_gives_exactly_lookback_bars_and_never_crosses_symbols():
    bars = random_bars(symbols=2, sessions=6, has_reference=False)
    values = windowed(_size, 4)(build_panel(bars, None))
    np.testing.assert_array_equal(values, [np.nan] * 3 + [4.0] * 3 + [np.nan] * 3 + [4.0] * 3)


def test_windowed_with_no_rows_gives_no_values():
    assert windowed(_size, 4)(build_panel(random_bars().clear(), None)).shape == (0,)


def test_window_kernel_that_writes_into_its_window_does_not_compile():
    with pytest.raises(NumbaError, match="readonly|immutable|[Cc]annot modify"):
        windowed(_overwrite, 2)(build_panel(random_bars(sessions=5), None))


def test_paired_adjusts_both_series_and_is_nan_over_a_missing_benchmark():
    member = bars_of("A", [100.0, 52.0, 51.0, 50.0, 49.0], split_ratio=[1, 2, 1, 1, 1])
    reference = bars_of(REFERENCE, [10.0, 9.0, 9.0, 9.0, 9.0], role="reference", dividend=[0, 1.0, 0, 0, 0])
    whole = paired(_pair_first, 3)(build_panel(pl.concat([member, reference]), None))
    np.testing.assert_allclose(whole[2:], [50.0 + 9000.0, 52.0 + 9000.0, 51.0 + 9000.0], rtol=1e-15)
    holed = paired(_pair_first, 3)(build_panel(pl.concat([member, reference[[0, 2, 3, 4]]]), None))
    np.testing.assert_array_equal(np.isnan(holed), [True, True, True, True, False])
