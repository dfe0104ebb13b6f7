"""Kinds of costs beside a flat commission, slippage and borrow fee: a function and a line of the table each.

Lives here: what a kind charges on a panel of bars, with its parameters. Not here: the flat ones (`costs.py`), and when a ledger books
them (`backtest/limited.py`).

A kind of fills gives a `Charge`: what an order pays for what a bar fills of it. A kind of balances gives an `Accrual`: what is paid
overnight, for each calendar day. Either is a column of its own in `equity`; that of fills is one of `trades` too.

References
----------
Grinold & Kahn (2000), "Active Portfolio Management", 2nd ed., ch. 16: trading a day's volume moves the price by about a day's
volatility, and by the square root of the share. Almgren, Thum, Hauptmann & Li (2005), "Direct Estimation of Equity Market Impact",
Risk 18(7), estimate an exponent of 0.6 where 0.5 stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hf_pipelines.research.params import Number, Param, Text, complete_params

if TYPE_CHECKING:
    from hf_pipelines.research.backtest.panel import TradingPanel

Floats: TypeAlias = NDArray[np.float64]
Params: TypeAlias = Mapping[str, Any]
Balance: TypeAlias = Literal["credit", "debt"]

BPS = 1e-4
# Rates are quoted per 365-day year and accrue on calendar days: weekends count.
DAYS_PER_YEAR = 365

# Returns of sessions without which a volatility is not known.
LEAST_RETURNS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Charge:
    """What is paid for the shares that a bar fills of an order, in currency.

    `max(minimum, rate * notional + per_share * shares + root * notional * sqrt(shares))`, shares and notional absolute.

    Attributes
    ----------
    buy_rate, sell_rate : float
        Fractions of the notional of buys, covered shorts among them, and of sells, short sales among them.
    rate, root : array of shape (n_bars, n_symbols), optional
        `rate` is added to both rates. None: 0.
    per_share, minimum : float
        In currency of the prices.
    """

    buy_rate: float = 0.0
    sell_rate: float = 0.0
    rate: Floats | None = None
    root: Floats | None = None
    per_share: float = 0.0
    minimum: float = 0.0

    def of(self, bar: NDArray[np.int64], symbol: NDArray[np.int64], shares: Floats, price: Floats) -> Floats:
        """What each of some fills pays; arrays of shape (n_fills,), `shares` signed."""
        size, notional = np.abs(shares), np.abs(shares * price)
        rate = np.where(shares > 0.0, self.buy_rate, self.sell_rate)
        paid = (rate + (0.0 if self.rate is None else self.rate[bar, symbol])) * notional + self.per_share * size
        if self.root is not None:
            paid = paid + self.root[bar, symbol] * notional * np.sqrt(size)
        return np.asarray(np.maximum(paid, self.minimum))


@dataclass(frozen=True, kw_only=True)
class Accrual:
    """What is paid for each calendar day on a balance at the last close; a negative rate is received.

    Attributes
    ----------
    on : {"credit", "debt"}
        "credit": cash beyond the value of the shorts, whose proceeds the lender keeps. "debt": cash below zero.
    rate_per_day : float
    """

    on: Balance
    rate_per_day: float


@dataclass(frozen=True, kw_only=True)
class CostKind:
    """One kind of cost.

    Attributes
    ----------
    name : str
        Key in `COST_KINDS`, capability of engines, and column of results.
    build : callable
        `(panel, params) -> Charge or Accrual`.
    params : mapping of str to Param
    proportional : tuple of str
        Parameters that the cost is proportional to: a stress test raises them.
    columns : callable
        `params -> names` of the columns of bars that it reads beside those of every backtest.
    is_of_cash : bool
        Whether it is paid on cash: then no position paid it.
    formula : str
        The definition, for people.
    """

    name: str
    build: Callable[[TradingPanel, Params], Charge | Accrual]
    params: Mapping[str, Param]
    proportional: tuple[str, ...]
    columns: Callable[[Params], tuple[str, ...]] = lambda params: ()
    is_of_cash: bool = False
    formula: str


def charge_commission(panel: TradingPanel, params: Params) -> Charge:
    """By the notional, by the share, and at least so much an order and bar."""
    rate = params["bps"] * BPS
    return Charge(buy_rate=rate, sell_rate=rate, per_share=params["per_share"], minimum=params["minimum"])


def charge_spread(panel: TradingPanel, params: Params) -> Charge:
    """Half of the spread that was last known when the order was decided.

    Raises
    ------
    ValueError
        If the column is one of prices or volumes, or a spread of it is negative or infinite.
    """
    constant = params["half_bps"] * BPS
    if not params["column"]:
        return Charge(buy_rate=constant, sell_rate=constant)
    from hf_pipelines.research.backtest.panel import last_known

    if params["column"] not in panel.others:
        raise ValueError(
            f"`column` of 'spread' must name a column of spreads, was {params['column']}; a price or a volume is none: name a feature."
        )
    spread = panel.others[params["column"]]
    bad = np.argwhere((spread < 0.0) | np.isinf(spread))
    if len(bad):
        bar, symbol = (int(each) for each in bad[0])
        raise ValueError(
            f"`{params['column']}` must hold spreads as fractions of the price, not negative, NaN where unknown, was "
            f"{spread[bar, symbol]:g} for {panel.symbols[symbol]} on {panel.session[bar]} ({len(bad)} rows); mend the column."
        )
    half = _before(last_known(spread)) / 2.0
    return Charge(rate=np.where(np.isnan(half), constant, half))


def charge_impact(panel: TradingPanel, params: Params) -> Charge:
    """Coefficient * daily volatility * sqrt(shares / daily volume) of the notional.

    Both are of the sessions before that of the fill; where they are unknown, or nothing was traded, `unknown_bps`.

    Raises
    ------
    ValueError
        If no symbol has a volume on any bar, as in a market of currencies: then the model says nothing.
    """
    assert panel.volume is not None
    volatility, volume = trailing_liquidity(panel, int(params["sessions"]))
    if not (np.nan_to_num(panel.volume) > 0.0).any():
        names = ", ".join(panel.symbols.head(5).to_list())
        raise ValueError(
            f"`impact` must have the volume of what is traded, no bar of {names} ({len(panel.symbols)} symbols) has one; leave "
            "`impact` out for such a market and charge a spread."
        )
    is_known = np.isfinite(volatility) & (np.nan_to_num(volume) > 0.0)
    root = np.zeros(volatility.shape)
    root[is_known] = params["coefficient"] * volatility[is_known] / np.sqrt(volume[is_known])
    return Charge(rate=np.where(is_known, 0.0, params["unknown_bps"] * BPS), root=root)


def charge_sales_tax(panel: TradingPanel, params: Params) -> Charge:
    """Of the notional of sells, short sales among them."""
    return Charge(sell_rate=params["bps"] * BPS)


def accrue_cash_interest(panel: TradingPanel, params: Params) -> Accrual:
    """Received: a negative cost."""
    return Accrual(on="credit", rate_per_day=-params["bps_per_year"] * BPS / DAYS_PER_YEAR)


def accrue_margin_interest(panel: TradingPanel, params: Params) -> Accrual:
    """Paid on cash that was borrowed."""
    return Accrual(on="debt", rate_per_day=params["bps_per_year"] * BPS / DAYS_PER_YEAR)


def trailing_liquidity(panel: TradingPanel, n_sessions: int) -> tuple[Floats, Floats]:
    """Standard deviation of returns of a session, and mean volume of one, over the last sessions before that of each row.

    Parameters
    ----------
    panel : TradingPanel
        With volume.
    n_sessions : int
        At least `LEAST_RETURNS` + 1.

    Returns
    -------
    volatility, volume : array of shape (n_bars, n_symbols)
        Fractions, and shares as they are on the row. Sessions without a bar of the symbol count for neither; NaN with fewer than
        `LEAST_RETURNS` returns.
    """
    from hf_pipelines.research.backtest.panel import last_known

    assert panel.volume is not None
    later = np.cumprod(panel.split_ratio[::-1], axis=0)[::-1] / panel.split_ratio
    days = panel.session.to_physical().to_numpy()
    first = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    last = np.append(first[1:], len(days)) - 1
    has_bar = np.add.reduceat(~np.isnan(panel.close), first, axis=0) > 0
    traded = np.add.reduceat(np.nan_to_num(panel.volume) * later, first, axis=0)
    close = last_known(panel.close / later)[last]
    returns = np.full(close.shape, np.nan)
    with np.errstate(invalid="ignore"):
        returns[1:] = np.where(has_bar[1:], close[1:] / close[:-1] - 1.0, np.nan)
    is_return = np.isfinite(returns)
    r = np.where(is_return, returns, 0.0)
    n, total, squares = (_window_sums(each, n_sessions) for each in (is_return.astype(np.float64), r, r * r))
    bars, volumes = (_window_sums(each, n_sessions) for each in (has_bar.astype(np.float64), traded))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(squares - total * total / n, 0.0) / (n - 1.0)
        volatility = np.where(n >= LEAST_RETURNS, np.sqrt(variance), np.nan)
        volume = volumes / bars
    of_row = np.searchsorted(first, np.arange(len(days)), side="right") - 1
    return volatility[of_row], volume[of_row] / later


def _window_sums(values: Floats, n: int) -> Floats:
    """Sums over the n rows before each row, fewer at the beginning."""
    sums = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    until = np.arange(len(values))
    return np.asarray(sums[until] - sums[np.maximum(until - n, 0)])


def _before(values: Floats) -> Floats:
    """Of each row what the row before has."""
    return np.vstack([np.full((1, values.shape[1]), np.nan), values[:-1]])


def _bps(default: float, meaning: str, *, high: float = 10_000.0) -> Number:
    return Number(default=default, low=0.0, high=high, search=(default / 2, default * 2 or 10.0), meaning=meaning)


COST_KINDS: dict[str, CostKind] = {
    each.name: each
    for each in (
        CostKind(
            name="commission",
            build=charge_commission,
            params={
                "bps": _bps(0.0, "basis points of the notional"),
                "per_share": Number(default=0.0, low=0.0, high=1e6, search=(0.001, 0.01), meaning="currency a share"),
                "minimum": Number(
                    default=0.0,
                    low=0.0,
                    high=1e9,
                    search=(0.5, 5.0),
                    meaning="currency, at least, of an order on each bar that fills something of it",
                ),
            },
            proportional=("bps", "per_share", "minimum"),
            formula="max(minimum, bps of the notional + per_share * shares) of each order and bar",
        ),
        CostKind(
            name="spread",
            build=charge_spread,
            params={
                "half_bps": _bps(1.0, "half of the spread in basis points of the price, where no column says it"),
                "column": Text(
                    pattern=r"([a-z][a-z0-9_]{0,62})?",
                    default="",
                    meaning="feature of the strategy with the whole spread as a fraction of the price; empty: constant",
                ),
            },
            proportional=("half_bps",),
            columns=lambda params: (params["column"],) if params["column"] else (),
            formula="half of the spread, of the notional: constant, or the last one known before the bar of the fill",
        ),
        CostKind(
            name="impact",
            build=charge_impact,
            params={
                "coefficient": Number(
                    default=1.0, low=0.0, high=100.0, search=(0.5, 2.0), meaning="volatilities paid for a day's volume"
                ),
                "sessions": Number(
                    default=20,
                    low=LEAST_RETURNS + 1,
                    high=1_000,
                    is_whole=True,
                    meaning="sessions before the fill that volatility and volume are measured on",
                ),
                "unknown_bps": _bps(50.0, "basis points of the notional where one of them is unknown or 0"),
            },
            proportional=("coefficient", "unknown_bps"),
            columns=lambda params: ("volume",),
            formula="coefficient * daily volatility * sqrt(shares / daily volume) of the notional",
        ),
        CostKind(
            name="sales_tax",
            build=charge_sales_tax,
            params={"bps": _bps(10.0, "basis points of the notional of sells, short sales among them")},
            proportional=("bps",),
            formula="bps of the notional of sells",
        ),
        CostKind(
            name="cash_interest",
            build=accrue_cash_interest,
            params={"bps_per_year": _bps(0.0, "basis points a year, received", high=1_000_000.0)},
            proportional=(),
            is_of_cash=True,
            formula="received for each calendar day on cash beyond the value of the shorts: a negative cost",
        ),
        CostKind(
            name="margin_interest",
            build=accrue_margin_interest,
            params={"bps_per_year": _bps(0.0, "basis points a year, paid", high=1_000_000.0)},
            proportional=("bps_per_year",),
            is_of_cash=True,
            formula="paid for each calendar day on cash below zero",
        ),
    )
}

# Paid on cash: no position paid them.
OF_CASH = frozenset(name for name, each in COST_KINDS.items() if each.is_of_cash)


def checked_kinds(given: Any, *, where: str = "costs") -> tuple[tuple[str, Params], ...]:
    """Kinds of costs with every parameter, in the order of `COST_KINDS`.

    Parameters
    ----------
    given : sequence
        Names, or `type` and `params` of each.
    where : str
        The field, for messages.

    Raises
    ------
    TypeError, ValueError
        If one is unknown or given twice, or a parameter is not allowed.
    """
    found: dict[str, Params] = {}
    for place, each in enumerate(given):
        step = {"type": each} if isinstance(each, str) else each
        if not isinstance(step, Mapping) or {*step} - {"type", "params"} or "type" not in step:
            raise TypeError(f"`{where}.{place}` must be a name, or a mapping of `type` and `params`, was {each!r:.60}.")
        name, params = step["type"], step.get("params")
        if not isinstance(name, str) or name not in COST_KINDS:
            raise ValueError(f"`{where}.{place}` must be one of {', '.join(COST_KINDS)}, was {name!r:.40}.")
        if name in found:
            raise ValueError(f"`{where}.{place}` must be of a kind given once, was {name} again; put both into one.")
        if params is not None and not isinstance(params, Mapping):
            raise TypeError(f"`{where}.{place}.params` must be a mapping, was {params!r:.60}.")
        found[name] = complete_params(name, params, COST_KINDS[name].params, where=f"{where}.{place}.params.")
    return tuple((name, found[name]) for name in COST_KINDS if name in found)


def dearer_kinds(kinds: tuple[tuple[str, Params], ...], factor: float) -> tuple[tuple[str, Params], ...]:
    """The same with what they are proportional to times a factor, up to what is allowed."""
    more = []
    for name, params in kinds:
        entry = COST_KINDS[name]
        raised = {
            each: min(params[each] * factor, getattr(entry.params[each], "high", np.inf)) for each in entry.proportional
        }
        more.append((name, {**params, **raised}))
    return tuple(more)
