"""Levels in dispute: followed from week to week, as in one go; a stranger of months, its returns, and what a person decides."""

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl
import pytest

from hf_pipelines.research.disputes import Dispute, Override, follow_disputes, override_verdicts
from hf_pipelines.research.events import CARRY_SESSIONS
from hf_pipelines.research.quality import VERDICT_SCHEMA, judge_bars
from hf_pipelines.research.quality_rules import SPELL_SESSIONS
from hf_pipelines_tests.real_bars import pystock_bars
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays

DAYS = weekdays(160)
AT = 40


def steady(
    price: Callable[[int], float] = lambda n: 1.0, volume: Callable[[int], float] = lambda n: 1.0
) -> pl.DataFrame:
    """A symbol at 100, 1,000 units a session, times what `price` and `volume` make of the number of the session."""
    prices = [100.0 * price(n) for n in range(len(DAYS))]
    return bars_of(
        "AAA",
        prices,
        open=prices,
        high=[1.01 * each for each in prices],
        low=[0.99 * each for each in prices],
        volume=[1000.0 * volume(n) for n in range(len(DAYS))],
    )


def week_by_week(
    bars: pl.DataFrame, overrides: list[Override] | None = None, n_days: int = 5
) -> tuple[pl.DataFrame, pl.DataFrame, list[Dispute]]:
    """Verdicts and warnings as weeks make them that are made one after the other, each out of what it reads."""
    days = bars["session"].unique().sort().to_list()
    found, told, state = [pl.DataFrame(schema=VERDICT_SCHEMA)], [pl.DataFrame(schema=VERDICT_SCHEMA)], list[Dispute]()
    for start in range(0, len(days), n_days):
        of_week = days[start : start + n_days]
        read = bars.filter(pl.col("session").is_between(days[max(start - CARRY_SESSIONS, 0)], of_week[-1]))
        verdicts = override_verdicts(judge_bars(read, calendar=days), read, overrides or [])
        kept = [Dispute.from_json(each.to_json()) for each in state]
        warnings, state = follow_disputes(read, verdicts, kept, calendar=days, days=of_week, overrides=overrides or [])
        found.append(verdicts.filter(pl.col("session").is_in(of_week)))
        told.append(warnings)
    return pl.concat(found), pl.concat(told), state


def places(verdicts: pl.DataFrame) -> list[int]:
    return sorted({DAYS.index(day) for day in verdicts["session"].to_list()})


def refused(verdicts: pl.DataFrame) -> pl.DataFrame:
    return verdicts.filter(pl.col("severity") == "error")


def test_a_stranger_of_months_is_refused_and_then_warned_of_each_session_until_the_company_is_back():
    bars = steady(lambda n: 0.2 if AT <= n < 120 else 1.0, lambda n: 0.2 if AT <= n < 120 else 1.0)
    found, told, state = week_by_week(bars)
    assert places(refused(found)) == [*range(AT, AT + SPELL_SESSIONS)]
    assert places(told) == [*range(AT + SPELL_SESSIONS, 120)]
    assert told["severity"].unique().to_list() == ["warning"]
    assert told["reason"][0] == (
        f"close 20 where 100 was believed, 0.04 times the turnover of then: bars were refused from {DAYS[AT]} on and the level "
        "has not come back; mend the source, or name the rows in `row_overrides` of the market"
    )
    # Believed again after a month.
    assert state == []


def test_a_stranger_that_comes_back_within_a_month_of_its_leaving_is_known():
    own = {*range(AT), *range(80, 84), *range(120, 160)}
    bars = steady(lambda n: 1.1 if n in own else 0.2, lambda n: 1.0 if n in own else 0.2)
    found, told, _ = week_by_week(bars)
    assert {*places(refused(found)), *places(told)} == {*range(160)} - own


def test_a_wrong_unit_that_stays_is_warned_of_until_it_is_accepted():
    bars = steady(lambda n: 0.01 if n >= AT else 1.0)
    found, told, (dispute,) = week_by_week(bars)
    assert {*places(refused(found)), *places(told)} == {*range(AT, 160)}
    assert (dispute.level, dispute.since, dispute.is_away) == (100.0, DAYS[AT], True)
    accepted: list[Override] = [("AAA", DAYS[AT], None, "accepted")]
    found, told, state = week_by_week(bars, accepted)
    assert (refused(found).height, told.height, state) == (0, 0, [])
    late: list[Override] = [("AAA", DAYS[100], DAYS[100], "accepted")]
    assert places(week_by_week(bars, late)[1])[-1] == 99


def test_a_level_to_which_the_trade_has_followed_is_settled_after_a_month():
    # A fall by half that nobody traded on its first days.
    bars = steady(lambda n: 0.4 if n >= AT else 1.0, lambda n: 0.2 if AT <= n < AT + 3 else 1.5)
    found, told, state = week_by_week(bars)
    assert refused(found).height > 0
    assert (max(places(told)), state) == (AT + 19, [])


def test_events_move_the_level_in_dispute():
    # The company has split 4:1 while the stranger stood in its place.
    bars = steady(
        lambda n: 0.05 if AT <= n < 120 else 1.0 if n < AT else 0.25,
        lambda n: 0.2 if AT <= n < 120 else 1.0 if n < AT else 4.0,
    )
    stranger = pl.col("session").is_between(DAYS[80], DAYS[119])
    prices = [
        pl.when(stranger).then(pl.col(each) / 4.0).otherwise(pl.col(each)) for each in ("open", "high", "low", "close")
    ]
    split = pl.when(pl.col("session") == DAYS[80]).then(4.0).otherwise(1.0).alias("split_ratio")
    told = week_by_week(bars.with_columns(*prices, split))[1]
    assert places(told)[-1] == 119
    assert "where 25 was believed" in told["reason"][-1]


def test_what_a_person_decides_counts_more_than_the_rules():
    bars = steady(lambda n: 0.2 if AT <= n < 120 else 1.0, lambda n: 0.2 if AT <= n < 120 else 1.0)
    named: list[Override] = [("AAA", DAYS[AT], DAYS[119], "refused"), ("BBB", DAYS[0], None, "refused")]
    found, told, _ = week_by_week(bars, named)
    assert (places(refused(found)), told.height) == ([*range(AT, 120)], 0)
    one = refused(found).filter(pl.col("session") == DAYS[100])
    assert one["reason"].to_list() == [f"`row_overrides`: refused from {DAYS[AT]} to {DAYS[119]}"]
    # A warning stays: that a row is right does not make it usual.
    kept = week_by_week(bars, [("AAA", DAYS[AT], DAYS[AT], "accepted")])[0].filter(pl.col("session") == DAYS[AT])
    assert kept["severity"].unique().to_list() == ["warning"]


@pytest.mark.parametrize("n_days", [5, 7, 160])
def test_disputes_of_random_faults_are_the_same_week_by_week_and_in_one_go(n_days):
    bars = random_bars(symbols=12, sessions=160, seed=5, has_reference=False).drop("role")
    calendar = bars["session"].unique().sort().to_list()
    for number, symbol in enumerate(bars["symbol"].unique().sort().to_list()):
        inside = (pl.col("symbol") == symbol) & pl.col("session").is_between(
            calendar[50 + 3 * number], calendar[min(70 + 9 * number, 159)]
        )
        factor = pl.when(inside).then((0.01, 0.2, 50.0)[number % 3]).otherwise(1.0)
        bars = bars.with_columns(*(pl.col(each) * factor for each in ("open", "high", "low", "close", "dividend")))
    whole = judge_bars(bars, calendar=calendar)
    at_once, open_at_end = follow_disputes(bars, whole, (), calendar=calendar, days=calendar)
    _, told, state = week_by_week(bars, n_days=n_days)
    assert at_once.height > 100
    assert told.sort("symbol", "session").equals(at_once)
    assert state == open_at_end != []


def test_every_session_of_the_stranger_in_real_bars_is_refused_or_warned_of_and_no_right_one():
    bars = pystock_bars().filter(pl.col("symbol") == "NEE")
    found, told, _ = week_by_week(bars)
    alarmed = {*refused(found)["session"].to_list(), *told["session"].to_list()}
    is_own = pl.col("session").is_between(date(2016, 11, 22), date(2016, 11, 28))
    stranger = bars.filter(pl.col("session").is_between(date(2016, 6, 9), date(2017, 1, 30)) & ~is_own)
    assert stranger.height == 156
    assert alarmed == {*stranger["session"].to_list()}
    # Named once, all of it is refused.
    until = date(2016, 11, 22) - timedelta(days=1)
    named: list[Override] = [
        ("NEE", date(2016, 6, 9), until, "refused"),
        ("NEE", date(2016, 11, 29), date(2017, 1, 30), "refused"),
    ]
    found, told, _ = week_by_week(bars, named)
    assert ({*refused(found)["session"].to_list()}, told.height) == ({*stranger["session"].to_list()}, 0)
