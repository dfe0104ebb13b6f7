"""Metrics of accounts: by hand, against quantstats and empyrical where they mean the same, and their undefined cases."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, signal, stats

from hf_pipelines.research import metrics
from hf_pipelines.research.metrics.tails import rises_with_its_level

PERIODS = 252.0


def returns_of(seed: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, n) * 0.01 + 0.0004


def equity_of(returns: np.ndarray) -> np.ndarray:
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def dated(returns: np.ndarray) -> pd.Series:
    return pd.Series(returns, pd.bdate_range("2020-01-01", periods=len(returns)))


@pytest.mark.parametrize("seed", range(3))
def test_account_metrics_agree_with_empyrical(seed: int) -> None:
    import empyrical

    returns, benchmark = returns_of(seed), returns_of(seed + 10)
    equity = equity_of(returns)
    pairs = {
        "calmar_ratio": (metrics.calmar_ratio(equity, periods_per_year=PERIODS), empyrical.calmar_ratio(returns)),
        "omega_ratio": (
            metrics.omega_ratio(returns, target=0.001),
            empyrical.omega_ratio(returns, required_return=1.001**252 - 1),
        ),
        "tail_ratio": (metrics.tail_ratio(returns), empyrical.tail_ratio(returns)),
        "value_at_risk": (metrics.value_at_risk(returns), -empyrical.value_at_risk(returns)),
        # 400 returns: their share of 5 % is 20 whole ones, as they count.
        "expected_shortfall": (
            metrics.expected_shortfall(returns),
            -empyrical.conditional_value_at_risk(returns),
        ),
        "beta": (metrics.beta(returns, benchmark), empyrical.beta(returns, benchmark)),
        "up_capture": (
            metrics.up_capture(returns, benchmark, periods_per_year=PERIODS),
            empyrical.up_capture(dated(returns), dated(benchmark)),
        ),
        "down_capture": (
            metrics.down_capture(returns, benchmark, periods_per_year=PERIODS),
            empyrical.down_capture(dated(returns), dated(benchmark)),
        ),
        # They do not annualise.
        "information_ratio": (
            metrics.information_ratio(returns, benchmark, periods_per_year=1.0),
            empyrical.excess_sharpe(returns, benchmark),
        ),
    }
    assert {name: ours for name, (ours, _) in pairs.items()} == pytest.approx(
        {name: theirs for name, (_, theirs) in pairs.items()}, rel=1e-9
    )


@pytest.mark.parametrize("seed", range(3))
def test_account_metrics_agree_with_quantstats(seed: int) -> None:
    import quantstats.stats as qs

    returns, benchmark = returns_of(seed), returns_of(seed + 10)
    equity, series = equity_of(returns), dated(returns)
    greeks = qs.greeks(series, dated(benchmark), periods=PERIODS, prepare_returns=False)
    pairs = {
        "sortino_ratio": (
            metrics.sortino_ratio(returns, periods_per_year=PERIODS),
            qs.sortino(series, periods=int(PERIODS)),
        ),
        "payoff_ratio": (metrics.payoff_ratio(returns), qs.payoff_ratio(series, prepare_returns=False)),
        "average_win": (metrics.average_win(returns), qs.avg_win(series, prepare_returns=False)),
        "average_loss": (metrics.average_loss(returns), -qs.avg_loss(series, prepare_returns=False)),
        "profit_factor": (metrics.profit_factor(returns), qs.profit_factor(series, prepare_returns=False)),
        "omega_ratio": (metrics.omega_ratio(returns), qs.omega(series)),
        "alpha": (metrics.alpha(returns, benchmark, periods_per_year=PERIODS), greeks["alpha"]),
        "beta": (metrics.beta(returns, benchmark), greeks["beta"]),
        # They divide by one less than the returns, and the curve has one value more than returns.
        "ulcer_index": (
            metrics.ulcer_index(equity) * math.sqrt(len(equity) / (len(returns) - 1)),
            qs.ulcer_index(series),
        ),
        # Theirs are adjusted for the size of the sample, and the kurtosis is the excess over a normal one.
        "skewness": (
            metrics.skewness(returns) * math.sqrt(400 * 399) / 398,
            qs.skew(series, prepare_returns=False),
        ),
        "kurtosis": (
            399 / (398 * 397) * (401 * (metrics.kurtosis(returns) - 3) + 6),
            qs.kurtosis(series, prepare_returns=False),
        ),
    }
    assert {name: ours for name, (ours, _) in pairs.items()} == pytest.approx(
        {name: theirs for name, (_, theirs) in pairs.items()}, rel=1e-9
    )


def test_expected_shortfall_counts_the_last_of_the_worst_in_part() -> None:
    # The worst 1.5 of 10: -5 % and half of -3 %, over 1.5.
    returns = [-0.05, -0.03, 0.0, 0.01, 0.01, 0.02, 0.02, 0.02, 0.03, 0.04]
    assert metrics.expected_shortfall(returns, level=0.85) == pytest.approx((0.05 + 0.5 * 0.03) / 1.5)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99, 0.975])
def test_expected_shortfall_is_never_below_value_at_risk_and_is_coherent(level: float) -> None:
    for seed in range(20):
        first, second = returns_of(seed), returns_of(seed + 100)
        worst = metrics.expected_shortfall(first, level=level)
        assert worst >= metrics.value_at_risk(first, level=level)
        # What the worst periods of a sum lose is never more than the worst of its parts.
        together = metrics.expected_shortfall(first + second, level=level)
        assert together <= worst + metrics.expected_shortfall(second, level=level) + 1e-15


def test_cornish_fisher_of_normal_moments_is_that_of_a_normal_distribution() -> None:
    # Two-point halves at one deviation and four at others make skew 0 and kurtosis 3: 0 (4 of 6) and +-sqrt(3).
    returns = np.array([0.0] * 4 + [math.sqrt(3), -math.sqrt(3)]) * 0.01 + 0.001
    assert (metrics.skewness(returns), metrics.kurtosis(returns)) == pytest.approx((0.0, 3.0))
    assert metrics.cornish_fisher_value_at_risk(returns, level=0.99) == pytest.approx(
        0.01 * stats.norm.ppf(0.99) - 0.001
    )
    # A normal distribution's mean beyond its quantile: density over share.
    expected = 0.01 * stats.norm.pdf(stats.norm.ppf(0.01)) / 0.01 - 0.001
    assert metrics.cornish_fisher_expected_shortfall(returns, level=0.99) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_cornish_fisher_shortfall_is_the_mean_of_its_quantiles(seed: int) -> None:
    returns = np.random.default_rng(seed).standard_t(12, 4000) * 0.01
    found, _ = integrate.quad(
        lambda share: metrics.cornish_fisher_value_at_risk(returns, level=1.0 - share), 1e-12, 0.05, limit=200
    )
    assert metrics.cornish_fisher_expected_shortfall(returns) == pytest.approx(found / 0.05, rel=1e-6)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_cornish_fisher_is_the_expansion_of_the_paper(level: float) -> None:
    returns = np.random.default_rng(7).gamma(30.0, 0.002, 3000) - 0.059
    skew, excess = stats.skew(returns), stats.kurtosis(returns)
    z = stats.norm.ppf(1.0 - level)
    bent = (
        z + (z**2 - 1) / 6 * skew + (z**3 - 3 * z) / 24 * excess - (2 * z**3 - 5 * z) / 36 * skew**2
    ) * returns.std() + returns.mean()
    assert metrics.cornish_fisher_value_at_risk(returns, level=level) == pytest.approx(-bent, rel=1e-12)


def test_expansion_is_a_distribution_exactly_where_its_quantiles_rise() -> None:
    z = np.linspace(-4.0, 4.0, 20_001)
    rng = np.random.default_rng(2)
    verdicts = []
    for skew, excess in zip(rng.uniform(-1.5, 1.5, 300), rng.uniform(-1.0, 8.0, 300), strict=True):
        bent = z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
        slope = np.diff(bent).min()
        # At the edge itself a grid cannot tell.
        if abs(slope) > 1e-8:
            verdicts.append((rises_with_its_level(skew, excess), slope > 0))
    assert all(ours == theirs for ours, theirs in verdicts)
    assert 50 < sum(theirs for _, theirs in verdicts) < 250
    assert rises_with_its_level(0.0, 0.0)
    # A slope that is below zero near its least value alone: 0.003 at a skewness of 1 and an excess of 8.85, -0.003 at 8.9.
    assert rises_with_its_level(1.0, 8.85) and not rises_with_its_level(1.0, 8.9)


def test_cornish_fisher_of_moments_that_are_no_distribution_is_nan() -> None:
    # One crash in 400 days: skew -20, kurtosis 399.
    returns = np.array([0.001] * 399 + [-0.5]) + np.tile([1e-4, -1e-4], 200)
    assert math.isnan(metrics.cornish_fisher_value_at_risk(returns))
    assert not math.isnan(metrics.value_at_risk(returns))


def test_falls_match_hand_computation() -> None:
    equity = [100.0, 120.0, 90.0, 108.0, 120.0, 119.0, 130.0, 128.0, 127.0]
    # Below a peak: 25 %, 10 %, 0.83 %, 1.54 %, 2.31 %.
    falls = np.array([0.25, 0.1, 1 / 120, 2 / 130, 3 / 130])
    assert metrics.ulcer_index(equity) == pytest.approx(math.sqrt((falls**2).sum() / 9))
    assert metrics.time_under_water(equity) == pytest.approx(5 / 9)
    assert metrics.longest_drawdown(equity) == 3
    assert metrics.recovery_of_max_drawdown(equity) == 2.0
    assert metrics.calmar_ratio(equity, periods_per_year=8) == pytest.approx(0.27 / 0.25)
    # The fall under way is the longest: it is counted to the end.
    assert metrics.longest_drawdown([100.0, 99.0, 100.0, 90.0, 91.0, 92.0, 93.0]) == 4
    assert math.isnan(metrics.recovery_of_max_drawdown([100.0, 99.0, 100.0, 90.0, 91.0]))
    assert (metrics.longest_drawdown([1.0, 1.0, 2.0]), metrics.time_under_water([1.0, 1.0, 2.0])) == (0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_longest_drawdown_agrees_with_a_walk_over_the_curve(seed: int) -> None:
    equity = np.round(equity_of(returns_of(seed, 300)), 2)
    peak, since, longest = equity[0], 0, 0
    for place, value in enumerate(equity):
        if value >= peak:
            longest = max(longest, place - since if place - since > 1 else 0)
            peak, since = value, place
    assert metrics.longest_drawdown(equity) == max(longest, len(equity) - 1 - since)


def test_relative_metrics_match_hand_computation() -> None:
    benchmark = np.array([0.01, -0.02, 0.03, 0.0])
    returns = 2.0 * benchmark + 0.001
    assert metrics.beta(returns, benchmark) == pytest.approx(2.0)
    assert metrics.alpha(returns, benchmark, periods_per_year=250) == pytest.approx(0.25)
    # The difference is the benchmark plus 0.001.
    difference = benchmark + 0.001
    expected = difference.mean() / difference.std(ddof=1) * math.sqrt(250)
    assert metrics.information_ratio(returns, benchmark, periods_per_year=250) == pytest.approx(expected)
    # Periods with a benchmark of zero are neither up nor down.
    assert metrics.up_capture(returns, benchmark, periods_per_year=2) == pytest.approx(
        (1.021 * 1.061 - 1) / (1.01 * 1.03 - 1)
    )
    assert metrics.down_capture(returns, benchmark, periods_per_year=1) == pytest.approx(0.039 / 0.02)
    assert math.isnan(metrics.down_capture([0.1], [0.1], periods_per_year=1))


def test_expectancy_is_made_of_hits_wins_and_losses() -> None:
    profits = [30.0, -10.0, 0.0, 50.0, -20.0]
    assert metrics.expectancy(profits) == pytest.approx(12.5)
    hits = metrics.hit_rate(profits)
    made = hits * metrics.average_win(profits) - (1 - hits) * metrics.average_loss(profits)
    assert made == pytest.approx(12.5)
    assert metrics.payoff_ratio(profits) == pytest.approx(40.0 / 15.0)


def test_sharpe_error_of_independent_normal_returns_is_los_formula() -> None:
    # Without autocorrelation, skew and excess kurtosis: sqrt((1 + ratio^2 / 2) / n), here of a ratio of 1 a period.
    returns = np.array([0.0] * 4 + [math.sqrt(3), -math.sqrt(3)]) + 1.0
    returns = np.tile(returns, 50)
    ratio = metrics.sharpe_ratio(returns, periods_per_year=1)
    assert ratio == pytest.approx(1.0, abs=2e-3)
    found = metrics.sharpe_standard_error(returns, periods_per_year=1, lags=0)
    assert found == pytest.approx(math.sqrt(1.5 / 300))
    low, high = metrics.sharpe_interval(returns, periods_per_year=1, lags=0)
    assert (high - ratio, ratio - low) == pytest.approx((1.959964 * found, 1.959964 * found))
    assert metrics.sharpe_standard_error(returns, periods_per_year=4, lags=0) == pytest.approx(2 * found)


def test_sharpe_error_agrees_with_newey_west_of_statsmodels() -> None:
    # The delta method is the mean of one series, its influence, whose long-run variance statsmodels has.
    import statsmodels.api as sm

    returns = np.convolve(returns_of(1, 500), [0.6, 0.4], mode="valid")
    mean, spread = returns.mean(), returns.std()
    influence = (returns - mean) / spread - mean / (2 * spread**3) * ((returns - mean) ** 2 - spread**2)
    for lags in (0, 3, 7):
        fit = sm.OLS(influence, np.ones_like(influence)).fit(
            cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
        )
        found = metrics.sharpe_standard_error(returns, periods_per_year=1, lags=lags)
        assert found == pytest.approx(fit.bse[0], rel=1e-9)


def test_sharpe_interval_holds_the_truth_as_often_as_it_says() -> None:
    # AR(1) of 0.5: errors that take returns for independent are by theory 0.577 of the truth, and hold it 74 times in 100.
    rng = np.random.default_rng(3)
    truth, held = 0.1 * math.sqrt(1 - 0.5**2), {0: 0, None: 0}
    for _ in range(600):
        returns = signal.lfilter([1.0], [1.0, -0.5], rng.normal(size=1100))[100:] + 0.1
        for lags in held:
            low, high = metrics.sharpe_interval(returns, periods_per_year=1, lags=lags)
            held[lags] += low <= truth <= high
    assert held[None] / 600 == pytest.approx(0.93, abs=0.03)
    assert held[0] / 600 == pytest.approx(0.742, abs=0.05)


NEVER_LOST = [0.0, 0.01, 0.02] * 10


@pytest.mark.parametrize(
    "metric",
    [
        lambda returns: metrics.sortino_ratio(returns, periods_per_year=PERIODS),
        metrics.omega_ratio,
        metrics.tail_ratio,
        metrics.average_loss,
        metrics.payoff_ratio,
        lambda returns: metrics.calmar_ratio(equity_of(np.asarray(returns)), periods_per_year=PERIODS),
    ],
    ids=["sortino", "omega", "tail", "average_loss", "payoff", "calmar"],
)
def test_ratio_to_losses_of_what_never_lost_is_undefined(metric: Callable[[list[float]], float]) -> None:
    assert math.isnan(metric(NEVER_LOST))


@pytest.mark.parametrize("returns", [[], [0.01], [0.001] * 30], ids=["none", "one", "constant"])
def test_shape_of_returns_that_have_none_is_undefined(returns: list[float]) -> None:
    found = [
        metrics.skewness(returns),
        metrics.kurtosis(returns),
        metrics.cornish_fisher_value_at_risk(returns),
        metrics.cornish_fisher_expected_shortfall(returns),
        metrics.sharpe_standard_error(returns, periods_per_year=PERIODS),
        metrics.beta(np.arange(len(returns)), returns),
        metrics.alpha(returns, returns, periods_per_year=PERIODS),
        metrics.information_ratio(returns, returns, periods_per_year=PERIODS),
    ]
    assert np.isnan(found).all()


def test_risk_of_too_few_periods_for_the_level_is_undefined() -> None:
    returns = returns_of(0, 99)
    assert math.isnan(metrics.value_at_risk(returns, level=0.99))
    assert math.isnan(metrics.expected_shortfall(returns, level=0.99))
    assert not math.isnan(metrics.value_at_risk(returns_of(0, 100), level=0.99))
    assert math.isnan(metrics.tail_ratio(returns_of(0, 19)))


def test_impossible_input_of_account_metrics_raises() -> None:
    with pytest.raises(ValueError, match="`level` must be between 0 and 1, was 95"):
        metrics.value_at_risk([0.01] * 100, level=95)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"`level` must be between 0 and 1, was {level}"):
            metrics.expected_shortfall([0.01] * 100, level=level)
    with pytest.raises(ValueError, match=r"`benchmark` must match `returns` \(2,\), had shape \(1,\)"):
        metrics.beta([0.01, 0.02], [0.01])
    with pytest.raises(ValueError, match="`returns` must be finite, was nan at position 1"):
        metrics.sortino_ratio([0.01, math.nan], periods_per_year=PERIODS)
    with pytest.raises(ValueError, match="`lags` must be at least 0, was -1"):
        metrics.sharpe_standard_error([0.01, 0.02], periods_per_year=PERIODS, lags=-1)
    with pytest.raises(ValueError, match="`returns` must be above -1"):
        metrics.up_capture([-1.0, 0.2], [0.1, 0.2], periods_per_year=PERIODS)


def test_two_returns_and_a_year_of_less_than_a_period_are_enough() -> None:
    assert metrics.annual_volatility([0.0, 0.02], periods_per_year=1) == pytest.approx(0.02 / math.sqrt(2))
    # A period of two years: 21 % are 10 % a year.
    assert metrics.annual_return([1.0, 1.21], periods_per_year=0.5) == pytest.approx(0.1)


def test_sessions_that_an_annual_figure_needs_are_those_that_the_docs_promise() -> None:
    assert metrics.ANNUAL_SESSIONS == 60
