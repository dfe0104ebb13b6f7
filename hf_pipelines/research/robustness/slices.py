"""Slices: parts of an account, by when it was and by what it held.

Regimes are of the session before: what a return is sorted by was known before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hf_pipelines.research.robustness.kept import Flags, Floats, Row, Tested

# Sessions that a regime looks back on, and those that it must have seen before it says anything.
VOLATILITY_SESSIONS, TREND_SESSIONS, CORRELATION_SESSIONS, LEAST_HISTORY = 21, 63, 63, 63

# Symbols with a row of their own: those that move the account most.
SHOWN_SYMBOLS = 20


def by_year(tested: Tested) -> Iterator[Row]:
    """Each calendar year."""
    years = np.array([day.year for day in tested.sessions])
    for year in np.unique(years):
        yield tested.row("year", str(year), tested.returns[years == year])


def by_volatility(tested: Tested) -> Iterator[Row]:
    """Sessions after a calm and after a wild month of the market, by the middle of what was seen until then."""
    yield from _two(tested, "volatility", ("calm", "wild"), above_its_past(trailing_volatility(tested.market)))


def by_trend(tested: Tested) -> Iterator[Row]:
    """Sessions after a quarter in which the market fell, and in which it rose."""
    past = _trailing_sum(np.log1p(tested.market), TREND_SESSIONS)
    yield from _two(tested, "trend", ("falling", "rising"), np.where(np.isnan(past), np.nan, past > 0.0))


def by_correlation(tested: Tested) -> Iterator[Row]:
    """Sessions after a quarter in which symbols went apart, and together, by the middle of what was seen until then."""
    if tested.growth.shape[1] < 2 or len(tested.growth) != len(tested.sessions) + 1:
        return
    yield from _two(tested, "correlation", ("apart", "together"), above_its_past(trailing_correlation(tested)))


def by_symbol(tested: Tested) -> Iterator[Row]:
    """What the account would have been with the weights of one symbol alone, of those that move it most."""
    order = np.argsort(-np.abs(tested.contributions), kind="stable")[:SHOWN_SYMBOLS]
    for at in order:
        if tested.panel.weights[:, at].any():
            yield tested.row(
                "symbol", tested.panel.symbols[int(at)], only(tested, np.arange(len(tested.panel.symbols)) == at)
            )


def by_sector(tested: Tested) -> Iterator[Row]:
    """With the weights of one sector alone."""
    names = np.array([tested.sectors.get(symbol, "") for symbol in tested.panel.symbols])
    for sector in sorted({*names} - {""}):
        yield tested.row("sector", sector, only(tested, names == sector))


def only(tested: Tested, is_kept: Flags) -> Floats:
    """Returns of the account of some columns; what it would have held of others stays in cash."""
    return tested.kept(replace(tested.panel, weights=np.where(is_kept, tested.panel.weights, 0.0)))


def trailing_volatility(market: Floats) -> Floats:
    """Root of the mean square of the last returns before each session; NaN before there are enough."""
    return np.sqrt(_trailing_sum(market**2, VOLATILITY_SESSIONS) / VOLATILITY_SESSIONS)


def trailing_correlation(tested: Tested) -> Floats:
    """Mean correlation of pairs of symbols over the last sessions before each, by the variance of their mean; NaN before there are enough.

    Of standardised returns z of n symbols the variance of the mean is (1 + (n - 1) rho) / n.
    """
    growth = tested.growth[1:] - 1.0
    found = np.full(len(growth), np.nan)
    for at in range(CORRELATION_SESSIONS, len(growth)):
        window = growth[at - CORRELATION_SESSIONS : at]
        window = window[:, np.isfinite(window).all(axis=0)]
        deviation = window.std(axis=0)
        window = window[:, deviation > 0.0]
        n = window.shape[1]
        if n > 1:
            scaled = (window - window.mean(axis=0)) / window.std(axis=0)
            found[at] = (n * scaled.mean(axis=1).var() - 1.0) / (n - 1.0)
    return found


def above_its_past(values: Floats) -> Floats:
    """1.0 where a value is above the middle of those before it, 0.0 where not, NaN before `LEAST_HISTORY` of them are known."""
    found = np.full(len(values), np.nan)
    known: list[float] = []
    for at, value in enumerate(values):
        if not np.isfinite(value):
            continue
        if len(known) >= LEAST_HISTORY:
            found[at] = float(value > np.median(known))
        known.append(float(value))
    return found


def _trailing_sum(values: Floats, n: int) -> Floats:
    """Sum of the `n` values before each one; NaN before there are so many."""
    total = np.cumsum(np.append(0.0, values))
    found = np.full(len(values), np.nan)
    if len(values) > n:
        found[n:] = total[n:-1] - total[: -n - 1]
    return found


def _two(tested: Tested, test: str, names: tuple[str, str], regime: Floats) -> Iterator[Row]:
    for name, value in zip(names, (0.0, 1.0), strict=True):
        # A regime that was never there has earned nothing, not 0.
        if (at := regime == value).any():
            yield tested.row(test, name, tested.returns[at])
