"""Source `files`: which files it takes, what it says of those it cannot read, and how it finds them again."""

import os
import random
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.research.bars import SOURCE_SCHEMA, check_structure
from hf_pipelines.resources.market_data import SourceFile
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines_tests.sample_bars import bars_of

DAY, NEXT = date(2013, 2, 25), date(2013, 2, 26)
BARS = pl.concat([bars_of(name, [10.0], days=[DAY]) for name in ("AAA", "BBB")]).select(*SOURCE_SCHEMA)
HEADER = "symbol,session,ts,open,high,low,close,volume,split_ratio,dividend\n"


@pytest.fixture
def source(tmp_path: Path) -> FilesSource:
    return FilesSource(ObjectStore(str(tmp_path)))


def read_one(source: FilesSource, *, day: date = DAY) -> SourceFile:
    (file,) = source.read([day])
    return file


def csv_row(
    symbol: str = "AAA", session: str = "2013-02-25", ts: str = "2013-02-25T21:00:00Z", close: str = "10"
) -> str:
    return f"{symbol},{session},{ts},10,10,10,{close},1000,1,0\n"


def test_read_of_a_parquet_file_gives_its_rows_and_the_sha256_of_its_bytes(source, tmp_path):
    path = tmp_path / "2013-02-25.parquet"
    BARS.write_parquet(path)
    file = read_one(source)
    assert file.frame.equals(BARS)
    assert (file.name, file.sessions, file.fault) == ("2013-02-25.parquet", (DAY,), None)
    assert file.sha256 == sha256(path.read_bytes()).hexdigest()
    assert source.listing([DAY, NEXT]) == {file.name: file.sha256}


def test_read_of_a_csv_file_gives_the_types_of_the_contract(source, tmp_path):
    (tmp_path / "2013-02-25.csv").write_text(HEADER + csv_row() + csv_row("BBB", ts="2013-02-25T16:00:00-05:00"))
    frame = read_one(source).frame
    assert dict(frame.schema) == SOURCE_SCHEMA
    assert frame["ts"].to_list() == [datetime(2013, 2, 25, 21, tzinfo=UTC)] * 2
    assert frame.row(0) == ("AAA", DAY, datetime(2013, 2, 25, 21, tzinfo=UTC), 10.0, 10.0, 10.0, 10.0, 1000.0, 1.0, 0.0)


def test_read_takes_every_file_of_the_sessions_asked_for_and_no_other(source, tmp_path):
    for name in ("2013-02-25.csv", "2013-02-25-late.csv", "2013-02-25.v2.csv", "2013-02-26.csv", "2013-02-27.csv"):
        (tmp_path / name).write_text(HEADER + csv_row(session=name[:10], symbol=f"A{len(name)}"))
    for name in (
        "notes.csv",
        "2013-02-25.txt",
        "2013-02-25.csv.tmp",
        "x2013-02-25.csv",
        "2013-02-25..csv",
        "2013-2-25.csv",
    ):
        (tmp_path / name).write_text("not for us")
    (tmp_path / f"2013-02-25{'x' * 150}.csv").write_text("not for us")
    (tmp_path / "2013-02-25").mkdir()
    (tmp_path / "2013-02-25" / "2013-02-25.csv").write_text("not for us")
    names = [file.name for file in source.read([DAY, NEXT])]
    assert names == ["2013-02-25.csv", "2013-02-25.v2.csv", "2013-02-25-late.csv", "2013-02-26.csv"]
    assert list(source.listing([DAY, NEXT])) == names


def test_listing_reads_an_object_that_has_rested_once_until_it_changes_and_a_young_one_each_time(
    source, tmp_path, monkeypatch
):
    rested, young = (tmp_path / f"{day}.csv" for day in (DAY, NEXT))
    rested.write_text(HEADER + csv_row())
    young.write_text(HEADER + csv_row(session=f"{NEXT}"))
    hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(rested, (hour_ago, hour_ago))
    fetched, get = [], ObjectStore.get
    monkeypatch.setattr(
        ObjectStore, "get", lambda self, key, **options: fetched.append(key) or get(self, key, **options)
    )

    listed = [source.listing([DAY, NEXT]) for _ in range(3)]

    # Two writes of one moment may bear one time: what was written just now is not taken by its time.
    assert fetched == [rested.name, young.name, young.name, young.name]
    assert listed == [{path.name: sha256(path.read_bytes()).hexdigest() for path in (rested, young)}] * 3
    # Of the same size and with the time of the file whose place it takes.
    rested.write_text(HEADER + csv_row(close="20"))
    os.utime(rested, (hour_ago, hour_ago))
    assert source.listing([DAY])[rested.name] == sha256(rested.read_bytes()).hexdigest() != listed[0][rested.name]
    assert fetched[4:] == [rested.name]
    # A source made anew, as in the next process, remembers nothing.
    assert FilesSource(source.objects).listing([DAY]) == source.listing([DAY])
    assert fetched[5:] == [rested.name]


def test_read_of_no_file_is_empty(source):
    assert source.read([DAY]) == []
    assert source.listing([DAY]) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(csv_row(close="ten"), "row 3: `close` must be of type Float64, was 'ten'", id="price"),
        pytest.param(csv_row(close="1,5"), "found more fields than defined", id="comma"),
        pytest.param(
            csv_row(session="25.02.2013"), "row 3: `session` must be of type Date, was '25.02.2013'", id="day"
        ),
        pytest.param(
            csv_row(ts="2013-02-25T25:00:00Z"),
            "row 3: `ts` must be of type Datetime(time_unit='us', time_zone='UTC'), was '2013-02-25T25?00?00Z'",
            id="hour",
        ),
        pytest.param(csv_row(ts="1361826000"), "row 3: `ts` must be of type Datetime", id="epoch"),
        pytest.param('"AAA,2013-02-25\n', "could not parse", id="open-quote"),
    ],
)
def test_read_of_a_csv_that_does_not_parse_names_file_and_row(source, tmp_path, row, reason):
    (tmp_path / "2013-02-25.csv").write_text(HEADER + csv_row() + row)
    file = read_one(source)
    assert file.frame is None
    assert file.sessions == (DAY,)
    assert file.fault.startswith(f"`{tmp_path}/2013-02-25.csv` must be a table of bars, was not: ")
    assert reason in file.fault


def test_read_of_a_csv_with_naive_times_keeps_them_naive_for_the_validator_to_refuse(source, tmp_path):
    from hf_pipelines.research.bars import check_structure

    (tmp_path / "2013-02-25.csv").write_text(HEADER + csv_row() + csv_row("BBB", ts="2013-02-25T21:00:00"))
    frame = read_one(source).frame
    assert frame.schema["ts"] == pl.Datetime("us", None)
    with pytest.raises(ValueError, match="`ts` must be a timestamp with a time zone, was Datetime"):
        check_structure(frame, source="2013-02-25.csv", hours={}, now=datetime(2020, 1, 1, tzinfo=UTC))


def test_read_of_empty_fields_gives_nulls_for_the_validator_to_quarantine(source, tmp_path):
    (tmp_path / "2013-02-25.csv").write_text(HEADER + csv_row(close="") + csv_row("BBB", close="NaN"))
    closes = read_one(source).frame["close"]
    assert closes[0] is None
    assert closes.is_nan().to_list() == [None, True]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_read_of_a_file_whose_sessions_disagree_with_its_name_is_a_fault(source, tmp_path, form):
    if form == "csv":
        (tmp_path / "2013-02-25.csv").write_text(HEADER + csv_row() + csv_row(session="2013-02-26"))
    else:
        BARS.with_columns(session=pl.Series([DAY, NEXT])).write_parquet(tmp_path / "2013-02-25.parquet")
    file = read_one(source)
    assert file.frame is None
    assert "`session` must be 2013-02-25 as in the file's name, was 2013-02-26" in file.fault


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PAR1", id="magic"),
        pytest.param(b"symbol,close\nAAA,1\n", id="csv-inside"),
        pytest.param(b"PAR1" + bytes(200) + b"PAR1", id="hollow"),
    ],
)
def test_read_of_foreign_bytes_is_a_fault_that_names_the_file(source, tmp_path, payload):
    (tmp_path / "2013-02-25.parquet").write_bytes(payload)
    file = read_one(source)
    assert file.frame is None
    assert file.fault.startswith(f"`{tmp_path}/2013-02-25.parquet` must be a table of bars, was not: ")
    assert len(file.fault) < 600
    assert file.sha256 == sha256(payload).hexdigest()


def test_read_of_a_truncated_parquet_file_is_a_fault(source, tmp_path):
    path = tmp_path / "2013-02-25.parquet"
    BARS.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert read_one(source).frame is None


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe\x00\x01"], ids=["empty", "binary"])
def test_read_of_a_csv_without_a_table_has_no_rows_of_the_contract(source, tmp_path, payload):
    (tmp_path / "2013-02-25.csv").write_bytes(payload)
    file = read_one(source)
    assert file.frame is None or not set(SOURCE_SCHEMA) & set(file.frame.columns)


def test_read_of_randomly_edited_parquet_files_is_a_fault_or_a_frame_but_never_an_abort(source, tmp_path):
    path = tmp_path / "2013-02-25.parquet"
    BARS.write_parquet(path)
    sound = path.read_bytes()
    rng = random.Random(5)
    n_faults = 0
    for _ in range(300):
        edited = bytearray(sound)
        for _ in range(rng.choice([1, 4, 30])):
            edited[rng.randrange(len(edited))] ^= rng.randrange(1, 256)
        path.write_bytes(edited)
        n_faults += read_one(source).frame is None
    assert n_faults > 100


@pytest.mark.parametrize(
    ("variable", "was"),
    [
        ("HF_MAX_ROWS", "it holds 2 rows, above 1 (HF_MAX_ROWS)"),
        ("HF_MAX_COLUMNS", "it holds 10 columns, above 1 (HF_MAX_COLUMNS)"),
    ],
)
def test_read_of_a_file_of_more_rows_or_columns_than_are_allowed_is_a_fault(
    source, tmp_path, monkeypatch, variable, was
):
    BARS.write_parquet(tmp_path / "2013-02-25.parquet")
    BARS.write_csv(tmp_path / "2013-02-25.csv")
    assert [file.fault for file in source.read([DAY])] == [None, None]
    monkeypatch.setenv(variable, "1")
    assert [was in file.fault for file in source.read([DAY])] == [True, True]


def test_read_from_an_s3_prefix_gives_the_same_rows(s3_endpoint, source, tmp_path):
    BARS.write_parquet(tmp_path / "2013-02-25.parquet")
    remote = FilesSource(ObjectStore(f"s3://hf-test/{tmp_path.name}/arrivals", s3_endpoint))
    remote.objects.put("2013-02-25.parquet", (tmp_path / "2013-02-25.parquet").read_bytes())
    assert remote.listing([DAY]) == source.listing([DAY])
    assert read_one(remote).frame.equals(BARS)


@pytest.mark.parametrize("n_cut", range(1, 8))
def test_csv_cut_inside_its_last_line_is_refused(tmp_path, n_cut):
    # Cut inside its last number it would still parse: a dividend of 12.34 as 12.3.
    whole = HEADER + csv_row() + csv_row("BBB").replace(",1,0\n", ",1,12.34567\n")
    (tmp_path / "2013-02-25.csv").write_text(whole[:-n_cut])
    (file,) = FilesSource(ObjectStore(str(tmp_path))).read([date(2013, 2, 25)])
    assert file.frame is None
    assert "its last line must end with a newline, the file was cut off; write it whole" in file.fault


def test_tickers_of_digits_and_words_of_a_csv_and_of_a_parquet_dictionary_are_text(tmp_path):
    tickers = ["0700", "300027", "1E5", "TRUE", "FALSE", "NA", "NULL", "NAN", "INF"]
    (tmp_path / "2013-02-25.csv").write_text(HEADER + "".join(csv_row(each) for each in tickers))
    source = FilesSource(ObjectStore(str(tmp_path)))
    (of_csv,) = source.read([date(2013, 2, 25)])
    assert of_csv.frame["symbol"].to_list() == tickers
    (tmp_path / "2013-02-25.csv").unlink()
    of_csv.frame.with_columns(pl.col("symbol").cast(pl.Categorical)).to_pandas().to_parquet(
        tmp_path / "2013-02-25.parquet"
    )
    (of_parquet,) = source.read([date(2013, 2, 25)])
    assert of_parquet.frame["symbol"].to_list() == tickers
    # pandas without a word makes numbers of them: nothing tells any more which ticker had zeros.
    numbers = of_csv.frame.with_columns(symbol=pl.int_range(pl.len()))
    with pytest.raises(
        ValueError, match="`symbol` must be of type String, was Int64 .as a number 0700 is 700: write tickers as text"
    ):
        check_structure(numbers, source="numbers", hours={}, now=datetime(2030, 1, 1, tzinfo=UTC))
