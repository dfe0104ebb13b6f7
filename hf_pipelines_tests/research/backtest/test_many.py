"""Accounts kept side by side: the same bits as the reference gives each alone."""

from dataclasses import replace

import numpy as np
import pytest

from hf_pipelines.research.backtest import Execution, build_trading_panel
from hf_pipelines.research.backtest.many import MOST_AT_ONCE, simulate_many
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.metrics import turnover
from hf_pipelines_tests.research.backtest.scenarios import scenario
from hf_pipelines_tests.research.backtest.small_market import random_market

N = 5


@pytest.mark.parametrize("number", range(0, 40, 2))
def test_accounts_side_by_side_are_each_the_reference_to_the_bit(number: int) -> None:
    given = scenario(number)
    panel = build_trading_panel(given.weights, given.bars, extra=("high", "low"))
    execution = Execution(fill=given.execution.fill, initial_cash=given.execution.initial_cash)
    weights = panel.weights[:, :, None] * np.random.default_rng(number).uniform(-1.0, 1.0, N)
    costs = [replace(given.costs, fee_bps=float(at)) for at in range(N)]
    many = simulate_many(panel, weights, costs, execution)
    for at, own in enumerate(costs):
        alone = simulate_panel(replace(panel, weights=np.ascontiguousarray(weights[:, :, at])), own, execution)
        assert many.equity[:, at].tobytes() == alone.equity.tobytes()
        if not (alone.equity > 0.0).all():
            # Ruined: turnover has no meaning.
            continue
        assert many.turnover[at] == pytest.approx(turnover(alone.traded_value, alone.equity).sum(), rel=1e-9)
        assert many.costs[at] == pytest.approx(sum(each.sum() for each in alone.costs.values()), rel=1e-9, abs=1e-9)


def test_more_accounts_than_are_kept_at_once_are_the_same_ones() -> None:
    weights, bars = random_market(seed=1, n_sessions=12, n_symbols=2)
    panel = build_trading_panel(weights, bars)
    costs = [Costs(fee_bps=at / 100.0) for at in range(MOST_AT_ONCE + 3)]
    many = simulate_many(panel, panel.weights[:, :, None], costs, Execution())
    for at in (0, MOST_AT_ONCE - 1, MOST_AT_ONCE, MOST_AT_ONCE + 2):
        assert many.equity[:, at].tobytes() == simulate_panel(panel, costs[at], Execution()).equity.tobytes()
    halves = np.where(panel.weights[:, :, None] > 0.0, 0.25, 0.0)
    wide, narrow = (simulate_many(panel, halves.astype(kind), costs[:2], Execution()) for kind in (float, np.float32))
    assert wide.equity.tobytes() == narrow.equity.tobytes()


def test_what_needs_another_ledger_is_refused() -> None:
    weights, bars = random_market(seed=1, n_sessions=12, n_symbols=2)
    panel = build_trading_panel(weights, bars)
    own = panel.weights[:, :, None]
    with pytest.raises(ValueError, match="`costs` must be flat and `execution` without limits"):
        simulate_many(panel, own, [Costs(kinds=["sales_tax"])], Execution())
    with pytest.raises(ValueError, match="`costs` must be flat and `execution` without limits"):
        simulate_many(panel, own, [Costs()], Execution(lot_size=1))
    with pytest.raises(ValueError, match="`weights` must be of the panel's shape"):
        simulate_many(panel, np.repeat(own, 3, axis=2), [Costs()] * 2, Execution())
