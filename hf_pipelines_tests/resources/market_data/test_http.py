"""Source `http` against the reference server over a real socket: the truth, paged in both encodings, and every fault."""

import socket
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

import polars as pl
import pytest

from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data import MarketDataOutageError, MarketDataRefusedError, http, http_transport
from hf_pipelines.resources.market_data.http import HttpSource
from hf_pipelines_tests.market_data_server import MarketDataServer, serving

KEY = "k3y-that-nobody-may-see"
WEEKS = ("2013-02-17", "2013-02-24")
XNYS = MarketPartitions("XNYS", "America/New_York", date(2013, 2, 19), date(2013, 3, 1))
SESSIONS = [day for week in WEEKS for day in XNYS.sessions_of_week(week)]
SYMBOLS = ("AAA", "BBB", "CCC")


def bars() -> pl.DataFrame:
    rows = [
        (symbol, day, XNYS.hours[day][1], price, price + 1, price - 1, price, 1000.0, 1.0, 0.0)
        for number, symbol in enumerate(SYMBOLS)
        for day in SESSIONS
        for price in (10.0 * (number + 1) + day.day,)
    ]
    return pl.DataFrame(rows, schema=SOURCE_SCHEMA, orient="row")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http_transport, "WAITS_S", (0.01, 0.02))
    with serving(MarketDataServer({"ohlcv": bars()})) as server:
        yield server


def source(server: MarketDataServer, **options) -> HttpSource:
    return HttpSource(server.url, SYMBOLS, **{"timeout_s": 5.0, **options})


@pytest.mark.parametrize("is_parquet", [False, True], ids=["json", "parquet"])
@pytest.mark.parametrize("page_rows", [1000, 4], ids=["one-page", "paged"])
def test_read_gives_the_rows_of_each_week_whatever_the_pages_and_encoding(server, is_parquet, page_rows):
    server.is_parquet, server.page_rows = is_parquet, page_rows
    files = source(server).read(SESSIONS)
    assert [file.name for file in files] == [f"http/ohlcv/{week}" for week in WEEKS]
    assert [file.fault for file in files] == [None, None]
    read = pl.concat(file.frame.select(*SOURCE_SCHEMA) for file in files)
    assert read.sort("symbol", "ts").equals(bars().sort("symbol", "ts"))
    # 12 and 15 rows, asked for together; the hash is that of the rows, not of the bytes.
    assert len(server.requests) == (1 if page_rows == 1000 else 7)
    server.is_parquet, server.page_rows = not is_parquet, 5
    assert source(server).listing(SESSIONS) == {file.name: file.sha256 for file in files}


def test_read_of_weeks_together_gives_the_files_of_each_alone(server):
    apart = [file for week in WEEKS for file in source(server).read(XNYS.sessions_of_week(week))]
    # Three symbols in bars of a minute: 30,240 rows a week, 16 weeks together; of 90 one.
    for timeframe, symbols, n_requests in (("1d", SYMBOLS, 1), ("1m", SYMBOLS, 1), ("1m", SYMBOLS * 30, 2)):
        server.requests.clear()
        together = HttpSource(server.url, symbols, timeframe=timeframe).read(SESSIONS)
        assert [(each.name, each.sha256, each.sessions) for each in together] == [
            (each.name, each.sha256, each.sessions) for each in apart
        ]
        assert len(server.requests) == n_requests
    # A week in between that nobody wants is not asked for.
    server.requests.clear()
    source(server).read([date(2013, 2, 19), date(2013, 3, 5)])
    assert [each["query"]["start"] for each in server.requests] == ["2013-02-19", "2013-03-05"]


def test_read_of_weeks_together_without_rows_of_one_gives_the_empty_file_of_that_week_alone(server):
    server.tables = {"ohlcv": bars().filter(pl.col("session").is_in(XNYS.sessions_of_week(WEEKS[1])))}
    (empty, full) = source(server).read(SESSIONS)
    for is_parquet in (False, True):
        server.is_parquet = is_parquet
        (alone,) = source(server).read(XNYS.sessions_of_week(WEEKS[0]))
        assert (alone.name, alone.sha256, alone.frame.height) == (empty.name, empty.sha256, 0)
    assert full.frame.height == 15


def test_read_asks_as_the_contract_says(server):
    source(server, timeframe="1h").read([SESSIONS[0], SESSIONS[1]])
    (asked,) = server.requests
    assert asked["path"] == "/v1/ohlcv"
    assert asked["query"] == {
        "symbols": "AAA,BBB,CCC", "timeframe": "1h", "start": "2013-02-19", "end": "2013-02-20"
    }  # fmt: skip
    assert "Authorization" not in asked["headers"]


def test_read_of_250_symbols_asks_for_100_at_a_time(server):
    many = tuple(f"S{number:03d}" for number in range(250))
    HttpSource(server.url, many).read(SESSIONS[:1])
    assert [len(each["query"]["symbols"].split(",")) for each in server.requests] == [100, 100, 50]


def test_read_of_a_revised_row_changes_the_hash_of_its_week_alone(server):
    before = source(server).listing(SESSIONS)
    is_revised = (pl.col("symbol") == "BBB") & (pl.col("session") == date(2013, 2, 26))
    server.tables = {"ohlcv": bars().with_columns(volume=pl.when(is_revised).then(1.0).otherwise("volume"))}
    after = source(server).listing(SESSIONS)
    assert {name for name in before if before[name] != after[name]} == {"http/ohlcv/2013-02-24"}


@pytest.mark.parametrize(
    "fault", [500, 502, 503, 429, 408, (503, 1), "reset", "short"], ids=lambda fault: str(fault).replace(" ", "")
)
def test_read_after_one_fault_that_passes_gives_the_rows(server, fault):
    server.faults = [fault]
    (file,) = source(server).read(SESSIONS[:4])
    assert file.frame.height == 12
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (503, "was answered 503"),
        (429, "was answered 429"),
        ("reset", "broke off: .*(reset|closed)"),
        ("short", "broke off: .*IncompleteRead"),
        ("hang", "timed out after 0.2 s"),
    ],
)
def test_read_of_a_lasting_outage_is_an_outage_after_three_tries(server, fault, message):
    server.faults, server.is_lasting = [fault], True
    with pytest.raises(MarketDataOutageError, match=message) as caught:
        source(server, timeout_s=0.2 if fault == "hang" else 5.0).read(SESSIONS)
    assert f"GET {server.url}/ohlcv for AAA, BBB, CCC from 2013-02-19 to 2013-03-01" in str(caught.value)
    assert len(server.requests) == 3


def test_read_of_a_server_that_is_not_there_is_an_outage(monkeypatch):
    monkeypatch.setattr(http_transport, "WAITS_S", ())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MarketDataOutageError, match=f"GET {url}/ohlcv for AAA .*Connection refused"):
            HttpSource(url, ("AAA",)).read(SESSIONS)


@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
def test_read_of_a_server_that_asks_for_a_long_wait_leaves_it_to_the_step(server, is_date):
    later = datetime.now(UTC) + timedelta(seconds=120)
    server.faults = [(429, format_datetime(later, usegmt=True) if is_date else 120)]
    with pytest.raises(MarketDataOutageError) as caught:
        source(server).read(SESSIONS)
    assert caught.value.retry_after_s == pytest.approx(120, abs=3)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "set the key of the service in the variable that `api_key_env` names"),
        (403, "see that the key may read this table and these symbols"),
        (404, "see that `base_url` is right and that the service knows these symbols"),
        (400, "see what the service says to it"),
        (302, "set `base_url` to where the service is now"),
    ],
)
def test_read_that_is_refused_fails_at_once_with_url_symbols_and_remedy(server, status, remedy):
    server.faults = [status]
    with pytest.raises(MarketDataRefusedError, match=f"refused with {status}; {remedy}") as caught:
        source(server).read(SESSIONS)
    assert f"{server.url}/ohlcv for AAA, BBB, CCC" in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "page 1 is no JSON"),
        ("html", "page 1 must be application/json or application/vnd.apache.parquet, was text/html"),
        ("list", 'page 1 must be {"data": '),
        ("text_price", "page 1: row 1: `close` must be a number, was '12.5 USD'"),
        ("naive_ts", "page 1: row 1: `ts` must be a time with an offset, was '2013-02-25T21?00?00'"),
    ],
)
def test_read_of_an_answer_that_is_no_table_fails_its_week_alone(server, fault, message):
    # Both weeks together, then the first alone.
    server.faults = [fault, fault]
    broken, sound = source(server).read(SESSIONS)
    assert len(server.requests) == 3
    assert broken.frame is None
    assert broken.fault.startswith(f"`{server.url}/ohlcv from 2013-02-19 to 2013-02-22` must be a table, was not: ")
    assert message in broken.fault
    assert sound.frame.height == 15


def test_read_of_a_truncated_parquet_page_fails_its_week(server):
    server.is_parquet, server.faults = True, ["truncated", "truncated"]
    broken, sound = source(server).read(SESSIONS)
    assert "page 1 is no Parquet" in broken.fault
    assert sound.fault is None


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"cursors": {2: "1"}, "page_rows": 4}, "leads back to an earlier one"),
        ({"repeats_pages": True, "page_rows": 4}, "page 2 repeats an earlier one"),
    ],
    ids=["cursor-loop", "same-page-again"],
)
def test_read_of_pages_that_do_not_end_fails_its_week(server, lie, message):
    for name, value in lie.items():
        setattr(server, name, value)
    (file,) = source(server).read(SESSIONS[:4])
    assert message in file.fault
    assert len(server.requests) <= 4


def test_read_beyond_the_bounds_on_pages_and_bytes_fails_its_week(server, monkeypatch):
    server.page_rows = 1
    monkeypatch.setattr(http, "MAX_PAGES", 5)
    assert "more than 5 pages" in source(server).read(SESSIONS[:4])[0].fault
    assert len(server.requests) == 5
    server.page_rows = 1000
    monkeypatch.setattr(settings, "max_file_bytes", lambda: 1000)
    assert "more than 1,000 bytes" in source(server).read(SESSIONS[:4])[0].fault


def test_read_of_rows_that_were_not_asked_for_fails_its_week(server):
    server.rows = lambda table, query: bars()
    (file,) = source(server).read(SESSIONS[:2])
    assert "session 2013-02-21 was not asked for" in file.fault


def test_read_keeps_events_without_prices_on_days_that_are_no_session(server):
    stray = bars()[:1].with_columns(session=pl.lit(date(2013, 2, 23)), split_ratio=2.0)
    stray = stray.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low", "close", "volume")
    )
    server.rows = lambda table, query: pl.concat([bars(), stray])
    asked = sorted(bars()["session"].unique())
    of_stray = [file.frame.filter(pl.col("split_ratio") == 2.0).height for file in source(server).read(asked)]
    # A Saturday after the last session of its week was not asked for; between two sessions it is.
    assert of_stray == [0] * len(of_stray)
    moved = stray.with_columns(session=pl.lit(date(2013, 2, 21)))
    server.rows = lambda table, query: pl.concat([bars().filter(pl.col("session") != date(2013, 2, 21)), moved])
    days = [day for day in asked if day != date(2013, 2, 21)]
    assert sum(file.frame.filter(pl.col("split_ratio") == 2.0).height for file in source(server).read(days)) == 1


def test_read_of_an_empty_answer_is_a_table_without_rows(server):
    server.faults = ["empty"]
    (file,) = source(server).read(SESSIONS[:4])
    assert (file.fault, file.frame.height, file.frame.columns) == (None, 0, list(SOURCE_SCHEMA))


def test_read_sends_the_key_of_the_variable_and_no_message_holds_it(server, monkeypatch):
    monkeypatch.setenv("MARKET_KEY", KEY)
    server.key = KEY
    keyed = source(server, api_key_env="MARKET_KEY")
    assert len(keyed.read(SESSIONS)) == 2
    assert KEY not in repr(keyed)
    server.faults, server.is_lasting = [503], True
    with pytest.raises(MarketDataOutageError) as outage:
        keyed.read(SESSIONS)
    server.faults, server.is_lasting = [403], True
    with pytest.raises(MarketDataRefusedError) as refused:
        keyed.read(SESSIONS)
    for caught in (outage, refused):
        told, error = "", caught.value
        while error is not None:
            told, error = f"{told} {error!r}", error.__cause__ or error.__context__
        assert KEY not in told


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak"], ids=["unset", "empty", "blank", "newline"])
def test_read_without_a_usable_key_names_the_variable(server, monkeypatch, value):
    monkeypatch.delenv("MARKET_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MARKET_KEY", value)
    with pytest.raises(MarketDataRefusedError, match="MARKET_KEY holds none; set it") as caught:
        source(server, api_key_env="MARKET_KEY").read(SESSIONS)
    assert not value or value not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "host/x", "https://", "https://user:secret@host", "https://host?key=secret", "http://h:x"]
)
def test_base_url_that_is_no_plain_address_is_refused_without_repeating_it(url):
    with pytest.raises(ValueError, match="`base_url` must") as caught:
        HttpSource(url, SYMBOLS)
    assert "secret" not in str(caught.value)


def test_read_reference_gives_the_rows_that_became_available_in_each_week(server):
    # A filing on Saturday belongs to the week that it became known in.
    known = [datetime(2013, 2, 23, 15, tzinfo=UTC), datetime(2013, 2, 25, 22, tzinfo=UTC)]
    filings = pl.DataFrame(
        {"symbol": ["AAA", "BBB"], "event_time": known, "available_at": known, "period": ["FY", "Q4"], "revenues": [5.0, None]},
        schema_overrides={"event_time": pl.Datetime("us", "UTC"), "available_at": pl.Datetime("us", "UTC")},
    )  # fmt: skip
    server.tables = {"fundamentals": filings}
    first, second = source(server).read_reference("fundamentals", WEEKS)
    assert first.frame.select(filings.columns).equals(filings[:1])
    assert second.frame.select(filings.columns).equals(filings[1:])
    assert server.requests[0]["query"] == {"symbols": "AAA,BBB,CCC", "start": "2013-02-17", "end": "2013-02-23"}
    with pytest.raises(ValueError, match="`table` must be one of fundamentals, insider_trades"):
        source(server).read_reference("ohlcv", WEEKS)
