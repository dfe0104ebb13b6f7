"""Reconciliation: do engines keep the same account, and where they part, on which bar, in what, and why.

Lives here: the comparison of accounts bar by bar, and the causes that it can name. Not here: the engines, and which weights and
bars are compared (`<strategy>/backtest`, `hfp reconcile`). Where three engines were run and the reference alone differs from
two that agree, the reference is the one that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import polars as pl

from hf_pipelines.research.backtest.divergence import Bar, cause_of_cash, cause_of_shares, cause_of_value
from hf_pipelines.research.backtest.panel import last_known
from hf_pipelines.research.backtest.result import BacktestResult

# Fraction of equity by which accounts may differ: engines add up in other orders, which costs some 1e-11.
TOLERANCE = 1e-6

REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first bar on which an engine parts from another.

    Attributes
    ----------
    engine, against : str
        The one that is named, and the one it is held to.
    bar, n_bars : int
        Row of the panel, and how many there are.
    session, ts : date and datetime
        Of the bar.
    symbol : str or None
        None where the cause lies in no single one.
    quantity : {"shares", "cash", "equity"}
        The first of these, in this order, that differs.
    expected, found : float
        Of `against` and of `engine`.
    cause : str
        In words.
    """

    engine: str
    against: str
    bar: int
    n_bars: int
    session: date
    ts: datetime
    symbol: str | None
    quantity: str
    expected: float
    found: float
    cause: str

    def __str__(self) -> str:
        """One sentence."""
        of = f" of {self.symbol}" if self.symbol else ""
        return (
            f"{self.engine} parts from {self.against} on {self.session} (bar {self.bar} of {self.n_bars}): {self.quantity}{of} "
            f"{self.found:,.10g}, {self.against} has {self.expected:,.10g}: {self.cause}"
        )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far apart two accounts are.

    Attributes
    ----------
    engine, against : str
    n_bars, n_symbols : int
    largest : mapping of str to float
        Largest difference of `equity`, `cash` and `shares` (by their value), as fractions of equity.
    divergence : Divergence or None
        None where they agree.
    """

    engine: str
    against: str
    n_bars: int
    n_symbols: int
    largest: Mapping[str, float]
    divergence: Divergence | None


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """What engines said to the same weights and bars.

    Attributes
    ----------
    agreements : tuple of Agreement
        One for each engine but the one that the others are held to.
    failed : mapping of str to str
        Engines that refused to finish what another one did, with their message.
    """

    agreements: tuple[Agreement, ...]
    failed: Mapping[str, str]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.failed and all(each.divergence is None for each in self.agreements)

    def findings(self) -> list[str]:
        """What differs, a sentence each."""
        parted = [str(each.divergence) for each in self.agreements if each.divergence is not None]
        return [*parted, *(f"{name} did not finish: {told}" for name, told in self.failed.items())]


def reconcile(runs: Mapping[str, Callable[[], BacktestResult]], *, tolerance: float = TOLERANCE) -> Reconciliation:
    """Run engines on the same weights and bars, and compare their accounts.

    Parameters
    ----------
    runs : mapping of engine to callable
        At least two; the first is what the others are held to, unless it alone differs from others that agree.
    tolerance : float
        Fraction of equity.

    Raises
    ------
    ValueError
        What the engines say, if all of them refuse.
    """
    results: dict[str, BacktestResult] = {}
    failed: dict[str, ValueError] = {}
    for name, run in runs.items():
        try:
            results[name] = run()
        except ValueError as e:
            failed[name] = e
    if not results:
        raise next(iter(failed.values()))
    names = list(results)
    against = _judge(results, tolerance)
    return Reconciliation(
        agreements=tuple(
            compare_accounts(results[name], results[against], engine=name, against=against, tolerance=tolerance)
            for name in names
            if name != against
        ),
        failed={name: str(e) for name, e in failed.items()},
    )


def _judge(results: Mapping[str, BacktestResult], tolerance: float) -> str:
    """The engine that the others are held to: the first, unless two others agree against it."""
    first, *others = results
    if len(others) < 2:
        return first
    differs = [np.isfinite(_first_bar(results[name], results[first], tolerance)) for name in others]
    agree = not np.isfinite(_first_bar(results[others[0]], results[others[1]], tolerance))
    return others[0] if all(differs) and agree else first


def _gaps(found: BacktestResult, expected: BacktestResult) -> dict[str, np.ndarray]:
    """Differences as fractions of equity, by bar; those of shares by symbol too."""
    equity = np.maximum(np.abs(expected.account.equity), np.finfo(np.float64).tiny)
    price = np.nan_to_num(last_known(expected.panel.close))
    held = np.abs(found.account.positions - expected.account.positions) * price / equity[:, None]
    return {
        "shares": held,
        "cash": np.abs(found.account.cash - expected.account.cash) / equity,
        "equity": np.abs(found.account.equity - expected.account.equity) / equity,
    }


def _first_bar(found: BacktestResult, expected: BacktestResult, tolerance: float) -> float:
    gaps = _gaps(found, expected)
    # What is no number is no agreement.
    bad = ~(gaps["shares"] <= tolerance).all(axis=1) | ~(gaps["cash"] <= tolerance) | ~(gaps["equity"] <= tolerance)
    rows = np.flatnonzero(bad)
    return float(rows[0]) if len(rows) else np.inf


def compare_accounts(
    found: BacktestResult, expected: BacktestResult, *, engine: str, against: str, tolerance: float = TOLERANCE
) -> Agreement:
    """Hold the account of an engine to that of another, on the same panel."""
    gaps = _gaps(found, expected)
    first = _first_bar(found, expected, tolerance)
    divergence = None
    if np.isfinite(first):
        bar = int(first)
        context = Bar(bar=bar, found=found, expected=expected, tolerance=tolerance)
        if not (gaps["shares"][bar] <= tolerance).all():
            column: int | None = int(np.nan_to_num(gaps["shares"][bar], nan=np.inf).argmax())
            quantity, cause = "shares", cause_of_shares(context, int(column or 0))
            values = (expected.account.positions[bar, column], found.account.positions[bar, column])
        elif not gaps["cash"][bar] <= tolerance:
            quantity, (column, cause) = "cash", cause_of_cash(context)
            values = (expected.account.cash[bar], found.account.cash[bar])
        else:
            quantity, (column, cause) = "equity", cause_of_value(context)
            values = (expected.account.equity[bar], found.account.equity[bar])
        panel = expected.panel
        divergence = Divergence(
            engine=engine,
            against=against,
            bar=bar,
            n_bars=len(panel.ts),
            session=panel.session[bar],
            ts=panel.ts[bar],
            symbol=None if column is None else panel.symbols[column],
            quantity=quantity,
            expected=float(values[0]),
            found=float(values[1]),
            cause=cause,
        )
    return Agreement(
        engine=engine,
        against=against,
        n_bars=len(expected.panel.ts),
        n_symbols=len(expected.panel.symbols),
        largest={name: float(values.max(initial=0.0)) for name, values in gaps.items()},
        divergence=divergence,
    )


def sample_of(
    weights: pl.DataFrame, bars: pl.DataFrame, *, n_symbols: int, n_bars: int, seed: Sequence[int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Weights and bars of some symbols, drawn by a seed, over the last bars.

    A decision at a time at which none of them has a bar is left out.
    """
    traded = weights.filter(pl.col("weight") != 0.0)["symbol"].unique().sort().to_list()
    rng = np.random.default_rng(list(seed))
    chosen = sorted(rng.choice(traded, size=min(n_symbols, len(traded)), replace=False).tolist()) if traded else []
    bars = bars.filter(pl.col("symbol").is_in(chosen))
    times = bars["ts"].unique().sort()
    times = times.filter(times >= weights["ts"].min()).tail(n_bars)
    return tuple(
        each.filter(pl.col("symbol").is_in(chosen) & pl.col("ts").is_in(times.implode())) for each in (weights, bars)
    )  # type: ignore[return-value]  # two of them
