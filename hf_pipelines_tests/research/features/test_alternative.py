"""Insider trades and short interest: numbers by hand, and a brute-force oracle over random tables."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import compute_features, group_names
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, session_opens, table_of

NAN = float("nan")
NAMES = group_names("alternative")
# 2020-01-06 is a Monday; the 100th bar is Friday, 22 May.
DAYS = weekdays(100)
TODAY = DAYS[-1]


def _values(
    table: str, rows: list[dict[str, Any]], *, split: date | None = None, volume: float = 1000.0
) -> dict[date, dict[str, float]]:
    bars = bars_of("A", [20.0] * 100, volume=[volume] * 100, split_ratio=[1.0 + (day == split) for day in DAYS])
    names = [name for name in NAMES if ("insider" in name) == (table == "insider_trades")]
    frame = compute_features(bars, names, opens=session_opens(DAYS), references={table: table_of(table, rows)})
    return {row["session"]: row for row in frame.drop("symbol", "ts").iter_rows(named=True)}


def _trade(traded: date, shares: float, *, known: Any = None, name: str = "1", price: float = 20.0) -> dict[str, Any]:
    return {"symbol": "A", "event_time": traded, "available_at": known or traded, "trade_id": name,
            "shares": shares, "price": price, "value": shares * price}  # fmt: skip


def test_insider_trades_by_hand():
    rows = [
        _trade(date(2020, 5, 18), 500.0, known=date(2020, 5, 20)),
        _trade(date(2020, 5, 19), -200.0, name="2", price=30.0),
        # Known during the session of the 22nd: from Monday on.
        _trade(date(2020, 5, 21), 900.0, known=datetime(2020, 5, 22, 15, tzinfo=UTC), name="3"),
    ]
    of = _values("insider_trades", rows)
    assert of[date(2020, 5, 19)]["insider_net_buys_90"] == 0.0
    assert of[date(2020, 5, 20)]["insider_net_buys_90"] == -1.0
    # From the 21st both are known: +1 -1; 300 shares of 1,000 a day; 10,000 - 6,000 of 20,000 a day.
    assert [of[date(2020, 5, 21)][name] for name in NAMES[:3]] == pytest.approx([0.0, 0.3, 0.2])
    assert of[TODAY] == of[date(2020, 5, 21)] | {"session": TODAY}


def test_insider_trades_count_for_ninety_days():
    rows = [_trade(date(2020, 1, 20), 500.0)]
    of = _values("insider_trades", rows)
    # The end of 20 January, New York, is 05:00 UTC of the 21st: 90 days later is 20 April, 05:00.
    known = [day for day in DAYS if of[day]["insider_net_buys_90"] == 1.0]
    assert (known[0], known[-1]) == (date(2020, 1, 21), date(2020, 4, 17))


def test_amended_trade_replaces_the_first_version_from_its_own_availability():
    rows = [_trade(date(2020, 5, 14), 500.0), _trade(date(2020, 5, 14), -500.0, known=date(2020, 5, 19))]
    of = _values("insider_trades", rows)
    assert [of[date(2020, 5, day)]["insider_net_buys_90"] for day in (14, 15, 18, 19, 20, 21)] == [0, 1, 1, 1, -1, -1]


def test_insider_shares_are_counted_in_the_shares_of_today():
    of = _values("insider_trades", [_trade(date(2020, 5, 14), 500.0)], split=date(2020, 5, 19))
    # Before the split 500 of 1,000; after it 1,000 of a usual volume that is twice 1,000 for the bars before.
    assert of[date(2020, 5, 18)]["insider_net_shares_90"] == pytest.approx(0.5)
    assert of[date(2020, 5, 19)]["insider_net_shares_90"] == pytest.approx(1000.0 / ((59 * 2000 + 1000) / 60))
    on_the_day = _values("insider_trades", [_trade(date(2020, 5, 19), 500.0)], split=date(2020, 5, 19))
    assert on_the_day[date(2020, 5, 20)]["insider_net_shares_90"] == pytest.approx(500.0 / ((58 * 2000 + 2000) / 60))


def test_insider_trades_without_volume_or_value_are_nan():
    of = _values("insider_trades", [_trade(date(2020, 5, 14), 500.0)], volume=0.0)[TODAY]
    assert [of[name] for name in NAMES[:3]] == pytest.approx([1.0, NAN, NAN], nan_ok=True)
    of = _values("insider_trades", [_trade(date(2020, 5, 14), 500.0, price=NAN)])[TODAY]
    assert [of[name] for name in NAMES[:3]] == pytest.approx([1.0, 0.5, NAN], nan_ok=True)


def _report(settled: date, short: float, *, known: date | None = None, **figures: float) -> dict[str, Any]:
    return {"symbol": "A", "event_time": settled, "available_at": known or settled + timedelta(days=9),
            "shares_short": short, "average_daily_volume": 50.0, "shares_outstanding": 1000.0} | figures  # fmt: skip


REPORTS = [
    _report(date(2020, 3, 13), 100.0), _report(date(2020, 3, 31), 120.0),
    _report(date(2020, 4, 15), 150.0), _report(date(2020, 4, 30), 180.0),
]  # fmt: skip


def test_short_interest_by_hand():
    of = _values("short_interest", REPORTS)
    names = NAMES[3:]
    # The report of 30 April is out on 9 May, a Saturday.
    assert [of[date(2020, 5, 8)][name] for name in names[:2]] == pytest.approx([0.15, 3.0])
    assert [of[date(2020, 5, 11)][name] for name in names[:2]] == pytest.approx([0.18, 3.6])
    # The bars reach back 128 days, to 6 January, from 13 May on.
    assert [of[date(2020, 5, 13)][name] for name in names[2:]] == pytest.approx([0.2, 0.8])
    assert np.isnan([of[date(2020, 5, 12)][name] for name in names[2:]]).all()


def test_short_interest_revised_counts_from_its_own_availability():
    revised = [*REPORTS, _report(date(2020, 4, 15), 90.0, known=date(2020, 5, 13))]
    of = _values("short_interest", revised)
    assert of[date(2020, 5, 13)]["short_interest_change_1"] == pytest.approx(0.2)
    assert of[date(2020, 5, 14)]["short_interest_change_1"] == pytest.approx(1.0)
    # It revises an older settlement: the newest stays.
    assert of[date(2020, 5, 14)]["days_to_cover"] == pytest.approx(3.6)


@pytest.mark.parametrize(
    ("split", "change"),
    [
        pytest.param(date(2020, 4, 16), 180.0 / 300.0 - 1.0, id="between the reports"),
        pytest.param(date(2020, 4, 15), 0.2, id="on the settlement of the older"),
        pytest.param(date(2020, 4, 30), 180.0 / 300.0 - 1.0, id="on the settlement of the newer"),
        pytest.param(date(2020, 5, 4), 0.2, id="after both"),
    ],
)
def test_short_interest_change_takes_splits_out(split, change):
    assert _values("short_interest", REPORTS, split=split)[TODAY]["short_interest_change_1"] == pytest.approx(change)


def test_short_interest_that_is_stale_or_cannot_be_related_is_nan():
    early = _values("short_interest", REPORTS[:1])
    # Out on 22 March, end of day New York: 45 days later is 6 May.
    assert early[date(2020, 5, 6)]["days_to_cover"] == pytest.approx(2.0)
    assert np.isnan(early[date(2020, 5, 7)]["days_to_cover"])
    zero = _values("short_interest", [*REPORTS[:3], _report(date(2020, 4, 30), 0.0, average_daily_volume=0.0)])[TODAY]
    assert [zero[name] for name in NAMES[3:]] == pytest.approx([0.0, NAN, -1.0, -1.0], nan_ok=True)
    from_zero = _values("short_interest", [*REPORTS[:2], _report(date(2020, 4, 15), 0.0), REPORTS[3]])[TODAY]
    assert [from_zero[name] for name in NAMES[5:]] == pytest.approx([NAN, 0.8], nan_ok=True)


def _oracle(bars: pl.DataFrame, tables: dict[str, pl.DataFrame], symbol: str, day: date) -> dict[str, float]:
    """Everything from the rows known before the open, one row after the other."""
    moment = session_opens([day])[day]
    own = bars.filter(pl.col("symbol") == symbol, pl.col("session") <= day)
    splits = [
        (session_opens([session])[session], split) for session, split in own.select("session", "split_ratio").rows()
    ]

    def growth(after: datetime, until: datetime = moment) -> float:
        return float(np.prod([split for opened, split in splits if after < opened <= until]))

    known = {
        name: table.filter(pl.col("symbol") == symbol, pl.col("available_at") < moment).sort("available_at")
        for name, table in tables.items()
    }
    trades = {row["trade_id"]: row for row in known["insider_trades"].iter_rows(named=True)}
    recent = [row for row in trades.values() if row["event_time"] > moment - timedelta(days=90)]
    usual = own[-60:].with_columns(growth=pl.Series([growth(opened) for opened, _ in splits][-60:]))
    reports = {row["event_time"]: row for row in known["short_interest"].iter_rows(named=True)}
    newest = [reports[settled] for settled in sorted(reports, reverse=True)]
    if not newest or moment - newest[0]["available_at"] > timedelta(days=45):
        newest = []

    reaches_back = moment - splits[0][0] >= timedelta(days=128)

    def change(back: int) -> float:
        if len(newest) <= back or not reaches_back:
            return NAN
        now, before = newest[0], newest[back]
        # Splits that early are not in the window: reports are missing.
        if moment - before["event_time"] > timedelta(days=128):
            return NAN
        then = before["shares_short"] * growth(before["event_time"], now["event_time"])
        return now["shares_short"] / then - 1.0 if then > 0.0 else NAN

    shares = sum(row["shares"] * growth(row["event_time"]) for row in recent)
    return {
        "insider_net_buys_90": float(sum(np.sign(row["shares"]) for row in recent)),
        "insider_net_shares_90": shares / (usual["volume"] * usual["growth"]).mean() if reaches_back else NAN,
        "short_interest_ratio": newest[0]["shares_short"] / newest[0]["shares_outstanding"] if newest else NAN,
        "days_to_cover": newest[0]["shares_short"] / newest[0]["average_daily_volume"] if newest else NAN,
        "short_interest_change_1": change(1),
        "short_interest_change_3": change(3),
    }


@pytest.mark.parametrize("seed", range(4))
def test_features_agree_with_a_brute_force_oracle_over_random_tables(seed):
    symbols = [f"S{number:03d}" for number in range(5)]
    days = weekdays(300)
    bars = random_bars(symbols=5, sessions=300, seed=seed, has_reference=False)
    tables = random_references(symbols, start=days[0], end=days[-1], seed=seed)
    rng = np.random.default_rng(seed)
    tables = {name: table.filter(pl.Series(rng.random(table.height) > 0.2)) for name, table in tables.items()}
    values = compute_features(bars, NAMES, opens=session_opens(days), references=tables)
    for row in values.sample(40, seed=seed).iter_rows(named=True):
        expected = _oracle(bars, tables, row["symbol"], row["session"])
        ours = {name: row[name] for name in expected}
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-7, nan_ok=True), (row["symbol"], row["session"])
