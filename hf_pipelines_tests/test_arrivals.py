"""Files that land become bars, features, models and signals by the real daemon, with no hand on anything."""

from datetime import timedelta

import polars as pl
import pytest

from hf_pipelines.partitions import parse_key
from hf_pipelines_tests.landing import GROUPS, HISTORY_WEEKS, MARKET, STRATEGY, Landing, make_landing, settle
from hf_pipelines_tests.pipeline import RETRAINED, shipped_features
from hf_pipelines_tests.running import Running, running
from hf_pipelines_tests.sample_references import table_of

# A week of sessions through the same daemon is among the tests of the feed.
pytestmark = [pytest.mark.servers, pytest.mark.long]

BARS, SIGNALS, MODEL = f"{MARKET}/bars", f"{STRATEGY}/signals", f"{STRATEGY}/fitted_model"


@pytest.fixture
def fed(tmp_path):
    """A market whose history has landed while the real daemon watched."""
    folder = tmp_path
    (folder / "trades").mkdir()
    trades = {"table": "insider_trades", "source": {"type": "files", "uri": str(folder / "trades")}}
    features = [*shipped_features(*GROUPS), "alternative/insider_net_buys_90"]
    landing = make_landing(folder, market={"references": [trades], "features": features})
    env = {"HF_TICK_SECONDS": "1"}
    with running(landing.checkout, folder / "instance", env, start=("code_server", "daemon")) as services:
        settle(services)
        assert services.runs() == [], "a fresh instance must launch nothing"
        landing.deliver(landing.sessions_of(*range(HISTORY_WEEKS)))
        settle(services)
        yield landing, services


def new_runs(services: Running, before: list[dict]) -> list[tuple[str, str]]:
    """Job and status of the runs since, oldest first."""
    known = {each["id"] for each in before}
    return [
        (each["tags"]["dagster/run_key"].split(":")[0] and each["tags"].get("hf/because", ""), each["status"])
        for each in reversed(services.runs())
        if each["id"] not in known
    ]


def payload(landing: Landing, asset: str, key: str) -> bytes:
    return landing.store.objects.get(landing.store.key(asset, key))


def history_that_lands_at_once_is_one_run_of_bars_one_of_features_and_the_newest_model_only(
    landing: Landing, services: Running
) -> None:
    weeks = landing.weeks[:HISTORY_WEEKS]
    assert landing.store.partitions(BARS) == weeks
    assert all(landing.store.partitions(f"{MARKET}/features/{group}") == weeks for group in GROUPS)
    assert landing.store.partitions(MODEL) == [landing.weeks[HISTORY_WEEKS]]
    assert landing.issues() == []
    assert new_runs(services, []) == [
        (f"new or revised files in {HISTORY_WEEKS} week(s), the last {weeks[-1]}", "SUCCESS"),
        ("features are out of date with what they are made from", "SUCCESS"),
        (f"week {landing.weeks[HISTORY_WEEKS]} has begun", "SUCCESS"),
    ]  # fmt: skip


def session_file_becomes_signals_and_the_same_file_again_nothing(landing: Landing, services: Running) -> None:
    monday = landing.sessions_of(HISTORY_WEEKS)[0]
    before = services.runs()
    landing.deliver([monday])
    settle(services)
    assert [status for _, status in new_runs(services, before)] == ["SUCCESS", "SUCCESS"]
    assert landing.issues() == [f"{monday}"]
    issue = landing.store.read(SIGNALS, f"{monday}").frame
    model = landing.store.footer(MODEL, landing.weeks[HISTORY_WEEKS])
    assert issue["model_version"].unique().to_list() == [model.content_hash]
    # Many years after its close: never passed off as live.
    assert issue["issue_kind"].unique().to_list() == ["backfill"]

    before, stored = services.runs(), landing.hashes()
    landing.deliver([monday])
    landing.deliver([monday], name="{day}-again.parquet")
    settle(services)
    assert new_runs(services, before) == []
    assert landing.hashes() == stored


def broken_file_fails_its_week_by_name_while_another_week_goes_on_and_fixing_it_heals(
    landing: Landing, services: Running
) -> None:
    tuesday = landing.sessions_of(HISTORY_WEEKS)[1]
    old = landing.sessions_of(3)[0]
    more = landing.bars.filter(pl.col("session") == old).with_columns(close=pl.col("open"), low=pl.col("open") * 0.5)
    before, kept = services.runs(), payload(landing, BARS, landing.weeks[HISTORY_WEEKS])
    # Broken in this week, revised in a week long past, in one batch.
    (landing.folder / f"{tuesday}.parquet").write_bytes(b"PAR1 half a file")
    landing.deliver([old], bars=more)
    settle(services)
    runs = new_runs(services, before)
    assert [status for _, status in runs].count("FAILURE") == 2, runs
    failed = next(each for each in services.runs() if each["status"] == "FAILURE")
    messages = " ".join(each["error"] + each["message"] for each in services.events(failed["id"]))
    assert f"{tuesday}.parquet" in messages
    # The broken week is as it was; the other one has its revision.
    assert payload(landing, BARS, landing.weeks[HISTORY_WEEKS]) == kept
    revised = landing.store.read(BARS, landing.weeks[3]).frame.filter(pl.col("session") == old)
    assert revised["close"].to_list() == revised["open"].to_list()
    assert len(landing.store.versions(BARS, landing.weeks[3])) == 1

    # Mended, and with it the rest of the week and the Monday after it.
    before = services.runs()
    landing.deliver([*landing.sessions_of(HISTORY_WEEKS)[1:], landing.sessions_of(HISTORY_WEEKS + 1)[0]])
    settle(services)
    assert {status for _, status in new_runs(services, before)} == {"SUCCESS"}
    assert f"{tuesday}" in landing.issues()


def week_boundary_brings_a_new_model_before_mondays_signal(landing: Landing, _: Running) -> None:
    monday = landing.sessions_of(HISTORY_WEEKS + 1)[0]
    assert landing.issues() == [f"{day}" for day in [*landing.sessions_of(HISTORY_WEEKS), monday]]
    model = landing.store.read(MODEL, landing.weeks[HISTORY_WEEKS + 1])
    issue = landing.store.read(SIGNALS, f"{monday}").frame
    assert issue["model_version"].unique().to_list() == [model.footer.content_hash]
    assert model.frame["created_at"][0] < issue["created_at"][0]
    assert model.frame["as_of"][0] < issue["as_of"][0]


def revised_file_makes_new_versions_of_what_depends_on_it_and_leaves_issued_signals_alone(
    landing: Landing, services: Running
) -> None:
    week = landing.weeks[HISTORY_WEEKS - 1]
    day = landing.sessions_of(HISTORY_WEEKS - 1)[2]
    before = landing.hashes()
    issued = {key: payload(landing, SIGNALS, key) for key in landing.issues()}
    change = pl.when(pl.col("symbol") == "S000").then(1.01).otherwise(1.0)
    revised = landing.bars.filter(pl.col("session") == day).with_columns(
        *(pl.col(name) * change for name in ("open", "high", "low", "close"))
    )
    landing.deliver([day], bars=revised)
    settle(services)
    changed = {key for key, digest in landing.hashes().items() if before.get(key) != digest}
    newest = landing.weeks[HISTORY_WEEKS + 1]
    expected = {f"{BARS}/{week}"} | {
        f"{MARKET}/features/cross_asset/{each}" for each in landing.weeks[HISTORY_WEEKS - 1 : HISTORY_WEEKS + 2]
    }
    made = {f"{STRATEGY}/{stage}/{newest}" for stage in RETRAINED}
    assert changed == expected | made
    assert {key: payload(landing, SIGNALS, key) for key in landing.issues()} == issued
    assert set(landing.store.versions(BARS, week)) == {before[f"{BARS}/{week}"]}


def trade_that_lands_on_a_saturday_is_a_feature_of_the_sessions_after_it_and_of_nothing_before(
    landing: Landing, services: Running
) -> None:
    insiders, weeks = f"{MARKET}/features/alternative", landing.weeks[HISTORY_WEEKS - 2 : HISTORY_WEEKS]
    saturday = parse_key(weeks[0]) + timedelta(days=6)
    before, kept, insiders_before = services.runs(), landing.hashes(), landing.hashes(insiders)
    trade = {"symbol": "S001", "event_time": saturday, "available_at": saturday, "trade_id": "one"}
    trades = table_of("insider_trades", [{**trade, "shares": 50.0, "price": 10.0, "value": 500.0}])
    trades.write_parquet(landing.folder.parent / "trades" / f"{saturday}.parquet")
    settle(services)

    assert [status for _, status in new_runs(services, before)] == ["SUCCESS", "SUCCESS"]
    assert landing.hashes() == kept
    changed = {key for key, digest in landing.hashes(insiders).items() if insiders_before[key] != digest}
    assert changed == {key for key in insiders_before if key > f"{insiders}/{weeks[0]}"}
    monday = landing.store.read(insiders, weeks[1]).frame.filter(
        pl.col("session") == landing.sessions_of(HISTORY_WEEKS - 1)[0]
    )
    assert dict(monday.select("symbol", "insider_net_buys_90").iter_rows())["S001"] == 1.0


def test_files_that_land_over_three_weeks_become_bars_features_models_and_signals(fed):
    landing, services = fed
    # One after the other: each begins with what the ones before have left.
    for step in (
        history_that_lands_at_once_is_one_run_of_bars_one_of_features_and_the_newest_model_only,
        session_file_becomes_signals_and_the_same_file_again_nothing,
        broken_file_fails_its_week_by_name_while_another_week_goes_on_and_fixing_it_heals,
        week_boundary_brings_a_new_model_before_mondays_signal,
        revised_file_makes_new_versions_of_what_depends_on_it_and_leaves_issued_signals_alone,
        trade_that_lands_on_a_saturday_is_a_feature_of_the_sessions_after_it_and_of_nothing_before,
    ):
        step(landing, services)
