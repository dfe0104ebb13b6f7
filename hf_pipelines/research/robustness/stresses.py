"""Stresses: the account under other conditions, each kept again by the reference engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np

from hf_pipelines.research.backtest.panel import TradingPanel
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.metrics.bootstrap import draw_stationary, politis_white_block
from hf_pipelines.research.robustness.kept import Floats, Row, Tested
from hf_pipelines.research.robustness.slices import only

DELAYS = (1, 2)
COST_FACTORS = (2.0, 4.0)
BEST_SESSIONS = 5
PATHS = 1_000
PATH_LEVELS = {
    "5 % quantile of other orders": 0.05,
    "median of other orders": 0.5,
    "95 % quantile of other orders": 0.95,
}
SHOCKS = {"every position 10 % against it": (0.1, True), "every price 20 % lower": (-0.2, False)}
# What happened to a share overnight can happen to it again, and to all that are held at once. Shares of few bars have not had theirs.
LEAST_GAP = 0.05
GAP = "every position opens against it by its widest gap"

# First and last day of declines that any book of shares should be held to.
WINDOWS: dict[str, tuple[date, date]] = {
    "fall of Lehman": (date(2008, 9, 12), date(2008, 11, 20)),
    "flash crash": (date(2010, 5, 5), date(2010, 5, 7)),
    "downgrade of US debt": (date(2011, 7, 22), date(2011, 8, 8)),
    "devaluation of the yuan": (date(2015, 8, 17), date(2015, 8, 25)),
    "end of the volatility trade": (date(2018, 1, 26), date(2018, 2, 8)),
    "winter of 2018": (date(2018, 12, 3), date(2018, 12, 24)),
    "pandemic": (date(2020, 2, 19), date(2020, 3, 23)),
    "rise of rates": (date(2022, 1, 3), date(2022, 6, 16)),
}


def as_traded(tested: Tested) -> Iterator[Row]:
    """The account as it is."""
    yield tested.row("as traded", "as traded", tested.returns)


def later(tested: Tested) -> Iterator[Row]:
    """Every decision acted on one and two bars later."""
    panel = tested.panel
    for bars in DELAYS:
        if bars >= len(panel.ts):
            return
        weights, is_decision = np.zeros_like(panel.weights), np.zeros_like(panel.is_decision)
        weights[bars:], is_decision[bars:] = panel.weights[:-bars], panel.is_decision[:-bars]
        # A symbol that has no bar on the later one cannot be sized there.
        weights = np.where(np.isnan(panel.close), 0.0, weights)
        returns = tested.kept(replace(panel, weights=weights, is_decision=is_decision))
        yield tested.row("delay", f"{bars} bar{'s' * (bars > 1)} later", returns)


def at_the_close(tested: Tested) -> Iterator[Row]:
    """Filled at the very close that a decision was taken on, which nobody can: what is earned only then is not there to earn."""
    panel = tested.panel
    opened = np.array(panel.open)
    before = panel.close[:-1] / panel.split_ratio[1:] - panel.dividend[1:]
    opened[1:] = np.where(np.isfinite(before) & np.isfinite(panel.open[1:]) & (before > 0.0), before, panel.open[1:])
    execution = replace(tested.execution, fill="next_open")
    yield tested.row(
        "close", "filled at the close of its decision", tested.kept(replace(panel, open=opened), execution=execution)
    )


def dearer(tested: Tested) -> Iterator[Row]:
    """Every kind of costs twice and four times as high."""
    costs = tested.costs
    for factor in COST_FACTORS:
        yield tested.row("costs", f"costs x {factor:g}", tested.kept(tested.panel, costs=costs.times(factor)))


def without_the_best(tested: Tested) -> Iterator[Row]:
    """Without its best five sessions, and without the symbol that adds most."""
    returns = tested.returns
    best = np.argsort(-np.nan_to_num(returns, nan=-np.inf), kind="stable")[:BEST_SESSIONS]
    yield tested.row("without", f"without its best {BEST_SESSIONS} sessions", np.delete(returns, best))
    if len(tested.panel.symbols) > 1:
        at = int(np.argmax(tested.contributions))
        others = only(tested, np.arange(len(tested.panel.symbols)) != at)
        yield tested.row("without", f"without {tested.panel.symbols[at]}", others)


def other_paths(tested: Tested) -> Iterator[Row]:
    """Quantiles over paths of the same sessions in another order: the stationary bootstrap, blocks by Politis and White."""
    returns = tested.returns[np.isfinite(tested.returns)]
    if not len(returns):
        return
    # An account that stands still until its last sessions has parts without any variance: blocks are longer then.
    with np.errstate(divide="ignore", invalid="ignore"):
        block_sessions = politis_white_block(returns)
    draws = draw_stationary(len(returns), block_sessions=block_sessions, seed=0, n_resamples=PATHS)
    if draws is None:
        return
    paths = returns[draws.order]
    ordered = np.argsort(np.prod(1.0 + paths, axis=1), kind="stable")
    for name, level in PATH_LEVELS.items():
        yield tested.row("paths", name, paths[ordered[round(level * (PATHS - 1))]])


def shocks(tested: Tested) -> Iterator[Row]:
    """What one move at the worst moment would have cost, of what was held at any close."""
    account = tested.account
    equity = account.equity
    if not (equity > 0.0).all():
        return
    for name, (move, is_against) in SHOCKS.items():
        exposed = -move * account.gross_value if is_against else move * account.net_value
        yield tested.row("shock", name, np.array([float(np.maximum((exposed / equity).min(), -1.0))]))
    yield from _opening_gap(tested)


def _opening_gap(tested: Tested) -> Iterator[Row]:
    """What the worst night would have cost: nobody trades while prices move, and orders of that close are filled after it.

    A long position opens lower by the widest fall overnight that its symbol had, a short one higher by the widest rise. Other prices open where they
    closed, and all stay there: the return is that from the close to the open, with the costs of the orders that are filled there.
    """
    panel, account = tested.panel, tested.account
    nights = tested.nights
    if not len(nights):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        before = panel.close[nights] / panel.split_ratio[nights + 1] - panel.dividend[nights + 1]
        opened = panel.open[nights + 1]
        gap = np.where(before > 0.0, opened / before - 1.0, np.nan)
    fall = np.maximum(-np.nanmin(gap, axis=0, initial=0.0), LEAST_GAP)
    rise = np.maximum(np.nanmax(gap, axis=0, initial=0.0), LEAST_GAP)
    shares = account.positions[nights]
    against = np.where(shares > 0.0, -fall, np.where(shares < 0.0, rise, 0.0))
    # A symbol that has no bar after the night does not open.
    cost = np.where(np.isfinite(gap), shares * panel.close[nights] * against, 0.0).sum(axis=1)
    worst = int(np.argmin(cost / account.equity[nights]))
    night = int(nights[worst])
    prices = np.where(np.isfinite(gap[worst]), before[worst] * (1.0 + against[worst]), opened[worst])
    equity = simulate_panel(_with_row(panel, night + 1, prices), tested.costs, tested.execution).equity
    yield tested.row("shock", GAP, np.array([max(float(equity[night + 1] / equity[night] - 1.0), -1.0)]))


def _with_row(panel: TradingPanel, at: int, prices: Floats) -> TradingPanel:
    """The panel with other prices on a row, on which nothing moves."""

    def changed(values: Floats) -> Floats:
        found = np.array(values)
        found[at] = prices
        return found

    high, low = (None if each is None else changed(each) for each in (panel.high, panel.low))
    return replace(panel, open=changed(panel.open), close=changed(panel.close), high=high, low=low)


def windows(tested: Tested) -> Iterator[Row]:
    """Historical declines that the bars hold from their first day to their last."""
    days = np.array(tested.sessions, dtype="datetime64[D]")
    for name, (first, last) in WINDOWS.items():
        within = (days > np.datetime64(first)) & (days <= np.datetime64(last))
        if len(days) and days[0] <= np.datetime64(first) and days[-1] >= np.datetime64(last) and within.any():
            yield tested.row("window", f"{name} ({first} to {last})", tested.returns[within])
