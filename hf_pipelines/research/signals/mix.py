"""Mix: the weighted mean of the weights of several rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from hf_pipelines.research.signals.inner_rules import checked_rule, entry_of, joined_needs, needs_of, weigh_inner
from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds, say, why_zero


def checked_part(value: Any, where: str) -> dict[str, Any]:
    """A part of a mix: a rule with its `weight`, 1 if left out.

    Raises
    ------
    TypeError, ValueError
    """
    given = {"type": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise TypeError(f"`{where}` must be a mapping with `type`, `params` and `weight`, was {value!r:.60}.")
    weight = given.get("weight", 1.0)
    # Written so that NaN fails too.
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 1e-6 <= weight <= 1e6:
        raise ValueError(f"`{where}.weight` must be a number from 1e-06 to 1e+06, was {weight!r:.40}.")
    rule = checked_rule({name: each for name, each in given.items() if name != "weight"}, where)
    return {**rule, "weight": float(weight)}


def needs_parts(params: Params) -> RuleNeeds:
    """Return the needs of all parts together."""
    parts = params["parts"]
    total = sum(each["weight"] for each in parts)
    gross = sum(each["weight"] * needs_of(each).max_gross for each in parts)
    return joined_needs(parts, max_gross=params["max_gross"] * gross / total if parts else params["max_gross"])


def weigh_by_parts(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """The mean of the parts' weights; nothing where one of them knows nothing."""
    parts = context.params["parts"]
    total = sum(each["weight"] for each in parts)
    mean = sum(weigh_inner(each, predictions, context) * (each["weight"] / total) for each in parts)
    is_known = pl.all_horizontal(pl.col(needs_parts(context.params).columns).is_not_null())
    return predictions.select(pl.when(is_known).then(pl.lit(mean) * context.params["max_gross"])).to_series()


def why_cancelled(predictions: pl.DataFrame, context: RuleContext, weights: pl.Series) -> pl.Series:
    """The word of the parts where all give 0 for the same reason; else what they give adds up to nothing."""
    found: pl.Series | None = None
    for each in context.params["parts"]:
        inner = replace(context, params=each["params"])
        own = why_zero(entry_of(each), predictions, inner, weigh_inner(each, predictions, context))
        found = (
            own
            if found is None
            else found.zip_with((found == own).fill_null(False), pl.Series([None], dtype=pl.String))
        )
    return say(predictions, pl.lit(found))
