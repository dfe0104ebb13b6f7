"""Ticks of the two sensors on a small market: what is asked for in each state of the landing folder and the store."""

import io
import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hf_pipelines.components.automation import watched_folders
from hf_pipelines.components.automation.arrivals import PATIENCE_TICKS, arrivals_sensor, market_job
from hf_pipelines.components.automation.strategy_sensor import newest_week
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.pipeline import RETRAINED, market_of
from hf_pipelines_tests.servers import s3_server
from hf_pipelines_tests.ticking import LATER, Ticking, asked

BARS, FEATURES = "small/bars", "small/features/quick"
ISSUED = ["ranking/signals", "ranking/drift"]


@pytest.fixture
def ticking(small_project, tmp_path):
    """The market as it is after its history: 18 weeks of bars and features, models of none."""
    project = small_project.copy(tmp_path / "project")
    found = Ticking(project, project.take_source())
    assert asked(found.arrivals()) == []
    return found


def bars_of(ticking: Ticking, day) -> pl.DataFrame:
    return pl.read_parquet(ticking.source / f"{day}.parquet")


def test_files_put_back_and_changed_again_are_asked_for_each_time(ticking):
    day = ticking.market.partitions.sessions_of_week(ticking.project.weeks[8])[0]
    first = bars_of(ticking, day)
    second = first.with_columns(volume=pl.col("volume") + 1.0)
    weeks = ticking.project.weeks
    for frame in (second, first, second, first):
        ticking.write(day, frame, age_s=60.0 + time.time() % 50)
        # The weeks after it, up to the last, are judged by its bars; none of them changes.
        assert asked(ticking.arrivals()) == [([BARS], ",".join(weeks[8:18]))]
        # The next week looks back on it; a window of six bars is taken to reach three weeks back.
        assert asked(ticking.arrivals()) == [([FEATURES], ",".join(weeks[8:12]))]
        assert asked(ticking.arrivals()) == []


def test_file_before_the_close_of_its_session_is_taken_after_it_though_it_did_not_change(ticking):
    week = ticking.project.weeks[-1]
    day = ticking.market.partitions.sessions_of_week(week)[-1]
    close = ticking.market.partitions.session_close(day)
    ticking.write(day, bars_of(ticking, day).with_columns(volume=pl.col("volume") + 1.0))
    assert asked(ticking.arrivals(close - timedelta(minutes=1))) == []
    assert asked(ticking.arrivals(close - timedelta(seconds=1))) == []
    assert asked(ticking.arrivals(close)) == [([BARS, FEATURES], week)]


def test_file_that_is_gone_takes_nothing_away_and_is_said(ticking):
    day = ticking.market.partitions.sessions_of_week(ticking.project.weeks[5])[1]
    before = ticking.project.hashes(BARS)
    ticking.write(day, None)
    tick = ticking.arrivals()
    assert asked(tick) == []
    assert tick.notes == (f"files of {BARS} {ticking.project.weeks[5]} are gone, it stays as it is: {day}.parquet",)
    assert ticking.project.hashes(BARS) == before


def test_files_still_arriving_are_waited_for_but_not_for_ever(ticking):
    day = ticking.market.partitions.sessions_of_week(ticking.project.weeks[5])[1]
    ticking.write(day, bars_of(ticking, day).with_columns(volume=pl.col("volume") + 1.0), age_s=1.0)
    modified = datetime.fromtimestamp((ticking.source / f"{day}.parquet").stat().st_mtime, tz=UTC)
    now = modified + timedelta(seconds=1)
    waited = [ticking.arrivals(now) for _ in range(PATIENCE_TICKS)]
    assert {tick.notes for tick in waited} == {("files are still arriving",)}
    assert asked(ticking.arrivals(now)) == [([BARS], ",".join(ticking.project.weeks[5:16]))]


def test_bucket_is_looked_through_in_several_ticks_and_its_last_weeks_in_each(ticking, tmp_path, monkeypatch):
    weeks, sessions = ticking.project.weeks, ticking.market.partitions.sessions_of_week
    monkeypatch.setattr(watched_folders, "BUCKET_SCAN_LIMIT", 20)
    with s3_server(tmp_path) as s3:
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        bucket = ObjectStore(f"s3://{s3.bucket}/landing", s3.endpoint)

        def put(day, change: float) -> None:
            payload = io.BytesIO()
            bars_of(ticking, day).with_columns(volume=pl.col("volume") + change).write_parquet(payload)
            bucket.put(f"{day}.parquet", payload.getvalue())

        for path in ticking.source.glob("*.parquet"):
            bucket.put(path.name, path.read_bytes())
        source = {"type": "files", "uri": bucket.uri, "endpoint": s3.endpoint}
        ticking.market = market_of({**ticking.project.market, "source": source})
        # 18 weeks of five sessions at most, four weeks of them a tick.
        settled = []
        while ticking.cursors["arrivals"] not in settled:
            settled.append(ticking.cursors["arrivals"])
            assert asked(ticking.arrivals()) == []
        assert len({json.loads(cursor)["places"][BARS]["next_key"] for cursor in settled[1:]}) == 5

        put(sessions(weeks[-2])[0], 1.0)
        assert asked(ticking.arrivals(run=False)) == [([BARS], ",".join(weeks[-2:]))]
        put(sessions(weeks[-2])[0], 0.0)
        put(sessions(weeks[2])[0], 1.0)
        found = [asked(ticking.arrivals(run=False)) for _ in range(5)]
        assert [each for each in found if each] == [[([BARS], ",".join(weeks[2:12]))]]


def test_lost_cursor_and_a_new_instance_ask_for_nothing_that_is_current(ticking):
    ticking.cursors["arrivals"] = None
    ticking.project.instance = dg.DagsterInstance.ephemeral()
    assert asked(ticking.arrivals()) == []
    ticking.cursors["arrivals"] = "of another release"
    assert asked(ticking.arrivals()) == []


def test_cursor_that_an_earlier_release_wrote_is_read_and_spares_looking_again(ticking, monkeypatch):
    known = json.loads(ticking.cursors["arrivals"])
    assert {name: type(value) for name, value in known.items()} == {"inputs": dict, "places": dict, "waited": int}
    assert set(known["places"][BARS]) == {"next_key", "weeks"}
    # Written by hand in the names of then: nothing is compared again, so no file is read.
    listed: list[object] = []
    monkeypatch.setattr(FilesSource, "listing", lambda source, days: listed.append(days) or {})
    ticking.cursors["arrivals"] = json.dumps(
        {
            "inputs": known["inputs"],
            "places": {BARS: {"next_key": "", "weeks": known["places"][BARS]["weeks"]}},
            "waited": 0,
        }
    )
    assert asked(ticking.arrivals()) == []
    assert not any(listed)


def test_broken_weeks_are_tried_together_then_alone_then_left_until_they_change(ticking):
    weeks = ticking.project.weeks
    days = {week: ticking.market.partitions.sessions_of_week(week)[0] for week in (weeks[4], weeks[7], weeks[9])}
    good = {week: bars_of(ticking, day) for week, day in days.items()}
    for week in (weeks[4], weeks[7]):
        ticking.write(days[week], good[week].drop("close"))
    ticking.write(days[weeks[9]], good[weeks[9]].with_columns(volume=pl.col("volume") + 1.0))
    # With the weeks judged by them: ten after each, up to the market's last.
    assert asked(ticking.arrivals()) == [([BARS], ",".join(weeks[4:18]))]
    # Those were made, though a file before them is broken.
    assert asked(ticking.arrivals()) == [([BARS], f"{weeks[4]},{weeks[7]}")]
    assert asked(ticking.arrivals()) == [([BARS, FEATURES], weeks[4]), ([BARS, FEATURES], weeks[7])]
    # The sound week was not held back; now its features, and nothing more for the broken ones.
    assert asked(ticking.arrivals()) == [([FEATURES], ",".join(weeks[9:13]))]
    assert asked(ticking.arrivals()) == []
    ticking.write(days[weeks[4]], good[weeks[4]])
    # As it was: its bars are made of these very files already, and are found well; the weeks after it were judged without it.
    assert asked(ticking.arrivals()) == [([BARS], ",".join(each for each in weeks[4:15] if each != weeks[7]))]
    assert asked(ticking.arrivals()) == []
    ticking.write(days[weeks[7]], good[weeks[7]].with_columns(volume=pl.col("volume") + 2.0))
    assert asked(ticking.arrivals()) == [([BARS], ",".join(weeks[7:17]))]


def test_week_is_made_again_each_time_a_refused_file_of_it_is_put_back_or_removed(ticking):
    week = ticking.project.weeks[-1]
    day, later = ticking.market.partitions.sessions_of_week(week)[-2:]
    good, hashes = bars_of(ticking, day), ticking.project.hashes(BARS)
    for column in ("close", "open"):
        ticking.write(day, good.drop(column))
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], week)]
        assert asked(ticking.arrivals()) == []
        ticking.write(day, good)
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], week)]
        assert asked(ticking.arrivals()) == []
    for column in ("close", "open"):
        ticking.write(later, good.drop(column), "{day}.extra.parquet")
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], week)]
        ticking.write(later, None, "{day}.extra.parquet")
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], week)]
        assert asked(ticking.arrivals()) == []
    assert ticking.project.hashes(BARS) == hashes
    statuses = [each.status.value for each in ticking.project.instance.get_runs()]
    assert statuses[:8] == ["SUCCESS", "FAILURE"] * 4


def test_newest_week_is_the_one_after_the_last_session_that_has_bars(ticking):
    weeks = ticking.project.weeks
    # The market of the fixture ends with its last week: there is no week after it.
    assert newest_week(ticking.plan, ticking.project.store) is None
    objects = ticking.project.store.objects
    objects.delete(f"{BARS}/{weeks[-1]}.parquet")
    assert newest_week(ticking.plan, ticking.project.store) == weeks[-1]
    for week in weeks:
        objects.delete(f"{BARS}/{week}.parquet")
    assert newest_week(ticking.plan, ticking.project.store) is None


def test_tick_that_asks_for_a_model_lists_each_asset_once(ticking, monkeypatch):
    for asset in (BARS, FEATURES):
        ticking.project.store.objects.delete(f"{asset}/{ticking.project.weeks[-1]}.parquet")
    listed, list_tags = [], PartitionStore.tags
    monkeypatch.setattr(PartitionStore, "tags", lambda self, asset: listed.append(asset) or list_tags(self, asset))
    assert len(asked(ticking.follows(run=False))) == 1
    # The issues too: a tick sees that `latest.json` names the newest of them.
    assert sorted(listed) == ["ranking/fitted_model", "ranking/signals", BARS, FEATURES]


def test_model_of_the_newest_week_only_is_asked_for_once_and_its_signals_after_it(ticking):
    weeks, store = ticking.project.weeks, ticking.project.store
    newest = weeks[-1]
    # The last week has bars of no session yet: its files are laid back after the model.
    days = [f"{day}" for day in ticking.market.partitions.sessions_of_week(newest)]
    kept = {day: bars_of(ticking, day) for day in days}
    for day in days:
        ticking.write(day, None)
    for asset in (BARS, FEATURES):
        store.objects.delete(f"{asset}/{newest}.parquet")
    begin = ticking.market.partitions.week_begin(newest)
    early = ticking.follows(begin + timedelta(hours=2))
    assert (asked(early), early.notes) == ([], (f"week {newest} has not begun",))
    stages = [f"ranking/{stage}" for stage in RETRAINED]
    assert asked(ticking.follows(begin + timedelta(hours=2, minutes=10), run=False)) == [(stages, newest)]
    # A tick that died before its cursor was saved asks the same run key; Dagster knows it.
    keys = {request.run_key for _ in range(2) for request in ticking.follows(run=False).requests}
    assert len(keys) == 1
    assert asked(ticking.follows()) == [(stages, newest)]
    assert asked(ticking.follows()) == []
    assert store.partitions("ranking/fitted_model") == [newest]

    for day, frame in kept.items():
        ticking.write(day, frame, age_s=30.0)
    assert asked(ticking.arrivals()) == [([BARS, FEATURES], newest)]
    assert store.partitions(BARS)[-1] == newest
    # While one run issues, no other is asked for, whatever has changed meanwhile.
    instance = ticking.project.instance
    job = ticking.project.definitions.resolve_job_def("ranking_issue")
    issuing = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert asked(ticking.follows()) == []
    instance.report_run_canceled(issuing)
    assert asked(ticking.follows()) == [(ISSUED, ",".join(days))]
    assert store.partitions("ranking/signals") == days
    assert asked(ticking.follows()) == []


def test_strategy_waits_for_features_that_are_out_of_date_and_says_for_which(ticking):
    weeks, store = ticking.project.weeks, ticking.project.store
    for asset in (BARS, FEATURES):
        store.objects.delete(f"{asset}/{weeks[-1]}.parquet")
    store.objects.delete(f"{FEATURES}/{weeks[-3]}.parquet")
    tick = ticking.follows()
    assert asked(tick) == []
    assert tick.notes == (f"no model of week {weeks[-1]} yet: {FEATURES} has no {weeks[-3]}",)
    assert json.loads(tick.cursor)["weeks"] == {}


def tick_in_dagster(ticking: Ticking, cursor: str | None) -> Any:
    """The sensor of arrivals as the daemon evaluates it, from this cursor."""
    project = ticking.project
    sensor = arrivals_sensor(ticking.market, market_job(ticking.market, [BARS, FEATURES]))
    resources = {"clock": Clock(fixed=LATER.isoformat()), "storage": Storage(uri=project.store.objects.uri)}
    context = dg.build_sensor_context(
        instance=project.instance, cursor=cursor, sensor_name=sensor.name, resources=resources
    )
    return sensor.evaluate_tick(context)


def test_cursor_is_short_and_a_lost_or_older_memory_asks_for_nothing_twice(ticking):
    instance = ticking.project.instance
    first = tick_in_dagster(ticking, None)
    assert first.run_requests == [] and len(first.cursor) < 100
    assert len(ticking.cursors["arrivals"]) > 1000
    again = tick_in_dagster(ticking, first.cursor)
    assert again.cursor == first.cursor
    # As an earlier release wrote it, with all it remembers.
    assert json.loads(tick_in_dagster(ticking, ticking.cursors["arrivals"]).cursor).keys() == {"memory", "digest"}

    day = ticking.market.partitions.sessions_of_week(ticking.project.weeks[8])[0]
    ticking.write(day, bars_of(ticking, day).with_columns(volume=pl.col("volume") + 1.0))
    asking = tick_in_dagster(ticking, first.cursor)
    assert len(asking.run_requests) == 1 and asking.cursor != first.cursor
    # A daemon that died after the tick had remembered, and before its cursor was saved, asks for the same run.
    died = tick_in_dagster(ticking, first.cursor)
    assert [each.run_key for each in died.run_requests] == [each.run_key for each in asking.run_requests]
    # Memory that is gone, or another one in its place.
    for text in ("", "{}"):
        place = json.loads(first.cursor)["memory"]
        key = f"hf_pipelines/None/{ticking.market.name}_arrivals/memory/{place}"
        assert instance.daemon_cursor_storage.get_cursor_values({key})
        instance.daemon_cursor_storage.set_cursor_values({key: text})
        lost = tick_in_dagster(ticking, first.cursor)
        assert [each.run_key for each in lost.run_requests] == [each.run_key for each in asking.run_requests]


def now() -> datetime:
    """For ticks that wait: the instant of what is stored is that of the clock."""
    return datetime.now(UTC)


STAGES = [f"ranking/{stage}" for stage in RETRAINED]


class Interleaved:
    """A model that serves a week, a past session revised, and then a new day of the week, before features follow."""

    def __init__(self, ticking: Ticking, *, week: int, day: int) -> None:
        self.ticking, self.store = ticking, ticking.project.store
        weeks, partitions = ticking.project.weeks, ticking.market.partitions
        self.week, self.past = weeks[week], weeks[week - 3]
        self.days = [f"{each}" for each in partitions.sessions_of_week(self.week)]
        self.following = weeks[week - 3 : week]
        kept = {each: bars_of(ticking, each) for each in self.days}
        gone = [f"{each}" for key in weeks[week:] for each in partitions.sessions_of_week(key)]
        for each in gone:
            ticking.write(each, None)
        for asset in (BARS, FEATURES):
            for key in weeks[week:]:
                self.store.objects.delete(f"{asset}/{key}.parquet")
        assert asked(ticking.follows(now())) == [(STAGES, self.week)]
        self.before = self.model()
        for each in self.days[:day]:
            ticking.write(each, kept[each])
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], self.week)]
        assert asked(ticking.follows(now())) == [(ISSUED, ",".join(self.days[:day]))]
        revised = partitions.sessions_of_week(self.past)[0]
        ticking.write(revised, bars_of(ticking, revised).with_columns(pl.col("open", "high", "low", "close") * 1.01))
        # The weeks after it are judged by its bars; none of them changes.
        assert asked(ticking.arrivals()) == [([BARS], ",".join(weeks[week - 3 : week + 1]))]
        self.day = self.days[day]
        ticking.write(self.day, kept[self.day], age_s=30.0)
        assert asked(ticking.arrivals()) == [([BARS, FEATURES], self.week)]

    def model(self) -> str:
        return self.store.footer("ranking/fitted_model", self.week).content_hash

    def issued_by(self) -> set[str]:
        return set(self.store.read("ranking/signals", self.day).frame["model_version"])


def test_signals_of_a_new_day_wait_for_the_model_that_a_revised_past_session_is_about_to_change(ticking):
    found = Interleaved(ticking, week=17, day=2)
    tick = ticking.follows(now())
    assert asked(tick) == []
    assert tick.notes[0].startswith(
        f"no model of week {found.week} yet: signals wait for it: {FEATURES} {found.following[0]} is out of date: input "
    )
    assert asked(ticking.arrivals()) == [([FEATURES], ",".join(found.following))]
    assert asked(ticking.follows(now())) == [(STAGES, found.week)]
    assert asked(ticking.follows(now())) == [(ISSUED, found.day)]
    assert found.issued_by() == {found.model()} != {found.before}
    assert asked(ticking.follows(now())) == []


def test_signals_of_a_week_s_last_day_wait_for_its_model_though_the_next_week_has_begun_by_the_data(ticking):
    found = Interleaved(ticking, week=16, day=4)
    assert newest_week(ticking.plan, found.store) == ticking.project.weeks[17]
    assert asked(ticking.follows(now())) == []
    assert asked(ticking.arrivals()) == [([FEATURES], ",".join(found.following))]
    assert asked(ticking.follows(now())) == [(STAGES, found.week)]
    # The signals of the day that was waited for do not wait for the model of the week that begins too.
    assert asked(ticking.follows(now())) == [(ISSUED, found.day), (STAGES, ticking.project.weeks[17])]
    assert found.issued_by() == {found.model()} != {found.before}


def test_signals_do_not_wait_for_features_that_failed(ticking, registry):
    found = Interleaved(ticking, week=17, day=2)
    sound = registry["quick_roc_2"]

    def break_down(*_: object) -> None:
        raise ValueError("a fault of the feature")

    registry["quick_roc_2"] = replace(sound, compute=break_down)
    ticking.project.reload()
    assert asked(ticking.arrivals()) == [([FEATURES], ",".join(found.following))]
    registry["quick_roc_2"] = sound
    ticking.project.reload()
    # For half a minute Dagster may still say that it executes the run again.
    tick = ticking.follows(now() + timedelta(minutes=1))
    assert asked(tick) == [(ISSUED, found.day)]
    assert f"{FEATURES} {found.following[0]} is out of date" in tick.notes[0]
    assert found.issued_by() == {found.before}


def test_signals_do_not_wait_for_features_that_nobody_makes_longer_than_an_hour(ticking):
    found = Interleaved(ticking, week=17, day=2)
    assert asked(ticking.follows(now() + timedelta(minutes=58))) == []
    assert asked(ticking.follows(now() + timedelta(minutes=61))) == [(ISSUED, found.day)]
    assert found.issued_by() == {found.before}


def test_signals_do_not_wait_for_a_model_whose_retraining_failed(ticking):
    found = Interleaved(ticking, week=17, day=2)
    assert asked(ticking.arrivals()) == [([FEATURES], ",".join(found.following))]
    strategies = ticking.project.strategies
    # No matrix has as many rows.
    greedy = {**strategies[0], "training": {**strategies[0]["training"], "minimum_rows": 10**6}}
    ticking.project.rewrite(strategies=[greedy])
    assert asked(ticking.follows(now())) == [(STAGES, found.week)]
    ticking.project.rewrite(strategies=strategies)
    assert asked(ticking.follows(now())) == []
    tick = ticking.follows(now() + timedelta(minutes=1))
    assert asked(tick) == [(ISSUED, found.day)]
    assert "its run failed; see it, or retrain it" in tick.notes[0]
    assert found.issued_by() == {found.before}


def test_latest_that_was_deleted_swapped_or_follows_a_planted_issue_is_written_again_by_the_next_tick(ticking):
    store, plan, week = ticking.project.store, ticking.plan, ticking.project.weeks[-1]
    signals, stamp = plan.asset("signals"), Stamp("1", "r", "2030-01-01T00:00:00+00:00")
    model = store.publish(plan.asset("fitted_model"), week, Content(pl.DataFrame({"a": [1]})), stamp).footer
    issue = pl.DataFrame({"model_version": [model.content_hash], "issue_kind": ["backfill"]})
    inputs = {plan.asset("fitted_model"): {week: model.content_hash}}
    content = Content(issue, inputs=inputs, facts={"schema_version": 1})
    first, last = (str(day) for day in ticking.market.partitions.sessions_of_week(week)[-2:])
    for day in (first, last, "2099-01-01", str(date.fromisoformat(first) - timedelta(days=7 + 4))):
        store.publish(signals, day, content, stamp, kind="signals")
    for damage in (None, b"{}", b'{"day": "2099-01-01"}'):
        if damage is not None:
            store.objects.put(f"{signals}/latest.json", damage)
        note = ticking.follows(run=False).notes[-1]
        assert note == f"latest.json of {signals} was written again: it did not name the newest issue"
        assert json.loads(store.objects.get(f"{signals}/latest.json"))["day"] == last
        assert not any("latest.json" in each for each in ticking.follows(run=False).notes)
    # What is gone is told, and no older issue takes its place.
    store.objects.delete(store.key(signals, last))
    assert ticking.follows(run=False).notes[-1] == f"the issue of {signals} {last} is gone: put it back from a backup"
    assert json.loads(store.objects.get(f"{signals}/latest.json"))["day"] == last
