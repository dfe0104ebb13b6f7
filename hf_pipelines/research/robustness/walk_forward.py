"""Walk-forward of a whole strategy: what its weekly models did in their weeks beside what they had promised.

Lives here: the ratio of both, and how sure it is. Not here: which weeks are stored, and the account that followed their issues
(`commands.walking`).

References
----------
Pardo (2008), "The Evaluation and Optimization of Trading Strategies", Wiley, chapter 11: walk-forward efficiency, the annualised return out
of sample over that in sample, and that half of it is a strategy that can be traded. His in-sample account is that of the fitted model on
its own training data; ours is the out-of-fold account over them, which is stricter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.metrics.account import ROUNDING_VOLATILITY

Floats = NDArray[np.float64]

ROLLING, ANCHORED = "rolling", "anchored"

# Fewer weeks have no interval: of their orders too few differ.
LEAST_WEEKS = 12
DRAWS = 2_000


@dataclass(frozen=True, eq=False)
class WalkedWeek:
    """One week of the walk.

    Attributes
    ----------
    week : str
    sessions : tuple of date
        Of the account that the model of the week was chosen by, all before the week.
    promised : array of shape (n_sessions,)
        Its returns.
    earned : array
        Returns of the sessions of the week, of the account that followed the issues.
    """

    week: str
    sessions: tuple[date, ...]
    promised: Floats
    earned: Floats


@dataclass(frozen=True)
class WalkForward:
    """What a walk came to.

    Attributes
    ----------
    kind : {"rolling", "anchored"}
        In sample each week's own window, or all that came before since the first.
    n_weeks, n_sessions : int
        Of the walk.
    return_in, return_out : float
        Mean annual return in sample and out of it.
    efficiency, low, high : float
        Out of sample over in sample, and bounds of 95 %; NaN where nothing was earned in sample, the bounds of fewer than
        `LEAST_WEEKS`, and where in more than one of 40 draws nothing was.
    sharpe_in, sharpe_out, sharpe_efficiency : float
        The same of the Sharpe ratio; NaN of returns that do not vary.
    """

    kind: str
    n_weeks: int
    n_sessions: int
    return_in: float
    return_out: float
    efficiency: float
    low: float
    high: float
    sharpe_in: float
    sharpe_out: float
    sharpe_efficiency: float


def walk_forward(weeks: Sequence[WalkedWeek], *, kind: str, sessions_per_year: float, seed: int = 0) -> WalkForward:
    """Efficiency of a walk.

    Parameters
    ----------
    weeks : sequence of WalkedWeek
        In order; weeks may be missing between them.
    kind : {"rolling", "anchored"}
    sessions_per_year : float
    seed : int
        Of the weeks that are drawn for the interval, with replacement.

    Returns
    -------
    WalkForward

    Raises
    ------
    ValueError
        If there is no week, or one without a session.
    """
    if not weeks or any(not len(each.earned) or not len(each.promised) for each in weeks):
        raise ValueError("`weeks` must hold a week, each with sessions in sample and out of it, did not.")
    inside = [each.promised for each in weeks] if kind == ROLLING else _since_the_first(weeks)
    sizes = np.array([len(each.earned) for each in weeks], dtype=np.float64)
    earned = np.array([each.earned.sum() for each in weeks])
    means = np.array([each.mean() for each in inside])
    ratios = np.array([_sharpe(each) for each in inside])
    out, within = earned.sum() / sizes.sum(), float(means @ sizes / sizes.sum())
    low, high = _bounds(earned, means, sizes, seed=seed)
    sharpe_in = float(ratios @ sizes / sizes.sum()) * math.sqrt(sessions_per_year)
    sharpe_out = _sharpe(np.concatenate([each.earned for each in weeks])) * math.sqrt(sessions_per_year)
    return WalkForward(
        kind=kind,
        n_weeks=len(weeks),
        n_sessions=int(sizes.sum()),
        return_in=within * sessions_per_year,
        return_out=float(out) * sessions_per_year,
        efficiency=float(out) / within if within > 0.0 else math.nan,
        low=low,
        high=high,
        sharpe_in=sharpe_in,
        sharpe_out=sharpe_out,
        sharpe_efficiency=sharpe_out / sharpe_in if sharpe_in > 0.0 else math.nan,
    )


def _since_the_first(weeks: Sequence[WalkedWeek]) -> list[Floats]:
    """For each week the returns of all sessions since the first window; of one that several have, the last week's."""
    known: dict[date, float] = {}
    found = []
    for each in weeks:
        known |= dict(zip(each.sessions, each.promised.tolist(), strict=True))
        found.append(np.array([*known.values()]))
    return found


def _bounds(earned: Floats, means: Floats, sizes: Floats, *, seed: int) -> tuple[float, float]:
    """Bounds of the efficiency, weeks drawn with replacement."""
    n = len(sizes)
    if n < LEAST_WEEKS:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(n, size=(DRAWS, n))
    within, out = (means * sizes)[drawn].sum(axis=1), earned[drawn].sum(axis=1)
    if (within <= 0.0).mean() > 0.025:
        return math.nan, math.nan
    ratio = out[within > 0.0] / within[within > 0.0]
    low, high = np.quantile(ratio, [0.025, 0.975])
    return float(low), float(high)


def _sharpe(returns: Floats) -> float:
    """Of a session; NaN of returns that do not vary."""
    if len(returns) < 2 or (spread := returns.std(ddof=1)) <= ROUNDING_VOLATILITY:
        return math.nan
    return float(returns.mean() / spread)
