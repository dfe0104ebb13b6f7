"""Automated features: every one against tsfresh's own calculator, numbers by hand, ties, gaps and edge cases."""

import importlib
import math
import sys
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from tsfresh.feature_extraction import feature_calculators as tsfresh

from hf_pipelines.research.adjustment import adjust
from hf_pipelines.research.features import FEATURES, Feature, build_panel, compute_features, feature_frame, group_names
from hf_pipelines.research.features.automated import tsfresh_feature
from hf_pipelines.research.features.contract import contract_breaches
from hf_pipelines.research.features.guarded import FeatureFunctionError
from hf_pipelines_tests.research.features.stocknet import stocknet_bars_with_events
from hf_pipelines_tests.sample_bars import bars_of, random_bars

NAMES = list(group_names("automated"))
OF_VOLUME = [name for name in NAMES if name.startswith("ts_volume_")]
OF_RETURNS = [name for name in NAMES if name not in OF_VOLUME]
PRICES = ("open", "high", "low", "close", "dividend")


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std() if x.std() > 0.0 else 0.0 * x


def _combined(calculator: Callable, x: np.ndarray, **params: object) -> float:
    return next(iter(calculator(x, [params])))[1]


def _permutation_entropy(x: np.ndarray) -> float:
    # Equal values in the order of time: a ten-thousandth of a unit a bar.
    return tsfresh.permutation_entropy(x + np.arange(x.size) * 1e-4, 1, 4)


# x: whole units of 1e-12 (returns), of 1e-9 of the mean (volumes).
OF_WINDOW: dict[str, Callable[[np.ndarray], float]] = {
    "cid_ce": lambda x: tsfresh.cid_ce(x, True),
    "c3_lag1": lambda x: tsfresh.c3(_standardised(x), 1),
    "time_reversal_asymmetry_lag1": lambda x: tsfresh.time_reversal_asymmetry_statistic(_standardised(x), 1),
    "time_reversal_asymmetry_lag2": lambda x: tsfresh.time_reversal_asymmetry_statistic(_standardised(x), 2),
    "mean_second_derivative_central": lambda x: tsfresh.mean_second_derivative_central(_standardised(x)),
    "mean_n_absolute_max_3": lambda x: tsfresh.mean_n_absolute_max(_standardised(x), 3),
    "abs_energy": lambda x: tsfresh.abs_energy(x * 1e-12),
    "energy_ratio_by_chunks_10_9": lambda x: _combined(
        tsfresh.energy_ratio_by_chunks, x, num_segments=10, segment_focus=9
    ),
    "index_mass_quantile_0_5": lambda x: _combined(tsfresh.index_mass_quantile, x, q=0.5),
    "autocorrelation_lag1": lambda x: tsfresh.autocorrelation(x, 1),
    "autocorrelation_lag2": lambda x: tsfresh.autocorrelation(x, 2),
    "linear_trend_rvalue": lambda x: _combined(tsfresh.linear_trend, x, attr="rvalue"),
    "ratio_beyond_1_5_sigma": lambda x: tsfresh.ratio_beyond_r_sigma(x, 1.5),
    "ratio_beyond_2_sigma": lambda x: tsfresh.ratio_beyond_r_sigma(x, 2.0),
    "number_peaks_3": lambda x: tsfresh.number_peaks(x, 3),
    "longest_strike_above_mean": tsfresh.longest_strike_above_mean,
    "longest_strike_below_mean": tsfresh.longest_strike_below_mean,
    "count_above_mean": lambda x: tsfresh.count_above_mean(x) / x.size,
    "number_crossing_0": lambda x: tsfresh.number_crossing_m(x, 0),
    "first_location_of_maximum": tsfresh.first_location_of_maximum,
    "first_location_of_minimum": tsfresh.first_location_of_minimum,
    "change_quantiles_0_2_0_8": lambda x: tsfresh.change_quantiles(_standardised(x), 0.2, 0.8, True, "mean"),
    "percentage_of_reoccurring_datapoints": tsfresh.percentage_of_reoccurring_datapoints_to_all_datapoints,
    "binned_entropy_10": lambda x: tsfresh.binned_entropy(x, 10),
    "permutation_entropy_4": _permutation_entropy,
    "approximate_entropy_2_0_2": lambda x: tsfresh.approximate_entropy(x, 2, 0.2),
    "lempel_ziv_complexity_3": lambda x: tsfresh.lempel_ziv_complexity(x, 3),
    "variation_coefficient": tsfresh.variation_coefficient,
}


def _reference(name: str, window: pl.DataFrame) -> float:
    """The value of `name` by tsfresh, from bars adjusted as seen from their last."""
    stem, n = name.removeprefix("ts_").removeprefix("volume_").rsplit("_", 1)
    if name in OF_VOLUME:
        volume = window["volume"].tail(int(n)).to_numpy()
        return OF_WINDOW[stem](np.rint(volume / volume.mean() * 1e9))
    return OF_WINDOW[stem](np.rint(np.diff(np.log(window["close"].tail(int(n) + 1).to_numpy())) * 1e12))


def _ticks(seed: int = 4) -> pl.DataFrame:
    """A price near 1 that moves by whole cents or not at all, and volumes of 1 to 4 lots: ties everywhere."""
    rng = np.random.default_rng(seed)
    close = (1.0 + 0.01 * np.clip(rng.integers(-1, 2, 300).cumsum(), -40, 60)).round(2)
    dividend = np.where(np.arange(300) % 77 == 50, 0.01, 0.0)
    split_ratio = np.where(np.arange(300) == 170, 2.0, 1.0)
    close = np.where(np.arange(300) >= 170, close / 2.0, close)
    volume = rng.integers(1, 5, 300) * 100.0
    given = {"dividend": dividend.tolist(), "split_ratio": split_ratio.tolist(), "volume": volume.tolist()}
    return bars_of("TICK", close.tolist(), **given)


SOURCES: dict[str, Callable[[], pl.DataFrame]] = {
    "random": lambda: random_bars(symbols=2, sessions=420, seed=11, has_reference=False),
    "real": lambda: stocknet_bars_with_events("AAPL", "XOM"),
    "ties": _ticks,
}


@pytest.fixture(scope="module", params=SOURCES)
def adjusted_windows(request) -> list[tuple[dict[str, float], pl.DataFrame]]:
    """Rows of features, each with 61 bars that `bars.adjust` sees from that row."""
    bars = SOURCES[request.param]()
    features = compute_features(bars, NAMES)
    found = []
    for symbol in features["symbol"].unique().sort():
        own = bars.filter(pl.col("symbol") == symbol)
        assert (own["dividend"] > 0).any()
        for ts in own["ts"].gather(range(60, own.height, 3 if own.height < 350 else 13)):
            row = features.row(by_predicate=(pl.col("symbol") == symbol) & (pl.col("ts") == ts), named=True)
            found.append((row, adjust(own, ts).tail(61)))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_automated_agrees_with_tsfresh_on_adjusted_bars(name, adjusted_windows):
    expected = [_reference(name, window) for _, window in adjusted_windows]
    np.testing.assert_allclose([row[name] for row, _ in adjusted_windows], expected, rtol=2e-6, atol=2e-6)
    # Prices of hundreds do not repeat a return to the cent.
    assert len(expected) >= 50 and (len({round(value, 9) for value in expected}) > 1 or "reoccurring" in name)


def _last(name: str, close: list[float], **columns: list[float]) -> float:
    return compute_features(bars_of("A", close, **columns), [name])[name][-1]


def _from_returns(returns: list[float]) -> list[float]:
    return [100.0, *(100.0 * np.exp(np.cumsum(returns))).tolist()]


BY_TURNS = [0.01, -0.01] * 30


@pytest.mark.parametrize(
    ("name", "returns", "expected"),
    [
        # Standardised +-1 by turns: 59 changes of 2.
        pytest.param("ts_cid_ce_60", BY_TURNS, math.sqrt(59 * 4), id="cid_ce"),
        pytest.param("ts_cid_ce_20", BY_TURNS, math.sqrt(19 * 4), id="cid_ce of 20"),
        # +1 -1 +1 and -1 +1 -1, 29 times each.
        pytest.param("ts_c3_lag1_60", BY_TURNS, 0.0, id="c3"),
        # Mean 0.01, deviation 0.01 sqrt(59): one of 59 / sqrt(59), the others of -1 / sqrt(59).
        pytest.param("ts_mean_n_absolute_max_3_60", [0.0] * 30 + [0.6] + [0.0] * 29, 61 / 3 / 59**0.5, id="maxima"),
        pytest.param("ts_abs_energy_60", BY_TURNS, 60 * 1e-4, id="energy"),
        pytest.param("ts_energy_ratio_by_chunks_10_9_60", [0.01] * 54 + [0.02] * 6, 24 / 78, id="energy of a tenth"),
        pytest.param("ts_index_mass_quantile_0_5_60", [0.01] * 20 + [-0.04] * 10 + [0.0] * 30, 23 / 60, id="mass"),
        pytest.param("ts_autocorrelation_lag2_60", BY_TURNS, 1.0, id="autocorrelation"),
        pytest.param("ts_linear_trend_rvalue_60", [0.001 * n for n in range(60)], 1.0, id="trend"),
        pytest.param("ts_linear_trend_rvalue_20", [0.0] * 40 + [-0.001 * n for n in range(20)], -1.0, id="trend of 20"),
        pytest.param("ts_ratio_beyond_2_sigma_60", [0.0] * 59 + [0.6], 1 / 60, id="beyond"),
        # Four zeros and one: the last peak lacks its three bars after.
        pytest.param("ts_number_peaks_3_60", [0.0, 0.0, 0.0, 0.0, 0.01] * 12, 11.0, id="peaks"),
        pytest.param("ts_longest_strike_above_mean_60", [0.01] * 7 + [-0.01] * 53, 7.0, id="strike above"),
        pytest.param("ts_longest_strike_below_mean_60", [0.01] * 7 + [-0.01] * 53, 53.0, id="strike below"),
        pytest.param("ts_count_above_mean_60", [0.01] * 7 + [-0.01] * 53, 7 / 60, id="above the mean"),
        # 0 is not above 0: -1 0 1 0 1 crosses three times.
        pytest.param("ts_number_crossing_0_60", [-0.01] * 56 + [0.0, 0.01, 0.0, 0.01], 3.0, id="crossings"),
        pytest.param("ts_first_location_of_maximum_60", [0.0] * 12 + [0.02] * 3 + [0.0] * 45, 0.2, id="first maximum"),
        pytest.param("ts_first_location_of_minimum_60", BY_TURNS, 1 / 60, id="first minimum"),
        # Two pairs and a triple among sixty.
        pytest.param(
            "ts_percentage_of_reoccurring_datapoints_60",
            [0.001 * n for n in range(53)] + [0.001, 0.002, 0.003, 0.003] + [0.06, 0.061, 0.062],
            7 / 60,
            id="reoccurring",
        ),
        pytest.param("ts_binned_entropy_10_60", BY_TURNS, math.log(2), id="two of ten bins"),
        # Orders of four by turns: 29 begin with a high, 28 with a low.
        pytest.param(
            "ts_permutation_entropy_4_60",
            [value + 1e-6 * n for n, value in enumerate(BY_TURNS)],
            -29 / 57 * math.log(29 / 57) - 28 / 57 * math.log(28 / 57),
            id="two orders",
        ),
        # One symbol all over: words of 1, 2, ... 10 tell 55, the last five are a known one.
        pytest.param("ts_lempel_ziv_complexity_3_60", [0.01] * 60, 10 / 60, id="one symbol"),
    ],
)
def test_automated_hand_computed(name, returns, expected):
    assert _last(name, _from_returns(returns)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "volume", "expected"),
    [
        # Mean 2, deviation 1.
        pytest.param("ts_volume_variation_coefficient_60", [1.0, 3.0] * 30, 0.5, id="variation"),
        pytest.param("ts_volume_autocorrelation_lag1_60", [1.0, 3.0] * 30, -1.0, id="autocorrelation"),
        pytest.param("ts_volume_linear_trend_rvalue_60", [float(n) for n in range(60)], 1.0, id="trend"),
        pytest.param("ts_volume_first_location_of_maximum_60", [1.0] * 45 + [7.0] * 15, 0.75, id="first maximum"),
        pytest.param("ts_volume_longest_strike_below_mean_60", [1.0] * 45 + [7.0] * 15, 45.0, id="strike"),
        pytest.param("ts_volume_ratio_beyond_2_sigma_60", [0.0] * 59 + [5.0], 1 / 60, id="beyond"),
    ],
)
def test_automated_volume_hand_computed(name, volume, expected):
    assert _last(name, [100.0] * 60, volume=volume) == pytest.approx(expected, rel=1e-6)


CONSTANT = dict.fromkeys(NAMES, 0.0) | {
    "ts_energy_ratio_by_chunks_10_9_60": 0.1,
    "ts_index_mass_quantile_0_5_60": 0.5,
    "ts_percentage_of_reoccurring_datapoints_60": 1.0,
    "ts_lempel_ziv_complexity_3_60": 10 / 60,
}


@pytest.mark.parametrize(
    "close",
    [
        pytest.param([88.99] * 80, id="constant"),
        pytest.param([100.0 * 1.01**bar for bar in range(80)], id="grows by the same share"),
    ],
)
def test_automated_with_constant_windows_gives_the_stated_value(close):
    last = compute_features(bars_of("A", close), NAMES).row(-1, named=True)
    grows = {"ts_abs_energy_60": 60 * math.log(close[1] / close[0]) ** 2}
    assert {name: last[name] for name in NAMES} == pytest.approx(CONSTANT | grows, rel=1e-6, abs=1e-7)


def test_automated_with_a_price_that_falls_by_just_its_dividends_is_constant():
    close, dividend = [60.01] * 80, [0.0] * 80
    for bar in range(10, 80, 20):
        dividend[bar] = 0.13
        close[bar:] = [round(close[bar] - 0.13, 2)] * (80 - bar)
    last = compute_features(bars_of("A", close, dividend=dividend), NAMES).row(-1, named=True)
    assert {name: last[name] for name in NAMES} == pytest.approx(CONSTANT, abs=1e-7)


@pytest.mark.parametrize(("columns", "factor"), [(PRICES, 0.37), (PRICES, 1e-8), (PRICES, 1e8), (("volume",), 13.7)])
def test_automated_of_ties_keeps_every_count_in_another_unit(columns, factor):
    # Equal returns of unequal rounding: without whole units nine features would move, one in up to 45 % of the rows.
    bars = pl.concat([_ticks(seed).with_columns(symbol=pl.lit(f"T{seed:02d}")) for seed in range(12)])
    usual = compute_features(bars, NAMES)
    scaled = compute_features(bars.with_columns(pl.col(columns) * factor), NAMES)
    for name in NAMES:
        np.testing.assert_allclose(scaled[name], usual[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_automated_of_a_symbol_with_one_bar_is_nan():
    assert np.isnan(compute_features(bars_of("A", [100.0]), NAMES).select(NAMES).to_numpy()).all()


def test_automated_without_any_volume_is_nan_only_for_volume_features():
    bars = random_bars(symbols=1, sessions=80, seed=2, has_reference=False).with_columns(volume=pl.lit(0.0))
    last = compute_features(bars, NAMES).row(-1, named=True)
    assert [name for name in NAMES if math.isnan(last[name])] == OF_VOLUME


def test_automated_with_a_halt_is_nan_while_the_bar_without_a_price_is_in_the_window():
    bars = random_bars(symbols=1, sessions=200, seed=2, has_events=False, has_reference=False)
    is_halt = pl.int_range(pl.len()) == 80
    halted = bars.with_columns(pl.when(is_halt).then(math.nan).otherwise(pl.col("close", "volume")).name.keep())
    usual, found = compute_features(bars, NAMES), compute_features(halted, NAMES)
    for name in NAMES:
        touched = np.arange(200) - 80
        is_touched = (touched >= 0) & (touched < FEATURES[name].lookback_bars)
        expected = np.where(is_touched, np.nan, usual[name].to_numpy())
        np.testing.assert_array_equal(found[name].to_numpy(), expected, err_msg=name)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return random_bars(symbols=3, sessions=110, seed=12, late_bars=7, has_reference=False)


def _of(feature: Feature, bars: pl.DataFrame, **given: object) -> pl.Series:
    return feature_frame(build_panel(bars, None, **given), [feature])[feature.name]


@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(tsfresh_feature("ts_fft_abs_3_30", "fft_coefficient", 30, coeff=3, attr="abs"), id="combiner"),
        pytest.param(tsfresh_feature("ts_fourier_entropy_30", "fourier_entropy", 30, bins=5), id="simple"),
    ],
)
def test_tsfresh_feature_of_a_calculator_not_in_the_set_keeps_the_contract(feature, bars):
    assert contract_breaches(feature, bars) == []


def test_tsfresh_feature_gives_what_tsfresh_gives_for_each_window(bars):
    feature = tsfresh_feature("ts_fft_abs_3_30", "fft_coefficient", 30, coeff=3, attr="abs")
    values = _of(feature, bars)
    own = bars.filter(pl.col("symbol") == "S000")
    for at in range(30, own.height, 7):
        x = np.diff(np.log(adjust(own, own["ts"][at]).tail(31)["close"].to_numpy()))
        expected = next(iter(tsfresh.fft_coefficient(x, [{"coeff": 3, "attr": "abs"}])))[1]
        assert values[at] == pytest.approx(expected, rel=1e-5)
    assert values.is_nan().sum() == 3 * 30


def test_tsfresh_feature_of_a_calculator_in_the_set_agrees_with_the_kernel(bars):
    ours = compute_features(bars, ["ts_lempel_ziv_complexity_3_60"])["ts_lempel_ziv_complexity_3_60"]
    theirs = _of(tsfresh_feature("lz", "lempel_ziv_complexity", 60, bins=3), bars)
    np.testing.assert_array_equal(ours, theirs)


def test_tsfresh_feature_calls_tsfresh_for_wanted_rows_alone(bars, monkeypatch):
    module, seen = importlib.import_module("tsfresh.feature_extraction.feature_calculators"), []
    whole = module.fourier_entropy

    def counted(x, bins):
        seen.append(x)
        return whole(x, bins)

    counted.fctype = "simple"  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "fourier_entropy", counted)
    days = bars["session"].unique().sort()[-2:].to_list()
    _of(tsfresh_feature("e", "fourier_entropy", 30, bins=5), bars, wanted=days)
    assert len(seen) == 6 and all(x.base is not None and not x.flags.writeable for x in seen)


def test_tsfresh_feature_where_tsfresh_gives_infinity_is_nan():
    # Two pairs of returns are alike, and no three: sample entropy is minus the logarithm of 0.
    returns = [0.0, 0.03, 0.08, 0.0, 0.03, -0.08, 0.14, -0.14, 0.06, -0.05]
    with np.errstate(divide="ignore"):
        assert tsfresh.sample_entropy(np.array(returns)) == math.inf
        assert math.isnan(_of(tsfresh_feature("e", "sample_entropy", 10), bars_of("A", _from_returns(returns)))[-1])


@pytest.mark.parametrize(
    ("calculator", "near"),
    [
        pytest.param("fft_coeff", "such as fft_aggregated, fft_coefficient, was 'fft_coeff'", id="unknown"),
        pytest.param("linear_trend_timewise", "needs no time index", id="needs a time index"),
        pytest.param("np", "was 'np'", id="not a calculator"),
    ],
)
def test_tsfresh_feature_of_no_such_calculator_names_those_near(calculator, near, bars):
    with pytest.raises(ValueError, match=f"`calculator` must be one of tsfresh's .*{near}"):
        _of(tsfresh_feature("x", calculator, 30), bars)


def test_tsfresh_feature_of_one_return_is_refused():
    with pytest.raises(ValueError, match="`window` must be at least 2, was 1 for x"):
        tsfresh_feature("x", "mean", 1)


def test_tsfresh_feature_without_tsfresh_says_what_to_install(bars, monkeypatch):
    for name in [each for each in sys.modules if each.split(".")[0] == "tsfresh"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FeatureFunctionError, match=r"`tsfresh` must be installed .*install hf_pipelines\[tsfresh\]"):
        _of(tsfresh_feature("x", "mean", 30), bars)
    assert np.isfinite(compute_features(bars, NAMES)["ts_cid_ce_60"][-1]), "the group itself needs no tsfresh"
