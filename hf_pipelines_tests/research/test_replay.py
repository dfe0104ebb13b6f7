"""Replay: planted leaks are caught, clean features never raise an alarm."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import (
    FEATURES,
    Feature,
    Panel,
    build_panel,
    compute_features,
    feature_frame,
)
from hf_pipelines.research.replay import (
    ROWS_A_YEAR,
    Difference,
    boundary_sessions,
    boundary_times,
    compare_replay,
    cut,
    cut_each,
    pick_replay_ts,
    plan_replays,
)
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, session_opens

Recompute = Callable[[pl.DataFrame], pl.DataFrame]


def _replay(stored: pl.DataFrame, bars: pl.DataFrame, recompute: Recompute, *, seed: int, n: int) -> list[Difference]:
    found = []
    for at in pick_replay_ts(stored, seed=seed, n=n):
        found += compare_replay(stored, recompute(cut(bars, at)), at=at)
    return found


def _by_symbol(panel: Panel, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply `change` to each symbol's closes."""
    return np.concatenate([change(close) for close in np.split(panel.close, panel.starts[1:-1])])


def _tomorrow(close: np.ndarray) -> np.ndarray:
    return np.append(close[1:], np.nan) / close - 1


def _centred(close: np.ndarray) -> np.ndarray:
    padded = np.pad(close, 2, mode="edge")
    return close / np.convolve(padded, np.ones(5) / 5, mode="valid")


def _standardised(close: np.ndarray) -> np.ndarray:
    return (close - close.mean()) / (close.std() + 1e-9)


def _filled_backward(close: np.ndarray) -> np.ndarray:
    sparse = pl.Series(np.where(np.arange(close.size) % 5 == 4, close, np.nan)).fill_nan(None)
    return sparse.fill_null(strategy="backward").fill_null(np.nan).to_numpy()


LEAKS = {
    "tomorrow's return": _tomorrow,
    "centred window": _centred,
    "full-sample z-score": _standardised,
    "backward fill": _filled_backward,
}


@pytest.mark.parametrize("change", LEAKS.values(), ids=LEAKS.keys())
def test_replay_catches_a_planted_leak(change):
    def recompute(bars: pl.DataFrame) -> pl.DataFrame:
        leak = Feature("leak", "planted", lambda panel: _by_symbol(panel, change), 1, ("close",), "planted")
        return feature_frame(build_panel(bars, None), [leak, FEATURES["roc_5"]])

    for seed in range(10):
        bars = random_bars(sessions=60, seed=seed, late_bars=10)
        found = _replay(recompute(bars), bars, recompute, seed=seed, n=8)
        assert {difference.feature for difference in found} == {"leak"}


def test_replay_catches_todays_high_used_at_the_open():
    def recompute(bars: pl.DataFrame) -> pl.DataFrame:
        # Stamped with the open, 6.5 hours before the bar it reads is known.
        at_open = bars.filter(pl.col("role") == "member").with_columns(ts=pl.col("ts") - timedelta(hours=6.5))
        return at_open.select("symbol", "session", "ts", range=(pl.col("high") / pl.col("open")).cast(pl.Float32))

    bars = random_bars(sessions=60)
    found = _replay(recompute(bars), bars, recompute, seed=0, n=5)
    assert len([difference for difference in found if difference.feature == "range"]) == 3 * 5
    assert all(difference.recomputed is None for difference in found)


def test_replay_catches_a_reference_row_used_before_it_is_available():
    reference = pl.DataFrame(
        {"session": weekdays(60), "short_interest": np.random.default_rng(0).random(60)}
    ).with_columns(available_at=pl.col("session").cast(pl.Datetime("us", "UTC")) + timedelta(days=8))
    bars = random_bars(sessions=60)

    def stamped_with_the_period_not_with_its_publication(known: pl.DataFrame) -> pl.DataFrame:
        return bars.select("symbol", "ts", "session").join(known.drop("available_at"), on="session", how="left")

    stored = stamped_with_the_period_not_with_its_publication(reference)
    at = stored["ts"][30]
    found = compare_replay(stored, stamped_with_the_period_not_with_its_publication(cut(reference, at)), at=at)
    assert {difference.feature for difference in found} == {"short_interest"}


def test_replay_raises_no_alarm_over_100_clean_series_for_all_registered_features():
    calendar = weekdays(231, start=date(2019, 11, 4))
    sessions = [day for day in calendar if day >= date(2020, 1, 6)]
    symbols = [f"S00{i}" for i in range(5)]
    references = random_references(symbols, start=sessions[0], end=sessions[149], seed=3)
    for seed in range(20):
        bars = random_bars(symbols=5, sessions=150, seed=seed, late_bars=36 if seed % 2 else 0)
        index = bars.filter(pl.col("role") == "reference").with_columns(symbol=pl.lit("^VOL"))
        bars = pl.concat([bars, index]).sort("symbol", "ts")

        def recompute(known: pl.DataFrame) -> pl.DataFrame:
            return compute_features(
                known,
                list(FEATURES),
                sessions=calendar,
                planned_holidays=[],
                benchmark=REFERENCE,
                volatility_index="^VOL",
                sectors=dict.fromkeys(symbols, "oil"),
                opens=session_opens(sessions),
                references={name: cut(table, known["ts"].max()) for name, table in references.items()},
                wanted=sessions[140:150],
            )

        assert _replay(recompute(bars), bars, recompute, seed=seed, n=4) == []


def test_pick_replay_ts_includes_both_ends_and_every_late_listing():
    frame = random_bars(symbols=3, sessions=50, late_bars=7).filter(pl.col("role") == "member")
    times = frame["ts"].unique().sort()
    for seed in range(20):
        picked = pick_replay_ts(frame, seed=seed, n=6)
        assert len(picked) == 6 and picked == sorted(set(picked))
        assert {times[0], times[7], times[14], times[49]} <= set(picked)


def test_pick_replay_ts_is_the_same_for_a_seed_and_reaches_every_session_over_seeds():
    frame = random_bars(sessions=20)
    assert pick_replay_ts(frame, seed=3, n=5) == pick_replay_ts(frame.reverse(), seed=3, n=5)
    assert len({ts for seed in range(60) for ts in pick_replay_ts(frame, seed=seed, n=5)}) == 20


@pytest.mark.parametrize(("n", "expected"), [(1, 2), (2, 2), (5, 5), (99, 10)])
def test_pick_replay_ts_returns_n_within_what_there_is(n, expected):
    assert len(pick_replay_ts(random_bars(sessions=10), seed=0, n=n)) == expected


def test_pick_replay_ts_refuses_nothing_to_choose_from():
    with pytest.raises(ValueError, match="`n` must be at least 1, was 0"):
        pick_replay_ts(random_bars(sessions=10), seed=0, n=0)
    with pytest.raises(ValueError, match="`frame` must hold at least one row"):
        pick_replay_ts(random_bars(sessions=10).clear(), seed=0, n=1)


AT = datetime(2020, 1, 7, 21, tzinfo=UTC)


def _frame(*rows: tuple[str, datetime, float | None]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "ts": pl.Datetime("us", "UTC"), "x": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize(
    ("stored", "recomputed", "is_same"),
    [
        pytest.param(1.0, 1.0, True, id="equal"),
        pytest.param(float("nan"), float("nan"), True, id="nan"),
        pytest.param(1.0, float(np.nextafter(np.float32(1), np.float32(2))), False, id="last bit"),
        pytest.param(0.0, -0.0, True, id="minus zero"),
        pytest.param(1.0, float("nan"), False, id="lost"),
        pytest.param(None, float("nan"), False, id="null is not nan"),
        pytest.param(None, None, True, id="null"),
    ],
)
def test_compare_replay_compares_every_bit(stored, recomputed, is_same):
    found = compare_replay(_frame(("A", AT, stored)), _frame(("A", AT, recomputed)), at=AT)
    assert (found == []) is is_same


def test_compare_replay_takes_every_nan_for_the_same():
    stored = _frame(("A", AT, 1.0))
    nans = [pl.Series("x", np.array([bits], dtype=np.uint32).view(np.float32)) for bits in (0x7FC00000, 0xFFC00001)]
    assert compare_replay(stored.with_columns(nans[0]), stored.with_columns(nans[1]), at=AT) == []


def test_compare_replay_looks_at_one_time_only():
    later = AT + timedelta(days=1)
    stored = _frame(("A", AT, 1.0), ("A", later, 2.0))
    assert compare_replay(stored, _frame(("A", AT, 1.0), ("A", later, 3.0)), at=AT) == []


def test_compare_replay_reports_missing_and_extra_rows_sorted_by_symbol():
    found = compare_replay(_frame(("B", AT, 1.0), ("C", AT, 5.0)), _frame(("A", AT, 2.0), ("C", AT, 5.0)), at=AT)
    assert found == [Difference("x", "A", AT, None, 2.0), Difference("x", "B", AT, 1.0, None)]


def test_compare_replay_reports_a_missing_row_of_nulls():
    assert len(compare_replay(_frame(("A", AT, None)), _frame(), at=AT)) == 1


def test_compare_replay_reports_missing_and_extra_columns():
    stored = _frame(("A", AT, 1.0))
    found = compare_replay(stored, stored.rename({"x": "y"}), at=AT)
    assert [(each.feature, each.stored, each.recomputed) for each in found] == [
        ("x", 1.0, None),
        ("y", None, 1.0),
    ]


def test_compare_replay_refuses_another_type_and_repeated_keys():
    stored = _frame(("A", AT, 1.0))
    with pytest.raises(ValueError, match="`recomputed` must hold x as Float32, was Float64"):
        compare_replay(stored, stored.cast({"x": pl.Float64}), at=AT)
    with pytest.raises(ValueError, match="once, one has repeats"):
        compare_replay(stored, pl.concat([stored, stored]), at=AT)


def test_difference_reads_as_a_sentence():
    assert str(Difference("rsi_14", "AAPL", AT, 55.5, None)) == (
        "rsi_14 of AAPL at 2020-01-07T21:00:00+00:00: stored=55.5 recomputed=(none)"
    )


def test_cut_goes_by_available_at_before_ts():
    bars = bars_of("A", [1.0, 2.0, 3.0])
    assert cut(bars, bars["ts"][1]).height == 2
    late = bars.with_columns(available_at=pl.col("ts") + timedelta(days=1))
    assert cut(late, bars["ts"][1]).height == 1


def test_boundary_sessions_are_the_last_of_a_week_before_a_holiday_of_a_month_and_of_a_quarter():
    # Good Friday 6 April 2012; the quarter ended on a Friday.
    days = [day for day in weekdays(15, start=date(2012, 3, 26)) if day != date(2012, 4, 6)]
    assert boundary_sessions(days, days) == {
        date(2012, 3, 30): {"week", "month", "quarter"},
        date(2012, 4, 5): {"week", "holiday"},
    }
    # The last of the calendar is not known to end anything.
    assert date(2012, 4, 13) not in boundary_sessions(days, days)


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    """Rows of 200 members over 52 weeks; one begins late, one pauses for two sessions."""
    days = weekdays(260, start=date(2019, 1, 7))
    at = pl.DataFrame({"session": days}).with_columns(ts=pl.col("session").cast(pl.Datetime("us", "UTC")))
    rows = pl.DataFrame({"symbol": [f"S{n:03d}" for n in range(200)]}).join(at, how="cross")
    is_early = (pl.col("symbol") == "S007") & (pl.col("session") < days[100])
    is_halted = (pl.col("symbol") == "S050") & pl.col("session").is_in(days[60:62])
    return rows.filter(~is_early & ~is_halted).sort("symbol", "ts")


def test_plan_replays_includes_each_kind_of_boundary_once_a_year_and_random_ones(year):
    # Monday 27 May 2019 is a holiday.
    days = [day for day in weekdays(300, start=date(2019, 1, 7)) if day != date(2019, 5, 27)]
    rows = year.filter(pl.col("session") != date(2019, 5, 27))
    times = rows["ts"].unique().sort().to_list()
    ends, random = boundary_sessions(days, days), set()
    for seed in range(40):
        plan = plan_replays(boundary_times(rows, days), seed=seed, rows_a_time=24)
        assert list(plan) == sorted(plan) and len(plan) >= ROWS_A_YEAR / 24
        assert {kind for at in plan for kind in ends.get(at.date(), ())} == {"week", "holiday", "month", "quarter"}
        # The first bar of S007, the last of S050 before its halt and the first after it; not the last of all.
        first = rows.filter(pl.col("symbol") == "S007")["ts"].min()
        assert plan[first] == {"S007"} and plan[times[59]] == {"S050"} == plan[times[62]]
        assert times[-1] not in plan
        random |= {at for at in plan if at.date() not in ends}
    assert len(random) > 50


def test_plan_replays_of_one_week_takes_the_boundaries_inside_it_and_one_at_random():
    days = weekdays(300, start=date(2019, 1, 7))
    rows = random_bars(symbols=30, sessions=5, start=date(2019, 1, 28)).select("symbol", "session", "ts")
    for seed in range(10):
        # Thursday 31 January ends the month; after Friday nothing is loaded.
        plan = [at.date() for at in plan_replays(boundary_times(rows, days), seed=seed, rows_a_time=24)]
        assert date(2019, 1, 31) in plan and len(plan) == 2 and date(2019, 2, 1) not in plan


def test_plan_replays_of_one_week_with_a_halt_adds_a_random_time_that_ends_nothing():
    days = weekdays(300, start=date(2019, 1, 7))
    rows = random_bars(symbols=30, sessions=5, start=date(2019, 1, 7)).select("symbol", "session", "ts")
    # S003 begins on Wednesday: one boundary, and another one.
    rows = rows.filter((pl.col("symbol") != "S003") | (pl.col("session") > date(2019, 1, 8)))
    seen = set()
    for seed in range(20):
        plan = plan_replays(boundary_times(rows, days), seed=seed, rows_a_time=24)
        assert len(plan) == 2 and {"S003"} in plan.values()
        seen |= {at.date() for at in plan}
    assert seen == {*days[:4]}


def test_boundary_times_of_rows_in_the_order_of_time_are_those_of_rows_in_the_order_of_symbols(year):
    days = weekdays(300, start=date(2019, 1, 7))
    sparse = year.filter(pl.Series(np.random.default_rng(3).random(year.height) < 0.1))
    for rows in (year, sparse):
        by_time = boundary_times(rows.sort("ts", "symbol"), days)
        assert by_time == boundary_times(rows, days)
        # Worked out symbol by symbol, too.
        times, found = rows["ts"].unique().sort().to_list(), {}
        for (symbol,), of_symbol in rows.partition_by("symbol", as_dict=True).items():
            places = [times.index(ts) for ts in of_symbol["ts"].sort().to_list()]
            told = {places[0]} - {0}
            told |= {at for pair in zip(places, places[1:], strict=False) if pair[1] - pair[0] > 1 for at in pair}
            for at in told:
                found.setdefault(times[at], set()).add(symbol)
        assert by_time.symbols == found


def test_cut_each_cuts_every_symbol_at_its_own_time():
    bars = random_bars(symbols=4, sessions=30)
    times = bars["ts"].unique().sort().to_list()
    known_by = {"S000": times[3], "S002": times[20]}
    alone = [cut(bars.filter(pl.col("symbol") == symbol), at) for symbol, at in known_by.items()]
    assert cut_each(bars, known_by).equals(pl.concat(alone))
    assert [each.height for each in alone] == [4, 21]


def test_a_leak_on_a_twentieth_of_independent_rows_passes_a_year_of_samples_less_than_once_in_a_thousand(year):
    # By hand: 0.95^135 = 9.8e-4.
    assert 0.95**ROWS_A_YEAR < 1e-3 < 0.95 ** (ROWS_A_YEAR - 1)
    rng, days, n_escaped, n_plans, n_leaks = (
        np.random.default_rng(0),
        weekdays(300, start=date(2019, 1, 7)),
        0,
        20,
        5_000,
    )
    boundaries = boundary_times(year, days)
    for seed in range(n_plans):
        n_times = len(plan_replays(boundaries, seed=seed, rows_a_time=24))
        # Of each time two dozen of 200 members; leaks drawn row by row over the whole year.
        symbols = np.array([rng.permutation(200)[:24] for _ in range(n_times)])
        sampled = (np.repeat(np.arange(n_times), 24) * 200 + symbols.ravel()).astype(np.int64)
        for _ in range(n_leaks // 100):
            is_leak = rng.random((100, n_times * 200)) < 0.05
            n_escaped += int((~is_leak[:, sampled].any(axis=1)).sum())
    assert n_escaped / (n_plans * n_leaks) < 1e-3
