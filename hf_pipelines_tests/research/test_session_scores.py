"""Scores of drawn sessions are those of their rows, read again: the rows of every resample are laid out and scored."""

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk

from hf_pipelines.research import metrics
from hf_pipelines.research.metrics import session_scores
from hf_pipelines.research.metrics.bootstrap import Draws, draw_sessions
from hf_pipelines.research.metrics.session_scores import (
    SessionScores,
    account_scores,
    classification_scores,
    rank_scores,
    regression_scores,
)

N_SESSIONS = 40


def ragged_sessions(rng: np.random.Generator, *, low: int = 1) -> np.ndarray:
    """Rows of each session; some have one alone."""
    return np.repeat(np.arange(N_SESSIONS), rng.integers(low, 9, size=N_SESSIONS))


def rows_of(session: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The rows of the sessions drawn, in their order, repeated as often as they are drawn."""
    return np.concatenate([np.flatnonzero(session == each) for each in order])


def drawn(seed: int) -> Draws:
    found = draw_sessions(N_SESSIONS, block_sessions=3, seed=seed, n_resamples=25)
    assert found is not None
    return found


def assert_scores(given: SessionScores, expected, *, seed: int, rtol: float = 1e-9) -> None:
    """`expected(order)` of each resample, and of the sessions themselves."""
    draws = drawn(seed)
    found = given.scores(draws)
    observed = given.observed()
    for at, order in enumerate([*draws.order, np.arange(N_SESSIONS)]):
        for name, value in expected(order).items():
            ours = observed[name] if at == len(draws.order) else found[name][at]
            np.testing.assert_allclose(ours, value, rtol=rtol, atol=1e-12, err_msg=f"{name} of resample {at}")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_classification_scores_are_those_of_the_rows_drawn(seed, n_classes):
    rng = np.random.default_rng(seed)
    session = ragged_sessions(rng)
    # The last class occurs in two sessions alone: many resamples lack it.
    y = rng.integers(0, n_classes - 1 if n_classes > 2 else 2, size=len(session)).astype(float)
    y[np.isin(session, [4, 5])] = n_classes - 1
    # Sixteenths: equal probabilities are equal to the last bit.
    probability = (1 + rng.multinomial(16 - n_classes, np.full(n_classes, 1 / n_classes), size=len(session))) / 16.0
    ours = SessionScores(
        N_SESSIONS, classification_scores(session, n_sessions=N_SESSIONS, y=y, probability=probability)
    )

    def expected(order):
        rows = rows_of(session, order)
        return metrics.classification_metrics(y[rows], probability[rows])

    found = expected(np.arange(N_SESSIONS))
    assert set(ours.observed()) == set(found)
    assert_scores(ours, expected, seed=seed)


@pytest.mark.parametrize("skill", [0.1, 3.0])
def test_classification_scores_area_errs_by_a_fraction_of_its_deviation(skill):
    rng = np.random.default_rng(4)
    session = np.repeat(np.arange(N_SESSIONS), 200)
    y = rng.integers(0, 2, size=len(session)).astype(float)
    p = 1.0 / (1.0 + np.exp(-(rng.normal(size=len(session)) + skill * y)))
    probability = np.column_stack([1.0 - p, p])
    ours = SessionScores(
        N_SESSIONS, classification_scores(session, n_sessions=N_SESSIONS, y=y, probability=probability)
    )
    draws = drawn(0)
    rows = [rows_of(session, order) for order in draws.order]
    exact = np.array([sk.roc_auc_score(y[each], p[each]) for each in rows])
    # More rows than are sorted take cells of equal width first; both ways are held to the same.
    assert np.abs(ours.scores(draws)["auc"] - exact).max() < 0.05 * exact.std()
    assert ours.observed()["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-4)


def test_classification_scores_area_of_many_rows_is_about_that_of_sorted_ones(monkeypatch):
    rng = np.random.default_rng(5)
    session = np.repeat(np.arange(N_SESSIONS), 20)
    y, p = rng.integers(0, 2, size=len(session)).astype(float), rng.random(len(session)) ** 3
    draws, found = drawn(0), []
    for n in (0, 10_000):
        monkeypatch.setattr(session_scores, "SORTED_ROWS", n)
        parts = classification_scores(session, n_sessions=N_SESSIONS, y=y, probability=np.column_stack([1.0 - p, p]))
        found.append(SessionScores(N_SESSIONS, parts).scores(draws)["auc"])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("seed", "neutral"), [(0, 0.0), (1, 5.0), (2, None)], ids=["return", "rank", "volatility"])
def test_regression_scores_are_those_of_the_rows_drawn(seed, neutral):
    rng = np.random.default_rng(seed)
    session = ragged_sessions(rng)
    # Far from 0, and a tenth without a move.
    y = np.where(rng.random(len(session)) < 0.1, 0.0, 5.0 + rng.normal(size=len(session)))
    prediction, quantile = y + rng.normal(size=len(session)), y + rng.normal(size=len(session))
    ours = SessionScores(
        N_SESSIONS,
        regression_scores(
            session,
            n_sessions=N_SESSIONS,
            y=y,
            prediction=prediction,
            quantiles={"quantile_loss_0.2": (0.2, quantile)},
            neutral=neutral,
        ),
    )

    def expected(order):
        rows = rows_of(session, order)
        pinball = metrics.quantile_loss(y[rows], quantile[rows], quantile=0.2)
        return {**metrics.regression_metrics(y[rows], prediction[rows], neutral=neutral), "quantile_loss_0.2": pinball}

    assert_scores(ours, expected, seed=seed)


def test_regression_scores_of_equal_targets_have_no_r2_and_of_no_move_no_shares():
    session = np.arange(N_SESSIONS)
    parts = regression_scores(
        session, n_sessions=N_SESSIONS, y=np.full(N_SESSIONS, 0.1), prediction=np.zeros(N_SESSIONS)
    )
    assert math.isnan(SessionScores(N_SESSIONS, parts).observed()["r2"])
    parts = regression_scores(
        session, n_sessions=N_SESSIONS, y=np.full(N_SESSIONS, 1e-16), prediction=np.ones(N_SESSIONS)
    )
    still = SessionScores(N_SESSIONS, parts).observed()
    assert (
        math.isnan(still["mape"]) and math.isnan(still["directional_accuracy"]) and still["mse"] == pytest.approx(1.0)
    )


@pytest.mark.parametrize(("low", "seed"), [(1, 0), (2, 1), (2, 2)], ids=["symbols_alone", "seed_1", "seed_2"])
def test_rank_scores_are_those_of_the_coefficients_drawn(low, seed):
    rng = np.random.default_rng(seed)
    session = ragged_sessions(rng, low=low)
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(N_SESSIONS)]
    frame = pl.DataFrame(
        {
            "session": [days[each] for each in session],
            "prediction": rng.normal(size=len(session)),
            "target": rng.normal(size=len(session)),
        }
    )
    by_rank, by_value = (
        metrics.information_coefficient(frame, is_ranked=is_ranked)["information_coefficient"].to_numpy()
        for is_ranked in (True, False)
    )
    ours = SessionScores(N_SESSIONS, rank_scores(by_rank, by_value))
    assert np.isnan(by_rank).any() == (low == 1)

    def expected(order):
        summary = metrics.coefficient_summary(by_rank[order])
        return {
            "information_coefficient": summary["mean"],
            "information_coefficient_ratio": summary["ratio"],
            "information_coefficient_t": summary["t"],
            "linear_information_coefficient": np.nanmean(by_value[order]),
        }

    assert_scores(ours, expected, seed=seed)


@pytest.mark.parametrize("bars_a_session", [1, 4], ids=["daily", "intraday"])
def test_account_scores_are_those_of_the_returns_drawn(bars_a_session):
    rng = np.random.default_rng(bars_a_session)
    session = np.repeat(np.arange(N_SESSIONS), bars_a_session)
    returns = np.where(rng.random(len(session)) < 0.2, 0.0, rng.normal(0.001, 0.03, size=len(session)))
    ours = SessionScores(
        N_SESSIONS, account_scores(session, n_sessions=N_SESSIONS, returns=returns, periods_per_year=252)
    )

    def expected(order):
        of_rows = returns[rows_of(session, order)]
        equity = np.cumprod(np.concatenate([[1.0], 1.0 + of_rows]))
        return {
            "sharpe_ratio": metrics.sharpe_ratio(of_rows, periods_per_year=252),
            "hit_rate": metrics.hit_rate(of_rows),
            "profit_factor": metrics.profit_factor(of_rows),
            "total_return": metrics.total_return(equity),
            "max_drawdown": metrics.max_drawdown(equity),
        }

    assert_scores(ours, expected, seed=1)


def test_account_scores_of_an_account_that_stands_still_are_undefined():
    session = np.arange(N_SESSIONS)
    parts = account_scores(session, n_sessions=N_SESSIONS, returns=np.zeros(N_SESSIONS), periods_per_year=252)
    found = SessionScores(N_SESSIONS, parts).observed()
    assert found.pop("max_drawdown") == 0.0 and found.pop("total_return") == 0.0
    assert len(found) == 3 and all(math.isnan(value) for value in found.values())


def test_profit_factor_by_hand():
    assert metrics.profit_factor([0.03, -0.01, 0.0, -0.01]) == pytest.approx(1.5)
    assert math.isnan(metrics.profit_factor([0.01, 0.0]))
    assert metrics.profit_factor([-0.01]) == 0.0
