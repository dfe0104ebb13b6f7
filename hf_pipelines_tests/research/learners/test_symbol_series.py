"""Learners of one series a symbol: against their libraries, with planted behaviour, and with what cannot be fitted."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from arch import arch_model
from statsmodels.tsa.statespace.initialization import Initialization
from statsmodels.tsa.statespace.sarimax import SARIMAX
from statsmodels.tsa.statespace.structural import UnobservedComponents

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import (
    LEARNERS,
    LearnerChoice,
    Pipeline,
    Rows,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
)
from hf_pipelines.research.learners.garch import egarch_variances
from hf_pipelines.research.learners.symbol_series import CONSTANT, TOO_SHORT, UNSTABLE, SymbolModels
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

NAMES = sorted(name for name, entry in LEARNERS.items() if "minimum_bars" in entry.params)
# What makes a fit quick.
QUICK: dict[str, dict[str, Any]] = {"arima": {"order": [1, 0]}, "kalman": {"model": "local_level", "ar_lags": 0}}
N_BARS, HISTORY = 260, 40


def clustered(n: int, *, seed: int) -> np.ndarray:
    """Returns of a GARCH(1, 1) in which shocks lie lastingly."""
    rng, variance = np.random.default_rng(seed), 1.0
    found = np.zeros(n)
    for at in range(n):
        found[at] = 0.01 * np.sqrt(variance) * rng.normal()
        variance = 0.03 + 0.12 * (found[at] / 0.01) ** 2 + 0.85 * variance
    return found


def autoregression(n: int, *, share: float, seed: int, shocks: np.ndarray | None = None) -> np.ndarray:
    shocks = np.random.default_rng(seed).normal(0.0, 0.01, n) if shocks is None else shocks
    found = np.zeros(n)
    for at in range(n):
        found[at] = share * found[at - 1] + shocks[at]
    return found


def rows_of(series: dict[str, np.ndarray]) -> TrainingRows:
    """Rows of symbols with a value each day, from their first known value on; the label says nothing."""
    n = max(map(len, series.values()))
    bars = plain_bars({symbol: [1.0] * n for symbol in series})
    value = np.concatenate([np.concatenate([np.full(n - len(each), np.nan), each]) for each in series.values()])
    listed = np.concatenate([np.arange(n) >= n - len(each) for each in series.values()])
    held = bars.with_columns(return_1=pl.Series(value), label_start="ts", label_end="ts").filter(pl.Series(listed))
    held = held.sort("ts", "symbol")
    X = held.select(pl.col("return_1").cast(pl.Float32)).to_numpy()
    other = np.random.default_rng(5).normal(size=(len(X), 1)).astype(np.float32)
    y = np.random.default_rng(6).normal(size=len(X))
    keys = keyed(held, "label_start", "label_end")
    return TrainingRows(keys, np.hstack([other, X]), ("other", "return_1"), y=y, weight=np.ones(len(X)))


def sample(n: int = N_BARS) -> TrainingRows:
    """Autoregressions whose shocks come in clusters: every learner can be fitted to each."""
    shocks = [clustered(n, seed=number) for number in range(3)]
    return rows_of({f"S{k}": autoregression(n, share=0.3 * k, seed=0, shocks=each) for k, each in enumerate(shocks)})


def chosen(name: str, **params: Any) -> LearnerChoice:
    given = {"history_bars": HISTORY, "minimum_bars": 60, "horizon_bars": 3, **QUICK.get(name, {}), **params}
    return choose_learner(name, given)


def fitted(choice: LearnerChoice, rows: TrainingRows, **setup: Any) -> Pipeline:
    return build_pipeline(choice, Setup("regression", **setup)).fit(rows)


def of_symbol(rows: TrainingRows, symbol: str) -> np.ndarray:
    return (rows.keys["symbol"] == symbol).to_numpy()


def series_of(rows: TrainingRows, symbol: str) -> np.ndarray:
    return rows.X[of_symbol(rows, symbol), 1].astype(np.float64)


each_name = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize(
    "params", [{"order": [1, 0]}, {"order": [2, 1]}, {"order": [1, 1], "seasonal_order": [1, 1], "season_bars": 5}]
)
def test_a_forecast_of_arima_is_that_of_statsmodels_over_the_same_window(params):
    rows = sample()
    X = rows.X.copy()
    X[(rows.keys["bar"] == 210).to_numpy(), 1] = np.nan
    rows = replace(rows, X=X)
    pipeline = fitted(chosen("arima", **params), rows)
    found = pipeline.predict(rows).point
    for symbol, at in (("S1", 150), ("S2", 230)):
        state = pipeline.estimator.states_[symbol]
        window = series_of(rows, symbol)[at - HISTORY : at + 1] / state["scale"] - state["mean"]
        season = (*params.get("seasonal_order", (0, 0)),)
        model = SARIMAX(
            window,
            order=(params["order"][0], 0, params["order"][1]),
            seasonal_order=(season[0], 0, season[1], params.get("season_bars", 0)),
        )
        names = ("ar", "ma", "seasonal_ar", "seasonal_ma")
        known = model.filter([*(each for name in names for each in state[name]), state["variance"]])
        expected = state["scale"] * (known.forecast(3).sum() + 3 * state["mean"])
        assert found[of_symbol(rows, symbol)][at] == pytest.approx(expected, abs=1e-10)
    # Estimated by statsmodels on the training values, which are all of them here.
    state = pipeline.estimator.states_["S2"]
    series = series_of(rows, "S2") / state["scale"]
    season = params.get("seasonal_order", [0, 0])
    direct = SARIMAX(
        series - np.nanmean(series),
        order=(params["order"][0], 0, params["order"][1]),
        seasonal_order=(season[0], 0, season[1], params.get("season_bars", 0)),
    ).fit(disp=0, maxiter=200)
    names = ("ar", "ma", "seasonal_ar", "seasonal_ma")
    np.testing.assert_allclose(
        [*(each for name in names for each in state[name]), state["variance"]], direct.params, rtol=1e-8
    )


@pytest.mark.parametrize(
    ("model", "lags"), [("local_level", 0), ("local_level", 1), ("local_linear_trend", 0), ("local_linear_trend", 2)]
)
def test_a_forecast_of_kalman_is_that_of_statsmodels_over_the_price_of_the_window(model, lags):
    rows = sample()
    pipeline = fitted(chosen("kalman", model=model, ar_lags=lags), rows)
    found = pipeline.predict(rows).point
    has_slope = model == "local_linear_trend"
    for symbol, at in (("S0", 100), ("S2", 259)):
        state = pipeline.estimator.states_[symbol]
        window = series_of(rows, symbol)[at - HISTORY : at + 1] / state["scale"]
        price = np.concatenate([[0.0], np.cumsum(window)])
        known = UnobservedComponents(price, level="lltrend" if has_slope else "llevel", autoregressive=lags or None)
        variances = [state["noise"], state["level"], *state["slope"][:1]]
        given = [*variances, *([state["ar_shocks"], *state["ar"]] if lags else [])]
        start = Initialization(known.k_states)
        start.set(0, "diffuse")
        if has_slope:
            start.set(1, "known", constant=[state["drift"]], stationary_cov=[[state["slope"][1]]])
        if lags:
            start.set((known.k_states - lags, known.k_states), "stationary")
        known.update(np.array(given))
        known.ssm.initialize(start)
        expected = state["scale"] * (known.filter(given).forecast(3)[-1] - price[-1])
        assert found[of_symbol(rows, symbol)][at] == pytest.approx(expected, abs=1e-10)
    direct = UnobservedComponents(
        np.concatenate([[0.0], np.cumsum(series_of(rows, "S2") / state["scale"])]),
        level="lltrend" if has_slope else "llevel",
        autoregressive=lags or None,
    ).fit(disp=0, maxiter=500)
    np.testing.assert_allclose(given, direct.params, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["garch", "gjr_garch", "egarch"])
def test_a_forecast_of_volatility_is_that_of_arch_over_the_same_window(name):
    rows = sample()
    pipeline = fitted(chosen(name, horizon_bars=1 if name == "egarch" else 4), rows)
    found = pipeline.predict(rows).point
    kind = {"vol": "EGARCH" if name == "egarch" else "GARCH", "p": 1, "o": int(name != "garch"), "q": 1}
    bounds = np.tile([1e-9, 1e9], (HISTORY + 2, 1))
    for symbol, at in (("S0", 100), ("S2", 259)):
        state = pipeline.estimator.states_[symbol]
        volatility = arch_model(series_of(rows, symbol), rescale=False, **kind).volatility
        names = ["omega", "alpha", *(["gamma"] if kind["o"] else []), "beta"]
        given = np.array([state[each] for each in names])
        window = series_of(rows, symbol)[at - HISTORY : at + 1] / state["scale"] - state["mean"]
        backcast = np.log(state["variance"]) if name == "egarch" else state["variance"]
        ahead = volatility.forecast(
            given, window, backcast, bounds, start=HISTORY, horizon=1 if name == "egarch" else 4
        )
        expected = state["scale"] * np.sqrt(ahead.forecasts.mean() + state["mean"] ** 2)
        assert found[of_symbol(rows, symbol)][at] == pytest.approx(expected, rel=1e-8)
    series = series_of(rows, "S2") / state["scale"]
    direct = arch_model(series, rescale=False, **kind).fit(disp="off", options={"maxiter": 500})
    np.testing.assert_allclose([state["mean"], *given], direct.params, rtol=1e-8, atol=1e-12)


def test_the_variance_that_egarch_expects_is_the_mean_of_simulated_ones():
    state = {"mean": 0.0, "omega": 0.01, "alpha": 0.3, "gamma": -0.2, "beta": 0.9, "variance": 1.0}
    window = np.array([[0.4, -1.5, 0.2]])
    found = egarch_variances(state, window, 4)[0]
    rng = np.random.default_rng(1)
    log = np.full(400_000, np.log(found[0]))
    for bar in range(1, 4):
        shock = rng.normal(size=len(log))
        news = state["alpha"] * (np.abs(shock) - np.sqrt(2 / np.pi)) + state["gamma"] * shock
        log = state["omega"] + news + state["beta"] * log
        assert np.exp(log).mean() == pytest.approx(found[bar], rel=0.005)


def test_a_planted_autoregression_is_found_and_none_in_noise():
    planted = {f"A{number}": autoregression(400, share=0.5, seed=number) for number in range(3)}
    noise = {f"N{number}": autoregression(400, share=0.0, seed=50 + number) for number in range(6)}
    rows = rows_of({**planted, **noise})
    train = rows.take((rows.keys["bar"] < 300).to_numpy())
    pipeline = fitted(chosen("arima", order=None, horizon_bars=1), train)
    found = pipeline.predict(rows, (rows.keys["bar"] >= 300).to_numpy()).point.reshape(100, 9)
    skill = []
    for number, symbol in enumerate(planted):
        state = pipeline.estimator.states_[symbol]
        assert len(state["ar"]) + len(state["ma"]) > 0
        skill.append(np.corrcoef(found[:-1, number], series_of(rows, symbol)[301:])[0, 1])
    # An AR(1) of 0.5 forecasts half of the last value: the correlation with the next one is 0.5, known here to 0.06.
    assert np.mean(skill) > 0.35
    # The criterion sees something in a few percent of series of noise.
    states = [pipeline.estimator.states_[symbol] for symbol in noise]
    assert sum(each["ar"] == each["ma"] == [] for each in states) >= 5


def test_planted_noise_around_the_price_comes_back_and_a_planted_slope_goes_on():
    rng = np.random.default_rng(8)
    around, slope = np.diff(rng.normal(0.0, 0.01, 601)), np.cumsum(rng.normal(0.0, 0.0008, 600))
    rows = rows_of({"NOISE": around + rng.normal(0.0, 0.01, 600), "SLOPE": slope + rng.normal(0.0, 0.01, 600)})
    is_train = (rows.keys["bar"] < 300).to_numpy()
    for model, symbol in (("local_level", "NOISE"), ("local_linear_trend", "SLOPE")):
        pipeline = fitted(chosen("kalman", model=model, ar_lags=0, horizon_bars=1), rows.take(is_train))
        found = pipeline.predict(rows).point[of_symbol(rows, symbol)]
        # By the variances that were planted the correlation is about 0.4.
        assert np.corrcoef(found[300:-1], series_of(rows, symbol)[301:])[0, 1] > 0.25


@pytest.mark.parametrize("name", ["garch", "gjr_garch", "egarch"])
def test_planted_clusters_of_volatility_are_found_and_none_in_noise(name):
    noise = 0.01 * np.random.default_rng(9).normal(size=(3, 1_500))
    rows = rows_of({"A": clustered(1_500, seed=1), "B": clustered(1_500, seed=2), "N": noise[0], "O": noise[2]})
    train = rows.take((rows.keys["bar"] < 1_000).to_numpy())
    pipeline = fitted(chosen(name, horizon_bars=5, history_bars=120), train)
    wanted = (rows.keys["bar"] >= 1_000).to_numpy()
    found = pipeline.predict(rows, wanted).point.reshape(500, 4)
    for number, symbol in enumerate("ABNO"):
        square = series_of(rows, symbol)[1_000:] ** 2
        realised = np.sqrt(np.lib.stride_tricks.sliding_window_view(square[1:], 5).mean(axis=1))
        told = found[: len(realised), number]
        skill = np.corrcoef(told, realised)[0, 1]
        # Nearly a constant where nothing is to be found.
        if symbol in "AB":
            assert skill > 0.3 and told.std() > 0.15 * told.mean(), (symbol, skill)
        else:
            assert told.std() < 0.06 * told.mean() and told.mean() == pytest.approx(0.01, rel=0.1), (symbol, skill)


def test_an_egarch_whose_filter_runs_away_from_the_path_that_it_was_fitted_to_is_counted():
    noise = 0.01 * np.random.default_rng(9).normal(size=(3, 1_500))
    rows = rows_of({"N": noise[0], "O": noise[1]})
    train = rows.take((rows.keys["bar"] < 1_000).to_numpy())
    pipeline = fitted(chosen("egarch", history_bars=120), train)
    assert pipeline.estimator.unfitted_ == {"O": UNSTABLE}
    # The estimate itself has converged, to shocks that lower the variance.
    series = series_of(train, "O") / series_of(train, "O").std()
    direct = arch_model(series, vol="EGARCH", p=1, o=1, q=1, rescale=False).fit(disp="off")
    assert direct.convergence_flag == 0 and direct.params["alpha[1]"] < 0 and direct.params["beta[1]"] > 0.9


@each_name
def test_later_values_change_no_bit_of_a_prediction_and_neither_do_rows_before_its_window(name):
    rows = sample()
    bar = rows.keys["bar"].to_numpy()
    pipeline = fitted(chosen(name), rows.take(bar < 180))
    whole = pipeline.predict(rows).point
    for at in (183, 200, 259):
        is_shown = (bar >= at - HISTORY) & (bar <= at)
        shown = rows.take(is_shown)
        alone = pipeline.predict(shown, (bar == at)[is_shown]).point
        np.testing.assert_array_equal(alone, whole[bar == at])
    # The future is another one.
    X = rows.X.copy()
    X[bar > 200] = 0.5
    other = pipeline.predict(replace(rows, X=X)).point
    np.testing.assert_array_equal(other[bar <= 200], whole[bar <= 200])
    assert not np.array_equal(other[bar > 200], whole[bar > 200])


@each_name
def test_what_is_after_the_training_rows_changes_no_parameter(name):
    rows = sample()
    bar = rows.keys["bar"].to_numpy()
    choice = chosen(name)
    saved = fitted(choice, rows.take(bar < 180)).save()
    X = rows.X.copy()
    X[bar >= 180] = 9.0
    pipeline = fitted(choice, replace(rows, X=X).take(bar < 180))
    assert pipeline.save() == saved
    # Predicting fits nothing.
    pipeline.predict(rows)
    assert pipeline.save() == saved


@each_name
def test_symbols_that_cannot_be_fitted_are_counted_and_unknown_and_so_is_a_new_one(name):
    series = {
        "GOOD": autoregression(N_BARS, share=0.3, seed=1),
        "FLAT": np.full(N_BARS, 0.001),
        "NEW": autoregression(3, share=0.3, seed=2),
    }
    rows = rows_of(series)
    pipeline = fitted(chosen(name), rows)
    assert pipeline.estimator.unfitted_ == {"FLAT": CONSTANT, "NEW": TOO_SHORT}
    assert pipeline.report() == {
        "symbols": 3,
        "fitted": 1,
        "constant": {"symbols": 1, "first": ["FLAT"]},
        "too_short": {"symbols": 1, "first": ["NEW"]},
    }
    stranger = replace(rows, keys=rows.keys.with_columns(symbol=pl.col("symbol").replace("GOOD", "OTHER")))
    assert np.isnan(pipeline.predict(stranger).point).all()
    found = pipeline.predict(rows).point
    assert (
        np.isnan(found[~of_symbol(rows, "GOOD")]).all() and np.isfinite(found[of_symbol(rows, "GOOD")][HISTORY:]).all()
    )
    with pytest.raises(
        ValueError,
        match="`return_1` must have at least one symbol .* was constant for 1, too short for 1; train on more",
    ):
        fitted(chosen(name), rows.take(~of_symbol(rows, "GOOD")))


@each_name
def test_a_halt_is_a_gap_that_the_filter_goes_across_until_half_of_its_window_is_unknown(name):
    rows = sample()
    bar = rows.keys["bar"].to_numpy()
    pipeline = fitted(chosen(name), rows)
    whole = pipeline.predict(rows).point
    halted = of_symbol(rows, "S1") & (bar >= 200) & (bar < 206)
    kept = rows.take(~halted)
    found = pipeline.predict(kept).point
    # Other symbols do not see it, and rows whose window holds none of it.
    is_apart = ~of_symbol(kept, "S1") | (bar[~halted] < 200) | (bar[~halted] > 205 + HISTORY)
    np.testing.assert_array_equal(found[is_apart], whole[~halted][is_apart])
    assert np.isfinite(found[kept.keys["bar"].to_numpy() > HISTORY]).all()
    # A row left out and a row that is not known are the same.
    X = rows.X.copy()
    X[halted, 1] = np.nan
    np.testing.assert_array_equal(pipeline.predict(replace(rows, X=X)).point[~halted], found)
    # 41 values a window: 20 known ones are too few, until the first of the 21 unknown ones has left it.
    gone = of_symbol(rows, "S1") & (bar >= 180) & (bar < 201)
    after = pipeline.predict(rows.take(~gone)).point[of_symbol(rows.take(~gone), "S1")]
    assert np.isnan(after[180:200]).all() and np.isfinite(after[200:]).all()


# One of each library.
@pytest.mark.parametrize("name", ["arima", "garch"])
def test_two_processes_find_what_one_finds_to_the_last_bit(name):
    rows = rows_of({f"S{number:02d}": autoregression(70, share=0.3, seed=number) for number in range(33)})
    choice = chosen(name)
    assert fitted(choice, rows, n_threads=2).save() == fitted(choice, rows, n_threads=1).save()


@each_name
def test_other_columns_and_their_order_change_nothing(name):
    rows = sample()
    turned = replace(rows, X=np.ascontiguousarray(rows.X[:, ::-1]), names=rows.names[::-1])
    assert fitted(chosen(name), turned).save() == fitted(chosen(name), rows).save()


@each_name
def test_edited_files_are_an_error_of_the_file_or_numbers_that_a_fit_could_give(name):
    rows = sample(100)
    choice = chosen(name, minimum_bars=20)
    saved = fitted(choice, rows).save()

    def load(data: bytes) -> np.ndarray:
        return build_pipeline(choice, Setup("regression")).load(data).predict(rows).point

    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(200):
        at, n = int(rng.integers(len(saved))), int(rng.integers(1, 6))
        noise = bytes(rng.choice(list(b'0123456789-.eE"{}[],:naINF'), size=n).tolist())
        cut = [saved[:at], saved[:at] + noise + saved[at + n :], saved[:at] + noise + saved[at:]][rng.integers(3)]
        try:
            found = load(cut)
        except ValueError as e:
            refused += 1
            assert str(e).startswith("`data` must ") and len(str(e).splitlines()) == 1
        else:
            assert not np.isinf(found).any()
    assert refused > 100
    content = json.loads(saved)
    first = sorted(content["symbols"])[0]
    for hostile in (
        b"[" * 100_000,
        b"{}",
        b"[]",
        saved.replace(b'"scale":', b'"scale":1e999,"other":'),
        json.dumps({**content, "symbols": {}}).encode(),
        json.dumps({**content, "unfitted": {first: TOO_SHORT}}).encode(),
        json.dumps({**content, "unfitted": {"X": "a whim"}}).encode(),
        json.dumps({**content, "symbols": {first: {**content["symbols"][first], "scale": float("nan")}}}).encode(),
        json.dumps({**content, "symbols": {first: {**content["symbols"][first], "scale": True}}}).encode(),
        saved.replace(b'"unfitted"', b'"model":"x","unfitted"'),
        json.dumps({**content, "model": "other"}).encode(),
    ):
        with pytest.raises(ValueError, match="`data` must "):
            load(hostile)


def test_an_explosive_process_in_a_file_is_refused():
    choice, rows = chosen("arima", order=[1, 0]), sample(100)
    content = json.loads(fitted(replace_params(choice, minimum_bars=20), rows).save())
    content["symbols"]["S1"]["ar"] = [1.01]
    with pytest.raises(ValueError, match="must hold models 'arima' by symbol, was with an explosive .* of 'S1'"):
        build_pipeline(choice, Setup("regression")).load(json.dumps(content).encode())


def replace_params(choice: LearnerChoice, **params: Any) -> LearnerChoice:
    return choose_learner(choice.name, {**choice.settings()["params"], **params})


@each_name
def test_targets_and_steps_that_it_does_not_stand_for_are_refused(name):
    choice = chosen(name, horizon_bars=5)
    entry = LEARNERS[name]
    stands_for = "forward_return" if name in ("arima", "kalman") else "realised_volatility"
    choice.require_target(build_target(stands_for, horizon_bars=5))
    for target in ("forward_return", "realised_volatility", "rank", "open_return", "excess_return"):
        for ahead in (4, 5):
            if (target, ahead) != (stands_for, 5):
                with pytest.raises(ValueError, match=f"`target` must be {stands_for} over .*, was {target} over"):
                    choice.require_target(build_target(target, horizon_bars=ahead))
    assert entry.require_target is not None
    of_target = build_target(stands_for, horizon_bars=5)
    given = choice.settings()
    ask = partial(choose_learner, "voting", {"members": ["ridge", given]})
    ask(preprocessing=["imputation"]).require_target(of_target)
    for scaled in (
        choose_learner(name, given["params"], preprocessing=["standard_scaling"]),
        ask(preprocessing=["standard_scaling"]),
    ):
        with pytest.raises(
            ValueError,
            match=f"`preprocessing` of learner .* keep the units .* for {name!r}, .*, was with standard_scaling",
        ):
            scaled.require_target(of_target)


class Smoothed(SymbolModels):
    """A level as statsmodels smooths it over all rows that are shown: it knows those after the row."""

    is_filtered = False

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        found = np.full(len(rows), np.nan)
        for symbol, state in self.states_.items():
            index = np.flatnonzero((rows.keys["symbol"] == symbol).to_numpy())
            price = np.cumsum(self._values(rows)[index] / state["scale"])
            told = UnobservedComponents(price, "llevel").smooth([state["noise"], state["level"]])
            level = told.filtered_state if self.is_filtered else told.smoothed_state
            found[index] = state["scale"] * (level[0] - price)
        return found[wanted]


class Filtered(Smoothed):
    """The same as it is filtered, from the first row that is shown on."""

    is_filtered = True


@pytest.mark.parametrize("kind", [Smoothed, Filtered])
def test_a_smoothed_state_knows_later_rows_and_is_refused_where_the_filter_is_not(monkeypatch, kind):
    kalman = LEARNERS["kalman"]
    model = kalman.build({}, Setup("regression")).model
    entry = replace(kalman, name="planted", build=lambda params, setup: kind(model, params, setup))
    monkeypatch.setitem(LEARNERS, "planted", entry)
    target = build_target("forward_return", horizon_bars=3)
    params = {"feature": "feature_0", "horizon_bars": 3, "minimum_bars": 20, "history_bars": 10, **QUICK["kalman"]}
    ask = partial(
        cross_validate,
        random_matrix(target),
        splitter=PurgedWalkForward(n_splits=2, test_sessions=12),
        target=target,
        weightings=(),
        seed=1,
    )
    assert ask(learner=choose_learner("kalman", params)).predictions["prediction"].is_finite().all()
    if kind is Smoothed:
        with pytest.raises(ValueError, match="`learner` must predict a row without reading later ones, was .planted."):
            ask(learner=choose_learner("planted", params))
    else:
        ask(learner=choose_learner("planted", params))


def test_only_the_training_rows_of_a_fold_are_in_its_parameters_and_unknown_symbols_are_counted_in_every_fold():
    target = build_target("forward_return", horizon_bars=3)
    matrix = random_matrix(target)
    # A symbol that is listed late: no fold can fit it.
    listed = matrix["session"].unique().sort()[-25]
    matrix = matrix.filter((pl.col("symbol") != "S2") | (pl.col("session") >= listed))
    params = {"feature": "feature_0", "horizon_bars": 3, "minimum_bars": 20, "history_bars": 10, "order": [1, 0]}
    splitter = PurgedWalkForward(n_splits=2, test_sessions=12)
    ask = partial(cross_validate, splitter=splitter, target=target, weightings=(), seed=1)
    choice = choose_learner("arima", params)
    whole = ask(matrix, learner=choice)
    assert whole.fold_metrics["n_unpredicted"].to_list() == [12, 12]
    # The last fold's test rows are replaced: the first fold does not move, nor do the parameters of the last.
    folds = list(splitter.split(matrix))
    changed = matrix["feature_0"].to_numpy().copy()
    changed[folds[1][1]] += 1.0
    other = ask(matrix.with_columns(feature_0=pl.Series(changed)), learner=choice)
    first = pl.col("fold") == 0
    assert other.predictions.filter(first).equals(whole.predictions.filter(first))
    # An AR(1) with fixed parameters answers a shift of every value it reads by the same at every row.
    moved = (other.predictions.filter(~first)["prediction"] - whole.predictions.filter(~first)["prediction"]).to_numpy()
    assert np.isfinite(moved).sum() == 36 and not (moved[np.isfinite(moved)] == 0.0).any()
    # Folds one after the other on two processes, and on one.
    assert ask(matrix, learner=choice, n_jobs=2).predictions.equals(whole.predictions)


def test_an_ensemble_judges_a_member_of_series_where_it_predicts():
    target = build_target("forward_return", horizon_bars=3)
    params = {"feature": "feature_0", "horizon_bars": 3, "minimum_bars": 20, "history_bars": 10, "order": [1, 0]}
    members = [{"type": "arima", "params": params}, "ridge"]
    stack = choose_learner("stacking", {"members": members, "final": "ridge", "n_splits": 2})
    assert stack.is_divided and stack.history_bars == 10 and not stack.takes_weights
    matrix = random_matrix(target)
    found = cross_validate(
        matrix,
        learner=stack,
        splitter=PurgedWalkForward(n_splits=1, test_sessions=15),
        target=target,
        weightings=(),
        seed=1,
    )
    assert found.predictions["prediction"].is_finite().all()
    pipeline = fit_final(matrix, learner=stack, target=target, seed=1)
    again = build_pipeline(stack, Setup("regression")).load(pipeline.save())
    assert again.save() == pipeline.save()
