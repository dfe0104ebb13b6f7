"""Reference tables through Dagster: weeks of rows become features of exactly the sessions that could know them."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.partitions import week_key
from hf_pipelines.research.features import compute_features
from hf_pipelines.research.sentiment import lexicon_scores, score_news
from hf_pipelines_tests.pipeline import TIMEZONE, Project, files_market, market_of, session_bars, sessions_from
from hf_pipelines_tests.sample_bars import REFERENCE
from hf_pipelines_tests.sample_references import random_references

TABLES = ("fundamentals", "insider_trades", "news")
FUNDAMENTAL = ["return_on_equity", "net_margin", "days_since_filing"]
NAMES = {
    "fundamental": FUNDAMENTAL,
    "alternative": ["insider_net_buys_90"],
    "sentiment": ["sentiment_positive", "article_volume"],
}
GROUPS = [f"small/features/{group}" for group in NAMES]
SESSIONS = sessions_from(date(2012, 1, 3), 26)
WEEKS = sorted({week_key(day) for day in SESSIONS})


def _market(folder: Path, tables: dict[str, pl.DataFrame], **attributes: Any) -> dict[str, Any]:
    for name, rows in tables.items():
        _write(folder / name, rows)
    return files_market(
        folder / "bars",
        session_bars(SESSIONS, symbols=3, seed=4),
        features=[f"{group}/{name}" for group, names in NAMES.items() for name in names],
        references=[{"table": name, "source": {"type": "files", "uri": str(folder / name)}} for name in tables],
        **attributes,
    )


def _write(folder: Path, rows: pl.DataFrame, suffix: str = "") -> None:
    """One file a day, named by the day on which its rows became available in the market's time zone."""
    folder.mkdir(parents=True, exist_ok=True)
    days = pl.col("available_at").dt.convert_time_zone(TIMEZONE).dt.date()
    for (day,), of_day in rows.with_columns(day=days).partition_by("day", as_dict=True, include_key=False).items():
        of_day.write_parquet(folder / f"{day}{suffix}.parquet")


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    # The random filings, without scores: those are read from the texts.
    found = random_references(["S000", "S001", "S002"], start=SESSIONS[0], end=SESSIONS[-1], seed=5)
    words = ["profit rises strongly", "loss widens, shares fall", "board meets on Tuesday"]
    texts = pl.Series(np.array(words)[np.arange(found["news"].height) % 3].tolist())
    news = found["news"].drop("positive", "negative", "neutral").with_columns(text=texts)
    return {"fundamentals": found["fundamentals"], "insider_trades": found["insider_trades"], "news": news}


@pytest.fixture(scope="module")
def project(tmp_path_factory, mlflow_template, tables) -> Project:
    folder = tmp_path_factory.mktemp("references")
    project = Project(folder, _market(folder / "source", tables), mlflow_template=mlflow_template)
    project.make(["small/bars", *(f"small/{name}" for name in TABLES)], WEEKS[0], WEEKS[-1])
    project.make(GROUPS, WEEKS[0], WEEKS[-1])
    return project


def test_features_of_stored_references_are_those_of_all_rows_that_the_market_s_weeks_hold(project, tables):
    begins = (
        pl.lit(date.fromisoformat(WEEKS[0]))
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone(TIMEZONE)
        .dt.convert_time_zone("UTC")
    )
    held = {name: rows.filter(pl.col("available_at") >= begins) for name, rows in tables.items()}
    held["news"] = score_news(held["news"], lexicon_scores)
    bars = pl.concat(project.store.read("small/bars", week).frame for week in WEEKS).sort("symbol", "ts")
    market = market_of(project.market)
    opens = {day: market.partitions.hours[day][0] for day in SESSIONS}
    names = [name for of_group in NAMES.values() for name in of_group]
    expected = compute_features(bars, names, opens=opens, references=held, benchmark=REFERENCE)
    for group, of_group in NAMES.items():
        stored = pl.concat(project.store.read(f"small/features/{group}", week).frame for week in WEEKS).sort(
            "symbol", "ts"
        )
        for name in of_group:
            np.testing.assert_array_equal(stored[name], expected[name], err_msg=name)
            assert stored[name].is_not_nan().sum() > 60, name


def test_restatement_changes_the_features_of_the_weeks_from_its_own_on_and_no_earlier_one(project, tmp_path, tables):
    copied = project.copy(tmp_path / "project")
    source = Path(
        next(each["source"]["uri"] for each in copied.market["references"] if each["table"] == "fundamentals")
    )
    filing = tables["fundamentals"].filter(
        (pl.col("symbol") == "S001") & (pl.col("available_at").dt.date() > SESSIONS[20])
    )[0]
    known = filing["available_at"][0]
    week = WEEKS[WEEKS.index(week_key(known.date())) + 2]
    restated = filing.with_columns(
        available_at=pl.col("available_at") + timedelta(days=14), net_income=pl.col("net_income") * 0.5
    )
    before = {key: copied.store.footer("small/features/fundamental", key).content_hash for key in WEEKS}
    _write(source, restated, suffix="-restated")
    try:
        (stale,) = copied.out_of_date("small/fundamentals").items()
        assert stale[0] == f"small/fundamentals {week}" and "-restated.parquet" in stale[1]
        copied.make("small/fundamentals", week)
        copied.make("small/features/fundamental", WEEKS[0], WEEKS[-1])
    finally:
        for path in source.glob("*-restated.parquet"):
            path.unlink()
    after = {key: copied.store.footer("small/features/fundamental", key).content_hash for key in WEEKS}
    changed = [key for key in WEEKS if after[key] != before[key]]
    assert changed and changed[0] == week
    first = copied.store.read("small/features/fundamental", week).frame.filter(pl.col("symbol") == "S001")
    stored = project.store.read("small/features/fundamental", week).frame.filter(pl.col("symbol") == "S001")
    differs = first["net_margin"].ne_missing(stored["net_margin"])
    opens = market_of(copied.market).partitions.hours
    assert [opens[day][0] > restated["available_at"][0] for day in first["session"]] == differs.to_list()


def test_reference_file_that_is_no_table_fails_its_week_by_name_and_the_others_are_published(
    tmp_path, mlflow_template, tables
):
    market = _market(tmp_path / "source", {"insider_trades": tables["insider_trades"]})
    market["features"] = ["alternative/insider_net_buys_90"]
    broken = sorted((tmp_path / "source" / "insider_trades").glob("2012-0[2-5]*.parquet"))[3]
    broken.write_bytes(b"half a file")
    wrong = sorted((tmp_path / "source" / "insider_trades").glob("2012-0[2-5]*.parquet"))[-1]
    pl.DataFrame({"symbol": ["S000"], "price": [1.0]}).write_parquet(wrong)
    project = Project(tmp_path, market, mlflow_template=mlflow_template)

    run = project.run("small/insider_trades", WEEKS[0], WEEKS[-1])
    assert not run.success
    assert broken.name in run.message
    assert f"`insider_trades` must follow its contract, {wrong.name} does not: missing columns" in run.message
    failed = {week_key(date.fromisoformat(path.stem[:10])) for path in (broken, wrong)}
    assert set(WEEKS) - set(project.store.partitions("small/insider_trades")) == failed

    project.make("small/bars", WEEKS[0], WEEKS[-1])
    last = project.run("small/features/alternative", WEEKS[-1])
    assert not last.success and "hfp materialise small/insider_trades" in last.message


def test_reference_table_whose_folder_does_not_exist_is_refused_and_one_that_is_empty_is_not(tmp_path, mlflow_template):
    market = _market(tmp_path / "source", {})
    lacking = {"table": "insider_trades", "source": {"type": "files", "uri": str(tmp_path / "tardes")}}
    market |= {"features": ["alternative/insider_net_buys_90"], "references": [lacking]}
    project = Project(tmp_path / "project", market, mlflow_template=mlflow_template)

    run = project.run("small/insider_trades", WEEKS[0])

    assert not run.success and project.store.partitions("small/insider_trades") == []
    assert (
        f"`uri` of insider_trades in small must be a folder that exists, was {tmp_path / 'tardes'}; make" in run.message
    )
    (tmp_path / "tardes").mkdir()
    assert project.make("small/insider_trades", WEEKS[0]).success
    assert project.store.read("small/insider_trades", WEEKS[0]).frame.is_empty()


def test_reference_rows_of_csv_files_are_those_of_parquet(project, tmp_path, tables, mlflow_template):
    folder = tmp_path / "source"
    market = _market(folder, tables)
    for path in (each for name in TABLES for each in (folder / name).glob("*.parquet")):
        rows = pl.read_parquet(path)
        times = pl.col(name for name, dtype in rows.schema.items() if dtype.is_temporal())
        rows.with_columns(times.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_csv(path.with_suffix(".csv"))
        path.unlink()
    written = Project(tmp_path / "project", market, mlflow_template=mlflow_template)
    assets = [f"small/{name}" for name in TABLES]
    written.make(assets, WEEKS[0], WEEKS[-1])
    assert [written.hashes(asset) for asset in assets] == [project.hashes(asset) for asset in assets]


def test_reference_rows_that_contradict_each_other_are_quarantined_and_reported(tmp_path, mlflow_template, tables):
    trades = tables["insider_trades"]
    twin = trades.filter(pl.col("available_at").dt.date() > SESSIONS[30])[0]
    market = _market(tmp_path / "source", {"insider_trades": pl.concat([trades, twin.with_columns(price=1.0)])})
    market["features"] = ["alternative/insider_net_buys_90"]
    market["max_faulty_share"] = 1.0
    project = Project(tmp_path, market, mlflow_template=mlflow_template)
    week = week_key(twin["available_at"].dt.convert_time_zone(TIMEZONE).dt.date()[0])

    run = project.run("small/insider_trades", week)
    check = run.checks["small/insider_trades", "no_faulty_rows"]
    assert run.success and not check.passed
    assert "two rows of one key at one time" in str(check.metadata["failed"].records)
    assert (
        project.store.read("small/insider_trades", week)
        .frame.filter(pl.col("trade_id") == twin["trade_id"][0])
        .is_empty()
    )


def test_filings_of_income_to_date_warn_in_the_features_that_read_two_years_of_them(tmp_path, mlflow_template):
    sessions = sessions_from(date(2012, 1, 3), 62)
    symbols = [f"S{number:03}" for number in range(8)]
    filings = random_references(symbols, start=sessions[0], end=sessions[-1], seed=5)["fundamentals"]
    # Of a fiscal year's quarters, one after the other: what the vendor sums.
    newest = filings.sort("available_at").unique(["symbol", "event_time"], keep="last").sort("symbol", "event_time")
    of_year = (pl.col("period") == "Q1").cum_sum().over("symbol")
    to_date = newest.with_columns(
        pl.when(pl.col("period") == "FY").then("revenue").otherwise(pl.col("revenue").cum_sum().over("symbol", of_year))
    )
    # A column that the vendor does not deliver: what would read it is NaN, and both are named.
    _write(tmp_path / "filings", to_date.drop("gross_profit"))
    source = {"table": "fundamentals", "source": {"type": "files", "uri": str(tmp_path / "filings")}}
    bars = session_bars(sessions, symbols=8, seed=4)
    features = ["fundamental/net_margin", "fundamental/gross_margin"]
    market = files_market(tmp_path / "bars", bars, features=features, references=[source])
    project = Project(tmp_path, market, mlflow_template=mlflow_template)
    weeks = sorted({week_key(day) for day in sessions})
    project.make("small/fundamentals", weeks[0], weeks[-1])
    project.make("small/bars", weeks[-32], weeks[-1])
    run = project.make("small/features/fundamental", weeks[-2], weeks[-1])
    check = run.checks["small/features/fundamental", "filings_cover_their_periods"]
    assert not check.passed and check.severity.value == "WARN"
    # A warning: the features are there, and it is about them that the operator is told.
    assert run.checks["small/features/fundamental", "replay"].passed
    assert project.store.partitions("small/features/fundamental") == weeks[-2:]
    assert check.metadata["values_compared"].value == 2 * 8
    said = str(check.metadata["failed"].records)
    assert (
        "`revenue` must cover the filing's own period, its Q1, Q2 and Q3 were 1." in said and "net_income" not in said
    )
    columns = run.checks["small/features/fundamental", "tables_hold_their_columns"]
    assert not columns.passed and columns.severity.value == "WARN"
    told = str(columns.metadata["failed"].records)
    assert "was without a value of gross_profit in " in told
    assert "features without a value: gross_margin; " in told and "[fundamental, -fundamental/gross_margin]" in told


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"references": []},
            "`features` must have their inputs in the market, was fundamental/return_on_equity without fundamentals; add",
        ),
        (
            {"references": [{"table": "weather", "source": {"type": "files", "uri": "x"}}]},
            "`references` must name each of fundamentals, insider_trades, short_interest, news at most once, was weather.",
        ),
        ({"features": ["cross_asset/sector_beta_60"]}, "was cross_asset/sector_beta_60 without sector; add a `sector`"),
        ({"features": ["cross_asset/volatility_index_level"]}, "without volatility_index; add a `volatility_index`"),
    ],
)
def test_market_with_features_that_it_cannot_feed_says_what_to_add(tmp_path, tables, changed, message):
    market = {**_market(tmp_path / "source", {name: rows.clear() for name, rows in tables.items()}), **changed}
    with pytest.raises(ValueError, match=re.escape(message)):
        market_of(market)
