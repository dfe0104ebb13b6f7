"""What arrives can hurt nobody: files that are too large, no files, or made to break who reads them."""

import io
import os
import signal
import time
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_pipelines.research.bars import SOURCE_SCHEMA, check_structure
from hf_pipelines.resources.disk_files import time_of
from hf_pipelines.resources.limits import Limits, parquet_fault
from hf_pipelines.resources.market_data import reader
from hf_pipelines.resources.market_data.files import FilesSource
from hf_pipelines.resources.market_data.reader import read_apart
from hf_pipelines.resources.market_data.tables import RefusedTableError
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines_tests.sample_bars import bars_of

DAY, NEXT = date(2013, 2, 25), date(2013, 2, 26)
CANARY = "s3cr3t:canary-of-a-file"
LATER = datetime(2040, 1, 1, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> FilesSource:
    folder = tmp_path / "landing"
    folder.mkdir()
    return FilesSource(ObjectStore(str(folder)))


@pytest.fixture
def folder(source: FilesSource) -> Path:
    return Path(source.objects.uri)


def sound(day: date = DAY) -> bytes:
    payload = io.BytesIO()
    bars_of("AAA", [10.0], days=[day]).select(*SOURCE_SCHEMA).write_parquet(payload)
    return payload.getvalue()


def bomb(n_rows: int = 100_000, length: int = 100_000) -> bytes:
    """A few kilobytes that name one text of `length` characters in each of `n_rows` rows: ten gigabytes."""
    symbols = pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), pa.array(["A" * length]))
    table = pa.table({"symbol": symbols.cast(pa.dictionary(pa.int32(), pa.string()))})
    payload = io.BytesIO()
    parquet.write_table(table, payload, compression="zstd", store_schema=False)
    return payload.getvalue()


# --- caps


def test_read_of_a_sparse_file_of_400_gb_names_it_and_takes_it_once_it_is_put_right(source, folder):
    hostile = folder / f"{DAY}.parquet"
    hostile.touch()
    os.truncate(hostile, 400_000_000_000)
    (folder / f"{NEXT}.parquet").write_bytes(sound(NEXT))

    files = source.read([DAY, NEXT])

    assert [(file.name, file.frame is None) for file in files] == [(hostile.name, True), (f"{NEXT}.parquet", False)]
    assert files[0].fault == (
        f"`{hostile}` must be a regular file of usual size, was 400,000,000,000 bytes, above 500,000,000."
    )
    assert source.listing([DAY, NEXT]) == {file.name: file.sha256 for file in files}
    seen = source.scan(now=LATER).fingerprints
    hostile.unlink()
    hostile.write_bytes(sound())
    assert source.scan(now=LATER).fingerprints != seen
    (mended,) = source.read([DAY])
    assert mended.fault is None
    assert mended.sha256 not in {file.sha256 for file in files}


def test_read_of_kilobytes_that_decode_to_ten_gigabytes_is_refused_by_what_they_would_take(source, folder):
    payload = bomb()
    assert len(payload) < 10_000
    (folder / f"{DAY}.parquet").write_bytes(payload)
    (file,) = source.read([DAY])
    assert "it holds 10,001,600,000 bytes or more when decoded, above 1,000,000,000" in file.fault


@pytest.mark.parametrize("length", [1, 1000])
def test_parquet_fault_of_texts_counts_each_as_often_as_it_is_there(length):
    n_rows = 1000
    # As polars and Arrow keep a text: its characters and 16 bytes.
    n_bytes = n_rows * (length + 16)
    limits = Limits(10**9, 10**9, 10, n_bytes)
    assert parquet_fault(bomb(n_rows, length), limits) == ""
    assert parquet_fault(bomb(n_rows, length), Limits(10**9, 10**9, 10, n_bytes - 1)).startswith(f"{n_bytes:,} bytes")


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"symbol,close\n" + b"A,1\n" * 500_000, id="bytes"),
        pytest.param(b"a" + b",a" * 250_000 + b"\n", id="columns"),
        pytest.param(b"a,b\n" + b",\n" * 60_000, id="decoded"),
    ],
)
def test_read_of_a_csv_above_a_cap_is_refused_unparsed(source, folder, payload, monkeypatch):
    monkeypatch.setenv("HF_MAX_FILE_MB", "1")
    monkeypatch.setenv("HF_MAX_TABLE_MB", "1")
    (folder / f"{DAY}.csv").write_bytes(payload)
    (file,) = source.read([DAY])
    assert file.frame is None
    assert "above" in file.fault


# --- what is no file


def test_read_of_what_is_no_regular_file_names_it_and_neither_follows_it_nor_waits(source, folder, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text(f"{CANARY}\n")
    planted = {
        "a": lambda path: path.symlink_to(path),
        "b": lambda path: path.symlink_to(secret),
        "c": lambda path: path.symlink_to("x" * 300),
        "d": lambda path: path.symlink_to("/dev/zero"),
        "e": os.mkfifo,
        "f": Path.mkdir,
        "g": lambda path: path.symlink_to(f"{NEXT}.parquet"),
    }
    (folder / f"{NEXT}.parquet").write_bytes(sound(NEXT))
    for letter, plant in planted.items():
        plant(folder / f"{DAY}-{letter}.csv")

    files = {file.name: file for file in source.read([DAY, NEXT])}

    assert files.pop(f"{NEXT}.parquet").frame is not None
    kinds = dict.fromkeys("abcdg", "a symbolic link") | {"e": "a pipe", "f": "a folder"}
    assert {name: file.fault for name, file in files.items()} == {
        f"{DAY}-{letter}.csv": f"`{folder}/{DAY}-{letter}.csv` must be a regular file of usual size, was {kind}."
        for letter, kind in kinds.items()
    }
    scan = source.scan(now=LATER)
    assert scan.strays[:2] == (f"{DAY}-a.csv (a symbolic link)", f"{DAY}-b.csv (a symbolic link)")
    # Putting right one of them is seen.
    (folder / f"{DAY}-a.csv").unlink()
    assert source.scan(now=LATER).fingerprints != scan.fingerprints


def test_a_time_that_no_calendar_has_is_the_nearest_that_there_is():
    assert time_of(1e18).year == 9999
    assert time_of(-1e18).year == 1
    assert time_of(0.0) == datetime(1970, 1, 1, tzinfo=UTC)


# --- what a message says


@pytest.mark.parametrize("form", ["csv", "parquet", "nested", "cell", "quote"])
def test_what_is_said_of_a_file_quotes_nothing_of_it_but_excerpts(source, folder, form):
    line = "root:x:0:0:" + CANARY * 50
    if form == "parquet":
        pl.DataFrame({line: [1]}).write_parquet(folder / f"{DAY}.parquet")
    elif form == "nested":
        frame = pl.DataFrame(dict.fromkeys(SOURCE_SCHEMA, [{line: 1}]))
        frame.write_parquet(folder / f"{DAY}.parquet")
    else:
        text = {"csv": f"{line}\n1\n", "cell": f"close\n{line}\n", "quote": f'a,b\n"{line},1\n2,3,"{line}\n'}[form]
        (folder / f"{DAY}.csv").write_text(text)
    (file,) = source.read([DAY])
    said = file.fault
    if file.frame is not None:
        with pytest.raises(ValueError, match="contract") as refused:
            check_structure(file.frame, source=file.name, hours={}, now=LATER)
        said = str(refused.value)
    assert CANARY not in said
    assert "root:" not in said
    assert len(said) < 900


# --- who reads


def crash(payload: bytes) -> pl.DataFrame:
    os.kill(os.getpid(), signal.SIGSEGV)
    return pl.DataFrame()


def hang(payload: bytes) -> pl.DataFrame:
    time.sleep(600.0)
    return pl.DataFrame()


def take_memory(payload: bytes) -> pl.DataFrame:
    return pl.DataFrame({"n": [len(bytearray(int(payload)))]})


def look_around(payload: bytes) -> pl.DataFrame:
    return pl.DataFrame({"pid": [str(os.getpid())], "names": [",".join(os.environ)]})


@pytest.mark.parametrize(
    ("parse", "payload", "said"),
    [
        pytest.param(crash, b"", "its parser crashed (SIGSEGV) or needed more memory than", id="crash"),
        pytest.param(hang, b"", "reading it took longer than 1 s", id="hang"),
        pytest.param(take_memory, b"20000000000", "the parser refused it (MemoryError)", id="memory"),
    ],
)
def test_a_parser_that_crashes_hangs_or_takes_all_memory_is_an_error_of_its_file_and_the_next_is_read(
    parse, payload, said, monkeypatch
):
    if parse is hang:
        monkeypatch.setattr(reader, "LONGEST_READ_S", 1.0)
    with pytest.raises(RefusedTableError) as refused:
        read_apart(parse, payload)
    assert said in str(refused.value)
    monkeypatch.undo()
    assert read_apart(take_memory, b"1000")[0]["n"].to_list() == [1000]


def test_one_reader_serves_all_files_and_inherits_no_secret(monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_POSTGRES_URL", "VENDOR_KEY"):
        monkeypatch.setenv(name, CANARY)
    # Another limit, so another reader: it is started with these variables set.
    monkeypatch.setenv("HF_READER_MEMORY_MB", "3000")
    rows = [read_apart(look_around, b"")[0].row(0) for _ in range(3)]
    assert len(set(rows)) == 1
    pid, names = rows[0]
    assert int(pid) != os.getpid()
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_POSTGRES_URL", "VENDOR_KEY"} & set(names.split(","))


def test_read_apart_gives_back_the_very_frame():
    frame = bars_of("AAA", [10.0, float("nan")], days=[DAY, NEXT]).with_columns(volume=None)
    payload = io.BytesIO()
    frame.write_parquet(payload)
    from hf_pipelines.resources.market_data.tables import parse_parquet

    limits = Limits.of_arrivals()
    apart, _ = read_apart(parse_parquet, payload.getvalue(), limits)
    assert apart.equals(parse_parquet(payload.getvalue(), limits))
    assert apart.schema == parse_parquet(payload.getvalue(), limits).schema
