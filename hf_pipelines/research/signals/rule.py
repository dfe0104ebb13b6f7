"""The contract of signal rules: what a rule is given, what it declares, and what it returns.

Lives here: the form of a registry entry, what it needs, and the context it is called with. Not here: any particular rule
(one module each) or the registry (`signals`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.params import NestedCheck, Number, Param
from hf_pipelines.research.signals.reason import Reason

Params: TypeAlias = Mapping[str, Any]
Floats: TypeAlias = npt.NDArray[np.float64]

# More symbols than any universe has, and more leverage than any account is given.
MAX_MEMBERS = 100_000
MAX_GROSS = 100.0

GROSS = Number(default=1.0, low=1e-6, high=MAX_GROSS, meaning="sum of the absolute weights, at most")


def members(default: int, *, meaning: str) -> Number:
    """Return a parameter that counts members."""
    return Number(default=default, low=1, high=MAX_MEMBERS, is_whole=True, meaning=meaning)


@dataclass(frozen=True, kw_only=True)
class RuleNeeds:
    """What a rule is made from; it is given this and no more.

    Attributes
    ----------
    columns : tuple of str
        Columns of the predictions.
    sessions : int
        Weights of a session depend on the predictions of so many sessions of the calendar, its own the last of them.
    members : mapping of str to int
        Parameters that take members of their own, with their numbers: the universe must have as many as all of them.
    sectors : bool
        A sector of every member.
    history_bars : int
        Bars of each member up to the decision, its own among them.
    features : tuple of str
        Features, as columns of the predictions.
    shorts : bool
        Whether it gives negative weights.
    max_gross : float
        What the absolute weights of a decision add up to, at most.
    target_params : mapping of str to value
        Parameters that the target must have too, with the same values.
    direction : bool
        Whether it takes a higher prediction for a higher return: then the target must be one of which that is true.
    targets : tuple of str
        Keys of `TARGETS` whose predictions it understands; none: all, as far as `direction` lets it.
    block_weeks : int
        Where state is replayed from fixed weeks: weights depend on the session's block of so many weeks and the block before it, and
        on `sessions` - 1 sessions before these.
    calibrated : bool
        Whether it takes probabilities at their word: then the learner must be calibrated.
    packages : tuple of str
        Libraries of the extra `portfolio` that it imports.
    sizers : tuple of callable
        Functions that it applies beside its own; for code versions.
    rules : tuple of (str, mapping)
        Other entries of `RULES` that it applies, each with every parameter.
    """

    columns: tuple[str, ...] = ("prediction",)
    sessions: int = 1
    members: Mapping[str, int] = field(default_factory=dict)
    sectors: bool = False
    history_bars: int = 0
    features: tuple[str, ...] = ()
    shorts: bool = True
    max_gross: float = 1.0
    target_params: Mapping[str, Any] = field(default_factory=dict)
    direction: bool = True
    targets: tuple[str, ...] = ()
    block_weeks: int = 0
    calibrated: bool = False
    packages: tuple[str, ...] = ()
    sizers: tuple[Callable[..., Any], ...] = ()
    rules: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleContext:
    """What a rule may know beside the predictions.

    Attributes
    ----------
    params : mapping
        Every parameter of the rule.
    sessions : tuple of date
        Sessions of the calendar from the first to the last one of the predictions, ascending; one that has no predictions is
        among them: nothing is known of it.
    sectors : mapping of symbol to sector
        Of the members, where the rule needs them.
    """

    params: Params
    sessions: tuple[date, ...] = ()
    sectors: Mapping[str, str] = field(default_factory=dict)
    _bars: pl.DataFrame | None = None

    def session_numbers(self, predictions: pl.DataFrame) -> npt.NDArray[np.int64]:
        """Place of the session of each row among `sessions`."""
        sessions = np.array(self.sessions, dtype="datetime64[D]")
        return np.searchsorted(sessions, predictions["session"].to_numpy())

    def trailing_returns(self, at: datetime, *, symbols: Sequence[str], n_bars: int) -> Floats:
        """Total returns of the last bars that had closed at a decision, for a covariance or a volatility.

        Parameters
        ----------
        at : datetime
            `ts` of the decision: later bars are never seen.
        symbols : sequence of str
            Columns of the result, in this order.
        n_bars : int
            At most the `history_bars` that the rule declares, less one: a return takes two closes.

        Returns
        -------
        array of shape (n_bars, n_symbols)
            Fractions by bar of the market, the decision's last; NaN where a symbol has no bar or had none before, or an event
            is unknown.
        """
        times, names, returns = self._returns
        last = int(np.searchsorted(times, np.datetime64(at.replace(tzinfo=None), "us"), side="right"))
        found = np.full((n_bars, len(symbols)), np.nan)
        rows = returns[max(last - n_bars, 0) : last]
        column = {name: number for number, name in enumerate(names)}
        known = [place for place, symbol in enumerate(symbols) if symbol in column]
        found[n_bars - len(rows) :, known] = rows[:, [column[symbols[place]] for place in known]]
        return found

    @cached_property
    def _returns(self) -> tuple[npt.NDArray[np.datetime64], list[str], Floats]:
        if self._bars is None:
            raise ValueError("`history_bars` must be declared by a rule that reads bars, was 0.")
        # A halt is no return of one bar: the bar before must be the one before on the market's own clock.
        bars = self._bars.sort("symbol", "ts").with_columns(place=pl.col("ts").rank("dense").cast(pl.Int64))
        before = pl.col("close").shift(1).over("symbol")
        growth = pl.col("split_ratio") * (pl.col("close") + pl.col("dividend")) / before
        is_next = pl.col("place") - pl.col("place").shift(1).over("symbol") == 1
        grid = (
            bars.with_columns(value=pl.when(is_next).then(growth - 1.0))
            .pivot("symbol", index="ts", values="value")
            .sort("ts")
        )
        names = [name for name in grid.columns if name != "ts"]
        times = grid["ts"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
        return times, names, grid.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def say(rows: pl.DataFrame, reason: pl.Expr) -> pl.Series:
    """A word for each row, for `why` of a rule: an expression over the rows, or a literal for all."""
    return rows.with_columns(reason.alias("reason"))["reason"].cast(pl.String)


def why_zero(entry: Rule, predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """Why rows of the last session have weight 0 under a rule, of which all columns are known; null where they have another weight."""
    told = entry.why(predictions, context, weights) if entry.why else say(predictions, pl.lit(None, dtype=pl.String))
    default = pl.Series([str(Reason.NO_POSITION)])
    return (told.zip_with(told.is_not_null(), default)).zip_with(weights == 0.0, pl.Series([None], dtype=pl.String))


def no_check(params: Params) -> None:
    """No values of the parameters contradict each other."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way to turn predictions into target weights.

    Attributes
    ----------
    name : str
        Key in `RULES`.
    weigh : callable
        `(predictions, context) -> weights`. Predictions hold `symbol`, `session`, `ts` and what `needs` names, null where
        nothing is known, sorted by (ts, symbol); rows of one `ts` are all members at it. Weights are a series as long, null
        for no position. The weights of a row depend on rows of its own `ts`, and of earlier ones in the last `sessions`
        sessions, alone: state is replayed from the predictions, never kept.
    params : mapping of str to Param
        Every parameter.
    needs : callable
        `every parameter -> RuleNeeds`.
    check : callable
        Raises ValueError for parameters that contradict each other.
    nested : callable, optional
        Checks values of `Nested` parameters: `(value, where it stands) -> value`.
    explain : callable, optional
        `(predictions, context) -> Markdown`: what became of the predictions, counted.
    why : callable, optional
        `(predictions, context, weights) -> words`: a series as long that tells of each row of the last session with weight 0 and
        with all columns known why it is 0, a word of `Reason`; null, and of a rule without it: `Reason.NO_POSITION`. What it
        says of other rows is not read.
    formula : str
        The definition, for people.
    """

    name: str
    weigh: Callable[[pl.DataFrame, RuleContext], pl.Series]
    params: Mapping[str, Param]
    needs: Callable[[Params], RuleNeeds]
    check: Callable[[Params], None] = no_check
    nested: NestedCheck | None = None
    explain: Callable[[pl.DataFrame, RuleContext], str] | None = None
    why: Callable[[pl.DataFrame, RuleContext, pl.Series], pl.Series] | None = None
    formula: str
