"""Signals: predictions to target weights, by a rule.

Lives here: the calls that apply a rule and tell why it gives 0, and what they check. Not here: the rules (`registry`, one module each), predicting
(`learners`), filling orders (`backtest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.signals.issue import ISSUE_COLUMNS, SIGNALS_SCHEMA_VERSION, upgrade_issue
from hf_pipelines.research.signals.limits import LIMITS, Limit
from hf_pipelines.research.signals.members import add_absent_members, reasons
from hf_pipelines.research.signals.reason import HAS_POSITION, REASONS, Reason, reason_in_words
from hf_pipelines.research.signals.registry import ALIASES, RULES
from hf_pipelines.research.signals.rule import GROSS, Rule, RuleContext, RuleNeeds, why_zero
from hf_pipelines.research.signals.sizing import SIZINGS, Sizing
from hf_pipelines.research.signals.table import (
    fill_rule_params,
    own_functions,
    reason_functions,
    rule_functions,
    rule_name,
    rule_needs,
)

__all__ = [
    "ALIASES",
    "GROSS",
    "HAS_POSITION",
    "ISSUE_COLUMNS",
    "LIMITS",
    "REASONS",
    "RULES",
    "SIGNALS_SCHEMA_VERSION",
    "SIZINGS",
    "Limit",
    "Reason",
    "Rule",
    "RuleContext",
    "RuleNeeds",
    "Sizing",
    "add_absent_members",
    "apply_rule",
    "explain_rule",
    "fill_rule_params",
    "misremembered",
    "own_functions",
    "reason_functions",
    "reason_in_words",
    "reasons",
    "rule_functions",
    "rule_name",
    "rule_needs",
    "upgrade_issue",
    "window_sessions",
    "zero_reasons",
]

# Blocks of weeks, from which state is replayed, are counted from here.
FIRST_SUNDAY = date(1970, 1, 4)

# Rounding of a sum of weights.
GROSS_ROUNDING = 1e-9


def apply_rule(
    predictions: pl.DataFrame,
    *,
    rule: str,
    params: Mapping[str, Any] | None = None,
    sessions: Sequence[date] | None = None,
    sectors: Mapping[str, str] | None = None,
    bars: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Turn predictions into target weights.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `session`, `ts` and the columns the rule needs; each (symbol, ts) once. A NaN or null
        prediction is a member about which nothing is known: it counts as a member and gets no position.
    rule : str
        A key of `RULES`.
    params : mapping, optional
        Parameters that differ from the rule's defaults.
    sessions : sequence of date, optional
        Sessions of the calendar over the predictions at least, for a rule that looks back on earlier ones.
    sectors : mapping of symbol to sector, optional
        For a rule that needs them.
    bars : DataFrame, optional
        Bars of the members with `history_bars` before the first prediction, for a rule that needs them; later ones than a
        decision are not seen by it.

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol): `symbol`, `session`, `ts`, `weight` (signed fraction of equity). Every input
        row has one, 0.0 where the rule takes no position; absolute weights of one `ts` add up to the rule's `max_gross`
        at most.

    Raises
    ------
    ValueError
        If the rule, a parameter or its value is unknown, something that the rule needs is missing, a (symbol, ts) occurs
        twice, or the rule gives weights that are not finite, above its gross, or for members without a prediction.
    """
    entry, known, context, needs = _prepared(predictions, rule, params, sessions=sessions, sectors=sectors, bars=bars)
    weight = entry.weigh(known, context).cast(pl.Float64).fill_null(0.0)
    # -0.0 of a short rule that takes no position would print as a position (polars leaves out the addition of 0.0).
    weight = pl.select(pl.when(weight != 0.0).then(weight).otherwise(0.0)).to_series()
    _check_weights(weight, known, rule, needs)
    return known.select(*KEY_COLUMNS, weight.alias("weight"))


def zero_reasons(
    predictions: pl.DataFrame,
    weights: pl.DataFrame,
    *,
    rule: str,
    params: Mapping[str, Any] | None = None,
    sessions: Sequence[date] | None = None,
    sectors: Mapping[str, str] | None = None,
    bars: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Why members have weight 0 in the last session, as far as the rule can tell.

    Parameters
    ----------
    predictions, rule, params, sessions, sectors, bars
        As of `apply_rule`.
    weights : DataFrame
        What it made of them.

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol), rows of the last session: `symbol`, `session`, `ts`, `reason`: "" of a row with a position, else a
        word of `Reason`; `Reason.NO_PREDICTION` where a column of the predictions is unknown.

    Raises
    ------
    ValueError
        As `apply_rule`; if the rule tells a word that is no `Reason`.
    """
    entry, known, context, needs = _prepared(predictions, rule, params, sessions=sessions, sectors=sectors, bars=bars)
    last = pl.col("session") == pl.col("session").max()
    told = why_zero(entry, known, context, weights["weight"])
    is_unknown = pl.any_horizontal(pl.col(needs.columns).is_null())
    found = known.select(
        *KEY_COLUMNS,
        reason=pl.when(weights["weight"] != 0.0)
        .then(pl.lit(HAS_POSITION))
        .when(is_unknown)
        .then(pl.lit(Reason.NO_PREDICTION))
        .otherwise(told),
    ).filter(last)
    if strays := sorted({*found["reason"]} - {HAS_POSITION, *Reason}):
        raise ValueError(
            f"`why` of rule {rule!r} must tell one of {', '.join(Reason)}, was {strays[0]!r:.40}; take such a word, or null."
        )
    return found


def explain_rule(
    predictions: pl.DataFrame,
    *,
    rule: str,
    params: Mapping[str, Any] | None = None,
    sessions: Sequence[date] | None = None,
    sectors: Mapping[str, str] | None = None,
    bars: pl.DataFrame | None = None,
) -> str:
    """What a rule made of predictions, counted, as Markdown; "" of a rule that has nothing to tell.

    Parameters
    ----------
    predictions, rule, params, sessions, sectors, bars
        As of `apply_rule`.
    """
    entry, known, context, _ = _prepared(predictions, rule, params, sessions=sessions, sectors=sectors, bars=bars)
    return "" if entry.explain is None else entry.explain(known, context)


def _prepared(
    predictions: pl.DataFrame, rule: str, params: Mapping[str, Any] | None, **given: Any
) -> tuple[Rule, pl.DataFrame, RuleContext, RuleNeeds]:
    """A rule with the rows and the context that it is called with."""
    filled = fill_rule_params(rule, params)
    entry, needs = RULES[rule], RULES[rule].needs(filled)
    columns = [*needs.columns, *needs.features]
    if missing := sorted({*KEY_COLUMNS, *columns} - set(predictions.columns)):
        raise ValueError(f"`predictions` must have the columns of rule {rule!r}, was without {missing}.")
    known = predictions.select(*KEY_COLUMNS, pl.col(columns).fill_nan(None)).sort("ts", "symbol")
    _require_each_once(known)
    context = RuleContext(
        params=filled,
        sessions=_sessions_of(known, rule, needs, given["sessions"]),
        sectors=_sectors_of(known, rule, needs, given["sectors"]),
        _bars=_bars_of(known, rule, needs, given["bars"]),
    )
    return entry, known, context, needs


def misremembered(
    weights: pl.DataFrame,
    predictions: pl.DataFrame,
    *,
    at: date,
    rule: str,
    params: Mapping[str, Any] | None = None,
    sessions: Sequence[date],
    **given: Any,
) -> list[str]:
    """Weights of a session that come out otherwise from the sessions that the rule may know alone, in words.

    Parameters
    ----------
    weights : DataFrame
        From `apply_rule`.
    predictions, rule, params, sessions, given
        As there.
    at : date
        The session.
    """
    needs = rule_needs(rule, params)
    window = window_sessions(sessions, at, n_sessions=needs.sessions, block_weeks=needs.block_weeks)
    part = predictions.filter(pl.col("session").is_in(window))
    again = apply_rule(part, rule=rule, params=params, sessions=window, **given).filter(pl.col("session") == at)
    both = weights.filter(pl.col("session") == at).join(again, on=KEY_COLUMNS, how="left", suffix="_alone")
    differing = both.filter(pl.col("weight").ne_missing(pl.col("weight_alone")))
    since = min(window)
    return [
        f"rule {rule!r} gives {row['symbol']} {row['ts']} the weight {row['weight']}, but {row['weight_alone']} from the "
        f"sessions that it may look at ({since} to {at})"
        for row in differing.iter_rows(named=True)
    ]


def window_sessions(sessions: Sequence[date], at: date, *, n_sessions: int, block_weeks: int = 0) -> list[date]:
    """The last sessions up to one, itself among them.

    Parameters
    ----------
    sessions : sequence of date
        Ascending.
    at : date
    n_sessions : int
    block_weeks : int
        Above 0: all sessions of its block of so many weeks and of the block before, and `n_sessions` - 1 before these.
    """
    until = [day for day in sessions if day <= at]
    if not block_weeks:
        return until[-n_sessions:]
    n_days = 7 * block_weeks
    begins = FIRST_SUNDAY + timedelta(days=((at - FIRST_SUNDAY).days // n_days - 1) * n_days)
    return until[-(sum(day >= begins for day in until) + n_sessions - 1) :]


def _require_each_once(known: pl.DataFrame) -> None:
    # Sorted: what is repeated stands side by side.
    is_repeated = (pl.col("ts") == pl.col("ts").shift()) & (pl.col("symbol") == pl.col("symbol").shift())
    if n_repeated := known.select(is_repeated.sum()).item():
        raise ValueError(
            f"`predictions` must hold each symbol and ts once, was repeated in {n_repeated} rows; "
            "take `latest_predictions` first."
        )


def _sessions_of(
    predictions: pl.DataFrame, rule: str, needs: RuleNeeds, sessions: Sequence[date] | None
) -> tuple[date, ...]:
    held = predictions["session"].unique().sort().to_list()
    if needs.sessions == 1 and not needs.block_weeks:
        return tuple(held)
    if lacking := sorted({*held} - {*(sessions or ())}):
        raise ValueError(
            f"`sessions` must hold those of the predictions for rule {rule!r}, which looks back on {needs.sessions}, was "
            f"without {lacking[0]}."
        )
    return tuple(day for day in sessions or () if held[0] <= day <= held[-1])


def _sectors_of(
    predictions: pl.DataFrame, rule: str, needs: RuleNeeds, sectors: Mapping[str, str] | None
) -> Mapping[str, str]:
    if not needs.sectors:
        return {}
    if lacking := sorted({*predictions["symbol"].unique()} - {*(sectors or {})}):
        raise ValueError(f"`sectors` must hold every member for rule {rule!r}, was without {', '.join(lacking[:5])}.")
    return sectors or {}


def _bars_of(predictions: pl.DataFrame, rule: str, needs: RuleNeeds, bars: pl.DataFrame | None) -> pl.DataFrame | None:
    if not needs.history_bars:
        return None
    if bars is None:
        raise ValueError(f"`bars` must be given for rule {rule!r}, which looks back on {needs.history_bars}, was None.")
    used = bars.filter(pl.col("symbol").is_in(predictions["symbol"].unique().implode()))
    return used.select(*KEY_COLUMNS, "close", "split_ratio", "dividend")


def _check_weights(weight: pl.Series, known: pl.DataFrame, rule: str, needs: RuleNeeds) -> None:
    told = f"`weigh` of rule {rule!r}"
    if len(weight) != known.height:
        raise ValueError(f"{told} must return a weight a row, was {len(weight)} for {known.height}.")
    if not weight.is_finite().all():
        raise ValueError(f"{told} must return finite weights, was not in {int((~weight.is_finite()).sum())} rows.")
    if known.is_empty():
        return
    is_new = np.diff(known["ts"].to_physical().to_numpy(), prepend=-1) != 0
    gross = np.add.reduceat(weight.abs().to_numpy(), np.flatnonzero(is_new))
    if gross.max() > needs.max_gross * (1.0 + GROSS_ROUNDING):
        raise ValueError(f"{told} must keep the absolute weights of a ts at {needs.max_gross}, was {gross.max()}.")
    if not needs.shorts and (weight < 0.0).any():
        raise ValueError(f"{told} must give no negative weight with these parameters, was {weight.to_numpy().min()}.")
    unknown = known.filter((weight != 0.0) & pl.any_horizontal(pl.col(needs.columns).is_null()))
    if unknown.height:
        symbol, session = unknown.select("symbol", "session").row(0)
        raise ValueError(f"{told} must give 0 to a member without a prediction, was not for {symbol} on {session}.")
