"""Which reference rows count when, and one contract over every feature that reads them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hf_pipelines.research.features import FEATURES, Feature, Panel, build_panel, compute_features, feature_frame
from hf_pipelines.research.features.point_in_time import (
    first_rows_after,
    known_table,
    latest_known,
    split_growth,
)
from hf_pipelines.research.replay import compare_replay, cut
from hf_pipelines_tests.sample_bars import bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, session_opens, table_of

NAMES = [name for name, feature in FEATURES.items() if feature.reference_days]
DAYS = weekdays(300)
SYMBOLS = [f"S{number:03d}" for number in range(5)]
GIVEN: dict[str, Any] = {
    "opens": session_opens(DAYS),
    "sectors": {"S000": "oil", "S001": "oil", "S002": "gas", "S003": "gas"},
}


def _bits(frame: pl.DataFrame) -> dict[str, list[int]]:
    """Bits of the float32 values of every feature, all NaN alike."""
    columns = {name: frame[name].to_numpy() for name in NAMES}
    return {
        name: np.where(np.isnan(values), 0x7FC00000, values.view(np.uint32)).tolist()
        for name, values in columns.items()
    }


def _bars(seed: int) -> pl.DataFrame:
    return random_bars(symbols=len(SYMBOLS), sessions=300, seed=seed, has_reference=False)


def _references(seed: int, *, has_gaps: bool = True) -> dict[str, pl.DataFrame]:
    return random_references(SYMBOLS, start=DAYS[0], end=DAYS[-1], seed=seed, has_gaps=has_gaps)


def _compute(bars: pl.DataFrame, references: dict[str, pl.DataFrame], **arguments: Any) -> pl.DataFrame:
    return compute_features(bars, NAMES, references=references, **GIVEN, **arguments)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return _bars(3)


@pytest.fixture(scope="module")
def references() -> dict[str, pl.DataFrame]:
    return _references(3)


@pytest.fixture(scope="module")
def features(bars, references) -> pl.DataFrame:
    return _compute(bars, references)


MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = DAYS[:5]


def _at(day: date, hour: int, minute: int = 0, microsecond: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, 0, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    ("available_at", "first_session"),
    [
        pytest.param(TUESDAY, WEDNESDAY, id="a day counts from the next session"),
        pytest.param(FRIDAY, DAYS[5], id="Friday counts from Monday"),
        pytest.param(FRIDAY + timedelta(days=1), DAYS[5], id="Saturday counts from Monday"),
        pytest.param(_at(TUESDAY, 13), TUESDAY, id="before the open"),
        pytest.param(_at(TUESDAY, 14, 29, 999_999), TUESDAY, id="just before the open"),
        pytest.param(_at(TUESDAY, 14, 30), WEDNESDAY, id="at the open"),
        pytest.param(_at(TUESDAY, 18), WEDNESDAY, id="during the session"),
        pytest.param(_at(TUESDAY, 22), WEDNESDAY, id="after the close"),
    ],
)
def test_latest_known_counts_a_row_from_the_first_session_that_opens_after_it(available_at, first_session):
    bars = bars_of("A", [1.0] * 10, days=DAYS[:10])
    row = {"symbol": "A", "event_time": available_at, "available_at": available_at}
    panel = build_panel(
        bars, None, opens=session_opens(DAYS), references={"short_interest": table_of("short_interest", [row])}
    )
    table = known_table(panel, "short_interest")
    known = [day for day, at in zip(DAYS, latest_known(panel, table).tolist(), strict=False) if at == 0]
    assert known == DAYS[DAYS.index(first_session) : 10]
    assert first_rows_after(panel, table).tolist() == [DAYS.index(first_session)]


@pytest.mark.parametrize("seed", range(20))
def test_latest_known_agrees_with_pandas_over_random_tables(seed):
    rng = np.random.default_rng(seed)
    bars = random_bars(symbols=6, sessions=40, seed=seed, late_bars=3, has_reference=False)
    moments = [_at(DAYS[0], 0) + timedelta(minutes=int(minute)) for minute in rng.integers(-9000, 90_000, 200)]
    rows = [
        {"symbol": f"S{rng.integers(0, 8):03d}", "event_time": at, "available_at": at, "shares_short": float(number)}
        # Some at an open exactly, some twice.
        for number, at in enumerate([*moments, *session_opens(DAYS[:20]).values(), *moments[:30]])
    ]
    table = table_of("short_interest", rows).sample(fraction=1.0, shuffle=True, seed=seed)
    panel = build_panel(bars, None, opens=session_opens(DAYS), references={"short_interest": table})
    known = known_table(panel, "short_interest")
    ours = known.figure("shares_short")[latest_known(panel, known)]
    left = pd.DataFrame(
        {"symbol": panel.keys["symbol"].to_numpy(), "at": panel.session_open, "row": range(bars.height)}
    )
    right = known.frame.select(
        "symbol", "shares_short", at=pl.col("available_at").dt.replace_time_zone(None)
    ).to_pandas()
    joined = pd.merge_asof(
        left.sort_values("at"), right.sort_values("at", kind="stable"), on="at", by="symbol", allow_exact_matches=False
    )
    np.testing.assert_array_equal(ours, joined.sort_values("row")["shares_short"].to_numpy())


def test_known_table_does_not_depend_on_the_order_of_rows(bars, references):
    panel = build_panel(bars, None, references=references)
    shuffled = {name: table.sample(fraction=1.0, shuffle=True, seed=1) for name, table in references.items()}
    other = build_panel(bars, None, references=shuffled)
    for name in references:
        assert known_table(panel, name).frame.equals(known_table(other, name).frame), name


def test_known_table_without_the_table_is_refused(bars):
    with pytest.raises(ValueError, match="`references` must hold 'news', was without it"):
        known_table(build_panel(bars, None), "news")


def _split_growth(
    after: date | datetime | None,
    *,
    lookback_days: int,
    until: date | None = None,
    bars_a_session: int = 1,
    earliest: date | None = None,
) -> list[float]:
    """Growth at the close of each of six sessions from Monday on; 2 for 1 on Tuesday, 7 for 1 on Friday."""
    ratios = [1.0, 2.0, 1.0, 1.0, 7.0, 1.0]
    bars = bars_of("A", [1.0] * 6, days=DAYS[:6], split_ratio=ratios)
    later = [
        bars.with_columns(pl.col("ts") + timedelta(hours=hours), split_ratio=1.0) for hours in range(1, bars_a_session)
    ]
    bars = pl.concat([bars, *later]).sort("symbol", "ts")
    reach = {day: earliest or DAYS[0] for day in DAYS[:6]}
    panel = build_panel(bars, None, opens=session_opens(DAYS), earliest=reach)
    after_at, until_at = (
        np.full(bars.height, np.datetime64("NaT", "us") if each is None else _event_time(each))
        for each in (after, until)
    )
    values = split_growth(panel, after_at, lookback_days=lookback_days, until=None if until is None else until_at)
    return values[bars_a_session - 1 :: bars_a_session].tolist()


def _event_time(at: date | datetime) -> np.datetime64:
    row = table_of("short_interest", [{"symbol": "A", "event_time": at, "available_at": at}])
    return np.datetime64(row["event_time"][0].replace(tzinfo=None), "us")


@pytest.mark.parametrize("bars_a_session", [1, 3])
def test_split_growth_multiplies_the_splits_of_sessions_that_opened_after(bars_a_session):
    nan = float("nan")

    def growth(*arguments: Any, **options: Any) -> list[float]:
        return _split_growth(*arguments, **options, bars_a_session=bars_a_session)

    # A day of Monday is its end: Tuesday's split counts, from bars that reach back to Monday.
    assert growth(MONDAY, lookback_days=4) == pytest.approx([nan, nan, nan, nan, 14.0, nan], nan_ok=True)
    assert growth(MONDAY, lookback_days=7) == pytest.approx([nan, nan, nan, nan, nan, 14.0], nan_ok=True)
    assert growth(TUESDAY, lookback_days=3) == pytest.approx([nan, nan, nan, 1.0, 7.0, nan], nan_ok=True)
    assert growth(_at(TUESDAY, 12), lookback_days=4)[4] == 14.0
    assert growth(_at(TUESDAY, 15), lookback_days=4)[4] == 7.0
    assert np.isnan(growth(None, lookback_days=1)).all()
    assert growth(MONDAY, lookback_days=4, until=WEDNESDAY)[4] == 2.0
    # Bars that may not be read do not count.
    assert np.isnan(growth(MONDAY, lookback_days=4, earliest=TUESDAY)).all()
    assert growth(TUESDAY, lookback_days=3, earliest=TUESDAY)[4] == 7.0


def test_every_feature_says_how_much_of_its_tables_it_reads():
    tables = {"fundamentals", "insider_trades", "short_interest", "news"}
    for feature in FEATURES.values():
        assert bool(feature.reference_days) == bool(tables & set(feature.inputs)), feature.name


def test_every_feature_has_the_bits_of_a_table_cut_at_its_reference_days(bars, references, features):
    for at in (40, 170, 250, 299):
        day = DAYS[at]
        for feature in (FEATURES[name] for name in NAMES):
            start = _at(day, 0) - timedelta(days=feature.reference_days)
            recent = {name: table.filter(pl.col("available_at") > start) for name, table in references.items()}
            alone = compute_features(bars, [feature.name], references=recent, wanted=[day], **GIVEN)
            stored = features.filter(pl.col("session") == day)[feature.name]
            assert alone[feature.name].equals(stored, null_equal=True), (feature.name, day)


def test_every_feature_is_unchanged_by_what_becomes_available_later(bars, references, features):
    rng = np.random.default_rng(1)
    for at in (60, 150, 280):
        opens = session_opens(DAYS)[DAYS[at]]
        changed = {
            name: pl.concat([cut(table, opens - timedelta(microseconds=1)), _restated(table, opens, rng)])
            for name, table in references.items()
        }
        past = pl.col("session") <= DAYS[at]
        assert _bits(_compute(bars, changed).filter(past)) == _bits(features.filter(past))


def _restated(table: pl.DataFrame, since: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Every row once more with other figures, known from `since` on."""
    factor = pl.Series(rng.uniform(0.5, 2.0, table.height))
    figures = [name for name, dtype in table.schema.items() if dtype == pl.Float64]
    return table.with_columns(pl.lit(since).cast(table.schema["available_at"]).alias("available_at")).with_columns(
        pl.col(figures) * factor
    )


def test_every_feature_with_extra_bars_loaded_keeps_its_bits_where_it_had_a_value(bars, references, features):
    shorter = _compute(bars.filter(pl.col("session") >= DAYS[100]), references)
    longer = features.filter(pl.col("session") >= DAYS[100])
    for name in NAMES:
        known = shorter[name].is_not_nan()
        assert known.any(), name
        assert shorter[name].filter(known).equals(longer[name].filter(known)), name


def _differences(
    bars: pl.DataFrame, references: dict[str, pl.DataFrame], features: list[Feature], at: int
) -> list[str]:
    """Replay of the session `at`: names of features that differ once bars and tables are cut at its close."""
    panel = build_panel(bars, None, references=references, wanted=[DAYS[at]], **GIVEN)
    close = panel.keys.filter(pl.col("session") == DAYS[at])["ts"][0]
    known = {name: cut(table, close) for name, table in references.items()}
    past = build_panel(cut(bars, close), None, references=known, wanted=[DAYS[at]], **GIVEN)
    stored, recomputed = (feature_frame(each, features) for each in (panel, past))
    return sorted({found.feature for found in compare_replay(stored, recomputed, at=close)})


@pytest.mark.parametrize("seed", range(20))
def test_replay_of_every_feature_over_random_tables_finds_nothing(seed):
    bars, references = _bars(seed + 100), _references(seed + 100)
    registered = [FEATURES[name] for name in NAMES]
    for at in np.random.default_rng(seed).integers(5, 299, 4).tolist():
        assert _differences(bars, references, registered, at) == []


def _planted(name: str, of: str, change: Any) -> Feature:
    """The registered feature `of`, over tables that were changed first."""

    def compute(panel: Panel) -> np.ndarray:
        changed = {table: change(frame) for table, frame in panel.references.items()}
        return FEATURES[of].compute(replace(panel, references=changed))

    feature = FEATURES[of]
    return Feature(name, "planted", compute, feature.lookback_bars, feature.inputs, feature.formula)


def _dated_by_event(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col("event_time").alias("available_at"))


def _latest_version_only(table: pl.DataFrame) -> pl.DataFrame:
    """Each event once: the figures of its last version at the time of its first."""
    key = "trade_id" if "trade_id" in table.columns else "event_time"
    first = pl.col("available_at").min().over("symbol", key)
    return table.sort("available_at").with_columns(first).unique(["symbol", key], keep="last", maintain_order=True)


LEAKS = [
    pytest.param("asset_turnover", _dated_by_event, id="fundamentals dated by period end"),
    pytest.param("days_since_filing", _dated_by_event, id="age counted from the period end"),
    pytest.param("net_margin", _latest_version_only, id="restated values in the past"),
    pytest.param("earnings_growth", _latest_version_only, id="restated year-ago figure in the past"),
    pytest.param("insider_net_buys_90", _dated_by_event, id="insider trades dated by trade"),
    pytest.param("insider_net_value_90", _latest_version_only, id="amended trades in the past"),
    pytest.param("days_to_cover", _dated_by_event, id="short interest dated by settlement"),
]


@pytest.mark.parametrize(("of", "change"), LEAKS)
def test_replay_catches_a_planted_leak_of_knowledge(bars, of, change):
    references = _references(11, has_gaps=False)
    planted = _planted("planted", of, change)
    found = {at for at in range(105, 300, 12) if _differences(bars, references, [planted, FEATURES[of]], at)}
    assert found
    # The sound feature beside it is never accused.
    assert all(_differences(bars, references, [planted, FEATURES[of]], at) == ["planted"] for at in found)


def test_latest_known_with_sessions_of_unknown_open_knows_nothing():
    row = {"symbol": "A", "event_time": DAYS[0], "available_at": DAYS[0]}
    references = {"short_interest": table_of("short_interest", [row])}
    bars = bars_of("A", [1.0] * 4, days=DAYS[:4])
    opens = {day: at for day, at in session_opens(DAYS).items() if day != DAYS[2]}
    panel = build_panel(bars, None, opens=opens, references=references)
    assert latest_known(panel, known_table(panel, "short_interest")).tolist() == [-1, 0, -1, 0]


def test_features_of_tables_without_opens_are_refused_by_name(bars, references):
    with pytest.raises(ValueError, match=r"`opens` must be given for \['net_margin'\], was None"):
        compute_features(bars, ["net_margin"], references=references)


def test_every_feature_of_empty_tables_knows_nothing(bars, references):
    empty = {name: table.clear() for name, table in references.items()}
    features = _compute(bars, empty)
    enough = pl.int_range(pl.len()).over("symbol") >= 131
    for name in NAMES:
        values = features.filter(enough)[name]
        # What is counted is none; what is measured is not known.
        is_count = name.startswith("insider_") or name == "article_volume"
        assert (values == 0.0).all() if is_count else values.is_nan().all(), name
