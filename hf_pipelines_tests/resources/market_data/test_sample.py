"""Source `sample`: the real bars inside the installed packages keep the contract."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bars import SOURCE_SCHEMA, check_structure, validate_bars
from hf_pipelines.resources.market_data.sample import INDICES, STOCKS, SampleSource

US = MarketPartitions("XNYS", "America/New_York", date(2000, 3, 1), date(2013, 3, 1))
SOURCE = SampleSource((*STOCKS, *INDICES), US.hours)
ALL_SESSIONS = US.sessions_between(date(2000, 3, 1), date(2013, 3, 1))


@pytest.fixture(scope="module")
def whole() -> dict[str, pl.DataFrame]:
    return {file.name.removeprefix("sample/"): file.frame for file in SOURCE.read(ALL_SESSIONS)}


def test_read_of_the_week_of_apples_split_by_hand():
    days = US.sessions_of_week("2005-02-27")
    files = {file.name: file for file in SOURCE.read(days)}
    # GOOG was listed by then, FB was not.
    assert sorted(files) == ["sample/AAPL", "sample/GOOG", "sample/IBM", "sample/MSFT", "sample/SPX"]
    apple = files["sample/AAPL"].frame
    assert dict(apple.schema) == SOURCE_SCHEMA
    monday = apple.row(0, named=True)
    assert (monday["session"], monday["split_ratio"]) == (date(2005, 2, 28), 2.0)
    assert monday["ts"] == datetime(2005, 2, 28, 21, tzinfo=UTC)
    assert monday["close"] == pytest.approx(44.86)
    assert apple["split_ratio"].to_list()[1:] == [1.0] * 4
    before = SOURCE.read(US.sessions_of_week("2005-02-20"))[0].frame
    assert before["close"][-1] == pytest.approx(88.99)


def test_read_of_a_half_day_closes_at_one():
    (friday,) = SampleSource(("AAPL",), US.hours).read([date(2012, 11, 23)])
    assert friday.frame["ts"].to_list() == [datetime(2012, 11, 23, 18, tzinfo=UTC)]


def test_read_of_every_session_keeps_the_contract_without_a_fault(whole):
    universe = dict.fromkeys(whole, "member")
    for name, frame in whole.items():
        now = datetime(2013, 3, 2, tzinfo=UTC)
        checked = validate_bars(
            check_structure(frame, source=name, hours=US.hours, now=now), universe=universe, source=name
        )
        assert checked.quarantined.is_empty()
        assert checked.bars.height == frame.height


@pytest.mark.parametrize(
    ("symbol", "first", "n_bars"),
    [
        ("AAPL", date(2000, 3, 1), 3270),
        ("FB", date(2012, 5, 18), 196),
        ("GOOG", date(2004, 8, 19), 2148),
        ("IBM", date(2000, 3, 1), 3270),
        ("MSFT", date(2000, 3, 1), 3270),
        ("SPX", date(2000, 3, 1), 3270),
    ],
)
def test_read_of_every_session_has_a_bar_on_each_from_the_listing_on(whole, symbol, first, n_bars):
    frame = whole[symbol]
    assert (frame["session"][0], frame["session"][-1], frame.height) == (first, date(2013, 3, 1), n_bars)
    assert frame["session"].to_list() == [day for day in ALL_SESSIONS if day >= first]


def test_read_of_the_index_has_no_events(whole):
    assert whole["SPX"].select("split_ratio", "dividend").unique().rows() == [(1.0, 0.0)]


def test_read_of_the_index_is_what_arch_itself_loads(whole):
    sp500 = pytest.importorskip("arch.data.sp500").load().loc["2000-03-01":"2013-03-01"]
    assert whole["SPX"]["session"].to_list() == sp500.index.date.tolist()
    for name in ("Open", "Close", "Volume"):
        assert whole["SPX"][name.lower()].to_list() == sp500[name].to_list()


def test_listing_of_a_week_does_not_depend_on_the_week_nor_on_who_asks():
    one, other = (SOURCE.listing(US.sessions_of_week(week)) for week in ("2012-12-30", "2013-01-06"))
    assert one == other
    assert len(one) == 6
    assert all(len(digest) == 64 for digest in one.values())


def test_sample_source_of_an_unknown_symbol_lists_the_known():
    message = "`universe` must be among AAPL, FB, GOOG, IBM, MSFT, SPX for source `sample`, was TSLA, ZZZ"
    with pytest.raises(ValueError, match=message):
        SampleSource(("AAPL", "ZZZ", "TSLA"), US.hours)


@pytest.mark.parametrize("week", ["2004-08-08", "2004-08-15", "2012-05-13", "2013-02-24"])
def test_listing_names_the_files_that_a_read_gives(week):
    sessions = US.sessions_of_week(week)
    assert SOURCE.listing(sessions) == {file.name: file.sha256 for file in SOURCE.read(sessions)}
