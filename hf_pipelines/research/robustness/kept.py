"""An account that is tested, and how it is kept under other conditions.

Lives here: `Tested`, returns by session, the numbers of a row. Not here: the conditions (`stresses`, `slices`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.backtest.account import Account
from hf_pipelines.research.backtest.panel import TradingPanel, growth_of
from hf_pipelines.research.backtest.reference import simulate_panel
from hf_pipelines.research.backtest.result import Execution
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.metrics.account import ANNUAL_SESSIONS, sharpe_ratio
from hf_pipelines.research.metrics.sharpe_error import sharpe_interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One test of an account.

    Attributes
    ----------
    test : str
        A key of `TESTS`.
    name : str
        Such as "2012", "2 bars later".
    n_sessions : int
        Sessions with a return.
    sharpe, low, high : float
        Annual, with the bounds of 95 %; NaN of fewer than 60 sessions.
    total_return : float
        -1.0 of an account that is ruined.
    max_drawdown : float
    """

    test: str
    name: str
    n_sessions: int
    sharpe: float
    low: float
    high: float
    total_return: float
    max_drawdown: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Tested:
    """A strategy's decisions, and what its account is kept by.

    Attributes
    ----------
    panel : TradingPanel
        Its weights and the bars that they trade.
    costs : Costs
    execution : Execution
    sessions_per_year : float
    sectors : mapping of symbol to str
        Of members that have one.
    """

    panel: TradingPanel
    costs: Costs
    execution: Execution
    sessions_per_year: float
    sectors: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sessions(self) -> list[date]:
        """Sessions that returns are of: all but the first."""
        days: list[date] = self.panel.session.to_list()
        return [days[at] for at in self._last_rows[1:]]

    @cached_property
    def _last_rows(self) -> NDArray[np.int64]:
        """Last row of each session."""
        days = self.panel.session.to_physical().to_numpy()
        return np.flatnonzero(np.append(days[1:] != days[:-1], True))

    @property
    def nights(self) -> NDArray[np.int64]:
        """Last row of each session but the last: the next one opens after it."""
        return self._last_rows[:-1]

    @cached_property
    def account(self) -> Account:
        """As the strategy is traded."""
        return simulate_panel(self.panel, self.costs, self.execution)

    @cached_property
    def returns(self) -> Floats:
        """Return of each of `sessions`."""
        return self.by_session(self.account)

    def by_session(self, account: Account) -> Floats:
        """Returns of an account by session; after its ruin NaN, and -1.0 on that session."""
        equity = account.equity[self._last_rows]
        ruined = np.flatnonzero(account.equity <= 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = equity[1:] / equity[:-1] - 1.0
        if len(ruined):
            at = int(np.searchsorted(self._last_rows, ruined[0]))
            found[max(at - 1, 0) :] = np.nan
            found[max(at - 1, 0)] = -1.0
        return np.asarray(found)

    def kept(self, panel: TradingPanel, costs: Costs | None = None, execution: Execution | None = None) -> Floats:
        """Returns by session of the account of another panel, or with other costs."""
        return self.by_session(simulate_panel(panel, costs or self.costs, execution or self.execution))

    @cached_property
    def growth(self) -> Floats:
        """See `growth_of`."""
        return growth_of(self.panel)

    @cached_property
    def market(self) -> Floats:
        """Return of an equal part of every symbol that has a bar, of each of `sessions`; 0 where none has."""
        there = np.isfinite(self.growth)
        mean = np.where(there, self.growth, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        logs = np.log(np.where(there.any(axis=1), mean, 1.0))
        total = np.cumsum(logs)[self._last_rows]
        return np.asarray(np.expm1(np.diff(total)))

    @cached_property
    def contributions(self) -> Floats:
        """What each symbol adds to the log of equity, roughly: weights that were decided times what its shares gained a bar later."""
        # A weight is filled on the bar after its decision and earns from that bar on.
        decided = self.panel.decided_before(np.arange(1, len(self.panel.ts) - 1))
        held = np.where(decided[:, None] >= 0, self.panel.weights[np.maximum(decided, 0)], 0.0)
        return np.asarray(np.nansum(held * (self.growth[2:] - 1.0), axis=0))

    def row(self, test: str, name: str, returns: Floats) -> Row:
        """Numbers of returns, in the order of time."""
        known = returns[np.isfinite(returns)]
        equity = np.cumprod(np.append(1.0, 1.0 + known))
        is_ruined = bool((known <= -1.0).any())
        ratio, low, high = math.nan, math.nan, math.nan
        if len(known) >= ANNUAL_SESSIONS and not is_ruined:
            ratio = sharpe_ratio(known, periods_per_year=self.sessions_per_year)
            low, high = sharpe_interval(known, periods_per_year=self.sessions_per_year)
        return Row(
            test=test,
            name=name,
            n_sessions=len(known),
            sharpe=ratio,
            low=low,
            high=high,
            total_return=-1.0 if is_ruined else float(equity[-1] - 1.0),
            max_drawdown=float((1.0 - equity / np.maximum.accumulate(equity)).max()),
        )
