"""Strategies written in plain backtrader and plain vectorbt, fill by fill against the same decisions through our frames."""

import numpy as np
import pytest

from hf_pipelines_tests.research.backtest.plain_strategies import (
    Traded,
    apart,
    in_backtrader,
    in_vectorbt,
    market,
    through_frames,
)

pytestmark = pytest.mark.xdist_group("vectorbt")

STRATEGIES = ("cross", "inverse_volatility", "ranking")


def assert_fill_by_fill(traded: Traded) -> None:
    bars, *_ = market()
    ours = through_frames(bars, traded)
    first = min(traded.wanted)
    fills = ours.account.fills
    found = [
        (int(bar) + first, ours.panel.symbols[int(j)], shares, price)
        for bar, j, shares, price in zip(fills.bar, fills.symbol, fills.shares, fills.price, strict=True)
    ]
    assert [each[:2] for each in sorted(found)] == [each[:2] for each in traded.fills]
    assert len(found) > 10
    for at in (2, 3):
        assert [each[at] for each in sorted(found)] == pytest.approx([each[at] for each in traded.fills], rel=1e-9)
    assert ours.account.equity == pytest.approx(traded.value[first:], rel=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plain_backtrader_equals_the_same_decisions_through_frames(strategy: str) -> None:
    pytest.importorskip("backtrader")
    traded = in_backtrader(strategy)
    assert traded.refused == 0
    assert_fill_by_fill(traded)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plain_vectorbt_equals_the_same_decisions_through_frames(strategy: str) -> None:
    pytest.importorskip("vectorbt")
    assert_fill_by_fill(in_vectorbt(strategy))


def test_backtrader_refuses_orders_of_a_fully_invested_account_and_parts_from_ours() -> None:
    pytest.importorskip("backtrader")
    bars, *_ = market()
    traded = in_backtrader("inverse_volatility", gross=1.0)
    ours = through_frames(bars, traded)
    assert traded.refused > 0
    assert np.abs(ours.account.equity / traded.value[-len(ours.account.equity) :] - 1.0).max() > 1e-3


def test_vectorbt_fills_on_the_bar_of_the_signal_unless_it_is_shifted() -> None:
    pytest.importorskip("vectorbt")
    assert apart(in_vectorbt("ranking", at_once=True).value, in_vectorbt("ranking").value) > 1e-3
