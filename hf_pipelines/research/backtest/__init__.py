"""Backtest engines: (target weights, bars, costs, execution) -> `BacktestResult`.

Lives here: the registry of engines, one module each, and what each can simulate. Shared by all of them: `panel.py` (frames to
aligned arrays), `running.py` (frames to result) and `result.py` (account to frames). Not here: how weights are made (`signals`), costs
themselves (`costs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import polars as pl

from hf_pipelines.research.backtest.account import Account, Fills
from hf_pipelines.research.backtest.backtrader_engine import run_backtrader
from hf_pipelines.research.backtest.panel import Fill, TradingPanel, build_trading_panel
from hf_pipelines.research.backtest.reference import run_backtest, run_reference, simulate
from hf_pipelines.research.backtest.result import BacktestResult, Execution, build_result, limits_of
from hf_pipelines.research.backtest.vectorbt_engine import run_vectorbt
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.costs import Costs

__all__ = [
    "CAPABILITIES",
    "ENGINES",
    "Account",
    "BacktestResult",
    "Engine",
    "Execution",
    "Fill",
    "Fills",
    "INSTALL_ENGINES",
    "RunBacktest",
    "TradingPanel",
    "asked_of_engine",
    "build_result",
    "build_trading_panel",
    "missing_modules",
    "require_capable",
    "require_engine",
    "run_backtest",
    "simulate",
]

INSTALL_ENGINES = "install the extra: pip install 'hf_pipelines[engines]'"

# What a strategy may ask of an engine; an engine names those that it simulates.
CAPABILITIES: dict[str, str] = {
    "next_open": "fills at the open of the bar after the decision",
    "next_close": "fills at the close of the bar after the decision",
    "next_vwap_proxy": "fills at (high + low + close) / 3 of the bar after the decision",
    "splits": "shares held and ordered are multiplied by the split ratio of the bars",
    "dividends": "cash paid on the shares held overnight",
    "missing_bars": "an order of a symbol without a bar is dropped and counted, its position valued at the last close",
    "fees": "a commission in basis points of the traded notional",
    "slippage": "slippage in basis points of the traded notional",
    "shorts": "negative positions",
    "leverage": "absolute weights that add up to more than equity",
    "borrow_fee": "a fee on borrowed shares for each calendar day",
    "participation": "fills up to a share of the bar's volume; what is left waits",
    "lots": "positions in whole lots",
    "cash_limit": "sells first, then buys scaled down to the cash there is",
    "delistings": "a position in a symbol that is gone is paid out, less a haircut",
    "t_plus_one": "no sale in the session of the purchase",
    # A kind of costs is one by its name: an engine that does not list it is refused, never silent.
    **{kind.name: kind.formula for kind in COST_KINDS.values()},
}


class RunBacktest(Protocol):
    """The call every engine answers; `reference.run_backtest` says what each argument means."""

    def __call__(
        self,
        weights: pl.DataFrame,
        bars: pl.DataFrame,
        costs: Costs,
        execution: Execution,
        *,
        periods_per_year: float,
    ) -> BacktestResult:
        """Simulate an account that follows `weights`; what it does not know of costs or execution it does not ignore."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A way to run a backtest.

    Attributes
    ----------
    name : str
        Key in `ENGINES`.
    run : RunBacktest
        Makes an `Account` with the engine's own fills and hands it to `build_result`.
    capabilities : frozenset of str
        Keys of `CAPABILITIES` that it simulates; a strategy that asks for more is refused when its YAML is loaded.
    summary : str
        One line for people choosing an engine.
    needs : tuple of str
        Modules of the extra `engines` that it imports; a strategy that names it is refused without them.
    keeps_contract : bool
        Whether it books as the reference does, so that reconciliation holds it to that bar by bar.
    """

    name: str
    run: RunBacktest
    capabilities: frozenset[str]
    summary: str
    needs: tuple[str, ...] = ()
    keeps_contract: bool = False


def asked_of_engine(costs: Costs, execution: Execution, *, shorts: bool, max_gross: float) -> dict[str, str]:
    """Capabilities that a backtest needs, each with what asks for it.

    Parameters
    ----------
    costs : Costs
    execution : Execution
    shorts : bool
        Whether the signal rule gives negative weights.
    max_gross : float
        What its absolute weights add up to, at most.

    Returns
    -------
    dict of str to str
        Capability (a key of `CAPABILITIES`) to the setting or data that asks for it.
    """
    asked = {
        "fees": ("fee_bps", costs.fee_bps > 0.0),
        "slippage": ("slippage_bps", costs.slippage_bps > 0.0),
        "borrow_fee": ("borrow_bps_per_year", costs.borrow_bps_per_year > 0.0),
        "shorts": ("the signal rule", shorts),
        "leverage": ("the signal rule", max_gross > 1.0),
    }
    fields = {
        "participation": "participation",
        "lots": "lot_size",
        "cash_limit": "cash_limit",
        "delistings": "delisted_after_bars",
        "t_plus_one": "t_plus_one",
    }
    limits = {name: fields[name] for name in limits_of(execution)}
    always = {execution.fill: "fill", "splits": "the bars", "dividends": "the bars", "missing_bars": "the bars"}
    kinds = {name: f"costs.{name}" for name, _ in costs.kinds}
    return (
        always | limits | kinds | {capability: source for capability, (source, is_asked) in asked.items() if is_asked}
    )


def require_capable(engine: str, asked: Mapping[str, str]) -> None:
    """Refuse an engine that does not simulate what is asked for.

    Parameters
    ----------
    engine : str
        A key of `ENGINES`.
    asked : mapping of str to str
        From `asked_of_engine`.

    Raises
    ------
    ValueError
        With what lacks, what asks for it, and the engines that can.
    """
    if not (lacking := sorted(set(asked) - ENGINES[engine].capabilities)):
        return
    able = [name for name, entry in ENGINES.items() if set(asked) <= entry.capabilities]
    raise ValueError(
        f"`backtest.engine` must simulate {', '.join(f'{each} ({asked[each]})' for each in lacking)}, was {engine}, which does "
        f"not; take {' or '.join(able) or 'less'}, or do not ask for it."
    )


def missing_modules(engine: str) -> list[str]:
    """Modules that an engine needs and that are not installed here."""
    return [name for name in ENGINES[engine].needs if find_spec(name) is None]


def require_engine(engine: str) -> None:
    """Refuse an engine whose libraries are not installed.

    Raises
    ------
    ValueError
        With the extra that holds them.
    """
    if missing := missing_modules(engine):
        raise ValueError(
            f"`backtest.engine` must be installed, was {engine}, which needs {', '.join(missing)}; {INSTALL_ENGINES}, or take the "
            "reference."
        )


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            name="reference",
            run=run_reference,
            capabilities=frozenset(CAPABILITIES),
            summary="Exact cash ledger, compiled by numba.",
            keeps_contract=True,
        ),
        Engine(
            name="vectorbt",
            run=run_vectorbt,
            capabilities=frozenset(CAPABILITIES) - {"cash_limit", "t_plus_one", *COST_KINDS},
            summary="vectorbt's ledger, orders by the contract; to be held against the reference.",
            needs=("vectorbt",),
            keeps_contract=True,
        ),
        Engine(
            name="backtrader",
            run=run_backtrader,
            capabilities=frozenset(CAPABILITIES) - {"cash_limit", "delistings", "t_plus_one", *COST_KINDS},
            summary="backtrader's broker, event by event, orders by the contract; to be held against the reference.",
            needs=("backtrader",),
            keeps_contract=True,
        ),
    )
}
