"""One contract over every registered feature, and the public call."""

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hf_pipelines.research.features import (
    FEATURES,
    Feature,
    Panel,
    build_panel,
    compute_features,
    feature_frame,
    group_names,
)
from hf_pipelines.research.features.contract import is_judged_over_events, with_corporate_action
from hf_pipelines.research.features.feature import MAX_LOOKBACK_BARS
from hf_pipelines.research.features.registry import names_by_group, register
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars, weekdays
from hf_pipelines_tests.sample_references import random_references, scaled_references, session_opens

KEYS = ["symbol", "session", "ts"]
VOLATILITY_INDEX = "^VOL"
# One weekday in 41 is a holiday, planned; the calendar begins two months before the first bar.
PLANNED_HOLIDAYS = weekdays(880, start=date(2019, 11, 4))[7::41]
CALENDAR = [day for day in weekdays(880, start=date(2019, 11, 4)) if day not in PLANNED_HOLIDAYS]
SESSIONS = [day for day in CALENDAR if day >= date(2020, 1, 6)]

# What features may need besides bars. S002 belongs to the universe in two spells.
GIVEN: dict[str, Any] = {
    "sessions": CALENDAR,
    "planned_holidays": PLANNED_HOLIDAYS,
    "benchmark": REFERENCE,
    "volatility_index": VOLATILITY_INDEX,
    "sectors": {"S000": "oil", "S001": "oil", "S002": "oil"},
    "membership": pl.DataFrame(
        {
            "symbol": ["S000", "S001", "S002", "S002"],
            "since": [SESSIONS[0], SESSIONS[0], SESSIONS[0], SESSIONS[330]],
            "until": [None, None, SESSIONS[250], None],
        }
    ),
    "opens": session_opens(CALENDAR),
    "references": random_references(["S000", "S001", "S002"], start=CALENDAR[0], end=CALENDAR[600], seed=8),
}
FED = {"open", "high", "low", "close", "volume", "benchmark", "volatility_index", "sector", "universe", "session"}
FED |= {"next_session", "calendar", "planned_holidays", "session_open"} | set(GIVEN["references"])
NAMES = [name for name, feature in FEATURES.items() if FED.issuperset(feature.inputs)]


def members_and_references() -> pl.DataFrame:
    """Three members, the benchmark and the volatility index; S002 skips one session in 23."""
    bars = random_bars(symbols=3, sessions=500, seed=21)
    days = bars.filter(pl.col("symbol") == "S000")["session"].to_list()
    level = 20.0 * np.exp(np.random.default_rng(5).normal(0.0, 0.05, 500).cumsum())
    index = bars_of(VOLATILITY_INDEX, level.round(2).tolist(), role="reference", days=days)
    is_missing = (pl.col("symbol") == "S002") & pl.col("session").is_in(SESSIONS[11::23])
    return pl.concat([bars, index]).filter(pl.col("session").is_in(SESSIONS) & ~is_missing).sort("symbol", "ts")


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return members_and_references()


def _compute(bars: pl.DataFrame, names: list[str] = NAMES, **arguments: Any) -> pl.DataFrame:
    return compute_features(bars, names, **(GIVEN | arguments))


def _panel(bars: pl.DataFrame, **arguments: Any) -> Panel:
    return build_panel(bars, **(GIVEN | arguments))


def _n_bars(features: pl.DataFrame, bars: pl.DataFrame) -> pl.Series:
    """Bars of its symbol that `bars` hold up to each row of `features`."""
    counted = bars.select(*KEYS, n_bars=pl.int_range(pl.len()).over("symbol") + 1)
    return features.select(KEYS).join(counted, on=KEYS, how="left", maintain_order="left")["n_bars"]


def _has_window(features: pl.DataFrame, bars: pl.DataFrame, name: str, n_bars: int) -> pl.Series:
    """Whether `bars` hold so many bars up to each row of `features`, and reach back the days of splits."""
    began = bars.group_by("symbol").agg(began=pl.col("session").min())
    age = features.select(KEYS).join(began, on="symbol", how="left", maintain_order="left")
    days = (age["session"] - age["began"]).dt.total_days()
    return (_n_bars(features, bars) >= n_bars) & (days >= FEATURES[name].lookback_days)


@pytest.fixture(scope="module")
def features(bars: pl.DataFrame) -> pl.DataFrame:
    return _compute(bars)


def _bits(column: pl.Series) -> list[int]:
    """Bits of float32 values, all NaN alike."""
    values = column.to_numpy()
    return np.where(np.isnan(values), 0x7FC00000, values.view(np.uint32)).tolist()


def _from(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.filter(pl.col("session") >= SESSIONS[first])


@pytest.fixture(scope="module")
def short(bars: pl.DataFrame) -> pl.DataFrame:
    """Features of the last 340 sessions, computed from nothing before them."""
    return _compute(_from(bars, 150))


@pytest.mark.parametrize("events", [{"split_ratio": np.nan}, {"dividend": np.nan}], ids=["split", "dividend"])
def test_every_feature_of_a_symbol_begins_anew_at_an_unknown_event(bars, features, events):
    day = SESSIONS[300]
    is_there = (pl.col("symbol") == "S000") & (pl.col("session") == day)
    unknown = _compute(
        bars.with_columns(pl.when(is_there).then(value).otherwise(name).alias(name) for name, value in events.items())
    )
    is_before = (pl.col("symbol") == "S000") & (pl.col("session") < day)
    cut = _compute(bars.filter(~is_before))
    joint = {"universe", "sector"}
    for name in NAMES:
        before = unknown.filter(is_before)[name]
        assert _bits(before) == _bits(features.filter(is_before)[name]), name
        # What others give is their own, but where the members are compared.
        is_of_symbol = (pl.col("symbol") == "S000") if joint & {*FEATURES[name].inputs} else pl.lit(True)
        after = [each.filter(~is_before & is_of_symbol)[name] for each in (unknown, cut)]
        assert _bits(after[0]) == _bits(after[1]), name


@pytest.mark.parametrize("extra", [0, 1, 7, 150])
def test_every_feature_with_extra_leading_bars_keeps_its_bits(bars, short, extra):
    longer = _from(_compute(_from(bars, 150 - extra)), 150)
    for name in NAMES:
        enough = _has_window(short, _from(bars, 150), name, FEATURES[name].required_bars)
        assert short[name].filter(~enough).is_nan().all(), name
        whole = _has_window(short, _from(bars, 150), name, FEATURES[name].lookback_bars)
        assert whole.sum() > 0 and not short[name].filter(whole).is_nan().any(), name
        assert _bits(longer[name].filter(whole)) == _bits(short[name].filter(whole)), name


@pytest.mark.parametrize("extra", [1, 7, 150])
def test_every_feature_with_earliest_comes_out_as_if_nothing_was_loaded_before(bars, short, extra):
    earliest = {day: min(day, SESSIONS[150]) for day in SESSIONS}
    longer = _compute(_from(bars, 150 - extra), earliest=earliest)
    for name in NAMES:
        assert _bits(_from(longer, 150)[name]) == _bits(short[name]), name


def test_every_feature_over_a_range_with_earliest_equals_each_week_alone(bars):
    weeks = [SESSIONS[first : first + 5] for first in range(400, 450, 5)]
    # Each week may read as many sessions as some features have in their windows, and fewer than others have.
    reach = {day: SESSIONS[SESSIONS.index(week[0]) - 125] for week in weeks for day in week}
    earliest = {day: reach.get(day, day) for day in SESSIONS}
    whole = _compute(bars, earliest=earliest)
    for week in weeks:
        loaded = bars.filter(pl.col("session").is_between(reach[week[0]], week[-1]))
        alone = _compute(loaded, wanted=week)
        together = whole.filter(pl.col("session").is_in(week))
        assert alone.select(KEYS).equals(together.select(KEYS))
        assert all(_bits(alone[name]) == _bits(together[name]) for name in NAMES)


def test_every_feature_of_wanted_sessions_has_the_bits_of_all_sessions(bars, features):
    week = SESSIONS[330:335]
    wanted = _compute(bars, wanted=week)
    same = features.filter(pl.col("session").is_in(week))
    assert wanted.height == 14
    assert wanted.select(KEYS).equals(same.select(KEYS))
    assert all(_bits(wanted[name]) == _bits(same[name]) for name in NAMES)


@pytest.mark.parametrize("name", ["rsi_14", "benchmark_beta_60"])
def test_window_features_compute_nothing_for_sessions_that_are_not_wanted(bars, name):
    panel = _panel(bars, wanted=SESSIONS[300:305])
    values = FEATURES[name].compute(panel)
    assert np.isfinite(values).sum() == 10
    assert np.isnan(values[~panel.is_wanted]).all()


@pytest.mark.parametrize("at", np.random.default_rng(4).integers(5, 479, 6).tolist())
def test_every_feature_with_the_future_cut_off_keeps_its_bits(bars, features, at):
    past = _compute(bars.filter(pl.col("session") <= SESSIONS[at]))
    stored = features.filter(pl.col("session") <= SESSIONS[at])
    for name in NAMES:
        assert _bits(past[name]) == _bits(stored[name]), name


SCALINGS: dict[str, tuple[str, ...]] = {
    "prices": ("open", "high", "low", "close", "dividend"),
    "volumes": ("volume",),
}


@pytest.mark.parametrize("symbol", ["S000", REFERENCE])
@pytest.mark.parametrize(("what", "factor"), [("prices", 0.37), ("volumes", 13.0)])
def test_every_feature_is_unchanged_by_the_scale_of_prices_and_volumes(bars, features, symbol, what, factor):
    scaled = bars.with_columns(pl.col(SCALINGS[what]) * pl.when(pl.col("symbol") == symbol).then(factor).otherwise(1.0))
    references = scaled_references(GIVEN["references"], what, symbol=symbol, factor=factor)
    changed = _compute(scaled, references=references)
    for name in NAMES:
        np.testing.assert_allclose(changed[name], features[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("symbol", ["S000", "S002", REFERENCE])
def test_every_feature_is_unchanged_by_a_split_and_a_dividend_that_change_no_return(bars, features, symbol):
    changed = _compute(with_corporate_action(bars, symbol, SESSIONS[400]))
    for name in NAMES:
        if is_judged_over_events(FEATURES[name]):
            np.testing.assert_allclose(changed[name], features[name], rtol=1e-6, atol=1e-9, err_msg=name)


def _spike(bars: pl.DataFrame) -> pl.DataFrame:
    is_spike = pl.int_range(pl.len()) % 97 == 50
    return bars.with_columns(pl.col("high", "close") * pl.when(is_spike).then(1e6).otherwise(1.0))


NASTY: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "as generated": lambda bars: bars,
    "constant": lambda bars: bars.with_columns(pl.col("open", "high", "low", "close") * 0 + 88.99, dividend=0.0),
    "no volume": lambda bars: bars.with_columns(volume=pl.lit(0.0)),
    "a cent": lambda bars: bars.with_columns(pl.col("open", "high", "low", "close") * 0 + 0.01),
    "spikes of a million": _spike,
    "huge": lambda bars: bars.with_columns(pl.col("open", "high", "low", "close", "volume", "dividend") * 1e12),
}
# Where a docstring says NaN: nothing was traded, or nothing moved and a ratio has no meaning.
FLAT = {"benchmark_correlation_60", "benchmark_beta_60", "sector_correlation_60", "sector_beta_60"}
FLAT |= {"residual_momentum_252_21"} | {name for name in NAMES if name.startswith("zscore_")}
FLAT |= {name for name in NAMES if FEATURES[name].group == "alpha158" and name.startswith(("RSQR", "CORR", "CORD"))}
UNDEFINED: dict[str, set[str]] = {
    "constant": FLAT,
    "a cent": FLAT,
    "no volume": {name for name in NAMES if "volume" in FEATURES[name].inputs},
}


@pytest.mark.parametrize("damage", NASTY)
def test_every_feature_is_never_infinite_and_nan_only_where_stated(bars, damage):
    features = _compute(NASTY[damage](bars))
    known = {
        name: features[name].filter(_has_window(features, bars, name, FEATURES[name].required_bars)) for name in NAMES
    }
    assert [name for name, values in known.items() if values.is_infinite().any()] == []
    assert {name for name, values in known.items() if values.is_nan().any()} <= UNDEFINED.get(damage, set())


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_every_feature_is_described(feature):
    assert feature.formula and feature.inputs and feature.compute.__doc__
    assert 1 <= feature.lookback_bars <= MAX_LOOKBACK_BARS
    assert FEATURES[feature.name] is feature


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_returns_float64_of_the_panel_with_nan_before_its_lookback(name, bars):
    feature, panel = FEATURES[name], _panel(bars)
    values = feature.compute(panel)
    assert values.dtype == np.float64 and values.shape == panel.close.shape
    for first in panel.starts[:-1]:
        assert np.isnan(values[first : first + feature.required_bars - 1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_reads_only_its_declared_inputs(name, bars):
    rng = np.random.default_rng(0)
    columns = {"open", "high", "low", "close", "volume"} - set(FEATURES[name].inputs)
    # Other numbers in the columns it does not name; events are part of what a price means.
    disturbed = bars.with_columns(
        pl.col(each) * pl.Series(rng.uniform(0.5, 2.0, bars.height)) for each in sorted(columns) if each != "close"
    )
    ours, theirs = (_compute(each, [name]) for each in (bars, disturbed))
    assert _bits(ours[name]) == _bits(theirs[name])


@pytest.mark.parametrize("seed", [0, 1])
def test_every_feature_over_gaps_of_every_input_is_the_same_alone_in_a_week_and_in_the_whole(bars, seed):
    rng = np.random.default_rng(seed)
    week = SESSIONS[400 + 7 * seed : 405 + 7 * seed]
    # One bar in 50 of every symbol, members and references alike, and rows and figures of every table.
    holed = bars.filter(pl.Series(rng.random(bars.height)) > 0.02)
    for symbol in (REFERENCE, VOLATILITY_INDEX):
        holed = holed.filter((pl.col("symbol") != symbol) | (pl.col("session") != week[int(rng.integers(1, 4))]))
    scores = pl.col("positive", "negative", "neutral").fill_nan(1 / 3)
    tables = random_references(list(GIVEN["sectors"]), start=CALENDAR[0], end=CALENDAR[600], seed=seed, has_gaps=True)
    tables["news"] = tables["news"].with_columns(scores)

    whole = _compute(holed, references=tables).filter(pl.col("session").is_in(week))
    in_week = _compute(holed.filter(pl.col("session") <= week[-1]), references=tables, wanted=week)
    alone = [_compute(holed.filter(pl.col("session") <= day), references=tables, wanted=[day]) for day in week]
    by_day = pl.concat(alone).sort("symbol", "ts")
    assert whole.select(KEYS).equals(in_week.select(KEYS)) and whole.select(KEYS).equals(by_day.select(KEYS))
    for name in NAMES:
        assert _bits(whole[name]) == _bits(in_week[name]) == _bits(by_day[name]), name


@pytest.mark.parametrize(("symbol", "item"), [(REFERENCE, "benchmark"), (VOLATILITY_INDEX, "volatility_index")])
def test_every_feature_of_a_reference_series_is_nan_exactly_while_its_window_holds_the_gap(
    bars, features, symbol, item
):
    lost = SESSIONS[300]
    holed = _compute(bars.filter((pl.col("symbol") != symbol) | (pl.col("session") != lost)))
    since = bars.filter(pl.col("role") == "member", pl.col("session") >= lost)
    n_after = since.select(*KEYS, n=pl.int_range(pl.len()).over("symbol"))
    for name in [each for each in NAMES if item in FEATURES[each].inputs]:
        n = holed.select(KEYS).join(n_after, on=KEYS, how="left", maintain_order="left")["n"]
        # S002 has no bar at the session: what it reads of the series lacks nothing.
        holds_gap = (n < FEATURES[name].lookback_bars).fill_null(False) & (holed["symbol"] != "S002")
        assert holds_gap.any() and holed[name].filter(holds_gap).is_nan().all(), name
        rest = ~holds_gap & (holed["symbol"] != "S002")
        assert _bits(holed[name].filter(rest)) == _bits(features[name].filter(rest)), name


def test_impure_features_are_caught_by_leading_bars(bars):
    def running_sum(panel):
        return np.cumsum(panel.volume)

    def too_short_a_lookback(panel):
        return panel.close / np.concatenate([np.full(20, np.nan), panel.close[:-20]])

    planted = [
        Feature("running_sum", "planted", running_sum, 1, ("volume",), "sum since the frame's first row"),
        Feature("short", "planted", too_short_a_lookback, 5, ("close",), "reads 21 bars, declares 5"),
    ]
    base, longer = (feature_frame(_panel(_from(bars, n)), planted) for n in (300, 200))
    for feature in planted:
        assert _bits(base[feature.name]) != _bits(_from(longer, 300)[feature.name])


def test_compute_features_returns_keys_and_float32_columns_in_registry_order(features):
    assert features.columns == [*KEYS, *NAMES]
    assert all(features.schema[name] == pl.Float32 for name in NAMES)
    assert features["symbol"].unique().sort().to_list() == ["S000", "S001", "S002"]


def test_compute_features_orders_named_columns_like_the_registry(bars):
    assert _compute(bars, ["roc_5", "rsi_14"]).columns == [*KEYS, "rsi_14", "roc_5"]


@pytest.mark.parametrize(
    "lacking", [None, "sessions", "planned_holidays", "volatility_index", "sectors", "opens", "references"]
)
def test_compute_features_by_default_gives_what_the_arguments_can_feed(bars, lacking):
    lost = {
        "sessions": {"next_session", "calendar", "planned_holidays"},
        "planned_holidays": {"planned_holidays"},
        "volatility_index": {"volatility_index"},
        "sectors": {"sector"},
        "opens": {"session_open"},
        "references": {"fundamentals", "insider_trades", "short_interest", "news"},
    }.get(lacking, set())
    left = bars if lacking != "volatility_index" else bars.filter(pl.col("symbol") != VOLATILITY_INDEX)
    given = GIVEN if lacking is None else GIVEN | {lacking: None}
    columns = compute_features(left, **given).columns
    assert columns == [*KEYS, *(name for name in NAMES if lost.isdisjoint(FEATURES[name].inputs))]


def test_compute_features_of_members_alone_leaves_out_what_bars_cannot_feed(bars):
    columns = set(compute_features(bars.filter(pl.col("role") == "member")).columns)
    assert {"rsi_14", "rank_return_5", "day_of_week"} <= columns
    assert columns.isdisjoint({"benchmark_beta_60", "is_month_end", "sector_beta_60", "volatility_index_level"})


def test_compute_features_of_no_members_gives_no_rows(bars):
    empty = _compute(bars.filter(pl.col("role") == "reference"))
    assert empty.shape == (0, len(KEYS) + len(NAMES))


def test_compute_features_with_a_gap_counts_bars_not_days():
    days = weekdays(30)
    bars = bars_of("A", [float(n) for n in range(1, 7)], days=[*days[:3], *days[20:23]])
    assert compute_features(bars, ["roc_5"])["roc_5"].to_list()[-1] == 5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"names": ["rsi_15", "roc_5"]}, r"`names` must be among .*was \['rsi_15'\]", id="unknown"),
        pytest.param({"names": ["is_month_end"]}, "`sessions` must be given for .'is_month_end'", id="calendar"),
        pytest.param({"names": ["sector_beta_60"]}, "`sectors` must be given for", id="sectors"),
        pytest.param({"names": ["days_to_holiday"], "sessions": CALENDAR}, "`planned_holidays` must be", id="holidays"),
        pytest.param(
            {"benchmark": REFERENCE, "earliest": {date(2020, 1, 6): date(2020, 1, 6)}},
            "`earliest` must name every",
            id="earliest",
        ),
    ],
)
def test_compute_features_refuses_what_it_cannot_compute(bars, arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_features(bars, **arguments)


def test_feature_of_a_researcher_over_a_table_must_say_how_much_of_it_it_reads():
    unfed = Feature("unfed", "desk", FEATURES["days_since_filing"].compute, 1, ("fundamentals", "session_open"), "days")
    with pytest.raises(
        ValueError, match="`reference_days` must be the days of fundamentals that a value of unfed reads"
    ):
        register([unfed])
    assert "unfed" not in FEATURES


def test_feature_with_a_lookback_beyond_the_projects_reach_is_refused():
    with pytest.raises(ValueError, match="`lookback_bars` must be from 1 to 300, was 301 for wide"):
        Feature("wide", "technical", FEATURES["roc_5"].compute, 301, ("close",), "close")
    with pytest.raises(ValueError, match="`lookback_days` must be from 0 to 420, was 421 for long"):
        Feature("long", "technical", FEATURES["roc_5"].compute, 1, ("close",), "close", lookback_days=421)


def test_group_names_refuses_an_unknown_group():
    with pytest.raises(ValueError, match="cross_asset.*technical.*temporal.*was 'astrology'"):
        group_names("astrology")


def test_compute_features_of_bars_without_role_takes_every_symbol_but_the_named_ones_for_a_member(bars):
    names = ["roc_5", "benchmark_beta_60"]
    members = bars.filter(pl.col("role") == "member")
    assert_frame_equal(compute_features(members.drop("role"), ["roc_5"]), compute_features(members, ["roc_5"]))
    options = {"benchmark": REFERENCE, "volatility_index": VOLATILITY_INDEX}
    assert_frame_equal(compute_features(bars.drop("role"), names, **options), compute_features(bars, names, **options))


def test_names_by_group_leaves_out_what_a_minus_names():
    whole = names_by_group(["temporal", "technical/rsi_14"])
    less = names_by_group(["temporal", "-temporal/month", "technical/rsi_14", "-temporal/quarter"])
    assert less == {
        "temporal": tuple(each for each in whole["temporal"] if each not in ("month", "quarter")),
        "technical": ("rsi_14",),
    }


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        (["temporal", "-temporal/moth"], "`features` must be among .*temporal/month.*, was temporal/moth"),
        (
            ["temporal", "-technical/rsi_14"],
            "must leave out single features of the groups that it names, was -technical/rsi_14",
        ),
        (["temporal", "-temporal"], "must leave out single features .*was -temporal"),
        (
            ["temporal/month", "-temporal/month"],
            "must keep a feature of each group, was none of temporal; leave the group out",
        ),
    ],
    ids=["unknown", "other group", "whole group", "nothing left"],
)
def test_names_by_group_refuses_to_leave_out_what_it_does_not_hold(selected, message):
    with pytest.raises(ValueError, match=message):
        names_by_group(selected)
