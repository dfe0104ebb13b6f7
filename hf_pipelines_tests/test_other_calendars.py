"""A market of another calendar, end to end: a break at noon, and weeks in which the exchange rests."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hf_pipelines.components.automation.arrivals import Arrivals
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.run_tags import WANTED_TAG, expanded
from hf_pipelines.partitions import MarketPartitions, week_key
from hf_pipelines.research.bar_grid import BarGrid
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines_tests.pipeline import (
    Project,
    files_market,
    market_of,
    ridge_strategy,
    session_bars,
    sessions_from,
    write_sessions,
)

SHANGHAI = "Asia/Shanghai"
AFTER = "2016-03-01T00:00:00+00:00"
FIRST, LAST = date(2016, 1, 4), date(2016, 2, 26)

# The new year of the monkey: from Monday 2016-02-08 to Friday nothing trades.
RESTING = "2016-02-07"
SYMBOLS = ("SH600519", "SZ000001", "SZ300027", "SH000300")


def hourly_bars() -> pl.DataFrame:
    """Random bars of three shares and an index, ending at 10:30, 11:30, 14:00 and 15:00."""
    partitions = MarketPartitions("XSHG", SHANGHAI, FIRST, LAST)
    days = partitions.sessions_between(FIRST, LAST)
    grid = BarGrid("1h", SHANGHAI, "open", partitions.breaks)
    ends = grid.ends({day: partitions.hours[day] for day in days})
    frames = []
    for number, symbol in enumerate(SYMBOLS):
        rng = np.random.default_rng(number)
        close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.005, ends.height)))
        prices = {"open": close, "high": close * 1.002, "low": close * 0.998, "close": close}
        frames.append(
            ends.with_columns(
                symbol=pl.lit(symbol),
                volume=pl.Series(rng.integers(900, 1100, ends.height).astype(float)),
                split_ratio=1.0,
                dividend=0.0,
                **{name: pl.Series(each) for name, each in prices.items()},
            )
        )
    return pl.concat(frames).select(*SOURCE_SCHEMA)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder: Path = tmp_path_factory.mktemp("shanghai")
    write_sessions(folder / "source", hourly_bars())
    market = {
        "name": "small",
        "universe": [{"symbol": symbol} for symbol in SYMBOLS[:-1]],
        "benchmark": SYMBOLS[-1],
        "calendar": "XSHG",
        "timezone": SHANGHAI,
        "timeframe": "1h",
        "bars_end": "open",
        "source": {"type": "files", "uri": str(folder / "source")},
        "start": str(FIRST),
        "end": str(LAST),
        "features": ["technical/roc_5"],
    }
    strategy = ridge_strategy(
        features=["technical"],
        training={"weeks": 5, "minimum_rows": 40},
        cross_validation={"n_splits": 2, "min_train_sessions": 5},
    )
    return Project(folder / "project", market, [strategy])


def test_a_week_in_which_the_exchange_rests_stops_nothing_and_is_not_declared(project):
    weeks = project.weeks
    assert RESTING in weeks
    made = project.make("small/bars", weeks[0], weeks[-1], now=AFTER)
    assert made.checks["small/bars", "complete"].passed
    trading = [week for week in weeks if week != RESTING]
    assert project.store.partitions("small/bars") == trading
    day = project.store.read("small/bars", "2016-02-14").frame.filter(
        pl.col("symbol") == "SH600519", pl.col("session") == date(2016, 2, 15)
    )
    assert day["ts"].dt.strftime("%H:%M").to_list() == ["02:30", "03:30", "06:00", "07:00"]
    project.make("small/features/technical", weeks[0], weeks[-1], now=AFTER)
    assert project.store.partitions("small/features/technical") == trading
    # The week after the rest is made of bars before it: no value is missing.
    after = project.store.read("small/features/technical", "2016-02-14").frame
    assert after.height == 3 * 5 * 4 and after["roc_5"].is_finite().all()
    made_from = project.store.footer("small/features/technical", "2016-02-14").inputs["small/bars"]
    assert sorted(made_from) == ["2016-01-31", "2016-02-14"]
    # Five weeks of training, one of which rests.
    project.make("ranking/training_matrix", "2016-02-21", now=AFTER)
    read = project.store.footer("ranking/training_matrix", "2016-02-21").inputs["small/bars"]
    assert sorted(read) == ["2016-01-17", "2016-01-24", "2016-01-31", "2016-02-14"]
    # An issue of hours has four decisions of three members; what is shown is the last one.
    stages = [f"ranking/{stage}" for stage in ("training_matrix", "cv_results", "fitted_model")]
    project.make(stages, "2016-02-14", now=AFTER)
    run = project.make("ranking/signals", "2016-02-15", now=AFTER)
    shown = run.materialised["ranking/signals"]["2016-02-15"]
    assert (shown["decisions"], shown["members"], shown["rows"]) == (4, 3, 12)
    issue = project.store.read("ranking/signals", "2016-02-15").frame
    last = issue.filter(pl.col("ts") == issue["ts"].max())
    assert shown["gross_exposure"] == pytest.approx(last["weight"].abs().sum())
    assert project.out_of_date() == {}
    # What will never have data is no reason to make the rest anew.
    market = project.market
    project.rewrite({**market, "known_gaps": ["2016-01-10"]})
    try:
        assert project.out_of_date() == {}
    finally:
        project.rewrite(market)


@pytest.mark.parametrize("asset", ["small/bars", "small/features/technical"])
def test_a_resting_week_alone_says_that_there_is_nothing_to_make(project, asset):
    run = project.run(asset, RESTING, now=AFTER)
    assert not run.success
    assert "`week` must have a session of XSHG, 2016-02-07 has none; there is nothing to make of it" in run.message


def test_the_newest_week_after_a_rest_is_the_next_one_that_trades():
    shanghai = MarketPartitions("XSHG", SHANGHAI, FIRST, LAST)
    assert shanghai.newest_week(date(2016, 2, 4)) == "2016-01-31"
    assert shanghai.newest_week(date(2016, 2, 5)) == "2016-02-14"
    assert shanghai.week_before("2016-02-14") == "2016-01-31"
    assert shanghai.trading_weeks(["2016-01-31", RESTING, "2016-02-14"]) == ["2016-01-31", "2016-02-14"]
    assert week_key(LAST) == "2016-02-21" and shanghai.newest_week(LAST) is None


def test_features_of_announced_days_pass_the_replay_and_know_of_them_from_then_on(tmp_path):
    """A closure on Wednesday 2013-02-20, announced the day before, and a session on Saturday 2013-03-02, announced on Wednesday."""
    closed, extra = date(2013, 2, 20), date(2013, 3, 2)
    days = [day for day in sessions_from(date(2013, 2, 4), 5) if day != closed]
    bars = session_bars(days, symbols=2)
    friday = bars.filter(pl.col("session") == date(2013, 3, 1))
    at = pl.lit(datetime(2013, 3, 2, 18, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    saturday = friday.with_columns(session=pl.lit(extra), ts=at)
    market = files_market(tmp_path / "source", pl.concat([bars, saturday]), features=["temporal"])
    overrides = [
        {"day": str(closed), "closed": True, "announced": "2013-02-19"},
        {"day": str(extra), "open": "10:00", "close": "13:00", "announced": "2013-02-27"},
    ]
    project = Project(tmp_path / "project", {**market, "calendar_overrides": overrides})
    weeks = project.weeks
    made = project.make("small/bars", weeks[0], weeks[-1], now="2013-04-01T00:00:00+00:00")
    assert made.checks["small/bars", "complete"].passed and made.checks["small/bars", "no_stray_files"].passed
    features = project.make("small/features/temporal", weeks[0], weeks[-1], now="2013-04-01T00:00:00+00:00")
    assert features.checks["small/features/temporal", "replay"].passed
    frames = [project.store.read("small/features/temporal", week).frame for week in weeks]
    shown = pl.concat(frames).unique("session").sort("session")
    to_holiday = dict(shown.select("session", "days_to_holiday").iter_rows())
    # Washington's birthday is on Monday 2013-02-18; Good Friday on 2013-03-29.
    assert [to_holiday[date(2013, 2, day)] for day in (14, 15, 19, 21)] == [2.0, 1.0, 1.0, 20.0]
    assert closed not in to_holiday and extra in to_holiday
    assert project.out_of_date() == {}
    # A day far from every row makes nothing out of date; one that is taken back all weeks that may know of it.
    distant = {"day": "2013-12-24", "closed": True}
    project.rewrite({**project.market, "calendar_overrides": [*overrides, distant]})
    assert project.out_of_date() == {}
    project.rewrite({**project.market, "calendar_overrides": overrides[:1]})
    asset = "small/features/temporal"
    reasons = project.out_of_date(asset)
    assert reasons[f"{asset} {weeks[-1]}"] == "source files added, changed or gone: calendar_overrides/2013-03-02"
    # The sensor asks for the bars that hang on that day, then for the features of all weeks that may know of it.
    now = datetime(2013, 4, 1, tzinfo=UTC)

    def asked() -> set[str]:
        tick = Arrivals(market_of(project.market), project.store, RunHistory(project.instance, now), now).tick(None)
        return {week for each in tick.requests for week in expanded(each.tags.get(WANTED_TAG) or each.partition_key)}

    assert asked() == {week for week in weeks if week >= "2013-02-24"}
    project.make("small/bars", "2013-02-24", weeks[-1], now="2013-04-01T00:00:00+00:00")
    assert asked() == {week for week in weeks if f"{asset} {week}" in project.out_of_date(asset)}
    project.make(asset, weeks[0], weeks[-1], now="2013-04-01T00:00:00+00:00")
    assert project.out_of_date() == {} and asked() == set()
