"""Signals: predictions to target weights, by a rule that looks at one instant across all symbols.

Lives here: the rules, the one call that applies them, and the rows of members about which nothing is known. Not
here: predicting (`learners`), scaling weights to a risk target (`sizing`), filling them (`backtest`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.params import ParamValue, fill_params

RuleValue = bool | int | float

# More symbols than any universe has, and more leverage than any account is given.
MAX_MEMBERS = 100_000
MAX_GROSS = 100.0


@dataclass(frozen=True)
class Rule:
    """One way to turn predictions into target weights.

    Attributes
    ----------
    name : str
        Key in `RULES`.
    weigh : callable
        `every parameter -> expression` for the weight of each row of predictions sorted by (ts, symbol). It
        may look at rows of the same `ts` only. Null becomes 0.0.
    defaults : mapping
        Every parameter with its default.
    needs : tuple of str
        Columns of the predictions it reads.
    check : callable
        Raises ValueError for parameters that make no sense.
    formula : str
        The definition, for people.
    """

    name: str
    weigh: Callable[[Mapping[str, RuleValue]], pl.Expr]
    defaults: Mapping[str, RuleValue]
    needs: tuple[str, ...]
    check: Callable[[Mapping[str, RuleValue]], None]
    formula: str


NO_BAR = "no bar"
NO_POSITION = "no position by the rule"
# Unknown features named in a reason.
NAMES_SHOWN = 3


def add_absent_members(predictions: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """Add a row for each member without one, so that weights are shares of members.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `session`, `ts` and numbers; rows at the same `ts` are decided together.
    members : DataFrame
        `symbol` and `session`: who belongs to the universe on each session.

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol): the rows given, and at each `ts` the members of its session that have none, every
        number NaN: nothing is known of them.
    """
    times = predictions.select("session", "ts").unique()
    expected = members.select("symbol", "session").join(times, on="session", how="inner").select(KEY_COLUMNS)
    absent = expected.join(predictions, on=KEY_COLUMNS, how="anti")
    numbers = [
        pl.lit(float("nan")).cast(dtype).alias(name) for name, dtype in predictions.schema.items() if dtype.is_float()
    ]
    return pl.concat([predictions, absent.with_columns(numbers)], how="diagonal").sort("ts", "symbol")


def reasons(weights: pl.DataFrame, features: pl.DataFrame, *, names: Sequence[str]) -> pl.Series:
    """Why each row of an issue has weight 0, in words.

    Parameters
    ----------
    weights : DataFrame
        `symbol`, `session`, `ts`, `weight` and `prediction`, NaN where there is none.
    features : DataFrame
        `symbol`, `session`, `ts` and the features `names` of the members that have a bar, NaN where unknown.
    names : sequence of str
        Features that the model reads.

    Returns
    -------
    Series of str of shape (n_rows,)
        "" for a position; `NO_BAR` for a member without a bar; "unknown: a, b and 2 more" where features kept it
        from a prediction; `NO_POSITION` where the rule takes none.
    """
    unknown = {
        row[:3]: [name for name, value in zip(names, row[3:], strict=True) if value is None or not math.isfinite(value)]
        for row in features.select(*KEY_COLUMNS, *names).iter_rows()
    }
    found = []
    for symbol, session, ts, weight, prediction in weights.select(*KEY_COLUMNS, "weight", "prediction").iter_rows():
        lacking = unknown.get((symbol, session, ts))
        if weight != 0.0:
            found.append("")
        elif lacking is None:
            found.append(NO_BAR)
        elif math.isfinite(prediction):
            found.append(NO_POSITION)
        else:
            more = f" and {len(lacking) - NAMES_SHOWN} more" if len(lacking) > NAMES_SHOWN else ""
            found.append(f"unknown: {', '.join(lacking[:NAMES_SHOWN])}{more}")
    return pl.Series("reason", found, dtype=pl.String)


def apply_rule(predictions: pl.DataFrame, *, rule: str, params: Mapping[str, RuleValue] | None = None) -> pl.DataFrame:
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

    Returns
    -------
    DataFrame
        Sorted by (ts, symbol): `symbol`, `session`, `ts`, `weight` (signed fraction of equity). Every input
        row has one, 0.0 where the rule takes no position; absolute weights of one `ts` add up to `max_gross`
        at most.

    Raises
    ------
    ValueError
        If the rule, a parameter or its value is unknown, a column is missing, or a (symbol, ts) occurs twice.
    """
    if rule not in RULES:
        raise ValueError(f"`rule` must be one of {sorted(RULES)}, was {rule!r}.")
    entry, filled = RULES[rule], fill_rule_params(rule, params)
    _check_predictions(predictions, entry)
    # -0.0 of a short rule that takes no position would print as a position; adding 0.0 clears the sign.
    weight = (entry.weigh(filled).fill_null(0.0) + 0.0).cast(pl.Float64).alias("weight")
    ordered = predictions.with_columns(pl.col(entry.needs).fill_nan(None)).sort("ts", "symbol")
    return ordered.select(*KEY_COLUMNS, weight)


def fill_rule_params(rule: str, params: Mapping[str, ParamValue] | None) -> dict[str, RuleValue]:
    """Every parameter of a rule: those given, and defaults for the rest.

    Raises
    ------
    ValueError, TypeError
        As `fill_params`, and for values that make no sense together.
    """
    entry = RULES[rule]
    # Text is no rule's: the types of the defaults are.
    filled = {
        name: value
        for name, value in fill_params(rule, params, entry.defaults, {}).items()
        if not isinstance(value, str)
    }
    entry.check(filled)
    return filled


def _check_predictions(predictions: pl.DataFrame, rule: Rule) -> None:
    missing = sorted({*KEY_COLUMNS, *rule.needs} - set(predictions.columns))
    if missing:
        raise ValueError(f"`predictions` must have the columns of rule {rule.name!r}, was without {missing}.")
    n_repeated = predictions.height - predictions.n_unique(["symbol", "ts"])
    if n_repeated:
        raise ValueError(
            f"`predictions` must hold each symbol and ts once, was repeated in {n_repeated} rows; "
            "take `latest_predictions` first."
        )


def _weigh_by_probability(params: Mapping[str, RuleValue]) -> pl.Expr:
    up, down, threshold = pl.col("probability_up"), pl.col("probability_down"), params["threshold"]
    is_long = (up >= threshold) & (up > down)
    is_short = (down >= threshold) & (down > up) & bool(params["long_short"])
    sign = is_long.cast(pl.Float64) - is_short.cast(pl.Float64)
    return sign * float(params["max_gross"]) / pl.len().over("ts")


def _check_probability(params: Mapping[str, RuleValue]) -> None:
    if not 0.0 < params["threshold"] <= 1.0:
        raise ValueError(f"`threshold` must be above 0 and at most 1, was {params['threshold']}.")
    _check_gross(params)


def _weigh_by_rank(params: Mapping[str, RuleValue]) -> pl.Expr:
    n_long, n_short, half = params["n_long"], params["n_short"], float(params["max_gross"]) / 2.0
    n_known = pl.col("prediction").count().over("ts")
    # Ordinal: equal predictions are ranked in row order, which is by symbol.
    place = pl.col("prediction").rank("ordinal", descending=True).over("ts")
    is_short = place > n_known - n_short
    side = pl.when(place <= n_long).then(half / n_long).when(is_short).then(-half / n_short)
    return pl.when(n_known >= n_long + n_short).then(side).otherwise(0.0)


def _check_rank(params: Mapping[str, RuleValue]) -> None:
    for name in ("n_long", "n_short"):
        if not 1 <= params[name] <= MAX_MEMBERS:
            raise ValueError(f"`{name}` must be from 1 to {MAX_MEMBERS:,}, was {params[name]}.")
    _check_gross(params)


def _check_gross(params: Mapping[str, RuleValue]) -> None:
    if not 0.0 < params["max_gross"] <= MAX_GROSS:
        raise ValueError(f"`max_gross` must be above zero and at most {MAX_GROSS:g}, was {params['max_gross']}.")


RULES: dict[str, Rule] = {
    "probability_threshold": Rule(
        name="probability_threshold",
        weigh=_weigh_by_probability,
        defaults={"threshold": 0.55, "long_short": True, "max_gross": 1.0},
        needs=("probability_up", "probability_down"),
        check=_check_probability,
        formula=(
            "max_gross / members of the ts, long where P(up) >= threshold and P(up) > P(down), short where "
            "P(down) >= threshold and P(down) > P(up) if long_short, else 0"
        ),
    ),
    "rank_long_short": Rule(
        name="rank_long_short",
        weigh=_weigh_by_rank,
        defaults={"n_long": 2, "n_short": 2, "max_gross": 1.0},
        needs=("prediction",),
        check=_check_rank,
        formula=(
            "max_gross / 2 shared by the n_long highest predictions of the ts, -max_gross / 2 by the n_short "
            "lowest; all 0 where fewer than n_long + n_short are known; ties by symbol"
        ),
    ),
}
