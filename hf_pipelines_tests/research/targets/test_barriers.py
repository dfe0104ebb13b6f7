"""Barriers by hand: which is met first, by which price and when; the side of a primary rule."""

import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.targets import build_labels, build_target
from hf_pipelines_tests.sample_matrix import close_of, plain_bars

# Returns of +1 % and -1 %: their sample standard deviation is 0.01 * sqrt(2).
BEFORE = [(100.0,) * 4, (101.0,) * 4, (99.99,) * 4]
UNIT = 0.01 * math.sqrt(2.0)
CLOSE = 99.99
# Profit at three volatilities, stop at two.
PROFIT, STOP = 3.0 * UNIT, 2.0 * UNIT
UP, DOWN = CLOSE * (1.0 + PROFIT), CLOSE * (1.0 - STOP)


def bars_of(prices: list[tuple[float, float, float, float]], *, start: date = date(2024, 1, 1)) -> pl.DataFrame:
    """Bars of symbol A from (open, high, low, close) of each day."""
    opens, high, low, close = (list(each) for each in zip(*prices, strict=True))
    return plain_bars({"A": close}, start=start).with_columns(
        open=pl.Series(opens), high=pl.Series(high), low=pl.Series(low)
    )


def label(after: list[tuple[float, float, float, float]], *, name: str = "triple_barrier", side: float = 1.0) -> dict:
    bars = bars_of([*BEFORE, *after])
    primary = {"primary": "speed"} if name == "meta_label" else {}
    target = build_target(name, horizon_bars=3, params={"profit": 3.0, "stop": 2.0, "volatility_bars": 2, **primary})
    features = bars.select(*KEY_COLUMNS, speed=pl.lit(side))
    rows = build_labels(bars, target, features=features if primary else None)
    (row,) = rows.filter(pl.col("ts") == close_of(3)).to_dicts()
    assert row["label_start"] == close_of(4)
    return row


QUIET = (100.0, 100.5, 99.5, 100.0)


@pytest.mark.parametrize(
    ("after", "y", "end", "gain"),
    [
        pytest.param([QUIET, (100.0, UP + 0.1, 99.0, 100.0), QUIET], 2.0, 5, PROFIT, id="the high meets the profit"),
        pytest.param(
            [(100.0, 101.0, DOWN - 0.1, 101.0)], 0.0, 4, -STOP, id="the low meets the stop, the close is above"
        ),
        pytest.param([(100.0, UP + 1.0, DOWN - 1.0, 100.0)], 0.0, 4, -STOP, id="both in a bar: the stop"),
        pytest.param([(UP + 2.0, UP + 3.0, DOWN - 1.0, 100.0)], 2.0, 4, (UP + 2.0) / CLOSE - 1.0, id="opens above"),
        pytest.param([(DOWN - 2.0, UP + 1.0, DOWN - 3.0, UP)], 0.0, 4, (DOWN - 2.0) / CLOSE - 1.0, id="opens below"),
        pytest.param([QUIET, QUIET, (100.0, 101.0, 99.0, 100.9)], 1.0, 6, 100.9 / CLOSE - 1.0, id="the time"),
        pytest.param([(100.0, UP, 100.0, 100.0)], 2.0, 4, PROFIT, id="the barrier itself is met"),
        pytest.param([QUIET, QUIET, (100.0, 100.0, DOWN, 100.0)], 0.0, 6, -STOP, id="on the last bar"),
    ],
)
def test_triple_barrier_by_hand(after, y, end, gain):
    row = label(after)
    assert (row["y"], row["label_end"]) == (y, close_of(end))
    assert row["target"] == pytest.approx(gain, abs=1e-12)


def test_triple_barrier_counts_a_split_and_a_dividend_on_their_day():
    bars = bars_of([*BEFORE, QUIET, (48.0, 48.5, 47.5, 48.0), (48.0, 48.0, 48.0, 48.0)])
    # 2:1 and 3.6 a share on the fifth: an old share's high is worth 2 * (48.5 + 3.6) = 104.2, a stop of 97.2 is far.
    on_day = pl.col("ts") == close_of(5)
    paid = bars.with_columns(
        split_ratio=pl.when(on_day).then(2.0).otherwise(1.0), dividend=pl.when(on_day).then(3.6).otherwise(0.0)
    )
    target = build_target("triple_barrier", horizon_bars=3, params={"profit": 2.9, "stop": 2.0, "volatility_bars": 2})
    row = build_labels(paid, target).filter(pl.col("ts") == close_of(3)).row(0, named=True)
    assert 2.9 * UNIT < 104.2 / CLOSE - 1.0
    assert (row["y"], row["label_end"]) == (2.0, close_of(5))
    assert row["target"] == pytest.approx(2.9 * UNIT, abs=1e-12)
    # Of an unknown event nothing is known, but what was over before it is.
    unknown = bars.with_columns(dividend=pl.when(on_day).then(float("nan")).otherwise(0.0))
    assert build_labels(unknown, target).filter(pl.col("ts") == close_of(3)).is_empty()
    over = unknown.with_columns(high=pl.when(pl.col("ts") == close_of(4)).then(110.0).otherwise("high"))
    assert build_labels(over, target).filter(pl.col("ts") == close_of(3))["y"].to_list() == [2.0]


@pytest.mark.parametrize(
    ("side", "after", "y", "end", "gain"),
    [
        pytest.param(0.3, [(100.0, UP + 0.1, 99.0, 100.0)], 1.0, 4, PROFIT, id="long, profit"),
        pytest.param(0.3, [(100.0, 100.0, DOWN, 100.0)], 0.0, 4, -STOP, id="long, stop"),
        # The profit of a short position lies three volatilities below, its stop two above.
        pytest.param(-2.0, [(100.0, 100.0, CLOSE * (1 - PROFIT), 100.0)], 1.0, 4, PROFIT, id="short, profit"),
        pytest.param(-2.0, [(100.0, CLOSE * (1 + STOP), 100.0, 99.0)], 0.0, 4, -STOP, id="short, stop"),
        pytest.param(-2.0, [(100.0, CLOSE * 1.2, CLOSE * 0.8, 99.0)], 0.0, 4, -STOP, id="short, both"),
        pytest.param(
            -2.0, [QUIET, QUIET, (100.0, 100.0, 99.0, 99.5)], 1.0, 6, 1 - 99.5 / CLOSE, id="short, time, right"
        ),
        pytest.param(0.3, [QUIET, QUIET, (100.0, 100.0, 99.0, 99.5)], 0.0, 6, 99.5 / CLOSE - 1, id="long, time, wrong"),
    ],
)
def test_meta_label_says_whether_the_side_of_the_primary_rule_was_right(side, after, y, end, gain):
    row = label(after, name="meta_label", side=side)
    assert (row["y"], row["label_end"]) == (y, close_of(end))
    assert row["target"] == pytest.approx(gain, abs=1e-12)


def test_meta_label_where_the_primary_rule_has_no_side_is_none():
    bars = bars_of([*BEFORE, QUIET, QUIET, QUIET, QUIET, QUIET])
    target = build_target("meta_label", horizon_bars=2, params={"primary": "speed", "volatility_bars": 2})
    speed = pl.Series([1.0, 1.0, 0.0, 1.0, float("nan"), None, 1.0, 1.0])
    labels = build_labels(bars, target, features=bars.select(*KEY_COLUMNS, speed=speed))
    assert labels["ts"].to_list() == [close_of(4)]


def test_barriers_of_closes_alone_agree_with_mlfinpy():
    """Its numbers (`mlfinpy_tables.py`): which barrier a close meets first, and when, of 370 days."""
    table = pl.read_csv(Path(__file__).parents[1] / "mlfinpy_barriers.csv", try_parse_dates=True)
    expected = table.drop_nulls().select("day", "label_end", y=pl.col("met") + 1.0)
    assert expected["y"].value_counts().sort("y")["count"].to_list() == [257, 11, 102]
    bars = bars_of([(each,) * 4 for each in table["close"]], start=date(2020, 1, 1))
    target = build_target("triple_barrier", horizon_bars=10, params={"profit": 1.5, "stop": 1.0, "volatility_bars": 20})
    found = build_labels(bars, target).select(day="session", label_end=pl.col("label_end").dt.date(), y="y")
    # Rows of the last ten days that are over already have a label with us.
    assert_frame_equal(found.filter(pl.col("day").is_in(expected["day"].implode())), expected)
    assert set(found.filter(~pl.col("day").is_in(expected["day"].implode()))["day"]) <= set(table["day"].tail(10))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param({"profit": 0.0}, "`profit` of 'triple_barrier' must be from 0.01 to 100, was 0.0", id="zero"),
        pytest.param({"stop": -1.0}, "`stop` of 'triple_barrier' must be from 0.01 to 100, was -1.0", id="negative"),
    ],
)
def test_barriers_of_nothing_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        build_target("triple_barrier", horizon_bars=3, params=params)


def test_meta_label_without_its_feature_says_so():
    with pytest.raises(ValueError, match="`primary` of 'meta_label' must be given"):
        build_target("meta_label", horizon_bars=3)
    with pytest.raises(ValueError, match="`primary` of 'meta_label' must match .*, was 'A feature'"):
        build_target("meta_label", horizon_bars=3, params={"primary": "A feature"})


def test_barriers_over_a_price_that_is_none_are_refused():
    bars = bars_of([*BEFORE, QUIET, QUIET]).with_columns(
        high=pl.when(pl.col("ts") == close_of(5)).then(None).otherwise("high")
    )
    with pytest.raises(
        ValueError,
        match=r"`open`, `high`, `low`, `close` must be positive and present in every bar, was not for \['A'\]",
    ):
        build_labels(bars, build_target("triple_barrier", horizon_bars=1))
