"""The panel: layout, calendar and the alignment of the benchmark."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features.panel import build_panel
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars, weekdays


def _with_reference(member: pl.DataFrame, *, without: tuple[int, ...] = (), **columns: list[float]) -> pl.DataFrame:
    n = 5
    reference = bars_of(REFERENCE, [10.0, 11.0, 12.0, 13.0, 14.0], role="reference", **columns)
    return pl.concat([member, reference[[row for row in range(n) if row not in without]]]).sort("symbol", "ts")


def test_build_panel_keeps_member_rows_with_offsets_per_symbol():
    bars = random_bars(symbols=3, sessions=20, late_bars=4)
    panel = build_panel(bars, None)
    assert panel.starts.tolist() == [0, 20, 36, 48]
    assert panel.keys["symbol"].unique().sort().to_list() == ["S000", "S001", "S002"]
    assert panel.close.tolist() == bars.filter(pl.col("role") == "member")["close"].to_list()


def test_build_panel_price_factor_is_one_exactly_without_event_and_hand_computed_with():
    panel = build_panel(bars_of("A", [3.3, 7.7, 9.0, 44.0], split_ratio=[1, 1, 1, 2], dividend=[0, 0, 1.0, 0.5]), None)
    assert panel.price_factor.tolist() == [1.0, 1.0, 0.9, pytest.approx(44.0 / (2 * 44.5))]


def test_build_panel_next_session_comes_from_the_calendar_across_a_gap():
    days = [date(2024, 3, 27), date(2024, 3, 28)]
    panel = build_panel(bars_of("A", [1.0, 2.0], days=days), [*days, date(2024, 4, 1)])
    assert panel.next_session.tolist() == [date(2024, 3, 28), date(2024, 4, 1)]


def test_build_panel_without_calendar_has_no_next_session():
    assert np.isnat(build_panel(random_bars(sessions=5), None).next_session).all()


def test_build_panel_arrays_are_read_only():
    panel = build_panel(random_bars(sessions=5), None)
    arrays = [value for value in vars(panel).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 21
    assert not any(array.flags.writeable for array in arrays)


def test_benchmark_close_is_nan_where_its_session_is_missing():
    panel = build_panel(_with_reference(bars_of("A", [1.0] * 5), without=(2,)), None)
    np.testing.assert_array_equal(panel.benchmark_close, [10.0, 11.0, np.nan, 13.0, 14.0])


def test_benchmark_close_is_nan_when_it_closes_after_the_symbol():
    bars = _with_reference(bars_of("A", [1.0] * 5))
    later = pl.when(pl.col("role") == "reference").then(pl.col("ts") + timedelta(minutes=1)).otherwise("ts")
    assert np.isnan(build_panel(bars.with_columns(ts=later), None).benchmark_close).all()


def test_benchmark_factor_collects_events_of_sessions_the_symbol_skipped():
    member = bars_of("A", [1.0] * 5)[[0, 1, 4]]
    bars = _with_reference(member, split_ratio=[1, 1, 2, 1, 1], dividend=[0, 0, 0, 0, 1.0])
    panel = build_panel(bars, None)
    assert panel.benchmark_factor.tolist() == [1.0, 1.0, pytest.approx(0.5 * 14.0 / 15.0)]


def test_benchmark_factor_applies_an_event_once_to_two_bars_of_the_same_session():
    day = [weekdays(1)[0]] * 2
    member = bars_of("A", [1.0, 2.0], days=day).with_columns(
        ts=pl.col("ts") + pl.Series([0, 60]).cast(pl.Duration("us"))
    )
    reference = bars_of(REFERENCE, [10.0], role="reference", split_ratio=[2.0])
    panel = build_panel(pl.concat([member, reference]), None)
    assert panel.benchmark_close.tolist() == [10.0, 10.0]
    assert panel.benchmark_factor.tolist() == [0.5, 1.0]


def test_benchmark_must_be_named_among_several_references():
    bars = _with_reference(bars_of("A", [1.0] * 5))
    both = pl.concat([bars, bars_of("^VIX", [5.0] * 5, role="reference")])
    with pytest.raises(ValueError, match=r"`benchmark` must be one of .*\^INDEX.*\^VIX"):
        build_panel(both, None)
    assert build_panel(both, None, benchmark="^VIX").benchmark_close.tolist() == [5.0] * 5


def test_volatility_close_follows_its_own_reference_and_leaves_the_benchmark_alone():
    index = bars_of("^VIX", [5.0, 6.0, 7.0, 8.0], days=weekdays(4), role="reference")
    bars = pl.concat([_with_reference(bars_of("A", [1.0] * 5)), index])
    panel = build_panel(bars, None, volatility_index="^VIX")
    np.testing.assert_array_equal(panel.volatility_close, [5.0, 6.0, 7.0, 8.0, np.nan])
    assert panel.benchmark_close.tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]


def test_columns_of_inputs_that_nothing_reads_are_as_if_they_had_not_been_given():
    index = bars_of("^VIX", [5.0] * 5, role="reference")
    bars = pl.concat([_with_reference(bars_of("A", [1.0] * 5)), index])
    given = {
        "volatility_index": "^VIX",
        "sectors": {"A": "oil"},
        "opens": {day: datetime(day.year, day.month, day.day, 14, tzinfo=UTC) for day in weekdays(5)},
    }
    every, none = (
        build_panel(bars, None, benchmark=REFERENCE, **given, inputs=inputs) for inputs in (None, ("close",))
    )
    for name, value in vars(none).items():
        if isinstance(value, np.ndarray):
            is_blank = name in ("benchmark_close", "benchmark_factor", "volatility_close", "sector", "session_open")
            assert np.array_equal(value, getattr(every, name), equal_nan=value.dtype.kind in "fM") != is_blank, name
    assert np.isnan([none.benchmark_close, none.benchmark_factor, none.volatility_close]).all()
    assert none.sector.tolist() == [-1] * 5 and np.isnat(none.session_open).all()
    one = build_panel(bars, None, benchmark=REFERENCE, **given, inputs=("benchmark", "sector"))
    assert one.benchmark_close.tolist() == every.benchmark_close.tolist() and one.sector.tolist() == [0] * 5
    assert np.isnan(one.volatility_close).all()


def test_is_member_holds_both_ends_of_each_spell_and_nothing_else():
    days = weekdays(6)
    spells = pl.DataFrame({"symbol": ["A", "A"], "since": [days[1], days[4]], "until": [days[2], None]})
    bars = pl.concat([bars_of("A", [1.0] * 6), bars_of("B", [1.0] * 6)])
    panel = build_panel(bars, None, membership=spells, wanted=days[2:5])
    assert panel.is_member.tolist() == [False, True, True, False, True, True] + [False] * 6
    assert panel.is_wanted.tolist() == [False, False, True, False, True, False] + [False] * 6


@pytest.mark.parametrize("seed", range(8))
def test_columns_of_sessions_are_those_of_a_search_row_by_row(seed):
    rng = np.random.default_rng(seed)
    calendar = weekdays(61)
    bars = random_bars(symbols=6, sessions=60, seed=seed, late_bars=seed % 4)
    # Two bars a session for some, holes for all, and one symbol with a single bar.
    later = bars.filter(pl.col("symbol").is_in(["S001", "S002"])).with_columns(pl.col("ts") + timedelta(hours=1))
    bars = pl.concat([bars, later]).filter(pl.Series(rng.random(bars.height + later.height) < 0.7))
    bars = pl.concat([bars.filter(pl.col("symbol") != "S003"), bars.filter(pl.col("symbol") == "S003").head(1)])
    bars = bars.sort("symbol", "ts")
    spells = []
    for symbol in ["S000", "S001", "S004", "S005", "unknown"]:
        first, second, third = sorted(rng.permutation(60)[:3].tolist())
        spells += [(symbol, calendar[first], calendar[second]), (symbol, calendar[third], None)]
    # One that is over before it begins, one before the bars, one after them.
    spells += [("S002", calendar[30], calendar[29]), ("S002", date(2019, 1, 1), date(2019, 2, 1))]
    spells += [("S002", date(2029, 1, 1), None)]
    opens = {day: datetime(day.year, day.month, day.day, 14, tzinfo=UTC) for day in calendar[5:]}
    earliest = {day: day - timedelta(days=int(rng.integers(0, 40))) for day in calendar}
    wanted = calendar[20:30]

    panel = build_panel(
        bars,
        calendar,
        wanted=[*wanted, date(1999, 1, 1)],
        earliest=earliest,
        opens=opens,
        membership=pl.DataFrame(spells, schema=["symbol", "since", "until"], orient="row"),
    )

    rows = panel.keys.rows()
    for row, (symbol, session, _) in enumerate(rows):
        own = [at for at, (other, day, _) in enumerate(rows) if other == symbol and day >= earliest[session]]
        is_member = any(s == symbol and a <= session and (b is None or session <= b) for s, a, b in spells)
        opened = opens.get(session)
        assert panel.first_readable[row] == own[0]
        assert panel.next_session[row] == min(day for day in calendar if day > session)
        assert panel.session[row] == session
        assert panel.is_member[row] == is_member
        assert panel.is_wanted[row] == (is_member and session in wanted)
        assert panel.session_open[row].item() == (opened.replace(tzinfo=None) if opened else None)
    times = sorted({ts for _, _, ts in rows})
    assert panel.time.tolist() == [times.index(ts) for _, _, ts in rows]
    assert panel.starts.tolist() == [
        next(at for at, row in enumerate(rows) if row[0] == symbol) for symbol in sorted({row[0] for row in rows})
    ] + [len(rows)]


def test_panel_of_no_members_is_empty():
    panel = build_panel(bars_of(REFERENCE, [1.0] * 5, role="reference"), None, wanted=weekdays(2))
    assert (panel.keys.height, panel.starts.tolist(), panel.first_readable.size, panel.is_wanted.size) == (0, [0], 0, 0)


def test_sector_codes_do_not_depend_on_which_symbols_are_loaded():
    sectors = {"A": "oil", "B": "banks", "C": "cars"}
    bars = pl.concat([bars_of(symbol, [1.0]) for symbol in "ABD"])
    assert build_panel(bars, None, sectors=sectors).sector.tolist() == [2, 0, -1]
    assert build_panel(bars[:1], None, sectors=sectors).sector.tolist() == [2]
    assert build_panel(bars, None).sector.tolist() == [-1, -1, -1]


def test_planned_holidays_are_sorted_weekdays_and_never_sessions():
    days = [date(2024, 7, 4), date(2024, 3, 30), date(2024, 3, 29)]
    assert build_panel(random_bars(sessions=5), None, planned_holidays=days).planned_holidays.tolist() == [
        date(2024, 3, 29),
        date(2024, 7, 4),
    ]
    with pytest.raises(ValueError, match="`planned_holidays` must not be sessions, was so for .'2020-01-08'"):
        build_panel(random_bars(sessions=5), weekdays(6), planned_holidays=[date(2020, 1, 8)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda bars: bars.drop("dividend"), r"columns .* without \['dividend'\]", id="column"),
        pytest.param(lambda bars: bars.reverse(), "sorted by", id="order"),
        pytest.param(lambda bars: pl.concat([bars[:1], bars]), "without repeats", id="repeat"),
    ],
)
def test_build_panel_refuses_malformed_bars(damage, message):
    with pytest.raises(ValueError, match=message):
        build_panel(damage(random_bars(sessions=5)), None)


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        pytest.param(weekdays(5), "one after the last, was not so for .'2020-01-10'", id="no next session"),
        pytest.param(weekdays(6)[1:], "every session .*'2020-01-06'", id="begins late"),
        pytest.param(weekdays(6)[::-1], "ascending", id="descending"),
    ],
)
def test_build_panel_refuses_a_calendar_that_does_not_cover_the_bars(sessions, message):
    with pytest.raises(ValueError, match=message):
        build_panel(random_bars(sessions=5), sessions)
