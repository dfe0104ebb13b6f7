"""Signs: by what a strategy is known that lives on one thing.

Most signs are given only of an account that claims something: whose Sharpe ratio is above zero with its whole interval. What rare
sessions made or will take has no such interval, however steep its curve: signs of it need an account that has earned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.metrics.account import ANNUAL_SESSIONS, ROUNDING_VOLATILITY
from hf_pipelines.research.metrics.ranks import newey_west_lags
from hf_pipelines.research.robustness.kept import Tested
from hf_pipelines.research.robustness.stresses import BEST_SESSIONS
from hf_pipelines.research.wording import number_of, some_of

# So much of what an account earns must be left without one thing.
LEAST_LEFT = 0.5

# Of the best sessions: their share of all that is earned, and how many times what as many normal returns would have.
MOST_OF_BEST, MOST_OF_NORMAL = 2.0 / 3.0, 2.0

# In standard errors of a mean of independent returns: below it nothing was earned that could live on anything.
LEAST_EARNED = 1.0

# Bars without a price after which nobody can be sure to sell, and the share of equity from which that is told.
STALE_BARS, LEAST_STRANDED = 5, 0.01

# How sure the slope on large moves must be, in standard errors; over all of a fund's strategies a false sign must stay rare.
LEAST_T = 4.0


@dataclass(frozen=True)
class Sign:
    """Something that an account lives on.

    Attributes
    ----------
    name : str
        A key of `SIGNS`.
    told : str
        Its numbers, in a sentence.
    """

    name: str
    told: str


def signs_of(tested: Tested, table: pl.DataFrame) -> list[Sign]:
    """Signs of an account.

    Parameters
    ----------
    tested : Tested
    table : DataFrame
        What `robustness_table` made of it.

    Returns
    -------
    list of Sign
        Empty for an account that claims nothing.
    """
    claims = (_row(table, "as traded")["low"] or 0.0) > 0.0
    return [
        Sign(name, told)
        for name, (find, needs_claim) in SIGNS.items()
        if claims or not needs_claim
        for told in find(tested, table)
    ]


def judge_signs(names: Sequence[str], low: float | None) -> str:
    """What is to be said of an account by its signs, in a line.

    Parameters
    ----------
    names : sequence of str
        Of its signs.
    low : float or None
        Lower bound of its Sharpe ratio as it is traded; None where it has none.

    Examples
    --------
    >>> judge_signs((), 0.3), judge_signs(["sells volatility"], 0.3)
    ('no sign that it lives on one thing', 'sells volatility')
    >>> judge_signs((), None)
    'its Sharpe ratio is not above zero with certainty: what it lives on is not asked'
    """
    if names:
        return ", ".join(names)
    if (low or 0.0) > 0.0:
        return "no sign that it lives on one thing"
    return "its Sharpe ratio is not above zero with certainty: what it lives on is not asked"


def lives_on_one_symbol(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """Without its best symbol less than half of the Sharpe ratio is left, and it may be nothing."""
    whole = _row(table, "as traded")
    for row in table.filter(pl.col("test") == "without", ~pl.col("name").str.contains("sessions")).iter_rows(
        named=True
    ):
        if row["sharpe"] is None or (row["sharpe"] < LEAST_LEFT * whole["sharpe"] and row["low"] <= 0.0):
            yield f"{row['name']} its Sharpe ratio is {_shown(row['sharpe'])}, with it {_shown(whole['sharpe'])}"


def lives_on_few_sessions(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """Most of what it earns comes from its best five sessions, which are far better than chance makes five of so many."""
    from scipy.special import ndtri

    logs = np.sort(np.log1p(tested.returns[np.isfinite(tested.returns) & (tested.returns > -1.0)]))
    n, total = len(logs), float(logs.sum())
    if n < ANNUAL_SESSIONS or logs.std() <= ROUNDING_VOLATILITY or total < LEAST_EARNED * logs.std() * np.sqrt(n):
        return
    best = float(logs[-BEST_SESSIONS:].sum())
    # Blom's places of the largest of n normal numbers; their scale by the middle half, which knows no outlier.
    places = (np.arange(n - BEST_SESSIONS, n) + 1.0 - 0.375) / (n + 0.25)
    scale = float(np.subtract(*np.quantile(logs, [0.75, 0.25]))) / (2.0 * float(ndtri(0.75)))
    if best > MOST_OF_BEST * total and best > MOST_OF_NORMAL * scale * float(ndtri(places).sum()):
        yield f"its best {BEST_SESSIONS} sessions earned {best / total:.0%} of all that it earned in {n}"


def sells_volatility(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """It earns a little while the market is calm and loses where it moves much, whichever way."""
    known = np.isfinite(tested.returns)
    returns, moves = tested.returns[known], np.abs(tested.market[known])
    if len(returns) < ANNUAL_SESSIONS or moves.std() <= ROUNDING_VOLATILITY or not returns.mean() > 0.0:
        return
    slope, error = _slope(moves, returns)
    large = moves >= np.quantile(moves, 0.9)
    if slope < -LEAST_T * error and returns[large].mean() < 0.0 < returns[~large].mean():
        yield (
            f"on the tenth of the sessions on which the market moved most it lost {-returns[large].mean():.2%} a session, on the others "
            f"it earned {returns[~large].mean():.2%}"
        )


def needs_the_price_of_the_close(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """It earns where it is filled at the very close that it was decided on, and less than half of that a bar later."""
    at_close, traded = _row(table, "filled at the close of its decision"), _row(table, "as traded")
    if at_close["low"] is None or traded["sharpe"] is None:
        return
    if at_close["low"] > 0.0 and traded["sharpe"] < LEAST_LEFT * at_close["sharpe"]:
        yield f"filled at the close its Sharpe ratio would be {at_close['sharpe']:.2f}, as traded it is {traded['sharpe']:.2f}"


def decays_within_a_bar(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """Acted on a bar later, less than half of it is left, and it may be nothing."""
    whole, delayed = _row(table, "as traded"), _row(table, "1 bar later")
    if delayed["sharpe"] is None or (delayed["sharpe"] < LEAST_LEFT * whole["sharpe"] and delayed["low"] <= 0.0):
        yield f"a bar later its Sharpe ratio is {_shown(delayed['sharpe'])}, as traded {_shown(whole['sharpe'])}"


def dies_of_costs(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """With costs twice as high nothing is left."""
    row = _row(table, "costs x 2")
    if row["sharpe"] is None or row["sharpe"] <= 0.0:
        yield f"with costs twice as high its Sharpe ratio is {_shown(row['sharpe'])}"


def holds_nothing(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """An account that never held a position: every test of it is of cash."""
    if len(tested.returns) and not tested.account.gross_value.any():
        yield f"no position on any of {number_of(len(tested.returns), 'session')}: nothing is tested"


def holds_what_trades_no_more(tested: Tested, table: pl.DataFrame) -> Iterator[str]:
    """Shares that nobody could sell are counted at their last price to the end."""
    close, account = tested.panel.close, tested.account
    if len(close) <= STALE_BARS or not account.equity[-1] > 0.0:
        return
    stale = ~np.isfinite(close[-STALE_BARS:]).any(axis=0) & (account.positions[-1] != 0.0)
    at = np.flatnonzero(stale)
    last = [close[np.isfinite(close[:, each]), each][-1] for each in at]
    share = float(np.abs(account.positions[-1][at] * last).sum() / account.equity[-1])
    if share >= LEAST_STRANDED:
        names = some_of([tested.panel.symbols[int(each)] for each in at])
        yield (
            f"at the end {share:.1%} of its equity is in {names}, without a bar for {STALE_BARS} bars and more, at the last price; say in "
            "`backtest` what becomes of them: `delisted_after_bars`, `delisting_haircut`"
        )


# Name: how it is found, and whether the account must claim something as it is traded.
SIGNS: dict[str, tuple[Callable[[Tested, pl.DataFrame], Iterator[str]], bool]] = {
    "lives on one symbol": (lives_on_one_symbol, True),
    "lives on few sessions": (lives_on_few_sessions, False),
    "sells volatility": (sells_volatility, False),
    "needs the price of the close": (needs_the_price_of_the_close, False),
    "decays within a bar": (decays_within_a_bar, True),
    "dies of costs": (dies_of_costs, True),
    "holds nothing": (holds_nothing, False),
    "holds what trades no more": (holds_what_trades_no_more, False),
}


def _row(table: pl.DataFrame, name: str) -> dict[str, Any]:
    found = table.filter(pl.col("name") == name)
    empty = dict.fromkeys(("sharpe", "low", "high", "total_return"))
    return found.row(0, named=True) if found.height else empty


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of a line, and its standard error by Newey and West."""
    n = len(x)
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    scores = centred * (y - y.mean() - slope * centred)
    total = float(scores @ scores)
    lags = newey_west_lags(n)
    for lag in range(1, lags + 1):
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * float(scores[lag:] @ scores[:-lag])
    return slope, float(np.sqrt(max(total, 0.0)) / (centred @ centred))
