"""Inverse volatility: every member long, the calmer the larger, so that each is expected to add as much risk.

Lives here: the rule on forecasts of volatility, as GARCH makes them. Correlations are not looked at.

References
----------
Roncalli (2013), Introduction to Risk Parity and Budgeting, ch. 2 (the case of equal correlations).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds


def needs_volatility(params: Params) -> RuleNeeds:
    """Return the needs of a rule on forecasts of volatility."""
    return RuleNeeds(max_gross=params["max_gross"], shorts=False, direction=False, targets=("realised_volatility",))


def weigh_by_volatility(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Share the gross by one over the volatility that is predicted; nothing where that is unknown or not above zero."""
    value = pl.col("prediction")
    share = pl.when(value > 0.0).then(1.0 / value)
    weight = context.params["max_gross"] * share / share.sum().over("ts")
    return predictions.select(pl.when(value.is_not_null()).then(weight.fill_null(0.0))).to_series()
