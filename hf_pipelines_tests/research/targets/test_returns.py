"""Forward returns by hand, across events, and as a function of their own bars alone."""

import math
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.targets import ROUNDING_RETURN, build_labels, build_target, forward_return
from hf_pipelines.research.targets.returns import direction_codes, require_possible
from hf_pipelines_tests.sample_matrix import close_of, plain_bars


def walk(n_bars: int, *, seed: int = 0) -> list[float]:
    steps = np.random.default_rng(seed).normal(0.0, 0.02, size=n_bars)
    return (50.0 * np.exp(np.cumsum(steps))).tolist()


def with_event(bars: pl.DataFrame, session: date, **values: float) -> pl.DataFrame:
    on_day = pl.col("session") == session
    return bars.with_columns(
        pl.when(on_day).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def test_forward_return_one_bar_matches_hand_computation():
    labels = forward_return(plain_bars({"A": [100.0, 110.0, 99.0]}), 1)
    assert labels["target"].to_list() == pytest.approx([0.1, -0.1])
    assert labels["session"].to_list() == [date(2024, 1, 1), date(2024, 1, 2)]
    assert labels["label_start"].to_list() == [close_of(2), close_of(3)]
    assert labels["label_end"].to_list() == [close_of(2), close_of(3)]


def test_forward_return_two_bars_starts_at_next_bar_and_ends_at_second():
    labels = forward_return(plain_bars({"A": [100.0, 110.0, 99.0, 121.0]}), 2)
    assert labels["target"].to_list() == pytest.approx([-0.01, 0.1])
    assert labels["label_start"].to_list() == [close_of(2), close_of(3)]
    assert labels["label_end"].to_list() == [close_of(3), close_of(4)]


@pytest.mark.parametrize(
    ("close", "events", "expected"),
    [
        pytest.param(50.0, {"split_ratio": 2.0}, 0.0, id="split"),
        pytest.param(98.0, {"dividend": 3.0}, 0.01, id="dividend"),
        pytest.param(50.0, {"split_ratio": 2.0, "dividend": 1.0}, 0.02, id="both: cash is per new share"),
        pytest.param(1000.0, {"split_ratio": 0.1}, 0.0, id="reverse split"),
    ],
)
def test_forward_return_across_event_is_total_return(close, events, expected):
    bars = with_event(plain_bars({"A": [100.0, close, close]}), date(2024, 1, 2), **events)
    assert forward_return(bars, 1)["target"].to_list() == pytest.approx([expected, 0.0], abs=1e-12)
    assert forward_return(bars, 2)["target"].to_list() == pytest.approx([expected], abs=1e-12)


def test_forward_return_event_on_own_bar_does_not_count():
    bars = with_event(plain_bars({"A": [100.0, 110.0]}), date(2024, 1, 1), split_ratio=2.0, dividend=5.0)
    assert forward_return(bars, 1)["target"].to_list() == pytest.approx([0.1])


def test_forward_return_over_apple_split_of_2005_has_no_jump():
    bars = plain_bars({"AAPL": [88.99, 44.86]}, start=date(2005, 2, 27))
    bars = with_event(bars, date(2005, 2, 28), split_ratio=2.0)
    assert forward_return(bars, 1)["target"].to_list() == pytest.approx([2 * 44.86 / 88.99 - 1])


def test_forward_return_two_symbols_never_mixes_them():
    labels = forward_return(plain_bars({"B": [10.0, 11.0, 12.1], "A": [1.0, 2.0]}), 1)
    assert labels.select("symbol", "target").rows() == [
        ("A", 1.0),
        ("B", pytest.approx(0.1)),
        ("B", pytest.approx(0.1)),
    ]


def test_forward_return_with_halt_counts_bars_of_the_symbol():
    bars = plain_bars({"A": [100.0, 1.0, 1.0, 120.0, 150.0]}).filter(~pl.col("session").dt.day().is_in([2, 3]))
    labels = forward_return(bars, 1)
    assert labels["target"].to_list() == pytest.approx([0.2, 0.25])
    assert labels["label_end"].to_list() == [close_of(4), close_of(5)]


def test_forward_return_shorter_than_horizon_is_empty_with_schema():
    bars = plain_bars({"A": [1.0, 2.0], "B": [1.0, 2.0, 3.0]})
    assert forward_return(bars, 3).is_empty()
    assert forward_return(bars, 9).schema == forward_return(bars, 1).schema


@pytest.mark.parametrize("horizon_bars", [1, 5, 20])
def test_forward_return_without_events_agrees_with_pandas(horizon_bars):
    bars = plain_bars({"A": walk(60, seed=1), "B": walk(45, seed=2)})
    close = bars.to_pandas().groupby("symbol")["close"]
    expected = (close.shift(-horizon_bars) / close.shift(0) - 1.0).dropna()
    np.testing.assert_allclose(forward_return(bars, horizon_bars)["target"], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("horizon_bars", [1, 7])
def test_forward_return_other_bars_cut_off_same_bits(horizon_bars):
    bars = with_event(plain_bars({"A": walk(60), "B": walk(60, seed=3)}), date(2024, 1, 25), dividend=0.7)
    whole = forward_return(bars, horizon_bars)
    first, last = date(2024, 1, 12), date(2024, 2, 9)
    part = forward_return(bars.filter(pl.col("session").is_between(first, last)), horizon_bars)
    expected = whole.filter(pl.col("session") >= first, pl.col("label_end").dt.date() <= last)
    assert part.height == 2 * (29 - horizon_bars)
    assert_frame_equal(part, expected, check_exact=True)


def test_forward_return_order_of_rows_does_not_matter():
    bars = plain_bars({"A": walk(20), "B": walk(20, seed=1)})
    assert_frame_equal(forward_return(bars.sample(fraction=1.0, shuffle=True, seed=0), 3), forward_return(bars, 3))


@pytest.mark.parametrize("close", [0.0, float("nan"), None])
def test_forward_return_unusable_close_raises_naming_symbol(close):
    bars = plain_bars({"A": [1.0, 2.0, 3.0], "BAD": [1.0, 2.0, 3.0]})
    on_day = (pl.col("symbol") == "BAD") & (pl.col("session") == date(2024, 1, 2))
    bars = bars.with_columns(close=pl.when(on_day).then(pl.lit(close, pl.Float64)).otherwise("close"))
    with pytest.raises(ValueError, match=r"`close` must be positive.*\['BAD'\]"):
        forward_return(bars, 1)


def test_build_labels_direction_encodes_down_flat_up_with_thresholds_flat():
    # Powers of two: the returns are exact, so the thresholds themselves are met.
    bars = plain_bars({"A": [64.0, 96.0, 48.0, 60.0, 60.0, 45.0]})
    target = build_target("direction", horizon_bars=1, params={"lower": -0.25, "upper": 0.25})
    labels = build_labels(bars, target)
    assert labels["target"].to_list() == [0.5, -0.5, 0.25, 0.0, -0.25]
    assert [target.classes[int(code)] for code in labels["y"]] == ["up", "down", "flat", "flat", "flat"]


def test_build_labels_forward_return_fits_the_return_itself():
    labels = build_labels(plain_bars({"A": walk(30)}), build_target("forward_return", horizon_bars=4))
    assert labels["y"].to_list() == labels["target"].to_list()


@pytest.mark.parametrize(
    ("name", "horizon_bars", "params", "message"),
    [
        pytest.param("direction", 0, {}, "`horizon_bars` of 'direction' must be from 1 to 10080, was 0", id="horizon"),
        pytest.param("direction", None, {}, "`horizon_bars` must be given for target 'direction'", id="no horizon"),
        pytest.param("direction", 1, {"horizon_bars": 1}, "`horizon_bars` must be given once", id="twice"),
        pytest.param("sideways", 1, {}, "must be one of.*direction.*'sideways'", id="name"),
        pytest.param("direction", 1, {"top": 0.1}, r"among \['horizon_bars', 'lower', 'upper'\].*top", id="param"),
        pytest.param("direction", 1, {"upper": -0.2}, "`lower` must not exceed `upper`", id="crossed"),
        pytest.param("direction", 1, {"upper": float("nan")}, "`upper` of 'direction' must be from -1 to 10", id="nan"),
    ],
)
def test_build_target_bad_value_raises(name, horizon_bars, params, message):
    with pytest.raises(ValueError, match=message):
        build_target(name, horizon_bars=horizon_bars, params=params)


@pytest.mark.parametrize("percent", [1, -1])
def test_build_labels_of_moves_of_exactly_the_threshold_are_flat(percent):
    """Every price in cents of which 1 % is whole cents: in floats most of their moves are not 0.01."""
    before = np.arange(1, 501)
    bars = plain_bars({f"S{each}": [float(each), (100 + percent) * each / 100] for each in before})
    labels = build_labels(bars, build_target("direction", horizon_bars=1))
    assert labels.height == 500 and (labels["target"].abs() != 0.01).sum() > 250
    assert labels["y"].unique().to_list() == [1.0]


@pytest.mark.parametrize(("tick", "code"), [(1e-6, 2.0), (-1e-6, 1.0)])
def test_build_labels_of_moves_a_tick_off_the_threshold_are_not(tick, code):
    bars = plain_bars({"A": [1000.0, 1010.0 + tick]})
    assert build_labels(bars, build_target("direction", horizon_bars=1))["y"].to_list() == [code]


def test_direction_of_a_return_at_the_rounding_of_a_threshold_is_flat():
    params = {"lower": -0.01, "upper": 0.01}
    edges = np.array([0.01 + ROUNDING_RETURN, -0.01 - ROUNDING_RETURN, 0.01 + 2e-12, -0.01 - 2e-12])
    assert direction_codes(edges, params).tolist() == [1.0, 1.0, 2.0, 0.0]


@pytest.mark.parametrize("split_ratio", [0.0, -1.0, math.inf, None], ids=str)
def test_split_that_no_share_can_have_is_refused(split_ratio):
    bars = plain_bars({"A": [100.0, 110.0]}).with_columns(split_ratio=pl.Series([1.0, split_ratio], dtype=pl.Float64))
    with pytest.raises(ValueError, match="split_ratio"):
        require_possible(bars)


@pytest.mark.parametrize("dividend", [-1.0, math.inf, None], ids=str)
def test_dividend_that_no_share_can_have_is_refused(dividend):
    bars = plain_bars({"A": [100.0, 110.0]}).with_columns(dividend=pl.Series([0.0, dividend], dtype=pl.Float64))
    with pytest.raises(ValueError, match="dividend"):
        require_possible(bars)


def test_open_return_needs_one_bar_more_than_the_position_is_held():
    needs = build_target("open_return", horizon_bars=5).needs
    assert (needs.horizon_bars, "open" in needs.columns) == (6, True)
