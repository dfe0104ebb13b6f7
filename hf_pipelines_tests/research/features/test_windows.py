"""The drivers: what a kernel is given, and that neither threads nor neighbours change a value."""

import os
import signal
from time import monotonic, sleep

import numpy as np
import polars as pl
import pytest
from numba.core.errors import NumbaError

from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.features.lazy_kernel import window_kernel
from hf_pipelines.research.features.panel import build_panel
from hf_pipelines.research.features.windows import alone, paired, swept, windowed
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


@window_kernel
def _fingerprints(open_, high, low, close, volume, bars, span, values):
    for row in range(values.shape[1]):
        here = slice(row, row + bars)
        values[0, row] = _fingerprint(open_[here], high[here], low[here], close[here], volume[here])
        values[1, row] = close[row + bars - 1] + span


@window_kernel
def _running_sums(open_, high, low, close, volume, bars, span, values):
    total = 0.0
    for bar in range(close.size):
        total += close[bar]
        if bar >= bars:
            total -= close[bar - bars]
        if bar >= bars - 1:
            values[0, bar - bars + 1] = total


def _swept(names=("fingerprint", "last"), *, bars=25, span=0):
    return swept(_fingerprints, bars, names, inputs=COLUMNS, span=span)


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


@pytest.mark.parametrize("has_events", [True, False])
def test_swept_gives_each_row_what_windowed_gives_it_to_the_bit(has_events):
    # Without events a stretch ends only where it is full: 700 bars are more than two of 256.
    bars = random_bars(symbols=3, sessions=700, seed=15, has_events=has_events, late_bars=300)
    panel = build_panel(bars, None)
    expected = windowed(_fingerprint, 25)(panel)
    np.testing.assert_array_equal(_swept()(panel, ["fingerprint"])[0], expected)
    np.testing.assert_array_equal(alone(_swept(), "fingerprint")(panel), expected)
    assert np.isnan(expected).sum() == 3 * 24


def test_swept_hands_over_its_span_and_returns_the_names_asked_for_in_their_order():
    panel = build_panel(bars_of("A", [100.0, 52.0, 48.0], split_ratio=[1, 2, 1]), None)
    last, fingerprint = _swept(bars=2, span=7)(panel, ["last", "fingerprint"])
    np.testing.assert_array_equal(last, [np.nan, 59.0, 55.0])
    # 50 * 11 + 2 * 52 * 11, then 52 * 11 + 2 * 48 * 11; volumes 2 + 2 * 1 and 1 + 2 * 1 in millionths.
    np.testing.assert_allclose(fingerprint, [np.nan, 1694.000004, 1628.000003], rtol=1e-15)


def test_swept_computes_wanted_rows_alone_and_gives_them_the_same_bits():
    bars = random_bars(symbols=2, sessions=400, seed=16)
    every = _swept()(build_panel(bars, None), ["fingerprint"])[0]
    days = bars["session"].unique().sort()
    panel = build_panel(bars, None, wanted=[days[index] for index in (10, 100, 101, 102, 250, 399)])
    some = _swept()(panel, ["fingerprint"])[0]
    assert np.isfinite(some).sum() == 2 * 5
    np.testing.assert_array_equal(some, np.where(panel.is_wanted, every, np.nan))


def test_swept_kernel_that_keeps_a_running_sum_gives_other_bits_for_other_neighbours():
    running = swept(_running_sums, 25, ["sum"], inputs=["close"])
    bars = random_bars(symbols=1, sessions=300, seed=17, has_events=False)
    panels = build_panel(bars, None), build_panel(bars, None, wanted=[bars["session"].max()])
    values = [running(panel, ["sum"])[0][-1] for panel in panels]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert values[0] != values[1]


def test_swept_with_no_rows_gives_no_values():
    assert _swept()(build_panel(random_bars().clear(), None), ["last"])[0].shape == (0,)


def _all_drivers(bars: pl.DataFrame) -> list[np.ndarray]:
    panel = build_panel(bars, None)
    return [windowed(_fingerprint, 25)(panel), paired(_pair_first, 25)(panel), *_swept()(panel, ["fingerprint"])]


@pytest.fixture
def many_bars() -> pl.DataFrame:
    return random_bars(symbols=30, sessions=400, seed=18)


def test_drivers_on_any_number_of_threads_give_the_same_bits(many_bars, monkeypatch):
    found = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(pl, "thread_pool_size", lambda n=n_threads: n)
        found.append(_all_drivers(many_bars))
    for one, other in zip(found[0], found[2], strict=True):
        assert np.isfinite(one).sum() > 11_000
        np.testing.assert_array_equal(one, other)
    for one, other in zip(found[0], found[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_drivers_in_a_forked_process_start_threads_of_their_own(many_bars, monkeypatch):
    monkeypatch.setattr(pl, "thread_pool_size", lambda: 2)
    panel = build_panel(many_bars, None)
    here = windowed(_fingerprint, 25)(panel)
    child = os.fork()
    if child == 0:
        os._exit(int(not np.array_equal(windowed(_fingerprint, 25)(panel), here, equal_nan=True)))
    deadline = monotonic() + 30.0
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and monotonic() < deadline:
        sleep(0.01)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)
