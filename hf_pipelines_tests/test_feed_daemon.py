"""`hfp feed`, a source that is asked, and the real daemon: sessions arrive, weeks end, and Monday is decided by its own week's model."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions, shift_week, week_key
from hf_pipelines_tests.checkout import RANKING, make_checkout
from hf_pipelines_tests.landing import settle
from hf_pipelines_tests.market_data_server import MarketDataServer, serving
from hf_pipelines_tests.pipeline import TIMEZONE, files_market, session_bars
from hf_pipelines_tests.running import running

pytestmark = pytest.mark.servers

STRATEGY = "feed_ranking"
FRIDAY, MONDAY = date(2013, 2, 15), date(2013, 2, 25)
SERVERS = ("code_server", "daemon")
FAST_DAEMON = {"HF_TICK_SECONDS": "1"}
WEEK, NEXT_WEEK = "2013-02-17", "2013-02-24"


def test_fed_sessions_become_signals_and_a_week_that_begins_gets_its_model_before_mondays_signal(tmp_path):
    checkout = make_checkout(tmp_path / "checkout", [{**RANKING, "name": STRATEGY, "market": "us_tech_feed"}])
    store = checkout.store()
    with running(checkout, tmp_path / "instance", FAST_DAEMON, start=SERVERS) as services:
        settle(services)
        assert services.runs() == [], "a fresh instance must launch nothing"
        checkout.succeed("feed", "us_tech_feed", "--init", "--until", f"{FRIDAY}")
        settle(services)
        assert store.partitions(f"{STRATEGY}/fitted_model") == [WEEK]
        assert store.partitions(f"{STRATEGY}/signals") == []

        # Washington's birthday: four sessions from Tuesday on, and the Monday after them.
        checkout.succeed("feed", "us_tech_feed", "--sessions", "4")
        settle(services)
        days = [f"2013-02-{day}" for day in (19, 20, 21, 22)]
        assert store.partitions(f"{STRATEGY}/signals") == days
        checkout.succeed("feed", "us_tech_feed", "--sessions", "1")
        settle(services)
        assert store.partitions(f"{STRATEGY}/signals") == [*days, f"{MONDAY}"]
        assert {run["status"] for run in services.runs()} == {"SUCCESS"}

    models = {week: store.read(f"{STRATEGY}/fitted_model", week) for week in (WEEK, NEXT_WEEK)}
    for day in [*days, f"{MONDAY}"]:
        issue = store.read(f"{STRATEGY}/signals", day).frame
        of_week = models[week_key(date.fromisoformat(day))]
        assert issue["model_version"].unique().to_list() == [of_week.footer.content_hash]
        assert of_week.frame["created_at"][0] < issue["created_at"][0]
        assert issue.height == 5
    status = checkout.succeed("status")
    assert f"{MONDAY}" in status
    assert NEXT_WEEK in status


def test_daemon_asks_a_service_for_the_weeks_since_its_history_and_makes_their_features(tmp_path):
    now = datetime.now(UTC)
    today = week_key(now.date())
    weeks = [shift_week(today, -ago) for ago in (5, 4, 3, 2, 1, 0)]
    partitions = MarketPartitions("XNYS", TIMEZONE, date.fromisoformat(weeks[0]))
    # By the wall clock, as the daemon: what has closed long enough ago to have been asked for.
    sessions = [day for week in weeks for day in partitions.closed_sessions(week, now - timedelta(hours=1))]
    bars = session_bars(sessions, symbols=2, seed=3)
    with serving(MarketDataServer({"ohlcv": bars})) as server:
        source = {"type": "http", "base_url": server.url}
        market = files_market(tmp_path / "unused", bars, features=["temporal/day_of_week"], source=source)
        del market["end"]
        checkout = make_checkout(tmp_path / "checkout", [], markets=[market])
        store = checkout.store()
        with running(checkout, tmp_path / "instance", FAST_DAEMON, start=SERVERS) as services:
            settle(services)
            assert services.runs() == [] and server.requests == []
            # The history ends three weeks ago.
            checkout.succeed("materialise", "small/bars", "--from", weeks[0], "--to", weeks[2])
            settle(services)
            assert {run["status"] for run in services.runs()} == {"SUCCESS"}
            n_requests = len(server.requests)
            settle(services)
            assert len(server.requests) == n_requests
    stored = pl.concat(store.read("small/bars", week).frame for week in store.partitions("small/bars"))
    assert stored.drop("role").sort("symbol", "ts").equals(bars)
    made = [store.read("small/features/temporal", week).frame for week in store.partitions("small/features/temporal")]
    assert sorted(set(pl.concat(made)["session"])) == sessions
