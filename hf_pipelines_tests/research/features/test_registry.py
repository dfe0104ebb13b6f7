"""One contract over every registered feature, and the public call."""

from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.features import (
    FEATURES,
    Feature,
    build_panel,
    compute_features,
    feature_frame,
    group_names,
)
from hf_pipelines.research.features.feature import MAX_LOOKBACK_BARS
from hf_pipelines_tests.sample_bars import REFERENCE, bars_of, random_bars, weekdays

NAMES = list(FEATURES)
KEYS = ["symbol", "session", "ts"]
SESSIONS = weekdays(801)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return random_bars(symbols=2, sessions=480, seed=21)


@pytest.fixture(scope="module")
def features(bars: pl.DataFrame) -> pl.DataFrame:
    return compute_features(bars, NAMES, sessions=SESSIONS)


def _bits(column: pl.Series) -> list[int]:
    """Bits of float32 values, all NaN alike."""
    values = column.to_numpy()
    return np.where(np.isnan(values), 0x7FC00000, values.view(np.uint32)).tolist()


def _from(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.filter(pl.col("session") >= SESSIONS[first])


@pytest.fixture(scope="module")
def short(bars: pl.DataFrame) -> pl.DataFrame:
    """Features of the last 180 sessions, computed from nothing before them."""
    return compute_features(_from(bars, 300), NAMES, sessions=SESSIONS)


@pytest.mark.parametrize("extra", [0, 1, 7, 300])
def test_every_feature_with_extra_leading_bars_keeps_its_bits(bars, short, extra):
    longer = _from(compute_features(_from(bars, 300 - extra), NAMES, sessions=SESSIONS), 300)
    for name in NAMES:
        known = short[name].is_not_nan()
        assert known.sum() == 2 * (180 - FEATURES[name].lookback_bars + 1), name
        assert _bits(longer[name].filter(known)) == _bits(short[name].filter(known)), name


@pytest.mark.parametrize("extra", [1, 7, 300])
def test_every_feature_with_earliest_comes_out_as_if_nothing_was_loaded_before(bars, short, extra):
    earliest = {day: SESSIONS[300] for day in SESSIONS}
    longer = compute_features(_from(bars, 300 - extra), NAMES, sessions=SESSIONS, earliest=earliest)
    for name in NAMES:
        assert _bits(_from(longer, 300)[name]) == _bits(short[name]), name


def test_every_feature_over_a_range_with_earliest_equals_each_week_alone(bars):
    weeks = [weekdays(5, start=SESSIONS[first]) for first in range(200, 300, 5)]
    reach = {day: SESSIONS[SESSIONS.index(week[0]) - 125] for week in weeks for day in week}
    earliest = {day: reach.get(day, day) for day in SESSIONS}
    whole = compute_features(bars, NAMES, sessions=SESSIONS, earliest=earliest)
    for week in weeks:
        loaded = bars.filter(pl.col("session").is_between(reach[week[0]], week[-1]))
        alone = compute_features(loaded, NAMES, sessions=SESSIONS).filter(pl.col("session").is_in(week))
        together = whole.filter(pl.col("session").is_in(week))
        assert alone.select(KEYS).equals(together.select(KEYS))
        assert all(_bits(alone[name]) == _bits(together[name]) for name in NAMES)


def test_every_feature_of_wanted_sessions_has_the_bits_of_all_sessions(bars, features):
    week = SESSIONS[300:305]
    wanted = compute_features(bars, NAMES, sessions=SESSIONS, wanted=week)
    same = features.filter(pl.col("session").is_in(week))
    assert wanted.height == 10
    assert wanted.select(KEYS).equals(same.select(KEYS))
    assert all(_bits(wanted[name]) == _bits(same[name]) for name in NAMES)


@pytest.mark.parametrize("name", ["rsi_14", "benchmark_beta_60"])
def test_window_features_compute_nothing_for_sessions_that_are_not_wanted(bars, name):
    panel = build_panel(bars, SESSIONS, wanted=SESSIONS[300:305])
    values = FEATURES[name].compute(panel)
    assert np.isfinite(values).sum() == 10
    assert np.isnan(values[~panel.is_wanted]).all()


@pytest.mark.parametrize("at", np.random.default_rng(4).integers(5, 479, 6).tolist())
def test_every_feature_with_the_future_cut_off_keeps_its_bits(bars, features, at):
    past = compute_features(bars.filter(pl.col("session") <= SESSIONS[at]), NAMES, sessions=SESSIONS)
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
    changed = compute_features(scaled, NAMES, sessions=SESSIONS)
    for name in NAMES:
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
UNDEFINED = {"obv_slope_20", "volume_ratio_20", "benchmark_correlation_60", "benchmark_beta_60"}


@pytest.mark.parametrize("damage", NASTY.values(), ids=NASTY.keys())
def test_every_feature_is_never_infinite_and_nan_only_where_stated(bars, damage):
    features = compute_features(damage(bars), NAMES, sessions=SESSIONS)
    history = pl.int_range(pl.len()).over("symbol") + 1
    for name in NAMES:
        values = features.filter(history >= FEATURES[name].lookback_bars)[name]
        assert not values.is_infinite().any(), name
        assert name in UNDEFINED or not values.is_nan().any(), name


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_every_feature_is_described(feature):
    assert feature.formula and feature.inputs and feature.compute.__doc__
    assert 1 <= feature.lookback_bars <= MAX_LOOKBACK_BARS
    assert FEATURES[feature.name] is feature


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_every_feature_returns_float64_of_the_panel_with_nan_before_its_lookback(feature, bars):
    panel = build_panel(bars, SESSIONS)
    values = feature.compute(panel)
    assert values.dtype == np.float64 and values.shape == panel.close.shape
    for first in panel.starts[:-1]:
        assert np.isnan(values[first : first + feature.lookback_bars - 1]).all()


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_every_feature_reads_only_its_declared_inputs(feature, bars):
    rng = np.random.default_rng(0)
    columns = {"open", "high", "low", "close", "volume"} - set(feature.inputs)
    # Other numbers in the columns it does not name; events are part of what a price means.
    disturbed = bars.with_columns(
        pl.col(name) * pl.Series(rng.uniform(0.5, 2.0, bars.height)) for name in columns if name != "close"
    )
    ours, theirs = (compute_features(each, [feature.name], sessions=SESSIONS) for each in (bars, disturbed))
    assert _bits(ours[feature.name]) == _bits(theirs[feature.name])


def test_impure_features_are_caught_by_leading_bars(bars):
    def running_sum(panel):
        return np.cumsum(panel.volume)

    def too_short_a_lookback(panel):
        return panel.close / np.concatenate([np.full(20, np.nan), panel.close[:-20]])

    planted = [
        Feature("running_sum", "planted", running_sum, 1, ("volume",), "sum since the frame's first row"),
        Feature("short", "planted", too_short_a_lookback, 5, ("close",), "reads 21 bars, declares 5"),
    ]
    base, longer = (feature_frame(build_panel(_from(bars, n), None), planted) for n in (300, 200))
    for feature in planted:
        assert _bits(base[feature.name]) != _bits(_from(longer, 300)[feature.name])


def test_compute_features_returns_keys_and_float32_columns_in_registry_order(features):
    assert features.columns == [*KEYS, *NAMES]
    assert all(features.schema[name] == pl.Float32 for name in NAMES)
    assert features["symbol"].unique().sort().to_list() == ["S000", "S001"]


def test_compute_features_orders_named_columns_like_the_registry(bars):
    assert compute_features(bars, ["roc_5", "rsi_14"]).columns == [*KEYS, "rsi_14", "roc_5"]


def test_compute_features_by_default_gives_what_the_arguments_can_feed(bars):
    members = bars.filter(pl.col("role") == "member")
    temporal = [name for name in group_names("temporal") if name != "is_month_end"]
    assert compute_features(members).columns == [*KEYS, *group_names("technical"), *temporal]
    assert set(NAMES) - set(compute_features(bars).columns) == {"is_month_end"}
    assert compute_features(bars, sessions=SESSIONS).columns == [*KEYS, *NAMES]


def test_compute_features_of_no_members_gives_no_rows(bars):
    empty = compute_features(bars.filter(pl.col("role") == "reference"), NAMES, sessions=SESSIONS)
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
        pytest.param({"earliest": {date(2020, 1, 6): date(2020, 1, 6)}}, "`earliest` must name every", id="earliest"),
    ],
)
def test_compute_features_refuses_what_it_cannot_compute(bars, arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_features(bars, **arguments)


def test_feature_with_a_lookback_beyond_the_projects_reach_is_refused():
    with pytest.raises(ValueError, match="`lookback_bars` must be from 1 to 300, was 301 for wide"):
        Feature("wide", "technical", FEATURES["roc_5"].compute, 301, ("close",), "close")


def test_group_names_refuses_an_unknown_group():
    with pytest.raises(ValueError, match="cross_asset.*technical.*temporal.*was 'fundamental'"):
        group_names("fundamental")
