"""A market's bars through Dagster: published, quarantined, refused, late, and what the checks say of it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from pydantic import ValidationError

import hf_pipelines.defs
from hf_pipelines.components.automation.arrivals import Arrivals
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.market import (
    CalendarOverride,
    Market,
    RowOverride,
    UniverseMember,
)
from hf_pipelines.components.market_stages import MarketPlan, code_versions
from hf_pipelines.components.market_stages.bars import bars_stage
from hf_pipelines.components.market_stages.bars_content import bars_content
from hf_pipelines.components.market_stages.bars_files import BarsFiles, check_file
from hf_pipelines.components.market_stages.settled_bars import settle
from hf_pipelines.components.run_tags import WANTED_TAG, expanded
from hf_pipelines.components.stage_asset import build_asset, build_currency_check
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.partitions import week_key
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.http import HttpSpec
from hf_pipelines.resources.market_data.source_entry import FolderSpec
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StoredPartitionError

MEMBERS = ("AAA", "BBB", "CCC", "DDD", "EEE")
BENCHMARK = "^IDX"
AFTER = "2013-03-09T12:00:00+00:00"

# Monday 2013-02-18 is a holiday.
WEEKS = ["2013-02-17", "2013-02-24", "2013-03-03"]


@dataclass
class SmallMarket:
    """Five members and a benchmark over three weeks, fed from session files in a folder."""

    folder: Path
    market: MarketPlan

    @property
    def store(self) -> PartitionStore:
        return self.storage.store()

    @property
    def storage(self) -> Storage:
        return Storage(uri=str(self.folder / "store"))

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.ephemeral()

    def arrive(self, bars: pl.DataFrame, *, suffix: str = ".parquet") -> None:
        """Lay out one file a session."""
        for (day,), of_day in bars.partition_by("session", as_dict=True).items():
            of_day.write_parquet(self.folder / "source" / f"{day}{suffix}")

    def run(self, first: str, last: str | None = None, *, now: str = AFTER) -> dg.ExecuteInProcessResult:
        return self._execute(partition_key=None if last else first, tags=_range_tags(first, last), now=now)

    def check_only(self) -> dg.AssetCheckEvaluation:
        """The check `is_current` alone, over all that is stored."""
        key = dg.AssetCheckKey(dg.AssetKey(["small", "bars"]), "is_current")
        result = self._execute(selection=dg.AssetSelection.checks(key), now=AFTER)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    def _execute(self, *, now: str, **options: Any) -> dg.ExecuteInProcessResult:
        stage = bars_stage(self.market)
        return dg.materialize(
            [build_asset(stage), build_currency_check(stage, code_versions(self.market))],
            resources={"io_manager": ParquetIOManager(storage=self.storage), "clock": Clock(fixed=now)},
            instance=self.instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            **options,
        )

    def bars(self, week: str) -> pl.DataFrame:
        return self.store.read("small/bars", week).frame

    def tick(self, now: datetime = datetime(2013, 3, 9, 12, tzinfo=UTC)) -> list[dg.RunRequest]:
        """What the sensor asks for, with a cursor that was lost."""
        history = RunHistory(self.instance, now)
        return Arrivals(self.market, self.store, history, now).tick(None).requests

    def recorded(self) -> set[str]:
        """Weeks that Dagster holds as materialised."""
        return self.instance.get_materialized_partitions(dg.AssetKey(["small", "bars"]))


def _range_tags(first: str, last: str | None) -> dict[str, str]:
    if last is None:
        return {}
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def build_market(folder: Path, **attributes: Any) -> MarketPlan:
    fields: dict[str, Any] = {
        "name": "small",
        "universe": [UniverseMember(symbol=symbol) for symbol in MEMBERS],
        "benchmark": BENCHMARK,
        "calendar": "XNYS",
        "timezone": "America/New_York",
        "source": FolderSpec(type="files", uri=str(folder / "source")),
        "start": "2013-02-19",
        "end": "2013-03-08",
        "features": [],
    }
    return Market(**fields | attributes).plan


@pytest.fixture
def small(tmp_path: Path) -> SmallMarket:
    return small_market(tmp_path)


def small_market(folder: Path, **attributes: Any) -> SmallMarket:
    (folder / "source").mkdir()
    return SmallMarket(folder, build_market(folder, **attributes))


def session_bars(weeks: Iterable[str] = WEEKS, symbols: Iterable[str] = (*MEMBERS, BENCHMARK)) -> pl.DataFrame:
    """Sound bars; symbol number i closes at 10 x (i + 1) plus the day of the month."""
    partitions = build_market(Path("/nowhere")).partitions
    rows = []
    for day in (day for week in weeks for day in partitions.sessions_of_week(week)):
        for number, symbol in enumerate(symbols):
            close = 10.0 * (number + 1) + (day - date(2013, 1, 31)).days
            rows.append((symbol, day, partitions.hours[day][1], close, close + 1, close - 1, close, 1000.0, 1.0, 0.0))
    return pl.DataFrame(rows, schema=SOURCE_SCHEMA, orient="row")


def of(symbol: str, day: date) -> pl.Expr:
    return (pl.col("symbol") == symbol) & (pl.col("session") == day)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    error = failed.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    return error.message


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    made = [event.materialization for event in result.get_asset_materialization_events()]
    return {each.partition: {name: value.value for name, value in each.metadata.items()} for each in made}


# --- sound weeks


def test_bars_of_one_week_are_published_with_roles_and_metadata(small):
    small.arrive(session_bars())
    result = small.run("2013-02-24")
    assert result.success
    assert {name: each.passed for name, each in checks(result).items()} == {
        "no_faulty_rows": True,
        "events_in_place": True,
        "complete": True,
        "fresh_prices": True,
        "no_stray_files": True,
        "no_suspect_rows": True,
        "is_current": True,
    }
    bars = small.bars("2013-02-24")
    assert bars.drop("role").equals(session_bars(["2013-02-24"]).sort("symbol", "ts"))
    assert bars.filter(pl.col("role") == "reference")["symbol"].unique().to_list() == [BENCHMARK]
    assert bars.filter(pl.col("role") == "member")["symbol"].unique().sort().to_list() == list(MEMBERS)
    noted = metadata(result)["2013-02-24"]
    assert (noted["rows"], noted["symbols"], noted["sessions"], noted["members_per_session"]) == (30, 6, 5, 5.0)
    assert (noted["quarantined"], noted["missing"], noted["outcome"]) == (0, 0, "new")
    assert noted["content_hash"].replace(" ", "") == small.store.footer("small/bars", "2013-02-24").content_hash
    assert small.recorded() == {"2013-02-24"}
    assert small.store.partitions("small/bars") == ["2013-02-24"]


def test_bars_of_a_range_have_the_hashes_of_single_runs_and_their_own_metadata(small, tmp_path):
    small.arrive(session_bars())
    result = small.run(WEEKS[0], WEEKS[-1])
    assert result.success
    # Four sessions in the week of the holiday.
    assert {week: noted["rows"] for week, noted in metadata(result).items()} == dict(
        zip(WEEKS, (24, 30, 30), strict=True)
    )
    in_range = {week: small.store.footer("small/bars", week) for week in WEEKS}
    (tmp_path / "other").mkdir()
    alone = small_market(tmp_path / "other")
    alone.arrive(session_bars())
    for week in WEEKS:
        assert alone.run(week).success
        footer = alone.store.footer("small/bars", week)
        assert (footer.content_hash, footer.session_hashes) == (
            in_range[week].content_hash,
            in_range[week].session_hashes,
        )
        assert footer.sources == in_range[week].sources
    assert sorted(in_range["2013-02-17"].sources) == [f"2013-02-{day}.parquet" for day in (19, 20, 21, 22)]


def test_bars_of_a_range_then_an_identical_single_run_leave_nothing_out_of_date(small):
    small.arrive(session_bars())
    small.run(WEEKS[0], WEEKS[-1])
    again = small.run("2013-02-24")
    assert metadata(again)["2013-02-24"]["outcome"] == "unchanged"
    assert small.store.versions("small/bars", "2013-02-24") == []
    found = small.check_only()
    assert found.passed
    assert found.metadata["partitions"].value == 3


def test_bars_of_the_week_under_way_hold_the_closed_sessions_only(small):
    small.arrive(session_bars())
    # Wednesday 2013-02-27, an hour before the close.
    result = small.run("2013-02-24", now="2013-02-27T20:00:00+00:00")
    assert result.success
    assert small.bars("2013-02-24")["session"].unique().sort().to_list() == [date(2013, 2, 25), date(2013, 2, 26)]
    assert checks(result)["complete"].passed
    later = small.run("2013-02-24", now="2013-02-27T21:00:00+00:00")
    assert metadata(later)["2013-02-24"]["outcome"] == "changed"
    assert small.bars("2013-02-24")["session"].max() == date(2013, 2, 27)


def test_bars_before_the_first_close_of_the_week_say_so(small):
    small.arrive(session_bars())
    message = failure(small.run("2013-02-24", now="2013-02-25T12:00:00+00:00"))
    assert "`bars` must have a closed session in week 2013-02-24, had none yet" in message


# --- faulty rows


def test_bars_with_a_faulty_row_quarantine_it_and_publish_the_rest(small):
    day = date(2013, 2, 26)
    bars = session_bars().with_columns(volume=pl.when(of("BBB", day)).then(-1.0).otherwise(pl.col("volume")))
    small.arrive(bars)
    result = small.run("2013-02-24")
    assert result.success
    found = checks(result)
    assert not found["no_faulty_rows"].passed
    assert found["no_faulty_rows"].severity == dg.AssetCheckSeverity.ERROR
    assert "1 of 30 symbol-sessions: BBB 2013-02-26 negative volume" in found["no_faulty_rows"].description
    assert found["no_faulty_rows"].metadata["partitions_failed"].value == 1
    assert "; from 2013-02-26.parquet" in found["no_faulty_rows"].description
    linked = pl.read_csv(str(found["no_faulty_rows"].metadata["rows of 2013-02-24"].value))
    assert linked.select("symbol", "volume", "reason").rows() == [("BBB", -1.0, "negative volume")]
    noted = metadata(result)["2013-02-24"]
    assert noted["headline"] == "29 of 30 symbol-sessions are there; 1 quarantined" and "coverage" in noted
    # What a person reads first, then seconds, then what tells contents apart; no word is longer than its column.
    order = list(noted)
    assert order[0] == "headline" and order[-2:] == ["content_hash", "path"]
    assert order.index("rows") < order.index("compute_s") < order.index("content_hash")
    # What does not wrap pushes the values out of the page: 42 letters have room.
    assert max(len(word) for name in ("content_hash", "path") for word in re.split(r"[\s-]", noted[name])) <= 40
    expected = session_bars(["2013-02-24"]).filter(~of("BBB", day)).sort("symbol", "ts")
    assert small.bars("2013-02-24").drop("role").equals(expected)
    footer = small.store.footer("small/bars", "2013-02-24")
    assert footer.facts["quarantined"] == ["BBB 2013-02-26 negative volume"]
    kept = pl.read_csv(small.store.read_attachment(footer, "quarantine.csv"))
    assert kept.select("symbol", "session", "volume", "reason").rows() == [
        ("BBB", "2013-02-26", -1.0, "negative volume")
    ]
    assert metadata(result)["2013-02-24"]["quarantined"] == 1


def halved(symbol: str, since: date, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars with a 2:1 split of a symbol."""
    is_after = (pl.col("symbol") == symbol) & (pl.col("session") >= since)
    prices = (
        pl.when(is_after).then(pl.col(name) / 2.0).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    )
    return bars.with_columns(*prices, split_ratio=pl.when(of(symbol, since)).then(2.0).otherwise("split_ratio"))


def test_bars_with_an_event_on_a_faulty_row_of_a_friday_show_it_on_monday_alone_and_in_a_range(small, tmp_path):
    friday, monday = date(2013, 3, 1), date(2013, 3, 4)
    bars = halved("CCC", friday, session_bars())
    bars = bars.with_columns(volume=pl.when(of("CCC", friday)).then(-1.0).otherwise("volume"))
    small.arrive(bars)
    result = small.run(WEEKS[0], WEEKS[-1])
    assert result.success
    assert small.bars("2013-03-03").filter(of("CCC", monday))["split_ratio"].item() == 2.0
    footers = [small.store.footer("small/bars", week) for week in WEEKS]
    event = "CCC 2013-03-01 split 2 dividend 0"
    assert [each.facts["events"] for each in footers] == [
        [], [f"{event}: waits for the symbol's next bar"], [f"{event}: counts on 2013-03-04"],
    ]  # fmt: skip
    # Only the row itself is refused: the Monday is no missed split.
    assert [each.facts["quarantined"] for each in footers] == [[], ["CCC 2013-03-01 negative volume"], []]
    found = checks(result)["events_in_place"]
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN and event in found.description

    (tmp_path / "other").mkdir()
    alone = small_market(tmp_path / "other")
    for week in WEEKS:
        alone.arrive(bars.filter(pl.col("session").is_in(alone.market.partitions.sessions_of_week(week))))
        assert alone.run(week).success
    for week, expected in zip(WEEKS, footers, strict=True):
        one = alone.store.footer("small/bars", week)
        assert (one.content_hash, one.sources, one.facts) == (expected.content_hash, expected.sources, expected.facts)


def test_bars_after_an_event_on_a_saturday_in_a_table_of_the_week_show_it_on_monday(small):
    bars = halved("CCC", date(2013, 3, 4), session_bars()).with_columns(split_ratio=pl.lit(1.0))
    nothing = (pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low", "close", "volume"))
    stray = bars.filter(of("CCC", date(2013, 3, 1))).with_columns(*nothing, session=date(2013, 3, 2), split_ratio=2.0)
    partitions, now = small.market.partitions, datetime(2013, 3, 9, tzinfo=UTC)
    passed = {}
    for week in WEEKS:
        days = partitions.sessions_of_week(week)
        rows = pl.concat([bars.filter(pl.col("session").is_in(days)), stray.filter(pl.lit(week == WEEKS[1]))])
        file = SourceFile(week, "0", rows, tuple(days))
        passed[week] = [(file, check_file(small.market, file, now))]
    settled = settle(small.market, BarsFiles(passed, {}, {}, {}))
    assert settled.bars[WEEKS[2]].filter(of("CCC", date(2013, 3, 4)))["split_ratio"].item() == 2.0
    dates = small.market.week_dates(WEEKS[1], now)
    content = bars_content(small.market, dates, passed[WEEKS[1]], settled, settled.verdicts.clear())
    assert content.facts["quarantined"] == ["CCC 2013-03-02 event on a day without a session"]
    assert content.facts["events"] == ["CCC 2013-03-02 split 2 dividend 0: waits for the symbol's next bar"]


def test_dates_of_a_week_are_computed_once_and_passed_down(small, monkeypatch):
    small.arrive(session_bars())
    computed: list[str] = []

    def weeks_before(plan: MarketPlan, key: str, of: Any = MarketPlan.weeks_before) -> list[str]:
        computed.append(key)
        return of(plan, key)

    monkeypatch.setattr(MarketPlan, "weeks_before", weeks_before)
    run = StageRun(tuple(WEEKS), datetime(2013, 3, 9, tzinfo=UTC), log=None, store=small.store)
    assert set(bars_stage(small.market).compute(run, {}).contents) == {*WEEKS}
    assert sorted(computed) == sorted(WEEKS)


def in_pence(symbol: str, day: date) -> pl.DataFrame:
    prices = ("open", "high", "low", "close")
    bars = session_bars()
    return bars.with_columns(
        pl.when(of(symbol, day)).then(pl.col(name) * 100.0).otherwise(name).alias(name) for name in prices
    )


def test_bars_in_another_unit_than_the_weeks_before_are_quarantined_with_the_reason(small):
    # The first session of the week: the four of the week before and this Monday's bar are all that is known.
    small.arrive(in_pence("BBB", date(2013, 3, 4)))
    result = small.run("2013-03-03")
    assert result.success
    found = checks(result)
    assert not found["no_faulty_rows"].passed
    # Closes of BBB: 39 on 2013-02-19 to 49 on 2013-03-01, the median of nine sessions is 45, 100 x 52 is 115.6 times that.
    reason = "price 5200 is 115.6 times the usual 45: another unit"
    assert f"1 of 30 symbol-sessions: BBB 2013-03-04 {reason}" in found["no_faulty_rows"].description
    sound = session_bars(["2013-03-03"]).filter(~of("BBB", date(2013, 3, 4))).sort("symbol", "ts")
    assert small.bars("2013-03-03").drop("role").equals(sound)
    footer = small.store.footer("small/bars", "2013-03-03")
    kept = pl.read_csv(small.store.read_attachment(footer, "quarantine.csv"))
    assert kept.select("symbol", "session", "close", "reason").rows() == [("BBB", "2013-03-04", 5200.0, reason)]
    assert sorted(footer.sources)[0] == "2013-02-19.parquet"
    assert small.check_only().passed


def test_bars_that_are_suspect_pass_and_are_listed(small):
    day = date(2013, 3, 5)
    small.arrive(session_bars().with_columns(volume=pl.when(of("CCC", day)).then(1e5).otherwise(pl.col("volume"))))
    result = small.run("2013-03-03")
    found = checks(result)
    assert found["no_faulty_rows"].passed
    assert not found["no_suspect_rows"].passed
    assert found["no_suspect_rows"].severity == dg.AssetCheckSeverity.WARN
    assert "CCC 2013-03-05 volume_spike turnover is" in found["no_suspect_rows"].description
    assert small.bars("2013-03-03").height == 30


def test_bars_judged_by_the_weeks_before_are_the_same_alone_in_a_range_and_after_later_weeks(small, tmp_path):
    bars = in_pence("BBB", date(2013, 2, 28))
    small.arrive(bars)
    assert small.run(WEEKS[0], WEEKS[-1]).success
    (tmp_path / "other").mkdir()
    alone = small_market(tmp_path / "other")
    for week in WEEKS:
        # The files of later weeks have not come yet.
        alone.arrive(bars.filter(pl.col("session").is_in(alone.market.partitions.sessions_of_week(week))))
        assert alone.run(week).success
    for week in WEEKS:
        one, of_range = (each.store.footer("small/bars", week) for each in (alone, small))
        assert (one.content_hash, one.sources, one.facts) == (of_range.content_hash, of_range.sources, of_range.facts)
    assert "BBB 2013-02-28 price" in small.store.footer("small/bars", "2013-02-24").facts["quarantined"][0]


def test_arrivals_ask_for_the_later_weeks_that_were_judged_by_a_file_that_changed(small):
    small.arrive(session_bars())
    small.run(WEEKS[0], WEEKS[-1])
    assert small.tick() == []
    small.arrive(in_pence("BBB", date(2013, 2, 26)).filter(pl.col("session") == date(2013, 2, 26)))
    (request,) = small.tick()
    assert request.tags[WANTED_TAG] == "2013-02-24,2013-03-03"
    assert small.run("2013-02-24", "2013-03-03").success
    assert small.tick() == []


def test_bars_after_a_missed_split_heal_in_its_week_and_the_next_once_its_file_is_revised(small):
    day = date(2013, 3, 1)
    is_after = (pl.col("symbol") == "CCC") & (pl.col("session") >= day)
    quarter = {
        name: pl.when(is_after).then(pl.col(name) / 4.0).otherwise(name) for name in ("open", "high", "low", "close")
    }
    # Traded a fifth as much: with the units of before it would be a split alone, refused on its own session.
    bars = session_bars().with_columns(**quarter, volume=pl.when(is_after).then(200.0).otherwise(pl.col("volume")))
    small.arrive(bars)
    small.run(WEEKS[0], WEEKS[-1])

    def quarantined() -> list[int]:
        return [len(small.store.footer("small/bars", week).facts["quarantined"]) for week in WEEKS]

    # A quarter of the price, and a twentieth of the money traded: that Friday, and the five sessions after it.
    assert quarantined() == [0, 1, 5]
    found = small.store.footer("small/bars", "2013-03-03").facts["quarantined"]
    # CCC closed at 30 + 28 on February 28 and at (30 + 32) / 4 on March 4; the median of the nine closes before is 52.
    assert (
        found[0]
        == "CCC 2013-03-04 close 15.5 after 58 without an event, 0.06 times the usual turnover: another company"
    )
    mended = bars.with_columns(split_ratio=pl.when(of("CCC", day)).then(4.0).otherwise(1.0))
    small.arrive(mended.filter(pl.col("session") == day))
    (request,) = small.tick()
    assert request.tags[WANTED_TAG] == "2013-02-24,2013-03-03"
    result = small.run("2013-02-24", "2013-03-03")
    assert checks(result)["no_faulty_rows"].passed
    assert quarantined() == [0, 0, 0]
    assert small.bars("2013-03-03").drop("role").equals(bars.filter(pl.col("session") > day).sort("symbol", "ts"))
    assert small.tick() == []


def test_bars_of_a_week_are_made_though_a_file_of_an_earlier_week_is_gone(small):
    small.arrive(session_bars())
    small.run(WEEKS[0], WEEKS[-1])
    (small.folder / "source" / "2013-02-26.parquet").unlink()
    late = session_bars(["2013-03-03"]).filter(of("AAA", date(2013, 3, 5))).with_columns(symbol=pl.lit("ZZZ"))
    small.arrive(late, suffix="-late.parquet")
    (request,) = small.tick()
    assert request.partition_key == "2013-03-03"
    assert small.run("2013-03-03").success
    assert "must still hold 2013-02-26.parquet" in failure(small.run("2013-02-24"))
    assert small.tick() == []


def test_bars_that_arrive_for_the_first_time_are_asked_for_with_the_later_weeks_that_never_saw_them(small):
    small.arrive(session_bars(WEEKS[1:]))
    small.run(WEEKS[1], WEEKS[-1])
    assert small.tick() == []
    small.arrive(session_bars(WEEKS[:1]))
    (request,) = small.tick()
    assert expanded(request.tags[WANTED_TAG]) == tuple(WEEKS)
    assert small.run(WEEKS[0], WEEKS[-1]).success
    assert small.tick() == []


def test_bars_of_a_week_after_a_file_that_cannot_be_read_are_made_and_again_once_it_is_mended(small):
    small.arrive(session_bars())
    broken = small.folder / "source" / "2013-02-26.parquet"
    payload = broken.read_bytes()
    broken.write_bytes(b"no table")
    assert not small.run("2013-02-24").success
    assert small.run("2013-03-03").success
    assert small.check_only().passed
    broken.write_bytes(payload)
    assert not small.check_only().passed


def test_bars_of_two_files_with_the_same_symbol_session_quarantine_both_rows(small):
    small.arrive(session_bars())
    day = date(2013, 2, 26)
    small.arrive(session_bars(["2013-02-24"]).filter(of("BBB", day)).with_columns(close=46.5), suffix="-late.parquet")
    result = small.run("2013-02-24")
    found = checks(result)["no_faulty_rows"]
    # The file of the session, and the one that came after it.
    assert "1 of 30 symbol-sessions: BBB 2013-02-26 duplicate; from 2013-02-26" in found.description
    assert "2013-02-26-late.parquet" in found.description
    assert small.bars("2013-02-24").filter(of("BBB", day)).is_empty()
    assert small.bars("2013-02-24").height == 29
    footer = small.store.footer("small/bars", "2013-02-24")
    assert pl.read_csv(small.store.read_attachment(footer, "quarantine.csv"))["close"].sort().to_list() == [46.0, 46.5]
    assert "2013-02-26-late.parquet" in footer.sources


def test_bars_of_unknown_symbols_are_left_out_and_counted(small):
    small.arrive(session_bars(symbols=(*MEMBERS, BENCHMARK, "ZZZ")))
    result = small.run("2013-02-24")
    assert checks(result)["no_faulty_rows"].passed
    assert "ZZZ" not in small.bars("2013-02-24")["symbol"].unique().to_list()
    assert metadata(result)["2013-02-24"]["unknown_rows"] == 5


# --- refused files


def test_bars_with_a_refused_file_fail_its_week_and_publish_the_others(small):
    small.arrive(session_bars())
    bad = session_bars(["2013-02-24"]).filter(pl.col("session") == date(2013, 2, 27))
    small.arrive(bad.with_columns(pl.col("ts").dt.replace_time_zone(None), vwap=1.0))
    result = small.run(WEEKS[0], WEEKS[-1])
    message = failure(result)
    assert "small/bars was not published for 1 partition(s): correct" in message
    assert "2013-02-24: `bars` must follow the bars contract, 2013-02-27.parquet does not" in message
    assert "unknown columns vwap" in message
    assert "`ts` must be a timestamp with a time zone" in message
    assert small.store.partitions("small/bars") == ["2013-02-17", "2013-03-03"] == sorted(small.recorded())
    assert set(metadata(result)) == {"2013-02-17", "2013-03-03"}
    assert checks(result)["no_faulty_rows"].passed


def test_bars_with_a_refused_file_keep_the_week_that_was_published(small):
    small.arrive(session_bars())
    small.run("2013-02-24")
    before = small.store.footer("small/bars", "2013-02-24")
    (small.folder / "source" / "2013-02-27.parquet").write_bytes(b"not parquet")
    address = small.folder / "source" / "2013-02-27.parquet"
    assert f"2013-02-24: `{address}` must be a table of bars, was not: " in failure(small.run("2013-02-24"))
    assert small.store.footer("small/bars", "2013-02-24") == before


@pytest.mark.parametrize("symbol", ["../../x", "AAA\0", "A" * 300, "aaa"])
def test_bars_with_a_symbol_outside_the_allow_list_are_refused(small, symbol):
    bars = session_bars(["2013-02-24"])
    small.arrive(bars.with_columns(symbol=pl.when(pl.col("symbol") == "AAA").then(pl.lit(symbol)).otherwise("symbol")))
    message = failure(small.run("2013-02-24"))
    assert "symbols must match" in message
    assert repr(excerpt(symbol)) in message
    assert small.store.objects.all_keys() == []


def test_bars_above_the_faulty_share_are_refused(small):
    day = date(2013, 2, 26)
    is_bad = of("AAA", day) | of("BBB", day)
    small.arrive(session_bars().with_columns(close=pl.when(is_bad).then(float("nan")).otherwise("close")))
    # Two of the six symbol-sessions of that file.
    message = failure(small.run("2013-02-24"))
    assert "`bars` must have at most 20% faulty symbol-sessions, 2013-02-26.parquet has 2 of 6" in message
    small.market = build_market(small.folder, max_faulty_share=0.34)
    assert small.run("2013-02-24").success
    assert small.bars("2013-02-24").height == 28


# --- missing and stale


def test_bars_with_four_of_five_members_warn_with_numbers(small):
    small.arrive(session_bars().filter(~of("DDD", date(2013, 2, 28)), ~of(BENCHMARK, date(2013, 3, 1))))
    result = small.run("2013-02-24")
    assert result.success
    found = checks(result)["complete"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == "2013-02-24: missing: 2 of 30 symbol-sessions: DDD 2013-02-28, ^IDX 2013-03-01"
    assert metadata(result)["2013-02-24"]["missing"] == 2
    assert metadata(result)["2013-02-24"]["members_per_session"] == pytest.approx(24 / 5)


def test_bars_with_a_missing_session_warn_with_each_symbol(small):
    small.arrive(session_bars().filter(pl.col("session") != date(2013, 2, 26)))
    found = checks(small.run("2013-02-24"))["complete"]
    assert not found.passed
    assert "missing: 6 of 30 symbol-sessions: AAA 2013-02-26, BBB 2013-02-26" in found.description


def test_bars_of_a_member_are_expected_from_its_listing_to_its_end_only(tmp_path):
    universe = [
        *(UniverseMember(symbol=symbol) for symbol in MEMBERS[:3]),
        UniverseMember(symbol="DDD", since="2013-02-27"),
        UniverseMember(symbol="EEE", until="2013-02-25"),
    ]
    small = small_market(tmp_path, universe=universe)
    is_listed = (pl.col("symbol") != "DDD") | (pl.col("session") >= date(2013, 2, 27))
    is_alive = (pl.col("symbol") != "EEE") | (pl.col("session") <= date(2013, 2, 25))
    small.arrive(session_bars().filter(is_listed, is_alive))
    found = checks(small.run("2013-02-24"))["complete"]
    assert found.passed
    # Four symbols on five sessions, DDD on three, EEE on one.
    assert found.metadata["values_compared"].value == 24


def test_bars_that_repeat_themselves_warn_with_symbol_and_day(small):
    frozen = {
        name: pl.when(pl.col("symbol") == "CCC").then(50.0).otherwise(name) for name in ("open", "high", "low", "close")
    }
    small.arrive(session_bars().with_columns(**frozen))
    found = checks(small.run("2013-02-24"))["fresh_prices"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    # The week before had the same prices.
    named = ", ".join(f"CCC {day}" for day in ("2013-02-25", "2013-02-26", "2013-02-27", "2013-02-28", "2013-03-01"))
    assert found.description == f"2013-02-24: stale: 5 of 30 symbol-sessions: {named}"


def test_bars_of_a_market_that_starts_in_the_middle_of_a_week_lack_nothing_before_it(tmp_path):
    small = small_market(tmp_path, start="2013-02-21")
    small.arrive(session_bars(["2013-02-17"]).filter(pl.col("session") >= date(2013, 2, 21)))
    complete = checks(small.run("2013-02-17"))["complete"]
    # Five members and the benchmark on Thursday and Friday.
    assert complete.passed and complete.metadata["values_compared"].value == 12


# --- weeks without bars


def test_bars_of_a_folder_that_does_not_exist_name_it_and_not_its_files(small):
    (small.folder / "source").rmdir()
    message = failure(small.run(WEEKS[0], WEEKS[-1]))
    assert (
        f"`uri` of bars in small must be a folder that exists, was {small.folder / 'source'}; make the folder"
        in message
    )
    assert "correct `source` of the market" in message and message.count("must be a folder") == 1
    (small.folder / "source").mkdir()
    small.arrive(session_bars())
    assert small.run(WEEKS[0], WEEKS[-1]).success


def test_bars_of_a_week_without_files_fail_and_leave_the_others(small):
    small.arrive(session_bars(["2013-02-17", "2013-03-03"]))
    message = failure(small.run(WEEKS[0], WEEKS[-1]))
    looked_at = f"the source ({small.folder / 'source'})"
    assert f"2013-02-24: `bars` must have rows for the 5 sessions of week 2013-02-24, {looked_at} had none" in message
    assert "known_gaps" in message
    assert sorted(small.recorded()) == ["2013-02-17", "2013-03-03"]


def test_bars_of_a_known_gap_are_published_empty(tmp_path):
    small = small_market(tmp_path, known_gaps=["2013-02-24"])
    small.arrive(session_bars(["2013-02-17", "2013-03-03"]))
    result = small.run(WEEKS[0], WEEKS[-1])
    assert result.success
    gap = small.bars("2013-02-24")
    assert gap.is_empty()
    assert gap.schema == small.bars("2013-02-17").schema
    assert metadata(result)["2013-02-24"]["rows"] == 0
    # What is declared is no news: the week of all others is.
    assert checks(result)["complete"].passed
    assert small.tick() == []


# --- late files


def test_bars_after_a_late_file_are_out_of_date_then_changed_and_the_old_version_is_kept(small):
    is_late = pl.col("symbol").is_in(["DDD", "EEE"]) & (pl.col("session") == date(2013, 2, 26))
    small.arrive(session_bars().filter(~is_late))
    small.run(WEEKS[0], WEEKS[-1])
    old = small.store.footer("small/bars", "2013-02-24")
    after = small.store.footer("small/bars", "2013-03-03")
    assert small.check_only().passed

    small.arrive(session_bars().filter(is_late), suffix="-late.parquet")
    stale = small.check_only()
    assert not stale.passed
    assert stale.severity == dg.AssetCheckSeverity.WARN
    # The week after was judged by this one's bars, and its own stay as they are.
    assert stale.metadata["partitions_failed"].value == 2
    # Both weeks look at the file: that of its session, and the one after, whose rows are judged by those before.
    assert stale.description.splitlines() == [
        *(
            f"{week}: source files added, changed or gone: 2013-02-26-late.parquet"
            for week in ("2013-02-24", "2013-03-03")
        ),
        "hfp current small/bars names the commands that make it again",
    ]

    result = small.run("2013-02-24", "2013-03-03")
    assert metadata(result)["2013-02-24"]["outcome"] == "changed"
    assert metadata(result)["2013-03-03"]["content_hash"].replace(" ", "") == after.content_hash
    assert small.store.versions("small/bars", "2013-03-03") == []
    assert small.bars("2013-02-24").drop("role").equals(session_bars(["2013-02-24"]).sort("symbol", "ts"))
    assert small.store.versions("small/bars", "2013-02-24") == [old.content_hash]
    assert small.check_only().passed
    new = small.store.footer("small/bars", "2013-02-24")
    changed = [day for day in new.session_hashes if new.session_hashes[day] != old.session_hashes[day]]
    assert changed == ["2013-02-26"]


def test_bars_made_by_other_settings_are_out_of_date(small):
    small.arrive(session_bars())
    small.run("2013-02-24")
    small.market = build_market(small.folder, max_faulty_share=0.5)
    found = small.check_only()
    assert not found.passed
    assert "2013-02-24: made by code and settings" in found.description


def test_bars_edited_in_the_store_are_refused_by_name_and_healed_by_a_rerun(small):
    small.arrive(session_bars())
    small.run("2013-02-24")
    path = Path(small.store.objects.address("small/bars/2013-02-24.parquet"))
    payload = bytearray(path.read_bytes())
    payload[300] ^= 1
    path.write_bytes(payload)
    with pytest.raises(
        StoredPartitionError, match="`small/bars/2013-02-24.parquet` must be the file that was published"
    ):
        small.bars("2013-02-24")
    assert small.run("2013-02-24").success
    assert small.bars("2013-02-24").height == 30


# --- us_tech


@pytest.fixture(scope="module")
def us_tech() -> MarketPlan:
    path = Path(hf_pipelines.defs.__path__[0]) / "markets" / "us_tech" / "defs.yaml"
    return Market.resolve_from_yaml(yaml.safe_dump(yaml.safe_load(path.read_text())["attributes"])).plan


def test_bars_of_us_tech_in_the_week_of_apples_split_show_it(us_tech, tmp_path):
    stage = bars_stage(us_tech)
    storage = Storage(uri=str(tmp_path))
    result = dg.materialize(
        [build_asset(stage), build_currency_check(stage, code_versions(us_tech))],
        resources={"io_manager": ParquetIOManager(storage=storage), "clock": Clock(fixed=AFTER)},
        partition_key="2005-02-27",
        instance=dg.DagsterInstance.ephemeral(),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert all(each.passed for each in checks(result).values())
    bars = storage.store().read("us_tech/bars", "2005-02-27").frame
    split = bars.filter(pl.col("split_ratio") != 1.0)
    assert split.select("symbol", "session", "split_ratio", "close").rows() == [("AAPL", date(2005, 2, 28), 2.0, 44.86)]
    # FB was not listed, so nothing is missing; the index is the reference.
    roles = dict(bars.select("symbol", "role").unique().rows())
    assert roles == {"AAPL": "member", "GOOG": "member", "IBM": "member", "MSFT": "member", "SPX": "reference"}


def test_us_tech_has_partitions_for_its_first_and_last_session(us_tech):
    weeks = us_tech.partitions.weekly.get_partition_keys()
    assert week_key(date(2000, 3, 1)) == weeks[0]
    assert week_key(date(2013, 3, 1)) == weeks[-1]


# --- YAML


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        pytest.param({"name": "../../x"}, "`name` must match", id="name"),
        pytest.param({"name": "small\n"}, "`name` must match", id="name-newline"),
        pytest.param(
            {"universe": [UniverseMember(symbol="../../x")]},
            r"`universe` must hold symbols like .*'../../x'",
            id="symbol",
        ),
        pytest.param({"universe": []}, "`universe` must name at least one symbol, was empty", id="empty universe"),
        pytest.param({"benchmark": "AAA\n"}, "`universe` must hold symbols like", id="benchmark-newline"),
        pytest.param({"universe": [UniverseMember(symbol="A" * 300)]}, "`universe` must hold symbols like", id="300"),
        pytest.param(
            {"universe": [UniverseMember(symbol="AAA"), UniverseMember(symbol="AAA")]},
            "`universe` must hold each symbol once",
            id="twice",
        ),
        pytest.param(
            {"benchmark": "AAA"}, "`universe` must hold each symbol once and not the benchmark", id="benchmark"
        ),
        pytest.param({"start": "01.03.2000"}, "`start` must be a date YYYY-MM-DD", id="start"),
        pytest.param(
            {"known_gaps": ["2013-02-25"]}, "`known_gaps` must name weeks by their Sundays, was 2013-02-25", id="gap"
        ),
        pytest.param({"features": ["astrology"]}, "`features` must be among .*technical.*, was astrology", id="group"),
        pytest.param({"timeframe": "2h"}, "Input should be '1m', '5m', '1h' or '1d'", id="timeframe"),
        pytest.param(
            {
                "universe": [
                    UniverseMember(symbol="AAA", until="2013-02-25"),
                    UniverseMember(symbol="AAA", since="2013-02-25"),
                ]
            },
            "in spells that do not overlap, was with a repetition of AAA",
            id="spells-overlap",
        ),
        pytest.param(
            {"universe": [UniverseMember(symbol="AAA", since="2013-02-26", until="2013-02-25")]},
            "in spells that do not overlap, was with a repetition of AAA",
            id="spell-backwards",
        ),
        pytest.param(
            {
                "universe": [
                    UniverseMember(symbol="AAA", until="2013-02-25", sector="energy"),
                    UniverseMember(symbol="AAA", since="2013-02-26", sector="banks"),
                ]
            },
            "`universe` must give a symbol one `sector`",
            id="two-sectors",
        ),
        pytest.param({"volatility_index": "AAA"}, "was with a repetition of AAA", id="volatility-index-as-a-member"),
        pytest.param(
            {"source": HttpSpec(type="http", base_url="https://user:pw@host")},
            "`base_url` must hold no user, password",
            id="password-in-address",
        ),
        pytest.param(
            {"calendar": "24/7", "timezone": "Asia/Tokyo"},
            "`timezone` must be one in which Saturday's session has closed when Sunday begins, was Asia/Tokyo",
            id="week-begins-too-early",
        ),
        pytest.param(
            {"timezone": "Asia/Tokyo"},
            r"`timezone` must show the hours of XNYS, America/New_York, was Asia/Tokyo, .* write America/New_York\.",
            id="clock-of-another-exchange",
        ),
    ],
)
def test_market_with_a_bad_attribute_names_it(tmp_path, attributes, message):
    with pytest.raises(ValidationError, match=message):
        build_market(tmp_path, **attributes)


def test_market_with_spells_sectors_and_volatility_index_tells_each(tmp_path):
    market = build_market(
        tmp_path,
        universe=[
            UniverseMember(symbol="AAA", until="2013-02-20", sector="banks"),
            UniverseMember(symbol="BBB", sector="energy"),
            UniverseMember(symbol="AAA", since="2013-03-01", sector="banks"),
            UniverseMember(symbol="CCC"),
        ],
        volatility_index="^VIX",
    )
    start = date(2013, 2, 19)
    assert market.universe.membership.rows() == [
        ("AAA", start, date(2013, 2, 20)), ("BBB", start, None), ("AAA", date(2013, 3, 1), None), ("CCC", start, None)
    ]  # fmt: skip
    assert list(market.universe.members) == ["AAA", "BBB", "CCC"]
    assert market.universe.members["AAA"] == (start, None)
    assert market.universe.sectors == {"AAA": "banks", "BBB": "energy"}
    assert market.universe.roles == {
        "AAA": "member", "BBB": "member", "CCC": "member", BENCHMARK: "reference", "^VIX": "reference"
    }  # fmt: skip
    # Good Friday 2013 lies after the end but is known; the hurricane of 2012 lies before the start and never was planned.
    known = market.partitions
    assert known.planned_holidays_between(known.first_week, known.sessions[-1])[:2] == [
        date(2013, 2, 18),
        date(2013, 3, 29),
    ]


def test_bars_of_a_member_that_left_and_came_back_are_expected_in_its_spells_only(tmp_path):
    universe = [
        UniverseMember(symbol="AAA", until="2013-02-25"),
        UniverseMember(symbol="AAA", since="2013-03-01"),
        UniverseMember(symbol="BBB"),
    ]
    small = small_market(tmp_path, universe=universe)
    bars = session_bars(["2013-02-24"], ("AAA", "BBB", BENCHMARK))
    is_away = pl.col("session").is_between(date(2013, 2, 26), date(2013, 2, 28)) & (pl.col("symbol") == "AAA")
    small.arrive(bars.filter(~is_away))
    found = checks(small.run("2013-02-24"))["complete"]
    # AAA on Monday and on Friday, BBB and the benchmark on five sessions.
    assert (found.passed, found.metadata["values_compared"].value) == (True, 12)


@pytest.mark.parametrize(
    ("attributes", "periods"),
    [
        ({}, 252.0),
        ({"timeframe": "1h"}, 252.0 * 7),
        ({"timeframe": "1h", "bars_end": "open"}, 252.0 * 7),
        ({"timeframe": "5m"}, 252.0 * 78),
        ({"timeframe": "1m"}, 252.0 * 390),
        ({"calendar": "24/7", "timezone": "UTC"}, 365.0),
        ({"calendar": "24/7", "timezone": "UTC", "timeframe": "1h"}, 365.0 * 24),
        ({"calendar": "24/5", "timezone": "UTC"}, 261.0),
        # Without the break at noon: 244 sessions of four hours.
        ({"timeframe": "1m", "calendar": "XSHG", "timezone": "Asia/Shanghai"}, 244.0 * 240),
        ({"timeframe": "5m", "calendar": "XSHG", "timezone": "Asia/Shanghai"}, 11_712.0),
        ({"timeframe": "1h", "calendar": "XSHG", "timezone": "Asia/Shanghai"}, 1_220.0),
        ({"timeframe": "1h", "calendar": "XSHG", "timezone": "Asia/Shanghai", "bars_end": "open"}, 244.0 * 4),
        ({"periods_per_year": 250.0}, 250.0),
    ],
)
def test_market_periods_per_year_are_those_of_calendar_and_timeframe(tmp_path, attributes, periods):
    assert build_market(tmp_path, **attributes).bars_per_year == periods


def test_market_file_source_with_a_relative_folder_lies_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    market = build_market(tmp_path, source=FolderSpec(type="files", uri="arrivals"))
    (tmp_path / "arrivals").mkdir()
    (tmp_path / "arrivals" / "2013-02-25.csv").write_text("symbol\n")
    assert list(market.bars_manifest("2013-02-24", datetime(2013, 3, 4, tzinfo=UTC))) == ["2013-02-25.csv"]


def test_bars_footer_facts_are_plain_json(small):
    small.arrive(session_bars())
    small.run("2013-02-24")
    facts = small.store.footer("small/bars", "2013-02-24").facts
    assert json.loads(json.dumps(facts)) == facts
    noted = dict.fromkeys(("quarantined", "events", "missing", "stale", "suspect"), [])
    assert facts == {"expected": 30, **noted, "strays": [], "disputes": [], "unknown_rows": 0}


def test_a_file_of_a_day_that_is_no_session_is_named_with_its_events_and_its_week_made_once(small):
    small.arrive(session_bars(["2013-02-17"]))
    made = small.run("2013-02-17")
    assert checks(made)["no_stray_files"].passed
    # Washington's birthday, and a Saturday.
    for day, split in ((date(2013, 2, 18), 2.0), (date(2013, 2, 23), 1.0)):
        rows = session_bars(["2013-02-17"]).filter(pl.col("session") == date(2013, 2, 19))
        is_first = pl.col("symbol") == "AAA"
        stray = rows.with_columns(
            session=pl.lit(day), split_ratio=pl.when(is_first).then(split).otherwise(pl.col("split_ratio"))
        )
        stray.write_parquet(small.folder / "source" / f"{day}.parquet")
    now = datetime.fromisoformat(AFTER)
    listing = small.market.bars_manifest("2013-02-17", now)
    assert {"2013-02-18.parquet", "2013-02-23.parquet"} <= {*listing}
    found = checks(small.run("2013-02-17"))["no_stray_files"]
    assert not found.passed
    footer = small.store.footer("small/bars", "2013-02-17")
    assert footer.facts["strays"] == [
        "2013-02-18.parquet: Monday 2013-02-18 is no session of XNYS; 6 rows, events: AAA split 2 dividend 0",
        "2013-02-23.parquet: Saturday 2013-02-23 is no session of XNYS; 6 rows, events: none",
    ]
    # Named once: what was named is no news, and rows of such days are none of the bars.
    assert dict(footer.sources) == dict(small.market.bars_manifest("2013-02-17", now))
    assert small.store.read("small/bars", "2013-02-17").frame["session"].min() == date(2013, 2, 19)
    # It may go again, unlike a file that bars were made from.
    (small.folder / "source" / "2013-02-18.parquet").unlink()
    assert small.run("2013-02-17").success
    assert len(small.store.footer("small/bars", "2013-02-17").facts["strays"]) == 1


def test_events_in_files_of_days_without_a_session_count_on_the_next_bar_and_copies_tell_nothing(small, tmp_path):
    friday, saturday, monday = date(2013, 2, 22), date(2013, 2, 23), date(2013, 2, 25)
    halved = (pl.col("symbol") == "AAA") & (pl.col("session") >= monday)
    has_event = of("BBB", friday)
    bars = session_bars().with_columns(
        *(pl.when(halved).then(pl.col(name) / 2.0).otherwise(name) for name in ("open", "high", "low", "close")),
        dividend=pl.when(has_event).then(0.5).otherwise("dividend"),
    )
    small.arrive(bars)
    # AAA has split on the Saturday; the other rows are those of Friday once more, BBB's dividend among them.
    copied = bars.filter(pl.col("session") == friday).with_columns(
        session=pl.lit(saturday), ts=pl.col("ts") + timedelta(days=1),
        split_ratio=pl.when(pl.col("symbol") == "AAA").then(2.0).otherwise("split_ratio"),
    )  # fmt: skip
    copied.write_parquet(small.folder / "source" / f"{saturday}.parquet")
    assert small.run(WEEKS[0], WEEKS[-1]).success
    events = pl.concat([small.bars(week) for week in WEEKS]).filter(
        (pl.col("split_ratio") != 1.0) | (pl.col("dividend") != 0.0)
    )
    assert events.select("symbol", "session", "split_ratio", "dividend").rows() == [
        ("BBB", friday, 1.0, 0.5),
        ("AAA", monday, 2.0, 0.0),
    ]
    footers = [small.store.footer("small/bars", week) for week in WEEKS]
    assert [each.facts["events"] for each in footers] == [
        ["AAA 2013-02-23 split 2 dividend 0: waits for the symbol's next bar"],
        ["AAA 2013-02-23 split 2 dividend 0: counts on 2013-02-25"],
        [],
    ]
    assert footers[0].facts["quarantined"] == ["AAA 2013-02-23 event on a day without a session"]
    assert [len(each.facts["strays"]) for each in footers] == [1, 0, 0]
    # The later weeks are judged by that file; nothing is asked for again.
    assert all("2013-02-23.parquet" in each.sources for each in footers)
    assert small.check_only().passed and small.tick() == []
    alone = {week: small.run(week).success and small.store.footer("small/bars", week).content_hash for week in WEEKS}
    assert alone == {week: each.content_hash for week, each in zip(WEEKS, footers, strict=True)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(pl.lit("two to one").alias("split_ratio"), "its rows cannot be read", id="text"),
        pytest.param(pl.concat_list("symbol").alias("symbol"), "its rows cannot be read", id="nested"),
        pytest.param(pl.lit(b"\xff").alias("symbol"), "its rows cannot be read", id="bytes"),
        pytest.param(pl.lit(None).alias("dividend"), "6 rows, events: AAA split 2 dividend nan", id="nothing"),
    ],
)
def test_a_stray_file_with_columns_of_other_types_is_named_and_stops_no_week(small, change, told):
    small.arrive(session_bars(["2013-02-17"]))
    rows = session_bars(["2013-02-17"]).filter(pl.col("session") == date(2013, 2, 22))
    rows = rows.with_columns(session=date(2013, 2, 23))
    is_split = pl.when(pl.col("symbol") == "AAA").then(2.0).otherwise("split_ratio").alias("split_ratio")
    rows.with_columns(is_split).with_columns(change).write_parquet(small.folder / "source" / "2013-02-23.parquet")
    found = small.run("2013-02-17")
    assert found.success, found
    assert small.store.footer("small/bars", "2013-02-17").facts["strays"] == [
        f"2013-02-23.parquet: Saturday 2013-02-23 is no session of XNYS; {told}"
    ]


def test_a_calendar_override_makes_its_own_week_anew_and_takes_the_stray_file_for_a_session(tmp_path):
    small = small_market(tmp_path)
    small.arrive(session_bars(WEEKS[:2]))
    saturday = date(2013, 3, 2)
    friday = session_bars(["2013-02-24"]).filter(pl.col("session") == date(2013, 3, 1))
    closes = datetime(2013, 3, 2, 18, tzinfo=UTC)
    ts = pl.lit(closes).cast(pl.Datetime("us", "UTC"))
    friday.with_columns(session=pl.lit(saturday), ts=ts).write_parquet(small.folder / "source" / f"{saturday}.parquet")
    small.run(WEEKS[0], WEEKS[1])
    assert len(small.store.footer("small/bars", "2013-02-24").facts["strays"]) == 1
    override = {"day": "2013-03-02", "open": "10:00", "close": "13:00", "announced": "2013-02-20"}
    opened = SmallMarket(tmp_path, build_market(tmp_path, calendar_overrides=[CalendarOverride(**override)]))
    now = datetime.fromisoformat(AFTER)
    versions = [code_versions(each.market)["small/bars"] for each in (small, opened)]
    assert versions[0] == versions[1]
    stored = {week: dict(small.store.footer("small/bars", week).sources) for week in WEEKS[:2]}
    assert [stored[week] == opened.market.bars_manifest(week, now) for week in WEEKS[:2]] == [True, False]
    opened.run("2013-02-24")
    footer = opened.store.footer("small/bars", "2013-02-24")
    assert footer.facts["strays"] == [] and "2013-03-02" in footer.session_hashes
    assert dict(footer.sources) == opened.market.bars_manifest("2013-02-24", now)
    assert opened.tick() == []
    # Nor does the sensor overlook that it is gone again.
    (asked,) = small.tick()
    assert asked.partition_key == "2013-02-24"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"day": "2013-03-02"}, "must say `closed: true`, or give `open` and `close`, was neither for 2013-03-02"),
        ({"day": "2013-03-02", "closed": True, "open": "10:00"}, "must say `closed: true`, or give"),
        (
            {"day": "2013-03-02", "open": "9:30", "close": "13:00"},
            '`open` and `close` must be times such as "09:15" in quotes, was .9:30.',
        ),
        ({"day": "2013-03-02", "open": "13:00", "close": "10:00"}, "`close` must be after `open` 13:00, was 10:00"),
        (
            {"day": "2013-03-02", "closed": True, "announced": "2013-03-03"},
            "`announced` must not be after `day` 2013-03-02, was 2013-03-03",
        ),
        ({"day": "2 March", "closed": True}, "`calendar_overrides` must be a date YYYY-MM-DD, was '2 March'"),
    ],
    ids=["nothing", "both", "time", "backwards", "afterwards", "day"],
)
def test_a_calendar_override_that_makes_no_sense_is_refused(override, message):
    with pytest.raises(ValidationError, match=message):
        CalendarOverride(**override)


# --- levels in dispute, and rows that a person has judged

LONG = {"start": "2012-11-26", "end": "2013-03-08"}


def stranger_bars(market: MarketPlan, first: date, last: date) -> pl.DataFrame:
    """Every symbol at 100; on some sessions AAA stands for a company at a fifth of the price with a 25th of the trade."""
    partitions = market.partitions
    rows = [
        (symbol, day, partitions.hours[day][1], 100.0, 101.0, 99.0, 100.5, 1000.0, 1.0, 0.0)
        for day in partitions.sessions_between(partitions.start, partitions.end)
        for symbol in (*MEMBERS, BENCHMARK)
    ]
    bars = pl.DataFrame(rows, schema=SOURCE_SCHEMA, orient="row")
    is_strange = (pl.col("symbol") == "AAA") & pl.col("session").is_between(first, last)
    columns = ("open", "high", "low", "close", "volume")
    return bars.with_columns(pl.when(is_strange).then(pl.col(name) / 5.0).otherwise(pl.col(name)) for name in columns)


def test_a_level_in_dispute_is_told_each_week_until_the_rows_are_named_and_the_sensor_makes_their_weeks(tmp_path):
    first, last = date(2013, 1, 9), date(2013, 2, 20)
    small = small_market(tmp_path, **LONG)
    small.arrive(stranger_bars(small.market, first, last))
    weeks = small.market.partitions.weeks_between(date(2012, 11, 26), date(2013, 3, 8))
    assert small.run(weeks[0], weeks[-1]).success
    in_range = {week: small.store.footer("small/bars", week) for week in weeks}
    suspect = {
        line.split()[1] for each in in_range.values() for line in each.facts["suspect"] if "disputed_level" in line
    }
    refused = {line.split()[1] for each in in_range.values() for line in each.facts["quarantined"]}
    strange = [str(day) for day in small.market.partitions.sessions_between(first, last)]
    assert (sorted(refused), sorted(suspect)) == (strange[:10], strange[10:])
    (tmp_path / "other").mkdir()
    alone = small_market(tmp_path / "other", **LONG)
    alone.arrive(stranger_bars(alone.market, first, last))
    assert alone.run(weeks[0], weeks[8]).success
    for week in weeks[9:13]:
        assert alone.run(week).success
        footer = alone.store.footer("small/bars", week)
        assert (footer.content_hash, footer.facts) == (in_range[week].content_hash, in_range[week].facts)
    # A person names the rows: the weeks that hold them or are judged by them are made anew, and no other.
    now = datetime(2013, 3, 9, 12, tzinfo=UTC)

    def asked(market: MarketPlan, cursor: str | None) -> tuple[set[str], str]:
        tick = Arrivals(market, small.store, RunHistory(small.instance, now), now).tick(cursor)
        return {week for each in tick.requests for week in expanded(each.tags[WANTED_TAG])}, tick.cursor

    wanted, cursor = asked(small.market, None)
    assert wanted == set()
    override = RowOverride(symbol="AAA", verdict="refused", since=str(first), until=str(last))
    named = SmallMarket(tmp_path, build_market(tmp_path, **LONG, row_overrides=[override]))
    assert code_versions(named.market) == code_versions(small.market)
    wanted, _ = asked(named.market, cursor)
    assert sorted(wanted) == [week for week in weeks if week >= "2013-01-06"]
    assert named.run("2013-01-06", weeks[-1]).success
    quarantined = {
        line.split()[1] for week in weeks for line in small.store.footer("small/bars", week).facts["quarantined"]
    }
    assert sorted(quarantined) == strange
    assert not any("disputed" in str(small.store.footer("small/bars", week).facts["suspect"]) for week in weeks)
    wanted, cursor = asked(named.market, cursor)
    assert wanted == set()
    # And once more when the name is taken back.
    wanted, _ = asked(small.market, cursor)
    assert sorted(wanted) == [week for week in weeks if week >= "2013-01-06"]
    assert small.run("2013-01-06", weeks[-1]).success
    assert {week: small.store.footer("small/bars", week).content_hash for week in weeks} == {
        week: each.content_hash for week, each in in_range.items()
    }
    assert asked(small.market, cursor)[0] == set()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"since": "2 March"}, "`row_overrides` must be a date YYYY-MM-DD, was '2 March'"),
        ({"until": "2013-02-18"}, "`until` must not be before `since` 2013-02-19, was 2013-02-18"),
        ({"verdict": "wrong"}, "Input should be 'refused' or 'accepted'"),
        ({"symbol": "ZZZ"}, "`row_overrides` must name symbols of the market, was ZZZ."),
        ({"symbol": "BBB", "since": "2013-02-21"}, "must name each row once, was with BBB on 2013-02-21 again"),
    ],
)
def test_a_row_override_that_makes_no_sense_is_refused(override, message):
    given = {"symbol": "AAA", "verdict": "refused", "since": "2013-02-19"}
    with pytest.raises(ValidationError, match=re.escape(message)):
        other = RowOverride(symbol="BBB", verdict="accepted", since="2013-02-19", until="2013-02-21")
        build_market(Path("/nowhere"), row_overrides=[other, RowOverride(**given | override)])
