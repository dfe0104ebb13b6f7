"""What a trade and a short position cost.

Lives here: `Costs`, the one object every engine is given. Not here: where a fill happens (`backtest/`),
nor what a kind charges that looks at the bars (`cost_kinds.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from hf_pipelines.research.cost_kinds import BPS, COST_KINDS, Params, checked_kinds, dearer_kinds

# Borrow is quoted per 365-day year and accrues on calendar days: weekends count.
BORROW_DAYS_PER_YEAR = 365


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Proportional trading costs, charged in cash on each side of a trade.

    Fees and slippage are kept apart so that a report can say which of them ate the return. Slippage is
    a cash cost too: the price of a fill stays the bar's own price.

    Parameters
    ----------
    fee_bps : float, default 0.0
        Commission, basis points of the traded notional, on buys and on sells.
    slippage_bps : float, default 0.0
        Expected distance between the fill and the bar's price, basis points of the traded notional, on
        buys and on sells.
    borrow_bps_per_year : float, default 0.0
        Fee for borrowed shares, basis points a year of the value of short positions at the last close,
        for each calendar day they are held.
    kinds : sequence, default ()
        Other kinds: keys of `COST_KINDS`, or `type` and `params` of each; kept with every parameter, each kind once.

    Raises
    ------
    TypeError, ValueError
        If a cost is negative or not finite, or a kind or one of its parameters is not allowed.

    Examples
    --------
    >>> Costs(fee_bps=1.0, slippage_bps=5.0).slippage_rate
    0.0005
    """

    fee_bps: float = 0.0
    slippage_bps: float = 0.0
    borrow_bps_per_year: float = 0.0
    kinds: Any = ()

    def __post_init__(self) -> None:
        """Refuse costs that would pay the trader."""
        for name in self._flat:
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0.0:
                raise ValueError(f"`{name}` must be finite and not negative, was {value}.")
        is_checked = all(isinstance(each, tuple) for each in self.kinds)
        given = [{"type": name, "params": params} for name, params in self.kinds] if is_checked else self.kinds
        object.__setattr__(self, "kinds", checked_kinds(given))

    def __repr__(self) -> str:
        """Each number by its name: what code versions and the ledger of trials hold."""
        told = [f"{name}={getattr(self, name)!r}" for name in self._flat]
        told += [f"{kind}.{name}={value!r}" for kind, params in self.kinds for name, value in params.items()]
        return f"Costs({', '.join(told)})"

    @property
    def _flat(self) -> list[str]:
        return [each.name for each in fields(self) if each.name != "kinds"]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of bars that the kinds read beside those of every backtest."""
        own: list[tuple[str, Params]] = list(self.kinds)
        return tuple(dict.fromkeys(each for name, params in own for each in COST_KINDS[name].columns(params)))

    def times(self, factor: float) -> Costs:
        """The same costs, so many times as high; interest that is received stays."""
        raised = {name: getattr(self, name) * factor for name in self._flat}
        return Costs(**raised, kinds=dearer_kinds(self.kinds, factor))

    @property
    def fee_rate(self) -> float:
        """Commission as a fraction of the traded notional."""
        return self.fee_bps * BPS

    @property
    def slippage_rate(self) -> float:
        """Slippage as a fraction of the traded notional."""
        return self.slippage_bps * BPS

    @property
    def borrow_rate_per_day(self) -> float:
        """Borrow fee as a fraction of the short value, for one calendar day."""
        return self.borrow_bps_per_year * BPS / BORROW_DAYS_PER_YEAR
