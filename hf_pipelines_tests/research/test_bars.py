"""The bars contract: what is refused, what is quarantined, and corporate actions on hand numbers and real bars."""

import math
from datetime import UTC, date, datetime, timedelta

import exchange_calendars
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.calendars import load_calendar
from hf_pipelines.research.adjustment import SIMPLE_SPLITS, adjust, derive_events
from hf_pipelines.research.bar_grid import BarGrid, SessionHours
from hf_pipelines.research.bars import (
    BARS_SCHEMA,
    SOURCE_SCHEMA,
    CheckedBars,
    check_structure,
    is_stray_event,
    missing_bars,
    sound_bars,
    stale_bars,
    validate_bars,
)
from hf_pipelines.research.wording import excerpt
from hf_pipelines_tests.sample_bars import bars_of

DAYS = [date(2020, 1, 6) + timedelta(days=offset) for offset in range(5)]
HOURS = {
    day: (
        datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC),
        datetime(day.year, day.month, day.day, 21, tzinfo=UTC),
    )
    for day in DAYS
}
NOW = datetime(2020, 1, 12, tzinfo=UTC)
UNIVERSE = {"AAA": "member", "BBB": "member", "CCC": "member", "^IDX": "reference"}


def raw_bars(symbols=("AAA", "BBB", "CCC", "^IDX")) -> pl.DataFrame:
    """Four sound bars a session: open 10, high 12, low 9, close 11."""
    prices = {"open": [10.0] * 5, "high": [12.0] * 5, "low": [9.0] * 5}
    return pl.concat([bars_of(name, [11.0] * 5, days=DAYS, **prices) for name in symbols]).select(*SOURCE_SCHEMA)


def replace_at(frame: pl.DataFrame, symbol: str, day: date, /, **values: object) -> pl.DataFrame:
    at = (pl.col("symbol") == symbol) & (pl.col("session") == day)
    return frame.with_columns(
        pl.when(at).then(pl.lit(value, dtype=frame.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def structure_error(frame: pl.DataFrame) -> str:
    with pytest.raises(ValueError, match="`bars` must follow the bars contract, day.csv does not: ") as caught:
        check_structure(frame, source="day.csv", hours=HOURS, now=NOW)
    return str(caught.value)


def checked(frame: pl.DataFrame, **options: object):
    return validate_bars(
        check_structure(frame, source="day.csv", hours=HOURS, now=NOW), universe=UNIVERSE, source="day.csv", **options
    )


def test_check_structure_of_sound_bars_keeps_every_value():
    raw = raw_bars()
    assert check_structure(raw, source="day.csv", hours=HOURS, now=NOW).equals(raw)


def test_check_structure_of_shuffled_columns_other_unit_and_zone_gives_the_contract():
    raw = raw_bars()
    other = raw.select(*reversed(raw.columns)).with_columns(
        pl.col("ts").dt.convert_time_zone("America/New_York").cast(pl.Datetime("ns", "America/New_York")),
        pl.col("volume").cast(pl.Int64),
    )
    assert check_structure(other, source="day.csv", hours=HOURS, now=NOW).equals(raw)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(lambda raw: raw.drop("close", "ts"), "missing columns close, ts", id="missing"),
        pytest.param(lambda raw: raw.with_columns(vwap=1.0, adj=1.0), "unknown columns adj, vwap", id="extra"),
        pytest.param(
            lambda raw: raw.with_columns(pl.col("close").cast(pl.String)),
            "`close` must be of type Float64, was String",
            id="text-price",
        ),
        pytest.param(
            lambda raw: raw.with_columns(pl.col("session").cast(pl.String)),
            "`session` must be of type Date, was String",
            id="text-session",
        ),
        pytest.param(
            lambda raw: raw.with_columns(symbol=pl.lit(7)),
            "`symbol` must be of type String, was Int32",
            id="int-symbol",
        ),
        pytest.param(
            lambda raw: raw.with_columns(volume=pl.lit(True)),
            "`volume` must be of type Float64, was Boolean",
            id="bool-volume",
        ),
        pytest.param(
            lambda raw: raw.with_columns(pl.col("ts").dt.replace_time_zone(None)),
            "`ts` must be a timestamp with a time zone, was Datetime(time_unit='us', time_zone=None)",
            id="naive",
        ),
        pytest.param(
            lambda raw: raw.with_columns(pl.col("ts").dt.epoch("ms")),
            "`ts` must be a timestamp with a time zone, was Int64",
            id="epoch",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], ts=None),
            "row 3 has no symbol, session or ts (1 rows)",
            id="null-ts",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], symbol=None, ts=None),
            "row 3 has no symbol, session or ts (1 rows)",
            id="null-keys",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], session=date(2020, 1, 5)),
            "sessions must be in the market's calendar, were 2020-01-05",
            id="sunday",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], ts=datetime(2020, 1, 8, 21, 0, 1, tzinfo=UTC)),
            "`ts` must lie in its session (after the open, not after the close), was 2020-01-08 21:00:01+00:00 for AAA "
            "2020-01-08 (1 rows)",
            id="after-close",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], ts=datetime(2020, 1, 8, 14, 30, tzinfo=UTC)),
            "`ts` must lie in its session (after the open, not after the close), was 2020-01-08 14:30:00+00:00 for AAA",
            id="at-open",
        ),
        pytest.param(
            lambda raw: replace_at(raw, "AAA", DAYS[2], ts=datetime(2020, 1, 7, 21, tzinfo=UTC)),
            "`ts` must lie in its session (after the open, not after the close), was 2020-01-07",
            id="day-before",
        ),
    ],
)
def test_check_structure_of_a_fault_names_it(change, fault):
    assert fault in structure_error(change(raw_bars()))


@pytest.mark.parametrize(
    "symbol", ["../../x", "A/B", "AAA\0", "aaa", "", " AAA", "AAA\n", ".AAA", "Ä", "/etc/passwd", "A" * 300]
)
def test_check_structure_of_a_symbol_outside_the_allow_list_refuses_it(symbol):
    message = structure_error(replace_at(raw_bars(), "AAA", DAYS[0], symbol=symbol))
    assert f"symbols must match ^[A-Z0-9^][A-Z0-9.^_-]{{0,31}}$, were {excerpt(symbol)!r}" in message
    assert len(message) < 300


@pytest.mark.parametrize("symbol", ["AAA", "BRK.B", "^GSPC", "RDS-A", "7203", "A" * 32])
def test_check_structure_of_a_symbol_in_the_allow_list_keeps_it(symbol):
    frame = check_structure(raw_bars([symbol]), source="day.csv", hours=HOURS, now=NOW)
    assert frame["symbol"].unique().to_list() == [symbol]


def test_check_structure_of_future_bars_counts_them():
    with pytest.raises(
        ValueError,
        match=r"`ts` must not be after now \(2020-01-09 20:59 UTC\), was 2020-01-09 21:00:00\+00:00 for AAA 2020-01-09 \(8 rows\)",
    ):
        check_structure(raw_bars(), source="day.csv", hours=HOURS, now=datetime(2020, 1, 9, 20, 59, tzinfo=UTC))
    # A bar is known at its very close.
    until_now = raw_bars().filter(pl.col("session") <= DAYS[3])
    check_structure(until_now, source="day.csv", hours=HOURS, now=datetime(2020, 1, 9, 21, tzinfo=UTC))


def test_check_structure_of_many_column_faults_reports_all_at_once():
    raw = (
        raw_bars()
        .drop("low")
        .with_columns(pl.col("ts").dt.replace_time_zone(None), pl.col("open").cast(pl.String), vwap=1.0)
    )
    message = structure_error(raw)
    for fault in ("missing columns low", "unknown columns vwap", "`ts` must be a timestamp", "`open` must be of type"):
        assert fault in message


def test_check_structure_of_many_value_faults_reports_all_at_once():
    raw = replace_at(raw_bars(), "AAA", DAYS[0], symbol="../../x")
    raw = replace_at(raw, "BBB", DAYS[0], session=date(2020, 1, 4))
    raw = replace_at(raw, "BBB", DAYS[1], ts=datetime(2020, 1, 7, 22, tzinfo=UTC))
    raw = replace_at(raw, "CCC", DAYS[1], ts=None)
    raw = replace_at(raw, "CCC", DAYS[2], ts=datetime(2021, 1, 8, 20, tzinfo=UTC))
    message = structure_error(raw)
    for fault in (
        "has no symbol, session or ts (1 rows)",
        "'..?..?x'",
        "2020-01-04",
        "(2 rows)",
        "`ts` must not be after now",
    ):
        assert fault in message


def test_check_structure_of_many_strangers_shows_five():
    raw = raw_bars().with_columns(symbol=pl.format("x{}", pl.int_range(pl.len())))
    assert structure_error(raw).count("'x") == 5
    assert "and 15 more" in structure_error(raw)


ROW_FAULTS = [
    pytest.param({"close": math.nan}, "missing, NaN or infinite value", id="nan"),
    pytest.param({"high": math.inf}, "missing, NaN or infinite value", id="inf"),
    pytest.param({"low": -math.inf}, "missing, NaN or infinite value", id="minus-inf"),
    pytest.param({"volume": None}, "missing, NaN or infinite value", id="null-volume"),
    pytest.param({"dividend": math.nan}, "missing, NaN or infinite value", id="nan-dividend"),
    pytest.param({"open": 0.0, "low": 0.0}, "price not positive", id="zero"),
    pytest.param({"low": -1.0}, "price not positive", id="negative"),
    pytest.param({"high": 8.0}, "high below low", id="high-below-low"),
    pytest.param({"open": 12.5}, "open or close outside [low, high]", id="open-above"),
    pytest.param({"close": 8.5}, "open or close outside [low, high]", id="close-below"),
    pytest.param({"volume": -1.0}, "negative volume", id="negative-volume"),
    pytest.param({"split_ratio": 0.0}, "split ratio not positive", id="zero-split"),
    pytest.param({"split_ratio": -2.0}, "split ratio not positive", id="negative-split"),
    pytest.param({"dividend": -0.1}, "negative dividend", id="negative-dividend"),
]


@pytest.mark.parametrize(("values", "reason"), ROW_FAULTS)
def test_validate_bars_of_a_faulty_row_quarantines_exactly_its_symbol_session(values, reason):
    raw = replace_at(raw_bars(), "BBB", DAYS[3], **values)
    found = checked(raw)
    assert found.quarantined.select("symbol", "session", "reason").rows() == [("BBB", DAYS[3], reason)]
    sound = raw_bars().filter((pl.col("symbol") != "BBB") | (pl.col("session") != DAYS[3]))
    assert found.bars.drop("role").equals(sound.sort("symbol", "ts"))


def test_validate_bars_of_sound_bars_sorts_and_adds_roles():
    found = checked(raw_bars().sample(fraction=1.0, shuffle=True, seed=3))
    assert dict(found.bars.schema) == BARS_SCHEMA
    assert found.bars.drop("role").equals(raw_bars().sort("symbol", "ts"))
    roles = dict(found.bars.select("symbol", "role").unique().rows())
    assert roles == UNIVERSE
    assert (found.quarantined.height, found.n_unknown) == (0, 0)


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param({}, id="same-row"),
        pytest.param({"close": 11.5}, id="other-price"),
        pytest.param({"ts": datetime(2020, 1, 7, 20, 59, tzinfo=UTC)}, id="other-time"),
    ],
)
def test_validate_bars_of_a_repeated_symbol_session_quarantines_both_rows(copy):
    raw = raw_bars()
    again = replace_at(raw, "AAA", DAYS[1], **copy).filter(pl.col("symbol") == "AAA", pl.col("session") == DAYS[1])
    found = checked(pl.concat([raw, again]))
    assert found.quarantined.select("symbol", "session", "reason").rows() == [("AAA", DAYS[1], "duplicate")] * 2
    assert found.bars.height == 19


def test_validate_bars_at_the_faulty_share_publishes_and_above_it_refuses():
    raw = replace_at(raw_bars(), "AAA", DAYS[0], volume=-1.0)
    for day in DAYS[1:4]:
        raw = replace_at(raw, "AAA", day, volume=-1.0)
    # 4 of 20 symbol-sessions are exactly the default limit of a fifth.
    assert checked(raw).bars.height == 16
    raw = replace_at(raw, "CCC", DAYS[4], close=math.nan)
    message = (
        r"`bars` must have at most 20% faulty symbol-sessions, day.csv has 5 of 20 "
        r"\(first: AAA 2020-01-06: negative volume\); mend the file"
    )
    with pytest.raises(ValueError, match=message):
        checked(raw)
    assert checked(raw, max_faulty_share=0.25).quarantined.height == 5


def test_validate_bars_of_unknown_symbols_counts_and_leaves_them_out():
    strangers = raw_bars(["XXX", "YYY"]).with_columns(close=math.nan)
    found = checked(pl.concat([raw_bars(), strangers]))
    assert found.n_unknown == 10
    assert found.bars.drop("role").equals(raw_bars().sort("symbol", "ts"))
    assert found.quarantined.is_empty()


def test_missing_bars_of_two_gaps_names_them_in_order_of_session():
    bars = raw_bars().filter(
        ~((pl.col("symbol") == "AAA") & (pl.col("session") == DAYS[3])),
        ~((pl.col("symbol") == "CCC") & (pl.col("session") == DAYS[1])),
    )
    expected = raw_bars(["AAA", "BBB", "CCC"]).select("symbol", "session")
    assert missing_bars(bars, expected).rows() == [("CCC", DAYS[1]), ("AAA", DAYS[3])]
    assert missing_bars(raw_bars(), expected).is_empty()


def test_stale_bars_of_three_same_bars_names_the_third_and_later():
    moving = bars_of("AAA", [1.0, 2.0, 3.0, 4.0, 5.0], days=DAYS)
    twice = bars_of("BBB", [1.0, 1.0, 2.0, 2.0, 3.0], days=DAYS)
    four = bars_of("CCC", [1.0, 7.0, 7.0, 7.0, 7.0], days=DAYS)
    # The same close with another high is a market that moved.
    high = bars_of("DDD", [7.0] * 5, high=[7.0, 8.0, 7.5, 8.5, 7.0], days=DAYS)
    found = stale_bars(pl.concat([four, moving, high, twice]))
    assert found.select("symbol", "session").rows() == [("CCC", DAYS[3]), ("CCC", DAYS[4])]


def test_stale_bars_does_not_run_from_one_symbol_into_the_next():
    frame = pl.concat([bars_of("AAA", [5.0, 5.0], days=DAYS[:2]), bars_of("BBB", [5.0, 5.0], days=DAYS[:2])])
    assert stale_bars(frame).is_empty()


def test_adjust_of_a_split_and_a_dividend_by_hand():
    # 100 -> 2:1 split, 51 -> dividend 1 at close 50 -> 55.
    bars = bars_of(
        "AAA",
        [100.0, 51.0, 50.0, 55.0],
        days=DAYS[:4],
        volume=[10.0, 30.0, 20.0, 40.0],
        split_ratio=[1.0, 2.0, 1.0, 1.0],
        dividend=[0.0, 0.0, 1.0, 0.0],
    )
    adjusted = adjust(bars, HOURS[DAYS[4]][1])
    # Before the dividend x 50/51, before the split x 1/2 as well.
    assert adjusted["close"].to_list() == pytest.approx([100.0 / 2 * 50 / 51, 51.0 * 50 / 51, 50.0, 55.0], rel=1e-15)
    assert adjusted["volume"].to_list() == [20.0, 30.0, 20.0, 40.0]
    returns = adjusted["close"].pct_change().drop_nulls().to_list()
    assert returns == pytest.approx([2 * 51 / 100 - 1, 51 / 51 - 1, 0.1], abs=1e-15)
    assert adjusted.columns == bars.columns
    assert adjusted.select("open", "high", "low").rows() == [(each,) * 3 for each in adjusted["close"]]


@pytest.mark.parametrize(
    ("last", "closes"),
    [
        pytest.param(0, [100.0], id="before-both"),
        pytest.param(1, [50.0, 51.0], id="after-split"),
        pytest.param(2, [50.0 * 50 / 51, 50.0, 50.0], id="after-dividend"),
    ],
)
def test_adjust_as_of_a_time_knows_no_later_event(last, closes):
    bars = bars_of("AAA", [100.0, 51.0, 50.0], days=DAYS[:3], split_ratio=[1.0, 2.0, 1.0], dividend=[0.0, 0.0, 1.0])
    as_of = HOURS[DAYS[last]][1]
    adjusted = adjust(bars, as_of)
    assert adjusted["close"].to_list() == pytest.approx(closes, rel=1e-15)
    assert adjusted.equals(adjust(bars.filter(pl.col("ts") <= as_of), as_of))


def test_adjust_of_two_symbols_keeps_their_events_apart():
    split = bars_of("AAA", [100.0, 50.0], days=DAYS[:2], split_ratio=[1.0, 2.0])
    plain = bars_of("BBB", [70.0, 71.0], days=DAYS[:2])
    adjusted = adjust(pl.concat([plain, split]), NOW)
    assert adjusted.select("symbol", "close").rows() == [("AAA", 50.0), ("AAA", 50.0), ("BBB", 70.0), ("BBB", 71.0)]


def test_derive_events_of_hand_made_adjusted_prices():
    # Session 2 splits 2:1; session 4 pays 1.00 on a close of 51: earlier prices x (1 - 1/51), and x 1/2.
    paid = 1.0 - 1.0 / 51.0
    prices = pl.DataFrame(
        {
            "symbol": ["AAA"] * 4,
            "session": DAYS[:4],
            "close": [100.0, 50.0, 51.0, 52.0],
            "adj_close": [50.0 * paid, 50.0 * paid, 51.0 * paid, 52.0],
        }
    )
    found = derive_events(prices)
    assert found["split_ratio"].to_list() == [1.0, 2.0, 1.0, 1.0]
    assert found["dividend"].to_list() == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-4)
    assert "adj_close" not in found.columns


@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 7.0, 0.5, 0.1, 4 / 3, 5 / 4, 5 / 3, 2 / 3, 3 / 4, 4 / 5, 1 / 8, 50.0])
def test_derive_events_of_a_split_finds_its_ratio(ratio):
    prices = pl.DataFrame(
        {
            "symbol": ["AAA"] * 3,
            "session": DAYS[:3],
            "close": [100.0, 101.0 / ratio, 102.0 / ratio],
            "adj_close": [100.0 / ratio, 101.0 / ratio, 102.0 / ratio],
        }
    )
    assert derive_events(prices)["split_ratio"].to_list() == [1.0, pytest.approx(ratio, rel=1e-12), 1.0]


def adjusted_prices(split: float, dividend: float) -> pl.DataFrame:
    """A price that stands still but for one event, a dividend a new share, with closes adjusted as vendors do."""
    ex = 100.0 / split - dividend
    factor = ex / 100.0
    adjusted = [round(price, 2) for price in (100.0 * factor, 100.0 * factor, ex, ex)]
    return pl.DataFrame(
        {"symbol": ["AAA"] * 4, "session": DAYS[:4], "close": [100.0, 100.0, ex, ex], "adj_close": adjusted}
    )


@settings(max_examples=200, deadline=None)
@given(
    split=st.one_of(
        st.sampled_from(SIMPLE_SPLITS),
        st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda terms: terms[0] / terms[1]),
    ),
    share_paid=st.one_of(st.just(0.0), st.floats(0.0, 0.6)),
)
def test_derive_events_of_any_event_keeps_the_total_return_or_refuses(split, share_paid):
    prices = adjusted_prices(split, round(share_paid * 100.0 / split, 2))
    try:
        found = derive_events(prices)
    except ValueError as e:
        assert "by a simple split or by a dividend" in str(e)
        return
    split_ratio, dividend, close = found.select("split_ratio", "dividend", "close").row(2)
    # The price stands still: what is left is the rounding of the adjusted prices to cents.
    assert split_ratio * (close + dividend) / 100.0 - 1.0 == pytest.approx(0.0, abs=0.03 / min(1.0, close) + 2e-4)


@pytest.mark.parametrize(
    ("split", "dividend"),
    [
        pytest.param(1.0, 22.0, id="a dividend of 22 %"),
        pytest.param(2.0, 0.5, id="both"),
        pytest.param(7 / 6, 20.0, id="7:6"),
    ],
)
def test_derive_events_that_could_be_either_are_refused_by_name(split, dividend):
    with pytest.raises(ValueError, match=r"`adj_close` must change .* AAA 2020-01-08 \(.*\); give `split_ratio`"):
        derive_events(adjusted_prices(split, dividend))


def sample_prices(symbol: str) -> pl.DataFrame:
    """A stock of the sample as its package holds it, adj_close included."""
    from bokeh_sampledata import stocks

    raw = pl.DataFrame(getattr(stocks, symbol)).rename({"date": "session"})
    floats = pl.col("open", "high", "low", "close", "adj_close", "volume").cast(pl.Float64)
    return raw.with_columns(pl.col("session").str.to_date(), floats, symbol=pl.lit(symbol))


def test_derive_events_of_the_sample_finds_exactly_its_splits():
    events = pl.concat([derive_events(sample_prices(name)) for name in ("AAPL", "FB", "GOOG", "IBM", "MSFT")])
    splits = events.filter(pl.col("split_ratio") != 1.0).select("symbol", "session", "split_ratio").rows()
    assert splits == [
        ("AAPL", date(2000, 6, 21), 2.0),
        ("AAPL", date(2005, 2, 28), 2.0),
        ("MSFT", date(2003, 2, 18), 2.0),
    ]


def test_derive_events_of_the_sample_finds_the_special_dividend_of_microsoft():
    events = derive_events(sample_prices("MSFT")).filter(pl.col("dividend") > 1.0)
    assert events["session"].to_list() == [date(2004, 11, 15)]
    # Paid were 3.08, the special 3.00 and the regular 0.08; adjusted prices rounded to cents show it this closely.
    assert events["dividend"][0] == pytest.approx(3.08, abs=0.06)


def test_derive_events_of_years_without_any_finds_none():
    events = derive_events(sample_prices("AAPL"))
    quiet = events.filter(pl.col("session").is_between(date(2001, 1, 1), date(2004, 12, 31)))
    assert quiet.height == 1004
    assert quiet.filter((pl.col("split_ratio") != 1.0) | (pl.col("dividend") != 0.0)).is_empty()


def test_derive_events_of_ibm_finds_a_dividend_every_quarter():
    events = derive_events(sample_prices("IBM")).filter(pl.col("dividend") > 0.0)
    quarters = events.filter(pl.col("session").is_between(date(2001, 1, 1), date(2012, 12, 31)))
    assert quarters.height == 48
    paid_2012 = quarters.filter(pl.col("session").dt.year() == 2012)["dividend"]
    # Paid were 0.75 + 3 x 0.85 a share.
    assert paid_2012.sum() == pytest.approx(3.30, abs=0.1)


@pytest.mark.parametrize("symbol", ["AAPL", "FB", "GOOG", "IBM", "MSFT"])
def test_adjust_of_the_sample_has_the_returns_of_its_adjusted_close(symbol):
    prices = sample_prices(symbol).sort("session")
    days = prices["session"].to_list()
    events = derive_events(prices)
    bars = bars_of(
        symbol,
        prices["close"].to_list(),
        days=days,
        split_ratio=events["split_ratio"].to_list(),
        dividend=events["dividend"].to_list(),
    )
    close, adjusted_close = prices["close"].to_numpy(), prices["adj_close"].to_numpy()
    dividend, split = events["dividend"].to_numpy(), events["split_ratio"].to_numpy()
    ours = adjust(bars, datetime(2014, 1, 1, tzinfo=UTC))["close"].to_numpy()
    ours_return, vendor_return = ours[1:] / ours[:-1] - 1.0, adjusted_close[1:] / adjusted_close[:-1] - 1.0
    # The vendor takes the dividend off the previous close, we add it to this close: they differ by this much.
    convention = (
        close[1:] * split[1:] / (close[:-1] - dividend[1:]) - (close[1:] + dividend[1:]) * split[1:] / close[:-1]
    )
    # What rounding two adjusted prices to cents can make, and twice that: a smaller change is taken for no event.
    rounding = 2.0 * (0.005 / adjusted_close[1:] + 0.005 / adjusted_close[:-1] + 0.005 / close[1:]) + 1e-4
    assert np.all(np.abs(vendor_return - ours_return - convention) <= 1.5 * rounding * (1.0 + np.abs(vendor_return)))
    assert np.log(ours[-1] / ours[0]) == pytest.approx(np.log(adjusted_close[-1] / adjusted_close[0]), abs=0.02)
    assert np.abs(ours_return).max() < 0.6


# --- bars of less than a day


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# New York in winter, the Friday after Thanksgiving 2012, Bombay, and a market that never closes.
MARKET_HOURS = {
    "new-york": {date(2012, 11, 26): (utc("2012-11-26 14:30"), utc("2012-11-26 21:00"))},
    "half-day": {date(2012, 11, 23): (utc("2012-11-23 14:30"), utc("2012-11-23 18:00"))},
    "bombay": {date(2012, 11, 26): (utc("2012-11-26 03:45"), utc("2012-11-26 10:00"))},
    "always": {date(2012, 11, 24): (utc("2012-11-24 00:00"), utc("2012-11-25 00:00"))},
}
ZONES = {"new-york": "America/New_York", "half-day": "America/New_York", "bombay": "Asia/Kolkata", "always": "UTC"}


@pytest.mark.parametrize(
    ("place", "timeframe", "bars_end", "count", "first", "last_but_one"),
    [
        ("new-york", "1h", "clock", 7, "15:00", "20:00"),
        ("new-york", "1h", "open", 7, "15:30", "20:30"),
        ("new-york", "5m", "clock", 78, "14:35", "20:55"),
        ("new-york", "1m", "clock", 390, "14:31", "20:59"),
        ("half-day", "1h", "clock", 4, "15:00", "17:00"),
        ("half-day", "1h", "open", 4, "15:30", "17:30"),
        ("half-day", "1m", "open", 210, "14:31", "17:59"),
        # 9:15 to 15:30 in Bombay, half an hour off UTC: the clock's hours end at half past there.
        ("bombay", "1h", "clock", 7, "04:30", "09:30"),
        ("bombay", "1h", "open", 7, "04:45", "09:45"),
        ("always", "1h", "clock", 24, "01:00", "23:00"),
        ("always", "1m", "clock", 1440, "00:01", "23:59"),
    ],
)
def test_bar_grid_ends_are_full_steps_and_the_close(place, timeframe, bars_end, count, first, last_but_one):
    hours = MARKET_HOURS[place]
    ends = BarGrid(timeframe, ZONES[place], bars_end).ends(hours)
    ((day, (_, close)),) = hours.items()
    assert ends["session"].unique().to_list() == [day]
    times = ends["ts"].dt.strftime("%H:%M").to_list()
    assert (ends.height, times[0], times[-2], ends["ts"][-1]) == (count, first, last_but_one, close)
    assert ends["ts"].is_sorted() and ends["ts"].is_unique().all()


def test_bar_grid_of_a_day_ends_at_the_close_of_each_session():
    hours = {**MARKET_HOURS["new-york"], **MARKET_HOURS["half-day"]}
    assert BarGrid().ends(hours).rows() == [(day, hours[day][1]) for day in sorted(hours)]


BREAKS = [("XSHG", "Asia/Shanghai"), ("XHKG", "Asia/Hong_Kong"), ("XTKS", "Asia/Tokyo")]


@pytest.mark.parametrize(("calendar", "timezone"), BREAKS, ids=[each for each, _ in BREAKS])
@pytest.mark.parametrize(("timeframe", "minutes"), [("1m", 1), ("5m", 5), ("1h", 60)])
def test_bar_grid_with_breaks_is_the_trading_index_of_the_library(calendar, timezone, timeframe, minutes):
    # A new year's eve with half a day in Hong Kong among them.
    first, last = date(2019, 12, 23), date(2020, 1, 7)
    sessions = load_calendar(calendar, first, last)
    hours = {day: times for day, *times in zip(sessions.days, sessions.opens, sessions.closes, strict=True)}
    ends = BarGrid(timeframe, timezone, "open", breaks=sessions.breaks).ends(hours)
    theirs = exchange_calendars.get_calendar(calendar, start=str(first), end=str(last)).trading_index(
        str(first),
        str(last),
        f"{minutes}min",
        intervals=False,
        closed="right",
        force_close=True,
        force_break_close=True,
    )
    assert ends["ts"].to_list() == [each.to_pydatetime() for each in theirs]
    # By the clock: the same minutes traded, in whole hours of the clock; every half hour of these calendars is whole.
    clock = BarGrid(timeframe, timezone, "clock", breaks=sessions.breaks).ends(hours)
    in_break = [
        begin < ts < end or ts == end for day, ts in clock.rows() for begin, end in [sessions.breaks.get(day, (ts, ts))]
    ]
    assert sum(in_break) == sum(day not in sessions.breaks for day, _ in clock.rows())
    if timeframe != "1h":
        assert clock.equals(ends)


@pytest.mark.parametrize(
    ("bars_end", "expected"),
    [("clock", "02:00 03:00 03:30 06:00 07:00"), ("open", "02:30 03:30 06:00 07:00")],
)
def test_bars_of_shanghai_end_at_the_break_and_none_lies_in_it(bars_end, expected):
    day = date(2019, 12, 31)
    hours = {day: (utc("2019-12-31 01:30"), utc("2019-12-31 07:00"))}
    grid = BarGrid("1h", "Asia/Shanghai", bars_end, breaks={day: (utc("2019-12-31 03:30"), utc("2019-12-31 05:00"))})
    ends = grid.ends(hours)
    assert ends["ts"].dt.strftime("%H:%M").to_list() == expected.split()
    values = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1.0, "split_ratio": 1.0, "dividend": 0.0}
    bars = ends.with_columns(symbol=pl.lit("AAA"), **{name: pl.lit(value) for name, value in values.items()})
    options = {"source": "hours", "hours": hours, "now": utc("2020-01-02"), "grid": grid}
    assert check_structure(bars.select(*SOURCE_SCHEMA), **options).height == ends.height
    inside = bars.with_columns(ts=pl.when(pl.int_range(pl.len()) == 2).then(utc("2019-12-31 04:30")).otherwise("ts"))
    with pytest.raises(ValueError, match=r"must be the end of a bar of 1h .*04:30:00.* \(1 rows\)"):
        check_structure(inside.select(*SOURCE_SCHEMA), **options)


def test_bars_named_by_their_start_are_cut_at_a_break():
    day = date(2019, 12, 31)
    grid = BarGrid("1h", "Asia/Tokyo", breaks={day: (utc("2019-12-31 02:30"), utc("2019-12-31 03:30"))})
    starts = ["02:00", "02:30", "03:00", "03:30", "01:00"]
    bars = pl.DataFrame({"session": day, "start": [utc(f"2019-12-31 {each}") for each in starts]})
    bars = bars.with_columns(ts=pl.col("start") + timedelta(hours=1))
    found = grid.outside_breaks(bars)
    # From 2:00 until the break; inside it none; from 3:00 what trades after 3:30.
    assert found.select(pl.col("start", "ts").dt.strftime("%H:%M")).rows() == [
        ("02:00", "02:30"), ("03:00", "04:00"), ("03:30", "04:30"), ("01:00", "02:00"),
    ]  # fmt: skip


def hourly(symbol: str = "AAA", **columns: list[float]) -> pl.DataFrame:
    """Four sound hourly bars of the half day."""
    ends = BarGrid("1h", "America/New_York").ends(MARKET_HOURS["half-day"])
    values = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1.0, "split_ratio": 1.0, "dividend": 0.0}
    frame = ends.with_columns(symbol=pl.lit(symbol), **{name: pl.lit(value) for name, value in values.items()})
    return frame.with_columns(**{name: pl.Series(each) for name, each in columns.items()}).select(*SOURCE_SCHEMA)


def check(bars: pl.DataFrame, bars_end: str = "clock") -> pl.DataFrame:
    grid = BarGrid("1h", "America/New_York", bars_end)
    return check_structure(bars, source="hours", hours=MARKET_HOURS["half-day"], now=utc("2013-01-01"), grid=grid)


def test_check_structure_of_hours_off_the_grid_names_the_first_of_them():
    assert check(hourly()).height == 4
    with pytest.raises(ValueError, match=r"must be the end of a bar of 1h \(by the open.*AAA 2012-11-23 \(3 rows\)"):
        check(hourly(), bars_end="open")
    off = hourly().with_columns(ts=pl.col("ts") - timedelta(minutes=1))
    with pytest.raises(ValueError, match=r"must be the end of a bar of 1h \(by the clock.*14:59:00.*\(4 rows\)"):
        check(off)


def validate(bars: pl.DataFrame) -> CheckedBars:
    grid = BarGrid("1h", "America/New_York")
    return validate_bars(bars, universe={"AAA": "member"}, source="hours", max_faulty_share=1.0, grid=grid)


def test_validate_bars_of_hours_keeps_several_bars_a_session_and_refuses_one_twice():
    assert validate(hourly()).bars.height == 4
    twice = validate(pl.concat([hourly(), hourly()[:1]]))
    assert twice.bars.is_empty()
    assert twice.quarantined["reason"].unique().to_list() == ["duplicate"]


def test_validate_bars_of_hours_refuses_an_event_that_is_repeated_on_later_bars():
    first = validate(hourly(split_ratio=[2.0, 1.0, 1.0, 1.0]))
    assert first.bars["split_ratio"].to_list() == [2.0, 1.0, 1.0, 1.0]
    repeated = validate(hourly(split_ratio=[2.0] * 4))
    assert repeated.bars.is_empty()
    assert "event not on the first bar of its session" in repeated.quarantined["reason"].to_list()


def test_stale_bars_of_hours_compare_sessions_and_not_the_bars_within():
    # Four equal hours of one session are a quiet day; three sessions of the same four prices are a feed that repeats.
    assert stale_bars(hourly()).is_empty()
    days = [date(2012, 11, 23) + timedelta(days=each) for each in range(3)]
    moved = [
        hourly().with_columns(session=pl.lit(day), ts=pl.col("ts") + timedelta(days=each))
        for each, day in enumerate(days)
    ]
    stale = stale_bars(pl.concat(moved))
    assert stale.select("symbol", "session").rows() == [("AAA", days[2])]


def test_missing_bars_of_hours_are_named_one_by_one():
    grid = BarGrid("1h", "America/New_York")
    expected = grid.ends(MARKET_HOURS["half-day"]).with_columns(symbol=pl.lit("AAA")).select("symbol", "session", "ts")
    assert missing_bars(hourly()[1:3], expected)["ts"].dt.strftime("%H:%M").to_list() == ["15:00", "18:00"]


def _alone(frame: pl.DataFrame, universe: dict[str, str], hours: SessionHours, grid: BarGrid) -> CheckedBars | None:
    """A frame judged by itself; None where anything in it is wrong."""
    if is_stray_event(frame, hours).any():
        return None
    try:
        raw = check_structure(frame, source="alone", hours=hours, now=NOW, grid=grid)
        found = validate_bars(raw, universe=universe, source="alone", grid=grid)
    except ValueError:
        return None
    return found if found.quarantined.is_empty() else None


def _damaged(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """One value of a frame replaced by one that may be wrong, or a row twice."""
    column = str(rng.choice([*SOURCE_SCHEMA, "twice"]))
    if column == "twice":
        return pl.concat([frame, frame[int(rng.integers(frame.height))]])
    values: dict[str, list[object]] = {
        "symbol": [None, "bad symbol", "XYZ", "AAA"],
        "session": [None, date(2020, 1, 5), DAYS[0]],
        "ts": [None, utc("2020-01-06 14:30"), utc("2020-01-06 14:31"), utc("2020-01-06 21:01"), utc("2030-01-01")],
    }
    value = rng.choice(values.get(column, [None, math.nan, math.inf, -1.0, 0.0, 10.0, 1e6]))  # type: ignore[arg-type]
    at = pl.int_range(pl.len()) == int(rng.integers(frame.height))
    return frame.with_columns(pl.when(at).then(pl.lit(value, frame.schema[column])).otherwise(column).alias(column))


@pytest.mark.parametrize("grid", [BarGrid(), BarGrid("1h", "America/New_York")], ids=["daily", "hourly"])
def test_sound_bars_of_many_frames_are_those_of_each_alone(grid):
    if grid.is_daily:
        hours, whole = HOURS, [raw_bars().filter(pl.col("session") == day) for day in DAYS]
    else:
        hours, whole = MARKET_HOURS["half-day"], [pl.concat([hourly("AAA"), hourly("BBB")])]
    universe = {"AAA": "member", "BBB": "member", "CCC": "member", "^IDX": "reference"}
    rng = np.random.default_rng(5)
    frames = [*whole, *whole, whole[0].clear(), pl.DataFrame(), whole[0].drop("open"), whole[0].reverse()]
    frames += [whole[0].cast({"volume": pl.Int32}), whole[0].with_columns(symbol=pl.lit("STRANGER"))]
    frames += [_damaged(whole[number % len(whole)], rng) for number in range(300)]
    found = sound_bars(frames, universe=universe, hours=hours, now=NOW, grid=grid)
    expected = [_alone(frame, universe, hours, grid) for frame in frames]
    for frame, ours, theirs in zip(frames, found, expected, strict=True):
        if not frame.height:
            # Nothing to judge together: judged alone.
            assert ours is None
            continue
        assert (ours is None) == (theirs is None), frame
        if ours is not None and theirs is not None:
            assert ours.bars.equals(theirs.bars) and ours.bars.schema == theirs.bars.schema
            assert (ours.quarantined.schema, ours.n_unknown) == (theirs.quarantined.schema, theirs.n_unknown)
    assert 50 < sum(each is None for each in found) < 300
