"""Limits: what a book must keep, in one stated order, and what is refused of limits that contradict.

Lives here: the table of limits in the order in which they are applied, and their check. Not here: the book that keeps them
(`limited_book`).

Where limits contradict each other at a decision the later row of this list yields to the earlier one:

1. A member without a prediction, one that cannot be borrowed (`borrow`) or a short position under `long_only` has weight 0.
2. `symbol_cap`, `sector_cap`, `net_cap`, `gross_cap`: positions are scaled down, never up.
3. `day_trades`, then `holding`: what may not be closed or reversed is kept, though caps may shrink it.
4. `turnover_cap`: all trades are scaled to the same share; forced exits of 1 do not count, and what caps shrink does.
5. `band`: a trade that caps or the turnover cap made smaller is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import polars as pl

from hf_pipelines.research.params import Listing, Number, Param, Text
from hf_pipelines.research.signals.rule import Params, RuleContext

Bounds: TypeAlias = Callable[[pl.DataFrame, RuleContext, Params], tuple[pl.Series, pl.Series]]

# Those that `limited_book` keeps itself.
OF_THE_PACKAGE = frozenset(
    {
        "borrow", "long_only", "symbol_cap", "band", "holding", "day_trades", "sector_cap", "net_cap", "gross_cap",
        "turnover_cap",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit of a book.

    Attributes
    ----------
    name : str
        Key in `LIMITS`.
    params : mapping of str to Param
    is_stateful : bool
        Whether it looks at what was held before: of those in the package alone.
    bounds : callable, optional
        `(predictions, context, params) -> (lower, upper)`, of a limit of another module: for each row what its weight may be, lower at
        most 0 and upper at least 0, null or infinite for no bound. Rows hold what the rule reads, `columns` and `features`.
    columns : tuple of str
        Columns of the predictions that it reads.
    features : callable
        `params -> names` of the features that it reads.
    history_bars : callable
        `params -> bars` of each member up to the decision.
    formula : str
        The definition, for people.
    """

    name: str
    params: Mapping[str, Param] = field(default_factory=dict)
    is_stateful: bool = False
    bounds: Bounds | None = None
    columns: tuple[str, ...] = ()
    features: Callable[[Params], tuple[str, ...]] = lambda params: ()
    history_bars: Callable[[Params], int] = lambda params: 0
    formula: str

    def __post_init__(self) -> None:
        """Refuse what would limit nothing, and state that nothing would replay."""
        if (self.bounds is None) == (self.name not in OF_THE_PACKAGE):
            raise ValueError(
                f"`bounds` must be given for a limit of another module alone, was {'left out' if self.bounds is None else 'given'} "
                f"for {self.name!r}; {'give it, or' if self.bounds is None else ''} choose another name."
            )
        if self.bounds is not None and self.is_stateful:
            raise ValueError(
                f"`is_stateful` must be false for a limit with `bounds`, was true for {self.name!r}; bounds are those of one decision."
            )


def _cap(default: float, meaning: str, *, least: float = 1e-4) -> dict[str, Param]:
    return {"most": Number(default=default, low=least, high=100.0, search=(default / 2, default * 2), meaning=meaning)}


# In the order in which they are applied.
LIMITS: dict[str, Limit] = {
    each.name: each
    for each in (
        Limit(
            name="borrow",
            params={
                "feature": Text(
                    pattern=r"([a-z][a-z0-9_]{0,62})?",
                    default="",
                    meaning="feature of the strategy that is above 0 where a member can be borrowed; unknown: it cannot",
                ),
                "symbols": Listing(
                    item=Text(pattern=r"[A-Z0-9^][A-Z0-9.^_-]{0,31}"),
                    most=10_000,
                    meaning="members that cannot be borrowed",
                ),
            },
            formula="no short position in a member that cannot be borrowed",
        ),
        Limit(name="long_only", formula="no short position"),
        Limit(
            name="symbol_cap",
            params=_cap(0.1, "absolute weight of a member, at most"),
            formula="absolute weight of a member at most `most`",
        ),
        Limit(
            name="band",
            params={
                "least": Number(
                    default=0.01,
                    low=1e-6,
                    high=10.0,
                    search=(0.001, 0.05),
                    meaning="change of a weight below which it is kept",
                )
            },
            is_stateful=True,
            formula="a weight that would change by less than `least` is kept",
        ),
        Limit(
            name="holding",
            params={
                "sessions": Number(
                    default=3,
                    low=1,
                    high=60,
                    is_whole=True,
                    search=(1, 10),
                    meaning="sessions that a position is held at least",
                )
            },
            is_stateful=True,
            formula="a position is neither closed nor reversed before `sessions` sessions after it was taken",
        ),
        Limit(
            name="day_trades",
            params={
                "most": Number(
                    default=3, low=0, high=1_000, is_whole=True, meaning="day trades within the sessions, at most"
                ),
                "sessions": Number(
                    default=5, low=1, high=60, is_whole=True, meaning="sessions that they are counted over"
                ),
            },
            is_stateful=True,
            formula=(
                "a position taken in this session is not made smaller in it where that would be more than `most` day trades within "
                "`sessions` sessions (FINRA rule 4210 for accounts below 25,000 USD); by the session of the decisions"
            ),
        ),
        Limit(
            name="sector_cap",
            params=_cap(0.3, "absolute weights of a sector together, at most"),
            formula="absolute weights of a sector are scaled down to `most`",
        ),
        Limit(
            name="net_cap",
            params=_cap(0.2, "absolute sum of all weights, at most"),
            formula="the larger side is scaled down until the sum of weights is within `most`",
        ),
        Limit(
            name="gross_cap",
            params=_cap(1.0, "sum of the absolute weights, at most"),
            formula="all weights are scaled down to a sum of absolute weights of `most`; without it the rule's max_gross",
        ),
        Limit(
            name="turnover_cap",
            params=_cap(0.2, "sum of the absolute changes of weights at a decision, at most", least=1e-3),
            is_stateful=True,
            formula="all changes are scaled down to a sum of `most`",
        ),
    )
}


def by_name(limits: Sequence[Mapping[str, Any]]) -> dict[str, Params]:
    """Parameters of the limits given."""
    return {each["type"]: each["params"] for each in limits}


def check_limits(
    limits: Sequence[Mapping[str, Any]], *, sizing: Sequence[Mapping[str, Any]], max_gross: float, memory_weeks: int
) -> None:
    """Refuse limits that contradict each other, or of which one can never bind.

    Parameters
    ----------
    limits, sizing : sequence of mapping
        Checked steps.
    max_gross : float
        Of the rule.
    memory_weeks : int
        Weeks that are replayed before those of the decision, at least.

    Raises
    ------
    ValueError
    """
    names = [each["type"] for each in limits]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"`limits` must name each limit once, was with {', '.join(twice)} twice; leave one of them out."
        )
    given = by_name(limits)
    caps = {name: float(given[name]["most"]) for name in given if name.endswith("_cap") and name in OF_THE_PACKAGE}
    caps.setdefault("gross_cap", max_gross)
    for small, large in (
        ("symbol_cap", "sector_cap"),
        ("symbol_cap", "gross_cap"),
        ("sector_cap", "gross_cap"),
        ("net_cap", "gross_cap"),
    ):
        if small in caps and large in caps and caps[small] > caps[large]:
            told = f"`limits.{names.index(small)}.params.most`"
            raise ValueError(
                f"{told} of {small} must not exceed {large} ({caps[large]:g}), was {caps[small]:g}; it would never be reached."
            )
    if caps["gross_cap"] > max_gross:
        at = names.index("gross_cap")
        raise ValueError(
            f"`limits.{at}.params.most` of gross_cap must not exceed `max_gross` of the rule ({max_gross:g}), was "
            f"{caps['gross_cap']:g}; raise `max_gross`."
        )
    if "borrow" in given and not (given["borrow"]["feature"] or given["borrow"]["symbols"]):
        raise ValueError("`limits` must give `feature` or `symbols` of borrow, was without both.")
    if "long_only" in given and "borrow" in given:
        raise ValueError(
            "`limits` must not have borrow beside long_only, which holds no short position, was with both."
        )
    _check_state(given, names, caps, memory_weeks=memory_weeks)
    for at, step in enumerate(sizing):
        if step["type"] == "fixed_fraction" and step["params"]["fraction"] > caps.get("symbol_cap", caps["gross_cap"]):
            told = "symbol_cap" if "symbol_cap" in caps else "gross_cap"
            raise ValueError(
                f"`sizing.{at}.params.fraction` of fixed_fraction must not exceed {told} ({caps[told]:g}), was "
                f"{step['params']['fraction']:g}; each position would be cut."
            )


def _check_state(
    given: Mapping[str, Params], names: Sequence[str], caps: Mapping[str, float], *, memory_weeks: int
) -> None:
    band = given["band"]["least"] if "band" in given else 0.0
    for name in ("symbol_cap", "turnover_cap"):
        if name in caps and band > caps[name]:
            raise ValueError(
                f"`limits.{names.index('band')}.params.least` of band must not exceed {name} ({caps[name]:g}), was {band:g}; no trade "
                "would be large enough."
            )
    # Of a book that is built up and turned over once.
    least = 2.0 * caps["gross_cap"] / (5 * memory_weeks)
    if "turnover_cap" in caps and caps["turnover_cap"] < least:
        raise ValueError(
            f"`limits.{names.index('turnover_cap')}.params.most` of turnover_cap must be at least {least:g} for a book of gross "
            f"{caps['gross_cap']:g} that is replayed over {memory_weeks} weeks, was {caps['turnover_cap']:g}; raise `memory_weeks`."
        )
    if "holding" in given and given["holding"]["sessions"] > 5 * memory_weeks:
        raise ValueError(
            f"`limits.{names.index('holding')}.params.sessions` of holding must be at most {5 * memory_weeks}, the sessions that are "
            f"replayed, was {given['holding']['sessions']}; raise `memory_weeks`."
        )


def bounds_of(
    limits: Sequence[Mapping[str, Any]], predictions: pl.DataFrame, context: RuleContext
) -> tuple[pl.Series, pl.Series] | None:
    """What limits of other modules let each row's weight be, all of them together; None without any.

    Raises
    ------
    ValueError
        If one of them gives other than a lower bound of 0 or less and an upper bound of 0 or more for each row.
    """
    found: tuple[pl.Series, pl.Series] | None = None
    for each in limits:
        bounds = LIMITS[each["type"]].bounds
        if bounds is None:
            continue
        lower, upper = (side.cast(pl.Float64) for side in bounds(predictions, context, each["params"]))
        lower, upper = lower.fill_null(-math.inf), upper.fill_null(math.inf)
        if len(lower) != predictions.height or len(upper) != predictions.height:
            raise ValueError(
                f"`bounds` of limit {each['type']!r} must give two bounds a row, was {len(lower)} and {len(upper)} for {predictions.height}."
            )
        # Written so that NaN fails too.
        if not ((lower <= 0.0) & (upper >= 0.0) & lower.is_not_nan() & upper.is_not_nan()).all():
            raise ValueError(
                f"`bounds` of limit {each['type']!r} must give lower bounds of 0 or less and upper bounds of 0 or more, was "
                f"{lower.max()!r} and {upper.min()!r}; 0 leaves no position on that side."
            )
        if found is not None:
            lower, upper = lower.zip_with(lower > found[0], found[0]), upper.zip_with(upper < found[1], found[1])
        found = (lower, upper)
    return found


def is_stateful(limits: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of the limits looks at what was held before."""
    return any(LIMITS[each["type"]].is_stateful for each in limits)
