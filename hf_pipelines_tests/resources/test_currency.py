"""Currency: what makes a stored partition out of date, and what does not."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.resources.currency import Currency, CurrencyChecker
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.sample_bars import random_bars

CODE = {"m/bars": "bars-1", "m/features": "features-1", "s/matrix": "matrix-1", "s/signals": "signals-1"}
WEEKS = ["2020-01-05", "2020-01-12"]
DAY = "2020-01-13"
BARS = random_bars(symbols=2, sessions=10)


def bars_of_week(week: str, bars: pl.DataFrame = BARS) -> pl.DataFrame:
    sunday = date.fromisoformat(week)
    return bars.filter(pl.col("session").is_between(sunday, date.fromordinal(sunday.toordinal() + 6)))


def put(
    store: PartitionStore, asset: str, key: str, frame: pl.DataFrame, *, code: str | None = None, **options: object
) -> None:
    content = Content(frame, has_session_hashes=True, **options)
    store.publish(asset, key, content, Stamp(code or CODE[asset], "r", "t"))


def put_bars(store: PartitionStore, week: str, bars: pl.DataFrame = BARS) -> None:
    put(store, "m/bars", week, bars_of_week(week, bars), sources={f"{week}.csv": "sha-1"})


def put_features(store: PartitionStore, week: str, bars: pl.DataFrame = BARS, **options: object) -> None:
    inputs = {"m/bars": {key: store.footer("m/bars", key).content_hash for key in WEEKS if key <= week}}
    frame = bars_of_week(week, bars).select("symbol", "session", "ts", x=pl.col("close").cast(pl.Float32))
    put(store, "m/features", week, frame, inputs=inputs, **options)


def put_matrix(store: PartitionStore) -> None:
    inputs = {"m/features": {key: store.footer("m/features", key).content_hash for key in WEEKS}}
    put(store, "s/matrix", "2020-01-19", pl.DataFrame({"x": [1.0]}), inputs=inputs)


def put_signals(store: PartitionStore) -> None:
    session = store.footer("m/features", WEEKS[1]).session_hashes[DAY]
    put(store, "s/signals", DAY, pl.DataFrame({"weight": [0.5]}), inputs={"m/features": {f"{WEEKS[1]}#{DAY}": session}})


@pytest.fixture
def chain(store: PartitionStore) -> PartitionStore:
    """Bars, features, a matrix of both weeks and the signals of one day, all current."""
    for week in WEEKS:
        put_bars(store, week)
        put_features(store, week)
    put_matrix(store)
    put_signals(store)
    return store


def judge(
    store: PartitionStore,
    asset: str,
    key: str,
    *,
    code: Mapping[str, str] = CODE,
    listings: Mapping[str, Callable[[str], Mapping[str, str]]] | None = None,
) -> Currency:
    return CurrencyChecker(store, code, listings or {}).is_current(asset, key)


def late_revision(day: date) -> pl.DataFrame:
    return BARS.with_columns(
        close=pl.when(pl.col("session") == day).then(pl.col("close") * 1.01).otherwise(pl.col("close"))
    )


@pytest.mark.parametrize(
    ("asset", "key"),
    [("m/bars", WEEKS[0]), ("m/features", WEEKS[1]), ("s/matrix", "2020-01-19"), ("s/signals", DAY)],
)
def test_is_current_of_an_untouched_chain_is_true(chain, asset, key):
    assert judge(chain, asset, key) == Currency(True)


def test_is_current_of_an_unpublished_partition_says_so(chain):
    assert judge(chain, "m/bars", "2020-01-19") == Currency(False, "never published")


def test_is_current_with_changed_code_names_both_versions(chain):
    found = judge(chain, "m/features", WEEKS[0], code={**CODE, "m/features": "features-2"})
    assert found == Currency(False, "made by code and settings features-1, now features-2")
    assert judge(chain, "m/bars", WEEKS[0], code={**CODE, "m/features": "features-2"}).is_current


def test_is_current_with_an_input_revised_names_it_and_both_hashes(chain):
    before = chain.footer("m/bars", WEEKS[0]).content_hash
    put_bars(chain, WEEKS[0], late_revision(date(2020, 1, 7)))
    after = chain.footer("m/bars", WEEKS[0]).content_hash
    reason = f"input m/bars {WEEKS[0]} was {before[:12]}, is now {after[:12]}"
    # The second week reads the first as well; bars themselves read nothing.
    assert judge(chain, "m/features", WEEKS[0]) == judge(chain, "m/features", WEEKS[1]) == Currency(False, reason)
    assert judge(chain, "m/bars", WEEKS[0]).is_current


def test_is_current_after_a_revision_was_taken_back_is_true(chain):
    put_bars(chain, WEEKS[0], late_revision(date(2020, 1, 7)))
    put_bars(chain, WEEKS[0])
    assert judge(chain, "m/features", WEEKS[1]).is_current


def test_is_current_with_an_upstream_out_of_date_names_the_whole_way(chain):
    put_bars(chain, WEEKS[0], late_revision(date(2020, 1, 7)))
    found = judge(chain, "s/matrix", "2020-01-19")
    assert not found.is_current
    assert found.reason.startswith(f"input m/features {WEEKS[0]} is out of date: input m/bars {WEEKS[0]} was ")


def test_is_current_with_upstream_code_changed_but_same_content_is_true_once_it_ran(chain):
    code = {**CODE, "m/features": "features-2"}
    assert "is out of date: made by code and settings" in judge(chain, "s/matrix", "2020-01-19", code=code).reason
    for week in WEEKS:
        put_features(chain, week, code="features-2")
    assert judge(chain, "s/matrix", "2020-01-19", code=code).is_current


def test_is_current_with_an_input_gone_says_so(chain):
    Path(chain.objects.address(f"m/bars/{WEEKS[0]}.parquet")).unlink()
    assert judge(chain, "m/features", WEEKS[1]) == Currency(False, f"input m/bars {WEEKS[0]} is gone")


def test_is_current_with_an_input_damaged_names_the_file(chain):
    path = Path(chain.objects.address(f"m/bars/{WEEKS[0]}.parquet"))
    path.write_bytes(path.read_bytes()[:-5])
    assert f"`m/bars/{WEEKS[0]}.parquet` must be the file that was published" in judge(chain, "m/bars", WEEKS[0]).reason
    assert judge(chain, "m/features", WEEKS[1]).reason.startswith(f"input m/bars {WEEKS[0]} is damaged: ")


def test_is_current_of_a_session_input_ignores_a_new_session_of_its_week(store):
    for week in WEEKS:
        put_bars(store, week)
    put_features(store, WEEKS[0])
    put_features(store, WEEKS[1], BARS.filter(pl.col("session") <= date(2020, 1, 13)))
    put_signals(store)
    before = store.footer("m/features", WEEKS[1]).content_hash
    put_features(store, WEEKS[1])
    assert store.footer("m/features", WEEKS[1]).content_hash != before
    assert judge(store, "s/signals", DAY) == Currency(True)


def test_is_current_of_a_session_input_sees_a_revision_of_its_session_only(chain):
    put_features(chain, WEEKS[1], late_revision(date(2020, 1, 14)))
    assert judge(chain, "s/signals", DAY).is_current
    put_features(chain, WEEKS[1], late_revision(date(2020, 1, 13)))
    assert judge(chain, "s/signals", DAY).reason.startswith(f"input m/features {WEEKS[1]}#{DAY} was ")


def test_is_current_of_a_session_input_waits_until_its_own_session_changed(chain):
    # The features are out of date, but nobody knows yet whether that session comes out differently.
    put_bars(chain, WEEKS[1], late_revision(date(2020, 1, 14)))
    assert not judge(chain, "m/features", WEEKS[1]).is_current
    assert judge(chain, "s/signals", DAY) == Currency(True)


def test_is_current_of_a_session_input_that_lost_its_session_says_absent(chain):
    put_features(chain, WEEKS[1], BARS.filter(pl.col("session") != date(2020, 1, 13)))
    assert judge(chain, "s/signals", DAY).reason.endswith("is now absent")


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        pytest.param({"2020-01-05.csv": "sha-1"}, "", id="same"),
        pytest.param({"2020-01-05.csv": "sha-2"}, "source files added, changed or gone: 2020-01-05.csv", id="changed"),
        pytest.param({}, "source files added, changed or gone: 2020-01-05.csv", id="gone"),
        pytest.param(
            {"2020-01-05.csv": "sha-1", **{f"{letter}.csv": "sha-3" for letter in "abcde"}},
            "source files added, changed or gone: a.csv, b.csv, c.csv, d.csv, e.csv",
            id="as many as are shown",
        ),
        pytest.param(
            {f"{letter}.csv": "sha-3" for letter in "abcdef"},
            "source files added, changed or gone: 2020-01-05.csv, a.csv, b.csv, c.csv, d.csv and 2 more",
            id="more than are shown",
        ),
        pytest.param(
            {"2020-01-05.csv": "sha-1", "2020-01-05-late.csv": "sha-3"},
            "source files added, changed or gone: 2020-01-05-late.csv",
            id="added",
        ),
    ],
)
def test_is_current_against_a_listing_names_the_files(chain, listing, reason):
    found = judge(chain, "m/bars", WEEKS[0], listings={"m/bars": lambda key: listing if key == WEEKS[0] else {}})
    assert found == Currency(not reason, reason)


def test_is_current_asks_for_each_partition_once(chain):
    asked = []

    def listing(key: str) -> dict[str, str]:
        asked.append(key)
        return {f"{key}.csv": "sha-1"}

    checker = CurrencyChecker(chain, CODE, {"m/bars": listing})
    for _ in range(2):
        assert checker.is_current("s/matrix", "2020-01-19").is_current
        assert checker.is_current("m/features", WEEKS[1]).is_current
    assert sorted(asked) == WEEKS


def test_is_current_of_an_issue_says_what_changed_and_does_not_count_it(chain):
    for code in (CODE, {**CODE, "s/signals": "signals-2"}):
        assert CurrencyChecker(chain, code, issues=["s/signals"]).is_current("s/signals", DAY).is_current
    newer = CurrencyChecker(chain, {**CODE, "s/signals": "signals-2"}, issues=["s/signals"])
    assert newer.is_current("s/signals", DAY) == Currency(
        True, "issued by what was there then, not rewritten: made by code and settings signals-1, now signals-2"
    )
    # Damage is no change of mind.
    chain.objects.put(f"s/signals/{DAY}.parquet", b"PAR1 nothing PAR1")
    assert not CurrencyChecker(chain, CODE, issues=["s/signals"]).is_current("s/signals", DAY).is_current
