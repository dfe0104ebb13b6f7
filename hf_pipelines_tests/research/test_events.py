"""Events outlive their rows: by hand, and random events over random refusals through bars, features, labels and accounts."""

import math
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hf_pipelines.research.backtest import ENGINES, Execution
from hf_pipelines.research.bars import SOURCE_SCHEMA, validate_bars
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.events import (
    CARRY_SESSIONS,
    Event,
    carry_events,
    describe_carried,
    events_of,
    settle_events,
)
from hf_pipelines.research.features import compute_features
from hf_pipelines.research.quality import judge_bars
from hf_pipelines.research.targets import forward_return
from hf_pipelines_tests.sample_bars import bars_of, weekdays

NAN = math.nan
DAYS = weekdays(80)
NONE = pl.DataFrame(schema={**SOURCE_SCHEMA, "reason": pl.String})


def walk(
    *, seed: int, n: int = 60, symbol: str = "A", events: dict[int, tuple[float, float]] | None = None
) -> pl.DataFrame:
    """A quiet walk whose total returns do not depend on its events: place to (split ratio, dividend a new share)."""
    rng = np.random.default_rng(seed)
    steps, nights = rng.normal(0.0, 0.008, n), rng.normal(0.0, 0.003, n)
    rows, close = [], 100.0
    for at in range(n):
        split, dividend = (events or {}).get(at, (1.0, 0.0))
        opened = (close / split - dividend) * math.exp(nights[at])
        # The dividend counts as reinvested at the close.
        close = (close / split) * math.exp(steps[at]) - dividend
        rows.append((opened, max(opened, close) * 1.003, min(opened, close) * 0.997, close, split, dividend))
    names = ("open", "high", "low", "close", "split_ratio", "dividend")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    volume = [1e8 / row[3] for row in rows]
    return bars_of(
        symbol, columns["close"], days=DAYS[:n], volume=volume, **{k: v for k, v in columns.items() if k != "close"}
    )


def settle(raw: pl.DataFrame, *, calendar: list[date] = DAYS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the pipeline does with rows of a source."""
    universe = dict.fromkeys(raw["symbol"].unique(), "member")
    checked = validate_bars(raw.select(*SOURCE_SCHEMA), universe=universe, source="t", max_faulty_share=1.0)
    first, _ = settle_events(checked.bars, checked.quarantined, calendar=calendar, is_daily=True)
    verdicts = judge_bars(first, calendar=calendar).filter(pl.col("severity") == "error")
    return settle_events(checked.bars, checked.quarantined, errors=verdicts, calendar=calendar, is_daily=True)


def spoilt(raw: pl.DataFrame, *places: int, **values: float) -> pl.DataFrame:
    """Rows whose high is below their low, or with the values given."""
    changed = values or {"high": 0.5}
    is_spoilt = pl.col("session").is_in([DAYS[at] for at in places])
    return raw.with_columns(
        pl.when(is_spoilt).then(value).otherwise(name).alias(name) for name, value in changed.items()
    )


def event_on(bars: pl.DataFrame, at: int) -> tuple[float, float]:
    return bars.filter(pl.col("session") == DAYS[at]).select("split_ratio", "dividend").row(0)


def returns(bars: pl.DataFrame) -> dict[date, float]:
    return dict(forward_return(bars, 1).select("session", "target").iter_rows())


SPLIT = {40: (4.0, 0.0)}


@pytest.mark.parametrize(
    ("split", "dividend"),
    [(4.0, 0.0), (1.5, 0.0), (1.231, 0.0), (1 / 30, 0.0), (1 / 15, 0.0), (1.0, 15.0), (1.0, 4.0), (2.0, 1.0)],
)
def test_event_of_a_faulty_row_counts_on_the_next_bar(split, dividend):
    sound = walk(seed=1, events={40: (split, dividend)})
    bars, carried = settle(spoilt(sound, 40))
    assert event_on(bars, 41) == (split, dividend)
    assert carried.rows() == [("A", DAYS[40], split, dividend, DAYS[41], "carried")]
    # The label over the gap is the product of the two that it spans, up to the dividend's day of reinvestment.
    expected = returns(sound)
    both = (1.0 + expected[DAYS[39]]) * (1.0 + expected[DAYS[40]]) - 1.0
    assert returns(bars)[DAYS[39]] == pytest.approx(both, abs=0.002)
    assert max(map(abs, returns(bars).values())) < 0.1
    features = compute_features(bars, ["roc_5"])["roc_5"].drop_nans()
    assert features.abs().max() < 0.15


def test_events_of_several_lost_rows_combine_with_that_of_the_bar():
    # 2:1, then a dollar a share, then 3:1 on the bar itself: the dollar is a third of a dollar a share by then.
    sound = walk(seed=2, events={40: (2.0, 0.0), 41: (1.0, 1.0), 42: (3.0, 0.5)})
    bars, carried = settle(spoilt(sound, 40, 41))
    assert event_on(bars, 42) == pytest.approx((6.0, 1.0 / 3.0 + 0.5))
    assert carried["to"].to_list() == [DAYS[42]] * 2


def test_event_is_carried_over_missing_bars_and_a_week_edge():
    friday = 39
    assert DAYS[friday].weekday() == 4
    raw = spoilt(walk(seed=3, events={friday: (3.0, 0.0)}), friday)
    bars, _ = settle(raw.filter(~pl.col("session").is_in(DAYS[40:43])))
    assert event_on(bars, 43) == (3.0, 0.0)


def test_events_after_the_last_bar_wait():
    waiting = spoilt(walk(seed=4, events={59: (2.0, 0.0)}), 59)
    assert settle(waiting)[1].rows() == [("A", DAYS[59], 2.0, 0.0, None, "waits")]


@pytest.mark.parametrize(
    ("n_sessions", "outcome", "split_ratio"),
    [
        pytest.param(CARRY_SESSIONS - 1, "carried", 2.0, id="the bar before is read too"),
        # A second event before it would be out of sight.
        pytest.param(CARRY_SESSIONS, "unknown", NAN, id="the first session that is read"),
        pytest.param(CARRY_SESSIONS + 1, "waits", 1.0, id="out of sight"),
    ],
)
def test_event_before_a_long_halt(n_sessions, outcome, split_ratio):
    raw = spoilt(walk(seed=4, n=80, events={30: (2.0, 0.0)}), 30)
    bars, carried = settle(raw.filter(~pl.col("session").is_in(DAYS[31 : 30 + n_sessions])))
    assert outcome in carried["outcome"].to_list()
    assert event_on(bars, 30 + n_sessions)[0] == pytest.approx(split_ratio, nan_ok=True)


@pytest.mark.parametrize(
    "values", [{"split_ratio": NAN}, {"split_ratio": 0.0}, {"dividend": -1.0}, {"dividend": math.inf}], ids=str
)
def test_event_that_is_not_a_number_is_unknown_on_the_next_bar(values):
    bars, carried = settle(spoilt(walk(seed=5, events=SPLIT), 40, **values))
    assert any(math.isnan(each) for each in event_on(bars, 41))
    assert carried.select("to", "outcome").rows() == [(DAYS[41], "unknown")]
    # What spans the bar is unknown, and nothing else.
    labels = forward_return(bars, 1)
    assert set(DAYS[:59]) - {DAYS[39], DAYS[40]} == set(labels["session"])
    roc = dict(compute_features(bars, ["roc_5"]).select("session", "roc_5").iter_rows())
    assert [day for day, value in roc.items() if math.isnan(value)] == [*DAYS[:5], *DAYS[41:46]]


def test_row_without_any_number_says_nothing():
    nothing = dict.fromkeys(("open", "high", "low", "close", "volume", "split_ratio", "dividend"), NAN)
    bars, carried = settle(spoilt(walk(seed=6), 40, **nothing))
    assert event_on(bars, 41) == (1.0, 0.0) and carried.is_empty()


def test_doubled_rows_that_agree_keep_their_event_and_those_that_differ_do_not():
    sound = walk(seed=7, events=SPLIT)
    row = sound.filter(pl.col("session") == DAYS[40])
    bars, _ = settle(pl.concat([sound, row]))
    assert event_on(bars, 41) == (4.0, 0.0)
    bars, _ = settle(pl.concat([sound, row.with_columns(split_ratio=pl.lit(1.0))]))
    assert math.isnan(event_on(bars, 41)[0])


def test_missing_row_with_a_split_leaves_what_spans_it_unknown():
    # The source holds no trace of the event: the next bar is refused for the split that is missing.
    sound = walk(seed=8, events=SPLIT)
    bars, _ = settle(sound.filter(pl.col("session") != DAYS[40]))
    assert DAYS[41] not in bars["session"].to_list() and math.isnan(event_on(bars, 42)[0])
    assert max(map(abs, returns(bars).values())) < 0.1
    assert compute_features(bars, ["roc_5"])["roc_5"].drop_nans().abs().max() < 0.15


def test_wrong_unit_for_three_sessions_leaves_no_gap_in_what_is_known():
    raw = walk(seed=9)
    for name in ("open", "high", "low", "close"):
        raw = raw.with_columns(
            pl.when(pl.col("session").is_in(DAYS[40:43])).then(pl.col(name) * 100.0).otherwise(name).alias(name)
        )
    bars, carried = settle(raw)
    assert event_on(bars, 43) == (1.0, 0.0) and carried.is_empty()


def test_false_event_is_left_out_and_named_and_the_bars_after_it_stay():
    raw = spoilt(walk(seed=10), 40, split_ratio=3.0)
    bars, carried = settle(raw)
    assert carried.select("session", "to", "outcome").rows() == [(DAYS[40], DAYS[41], "false")]
    assert set(DAYS[:60]) - set(bars["session"]) == {DAYS[40]}
    assert bars["split_ratio"].unique().to_list() == [1.0]


def test_dividend_for_ten_shares_is_left_out_though_it_is_small():
    # Four usual ranges of 1.5 % and more, less than a fifth of the price.
    raw = walk(seed=10, events={40: (1.0, 0.8)})
    bars, carried = settle(raw.with_columns(dividend=pl.col("dividend") * 10.0))
    assert carried.select("session", "to", "outcome").rows() == [(DAYS[40], DAYS[41], "false")]
    assert bars["dividend"].unique().to_list() == [0.0]


def test_large_event_of_a_faulty_row_that_the_next_bar_does_not_show_is_unknown():
    raw = spoilt(walk(seed=11), 40, split_ratio=3.0, high=0.5)
    bars, carried = settle(raw)
    assert carried["outcome"].to_list() == ["unknown"] and math.isnan(event_on(bars, 41)[0])


def test_event_on_a_later_bar_of_its_session_counts_on_the_next_session():
    day = bars_of("A", [10.0, 10.1], days=[DAYS[0]] * 2, split_ratio=[1.0, 2.0])
    rows = day.with_columns(ts=pl.col("ts") - pl.Series([3600, 0]) * pl.duration(seconds=1))
    assert events_of(rows, is_daily=False).rows() == [("A", DAYS[0], 2.0, 0.0)]
    both = rows.with_columns(split_ratio=pl.Series([3.0, 2.0]))
    assert math.isnan(events_of(both, is_daily=False)["split_ratio"].item())


def test_carry_events_without_a_session_go_to_the_first_bar_from_then_on():
    bars = bars_of("A", [10.0, 5.0, 5.0], days=DAYS[3:6], split_ratio=[1.0, 2.0, 1.0], dividend=[0.0, 0.3, 0.0])
    # Saturday before DAYS[5], a Monday; and a day after the last bar.
    events = pl.DataFrame(
        [
            ("A", date(2020, 1, 11), 3.0, 0.0),
            ("A", DAYS[4], 1.0, 0.4),
            ("A", DAYS[9], 9.0, 0.0),
            ("B", DAYS[3], 2.0, 0.0),
        ],
        schema={"symbol": pl.String, "session": pl.Date, "split_ratio": pl.Float64, "dividend": pl.Float64},
        orient="row",
    )
    carried = carry_events(bars, events)
    assert carried["split_ratio"].to_list() == [1.0, 2.0, 3.0]
    assert carried["dividend"].to_list() == pytest.approx([0.0, 0.4 / 2.0 + 0.3, 0.0])


def account(bars: pl.DataFrame, *, shares_of: float = 1.0) -> list[float]:
    """Equity of one unit bought at the second bar and held."""
    first = bars.sort("ts").row(0, named=True)
    weights = pl.DataFrame([{**{name: first[name] for name in ("symbol", "session", "ts")}, "weight": shares_of}])
    weights = weights.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    costs = Costs(fee_bps=0.0, slippage_bps=0.0, borrow_bps_per_year=0.0)
    result = ENGINES["reference"].run(
        weights, bars, costs, Execution(initial_cash=1.0, fill="next_close"), periods_per_year=252.0
    )
    return result.equity["equity"].to_list()


def test_account_gains_nothing_over_an_unknown_event():
    bars = bars_of(
        "A", [10.0, 10.0, 11.0, 5.0, 6.0], open=[10.0, 10.0, 11.0, 4.0, 5.0], split_ratio=[1.0, 1.0, 1.0, NAN, 1.0]
    )
    # 0.1 shares at 10; 1.1 on the third bar; that is what they are worth at the open of 4, and 5 / 4 of it at the close.
    assert account(bars) == pytest.approx([1.0, 1.0, 1.1, 1.1 * 5.0 / 4.0, 1.1 * 6.0 / 4.0])


EVENTS = st.dictionaries(
    st.integers(37, 55),
    st.one_of(
        st.tuples(st.sampled_from([2.0, 3.0, 1.5, 0.1, 1.1]), st.just(0.0)),
        st.tuples(st.just(1.0), st.sampled_from([0.4, 2.0])),
    ),
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(
    events=EVENTS,
    gone=st.sets(st.integers(37, 55), max_size=6),
    missing=st.sets(st.integers(37, 55), max_size=2),
    seed=st.integers(0, 5),
)
def test_no_event_is_lost_whatever_is_refused(events, gone, missing, seed):
    """Labels, features and accounts over refused rows are those of the whole series, or unknown: never a false jump."""
    sound = walk(seed=seed, n=65, events=events)
    missing = missing - set(events)
    raw = spoilt(sound, *gone).filter(~pl.col("session").is_in([DAYS[at] for at in missing]))
    bars, carried = settle(raw)

    # Total growth between any two bars that stay is that of the sound series, dividends reinvested some days later.
    growth = dict(zip(sound["session"], np.cumprod([1.0, *(1.0 + r for r in returns(sound).values())]), strict=True))
    kept = bars.sort("ts")["session"].to_list()
    labels = returns(bars)
    for day, after in zip(kept, kept[1:], strict=False):
        if day in labels:
            assert labels[day] == pytest.approx(growth[after] / growth[day] - 1.0, abs=0.003)
    if not bars["split_ratio"].is_nan().any():
        assert len(labels) == len(kept) - 1
        held = account(bars)
        assert held[-1] == pytest.approx(growth[kept[-1]] / growth[kept[1]], rel=0.02)
    roc = compute_features(bars, ["roc_5"])["roc_5"].drop_nans()
    assert roc.is_empty() or roc.abs().max() < 0.2
    # Every event is on its bar, on a later one, or named.
    named = {day for day, outcome in carried.select("session", "outcome").rows()}
    assert {DAYS[at] for at in set(events) & gone} <= named


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, gone=st.sets(st.integers(30, 78), max_size=25), seed=st.integers(0, 5))
def test_a_week_of_bars_is_the_same_out_of_the_sessions_that_it_reads(events, gone, seed):
    raw = spoilt(walk(seed=seed, n=80, events=events), *gone)
    whole, _ = settle(raw)
    for first in (55, 65, 75):
        week = DAYS[first : first + 5]
        alone, _ = settle(raw.filter(pl.col("session").is_between(DAYS[first - CARRY_SESSIONS], week[-1])))
        of_week = pl.col("session").is_in(week)
        assert_frame_equal(alone.filter(of_week), whole.filter(of_week), check_exact=True)


def test_row_of_a_session_that_another_file_has_soundly_carries_nothing():
    sound = walk(seed=12, events=SPLIT)
    bars = sound.with_columns(role=pl.lit("member"))
    refused = spoilt(sound, 40).filter(pl.col("session") == DAYS[40])
    settled, carried = settle_events(bars, refused, calendar=DAYS, is_daily=True)
    assert_frame_equal(settled, bars)
    assert carried.is_empty()


def test_describe_carried_tells_each_week_what_it_can_know():
    bars, carried = settle(spoilt(walk(seed=3, events={39: (3.0, 0.5)}), 39))
    assert describe_carried(carried, DAYS[35:40]) == [
        "A 2020-02-28 split 3 dividend 0.5: waits for the symbol's next bar"
    ]
    assert describe_carried(carried, DAYS[40:45]) == ["A 2020-02-28 split 3 dividend 0.5: counts on 2020-03-02"]
    assert describe_carried(carried, DAYS[45:50]) == []


def test_event_then_event_is_both():
    assert Event(2.0, 1.0).then(Event(4.0, 0.5)) == Event(8.0, 0.75)
