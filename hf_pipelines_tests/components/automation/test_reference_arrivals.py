"""Files of reference tables that land before, after and without bars, and what is asked for them."""

import os
import shutil
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.partitions import parse_key
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, session_bars, sessions_from
from hf_pipelines_tests.sample_references import table_of
from hf_pipelines_tests.ticking import Ticking, asked

BARS, TRADES = "small/bars", "small/insider_trades"
INSIDERS, PRICES = "small/features/alternative", "small/features/technical"
N_WEEKS = 8


@pytest.fixture(scope="module")
def history(tmp_path_factory, mlflow_template) -> Project:
    """Eight weeks of two symbols, with one trade each Wednesday: of 100 shares bought by an insider of S000."""
    folder = tmp_path_factory.mktemp("insiders")
    sessions = sessions_from(FIRST_SESSION, N_WEEKS)
    table = {"table": "insider_trades", "source": {"type": "files", "uri": str(folder / "trades")}}
    market = files_market(
        folder / "source",
        session_bars(sessions, symbols=2, seed=3),
        features=["alternative/insider_net_buys_90", "technical/roc_5"],
        references=[table],
    )
    project = Project(folder / "project", market, mlflow_template=mlflow_template)
    (folder / "trades").mkdir()
    for week in project.weeks:
        _trade(folder / "trades", parse_key(week) + timedelta(days=3))
    project.make([BARS, TRADES], project.weeks[0], project.weeks[-1])
    project.make([INSIDERS, PRICES], project.weeks[0], project.weeks[-1])
    return project


@pytest.fixture
def ticking(history, tmp_path) -> Ticking:
    folder = tmp_path / "copy"
    project = history.copy(folder)
    for name in ("source", "trades"):
        shutil.copytree(history.folder.parent / name, tmp_path / name)
    (table,) = project.market["references"]
    moved = {**table, "source": {"type": "files", "uri": str(tmp_path / "trades")}}
    source = {"type": "files", "uri": str(tmp_path / "source")}
    project.rewrite({**project.market, "source": source, "references": [moved]})
    found = Ticking(project, tmp_path / "source")
    assert asked(found.arrivals()) == []
    return found


def _trade(folder, day: date, *, n: int = 1, suffix: str = "", symbol: str = "S000", at: date | None = None) -> None:
    """File of a day: `n` purchases that became known then."""
    rows = [
        {"symbol": symbol, "event_time": day, "available_at": at or day, "trade_id": f"{day}{suffix}{number}",
         "shares": 100.0, "price": 10.0, "value": 1000.0}
        for number in range(n)
    ]  # fmt: skip
    path = folder / f"{day}{suffix}.parquet"
    table_of("insider_trades", rows).write_parquet(path)
    os.utime(path, (time.time() - 60, time.time() - 60))


def _buys(ticking: Ticking, week: str) -> list[float]:
    """Net buys of S000 in 90 days on each session of a week."""
    frame = ticking.project.store.read(INSIDERS, week).frame
    return frame.filter(pl.col("symbol") == "S000")["insider_net_buys_90"].to_list()


def test_trades_of_a_saturday_reach_the_features_of_the_sessions_after_it_alone(ticking):
    weeks, trades = ticking.project.weeks, ticking.source.parent / "trades"
    before = ticking.project.hashes(INSIDERS)
    assert _buys(ticking, weeks[4]) == [4.0, 4.0, 4.0, 5.0, 5.0]

    _trade(trades, parse_key(weeks[3]) + timedelta(days=6), n=2)
    assert asked(ticking.arrivals()) == [([TRADES], weeks[3])]
    # Features of prices read no trades; those of the week itself are looked at, and stay as they were.
    assert asked(ticking.arrivals()) == [([INSIDERS], ",".join(weeks[3:]))]
    assert asked(ticking.arrivals()) == []

    assert _buys(ticking, weeks[4]) == [6.0, 6.0, 6.0, 7.0, 7.0]
    after = ticking.project.hashes(INSIDERS)
    assert {week for week in weeks if before[week] != after[week]} == {*weeks[4:]}


def test_trades_revised_removed_and_added_in_several_weeks_are_asked_for_together(ticking):
    weeks, trades = ticking.project.weeks, ticking.source.parent / "trades"
    wednesdays = [parse_key(week) + timedelta(days=3) for week in weeks]
    _trade(trades, wednesdays[1], n=3)
    _trade(trades, wednesdays[5], n=1, suffix="-late", symbol="S001")
    assert asked(ticking.arrivals()) == [([TRADES], f"{weeks[1]},{weeks[5]}")]
    assert asked(ticking.arrivals()) == [([INSIDERS], ",".join(weeks[1:]))]
    assert asked(ticking.arrivals()) == []
    assert _buys(ticking, weeks[7])[-1] == 8.0 + 2.0

    (trades / f"{wednesdays[5]}-late.parquet").unlink()
    gone = ticking.arrivals()
    assert asked(gone) == []
    assert gone.notes == (f"files of {TRADES} {weeks[5]} are gone, it stays as it is: {wednesdays[5]}-late.parquet",)


def test_broken_trades_fail_their_week_alone_and_are_taken_when_mended(ticking):
    weeks, trades = ticking.project.weeks, ticking.source.parent / "trades"
    broken, sound = (parse_key(week) + timedelta(days=4) for week in (weeks[2], weeks[6]))
    # The row became available in another week than its file's name says.
    _trade(trades, broken, at=broken + timedelta(days=20))
    _trade(trades, sound)
    assert asked(ticking.arrivals()) == [([TRADES], f"{weeks[2]},{weeks[6]}")]
    alone = ticking.arrivals()
    assert asked(alone) == [([TRADES], weeks[2])]
    assert asked(ticking.arrivals()) == [([INSIDERS], f"{weeks[6]},{weeks[7]}")]
    idle = ticking.arrivals()
    assert asked(idle) == []
    runs = ticking.project.instance.get_runs(limit=3)
    assert [run.status.value for run in runs] == ["SUCCESS", "FAILURE", "FAILURE"]
    told = ticking.project.instance.get_records_for_run(runs[1].run_id).records
    assert any(f"`available_at` must lie in the week {weeks[2]}" in str(each.event_log_entry) for each in told)

    _trade(trades, broken)
    assert asked(ticking.arrivals()) == [([TRADES], weeks[2])]
    assert asked(ticking.arrivals()) == [([INSIDERS], ",".join(weeks[2:]))]
    assert _buys(ticking, weeks[7])[-1] == 8.0 + 2.0


def test_trades_of_a_day_to_come_wait_for_it_and_those_outside_the_market_are_left_alone(ticking):
    weeks, trades = ticking.project.weeks, ticking.source.parent / "trades"
    friday = parse_key(weeks[-1]) + timedelta(days=5)
    noon = datetime(friday.year, friday.month, friday.day, 12, tzinfo=UTC)
    for day in (parse_key(weeks[0]) - timedelta(days=2), parse_key(weeks[-1]) + timedelta(days=9)):
        _trade(trades, day)
    _trade(trades, friday)
    assert asked(ticking.arrivals(noon - timedelta(days=1))) == []
    assert asked(ticking.arrivals(noon)) == [([TRADES], weeks[-1])]


def test_trades_that_come_before_any_bars_of_their_week_are_stored_and_taken_with_the_bars(ticking):
    weeks, store, trades = ticking.project.weeks, ticking.project.store, ticking.source.parent / "trades"
    newest = weeks[-1]
    days = ticking.market.partitions.sessions_of_week(newest)
    kept = {day: pl.read_parquet(ticking.source / f"{day}.parquet") for day in days}
    for day in days:
        ticking.write(day, None)
    for asset in (BARS, TRADES, INSIDERS, PRICES):
        store.objects.delete(f"{asset}/{newest}.parquet")
    ticking.cursors["arrivals"] = None

    assert asked(ticking.arrivals()) == [([TRADES], newest)]
    assert asked(ticking.arrivals()) == []
    _trade(trades, days[0], suffix="-second")
    for day, frame in kept.items():
        ticking.write(day, frame)
    assert asked(ticking.arrivals()) == [([BARS, TRADES, INSIDERS, PRICES], newest)]
    assert asked(ticking.arrivals()) == []
    assert np.diff([7.0, *_buys(ticking, newest)]).sum() == 2.0
