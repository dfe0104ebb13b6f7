"""First touch by hand: which close leaves the band, when, and what is no label."""

import math

import polars as pl
import pytest

from hf_pipelines.research.targets import build_labels, build_target
from hf_pipelines_tests.sample_matrix import close_of, plain_bars

# Returns of +1 % and -1 %: their sample standard deviation is 0.01 * sqrt(2).
BEFORE = [100.0, 101.0, 99.99]
BAND = 2.0 * 0.01 * math.sqrt(2.0)


def labels_of(closes: list[float], *, horizon_bars: int = 3, **events: float) -> pl.DataFrame:
    bars = plain_bars({"A": closes})
    on_day = pl.col("ts") == close_of(5)
    bars = bars.with_columns(pl.when(on_day).then(value).otherwise(name).alias(name) for name, value in events.items())
    target = build_target("first_touch", horizon_bars=horizon_bars, params={"width": 2.0, "volatility_bars": 2})
    return build_labels(bars, target)


@pytest.mark.parametrize(
    ("after", "y", "end", "close"),
    [
        pytest.param([101.0, 103.0, 90.0], 2.0, 5, 103.0, id="up on the second bar, whatever follows"),
        pytest.param([97.0, 105.0, 105.0], 0.0, 4, 97.0, id="down at once"),
        pytest.param([101.0, 99.0, 102.0], 1.0, 6, 102.0, id="never"),
        pytest.param([101.0, 102.0, 97.0], 0.0, 6, 97.0, id="on the last bar"),
        pytest.param([101.0, 103.0], 2.0, 5, 103.0, id="known before the horizon's bars are there"),
    ],
)
def test_first_touch_by_hand(after, y, end, close):
    row = labels_of([*BEFORE, *after]).row(0, named=True)
    move = close / 99.99 - 1.0
    assert (abs(move) > BAND) == (y != 1.0)
    assert (row["ts"], row["label_start"], row["label_end"]) == (close_of(3), close_of(4), close_of(end))
    assert (row["y"], row["target"]) == (y, pytest.approx(move))


def test_first_touch_of_a_close_at_the_band_does_not_leave_it():
    edge = 99.99 * (1.0 + BAND)
    rows = [labels_of([*BEFORE, edge * (1.0 + off), 99.99, 99.99]).row(0, named=True) for off in (0.0, 1e-9)]
    assert [row["y"] for row in rows] == [1.0, 2.0]


def test_first_touch_counts_splits_and_dividends_and_knows_nothing_over_an_unknown_one():
    # On the fifth of January, two bars after the row: 2:1 and 4 a share, 103.99 per old share in total.
    split = labels_of([*BEFORE, 101.0, 50.0, 50.0], split_ratio=2.0, dividend=4.0).row(0, named=True)
    assert (split["y"], split["label_end"]) == (2.0, close_of(5))
    assert split["target"] == pytest.approx(2.0 * 54.0 / 99.99 - 1.0)
    unknown = labels_of([*BEFORE, 101.0, 50.0, 50.0], split_ratio=float("nan"))
    assert close_of(3) not in unknown["ts"].to_list()
    # A band left before the event is known.
    assert labels_of([*BEFORE, 110.0, 50.0, 50.0], split_ratio=float("nan"))["y"][0] == 2.0


@pytest.mark.parametrize(
    "closes",
    [
        pytest.param([*BEFORE, 101.0, 100.0], id="not over yet"),
        pytest.param([100.0, 101.0], id="no volatility yet"),
        pytest.param([100.0] * 9, id="a volatility of zero"),
        pytest.param([100.0 * 1.01**day for day in range(9)], id="a volatility of rounding"),
    ],
)
def test_first_touch_without_what_it_needs_is_no_label(closes):
    assert labels_of(closes).is_empty()


def test_first_touch_never_mixes_symbols():
    closes = {"A": [*BEFORE, 101.0, 103.0], "B": [50.0, 60.0, 50.0, 50.0, 50.0, 50.0]}
    target = build_target("first_touch", horizon_bars=3, params={"volatility_bars": 2})
    labels = build_labels(plain_bars(closes), target)
    assert labels.select("symbol", "ts", "label_end").rows() == [
        ("A", close_of(3), close_of(5)),
        ("B", close_of(3), close_of(6)),
    ]
