"""What the count of trials is for: the best of many that know nothing, one that knows something, and all of many."""

import numpy as np
import pytest

from hf_pipelines.research.backtest import Execution
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.overfitting import deflate, estimate_sharpe, probability_of_backtest_overfitting
from hf_pipelines_tests.research.robustness.test_robustness import gross_one, panel_of, walk

N_SESSIONS, YEAR, LEAST = 330, 252, 0.95


def noise(n_trials: int, seed: int) -> np.ndarray:
    """Returns of strategies that know nothing, a column each."""
    return np.random.default_rng(seed).normal(0.0, 0.01, (N_SESSIONS, n_trials))


def sharpes(returns: np.ndarray) -> np.ndarray:
    return np.asarray(returns.mean(axis=0) / returns.std(axis=0, ddof=1))


@pytest.mark.parametrize(
    ("seed", "n_known"),
    [*((seed, 200) for seed in range(3)), pytest.param(0, 3_000, marks=pytest.mark.long)],
)
def test_best_of_3000_that_know_nothing_passes_alone_and_fails_when_all_are_counted(seed, n_known):
    returns = noise(3_000, seed)
    every = sharpes(returns)
    best = returns[:, every.argmax()]
    assert 2.3 < every.max() * np.sqrt(YEAR) < 4.0
    alone = deflate(estimate_sharpe(best), sharpes=every[[every.argmax()]], returns=best[:, None], n_trials=1)
    assert alone.deflated > 0.99
    # Trials whose series are not looked at count as independent: how many of so many are takes half a minute to find.
    known = returns[:, np.argsort(-every)[:n_known]]
    counted = deflate(estimate_sharpe(best), sharpes=every, returns=known, n_trials=3_000)
    assert counted.deflated < LEAST and counted.deflated_by_all < LEAST and counted.n_independent > 1_000
    # Choosing by one half says nothing of the other.
    assert 0.35 < probability_of_backtest_overfitting(returns[:, :300], 10).probability < 0.65


@pytest.mark.parametrize("seed", range(3))
def test_of_1000_that_know_nothing_and_are_all_counted_at_most_one_passes(seed):
    returns = noise(1_000, 10 + seed)
    every = sharpes(returns)
    # Only those above the middle can pass; the count of independent ones is the same for all.
    best = np.argsort(-every)[:20]
    passed = [
        deflate(estimate_sharpe(returns[:, at]), sharpes=every, returns=returns[:, :50], n_trials=1_000).deflated_by_all
        >= LEAST
        for at in best
    ]
    assert sum(passed) <= 1
    alone = [
        deflate(estimate_sharpe(returns[:, at]), sharpes=every[[at]], returns=returns[:, [at]], n_trials=1)
        for at in best
    ]
    assert all(each.deflated >= LEAST for each in alone)


def test_a_forecast_with_a_coefficient_of_a_twentieth_passes_after_costs_though_200_were_tried():
    rng = np.random.default_rng(0)
    opened, close = walk(rng, n=750, symbols=100)
    session = np.zeros_like(close)
    session[:-1] = np.log(close[1:] / opened[1:])
    ranks = session / session.std()
    score = 0.05 * ranks + np.sqrt(1.0 - 0.05**2) * rng.normal(size=close.shape)
    found = np.mean([np.corrcoef(score[at], session[at])[0, 1] for at in range(749)])
    assert found == pytest.approx(0.05, abs=0.015)
    panel = panel_of(gross_one(score - score.mean(axis=1, keepdims=True)), opened, close)
    equity = simulate_panel(panel, Costs(fee_bps=0.5), Execution()).equity
    returns = equity[1:] / equity[:-1] - 1.0
    others = np.random.default_rng(1).normal(0.0, returns.std(), (len(returns), 199))
    every = sharpes(np.column_stack([returns, others]))
    judged = deflate(estimate_sharpe(returns), sharpes=every, returns=np.column_stack([returns, others]), n_trials=200)
    assert judged.deflated >= LEAST and judged.deflated_by_all >= LEAST
    assert probability_of_backtest_overfitting(np.column_stack([returns, others]), 16).probability < 0.05
