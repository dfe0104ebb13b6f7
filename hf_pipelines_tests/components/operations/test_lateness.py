"""Lateness: cases worked by hand on real calendars, and properties that hold for any history."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.components.operations.lateness import (
    JUDGED_SESSIONS,
    Late,
    MarketInventory,
    StrategyInventory,
    expectations,
    find_gaps,
    find_holes,
    find_late,
    judged_sessions,
)
from hf_pipelines.partitions import MarketPartitions, week_key

SIX_HOURS = timedelta(hours=6)
START = date(2026, 9, 1)
NYSE = MarketPartitions("XNYS", "America/New_York", START)
CRYPTO = MarketPartitions("24/7", "UTC", START)
REPLAY = MarketPartitions("XNYS", "America/New_York", date(2012, 10, 1), date(2013, 3, 1))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def market_with(
    partitions: MarketPartitions,
    first: date,
    last: date,
    *,
    without: tuple[date, ...] = (),
    published: datetime | None = None,
    **fields: object,
) -> MarketInventory:
    """A market with bars of all sessions from `first` to `last`, each an hour after its close unless `published`."""
    days = [day for day in partitions.sessions_between(first, last) if day not in without]
    bars = {day: published or partitions.hours[day][1] + timedelta(hours=1) for day in days}
    return MarketInventory(
        name="m",
        bars_asset="m/bars",
        partitions=partitions,
        first_session=days[0] if days else None,
        bars=bars,
        bars_weeks=tuple(sorted({week_key(day) for day in days})),
        **fields,
    )


def strategy_on(
    market: MarketInventory, *, without: tuple[date, ...] = (), models: tuple[str, ...] = ()
) -> StrategyInventory:
    """A strategy that served every session of its market, with a model of each week and of the newest."""
    weeks = models or tuple({*market.bars_weeks, market.newest_week or market.bars_weeks[-1]})
    issued = frozenset(day for day in market.bars if day not in without and week_key(day) in weeks)
    made = {week: market.partitions.week_begin(week) + timedelta(hours=3) for week in weeks}
    return StrategyInventory("s", market, models=made, issued=issued, last_issued=max(issued, default=None))


def late_of(market: MarketInventory, *strategies: StrategyInventory, now: datetime) -> list[tuple[str, str]]:
    found = find_late([market], strategies, now=now, late_after=SIX_HOURS)
    return [(each.asset, each.partition) for each in found]


@pytest.mark.parametrize(
    ("partitions", "missing", "due"),
    [
        # 16:00 in New York is 20:00 UTC in summer, 21:00 from Sunday 1 November 2026 on.
        pytest.param(NYSE, date(2026, 10, 30), "2026-10-31T02:00", id="summer time"),
        pytest.param(NYSE, date(2026, 11, 2), "2026-11-03T03:00", id="winter time"),
        # The Friday after Thanksgiving closes at 13:00 in New York.
        pytest.param(NYSE, date(2026, 11, 27), "2026-11-28T00:00", id="half day"),
        pytest.param(CRYPTO, date(2026, 10, 31), "2026-11-01T06:00", id="Saturday of a market that never closes"),
    ],
)
def test_bars_of_a_live_market_are_late_six_hours_after_the_close_and_not_a_second_before(partitions, missing, due):
    market = market_with(partitions, START, missing - timedelta(days=1))
    assert late_of(market, now=at(due) - timedelta(seconds=1)) == []
    assert late_of(market, now=at(due)) == [("m/bars", missing.isoformat())]


@pytest.mark.parametrize(
    ("last", "until"),
    [
        # Nothing is expected from Friday's close to six hours after Monday's.
        pytest.param(date(2026, 10, 30), "2026-11-03T02:59", id="weekend, over the end of summer time"),
        # Thanksgiving: from Wednesday's bars until six hours after Friday's early close.
        pytest.param(date(2026, 11, 25), "2026-11-27T23:59", id="holiday"),
        # Labor Day.
        pytest.param(date(2026, 9, 4), "2026-09-09T01:59", id="long weekend"),
    ],
)
def test_bars_of_days_without_a_session_are_never_late(last, until):
    market = market_with(NYSE, START, last)
    hours = 0
    while market.partitions.hours[last][1] + timedelta(hours=hours) <= at(until):
        assert late_of(market, now=market.partitions.hours[last][1] + timedelta(hours=hours)) == []
        hours += 1
    assert late_of(market, now=at(until) + timedelta(minutes=1)) == [("m/bars", str(NYSE.next_session(last)))]


def test_market_that_was_never_used_owes_nothing():
    market = MarketInventory("m", "m/bars", NYSE)
    assert (
        expectations([market], [StrategyInventory("s", market)], now=at("2026-11-20T12:00"), late_after=SIX_HOURS) == []
    )


def test_bars_before_the_first_stored_session_and_of_known_gaps_are_never_late():
    market = market_with(NYSE, date(2026, 11, 11), date(2026, 11, 18), without=(date(2026, 11, 16),))
    now = at("2026-11-19T12:00")
    assert late_of(market, now=now) == [("m/bars", "2026-11-16")]
    assert late_of(replace(market, known_gaps=frozenset({"2026-11-15"})), now=now) == []


def test_only_the_newest_twenty_sessions_are_judged_however_long_a_live_market_was_silent():
    market = market_with(NYSE, START, date(2026, 9, 11))
    late = late_of(market, now=at("2026-11-20T12:00"))
    # Twenty sessions up to Thursday 19 November, which closed at 21:00 UTC.
    assert (len(late), late[0][1], late[-1][1]) == (JUDGED_SESSIONS, "2026-10-23", "2026-11-19")
    # Who does what is said leaves no hole between what is there and what is judged: the bars end on a Friday.
    oldest, *_, newest = find_late([market], [], now=at("2026-11-20T12:00"), late_after=SIX_HOURS)
    assert oldest.remedy == "hfp materialise m/bars --from 2026-09-13 --to 2026-10-18"
    assert newest.remedy == "hfp materialise m/bars --from 2026-09-13 --to 2026-11-15"


def test_replay_is_judged_by_its_data_and_never_by_the_wall_clock():
    fed = at("2026-11-20T12:00")
    market = market_with(REPLAY, date(2012, 11, 1), date(2013, 1, 15), published=fed)
    years_later = fed + timedelta(days=2000)
    assert late_of(market, strategy_on(market), now=years_later) == []
    # A day was left out: it is late six hours after a later one was there.
    hole = market_with(REPLAY, date(2012, 11, 1), date(2013, 1, 15), without=(date(2013, 1, 10),), published=fed)
    assert late_of(hole, now=fed + timedelta(hours=5, minutes=59)) == []
    (late,) = find_late([hole], [], now=fed + SIX_HOURS, late_after=SIX_HOURS)
    assert late == Late(
        "m/bars",
        "2013-01-10",
        "session 2013-01-10: 2013-01-11 has bars since 2026-11-20 12:00 UTC and it has none",
        "hfp materialise m/bars --from 2013-01-06 --to 2013-01-06",
    )


def test_market_whose_end_lies_ahead_is_judged_by_the_wall_clock_until_it_has_passed():
    ending = MarketPartitions("XNYS", "America/New_York", START, date(2026, 11, 20))
    market = market_with(ending, START, date(2026, 11, 18))
    assert late_of(market, now=at("2026-11-20T12:00")) == [("m/bars", "2026-11-19")]
    # From the day after its end on nobody waits for the last sessions.
    assert late_of(market, now=at("2026-11-21T12:00")) == []


def test_signals_are_late_six_hours_after_the_later_of_close_bars_and_model():
    day = date(2026, 11, 18)
    market = market_with(NYSE, START, day)
    strategy = strategy_on(market, without=(day,))
    # The close was at 21:00 UTC, the bars came at 22:00.
    assert late_of(market, strategy, now=at("2026-11-19T03:59")) == []
    assert late_of(market, strategy, now=at("2026-11-19T04:00")) == [("s/signals", "2026-11-18")]
    late_model = replace(strategy, models={**strategy.models, "2026-11-15": at("2026-11-19T05:00")})
    assert late_of(market, late_model, now=at("2026-11-19T10:59")) == []
    assert late_of(market, late_model, now=at("2026-11-19T11:00")) == [("s/signals", "2026-11-18")]


def test_signals_are_owed_only_by_sessions_with_bars():
    day = date(2026, 11, 18)
    market = market_with(NYSE, START, date(2026, 11, 19), without=(day,))
    assert late_of(market, strategy_on(market), now=at("2026-11-20T12:00")) == [("m/bars", "2026-11-18")]


def test_strategy_that_was_never_trained_owes_nothing():
    market = market_with(NYSE, START, date(2026, 11, 19))
    assert late_of(market, StrategyInventory("s", market), now=at("2026-11-20T12:00")) == []


def test_model_of_the_newest_week_alone_puts_no_earlier_session_in_use():
    # Friday's bars are there, the first model ever is that of the week that begins.
    market = market_with(NYSE, START, date(2026, 11, 20))
    strategy = strategy_on(market, models=("2026-11-22",))
    assert late_of(market, strategy, now=at("2026-11-22T23:00")) == []


def test_model_of_a_year_ago_makes_the_newest_week_late_but_none_between():
    market = replace(market_with(NYSE, START, date(2026, 11, 20)))
    strategy = replace(strategy_on(market, models=("2026-09-06",)), issued=frozenset(), last_issued=None)
    late = late_of(market, strategy, now=at("2026-11-23T12:00"))
    assert late == [("s/fitted_model", "2026-11-22"), *(("s/signals", f"2026-11-{day}") for day in range(16, 21))]


def test_model_is_late_six_hours_after_its_week_could_be_trained_for():
    market = market_with(NYSE, START, date(2026, 11, 20))
    strategy = strategy_on(market, models=market.bars_weeks)
    # Sunday 22 November begins at 05:00 UTC in New York.
    assert late_of(market, strategy, now=at("2026-11-22T10:59")) == []
    assert late_of(market, strategy, now=at("2026-11-22T11:00")) == [("s/fitted_model", "2026-11-22")]
    # While Friday is missing, it is the bars that are late, not the model.
    without_friday = market_with(NYSE, START, date(2026, 11, 19))
    waiting = strategy_on(without_friday, models=market.bars_weeks)
    assert late_of(without_friday, waiting, now=at("2026-11-22T11:00")) == [("m/bars", "2026-11-20")]


def test_week_without_a_model_leaves_its_signals_late_also_after_the_next_week_has_one():
    market = market_with(NYSE, START, date(2026, 11, 20))
    missing = "2026-11-08"
    weeks = tuple(each for each in (*market.bars_weeks, "2026-11-22") if each != missing)
    strategy = strategy_on(market, models=weeks)
    late = find_late([market], [strategy], now=at("2026-11-21T12:00"), late_after=SIX_HOURS)
    assert [each.partition for each in late] == [f"2026-11-{day:02}" for day in range(9, 14)]
    assert {each.remedy for each in late} == {"hfp retrain s --week 2026-11-08"}
    assert late[0].why.endswith("no signals since week 2026-11-08 has no model")
    assert [gap.partition for gap in find_gaps(strategy)] == [missing]
    # A model of the week before may serve it where the strategy says so.
    patient = replace(strategy, max_model_age_weeks=1)
    assert {
        each.remedy.split(" --")[0]
        for each in find_late([market], [patient], now=at("2026-11-21T12:00"), late_after=SIX_HOURS)
    } == {"hfp materialise s/signals"}


def test_holes_are_the_weeks_with_sessions_between_the_first_and_the_last_that_are_stored():
    weeks = ["2026-10-04", "2026-10-11", "2026-11-01", "2026-11-15"]
    holes = find_holes("m/bars", weeks, NYSE, {"2026-11-08"})
    assert [hole.partition for hole in holes] == ["2026-10-18", "2026-10-25"]
    assert holes[0].remedy == "hfp materialise m/bars --from 2026-10-18 --to 2026-10-18"
    assert find_holes("m/bars", weeks[:1], NYSE) == find_holes("m/bars", [], NYSE) == []
    # Shanghai was closed from Monday to Friday of the golden week of 2016.
    shanghai = MarketPartitions("XSHG", "Asia/Shanghai", date(2016, 1, 4), date(2016, 12, 30))
    assert find_holes("c/bars", ["2016-09-25", "2016-10-09"], shanghai) == []


def test_gaps_are_the_weeks_after_the_first_model_without_one_and_never_the_newest():
    market = market_with(NYSE, START, date(2026, 11, 20))
    strategy = strategy_on(market, models=("2026-10-11", "2026-11-01"))
    assert [gap.partition for gap in find_gaps(strategy)] == ["2026-10-18", "2026-10-25", "2026-11-08", "2026-11-15"]
    # Wednesday: the week under way is the newest.
    midweek = market_with(NYSE, START, date(2026, 11, 18))
    assert [gap.partition for gap in find_gaps(strategy_on(midweek, models=("2026-11-01",)))] == ["2026-11-08"]


@settings(max_examples=60, deadline=None)
@given(
    calendar=st.sampled_from([NYSE, CRYPTO, REPLAY]),
    length=st.integers(25, 60),
    offset=st.integers(0, 20),
    removed=st.integers(2, JUDGED_SESSIONS - 1),
    share=st.floats(0.0, 1.0),
)
def test_complete_history_is_never_late_and_removing_one_session_makes_exactly_that_one_late(
    calendar, length, offset, removed, share
):
    days = [day for day in calendar.sessions if calendar.end is None or day <= calendar.end][offset : offset + length]
    market = market_with(calendar, days[0], days[-1])
    strategy = strategy_on(market)
    # From the last close to the second before the next session would be late.
    closed, next_closed = calendar.hours[days[-1]][1], calendar.hours[calendar.next_session(days[-1])][1]
    now = closed + share * (next_closed + SIX_HOURS - timedelta(seconds=1) - closed)
    assert late_of(market, strategy, now=now) == []
    # The last bars came an hour after the close: what is missing among them is late seven hours after it.
    now = max(now, closed + timedelta(hours=7))
    gone = days[-removed]
    hole = market_with(calendar, days[0], days[-1], without=(gone,))
    assert late_of(hole, strategy_on(hole), now=now) == [("m/bars", gone.isoformat())]
    unissued = replace(strategy, issued=strategy.issued - {gone})
    assert late_of(market, unissued, now=now) == [("s/signals", gone.isoformat())]


def test_judged_sessions_of_a_market_that_never_closes_are_the_last_twenty_days():
    market = market_with(CRYPTO, START, date(2026, 11, 19))
    judged = judged_sessions(market, at("2026-11-20T12:00"))
    assert (len(judged), str(judged[0]), str(judged[-1])) == (JUDGED_SESSIONS, "2026-10-31", "2026-11-19")


@pytest.mark.parametrize("is_used", [True, False], ids=["market in use", "market that was never used"])
def test_replay_whose_file_has_arrived_and_whose_bars_and_signals_have_not_is_late(is_used):
    last = date(2013, 2, 1)
    market = market_with(REPLAY, date(2012, 12, 3), last) if is_used else MarketInventory("m", "m/bars", REPLAY)
    arrived = {date(2013, 2, 4): at("2026-11-20 10:00")}
    fed = replace(market, landing="/landing", arrived=arrived)
    strategies = [replace(strategy_on(market), market=fed)] if is_used else []
    expected = [("m/bars", "2013-02-04"), *([("s/signals", "2013-02-04")] if is_used else [])]
    assert late_of(fed, *strategies, now=at("2026-11-20 15:59")) == []
    assert late_of(fed, *strategies, now=at("2026-11-20 16:00")) == expected
    # With no patience at all a file that has just come is given its half hour.
    early = find_late([fed], strategies, now=at("2026-11-20 10:29"), late_after=timedelta(0))
    assert early == []
    found = find_late([fed], strategies, now=at("2026-11-20 10:30"), late_after=timedelta(0))
    assert [(each.asset, each.partition) for each in found] == expected
    assert found[0].why == "session 2013-02-04: its file is there since 2026-11-20 10:00 UTC and it has no bars"
    # Nobody is told to put there what is there.
    assert "put its file" not in found[0].remedy
    assert found[0].remedy.endswith("hfp materialise m/bars --from 2013-02-03 --to 2013-02-03")
    # What has come is owed no more.
    made = replace(fed, first_session=last, bars={**fed.bars, date(2013, 2, 4): at("2026-11-20 10:01")})
    assert ("m/bars", "2013-02-04") not in late_of(made, now=at("2026-11-21 10:00"))


def test_model_that_lacks_its_inputs_is_remedied_by_those_first():
    market = market_with(NYSE, date(2026, 9, 1), date(2026, 10, 30))
    strategy = strategy_on(market, models=market.bars_weeks)
    lacking = replace(strategy, missing=(("m/features/trend", "2026-10-18", "2026-10-25"),))
    remedies = {}
    for name, each in (("complete", strategy), ("lacking", lacking)):
        found = find_late([market], [each], now=at("2026-11-02 12:00"), late_after=SIX_HOURS)
        remedies[name] = next(late.remedy for late in found if late.asset == "s/fitted_model")
    assert remedies == {
        "complete": "hfp retrain s --week 2026-11-01",
        "lacking": (
            "hfp materialise m/features/trend --from 2026-10-18 --to 2026-10-25; then hfp retrain s --week 2026-11-01"
        ),
    }
