"""Chain: a rule, the steps that size its positions, and the limits of the book.

Lives here: the entry that puts the three together, and what they need. Not here: the steps (`sizing`), the limits (`limits`) and how they
are kept (`limited_book`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from hf_pipelines.research.params import complete_params
from hf_pipelines.research.signals.inner_rules import checked_rule, entry_of, joined_needs, needs_of, weigh_inner
from hf_pipelines.research.signals.limited_book import LimitedBook, can_short, limit_book
from hf_pipelines.research.signals.limits import LIMITS, bounds_of, by_name, check_limits, is_stateful
from hf_pipelines.research.signals.reason import Reason
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, why_zero
from hf_pipelines.research.signals.sizing import SIZINGS, sized


def checked_step(value: Any, where: str) -> dict[str, Any]:
    """A rule, a step of sizing or a limit: a name, or `type` and `params`.

    Raises
    ------
    TypeError, ValueError
    """
    section = where.split(".")[0]
    if section == "rule":
        return checked_rule(value, where)
    table: Mapping[str, Any] = SIZINGS if section == "sizing" else LIMITS
    given = {"type": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or {*given} - {"type", "params"} or "type" not in given:
        raise TypeError(f"`{where}` must be a name, or a mapping of `type` and `params`, was {value!r:.60}.")
    name, params = given["type"], given.get("params")
    if name not in table:
        raise ValueError(f"`{where}` must be one of {', '.join(table)}, was {name!r:.40}.")
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(f"`{where}.params` must be a mapping, was {params!r:.60}.")
    return {"type": name, "params": complete_params(name, params, table[name].params, where=f"{where}.params.")}


def check_chain(params: Params) -> None:
    """Refuse limits that contradict.

    Raises
    ------
    ValueError
    """
    if needs_of(params["rule"]).block_weeks and is_stateful(params["limits"]):
        raise ValueError(
            f"`rule` of 'chain' must not replay a book itself where `limits` do, was {params['rule']['type']}; give the limits once."
        )
    check_limits(
        params["limits"],
        sizing=params["sizing"],
        max_gross=_max_gross(params),
        memory_weeks=params["memory_weeks"],
    )


def needs_chain(params: Params) -> RuleNeeds:
    """Return the needs of the rule, with those of sizing and limits."""
    limits = by_name(params["limits"])
    steps = [(SIZINGS[each["type"]], each["params"]) for each in params["sizing"]]
    if params["rule"] is None:
        return RuleNeeds()
    gross = _max_gross(params)
    needs = joined_needs([params["rule"]], max_gross=limits["gross_cap"]["most"] if "gross_cap" in limits else gross)
    feature = limits["borrow"]["feature"] if "borrow" in limits else ""
    bounded = [(LIMITS[name], own) for name, own in limits.items() if LIMITS[name].bounds is not None]
    reads = [(step.columns, step.history_bars(own)) for step, own in steps]
    reads += [(each.columns, each.history_bars(own)) for each, own in bounded]
    own_features = [name for each, own in bounded for name in each.features(own)]
    return replace(
        needs,
        columns=tuple(dict.fromkeys([*needs.columns, *(name for columns, _ in reads for name in columns)])),
        history_bars=max([needs.history_bars, *(n_bars for _, n_bars in reads)]),
        features=tuple(dict.fromkeys([*needs.features, *([feature] if feature else []), *own_features])),
        sectors=needs.sectors or "sector_cap" in limits,
        shorts=needs.shorts and "long_only" not in limits,
        block_weeks=params["memory_weeks"] if is_stateful(params["limits"]) else 0,
        calibrated=needs.calibrated or any(step.is_calibrated for step, _ in steps),
        sizers=(*(step.size for step, _ in steps), *(each.bounds for each, _ in bounded if each.bounds is not None)),
    )


def weigh_by_chain(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """The rule's weights, sized in the order of the steps, within the limits."""
    return pl.Series(_book(predictions, context).weights)


def count_limits(predictions: pl.DataFrame, context: RuleContext) -> str:
    """How often each limit changed the book, as a table."""
    book = _book(predictions, context)
    given = {"excluded", *by_name(context.params["limits"])}
    lines = [f"| {name} | {count:,} |" for name, count in book.counts.items() if name.split()[0] in given or count]
    return "\n".join(
        [f"Of {book.n_decisions:,} decisions:", "", "| limit | changed (rows or decisions) |", "|---|---|", *lines]
    )


def why_cut(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """The first that takes the whole position: the rule, a step of sizing, or a limit."""
    params = context.params
    # What is held is told by the weights given: of the rule its own last sessions are enough.
    needs = needs_of(params["rule"])
    number = context.session_numbers(predictions)
    n_read = int((number > number.max(initial=0) - needs.sessions).sum())
    rows = predictions if needs.block_weeks else predictions.tail(n_read)
    sizes = weigh_inner(params["rule"], rows, context)
    inner = replace(context, params=params["rule"]["params"])
    found = why_zero(entry_of(params["rule"]), rows, inner, sizes)
    for step in params["sizing"]:
        is_open = sizes != 0.0
        sizes = sized(sizes, rows, context, (step,))
        found = found.zip_with(~(is_open & (sizes == 0.0)), pl.Series([str(SIZINGS[step["type"]].zero)]))
    found = found.zip_with(
        sizes == 0.0, _why_limited(sizes, rows, by_name(params["limits"]), bounds_of(params["limits"], rows, context))
    )
    return pl.select(pl.repeat(None, predictions.height - len(found), dtype=pl.String)).to_series().append(found)


def _why_limited(
    sizes: pl.Series, rows: pl.DataFrame, limits: Mapping[str, Params], bounds: tuple[pl.Series, pl.Series] | None
) -> pl.Series:
    """Of positions that the limits take: the short ones that may not be, those below the band, and those that a cap takes."""
    may_be = pl.Series(can_short(rows, limits))
    refused = Reason.LONG_ONLY if "long_only" in limits else Reason.NOT_SHORTABLE
    most = limits["symbol_cap"]["most"] if "symbol_cap" in limits else math.inf
    band = limits["band"]["least"] if "band" in limits else 0.0
    size = pl.lit(sizes) if bounds is None else pl.lit(sizes).clip(*map(pl.lit, bounds))
    return (
        pl.select(
            pl.when((sizes < 0.0) & ~may_be)
            .then(pl.lit(refused))
            .when((size != 0.0) & (size.abs().clip(upper_bound=most) < band))
            .then(pl.lit(Reason.SMALL_TRADE))
            .otherwise(pl.lit(Reason.CAPPED))
        )
        .to_series()
        .cast(pl.String)
    )


def _book(predictions: pl.DataFrame, context: RuleContext) -> LimitedBook:
    params = context.params
    needs = needs_chain(params)
    targets = sized(weigh_inner(params["rule"], predictions, context), predictions, context, params["sizing"])
    return limit_book(
        targets,
        predictions,
        context,
        is_known=predictions.select(pl.all_horizontal(pl.col(needs.columns).is_not_null())).to_series(),
        bounds=bounds_of(params["limits"], predictions, context),
        limits=by_name(params["limits"]),
        max_gross=_max_gross(params),
        block_weeks=needs.block_weeks,
    )


def _max_gross(params: Params) -> float:
    """What absolute weights add up to: of the chain, or else of its rule."""
    own = params["max_gross"]
    return float(needs_of(params["rule"]).max_gross if own is None else own)
