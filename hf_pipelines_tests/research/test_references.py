"""Contracts of reference tables: what the edge refuses, quarantines and means by a day."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from hf_pipelines.research.references import (
    REFERENCES,
    check_structure,
    doubtful_periods,
    end_of_day,
    validate_references,
)
from hf_pipelines_tests.real_filings import real_filings
from hf_pipelines_tests.sample_references import random_references, table_of

NOW = datetime(2020, 6, 1, tzinfo=UTC)


def _filing(**changes):
    row = {"symbol": "AAA", "event_time": date(2020, 3, 31), "available_at": date(2020, 4, 30), "period": "Q1",
           "doc_type": "10-Q", "revenue": 10.0, "net_income": -1.0}  # fmt: skip
    return row | changes


def _checked(*rows, name="fundamentals", share=1.0, universe=("AAA", "BBB")):
    return validate_references(
        table_of(name, rows), name, universe=universe, source="f.parquet", now=NOW, max_faulty_share=share
    )


@pytest.mark.parametrize(
    ("day", "zone", "expected"),
    [
        pytest.param(date(2015, 10, 28), "America/New_York", datetime(2015, 10, 29, 3, 59, 59, 999999), id="summer"),
        pytest.param(date(2015, 11, 2), "America/New_York", datetime(2015, 11, 3, 4, 59, 59, 999999), id="winter"),
        pytest.param(date(2015, 11, 1), "America/New_York", datetime(2015, 11, 2, 4, 59, 59, 999999), id="clock back"),
        pytest.param(
            date(2018, 11, 3), "America/Sao_Paulo", datetime(2018, 11, 4, 2, 59, 59, 999999), id="no midnight"
        ),
        pytest.param(date(2015, 10, 28), "Asia/Tokyo", datetime(2015, 10, 28, 14, 59, 59, 999999), id="east"),
        pytest.param(date(2015, 10, 28), "UTC", datetime(2015, 10, 28, 23, 59, 59, 999999), id="utc"),
    ],
)
def test_end_of_day_is_the_last_microsecond_of_the_day_there(day, zone, expected):
    ends = pl.DataFrame({"day": [day]}).select(end_of_day(pl.col("day"), zone)).item()
    assert ends == expected.replace(tzinfo=UTC)


def test_validate_references_keeps_sound_rows_of_the_universe_sorted_and_once():
    rows = [_filing(symbol="BBB"), _filing(), _filing(), _filing(symbol="ZZZ")]
    checked = _checked(*rows)
    assert checked.rows["symbol"].to_list() == ["AAA", "BBB"]
    assert checked.quarantined.is_empty() and checked.n_unknown == 1
    assert dict(checked.rows.schema) == REFERENCES["fundamentals"].schema


def test_validate_references_keeps_a_correction_beside_what_it_corrects():
    checked = _checked(_filing(), _filing(available_at=date(2020, 5, 20), revenue=9.0))
    assert checked.rows["revenue"].to_list() == [10.0, 9.0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"available_at": date(2020, 3, 30)}, "known before it happened", id="before"),
        pytest.param({"available_at": date(2020, 6, 1)}, "available in the future", id="future"),
        pytest.param({"assets": float("inf")}, "infinite figure", id="infinite"),
        pytest.param({"assets": -1.0}, "negative figure", id="negative"),
        pytest.param({"period": "H1"}, "unknown fiscal period", id="period"),
    ],
)
def test_validate_references_quarantines_a_faulty_row_with_its_reason(changes, reason):
    checked = _checked(_filing(symbol="BBB"), _filing(**changes))
    assert checked.rows["symbol"].to_list() == ["BBB"]
    assert checked.quarantined.select("symbol", "reason").rows() == [("AAA", reason)]


def test_validate_references_quarantines_both_of_two_contents_of_one_key_and_time():
    checked = _checked(_filing(), _filing(revenue=11.0), _filing(symbol="BBB"))
    assert checked.rows["symbol"].to_list() == ["BBB"]
    assert checked.quarantined["reason"].to_list() == ["two rows of one key at one time"] * 2


def test_validate_references_quarantines_scores_that_are_no_probabilities_and_keeps_unscored_news():
    article = {"symbol": "AAA", "event_time": date(2020, 5, 1), "available_at": date(2020, 5, 1), "text": "x"}
    scored = article | {"positive": 0.5, "negative": 0.4, "neutral": 0.1}
    checked = _checked(
        article | {"article_id": "a"}, scored | {"article_id": "b"}, scored | {"article_id": "c", "neutral": 0.3},
        name="news",
    )  # fmt: skip
    assert checked.rows["article_id"].to_list() == ["a", "b"]
    assert checked.quarantined["reason"].to_list() == ["scores do not add up to 1"]


def test_validate_references_above_the_faulty_share_refuses_the_source():
    with pytest.raises(ValueError, match=r"at most 40% faulty rows, f.parquet has 1 of 2 \(first: AAA 2020-04-01: neg"):
        _checked(_filing(symbol="BBB"), _filing(assets=-1.0), share=0.4)


@pytest.mark.parametrize("name", REFERENCES)
def test_every_table_of_sound_rows_passes_unchanged(name):
    table = random_references(["AAA"], start=date(2019, 6, 1), end=date(2020, 1, 1))[name]
    checked = validate_references(
        check_structure(table, name, source="sample"), name, universe=["AAA"], source="sample", now=NOW
    )
    assert checked.quarantined.is_empty() and checked.rows.height == table.height


def _naive(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("available_at").dt.replace_time_zone(None))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda f: f.drop("available_at", "period"), "missing columns available_at, period", id="missing"),
        pytest.param(lambda f: f.with_columns(revenu=1.0), "unknown columns revenu", id="unknown"),
        pytest.param(_naive, "`available_at` must be a timestamp with a time zone, was Datetime", id="naive"),
        pytest.param(lambda f: f.with_columns(revenue=pl.lit("1")), "`revenue` must be of type Float64", id="type"),
        pytest.param(
            lambda f: f.with_columns(symbol=pl.lit("../x")), r"symbols must match .*were '..\?x'", id="symbol"
        ),
        pytest.param(
            lambda f: f.with_columns(period=pl.lit(None, pl.String)),
            r"row \d+ has a null among .* \(1 rows\)",
            id="null",
        ),
    ],
)
def test_check_structure_refuses_what_cannot_be_the_table(damage, message):
    with pytest.raises(ValueError, match=f"`fundamentals` must follow its contract, f.parquet does not: .*{message}"):
        check_structure(damage(table_of("fundamentals", [_filing()])), "fundamentals", source="f.parquet")


def test_check_structure_gives_missing_figures_and_nulls_as_nan():
    raw = table_of("fundamentals", [_filing()]).drop("debt").with_columns(cash=pl.lit(None, pl.Float64))
    table = check_structure(raw, "fundamentals", source="f.parquet")
    assert table.select("debt", "cash").row(0) == pytest.approx((float("nan"), float("nan")), nan_ok=True)


def test_check_structure_refuses_an_unknown_table():
    with pytest.raises(ValueError, match="`table` must be one of .*'news'.*was 'gossip'"):
        check_structure(pl.DataFrame(), "gossip", source="f.parquet")


def _year(symbol: str, year: int, *, income: tuple[float, ...], cash: tuple[float, ...], **changes) -> list[dict]:
    ends = [date(year, 3, 31), date(year, 6, 30), date(year, 9, 30), date(year, 12, 31)]
    return [
        {"symbol": symbol, "event_time": end, "available_at": end + timedelta(days=30), "period": period, "doc_type": "",
         "revenue": amount, "net_income": amount / 10.0, "operating_cash_flow": flow} | changes
        for end, period, amount, flow in zip(ends, ("Q1", "Q2", "Q3", "FY"), income, cash, strict=True)
    ]  # fmt: skip


QUARTERS, TO_DATE = (10.0, 12.0, 8.0, 40.0), (10.0, 22.0, 30.0, 40.0)


def test_doubtful_periods_names_income_to_date_and_cash_flow_of_the_quarter_by_their_share_of_the_year():
    # Q1 to Q3: 10 + 12 + 8 is 0.75 of 40, 10 + 22 + 30 is 1.55 of it.
    companies = [f"S{number}" for number in range(8)]
    sound, summed, apart = (
        table_of("fundamentals", [row for each in companies for row in _year(each, 2019, income=income, cash=cash)])
        for income, cash in ((QUARTERS, TO_DATE), (TO_DATE, TO_DATE), (QUARTERS, QUARTERS))
    )
    assert doubtful_periods(sound) == ([], 8)
    revenue, net_income = doubtful_periods(summed)[0]
    assert revenue == (
        "`revenue` must cover the filing's own period, its Q1, Q2 and Q3 were 1.55 of the year (median of 8 fiscal years; "
        "three quarters are about 0.75, sums to date 1.5); subtract the filing before in Q2 and Q3."
    )
    assert net_income == revenue.replace("revenue", "net_income")
    (flow,), _ = doubtful_periods(apart)
    assert flow.startswith("`operating_cash_flow` must be the year to date, its Q1, Q2 and Q3 were 0.75 of the year")
    assert flow.endswith("add the filings before in Q2 and Q3.")


def test_doubtful_periods_counts_whole_years_of_the_newest_versions_with_positive_figures():
    companies = [f"S{number}" for number in range(8)]
    summed = [row for each in companies for row in _year(each, 2019, income=TO_DATE, cash=TO_DATE)]
    quarters = {row["event_time"]: row for row in _year("", 2019, income=QUARTERS, cash=TO_DATE)}
    later = {"available_at": date(2020, 5, 1)}
    mended = [
        row | {key: quarters[row["event_time"]][key] for key in ("revenue", "net_income")} | later for row in summed
    ]
    assert doubtful_periods(table_of("fundamentals", summed + mended)) == ([], 8)
    # A year that lacks a quarter, a figure that is lost in a quarter, and seven years alone tell nothing.
    assert doubtful_periods(table_of("fundamentals", summed[1:])) == ([], 7)
    lost = [row | ({"revenue": -1.0, "net_income": -1.0} if row["period"] == "Q2" else {}) for row in summed]
    assert doubtful_periods(table_of("fundamentals", lost)) == ([], 8)
    assert doubtful_periods(table_of("fundamentals", [])) == ([], 0)


def test_doubtful_periods_of_real_filings_are_none_until_income_is_summed():
    known = real_filings().filter(pl.col("period").is_in(["Q1", "Q2", "Q3", "FY"]))
    found, n_years = doubtful_periods(known)
    assert found == [] and n_years > 600
    # Q2 and Q3 as a vendor would give them who adds up.
    year = pl.col("event_time").dt.offset_by("-1y")
    to_date = known.sort("available_at").unique(["symbol", "event_time", "period"], keep="last").sort("event_time")
    of_year = to_date.filter(pl.col("period") == "FY").select("symbol", ends="event_time", begins=year)
    summed = (
        to_date.filter(pl.col("period") != "FY")
        .join_where(of_year, pl.col("symbol") == pl.col("symbol_right"), pl.col("event_time") > pl.col("begins"),
                    pl.col("event_time") < pl.col("ends"))
        .sort("event_time")
        .with_columns(pl.col("revenue").cum_sum().over("symbol", "ends"))
        .select(known.columns)
    )  # fmt: skip
    (revenue,), _ = doubtful_periods(pl.concat([summed, to_date.filter(pl.col("period") == "FY")]))
    assert "`revenue` must cover the filing's own period" in revenue and "were 1.4" in revenue


def test_real_filings_pass_but_for_those_that_cannot_be_told_apart_or_came_too_early():
    filings = real_filings()
    checked = validate_references(
        filings, "fundamentals", universe=filings["symbol"].unique().to_list(), source="pystock",
        now=datetime(2017, 4, 2, tzinfo=UTC),
    )  # fmt: skip
    reasons = dict(checked.quarantined["reason"].value_counts().rows())
    # Parents and subsidiaries that file on one day (HFC, NRG, NBL, SUNE, LNG), and one 10-K dated a year ahead.
    assert reasons == {"two rows of one key at one time": 37, "known before it happened": 1}
    early = checked.quarantined.filter(pl.col("reason") == "known before it happened")
    assert early.select("symbol", pl.col("available_at").dt.date()).rows() == [("NRG", date(2016, 3, 1))]
    # One amendment repeats its original on the same day (GMCR).
    assert filings.height - checked.rows.height - 38 == 1
