import math
import statistics
import warnings
from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.typing import ArrayLike

from hf_pipelines.research import metrics

EQUITY = [100.0, 110.0, 88.0, 99.0, 121.0]


def random_equity(seed: int, n: int = 300) -> np.ndarray:
    return 1e6 * np.cumprod(1 + np.random.default_rng(seed).normal(0.0004, 0.01, n))


def test_returns_of_gives_simple_returns() -> None:
    assert metrics.returns_of(EQUITY).tolist() == pytest.approx([0.1, -0.2, 0.125, 2 / 9])


def test_total_and_annual_return_match_hand_computation() -> None:
    assert metrics.total_return(EQUITY) == pytest.approx(0.21)
    # Four half-years are two years: 1.1 squared is 1.21.
    assert metrics.annual_return(EQUITY, periods_per_year=2) == pytest.approx(0.1)


def test_annual_return_beyond_the_largest_float_is_infinite() -> None:
    assert metrics.annual_return([1.0, 1e6], periods_per_year=100_000) == math.inf


def test_sharpe_ratio_matches_hand_computation() -> None:
    # Mean 0.02, sample deviation 0.02: 1.0 a period, 16 after a year of 256.
    assert metrics.sharpe_ratio([0.0, 0.02, 0.04], periods_per_year=256) == pytest.approx(16.0)


@pytest.mark.parametrize("seed", range(3))
def test_sharpe_ratio_agrees_with_exact_arithmetic(seed: int) -> None:
    # The statistics module sums fractions exactly.
    returns = metrics.returns_of(random_equity(seed)).tolist()
    expected = statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(252)
    assert metrics.sharpe_ratio(returns, periods_per_year=252) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "returns",
    [[], [0.01], [0.0, 0.0, 0.0], [0.001] * 1000, [-0.3, -0.3, -0.3]],
    ids=["none", "one", "zeros", "constant", "constant_loss"],
)
def test_sharpe_ratio_without_volatility_is_nan(returns: list[float]) -> None:
    assert math.isnan(metrics.sharpe_ratio(returns, periods_per_year=252))


@pytest.mark.parametrize("growth", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, -1e-4])
@pytest.mark.parametrize("first", [1.0, 1e6, 12345.678])
def test_sharpe_ratio_of_constant_growth_is_nan(growth: float, first: float) -> None:
    equity = first * (1 + growth) ** np.arange(251)
    assert math.isnan(metrics.sharpe_ratio(metrics.returns_of(equity), periods_per_year=252))


def test_sharpe_ratio_of_an_equity_in_cents_is_defined() -> None:
    # A hundredth of a basis point a day, each way: far below any account's risk, far above rounding.
    returns = np.tile([1e-6, -1e-6, 2e-6], 30)
    expected = returns.mean() / returns.std(ddof=1) * math.sqrt(252)
    assert metrics.sharpe_ratio(returns, periods_per_year=252) == pytest.approx(expected)


@pytest.mark.parametrize("code", [0.7, -0.5, math.nan, math.inf])
def test_classification_metrics_of_a_code_that_is_no_whole_number_raises(code: float) -> None:
    with pytest.raises(ValueError, match=f"`y` must hold whole class codes, was {code} at position 1"):
        metrics.classification_metrics([1.0, code], [[0.4, 0.6], [0.5, 0.5]])


def test_drawdown_is_positive_fraction_of_running_peak() -> None:
    assert metrics.drawdown(EQUITY).tolist() == pytest.approx([0.0, 0.0, 0.2, 0.1, 0.0])
    assert metrics.max_drawdown(EQUITY) == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(3))
def test_max_drawdown_agrees_with_every_pair_of_sessions(seed: int) -> None:
    equity = random_equity(seed, n=120)
    worst = max(1 - equity[j] / equity[i] for i in range(120) for j in range(i, 120))
    assert metrics.max_drawdown(equity) == pytest.approx(worst)


def test_max_drawdown_of_rising_equity_is_zero() -> None:
    assert metrics.max_drawdown([1.0, 2.0, 3.0]) == 0.0


def test_turnover_divides_by_equity_of_the_decision() -> None:
    assert metrics.turnover([0.0, 50.0, 22.0], [100.0, 110.0, 120.0]).tolist() == [0.0, 0.5, 0.2]


def test_turnover_with_trade_on_first_period_raises() -> None:
    with pytest.raises(ValueError, match="`traded_value` must be zero in the first period, was 5.0"):
        metrics.turnover([5.0, 0.0], [100.0, 100.0])


def test_hit_rate_leaves_flat_sessions_out() -> None:
    assert metrics.hit_rate([0.0, 0.1, -0.1, 0.2, 0.0]) == pytest.approx(2 / 3)
    assert math.isnan(metrics.hit_rate([0.0, 0.0]))


@pytest.mark.parametrize(
    "metric",
    [metrics.returns_of, metrics.total_return, metrics.drawdown, metrics.max_drawdown],
    ids=lambda metric: metric.__name__,
)
@pytest.mark.parametrize("equity", [[], [100.0, math.nan], [100.0, 0.0], [100.0, -5.0]], ids=str)
def test_equity_metric_of_impossible_equity_raises(metric: Callable[[ArrayLike], object], equity: list[float]) -> None:
    with pytest.raises(ValueError, match="`equity` must be"):
        metric(equity)


@pytest.mark.parametrize("periods", [0, -252, math.nan])
def test_sharpe_ratio_with_impossible_periods_per_year_raises(periods: float) -> None:
    with pytest.raises(ValueError, match="`periods_per_year` must be finite and above zero"):
        metrics.sharpe_ratio([0.01, 0.02], periods_per_year=periods)


def predictions_of(prediction: list[float | None], target: list[float | None], *, day: int = 1) -> pl.DataFrame:
    schema = {"session": pl.Date, "prediction": pl.Float64, "target": pl.Float64}
    return pl.DataFrame(
        {"session": [date(2024, 1, day)] * len(target), "prediction": prediction, "target": target},
        schema=schema,
    )


def test_information_coefficient_matches_hand_computation() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6, however far apart the values are.
    frame = predictions_of([1.0, 2.0, 3.0, 400.0], [0.2, 0.1, 0.9, 0.3])
    assert metrics.information_coefficient(frame).row(0)[1:] == (pytest.approx(0.6), 4)


def test_information_coefficient_agrees_with_scipy_under_ties() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(5)
    days = [
        predictions_of(rng.integers(0, 6, 30).astype(float).tolist(), rng.normal(size=30).tolist(), day=day)
        for day in (1, 2, 3)
    ]
    ours = metrics.information_coefficient(pl.concat(days))["information_coefficient"].to_list()
    theirs = [spearmanr(day["prediction"], day["target"]).statistic for day in days]
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [([1.0], [1.0]), ([2.0, 2.0, 2.0], [0.1, 0.2, 0.3]), ([0.1, 0.2], [5.0, 5.0])],
    ids=["one_symbol", "equal_predictions", "equal_targets"],
)
def test_information_coefficient_undefined_is_nan_and_left_out_of_the_mean(
    prediction: list[float | None], target: list[float | None]
) -> None:
    undefined = predictions_of(prediction, target)
    assert math.isnan(metrics.information_coefficient(undefined)["information_coefficient"].item())
    assert math.isnan(metrics.mean_information_coefficient(undefined))
    defined = predictions_of([1.0, 2.0], [1.0, 2.0], day=2)
    assert metrics.mean_information_coefficient(pl.concat([undefined, defined])) == pytest.approx(1.0)


def test_information_coefficient_ignores_rows_without_value() -> None:
    frame = predictions_of([1.0, 2.0, math.nan, 4.0], [1.0, 2.0, 9.0, None])
    assert metrics.information_coefficient(frame).row(0)[1:] == (pytest.approx(1.0), 2)


def test_information_coefficient_without_column_raises() -> None:
    with pytest.raises(ValueError, match=r"`predictions` must have the columns \['y'\]"):
        metrics.information_coefficient(predictions_of([1.0], [1.0]), target="y")


def test_classification_metrics_match_hand_computation() -> None:
    result = metrics.classification_metrics(
        [0, 0, 0, 1], [[0.8, 0.2, 0.0], [0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.3, 0.6, 0.1]]
    )

    assert result["accuracy"] == 0.75
    # Recall 2/3 of class 0 and 1 of class 1; class 2 does not occur.
    assert result["balanced_accuracy"] == pytest.approx(5 / 6)
    assert result["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.5, 0.1, 0.6])))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classification_metrics_balanced_accuracy_agrees_with_sklearn_when_a_class_is_absent() -> None:
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(0)
    y, probability = rng.integers(0, 2, 200), rng.dirichlet([1, 1, 1], 200)
    ours = metrics.classification_metrics(y, probability)["balanced_accuracy"]
    assert ours == pytest.approx(balanced_accuracy_score(y, probability.argmax(axis=1)))


@pytest.mark.parametrize(
    ("y", "probability", "message"),
    [
        ([], np.empty((0, 3)), "non-empty"),
        ([0, 1], [[0.5, 0.5]], r"was \(1, 2\) for \(2,\)"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], r"`y` must hold codes 0..1, held 0..2"),
        ([0], [[math.nan, 0.5]], "`probability` must be finite"),
        ([0, 1], [[0.5, 0.5], [math.nan, math.nan]], "`probability` must be finite"),
    ],
    ids=["empty", "shapes", "code", "nan", "a row of nan"],
)
def test_classification_metrics_with_bad_input_raises(y: ArrayLike, probability: ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.classification_metrics(y, probability)


def test_regression_metrics_match_hand_computation() -> None:
    # Squared errors 1 + 0 + 1 = 2, variance sum 2: nothing explained.
    result = metrics.regression_metrics([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert result["r2"] == pytest.approx(0.0)
    assert result["rmse"] == pytest.approx(math.sqrt(2 / 3))


def test_regression_metrics_of_constant_target_has_no_r2() -> None:
    result = metrics.regression_metrics([1.0, 1.0], [1.0, 2.0])
    assert math.isnan(result["r2"])
    assert result["rmse"] == pytest.approx(math.sqrt(0.5))


def test_regression_metrics_of_one_sample_have_no_r2() -> None:
    found = metrics.regression_metrics([0.02], [0.05])
    assert math.isnan(found["r2"]) and found["rmse"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("y", "prediction"), [([1.0, 2.0], [1.0, math.nan]), ([math.nan, 2.0], [1.0, 2.0]), ([1.0, 2.0], [math.inf, 1.0])]
)
def test_regression_metrics_with_one_value_that_is_not_finite_raises(y: list[float], prediction: list[float]) -> None:
    with pytest.raises(ValueError, match="`y` and `prediction` must be finite"):
        metrics.regression_metrics(y, prediction)


@pytest.mark.parametrize("periods", [0.0, -252.0, math.nan, math.inf])
def test_annual_return_with_impossible_periods_per_year_raises(periods: float) -> None:
    with pytest.raises(ValueError, match="`periods_per_year` must be finite and above zero"):
        metrics.annual_return([1.0] * 100, periods_per_year=periods)


def test_sharpe_ratio_of_returns_that_differ_by_the_rounding_of_their_growth_is_nan() -> None:
    # A growth of 2 has twice the rounding of one of 1, whatever its return.
    doubled = [1.0, 1.0 + 2e-12] * 50
    assert math.isnan(metrics.sharpe_ratio(doubled, periods_per_year=252))
    assert metrics.sharpe_ratio([each - 1.0 for each in doubled], periods_per_year=252) > 0.0


def test_classification_metrics_of_one_negative_code_raises() -> None:
    with pytest.raises(ValueError, match=r"`y` must hold codes 0..1, held -1..1"):
        metrics.classification_metrics([-1, 0, 1], [[0.5, 0.5]] * 3)


# --- agreement with other libraries


def test_classification_metrics_agree_with_sklearn_one_by_one() -> None:
    import sklearn.metrics as sk

    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 400)
    probability = rng.dirichlet([1.0, 1.0, 1.0], 400)
    predicted = probability.argmax(axis=1)
    found = metrics.classification_metrics(y, probability)
    one_hot = np.eye(3)[y]
    assert found["brier"] == pytest.approx(((probability - one_hot) ** 2).sum(axis=1).mean())
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, probability, multi_class="ovr", average="macro"))
    assert found["precision"] == pytest.approx(sk.precision_score(y, predicted, average="macro"))
    assert found["f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro"))
    assert found["log_loss"] == metrics.log_loss(y, probability) == pytest.approx(sk.log_loss(y, probability))
    assert metrics.confusion_matrix(y, probability).tolist() == sk.confusion_matrix(y, predicted).tolist()


def test_classification_metrics_by_hand_of_two_classes() -> None:
    y = [0, 0, 1, 1]
    up = np.array([0.1, 0.6, 0.4, 0.9])
    found = metrics.classification_metrics(y, np.column_stack([1 - up, up]))
    # Predicted 0, 1, 0, 1: of each class one of two is right, and one of two predictions of it.
    assert {found[name] for name in ("accuracy", "balanced_accuracy", "precision", "f1")} == {0.5}
    # Of the pairs of a 1 and a 0 the 1 stands higher in three of four.
    assert found["auc"] == pytest.approx(0.75)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert metrics.confusion_matrix(y, np.column_stack([1 - up, up])).tolist() == [[1, 1], [1, 1]]


def test_classification_metrics_of_one_class_has_no_area() -> None:
    found = metrics.classification_metrics([1, 1], [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert math.isnan(found["auc"])
    assert (found["precision"], found["balanced_accuracy"], found["f1"]) == (1.0, 0.5, pytest.approx(2 / 3))


def test_regression_metrics_by_hand_leave_rows_without_a_move_out_of_shares() -> None:
    found = metrics.regression_metrics([0.02, -0.04, 0.0, 0.01], [0.01, -0.02, 0.5, -0.01])
    assert found["mse"] == pytest.approx((0.01**2 + 0.02**2 + 0.5**2 + 0.02**2) / 4)
    assert found["mae"] == pytest.approx((0.01 + 0.02 + 0.5 + 0.02) / 4)
    assert found["mape"] == pytest.approx((0.5 + 0.5 + 2.0) / 3)
    assert found["directional_accuracy"] == pytest.approx(2 / 3)
    # No forecast of a direction is a wrong one.
    assert metrics.regression_metrics([0.1, -0.1], [0.0, -0.2])["directional_accuracy"] == 0.5
    # A close that comes back to its price by way of a dividend is off by a rounding.
    still = metrics.regression_metrics([2.2e-16, 0.0], [0.1, 0.0])
    assert math.isnan(still["mape"]) and math.isnan(still["directional_accuracy"])


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
def test_quantile_loss_by_hand_and_least_at_the_quantile(quantile: float) -> None:
    assert metrics.quantile_loss([1.0, 1.0], [0.0, 3.0], quantile=quantile) == pytest.approx(
        (quantile * 1.0 + (1.0 - quantile) * 2.0) / 2
    )
    y = np.random.default_rng(0).normal(size=2001)
    at = float(np.quantile(y, quantile))
    losses = [metrics.quantile_loss(y, np.full(2001, at + off), quantile=quantile) for off in (-0.1, 0.0, 0.1)]
    assert losses[1] == min(losses)
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="`quantile` must be above 0 and below 1"):
            metrics.quantile_loss([1.0], [1.0], quantile=bad)


@pytest.mark.parametrize("n", [30, 100, 750])
def test_coefficient_summary_agrees_with_statsmodels(n: int) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(n)
    # Neighbours are alike, as where labels overlap.
    noise = rng.normal(size=n + 4)
    values = 0.03 + 0.1 * np.convolve(noise, np.ones(5) / 5, "valid")
    found = metrics.coefficient_summary([*values[:3], float("nan"), *values[3:]])
    lags = int(4 * (n / 100) ** (2 / 9))
    fit = sm.OLS(values, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    assert found["mean"] == pytest.approx(values.mean())
    assert found["ratio"] == pytest.approx(values.mean() / values.std(ddof=1))
    assert found["t"] == pytest.approx(float(fit.tvalues[0]))
    # The plain t would make much more of it.
    assert found["t"] < 0.8 * found["ratio"] * math.sqrt(n)


@pytest.mark.parametrize("values", [[], [float("nan")], [0.2], [0.1, 0.1, 0.1]])
def test_coefficient_summary_of_what_does_not_vary_is_undefined(values: list[float]) -> None:
    found = metrics.coefficient_summary(values)
    assert math.isnan(found["ratio"]) and math.isnan(found["t"])
    assert math.isnan(found["mean"]) == (not any(value == value for value in values))


def test_linear_information_coefficient_agrees_with_scipy() -> None:
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {"session": [date(2024, 1, 2)] * 40, "prediction": rng.normal(size=40), "target": rng.standard_t(3, size=40)}
    )
    for is_ranked, theirs in ((True, spearmanr), (False, pearsonr)):
        (row,) = metrics.information_coefficient(frame, is_ranked=is_ranked).to_dicts()
        assert row["information_coefficient"] == pytest.approx(theirs(frame["prediction"], frame["target"])[0])


def test_directional_accuracy_is_about_the_neutral_value_and_undefined_without_a_direction() -> None:
    y, prediction = [0.9, 0.1, 0.6, 0.5], [0.8, 0.6, 0.4, 0.9]
    # Sides of the middle: right, wrong, wrong, none.
    assert metrics.regression_metrics(y, prediction, neutral=0.5)["directional_accuracy"] == pytest.approx(1 / 3)
    assert metrics.regression_metrics(y, prediction)["directional_accuracy"] == 1.0
    assert math.isnan(metrics.regression_metrics(y, prediction, neutral=None)["directional_accuracy"])


def test_a_coefficient_that_is_0_but_for_rounding_is_0_exactly():
    """Of ten sessions whose coefficients cancel out the plain mean is not 0; of one whose ranks do, the correlation."""
    values = [0.1, 0.2, 0.3, 0.7, -0.6, -0.7] * 3 + [-0.1, 0.1]
    assert np.mean(values) != 0.0 and abs(np.mean(values)) < 1e-15
    assert metrics.coefficient_summary(values)["mean"] == 0.0 == metrics.coefficient_summary(values)["t"]
    # Small, and no rounding.
    assert metrics.coefficient_summary([1e-9, 3e-9])["mean"] == pytest.approx(2e-9)
    noise = np.random.default_rng(0).normal(size=(400, 4))
    frame = pl.DataFrame({"session": np.repeat(np.arange(400), 4), "prediction": noise.ravel()})
    frame = frame.with_columns(target=pl.Series(np.tile([1.0, 2.0, 3.0, 4.0], 400)))
    found = metrics.information_coefficient(frame)["information_coefficient"].to_numpy()
    # With four symbols one order in nine has a correlation of 0.
    assert (found == 0.0).sum() > 20 and not ((found != 0.0) & (np.abs(found) < 1e-6)).any()


def test_area_under_the_curve_of_one_class_is_undefined_and_is_not_asked_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.classification_metrics([1.0, 1.0], [[0.4, 0.6], [0.3, 0.7]])
    assert math.isnan(found["auc"])


def test_mean_information_coefficient_is_of_ranks_unless_told_otherwise() -> None:
    frame = pl.DataFrame(
        {"session": [date(2024, 1, 2)] * 4, "prediction": [1.0, 2.0, 3.0, 400.0], "target": [0.2, 0.1, 0.9, 0.3]}
    )
    assert metrics.mean_information_coefficient(frame) == pytest.approx(0.6)
    assert metrics.mean_information_coefficient(frame, is_ranked=False) != pytest.approx(0.6)
