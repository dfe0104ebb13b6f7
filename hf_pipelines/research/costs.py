"""What a trade and a short position cost.

Lives here: `Costs`, the one object every engine is given. Not here: where a fill happens (`backtest/`),
nor anything estimated from data (spreads, impact): those would be functions that return a `Costs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

BPS = 1e-4
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

    Raises
    ------
    ValueError
        If a cost is negative or not finite.

    Examples
    --------
    >>> Costs(fee_bps=1.0, slippage_bps=5.0).slippage_rate
    0.0005
    """

    fee_bps: float = 0.0
    slippage_bps: float = 0.0
    borrow_bps_per_year: float = 0.0

    def __post_init__(self) -> None:
        """Refuse costs that would pay the trader."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0.0:
                raise ValueError(f"`{field.name}` must be finite and not negative, was {value}.")

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
