"""`hfp feed` and the real daemon: real sessions arrive, a week ends, and Monday is decided by the model of its own week."""

from datetime import date

import pytest

from hf_pipelines.partitions import week_key
from hf_pipelines_tests.checkout import RANKING, make_checkout
from hf_pipelines_tests.landing import settle
from hf_pipelines_tests.running import running

pytestmark = pytest.mark.servers

STRATEGY = "feed_ranking"
FRIDAY, MONDAY = date(2013, 2, 15), date(2013, 2, 25)
WEEK, NEXT_WEEK = "2013-02-17", "2013-02-24"


def test_fed_sessions_become_signals_and_a_week_that_begins_gets_its_model_before_mondays_signal(tmp_path):
    checkout = make_checkout(tmp_path / "checkout", [{**RANKING, "name": STRATEGY, "market": "us_tech_feed"}])
    store = checkout.store()
    with running(checkout, tmp_path / "instance", {"HF_TICK_SECONDS": "2"}) as services:
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
