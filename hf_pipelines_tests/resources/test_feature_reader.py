"""Reading features: keys from dates, only the columns asked for, no listing, and a cache that cannot lie."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hf_pipelines.resources import partition_codec
from hf_pipelines.resources.feature_reader import load_features
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.parquet_io_manager import open_store
from hf_pipelines.resources.partition_codec import Content, encode, read_footer
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.read_cache import ReadCache
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines_tests.faulty_s3 import Fault, Faulty, faulty
from hf_pipelines_tests.resources.conftest import BUCKET

MARKET, ASSET = "us_tech", "us_tech/features/technical"
STAMP = Stamp("code-1", "run-1", "2020-01-12T07:00:00+00:00")
WEEKS = ["2020-01-05", "2020-01-12", "2020-01-19"]
SYMBOLS = ["AAA", "BBB", "CCC"]
N_FEATURES = 12


def week_frame(week: str, *, n_features: int = N_FEATURES, first: int = 0) -> pl.DataFrame:
    """Five sessions of three symbols, sorted by (symbol, ts); no two values are alike."""
    monday = date.fromisoformat(week) + timedelta(days=1)
    days = [monday + timedelta(days=offset) for offset in range(5)]
    keys = [(symbol, day, datetime(day.year, day.month, day.day, 21, tzinfo=UTC)) for symbol in SYMBOLS for day in days]
    schema = {"symbol": pl.String, "session": pl.Date, "ts": pl.Datetime("us", "UTC")}
    rng = np.random.default_rng(monday.toordinal() + first)
    values = {f"f{first + each}": rng.standard_normal(len(keys)).astype(np.float32) for each in range(n_features)}
    return pl.DataFrame(keys, schema=schema, orient="row").with_columns(**values)


def fill(store: PartitionStore, asset: str = ASSET, **options: Any) -> pl.DataFrame:
    for week in WEEKS:
        store.publish(asset, week, Content(week_frame(week, **options), has_session_hashes=True), STAMP)
    return pl.concat([week_frame(week, **options) for week in WEEKS])


def load(store: PartitionStore, **options: Any) -> pl.DataFrame:
    given = {"groups": "technical", "start": "2020-01-06", "end": "2020-01-24", **options}
    return load_features(MARKET, store=store, **given)


@pytest.fixture(params=["disk", "s3", "s3-cached"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionStore:
    if request.param == "disk":
        return PartitionStore(ObjectStore(str(tmp_path / "store")))
    store: PartitionStore = request.getfixturevalue("s3_store")
    return replace(store, cache=ReadCache(tmp_path / "cache", 10**8)) if "cached" in request.param else store


@pytest.mark.parametrize("is_verified", [False, True])
def test_load_features_returns_the_sessions_symbols_and_columns_asked_for(any_store, is_verified):
    everything = fill(any_store)
    assert load(any_store, is_verified=is_verified).equals(everything)
    some = load(
        any_store, start=date(2020, 1, 8), end="2020-01-14", symbols=["CCC", "AAA"], columns=["f7", "f2"],
        is_verified=is_verified,
    )  # fmt: skip
    expected = everything.filter(
        pl.col("session").is_between(date(2020, 1, 8), date(2020, 1, 14)), pl.col("symbol").is_in(["AAA", "CCC"])
    )
    assert some.equals(expected.select("symbol", "session", "ts", "f7", "f2"))
    assert some.height == 2 * 5


def test_load_features_of_two_groups_sets_them_side_by_side(any_store):
    one = fill(any_store)
    other = fill(any_store, "us_tech/features/temporal", first=100, n_features=2)
    found = load(any_store, groups=["technical", "temporal"], columns=["f100", "f3"])
    assert found.equals(one.select("symbol", "session", "ts", "f3").hstack(other.select("f100")))


def test_load_features_of_groups_with_other_rows_is_refused(store):
    fill(store)
    for week in WEEKS:
        store.publish("us_tech/features/temporal", week, Content(week_frame(week, first=50)[1:]), STAMP)
    with pytest.raises(ValueError, match=r"`groups` must hold the same rows, technical and temporal of us_tech do not"):
        load(store, groups=["technical", "temporal"])


def test_load_features_of_missing_weeks_names_them_and_the_command(any_store):
    fill(any_store)
    message = (
        "`us_tech/features/technical` must be published for 2019-12-29, 2020-01-26, was missing; weeks stored: 3, "
        "2020-01-05 to 2020-01-19; if the market has sessions then, materialise it first: "
        "hfp materialise us_tech/features/technical --from 2019-12-29 --to 2020-01-26"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(any_store, start="2020-01-03", end="2020-01-26")


def test_load_features_of_a_week_missing_between_others_gives_the_command_without_an_if(any_store):
    fill(any_store)
    any_store.objects.delete(any_store.key(ASSET, WEEKS[1]))
    message = (
        "`us_tech/features/technical` must be published for 2020-01-12, was missing; weeks stored: 2, 2020-01-05 to "
        "2020-01-19; materialise it first: hfp materialise us_tech/features/technical --from 2020-01-12 --to 2020-01-12"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(any_store)


COMMAND = "materialise it first: hfp materialise {} --from 2020-01-05 --to 2020-01-19$"


@pytest.mark.parametrize(
    ("market", "groups", "message"),
    [
        pytest.param("us_teck", "technical", r"`market` must be .* \(crypto, us_tech\), was us_teck; near it: us_tech", id="market-slip"),
        pytest.param(
            "fx", "technical", r"\(crypto, us_tech\), was fx; if it is defined, " + COMMAND.format("fx/features/technical"),
            id="market",
        ),
        pytest.param(
            "us_tech", ["temporel", "technical", "desk"],
            r"`groups` must be among the groups stored of market us_tech \(technical, temporal\), was temporel, desk; near it: temporal",
            id="group-slip",
        ),
        pytest.param(
            "us_tech", ["alpha158"],
            r"\(technical, temporal\), was alpha158; if it is defined, " + COMMAND.format("us_tech/features/alpha158"), id="group",
        ),
        pytest.param("us_tech", "rsi_14", r"was rsi_14; the feature is named technical/rsi_14", id="feature"),
        pytest.param(
            "us_tech", ["technical/f33", "temporal/g", "technical"],
            r"`groups` must be among the groups stored of market us_tech \(technical, temporal\) or "
            r"technical/f3, was technical/f33, temporal/g\.", id="single",
        ),
    ],
)  # fmt: skip
def test_load_features_of_what_is_not_stored_says_what_is(any_store, market, groups, message):
    for asset in (ASSET, "us_tech/features/temporal", "crypto/features/technical"):
        fill(any_store, asset)
    # No market: nothing of features below it.
    any_store.objects.put("momentum/signals/2020-01-05.parquet", b"")
    any_store.objects.put("_versions/us_tek/features/technical/2020-01-05/0.parquet", b"")
    with pytest.raises(ValueError, match=message):
        load_features(market, groups, "2020-01-06", "2020-01-24", store=any_store)


def test_load_features_from_a_mistyped_folder_says_so_and_does_not_make_it(tmp_path):
    store = PartitionStore(ObjectStore(str(tmp_path / "stroage")))
    with pytest.raises(
        ValueError, match=r"`HF_STORAGE_URI` must be a folder that holds features, was .*/stroage, which"
    ):
        load(store)
    assert list(tmp_path.iterdir()) == []


def test_load_features_from_an_empty_store_names_the_store_and_the_command(any_store):
    if "://" not in any_store.objects.uri:
        Path(any_store.objects.uri).mkdir()
    message = rf"stored in {re.escape(any_store.objects.uri)} \(there is none\), was us_tech; if it is defined, {COMMAND.format(ASSET)}"
    with pytest.raises(ValueError, match=message):
        load(any_store)


@pytest.mark.parametrize(
    ("groups", "columns", "found"),
    [
        pytest.param("technical/f3", None, ["f3"], id="one"),
        pytest.param(["technical/f7", "temporal/f101", "technical/f2"], None, ["f2", "f7", "f101"], id="several"),
        pytest.param(["temporal", "technical/f3", "temporal/f100"], None, ["f100", "f101", "f3"], id="group-and-single"),
        pytest.param(["technical/f7", "temporal"], ["f101", "f7"], ["f7", "f101"], id="columns-of-them"),
        pytest.param("technical", ["technical/f7", "f2"], ["f7", "f2"], id="named-in-columns"),
        pytest.param("technical", "f3", ["f3"], id="text"),
        pytest.param("technical", ["f3", "f1", "f3", "technical/f1"], ["f3", "f1"], id="twice"),
    ],
)  # fmt: skip
def test_load_features_selects_single_features_as_strategies_do(any_store, groups, columns, found):
    everything = fill(any_store).hstack(
        fill(any_store, "us_tech/features/temporal", first=100, n_features=2).select("f100", "f101")
    )
    for is_verified in (False, True):
        ours = load(any_store, groups=groups, columns=columns, is_verified=is_verified)
        assert ours.equals(everything.select("symbol", "session", "ts", *found))


def test_load_features_of_symbols_partly_without_rows_warns_by_name_and_range(any_store):
    everything = fill(any_store)
    strange = [f"ZZ{number}" for number in range(7)]
    with pytest.warns(UserWarning) as warned:
        found = load_features(
            MARKET, "technical", "2020-01-08", "2020-01-14", symbols=[*strange, "BBB"], store=any_store
        )
    assert [str(each.message) for each in warned] == [
        "`symbols` have no row in us_tech from 2020-01-08 to 2020-01-14: ZZ0, ZZ1, ZZ2, ZZ3, ZZ4 and 2 more."
    ]
    # The caller's line, not ours.
    assert warned[0].filename == __file__
    days = pl.col("session").is_between(date(2020, 1, 8), date(2020, 1, 14))
    assert found.equals(everything.filter(days, pl.col("symbol") == "BBB"))
    assert found.height == 5


def test_load_features_of_a_symbol_with_rows_in_one_week_warns_only_where_it_has_none(store):
    fill(store)
    gone = week_frame(WEEKS[0]).with_columns(symbol=pl.col("symbol").replace("CCC", "DDD"))
    store.publish(ASSET, WEEKS[0], Content(gone), STAMP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(store, symbols=["DDD"]).height == 5
        assert load(store, symbols="AAA").height == 15
        assert load(store).height == 45
    with pytest.warns(UserWarning, match="from 2020-01-13 to 2020-01-24: DDD"):
        load(store, start="2020-01-13", symbols=["DDD", "AAA"])
    with pytest.raises(ValueError, match="from 2020-01-13 to 2020-01-24, was DDD; stored then: AAA, BBB, CCC"):
        load(store, start="2020-01-13", symbols=["DDD"])


@pytest.mark.parametrize("is_verified", [False, True])
def test_load_features_of_symbols_all_without_rows_is_refused_with_what_is_stored(any_store, is_verified):
    fill(any_store)
    message = (
        "`symbols` must have rows in us_tech from 2020-01-06 to 2020-01-24, was CCA, SPX; stored then: CCC, AAA, BBB."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(any_store, symbols=["SPX", "CCA"], columns=["f2"], is_verified=is_verified)
    # A Saturday.
    with pytest.raises(
        ValueError, match=r"2020-01-11 to 2020-01-11, was AAA; no symbol has one: no session lies between"
    ):
        load(any_store, start="2020-01-11", end="2020-01-11", symbols=["AAA"], is_verified=is_verified)
    assert load(any_store, start="2020-01-11", end="2020-01-11", is_verified=is_verified).is_empty()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"columns": ["f33"]}, r"`columns` must be features .* was f33; near it: f3", id="column"),
        pytest.param({"end": "2020-01-01"}, r"`end` must not be before `start` 2020-01-06", id="end"),
        pytest.param({"start": "6.1.2020"}, r"`start` must be a date or YYYY-MM-DD, was '6.1.2020'", id="date"),
        pytest.param({"groups": "../../x"}, r"`groups` must be names such as", id="parent"),
        pytest.param({"groups": "/etc"}, r"`groups` must be names", id="absolute"),
        pytest.param({"groups": "a\0"}, r"`groups` must be names", id="nul"),
        pytest.param({"groups": "a" * 300}, r"`groups` must be names", id="long"),
        pytest.param({"groups": "Technical"}, r"`groups` must be names such as technical", id="case-twin"),
        pytest.param({"groups": []}, r"`groups` must name a group such as technical", id="none"),
        pytest.param({"groups": "technical/"}, r"`groups` must be names such as .* was 'technical/'", id="no-feature"),
        pytest.param({"groups": "us_tech/features/technical"}, r"`groups` must be names such as", id="asset"),
        pytest.param({"groups": "technical/../x"}, r"`groups` must be names such as", id="parent-of-feature"),
        pytest.param(
            {"groups": "technical/f2", "columns": "f3"}, r"stored in technical/f2, was f3; near it: f2", id="narrowed"
        ),
        pytest.param({"symbols": ["../AAA"]}, r"`symbols` must match .* was '../AAA'", id="symbol"),
        pytest.param({"symbols": []}, r"`symbols` must name a symbol, was empty; leave it out for all", id="no-symbol"),
    ],
)
def test_load_features_of_what_cannot_be_is_refused_by_name(store, options, message):
    fill(store)
    with pytest.raises(ValueError, match=message):
        load(store, **options)


@pytest.mark.parametrize("name", ["groups", "symbols", "columns"])
def test_load_features_of_what_is_no_name_is_refused_by_its_argument(store, name):
    for given, was in ((5, "5"), ([b"f1"], "b'f1' among them")):
        with pytest.raises(TypeError, match=f"^`{name}` must be a name or a sequence of names, was {was}.$"):
            load(store, **{name: given})


def test_stored_features_are_read_alike_by_pyarrow_and_pandas(store):
    import pandas as pd
    from pyarrow import parquet

    fill(store)
    paths = [store.objects.address(store.key(ASSET, week)) for week in WEEKS]
    ours = load(store, columns=["f1", "f9"])
    names = ours.columns
    assert pl.concat([pl.DataFrame(parquet.read_table(path, columns=names)) for path in paths]).equals(ours)
    theirs = pd.concat([pd.read_parquet(path, columns=names) for path in paths])
    assert theirs["symbol"].tolist() == ours["symbol"].to_list()
    np.testing.assert_array_equal(theirs[["f1", "f9"]].to_numpy(), ours.select("f1", "f9").to_numpy())


# --- what a bucket is asked for


@pytest.fixture
def counted(s3_endpoint: str, tmp_path: Path) -> Iterator[tuple[Faulty, PartitionStore]]:
    """A store behind a proxy that notes every request."""
    with faulty(s3_endpoint, tmp_path) as proxy:
        yield proxy, PartitionStore(ObjectStore(f"s3://{BUCKET}/{tmp_path.name}", proxy.endpoint))


def wide_frame(week: str) -> pl.DataFrame:
    """More bytes than are fetched of a file's end at first."""
    rng = np.random.default_rng(0)
    keys = pl.concat([week_frame(week, n_features=0)] * 60)
    return keys.with_columns(pl.Series(f"f{each}", rng.standard_normal(keys.height, np.float32)) for each in range(60))


def of_files(proxy) -> list[int]:
    """Answers to all requests but one: whether strategies hold out the sessions is an object of a known name."""
    asked = proxy.requests("GET", "/_holdout/markets/us_tech.json$")
    assert asked == [404]
    answers = proxy.requests()
    answers.remove(404)
    return answers


def test_load_features_from_a_bucket_lists_nothing_and_gets_each_file_twice_at_most(counted):
    proxy, store = counted
    for week in WEEKS:
        store.publish(ASSET, week, Content(wide_frame(week)), STAMP)
    proxy.forget()
    assert load(store, columns=["f0", "f30"]).equals(
        pl.concat([wide_frame(week) for week in WEEKS]).select("symbol", "session", "ts", "f0", "f30")
    )
    assert of_files(proxy) == [206] * (2 * len(WEEKS))
    for week in WEEKS:
        assert len(proxy.requests("GET", f"/{week}.parquet$")) == 2


def test_load_features_of_small_files_gets_each_once(counted):
    proxy, store = counted
    fill(store)
    proxy.forget()
    load(store, columns=["f0"])
    assert of_files(proxy) == [206] * len(WEEKS)


def test_load_features_of_single_features_with_a_symbol_that_is_not_there_lists_nothing(counted):
    proxy, store = counted
    fill(store)
    proxy.forget()
    with pytest.warns(UserWarning, match="ZZZ"):
        assert load(store, groups=["technical/f0", "technical/f5"], symbols=["AAA", "ZZZ"]).shape == (15, 5)
    assert of_files(proxy) == [206] * len(WEEKS)


def test_load_features_of_missing_weeks_where_listing_is_refused_still_names_them(counted):
    proxy, store = counted
    fill(store)
    proxy.plant(Fault("GET", "list-type", status=403))
    with pytest.raises(ValueError, match=r"must be published for 2020-01-26, was missing; materialise it first"):
        load(store, end="2020-01-27")
    with pytest.raises(ValueError, match=r"groups stored of market us_tech \(technical\) or technical/f3"):
        load(store, groups="technical/f33")


def test_load_features_with_a_cache_fetches_once_and_asks_whether_it_changed(counted, tmp_path):
    proxy, bare = counted
    store = replace(bare, cache=ReadCache(tmp_path / "cache", 10**8))
    first = fill(store)
    proxy.forget()
    assert load(store).equals(first)
    assert of_files(proxy) == [200] * len(WEEKS)
    proxy.forget()
    # A new process begins without what this one knows.
    store = replace(bare, cache=ReadCache(tmp_path / "cache", 10**8))
    assert load(store).equals(first)
    assert store.read(ASSET, WEEKS[0]).frame.equals(week_frame(WEEKS[0]))
    assert of_files(proxy) == [304] * (len(WEEKS) + 1)
    revised = week_frame(WEEKS[1], first=500).rename({f"f{500 + each}": f"f{each}" for each in range(N_FEATURES)})
    bare.publish(ASSET, WEEKS[1], Content(revised), STAMP)
    proxy.forget()
    assert load(store, start="2020-01-13", end="2020-01-17").equals(revised)
    assert of_files(proxy) == [200]


def copies(folder: Path) -> list[Path]:
    return sorted((folder / "objects").iterdir())


@pytest.mark.parametrize("is_new_process", [True, False])
def test_damaged_copy_in_the_cache_is_noticed_and_fetched_again(s3_store, tmp_path, is_new_process):
    cache = ReadCache(tmp_path / "cache", 10**8)
    store = replace(s3_store, cache=cache)
    everything = fill(store)
    load(store)
    sound = {path: path.read_bytes() for path in copies(cache.folder)}
    for number, (path, payload) in enumerate(sound.items()):
        # One bit, a cut and nothing at all.
        damaged = [payload[:300] + bytes([payload[300] ^ 1]) + payload[301:], payload[:-9], b""][number]
        path.write_bytes(damaged)
    if is_new_process:
        store = replace(s3_store, cache=ReadCache(cache.folder, 10**8))
    assert load(store).equals(everything)
    assert {path: path.read_bytes() for path in copies(cache.folder)} == sound


def test_damaged_head_of_the_cache_is_fetched_again(s3_store, tmp_path):
    store = replace(s3_store, cache=ReadCache(tmp_path / "cache", 10**8))
    everything = fill(store)
    load(store)
    for number, head in enumerate(sorted((tmp_path / "cache/heads").iterdir())):
        head.write_bytes([b"", b"[]", b'{"tag": "x", "seal": "../../etc/passwd"}'][number])
    assert load(store).equals(everything)


def test_cache_above_its_bound_forgets_the_least_recently_used(s3_store, tmp_path):
    everything = fill(s3_store)
    sizes = [len(s3_store.objects.get(s3_store.key(ASSET, week))) for week in WEEKS]
    cache = ReadCache(tmp_path / "cache", int(2.5 * max(sizes)))
    store = replace(s3_store, cache=cache)
    for week in (WEEKS[0], WEEKS[1], WEEKS[0], WEEKS[2]):
        store.read(ASSET, week)
    kept = {read_footer(path.read_bytes(), asset=ASSET, partition=week).partition
            for path in copies(cache.folder) for week in WEEKS if f'"partition": "{week}"'.encode() in path.read_bytes()}  # fmt: skip
    assert kept == {WEEKS[0], WEEKS[2]}
    # Smaller than what one call reads: the answer is the same.
    assert load(store).equals(everything)
    assert sum(path.stat().st_size for path in copies(cache.folder)) <= cache.max_bytes


def test_cache_shared_by_many_readers_at_once_gives_each_the_whole_content(s3_store, tmp_path):
    everything = fill(s3_store)
    size = len(s3_store.objects.get(s3_store.key(ASSET, WEEKS[0])))
    stores = [replace(s3_store, cache=ReadCache(tmp_path / "cache", int(1.5 * size))) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(load, stores * 5):
            assert found.equals(everything)


def test_open_store_has_a_cache_for_a_bucket_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_CACHE_MB", "5")
    assert open_store("s3://bucket/prefix").cache == ReadCache(tmp_path / "cache", 5_000_000)
    assert open_store(str(tmp_path)).cache is None
    monkeypatch.delenv("HF_CACHE_DIR")
    assert open_store("s3://bucket/prefix").cache is None


# --- planted files


def plant(store: PartitionStore, payload: bytes, week: str = WEEKS[1]) -> None:
    store.objects.put(store.key(ASSET, week), payload)


def foreign(payload: bytes) -> bytes:
    buffer = io.BytesIO()
    week_frame(WEEKS[1]).write_parquet(buffer)
    return buffer.getvalue()


def rewritten(payload: bytes, frame: pl.DataFrame, **fields: Any) -> bytes:
    return encode(frame, replace(read_footer(payload, asset=ASSET, partition=WEEKS[1]), **fields))


PLANTED = [
    pytest.param(lambda payload: b"", "no whole Parquet file", id="empty"),
    pytest.param(lambda payload: payload[: len(payload) // 2], "no whole Parquet file", id="truncated"),
    pytest.param(lambda payload: payload[100:], "(no whole Parquet file|cannot be decoded)", id="beheaded"),
    pytest.param(foreign, "a Parquet file written by something else", id="foreign"),
    pytest.param(lambda payload: rewritten(payload, week_frame(WEEKS[1]), partition=WEEKS[0]), "a copy of us_tech", id="misplaced"),
    pytest.param(
        lambda payload: rewritten(payload, week_frame(WEEKS[1]).with_columns(pl.col("f3").cast(pl.Float64))),
        "one with f3 Float64", id="type",
    ),
    pytest.param(lambda payload: rewritten(payload, week_frame(WEEKS[1]).drop("f3")), "one with f3 absent", id="column"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "was"), PLANTED)
def test_load_features_of_a_planted_file_refuses_it_by_name(any_store, damage, was):
    fill(any_store)
    plant(any_store, damage(any_store.objects.get(any_store.key(ASSET, WEEKS[1]))))
    with pytest.raises(StoredPartitionError, match=rf"`{ASSET}/{WEEKS[1]}.parquet` must be the file .* was .*{was}"):
        load(any_store)


IRREGULAR = [
    pytest.param(lambda path: os.mkfifo(path), "a pipe", id="pipe"),
    pytest.param(lambda path: path.mkdir(), "a folder", id="folder"),
    pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="link to a device"),
    pytest.param(lambda path: path.symlink_to(path.name), "a symbolic link", id="link to itself"),
]


@pytest.mark.parametrize("is_verified", [False, True])
@pytest.mark.parametrize(("put", "was"), IRREGULAR)
def test_load_features_of_what_is_no_regular_file_names_it_and_does_not_wait(store, put, was, is_verified):
    fill(store)
    path = Path(store.objects.address(store.key(ASSET, WEEKS[1])))
    path.unlink()
    put(path)
    with pytest.raises(
        StoredPartitionError, match=rf"`{ASSET}/{WEEKS[1]}.parquet` must be the file .* was {was}; make"
    ):
        load(store, is_verified=is_verified)


@pytest.mark.parametrize("kind", ["heads", "objects"])
def test_pipe_in_the_cache_is_not_waited_for_and_fetched_again(s3_store, tmp_path, kind):
    store = replace(s3_store, cache=ReadCache(tmp_path / "cache", 10**8))
    everything = fill(store)
    load(store)
    for path in (tmp_path / "cache" / kind).iterdir():
        path.unlink()
        os.mkfifo(path)
    assert load(replace(s3_store, cache=ReadCache(tmp_path / "cache", 10**8))).equals(everything)


def test_load_features_verified_refuses_a_bit_changed_in_the_middle(any_store):
    fill(any_store)
    payload = any_store.objects.get(any_store.key(ASSET, WEEKS[1]))
    plant(any_store, payload[:300] + bytes([payload[300] ^ 1]) + payload[301:])
    with pytest.raises(StoredPartitionError, match="whose bytes were changed after it was written"):
        load(any_store, is_verified=True)


def test_load_features_unverified_passes_over_some_bits_that_verified_refuses(store):
    everything = fill(store)
    payload = store.objects.get(store.key(ASSET, WEEKS[1]))
    outcomes = []
    for place in range(100, 1500, 50):
        plant(store, payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])
        with pytest.raises(StoredPartitionError, match="whose bytes were changed after it was written"):
            load(store, is_verified=True)
        try:
            outcomes.append("unharmed" if load(store).equals(everything) else "wrong")
        except StoredPartitionError:
            outcomes.append("refused")
    # What the docstring warns of.
    assert {"wrong", "refused"} <= set(outcomes)


def test_load_features_above_the_cells_cap_is_refused_before_decoding(store, monkeypatch):
    fill(store)
    monkeypatch.setattr(partition_codec, "MAX_CELLS", 45 * 5)
    assert load(store, columns=["f0", "f1"]).height == 45
    monkeypatch.setattr(partition_codec, "MAX_CELLS", 45 * 5 - 1)
    with pytest.raises(ValueError, match=r"at most 224 cells, were 45 rows x 5 columns"):
        load(store, columns=["f0", "f1"])


@pytest.mark.parametrize("rows", [3, 10**9])
def test_small_file_that_decodes_to_more_than_the_cap_is_refused_by_name(store, rows, monkeypatch):
    # 8 MB of zeros in a few kB, whatever its footer says.
    monkeypatch.setattr(partition_codec, "MAX_CELLS", 1_000_000)
    zeros = pl.DataFrame({"f0": np.zeros(2_000_000, np.float32)})
    fill(store)
    payload = rewritten(store.objects.get(store.key(ASSET, WEEKS[1])), zeros, rows=rows)
    assert len(payload) < 20_000
    plant(store, payload)
    with pytest.raises(StoredPartitionError, match=r"rows x 1 columns, above 1000000 cells"):
        store.read(ASSET, WEEKS[1])


def test_small_file_with_one_huge_text_is_refused_by_name(store, monkeypatch):
    monkeypatch.setattr(partition_codec, "MAX_BYTES", 1_000_000)
    fill(store)
    payload = rewritten(store.objects.get(store.key(ASSET, WEEKS[1])), pl.DataFrame({"x": ["a" * 5_000_000]}), rows=1)
    assert len(payload) < 20_000
    plant(store, payload)
    with pytest.raises(StoredPartitionError, match=r"bytes when decoded, above 1000000"):
        store.read(ASSET, WEEKS[1])


def test_partitions_whose_names_differ_in_case_are_kept_apart(store):
    for name in ("week_a", "week_A"):
        store.publish("m/features/x", name, Content(week_frame(WEEKS[0]).head(1 + name.endswith("A"))), STAMP)
    assert [store.read("m/features/x", name).frame.height for name in ("week_a", "week_A")] == [1, 2]
