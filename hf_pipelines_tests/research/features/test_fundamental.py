"""Fundamental features: numbers by hand, a brute-force oracle over random tables, and real filings."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import compute_features, group_names
from hf_pipelines.research.references import validate_references
from hf_pipelines_tests.real_filings import real_bars, real_filings
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, session_opens, table_of

NAN = float("nan")
START = date(2020, 1, 6)
DAYS = weekdays(400, start=START)
# A year of quarters, and the first quarter of the next; each known 30 days after its end.
ENDS = {"Q1": date(2018, 12, 31), "Q2": date(2019, 3, 31), "Q3": date(2019, 6, 30), "FY": date(2019, 9, 30)}


def _filing(period: str, end: date, *, days: int = 30, **figures: float) -> dict[str, Any]:
    return {"symbol": "A", "event_time": end, "available_at": end + timedelta(days=days), "period": period,
            "doc_type": "10-K" if period == "FY" else "10-Q", **figures}  # fmt: skip


def _value(
    name: str, rows: list[dict[str, Any]], *, day: date = START, bars: int = 140, split: date | None = None
) -> float:
    """The feature on `day`, with `bars` bars at 50 up to it and a split 2:1 effective on `split`."""
    days = weekdays(bars, start=day - timedelta(days=7 * bars // 5 + 7))
    days = [*days[-(bars - 1) :], day] if days[-1] < day else [each for each in days if each <= day]
    frame = bars_of("A", [50.0] * len(days), days=days, split_ratio=[1.0 + (each == split) for each in days])
    values = compute_features(
        frame, [name], opens=session_opens(days), references={"fundamentals": table_of("fundamentals", rows)},
        sectors={"A": "oil"}, wanted=[day],
    )  # fmt: skip
    return float(values[name].item())


YEARS = [
    _filing("Q1", ENDS["Q1"], revenue=10.0, net_income=1.0, operating_cash_flow=2.0),
    _filing("Q2", ENDS["Q2"], revenue=11.0, net_income=1.0, operating_cash_flow=4.0),
    _filing("Q3", ENDS["Q3"], revenue=12.0, net_income=1.0, operating_cash_flow=5.0),
    # The fourth quarter: 50 - 10 - 11 - 12 = 17.
    _filing("FY", ENDS["FY"], revenue=50.0, net_income=5.0, operating_cash_flow=9.0),
    _filing("Q1", date(2019, 12, 31), revenue=14.0, net_income=2.0, operating_cash_flow=3.0, assets=100.0),
    _filing("Q2", date(2020, 3, 31), revenue=15.0, net_income=2.0, operating_cash_flow=7.0, assets=100.0),
    _filing("Q3", date(2020, 6, 30), revenue=16.0, net_income=2.0, operating_cash_flow=8.0, assets=100.0),
    _filing("FY", date(2020, 9, 30), revenue=66.0, net_income=9.0, operating_cash_flow=13.0, assets=100.0),
]


@pytest.mark.parametrize(
    ("day", "revenue", "accruals", "growth"),
    [
        # 11 + 12 + 17 + 14; net income 1 + 1 + 2 + 2 less cash 9 + 3 - 2.
        pytest.param(date(2020, 2, 3), 54.0, (6.0 - 10.0) / 100.0, 14.0 / 10.0 - 1.0, id="Q1"),
        # 12 + 17 + 14 + 15; 1 + 2 + 2 + 2 less 9 + 7 - 4.
        pytest.param(date(2020, 5, 4), 58.0, (7.0 - 12.0) / 100.0, 15.0 / 11.0 - 1.0, id="Q2"),
        # 17 + 14 + 15 + 16; 2 + 2 + 2 + 2 less 9 + 8 - 5.
        pytest.param(date(2020, 8, 3), 62.0, (8.0 - 12.0) / 100.0, 16.0 / 12.0 - 1.0, id="Q3"),
        pytest.param(date(2020, 11, 2), 66.0, (9.0 - 13.0) / 100.0, 66.0 / 50.0 - 1.0, id="FY"),
    ],
)
def test_trailing_year_is_the_last_four_quarters_known(day, revenue, accruals, growth):
    assert _value("asset_turnover", YEARS, day=day) == pytest.approx(revenue / 100.0)
    assert _value("accruals", YEARS, day=day) == pytest.approx(accruals)
    assert _value("revenue_growth", YEARS, day=day) == pytest.approx(growth)


def test_trailing_year_with_a_filing_missing_is_nan_and_growth_needs_only_the_year_before():
    without_q2 = [row for row in YEARS if row["event_time"] != ENDS["Q2"]]
    assert np.isnan(_value("asset_turnover", without_q2, day=date(2020, 5, 4)))
    assert _value("asset_turnover", without_q2, day=date(2020, 2, 3)) == pytest.approx(0.54)
    assert _value("revenue_growth", without_q2, day=date(2020, 2, 3)) == pytest.approx(0.4)


def test_restated_year_ago_figure_counts_from_its_own_availability():
    restated = [*YEARS, _filing("Q1", ENDS["Q1"], days=450, revenue=7.0)]
    day = ENDS["Q1"] + timedelta(days=450)
    assert _value("revenue_growth", restated, day=date(2020, 3, 2)) == pytest.approx(0.4)
    assert day == date(2020, 3, 25)
    assert _value("revenue_growth", restated, day=day) == pytest.approx(0.4)
    assert _value("revenue_growth", restated, day=day + timedelta(days=1)) == pytest.approx(1.0)
    # It is no newer filing: the age is still that of the first quarter's.
    assert _value("days_since_filing", restated, day=day + timedelta(days=1)) == 55.0


YEAR = [
    _filing(
        "FY", date(2019, 9, 30), days=45, revenue=200.0, gross_profit=80.0, operating_income=40.0, depreciation=10.0,
        net_income=20.0, eps=2.0, dividend=0.5, assets=300.0, current_assets=90.0, current_liabilities=60.0, equity=100.0,
        cash=30.0, debt=80.0,
    )
]  # fmt: skip
# Ten shares at 50: a market value of 500.
BY_HAND = {
    "price_to_earnings": 25.0, "earnings_yield": 0.04, "price_to_book": 5.0, "book_to_price": 0.2, "price_to_sales": 2.5,
    "ev_to_ebitda": 550.0 / 50.0, "dividend_yield": 0.01, "return_on_equity": 0.2, "gross_margin": 0.4,
    "operating_margin": 0.2, "net_margin": 0.1, "current_ratio": 1.5, "debt_to_equity": 0.8, "liabilities_to_equity": 2.0,
    "asset_turnover": 2.0 / 3.0, "days_since_filing": 52.0,
    "sector_is_00": 1.0, "sector_is_01": 0.0, "sector_number": 0.0, "sector_relative_price_to_book": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), BY_HAND.items(), ids=BY_HAND)
def test_ratio_of_one_annual_report_by_hand(name, expected):
    assert _value(name, YEAR) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        pytest.param("price_to_earnings", {"net_income": -20.0, "eps": -2.0}, id="loss"),
        pytest.param("price_to_book", {"equity": -1.0}, id="negative equity"),
        pytest.param("return_on_equity", {"equity": 0.0}, id="no equity"),
        pytest.param("net_margin", {"revenue": 0.0}, id="no revenue"),
        pytest.param("current_ratio", {"current_liabilities": 0.0}, id="no current liabilities"),
        pytest.param("ev_to_ebitda", {"debt": NAN}, id="debt not known"),
        pytest.param("ev_to_ebitda", {"operating_income": -10.0}, id="no ebitda"),
        pytest.param("debt_to_equity", {"debt": NAN}, id="debt to equity"),
        pytest.param("price_to_book", {"eps": 0.01}, id="eps too small to imply shares"),
        pytest.param("price_to_book", {"equity": 1e-300}, id="beyond float32"),
        pytest.param("earnings_growth", {}, id="no year before"),
    ],
)
def test_ratio_without_a_meaning_is_nan(name, figures):
    assert np.isnan(_value(name, [YEAR[0] | figures]))


def test_losses_and_negative_equity_have_a_yield():
    loss = [YEAR[0] | {"net_income": -20.0, "eps": -2.0, "equity": -50.0}]
    assert _value("earnings_yield", loss) == pytest.approx(-0.04)
    assert _value("book_to_price", loss) == pytest.approx(-0.1)


def test_dividend_yield_of_a_company_that_pays_none_is_zero_even_in_a_year_of_small_earnings():
    assert _value("dividend_yield", [YEAR[0] | {"dividend": 0.0}]) == 0.0


def test_filing_is_stale_after_half_a_year():
    known = date(2019, 9, 30) + timedelta(days=45)
    last = known + timedelta(days=182)
    assert _value("net_margin", YEAR, day=last) == pytest.approx(0.1)
    assert np.isnan(_value("net_margin", YEAR, day=last + timedelta(days=1)))
    assert np.isnan(_value("days_since_filing", YEAR, day=last + timedelta(days=1)))


def test_valuation_reaches_every_split_up_to_the_age_at_which_a_filing_is_stale():
    known = date(2019, 9, 30) + timedelta(days=45)
    day = known + timedelta(days=182)
    assert _value("price_to_book", YEAR, day=day) == pytest.approx(5.0)
    assert _value("price_to_book", YEAR, day=day, split=known + timedelta(days=1)) == pytest.approx(10.0)
    # On the day it was filed the filing counts the new shares.
    assert _value("price_to_book", YEAR, day=day, split=known) == pytest.approx(5.0)


@pytest.mark.parametrize("bars_a_session", [1, 7])
def test_split_between_filing_and_bar_leaves_the_ratio_unchanged(bars_a_session):
    # AAPL, June 2014: 7:1 effective on the 9th; the 10-Q of 23 April counts the old shares.
    days = weekdays(140, start=date(2014, 1, 2))
    split = days.index(date(2014, 6, 9))
    close = [645.57 if at < split else 93.70 for at in range(140)]
    bars = bars_of("A", close, days=days, split_ratio=[7.0 if at == split else 1.0 for at in range(140)])
    hours = [bars.with_columns(pl.col("ts") - timedelta(hours=each), split_ratio=1.0) for each in range(bars_a_session)]
    # A split is effective with the session's first bar.
    hours[-1] = hours[-1].with_columns(bars["split_ratio"])
    bars = pl.concat(hours).sort("symbol", "ts")
    filing = {"symbol": "A", "event_time": date(2014, 3, 29), "available_at": date(2014, 4, 23), "period": "Q2",
              "doc_type": "10-Q", "net_income": 10.223e9, "eps": 11.62, "equity": 120.179e9}  # fmt: skip
    later = filing | {"event_time": date(2014, 6, 28), "available_at": date(2014, 7, 9), "net_income": 7.748e9,
                      "eps": 1.28, "equity": 120.940e9, "period": "Q3"}  # fmt: skip
    values = compute_features(
        bars, ["price_to_book"], opens=session_opens(days),
        references={"fundamentals": table_of("fundamentals", [filing, later])},
    )  # fmt: skip
    assert values.height == 140 * bars_a_session
    # Every bar of a session says the same.
    assert values["price_to_book"].equals(
        values["price_to_book"].gather_every(bars_a_session).repeat_by(bars_a_session).explode()
    )
    of = dict(values.select("session", "price_to_book").rows())
    # The bars reach back 183 days from 4 July on, a holiday that this calendar keeps open.
    assert np.isnan(of[date(2014, 7, 3)])
    shares = 10.223e9 / 11.62
    assert of[date(2014, 7, 4)] == of[date(2014, 7, 9)] == pytest.approx(93.70 * 7 * shares / 120.179e9, rel=1e-6)
    # The next filing counts the new shares itself.
    assert of[date(2014, 7, 10)] == pytest.approx(93.70 * (7.748e9 / 1.28) / 120.940e9, rel=1e-6)


def test_unsplit_and_split_company_have_the_same_valuation():
    rows = YEAR
    plain = _value("price_to_earnings", rows)
    closes = [100.0] * 120 + [50.0] * 20
    days = weekdays(140, start=START - timedelta(days=195))
    frame = bars_of("A", closes, days=days, split_ratio=[1.0] * 120 + [2.0] + [1.0] * 19)
    values = compute_features(
        frame, ["price_to_earnings"], opens=session_opens(days),
        references={"fundamentals": table_of("fundamentals", rows)},
    )  # fmt: skip
    known = values.filter(pl.col("session") > date(2019, 11, 14))["price_to_earnings"].drop_nans()
    # Ten shares of before: twenty after. The price of 50 after the split is one of 100 before.
    np.testing.assert_allclose(known, 2.0 * plain, rtol=1e-6)
    # 183 days are 131 weekdays.
    assert known.len() == 140 - 131


def test_sector_relative_ratio_compares_with_the_members_of_the_session():
    days = weekdays(135, start=date(2019, 8, 1))
    price = {"A": 10.0, "B": 20.0, "C": 60.0, "D": 500.0, "E": 40.0, "F": 30.0}
    bars = pl.concat([bars_of(name, [close] * 135, days=days) for name, close in price.items()]).sort("symbol", "ts")
    filings = [YEAR[0] | {"symbol": name, "shares": 10.0} for name in price]
    # D leaves the universe; E is of another sector; F of none.
    membership = pl.DataFrame(
        {"symbol": list(price), "since": [days[0]] * 6, "until": [None, None, None, days[132], None, None]}
    )
    values = compute_features(
        bars, ["price_to_book", "sector_relative_price_to_book", "sector_is_00", "sector_is_01", "sector_number"],
        opens=session_opens(days), membership=membership,
        sectors={"A": "oil", "B": "oil", "C": "oil", "D": "oil", "E": "gas"},
        references={"fundamentals": table_of("fundamentals", filings)},
    )  # fmt: skip
    of = {(row[0], row[1]): row[2:] for row in values.drop("ts").rows()}
    # With D: median of 1, 2, 6, 50 = 4; without: of 1, 2, 6 = 2.
    assert [of[name, days[132]][1] for name in "ABCD"] == pytest.approx([-0.75, -0.5, 0.5, 11.5])
    assert [of[name, days[133]][1] for name in "ABC"] == pytest.approx([-0.5, 0.0, 2.0])
    assert ("D", days[133]) not in of
    assert [of[name, days[133]][4] for name in "ABC"] == [1.0, 1.0, 1.0]
    assert of["E", days[133]] == pytest.approx((4.0, 0.0, 1.0, 0.0, 0.0))
    assert of["F", days[133]] == pytest.approx((3.0, NAN, NAN, NAN, NAN), nan_ok=True)


def _oracle(bars: pl.DataFrame, table: pl.DataFrame, symbol: str, day: date) -> dict[str, float]:
    """Everything from the rows known before the open, one quarter after the other, in plain Python."""
    moment = session_opens([day])[day]
    known = table.filter((pl.col("symbol") == symbol) & (pl.col("available_at") < moment)).sort("available_at")
    last = {row["event_time"].date(): row for row in known.iter_rows(named=True)}
    nothing = dict.fromkeys(("net_margin", "accruals", "earnings_growth", "price_to_sales", "dividend_yield"), NAN)
    if not last:
        return nothing
    newest = max(last)
    if moment - last[newest]["available_at"] > timedelta(days=182):
        return nothing

    def filed(back: int, period: str) -> dict[str, Any] | None:
        found = [row for end, row in last.items() if abs((newest - end).days - back * 91.31) <= 20]
        return found[0] if found and found[0]["period"] == period else None

    order = ["Q1", "Q2", "Q3", "FY"]
    at = order.index(last[newest]["period"])
    row = last[newest]

    def quarter(back: int, figure: Any) -> float:
        period = order[(at - back) % 4]
        this = filed(back, period)
        if this is None:
            return NAN
        if period != "FY":
            return float(figure(this))
        return float(figure(this)) - sum(quarter(back + each, figure) for each in (1, 2, 3))

    def year(figure: Any) -> float:
        four = float(figure(row)) if at == 3 else sum(quarter(back, figure) for back in range(4))
        if not np.isnan(four):
            return four
        # The quarters that cancel out need not be there: the year before, and this year's quarters in place of its.
        filings = [(filed(back, order[at - back]), filed(back + 4, order[at - back])) for back in range(at + 1)]
        before = filed(at + 1, "FY")
        if before is None or any(None in pair for pair in filings) or at == 3:
            return NAN
        return float(figure(before)) + sum(figure(this) - figure(ago) for this, ago in filings)

    def cash() -> float:
        if at == 3:
            return float(row["operating_cash_flow"])
        terms = [filed(at + 1, "FY"), filed(4, order[at])]
        if None in terms:
            return NAN
        return row["operating_cash_flow"] + terms[0]["operating_cash_flow"] - terms[1]["operating_cash_flow"]

    def shares(each: dict[str, Any]) -> float:
        if not np.isnan(each["shares"]):
            return each["shares"] if each["shares"] > 0.0 else NAN
        implied = each["net_income"] / each["eps"] if abs(each["eps"]) >= 0.05 else NAN
        return implied if implied > 0.0 else NAN

    def paid(each: dict[str, Any]) -> float:
        return 0.0 if each["dividend"] == 0.0 else each["dividend"] * shares(each)

    ago = filed(4, order[at])
    own = bars.filter(pl.col("symbol") == symbol, pl.col("session") <= day)
    since = [s for d, s in own.select("session", "split_ratio").rows() if session_opens([d])[d] > row["available_at"]]
    reaches_back = moment - session_opens([own["session"][0]])[own["session"][0]] >= timedelta(days=183)
    value = own["close"][-1] * shares(row) * np.prod(since) if reaches_back else NAN
    revenue, income = year(lambda each: each["revenue"]), year(lambda each: each["net_income"])
    before = NAN if ago is None or ago["net_income"] == 0.0 else ago["net_income"]
    return {
        "net_margin": income / revenue if revenue > 0.0 else NAN,
        "accruals": (income - cash()) / row["assets"] if row["assets"] > 0.0 else NAN,
        "earnings_growth": (row["net_income"] - before) / abs(before),
        "price_to_sales": value / revenue if revenue > 0.0 else NAN,
        "dividend_yield": year(paid) / value,
    }


@pytest.mark.parametrize("seed", range(6))
def test_features_agree_with_a_brute_force_oracle_over_random_tables(seed):
    symbols = [f"S{number:03d}" for number in range(6)]
    bars = random_bars(symbols=6, sessions=400, seed=seed, has_reference=False)
    table = random_references(symbols, start=START, end=DAYS[-1], seed=seed, has_gaps=seed % 2 == 1)["fundamentals"]
    values = compute_features(
        bars, group_names("fundamental"), opens=session_opens(DAYS), references={"fundamentals": table},
        sectors=dict.fromkeys(symbols, "oil"),
    )  # fmt: skip
    n_known = 0
    for row in values.sample(60, seed=seed).iter_rows(named=True):
        expected = _oracle(bars, table, row["symbol"], row["session"])
        ours = {name: row[name] for name in expected}
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-7, nan_ok=True), (row["symbol"], row["session"])
        n_known += sum(not np.isnan(value) for value in expected.values())
    assert n_known > 100


def _real(symbol: str, names: list[str], **arguments: Any) -> dict[date, tuple[float, ...]]:
    bars = real_bars(symbol, **arguments)
    values = compute_features(
        bars, names, opens=session_opens(bars["session"].to_list()), references={"fundamentals": real_filings()}
    )
    return {row[0]: row[1:] for row in values.select("session", *names).rows()}


def test_real_annual_report_counts_from_the_session_after_it_was_first_seen():
    # AAPL, fiscal 2015: filed on 2015-10-28.
    of = _real("AAPL", ["net_margin", "current_ratio", "days_since_filing"])
    assert of[date(2015, 10, 28)] == pytest.approx((NAN, 70_953 / 65_285, 97.0), rel=1e-4, nan_ok=True)
    assert of[date(2015, 10, 29)] == pytest.approx((53_394 / 233_715, 89_378 / 80_610, 0.0), rel=1e-4)


def test_real_split_between_two_filings_moves_the_valuation_with_the_price_alone():
    # NKE 2:1 on 2015-12-24; filings of 2015-10-07 (old shares) and 2016-01-06 (new shares).
    of = _real("NKE", ["price_to_book"], splits={date(2015, 12, 24): 2.0})
    shares = 1_179.0 / 1.34
    assert of[date(2015, 12, 23)][0] == pytest.approx(128.710007 * shares / 12_894.0, rel=1e-3)
    assert of[date(2015, 12, 24)][0] / of[date(2015, 12, 23)][0] == pytest.approx(2 * 63.18 / 128.710007, rel=1e-6)
    assert of[date(2016, 1, 6)][0] == pytest.approx(61.490002 * 2 * shares / 12_894.0, rel=1e-3)
    assert of[date(2016, 1, 7)][0] == pytest.approx(59.849998 * (785.0 / 0.45) / 13_405.0, rel=1e-3)


def test_real_restatement_counts_in_later_growth_and_not_before():
    # HTZ restated net income of Q2 2015 from 23 to 36 million on 2015-11-09, and filed Q2 2016 on 2016-08-08.
    of = _real("HTZ", ["earnings_growth", "liabilities_to_equity"])
    assert of[date(2015, 11, 9)][1] == pytest.approx((25_969 - 2_387) / 2_387, rel=1e-6)
    assert of[date(2015, 11, 10)][1] == pytest.approx((24_569 - 2_338) / 2_338, rel=1e-6)
    assert of[date(2016, 8, 9)][0] == pytest.approx((-28.0 - 36.0) / 36.0, rel=1e-6)


def test_real_restated_cash_flow_counts_in_the_trailing_year():
    # BG restated cash flow of three quarters of 2015 from 633 to 527 million on 2016-02-25.
    of = _real("BG", ["accruals"])
    income = 738 + (222 + 109 + 116) - (249 + 72 + 229)
    assert of[date(2016, 11, 3)][0] == pytest.approx((income - (610 + 635 - 527)) / 20_045, rel=1e-4)


def test_real_filings_of_every_restated_company_keep_the_old_values_before():
    filings = real_filings()
    checked = validate_references(
        filings, "fundamentals", universe=filings["symbol"].unique().to_list(), source="pystock",
        now=filings["available_at"].max() + timedelta(days=1),
    ).rows  # fmt: skip
    versions = checked.filter(pl.col("available_at").n_unique().over("symbol", "event_time", "doc_type") > 1)
    restated = versions.filter(pl.col("available_at") > pl.col("available_at").min().over("symbol", "event_time"))
    # Of 31 groups with two versions or more these remain: the others have both on one day.
    assert restated["symbol"].n_unique() == 8 and restated.height == 12
    names = ["net_margin", "liabilities_to_equity", "return_on_equity", "earnings_growth", "days_since_filing"]
    days = weekdays(450, start=date(2015, 6, 1))
    symbols = restated["symbol"].unique().sort().to_list()
    bars = pl.concat([bars_of(symbol, [1.0] * 450, days=days) for symbol in symbols])
    with_all, without = (
        compute_features(bars, names, opens=session_opens(days), references={"fundamentals": table})
        for table in (checked, checked.join(restated, on=["symbol", "event_time", "available_at"], how="anti"))
    )
    first = dict(restated.group_by("symbol").agg(pl.col("available_at").min().dt.date()).rows())
    changed = 0
    for symbol, day in first.items():
        mine, theirs = (frame.filter(pl.col("symbol") == symbol) for frame in (with_all, without))
        before = pl.col("session") < day
        assert mine.filter(before).equals(theirs.filter(before), null_equal=True), symbol
        changed += not mine.equals(theirs, null_equal=True)
    assert changed >= 5
