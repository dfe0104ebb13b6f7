"""Content hash: what may not change it, and what must."""

import hashlib
import math
import struct
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_pipelines.research.content_hash import content_and_session_hashes, content_hash, session_hashes

FRAME = pl.DataFrame(
    {
        "symbol": ["A", "B", "C", "D"],
        "session": [date(2020, 1, 6), date(2020, 1, 6), date(2020, 1, 7), date(2020, 1, 8)],
        "ts": [datetime(2020, 1, day, 21, tzinfo=UTC) for day in (6, 6, 7, 8)],
        "close": [1.5, None, math.nan, -2.0],
        "feature": pl.Series([0.5, 1.5, None, 3.5], dtype=pl.Float32),
        "volume": [1, 2, None, 4],
        "is_live": [True, False, None, True],
        "note": ["x", None, "", "y"],
    }
)


def changed(name: str, row: int, value: object) -> pl.DataFrame:
    values = FRAME[name].to_list()
    values[row] = value
    return FRAME.with_columns(pl.Series(name, values, dtype=FRAME.schema[name]))


def test_content_hash_of_a_known_frame_never_changes():
    # Everything stored is judged by this: a new number means that every partition is out of date.
    frame = pl.DataFrame({"x": [1.0, None], "s": ["a", "b"]})
    assert content_hash(frame) == "12a9206a2766fc1f9c1ae73fe2b6167906dc6cef306ad11f94b4255fa017f735"


def test_content_hash_of_a_null_has_the_bytes_of_zero_and_where_it_stands():
    header = b'{"attachments": [], "columns": [["is_live", "Boolean"]], "rows": 2}'
    values, position, nulls = b"\x01\x00", bytes(8), b"\x00\x01"
    expected = hashlib.sha256(header + values + position + nulls).hexdigest()
    assert content_hash(pl.DataFrame({"is_live": [True, None]})) == expected


def test_content_hash_does_not_depend_on_chunks():
    chunked = pl.concat([FRAME[:1], FRAME[1:3], FRAME[3:]], rechunk=False)
    assert chunked.n_chunks() == 3
    assert content_hash(chunked) == content_hash(FRAME)


def test_content_hash_of_a_slice_is_that_of_a_frame_of_its_own():
    padded = pl.concat([FRAME, FRAME, FRAME])
    assert content_hash(padded[4:8]) == content_hash(FRAME)
    assert content_hash(padded) != content_hash(FRAME)


def test_content_hash_survives_parquet(tmp_path):
    FRAME.write_parquet(tmp_path / "frame.parquet", row_group_size=2)
    assert content_hash(pl.read_parquet(tmp_path / "frame.parquet")) == content_hash(FRAME)


@pytest.mark.parametrize(
    ("dtype", "form", "bits"),
    [
        pytest.param(pl.Float64, "<f8", ("<Q", 0xFFF8000000000123), id="float64"),
        pytest.param(pl.Float32, "<f4", ("<I", 0xFFC00123), id="float32"),
    ],
)
def test_content_hash_of_any_nan_is_the_same(dtype, form, bits):
    odd = pl.Series("x", np.frombuffer(struct.pack(*bits), form))
    plain = pl.DataFrame({"x": pl.Series([math.nan], dtype=dtype)})
    assert content_hash(odd.to_frame()) == content_hash(plain)


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
def test_content_hash_of_minus_zero_is_that_of_zero(dtype):
    zero, minus = (pl.DataFrame({"x": pl.Series([value], dtype=dtype)}) for value in (0.0, -0.0))
    assert content_hash(minus) == content_hash(zero)


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        pytest.param("close", 0, math.nextafter(1.5, 2.0), id="last-bit"),
        pytest.param("close", 1, 0.0, id="null-to-zero"),
        pytest.param("close", 1, math.nan, id="null-to-nan"),
        pytest.param("close", 2, None, id="nan-to-null"),
        pytest.param("close", 3, 2.0, id="sign"),
        pytest.param("feature", 2, 0.0, id="float32-null-to-zero"),
        pytest.param("feature", 3, 3.25, id="float32"),
        pytest.param("volume", 2, 0, id="int-null-to-zero"),
        pytest.param("is_live", 2, False, id="bool-null-to-false"),
        pytest.param("is_live", 1, True, id="bool"),
        pytest.param("note", 1, "", id="null-to-empty-text"),
        pytest.param("note", 2, None, id="empty-text-to-null"),
        pytest.param("note", 0, "x\0", id="text"),
        pytest.param("ts", 0, datetime(2020, 1, 6, 21, 0, 0, 1, tzinfo=UTC), id="microsecond"),
        pytest.param("session", 0, date(2020, 1, 7), id="day"),
    ],
)
def test_content_hash_of_one_changed_value_differs(name, row, value):
    assert content_hash(changed(name, row, value)) != content_hash(FRAME)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(FRAME.select(*reversed(FRAME.columns)), id="column-order"),
        pytest.param(FRAME.rename({"close": "open"}), id="name"),
        pytest.param(FRAME.with_columns(pl.col("volume").cast(pl.Int32)), id="int-type"),
        pytest.param(FRAME.with_columns(pl.col("feature").cast(pl.Float64)), id="float-type"),
        pytest.param(FRAME.with_columns(pl.col("ts").dt.cast_time_unit("ns")), id="time-unit"),
        pytest.param(FRAME.with_columns(pl.col("ts").dt.convert_time_zone("Asia/Tokyo")), id="time-zone"),
        pytest.param(FRAME.reverse(), id="row-order"),
        pytest.param(FRAME[:3], id="fewer-rows"),
        pytest.param(FRAME.drop("note"), id="fewer-columns"),
    ],
)
def test_content_hash_of_another_form_differs(other):
    assert content_hash(other) != content_hash(FRAME)


def test_content_hash_of_values_that_moved_between_columns_differs():
    one = pl.DataFrame({"a": ["x", "yz"], "b": ["1", "2"]})
    two = pl.DataFrame({"a": ["xy", "z"], "b": ["1", "2"]})
    assert content_hash(one) != content_hash(two)
    ones, twos = pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), pl.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    assert content_hash(ones) != content_hash(twos)


def test_content_hash_of_a_null_in_another_column_differs():
    one = pl.DataFrame({"a": [None, 0.0], "b": [0.0, 0.0]})
    two = pl.DataFrame({"a": [0.0, 0.0], "b": [None, 0.0]})
    assert content_hash(one) != content_hash(two)


def test_content_hash_with_attachments_depends_on_name_and_bytes_but_not_order():
    base = content_hash(FRAME, attachments={"model.ubj": "aa", "card.json": "bb"})
    assert base == content_hash(FRAME, attachments={"card.json": "bb", "model.ubj": "aa"})
    assert base != content_hash(FRAME, attachments={"model.ubj": "aa", "card.json": "cc"})
    assert base != content_hash(FRAME, attachments={"model.txt": "aa", "card.json": "bb"})
    assert base != content_hash(FRAME)


def test_content_hash_without_volatile_columns_ignores_them():
    made = FRAME.with_columns(created_at=pl.lit("2020"))
    later = FRAME.with_columns(created_at=pl.lit("2021"))
    assert content_hash(made) != content_hash(later)
    assert content_hash(made, without=["created_at"]) == content_hash(later, without=["created_at"])
    assert content_hash(made, without=["created_at"]) == content_hash(FRAME)


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pl.Series("x", [[1], [2]]), id="list"),
        pytest.param(pl.Series("x", [{"a": 1}, {"a": 2}]), id="struct"),
        pytest.param(pl.Series("x", ["a", "b"], dtype=pl.Categorical), id="categorical"),
        pytest.param(pl.Series("x", [1.0, 2.0]).cast(pl.Float16), id="float16"),
    ],
)
def test_content_hash_of_an_opaque_type_names_the_column(column):
    with pytest.raises(TypeError, match="`x` must be of numbers, strings or times to be hashed, was"):
        content_hash(column.to_frame())


def test_content_hash_of_an_empty_frame_depends_on_its_columns():
    assert content_hash(FRAME.clear()) == content_hash(FRAME.clear())
    assert content_hash(FRAME.clear()) != content_hash(FRAME.drop("note").clear())


def test_session_hashes_equal_the_hashes_of_the_sessions_alone():
    alone = {str(day): content_hash(FRAME.filter(session=day)) for day in FRAME["session"].unique()}
    assert session_hashes(FRAME) == alone
    assert sorted(alone) == ["2020-01-06", "2020-01-07", "2020-01-08"]


def test_session_hashes_do_not_see_nulls_of_other_sessions():
    # The third session gains a null where no session had one.
    later = changed("symbol", 3, None)
    before, after = session_hashes(FRAME), session_hashes(later)
    assert [day for day in before if before[day] != after[day]] == ["2020-01-08"]


def test_session_hashes_of_interleaved_rows_keep_their_order():
    mixed = FRAME[[0, 2, 1, 3]]
    assert session_hashes(mixed) == session_hashes(FRAME)


def test_session_hashes_of_a_frame_without_session_is_empty():
    assert session_hashes(FRAME.drop("session")) == {}


def by_session(frame: pl.DataFrame, **options: object) -> str:
    return content_and_session_hashes(frame, **options)[0]


def test_content_hash_by_session_sees_which_row_is_of_which_session():
    # The sessions say the same, each for itself; only how their rows are interleaved differs.
    mixed = FRAME[[0, 2, 1, 3]]
    assert session_hashes(mixed) == session_hashes(FRAME)
    assert by_session(mixed) != by_session(FRAME)


def test_content_hash_by_session_depends_on_attachments_and_ignores_volatile_columns():
    made = FRAME.with_columns(created_at=pl.lit("2020"))
    assert content_and_session_hashes(made, without=["created_at"]) == content_and_session_hashes(FRAME)
    assert by_session(FRAME, attachments={"a": "1"}) != by_session(FRAME, attachments={"a": "2"})


def test_content_hash_by_session_of_rows_without_a_session_sees_them():
    later = changed("session", 3, None)
    assert by_session(later) != by_session(FRAME)
    assert by_session(later) != by_session(later.with_columns(close=pl.lit(9.0)))


def test_content_hash_without_sessions_is_the_plain_one():
    for frame in (FRAME.drop("session"), FRAME.clear()):
        assert content_and_session_hashes(frame) == (content_hash(frame), {})


VALUES = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
ROWS = st.lists(
    st.tuples(
        st.dates(date(2020, 1, 1), date(2020, 1, 4)), st.one_of(st.none(), st.text(max_size=4)), VALUES, st.booleans()
    ),
    min_size=1,
    max_size=12,
)
SCHEMA = {"session": pl.Date, "note": pl.String, "value": pl.Float64, "flag": pl.Boolean}


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 12))
def test_session_hashes_of_any_frame_are_those_of_its_parts_however_it_is_chunked(rows, cut):
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    chunked = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    assert content_hash(chunked) == content_hash(frame)
    alone = {str(day): content_hash(frame.filter(session=day)) for day in frame["session"].unique()}
    assert session_hashes(chunked) == alone


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, other=ROWS)
def test_content_hash_of_two_frames_is_equal_only_for_equal_frames(rows, other):
    one, two = (pl.DataFrame(each, schema=SCHEMA, orient="row") for each in (rows, other))
    # Polars, too, counts NaN as equal to NaN, -0.0 as 0.0, and null as itself only.
    assert (content_hash(one) == content_hash(two)) == one.equals(two)
    assert (by_session(one) == by_session(two)) == one.equals(two)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 10))
def test_content_hash_by_session_of_shuffled_rows_is_equal_only_for_the_same_order(rows, seed):
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    other = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    assert (by_session(other) == by_session(frame)) == other.equals(frame)
